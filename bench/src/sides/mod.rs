//! Our halves of the benchmarks: each does what the script of `bench/js` does, with the same sizes and counts.

use anyhow::{Result, bail};

/// Whether our half of a benchmark exists.
pub(crate) fn exists(_name: &str) -> bool {
    false
}

/// Runs our half once and prints its value.
pub(crate) fn run(name: &str, _args: &[String]) -> Result<()> {
    bail!("no such benchmark: {name}")
}
