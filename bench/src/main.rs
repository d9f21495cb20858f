//! Benchmarks against the JS packages: `./dev bench [NAME...]`.
//!
//! Every figure comes from a process of its own, the median of three runs, unpinned and pinned to one core, and the better
//! of the two counts, for JS as for us.

#![forbid(unsafe_code)]

mod plan;
mod report;
mod run;
mod sides;

use std::fs;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

use crate::plan::BENCHMARKS;

#[derive(Parser)]
#[command(name = "bench", about = "Our figure, the JS figure of the same run, and the ratio")]
struct Args {
    /// Only these benchmarks (a name, or the beginning of several); all of them if none is given.
    names: Vec<String>,
    /// Runs of which the median counts.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Leave out the JS half.
    #[arg(long)]
    ours: bool,
    /// Leave out our half.
    #[arg(long, conflicts_with = "ours")]
    js: bool,
    #[command(subcommand)]
    side: Option<Side>,
}

#[derive(Subcommand)]
enum Side {
    /// One run of our half; prints one line of JSON.
    #[command(hide = true)]
    Side { name: String, args: Vec<String> },
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(Side::Side { name, args }) = args.side {
        return sides::run(&name, &args);
    }
    let wanted: Vec<_> = BENCHMARKS
        .iter()
        .filter(|benchmark| {
            args.names.is_empty() || args.names.iter().any(|name| benchmark.name.starts_with(name.as_str()))
        })
        .collect();
    if wanted.is_empty() {
        let names: Vec<_> = BENCHMARKS.iter().map(|benchmark| benchmark.name).collect();
        bail!("no such benchmark; there are: {}", names.join(", "));
    }
    warn_of_other_work();
    let bench = run::Bench::new(args.runs.max(1))?;
    report::header();
    for benchmark in wanted {
        let js = if args.ours { None } else { Some(bench.js(benchmark)?) };
        let ours = if args.js { None } else { Some(bench.ours(benchmark)?) };
        let limit = if benchmark.is_of_client() && !args.js { Some(bench.limit(benchmark)?) } else { None };
        report::row(benchmark, ours, js, limit);
    }
    println!("' = reached pinned to one core; medians of {} runs", args.runs.max(1));
    Ok(())
}

fn warn_of_other_work() {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().and_then(|load| load.parse::<f64>().ok()).unwrap_or(0.0);
    if load > 0.7 {
        eprintln!("warning: the load of this machine is {load}; figures taken beside other work say little");
    }
}
