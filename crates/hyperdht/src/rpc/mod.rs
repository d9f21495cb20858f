//! Requests and replies between the nodes of a DHT, as npm `dht-rpc` 6.27 makes them.

mod contacts;
mod driver;
mod error;
mod flood;
mod handle;
mod health;
mod incoming;
mod lanes;
mod message;
mod nat_sampler;
pub mod node;
mod options;
mod outgoing;
mod peer;
mod reply;
mod requests;
mod rng;
mod sockets;
mod stats;
mod tokens;
mod walk;
mod window;

pub use error::{RpcError, code};
pub use handle::{Attached, ForeignDatagram, Rpc, RpcEvent};
pub use incoming::{REQUESTS_WAITING, Request, Requests};
pub use message::{Message, ReplyMessage, RequestMessage};
pub use node::Node;
pub use options::{
    BootstrapNode, DEFAULT_CONCURRENCY, DEFAULT_DOWN_HINTS_RATE, DEFAULT_MAX_PING_DELAY, DEFAULT_MAX_WINDOW,
    IncomingLimits, NodeFilter, PingOptions, QueryOptions, ReplyOptions, RequestBody, RequestOptions,
    RpcOptions,
};
pub use outgoing::Query;
pub use peer::{NodeId, Peer, node_id};
pub use reply::Reply;
pub use requests::{MAX_REQUESTS, RequestId, Socket, Transmit};
pub use stats::Stats;
