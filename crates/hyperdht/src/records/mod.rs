//! Records that nodes keep for others: who announces what, and mutable and immutable values.

pub mod signing;
