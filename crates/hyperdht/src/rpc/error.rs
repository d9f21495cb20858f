//! What can go wrong.

use std::io;
use std::net::SocketAddr;

/// Codes that a reply can carry in its `error` field, as dht-rpc 6.27 numbers them (`lib/errors.js`); applications add
/// their own.
pub mod code {
    /// All is well.
    pub const OK: u64 = 0;
    /// The node does not know this command.
    pub const UNKNOWN_COMMAND: u64 = 1;
    /// The token is not (or no longer) one that this node gave to the sender's host.
    pub const INVALID_TOKEN: u64 = 2;
}

/// Why a request got no reply, or a node could not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RpcError {
    /// Nothing came back, after all retries.
    #[error("request timed out: {0} does not answer")]
    Timeout(SocketAddr),
    /// The node was closed, or the request was cancelled.
    #[error("the DHT node was closed before the reply came")]
    Closed,
    /// The node is suspended; [`resume`](super::Rpc::resume) it first.
    #[error("the DHT node is suspended; resume it first")]
    Suspended,
    /// dht-rpc 6 puts IPv4 addresses on the wire and knows no others.
    #[error("{0} is not an IPv4 address, and the DHT speaks no other")]
    NotIpv4(SocketAddr),
    /// More requests or queries are under way than the node has room for; wait for some to end.
    #[error("too many requests under way at once; wait for some to end")]
    Busy,
    /// What is to be sent does not fit into a datagram.
    #[error("{len} bytes do not fit into a datagram; at most {limit} do")]
    TooLarge {
        /// Length of the encoded message.
        len: usize,
        /// How long it may be.
        limit: usize,
    },
    /// A delayed ping is to be delayed for longer than nodes do it.
    #[error("a ping can be delayed by at most {0:?}")]
    DelayTooLong(std::time::Duration),
    /// A query that should have been committed got replies from nobody to commit to.
    #[error("too few nodes responded: is the network up, and are the bootstrap nodes right?")]
    TooFewNodes,
    /// The nearest node gave no token, without which it takes no commits.
    #[error("{0} gave no token to commit with")]
    NoToken(SocketAddr),
    /// The sockets could not be bound.
    #[error("cannot bind a UDP socket to {addr}: {reason}")]
    Bind {
        /// Where it should have been.
        addr: SocketAddr,
        /// What the operating system says.
        reason: io::ErrorKind,
    },
    /// A request or reply was to leave from a socket that the node does not know.
    #[error("this socket was not attached to the DHT node, or is closed")]
    NotAttached,
    /// The system gives no random numbers.
    #[error("the system gives no random numbers, without which a DHT node is not safe")]
    NoRandomness,
    /// Text that should name a bootstrap node does not.
    #[error("{0:?} names no bootstrap node; it should look like host:port or ip@host:port")]
    BadBootstrapNode(String),
}
