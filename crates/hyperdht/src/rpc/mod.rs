//! Requests and replies between the nodes of a DHT, as npm `dht-rpc` 6.27 makes them.
//!
//! Every node has a place in a space of 256-bit keys, the hash of its address, and knows many nodes near that place and a
//! few of everywhere else. A [query](Rpc::query) walks towards a key, each step to nodes that the last ones named; the
//! twenty nodes nearest to the key are where something about it is stored, with a request that carries the token each of
//! them gave. Nodes that come and go, or that others do not reach, only ask (they are *ephemeral*); those that stay become
//! *persistent*: they take their place and answer.
//!
//! - [`Node`] is all of that without sockets and clocks: datagrams, commands and the time in; datagrams and events out.
//! - [`Rpc`] is such a node on two UDP sockets of crate `udx`: the *server* socket at whose port others find it, and the
//!   *client* socket from which it asks as long as it may be firewalled.
//!
//! What is other than in npm: answers are only taken from whom was asked, under a random number; a full congestion window
//! lets the next request go with each answer, spread over the round trip, instead of some every 750 ms, and no address is
//! asked more than 32 things at once; queries ask the nearest node first; what strangers may ask has limits
//! ([`IncomingLimits`]) and is taken from them in turns ([`Requests`]), and what they can make a node hold is bounded
//! ([`node::MEMORY_BOUND`]).
//!
//! ```
//! use std::net::Ipv4Addr;
//! use hyperdht::rpc::{QueryOptions, ReplyOptions, Rpc, RpcOptions};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let udx = udx::Udx::new();
//! # let port = std::net::UdpSocket::bind("127.0.0.1:0")?.local_addr()?.port();
//! // The first node of a network, which answers command 7.
//! let (first, mut requests) = Rpc::bind(&udx, RpcOptions::bootstrapper(Ipv4Addr::LOCALHOST, port)).await?;
//! tokio::spawn(async move {
//!     while let Some(request) = requests.next().await {
//!         match request.command {
//!             7 => request.reply(Some("seven".into()), ReplyOptions::default()),
//!             _ => request.unknown_command(),
//!         }
//!     }
//! });
//!
//! // Another one asks those nearest to a key.
//! let options = RpcOptions {
//!     bootstrap: vec![first.local_address().into()],
//!     host: Ipv4Addr::LOCALHOST.into(),
//!     ..RpcOptions::default()
//! };
//! let (second, _requests) = Rpc::bind(&udx, options).await?;
//! let mut query = second.query([42; 32], 7, None, QueryOptions::default())?;
//! query.finished().await?;
//! let replies = query.closest_replies();
//! assert_eq!(replies.len(), 1);
//! assert_eq!(replies[0].value.as_deref(), Some(&b"seven"[..]));
//! # Ok(())
//! # }
//! ```

mod contacts;
mod driver;
mod error;
mod flood;
mod handle;
mod health;
mod incoming;
mod lanes;
mod line;
mod message;
mod nat_sampler;
pub mod node;
mod options;
mod outgoing;
mod peer;
mod reply;
mod requests;
mod rng;
mod sender;
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
