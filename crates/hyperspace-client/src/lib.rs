//! Hypercores that live in a Hyperspace daemon, used as if they were here.
//!
//! [`HyperspaceClient`] connects to a daemon (`hyperspace-server`, or the Node one), its [`RemoteCorestore`] opens
//! cores, and a [`RemoteHypercore`] implements [`hypercore::AppendLog`] as local logs do. Many requests may be in
//! flight; dropping a future cancels its request.
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

mod client;
mod connection;
mod error;
mod remote_hypercore;
mod sessions;

pub use client::{HyperspaceClient, NetworkInfo, RemoteCorestore, Status};
pub use error::ClientError;
pub use remote_hypercore::{Appended, RemoteHypercore};
