//! How far a write is, for somebody who watches.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

/// How often the line is drawn anew.
const REDRAW: Duration = Duration::from_millis(100);
const WIDTH: usize = 24;

/// A line on standard error, when that is a terminal and the input is not.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    drawn: Option<Instant>,
    /// The input's size, when it is a file.
    total: Option<u64>,
    shown: bool,
}

impl Progress {
    pub(crate) fn start(total: Option<u64>) -> Self {
        let shown = io::stderr().is_terminal() && !io::stdin().is_terminal();
        Self { started: Instant::now(), drawn: None, total, shown }
    }

    /// `taken` is how much of the input that was.
    pub(crate) fn show(&mut self, blocks: u64, bytes: u64, taken: u64) {
        let now = Instant::now();
        if !self.shown || self.drawn.is_some_and(|drawn| now - drawn < REDRAW) {
            return;
        }
        self.drawn = Some(now);
        self.draw(blocks, bytes, taken, '\r');
    }

    pub(crate) fn finish(&mut self, blocks: u64, bytes: u64, taken: u64) {
        if self.shown {
            self.draw(blocks, bytes, taken, '\n');
        }
    }

    fn draw(&self, blocks: u64, bytes: u64, taken: u64, end: char) {
        let part = self.total.map(|total| (taken, total));
        let line = line(part, blocks, bytes, self.started.elapsed());
        let mut err = io::stderr().lock();
        // Clears what a longer line left behind.
        let _ = write!(err, "\r{line}\x1b[K{end}").and_then(|()| err.flush());
    }
}

fn line(part: Option<(u64, u64)>, blocks: u64, bytes: u64, elapsed: Duration) -> String {
    let rate = (bytes as f64 / elapsed.as_secs_f64().max(0.001)) as u64;
    let numbers = format!("{} in {blocks} blocks, {}/s", human(bytes), human(rate));
    match part {
        Some((taken, total)) if total > 0 => {
            let part = (taken as f64 / total as f64).min(1.0);
            let filled = (part * WIDTH as f64) as usize;
            let bar = format!("{}{}", "#".repeat(filled), "-".repeat(WIDTH.saturating_sub(filled)));
            format!("[{bar}] {:3.0} %  {numbers}", part * 100.0)
        }
        _ => numbers,
    }
}

/// A size that is easy to read.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        let all = [0, 999, 1000, 999_949, 999_950, 12_345_678, u64::MAX].map(human);
        assert_eq!(all, ["0 B", "999 B", "1.0 kB", "999.9 kB", "1.0 MB", "12.3 MB", "18446.7 PB"]);
    }

    #[test]
    fn a_file_has_a_bar_and_a_pipe_has_none() {
        let second = Duration::from_secs(1);
        assert_eq!(line(None, 3, 1500, second), "1.5 kB in 3 blocks, 1.5 kB/s");
        assert_eq!(
            line(Some((1000, 2000)), 1, 1000, second),
            "[############------------]  50 %  1.0 kB in 1 blocks, 1.0 kB/s"
        );
        assert!(line(Some((1000, 1)), 1, 1000, second).contains("100 %"));
    }
}
