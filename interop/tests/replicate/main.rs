//! Rust stores replicate with npm Corestore 7.12.5 / hypercore 11.37.1, and plain cores with hypercore 10, over TCP.
//!
//! Each scenario is written once against two [`Side`](side::Side)s and runs with either of them as the writer and with
//! either as the dialer; see [`matrix!`].

#[macro_use]
mod pair;
mod rust_side;
mod side;

mod blocks;
mod chain;
mod clear;
mod conflicts;
mod connections;
mod extensions;
mod forks;
mod live;
mod manifests;
mod many_cores;
