//! Finds and connects the peers that share a topic, as npm `hyperswarm` 4.17.2 does.
//!
//! A topic is 32 bytes. Who joins it as a server is announced in the DHT; who joins it as a client looks for those
//! and connects. However many topics two peers share, they have one connection.
//!
//! - [`swarm::Swarm`] is the state machine: no sockets, no clock, no chance that the seed does not decide.

#![forbid(unsafe_code)]

mod dht;
mod driver;
#[cfg(test)]
mod driver_tests;
mod hyperswarm;
mod node;
mod options;
mod pacing;
mod peer;
mod queue;
mod random;
mod retry;
pub mod swarm;

pub use dht::{Dht, Dial, DialError, Gate, QueryEvent, Watch};
pub use driver::Flush;
pub use hyperswarm::{Discovery, Hyperswarm};
pub use node::DhtNode;
pub use options::{Firewall, JoinError, JoinOptions, SwarmOptions};
pub use pacing::QueryOutcome;
pub use peer::Priority;
pub use swarm::{PeerInfo, Stats, TopicStatus};

/// What peers meet at: usually the hash of something that they share.
pub type Topic = [u8; 32];

/// An Ed25519 public key: who a peer is.
pub type PublicKey = [u8; 32];
