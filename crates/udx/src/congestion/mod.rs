//! How much may be under way, and how fast it goes.

pub(crate) mod bbr;
pub(crate) mod pacer;
pub(crate) mod rate;
pub(crate) mod rtt;
