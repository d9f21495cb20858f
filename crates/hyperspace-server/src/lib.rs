//! The Hyperspace daemon: stores, serves and replicates Hypercores.

mod answer;
pub mod backoff;
mod connection;
mod limits;
mod listener;
mod mailbox;
mod peers;
mod rpc;
mod server;
mod session_table;
mod waits;

pub use limits::Limits;
pub use listener::ListenError;
pub use peers::{PeerHub, PeerSource};
pub use rpc::Gone;
pub use server::{Server, ServerOptions, StartError};
pub use waits::Discovery;
