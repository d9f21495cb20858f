//! Command of the crate `hyperspace-client`.

fn main() {}
