//! Kademlia DHT: announce, look up, connect by public key, punch holes, relay, store records.

#![forbid(unsafe_code)]

mod addresses;
pub mod client;
mod connection;
mod dht;
mod handshake;
pub mod messages;
mod nat;
mod options;
pub mod records;
pub mod relay;
mod router;
pub mod rpc;
mod server;

pub use connection::{Connection, ConnectionError, ConnectionParts};
pub use dht::{BindError, ConnectError, HyperDht, Status};
pub use options::{
    BOOTSTRAP_NODES, ConnectOptions, DEFAULT_PORT, DhtOptions, FirewallRequest, PunchRequest, ServerOptions,
};
pub use secret_stream::KeyPair;
pub use server::{ListenError, Server, ServerAddress};
