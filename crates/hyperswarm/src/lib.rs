//! Finds and connects the peers that share a topic, as npm `hyperswarm` 4.17.2 does.
//!
//! A topic is 32 bytes. Who joins it as a server is announced in the DHT; who joins it as a client looks for those
//! and connects. However many topics two peers share, they have one connection.
//!
//! ```
//! use hyperdht::{DhtOptions, HyperDht, KeyPair};
//! use hyperswarm::{Hyperswarm, JoinOptions, SwarmOptions};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A network of one node, on this machine alone.
//! let node = HyperDht::bootstrapper("127.0.0.1:0".parse()?).await?;
//! let options = DhtOptions {
//!     bootstrap: Some(vec![node.local_address().to_string()]),
//!     host: "127.0.0.1".parse()?,
//!     port: 0,
//!     ..DhtOptions::default()
//! };
//! let alice = Hyperswarm::new(options.clone(), KeyPair::generate(), SwarmOptions::default()).await?;
//! let bob = Hyperswarm::new(options, KeyPair::generate(), SwarmOptions::default()).await?;
//!
//! // Alice can be found, and Bob looks.
//! let topic = [7; 32];
//! assert!(alice.join(topic, JoinOptions::SERVER)?.flushed().await);
//! bob.join(topic, JoinOptions::CLIENT)?;
//! let (mut to_alice, peer) = bob.next_connection().await.unwrap();
//! assert_eq!(peer.public_key, alice.public_key());
//! let (mut to_bob, _) = alice.next_connection().await.unwrap();
//! to_alice.send("hello".into()).await?;
//! assert_eq!(to_bob.recv().await.unwrap()?, "hello");
//!
//! bob.destroy().await;
//! alice.destroy().await;
//! # Ok(())
//! # }
//! ```
//!
//! - [`swarm::Swarm`] is the state machine: no sockets, no clock, no chance that the seed does not decide.
//! - [`Hyperswarm`] is the same on tokio, over a [`Dht`]: a [`DhtNode`], or whatever a test puts in its place.
//!
//! # Beside npm's
//!
//! Everything of npm `hyperswarm` 4.17.2 is here under its own or a similar name (`clear` is [`Hyperswarm::leave_all`], the
//! events `update` and `ban` are [`Hyperswarm::counts`] and [`Hyperswarm::bans`], a topic's session is a [`Discovery`]), but:
//!
//! - `seed` is [`hyperdht::KeyPair::from_seed`], and what npm passes on to its DHT is set in [`hyperdht::DhtOptions`].
//! - `relayThrough` is a list of keys, not a function: when a relay is asked for is as npm's default says.
//! - The firewall sees the public key, not the caller's handshake.
//! - `peerInfo.on('topic')`: ask [`Hyperswarm::peers`] when [`Hyperswarm::counts`] changes.
//! - `connectedTime` and `disconnectedTime` are not told; `handshakeClearWait` is npm's default.
//! - A [ban](Hyperswarm::ban) closes the connection that is there; npm leaves it.

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
pub use swarm::{Counts, PeerInfo, Stats, TopicStatus};

/// What peers meet at: usually the hash of something that they share.
pub type Topic = [u8; 32];

/// An Ed25519 public key: who a peer is.
pub type PublicKey = [u8; 32];
