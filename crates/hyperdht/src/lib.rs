//! Kademlia DHT: announce, look up, connect by public key, punch holes, relay, store records.

#![forbid(unsafe_code)]

mod connection;
mod dht;
pub mod messages;
mod options;
pub mod records;
pub mod relay;
pub mod rpc;
mod server;

pub use connection::{Connection, ConnectionError, ConnectionParts};
pub use dht::{BindError, ConnectError, HyperDht, Status};
pub use options::{
    BOOTSTRAP_NODES, ConnectOptions, DEFAULT_PORT, DhtOptions, FirewallRequest, PunchRequest, ServerOptions,
};
pub use secret_stream::KeyPair;
pub use server::{ListenError, Server, ServerAddress};
