//! Our halves of the benchmarks: each does what the script of `bench/js` does, with the same sizes and counts.

mod local;
mod scratch;

use anyhow::{Result, bail};

/// A block of the benchmarks with small blocks.
const SMALL: usize = 100;
/// A block of the benchmarks with large blocks.
const LARGE: usize = 64 * 1024;

/// Runs our half once and prints its value.
pub(crate) fn run(name: &str, args: &[String]) -> Result<()> {
    let value = match name {
        "append-single" => local::append_single()?,
        "append-batch" => local::append_many(20_000, 100_000, SMALL, 1000)?.blocks,
        "append-large" => local::append_many(160, 3200, LARGE, 16)?.megabytes,
        "get-sequential" => local::get(50_000, SMALL, 50_000, local::in_order)?.blocks,
        "get-random" => local::get(50_000, SMALL, 50_000, local::at_random)?.blocks,
        "get-large" => local::get(3200, LARGE, 3200, local::in_order)?.megabytes,
        "open-million" => local::open_million(false)?,
        "open-million-settled" => local::open_million(true)?,
        "make-million" => return local::make_million(args),
        _ => bail!("no such benchmark: {name}"),
    };
    println!("{}", serde_json::json!({ "value": value }));
    Ok(())
}

/// Whether our half of a benchmark exists.
pub(crate) fn exists(name: &str) -> bool {
    const MISSING: &[&str] =
        &["replicate-small", "replicate-large", "live-latency", "many-cores", "memory-idle", "memory-open"];
    !MISSING.contains(&name)
}
