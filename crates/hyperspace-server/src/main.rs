//! Command of the crate `hyperspace-server`.

fn main() {}
