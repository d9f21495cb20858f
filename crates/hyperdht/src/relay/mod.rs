//! Blind relaying: two peers that cannot reach each other meet at a third, which forwards their (encrypted) packets.

mod messages;
mod pairings;

pub use messages::Token;
pub use pairings::RelayLimits;
