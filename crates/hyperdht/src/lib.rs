//! Kademlia DHT: announce, look up, connect by public key, punch holes, relay, store records.
//!
//! [`HyperDht`] is a node of the DHT that npm `hyperdht` 6.34 speaks. A [`Server`] is found by its public key alone: nodes
//! near the key's hash know where it is and forward a Noise handshake, from whose answers both sides learn how to reach
//! each other, through NATs if need be. What comes of it is a [`Connection`], encrypted from end to end.
//!
//! ```
//! use bytes::Bytes;
//! use hyperdht::{ConnectOptions, DhtOptions, HyperDht, KeyPair, ServerOptions};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! // A network of our own, on this machine. Without `bootstrap` it would be the public one.
//! let first = HyperDht::bootstrapper("127.0.0.1:0".parse()?).await?;
//! let options = DhtOptions {
//!     bootstrap: Some(vec![first.local_address().to_string()]),
//!     host: "127.0.0.1".parse()?,
//!     ..DhtOptions::default()
//! };
//! let (alice, bob) = (HyperDht::new(options.clone()).await?, HyperDht::new(options).await?);
//!
//! let key_pair = KeyPair::generate();
//! let server = bob.create_server(ServerOptions::default());
//! server.listen(key_pair.clone()).await?;
//!
//! let mut there = alice.connect(key_pair.public, ConnectOptions::default()).await?;
//! there.send(Bytes::from_static(b"hello")).await?;
//! let mut here = server.accept().await.expect("the server is open");
//! assert_eq!(here.remote_public_key(), &alice.default_key_pair().public);
//! assert_eq!(here.recv().await.expect("a message")?, "hello");
//!
//! bob.close().await; // unannounces the server
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! The layers below are usable alone: [`rpc`] is a node without HyperDHT's commands, [`messages`] are their encodings,
//! [`client`] asks and stores, [`records`] answers, [`relay`] joins peers that cannot reach each other.
//!
//! # Beside npm's
//!
//! What npm `hyperdht` 6.34 offers and this does not, and why:
//!
//! - `register` (plugins of a node): a node has none, and asks none; npm ships none.
//! - `pool` (one connection per peer): that is what `hyperswarm` is for.
//! - `createRawStream`, `connectRawStream`: a further stream beside a connection. [`Connection::raw`] is the stream below it.
//! - `reusableSocket`: always off; it saves a round trip to a peer that was punched to before, and is off with npm, too,
//!   unless it is asked for.
//! - `createHandshake`, `createSecretStream`, and signing elsewhere (`signAnnounce`, `signMutable`): the key pair is needed.
//! - `maxSize`, `maxAge`: a node's bounds are those of [`records::StoreLimits`], in bytes as well.
//! - The firewall of a server sees the caller's key and address, not its whole handshake.

#![forbid(unsafe_code)]

mod addresses;
pub mod client;
mod connect;
mod connection;
mod core;
mod dht;
mod doorway;
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
pub mod messages;
mod nat;
mod options;
mod punching;
pub mod records;
pub mod relay;
mod router;
pub mod rpc;
mod server;

pub use connection::{Connection, ConnectionError, ConnectionParts};
pub use dht::{BindError, ConnectError, HyperDht, PunchStats, Status};
pub use options::{
    BOOTSTRAP_NODES, ConnectOptions, DEFAULT_PORT, DhtOptions, FirewallFn, FirewallRequest, PunchFn,
    PunchRequest, ServerOptions,
};
pub use secret_stream::KeyPair;
pub use server::{ListenError, Server, ServerAddress};
