//! `download`: fetches what peers have, and shows how far it is.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use anyhow::Result;
use hypercore::DownloadRange;
use hyperspace_client::RemoteHypercore;
use serde_json::json;

use super::{
    output::{Format, aside, line},
    progress::human,
};

/// How often the line is drawn anew.
const REDRAW: Duration = Duration::from_millis(200);
const WIDTH: usize = 24;

/// Which blocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    pub(crate) from: u64,
    pub(crate) to: Option<u64>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, Default)]
struct Done {
    blocks: u64,
    bytes: u64,
}

/// Downloads until everything is here.
pub(crate) async fn download(core: &RemoteHypercore, range: Range, format: Format) -> Result<()> {
    if !core.writable() {
        let _ = core.update().await;
    }
    known(core)?;
    let to = range.to.unwrap_or(core.length());
    let blocks = to.saturating_sub(range.from);
    let missing = blocks.saturating_sub(core.downloaded(range.from..to).await?);
    let shown = io::stderr().is_terminal() && !format.json;
    let started = Instant::now();
    // So that the daemon counts.
    let events = core.events();
    let wanted = DownloadRange::new(range.from, to);
    let mut download = std::pin::pin!(core.download(&wanted));
    let mut redraw = tokio::time::interval(REDRAW);
    let ended = loop {
        tokio::select! {
            ended = &mut download => break ended,
            _ = redraw.tick(), if shown => {
                let bar = progress(missing, Done::of(core), started.elapsed());
                aside(move || {
                    draw(&bar, '\r');
                    Ok(())
                })
                .await?;
            }
        }
    };
    let done = Done::of(core);
    drop(events);
    if shown {
        draw(&progress(missing, done, started.elapsed()), '\n');
    }
    ended?;
    let seconds = started.elapsed().as_secs_f64();
    if format.json {
        let Done { blocks: fetched, bytes } = done;
        let key = format.key(core.key().as_bytes());
        return line(
            json!({ "key": key, "blocks": blocks, "fetched": fetched, "bytes": bytes, "seconds": seconds }),
        );
    }
    line(format_args!("{} of {blocks} blocks fetched ({}) in {seconds:.1} s", done.blocks, human(done.bytes)))
}

impl Done {
    fn of(core: &RemoteHypercore) -> Self {
        let transferred = core.transferred();
        Self { blocks: transferred.downloaded_blocks, bytes: transferred.downloaded_bytes }
    }
}

/// Fails when nobody is there to say what there is of a core.
pub(crate) fn known(core: &RemoteHypercore) -> Result<(), NobodyHasIt> {
    let known = core.length() > 0 || core.writable() || !core.peers().is_empty();
    known.then_some(()).ok_or(NobodyHasIt)
}

/// Nobody who has a core was found.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the core is not available: nothing of it is here, and nobody who has it was found")]
pub(crate) struct NobodyHasIt;

/// The bar with rate and remaining time.
fn progress(missing: u64, done: Done, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let part = if missing == 0 { 1.0 } else { (done.blocks as f64 / missing as f64).min(1.0) };
    let filled = (part * WIDTH as f64) as usize;
    let bar = format!("{}{}", "#".repeat(filled), "-".repeat(WIDTH.saturating_sub(filled)));
    let rate = human((done.bytes as f64 / seconds) as u64);
    let left = missing.saturating_sub(done.blocks);
    let eta = match done.blocks {
        _ if left == 0 => "done".into(),
        0 => "waiting for peers".into(),
        blocks => format!("{} left", clock((left as f64 * seconds / blocks as f64) as u64)),
    };
    format!("[{bar}] {:3.0} %  {} of {missing} blocks, {rate}/s, {eta}", part * 100.0, done.blocks)
}

/// Seconds as people read them.
pub(crate) fn clock(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}:{:02} h", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn draw(line: &str, end: char) {
    let mut err = io::stderr().lock();
    // Clears what a longer line left behind.
    let _ = write!(err, "\r{line}\x1b[K{end}").and_then(|()| err.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_has_rate_and_remaining_time() {
        let done = Done { blocks: 25, bytes: 50_000 };
        assert_eq!(
            progress(100, done, Duration::from_secs(10)),
            "[######------------------]  25 %  25 of 100 blocks, 5.0 kB/s, 30 s left"
        );
        assert!(progress(100, Done::default(), Duration::ZERO).ends_with("waiting for peers"));
        assert!(progress(0, Done::default(), Duration::ZERO).ends_with("done"));
    }

    #[test]
    fn times_read_well() {
        let all = [59, 61, 3_600, 90_061].map(clock);
        assert_eq!(all, ["59 s", "1:01 min", "1:00 h", "1 d 1 h"]);
    }
}
