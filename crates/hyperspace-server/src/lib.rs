//! The Hyperspace daemon: stores, serves and replicates Hypercores.
//!
//! [`Server`] is the daemon as a library; the command `hyperspace-server` is a thin shell around it. Programs on the
//! same machine use its cores over the RPC of npm `@hyperspace/rpc` 1.15.0 (see `docs/rpc.md`, and the crates
//! `hyperspace-common` and `hyperspace-client`); connections with peers come from [`PeerSource`]s and replicate the
//! whole store. The feature `simulator` adds `Simulator`, a server with its clients for the tests of other crates.
//!
//! ```
//! use hyperspace_client::HyperspaceClient;
//! use hyperspace_server::{Server, ServerOptions};
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! // In memory, and without a socket: a client may come over any stream.
//! let server = Server::start(ServerOptions::default()).await?;
//! let (near, far) = tokio::io::duplex(65_536);
//! tokio::spawn(server.serve(far));
//!
//! let client = HyperspaceClient::from_stream(near);
//! let log = client.corestore().get_by_name("diary").await?;
//! log.append("hello").await?;
//! assert_eq!(log.get(0).await?, "hello");
//!
//! server.stop().await;
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```

mod admission;
mod answer;
mod backoff;
mod clients;
mod connection;
mod descriptors;
mod extensions;
mod lanes;
mod limits;
mod listener;
mod locks;
mod mailbox;
mod network;
mod peer_table;
mod peers;
mod rpc;
mod seldom;
mod server;
mod session_table;
#[cfg(any(test, feature = "simulator"))]
mod simulator;
mod token_file;
mod transport;
mod waits;

pub use admission::NoTokens;
pub use descriptors::raise_descriptor_limit;
pub use hyperspace_common::{AccessToken, AccessTokenError};
pub use hyperspace_websocket::{OriginError, Origins};
pub use lanes::suitable_client_threads;
pub use limits::Limits;
pub use listener::ListenError;
pub use network::NetworkOptions;
pub use peers::{PeerHub, PeerSource, Searching};
pub use rpc::Gone;
pub use server::{Server, ServerEvent, ServerOptions, StartError};
#[cfg(any(test, feature = "simulator"))]
pub use simulator::{Simulator, SimulatorError};
pub use token_file::{TokenFileError, reread_tokens, tokens_from_file};
pub use waits::Discovery;
