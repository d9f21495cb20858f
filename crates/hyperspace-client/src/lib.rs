//! Hypercores that live in a Hyperspace daemon, used as if they were here.
//!
//! [`HyperspaceClient`] connects to a daemon (`hyperspace-server`, or the Node one), its [`RemoteCorestore`] opens
//! cores, and a [`RemoteHypercore`] implements [`hypercore::AppendLog`] as local logs do. Many requests may be in
//! flight; a get or a download is taken back by dropping its future, and [`RemoteHypercore`] tells what stays.
//!
//! ```no_run
//! use hyperspace_client::HyperspaceClient;
//!
//! # async fn example() -> Result<(), hyperspace_client::ClientError> {
//! let client = HyperspaceClient::connect(None).await?;
//! let log = client.corestore().get_by_name("diary").await?;
//! log.append("hello").await?;
//! assert_eq!(log.get(log.length() - 1).await?, "hello");
//! # Ok(()) }
//! ```

mod abilities;
mod client;
mod connection;
mod corestore;
mod dial;
mod error;
mod extension;
mod growth;
mod lock;
mod network_peers;
mod networker;
mod options;
mod receive_memory;
mod receiver;
mod remote_hypercore;
mod restore;
mod sessions;
mod streams;
mod values;
mod wishes;

pub use abilities::CoreState;
pub use client::{HyperspaceClient, Stats, Status};
pub use corestore::{RemoteCorestore, StoredCore};
pub use error::ClientError;
pub use extension::{PeerMessage, RemoteExtension};
pub use hyperspace_common::{AccessToken, AccessTokenError};
pub use lock::RemoteLock;
pub use network_peers::NetworkEvent;
pub use networker::{ConfigureOptions, NetworkInfo, RemoteNetworker, TopicStatus};
pub use options::{ConnectOptions, ConnectionEvent, Reconnect};
pub use remote_hypercore::{Appended, RemoteHypercore, SeekOptions};
pub use sessions::Transferred;
pub use streams::RemoteWriteSink;
pub use values::{Binary, Encoding, Json, Utf8, ValueError, Values};

/// The examples of the client's chapter.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/client.md")]
mod chapter {}
