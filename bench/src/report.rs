//! The table: ours, JS, ratio, aim.

use crate::plan::{Aim, Benchmark, Better};
use crate::run::{Besides, Cores, Figure};

pub(crate) fn header() {
    println!("{:<25} {:<53} {:>14} {:>14} {:>8} {:>9}", "benchmark", "what", "ours", "JS", "ratio", "aim");
}

/// From this share on of what the client reaches when its daemon does nothing, the client is the limit: figures differ by as
/// much from run to run.
const AT_THE_LIMIT: f64 = 0.9;

pub(crate) fn row(benchmark: &Benchmark, ours: Option<Figure>, js: Option<Figure>, limit: Option<Figure>) {
    let ratio = ours.zip(js).map(|(ours, js)| match benchmark.better {
        Better::Higher => ours.value / js.value,
        Better::Lower => js.value / ours.value,
    });
    let (aim, reached) = match benchmark.aim {
        Aim::Times(times) => (format!("{times}x"), ratio.map(|ratio| ratio >= times)),
        Aim::AtMost(most) => (format!("<= {most}"), ours.map(|ours| ours.value <= most)),
        Aim::None => ("-".to_owned(), None),
    };
    println!(
        "{:<25} {:<53} {:>14} {:>14} {:>8} {:>9} {}{}",
        benchmark.name,
        format!("{} ({})", benchmark.what, benchmark.unit),
        figure(ours),
        figure(js),
        ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}x")),
        aim,
        match reached {
            Some(true) => "reached",
            Some(false) if is_at_the_limit(ours, limit) => "the client's limit",
            Some(false) => "missed",
            None => "",
        },
        besides(ours, js, limit)
    );
}

/// Whether no daemon could get this client much further.
fn is_at_the_limit(ours: Option<Figure>, limit: Option<Figure>) -> bool {
    ours.zip(limit).is_some_and(|(ours, limit)| ours.value >= limit.value * AT_THE_LIMIT)
}

/// The server's memory afterwards, and how busy the client was: ours, then JS. What our half's client reaches at most.
fn besides(ours: Option<Figure>, js: Option<Figure>, limit: Option<Figure>) -> String {
    let pair = |pick: fn(Besides) -> Option<f64>| {
        let text = |figure: Option<Figure>| {
            figure
                .and_then(|figure| pick(figure.besides))
                .map_or("-".to_owned(), |value| format!("{value:.0}"))
        };
        [ours, js]
            .into_iter()
            .flatten()
            .any(|figure| pick(figure.besides).is_some())
            .then(|| (text(ours), text(js)))
    };
    let mut said = String::new();
    if let Some((ours, js)) = pair(|besides| besides.memory) {
        said += &format!("  server {ours} / {js} MiB");
    }
    if let Some((ours, js)) = pair(|besides| besides.busy.map(|busy| busy * 100.0)) {
        said += &format!("  client {ours} / {js} % busy");
    }
    if limit.is_some() {
        said += &format!("  at most {}", figure(limit));
    }
    said
}

/// The value, with a `'` where it was reached on one core.
fn figure(figure: Option<Figure>) -> String {
    let Some(Figure { value, cores, .. }) = figure else { return "-".to_owned() };
    let text = match value {
        value if value >= 1000.0 => thousands(value),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.3}"),
    };
    if cores == Cores::One { format!("{text}'") } else { text }
}

fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        let besides = Besides::default();
        let all = |value| figure(Some(Figure { value, cores: Cores::All, besides }));
        assert_eq!(all(1_234_567.0), "1,234,567");
        assert_eq!(all(999.94), "999.9");
        assert_eq!(all(0.5), "0.500");
        assert_eq!(figure(Some(Figure { value: 1000.0, cores: Cores::One, besides })), "1,000'");
        assert_eq!(figure(None), "-");
    }

    #[test]
    fn a_client_is_the_limit_when_little_is_left_to_gain() {
        let at = |value| Some(Figure { value, cores: Cores::All, besides: Besides::default() });
        assert!(is_at_the_limit(at(90.0), at(100.0)) && is_at_the_limit(at(110.0), at(100.0)));
        assert!(!is_at_the_limit(at(89.0), at(100.0)));
        assert!(!is_at_the_limit(at(1e6), None) && !is_at_the_limit(None, at(1.0)));
    }
}
