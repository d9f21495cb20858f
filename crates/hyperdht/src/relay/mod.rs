//! Blind relaying: two peers that cannot reach each other meet at a third, which forwards their packets without being
//! able to read them (npm `blind-relay` 1.6).
//!
//! [`RelayService`] is that third peer. The others name its public key in
//! [`ConnectOptions::relay_through`](crate::ConnectOptions) or [`ServerOptions::relay_through`](crate::ServerOptions); the
//! rest happens by itself, and a stream leaves the relay as soon as a direct way is found.

mod channel;
mod client;
mod messages;
mod pairings;
mod service;

pub(crate) use client::{RelayPath, relay_path};
pub use messages::Token;
pub use pairings::RelayLimits;
pub(crate) use pairings::fuzz as fuzz_pairings;
pub use service::{RelayService, RelayStats};

/// A token that nobody guesses.
pub(crate) fn random_token() -> Token {
    let mut token = [0; 32];
    dryoc::rng::copy_randombytes(&mut token);
    token
}
