//! Kademlia DHT: announce, look up, connect by public key, punch holes, relay, store records.

#![forbid(unsafe_code)]

mod addresses;
pub mod client;
mod connect;
mod connection;
mod core;
mod dht;
mod doorway;
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
    BOOTSTRAP_NODES, ConnectOptions, DEFAULT_PORT, DhtOptions, FirewallRequest, PunchRequest, ServerOptions,
};
pub use secret_stream::KeyPair;
pub use server::{ListenError, Server, ServerAddress};
