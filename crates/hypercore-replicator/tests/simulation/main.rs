//! Replicators in virtual time. Every scenario runs with many seeds; one that fails names its seed. Run it alone
//! with `SIM_SEED=<seed>`, and with `SIM_TRACE=1` to see every message.

mod echoes;
mod liar;
mod network;
mod nonsense;
mod scenarios;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs a scenario with many seeds: `share` percent of them, as some take longer than others.
pub(crate) fn with_seeds(share: u64, scenario: impl Fn(u64)) {
    if let Some(seed) = std::env::var("SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return scenario(seed);
    }
    let count = std::env::var("SIM_SEEDS").ok().and_then(|count| count.parse().ok());
    let count: u64 = count.unwrap_or(if cfg!(debug_assertions) { 100 } else { 500 });
    for seed in 0..(count * share / 100).max(1) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario(seed))) {
            eprintln!("the scenario fails with SIM_SEED={seed}");
            resume_unwind(panic);
        }
    }
}
