//! Replication of all cores of a store over any number of connections.
//!
//! One task per connection (the `driver`) reads what has arrived, hands it core by core to the
//! core's replicator, and writes everything that came of it at once. A core's replicator exists only while some
//! connection has a channel for it; it is shared by all of them and has one owner at a time, under one lock.
//!
//! What another connection, or a local append, made ready for a peer is handed to that peer's task through its
//! mailbox (the `link`), which holds each core and each peer at most once.

mod channels;
mod core;
mod driver;
mod hub;
mod link;
mod options;
mod own_protocol;
mod timers;
mod turn;
mod wire;

#[cfg(test)]
mod tests;

pub use hub::{CoreSource, ExtensionSink, ReplicationHub};
pub use options::{ExtensionError, ReplicateError, ReplicateOptions, Replication};
pub use own_protocol::{OwnProtocol, ProtocolSink};
