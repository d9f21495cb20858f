//! The append-only log: blocks, a Merkle tree over them, a signature over the tree, and storage for all of it.
//!
//! A log has one writer (or a quorum of them) and any number of readers. Its key is the hash of the manifest that
//! names the signers, so whoever knows the key can verify every block no matter who sent it. Formats, proofs and
//! signatures are those of npm `hypercore` 11; the storage folder is that of npm `hypercore-storage` 3.
//!
//! This crate knows no network. [`Hypercore`] is the handle for users. A replicator takes what users wait for out of
//! [`Demand`] and gives what peers send to the [`Core`].
//!
//! ```
//! use futures::StreamExt;
//! use hypercore::Hypercore;
//!
//! # futures::executor::block_on(async {
//! let log = Hypercore::memory()?;
//! log.append("hello")?;
//! log.append_batch(["the", "world"])?;
//!
//! assert_eq!(log.length(), 3);
//! assert_eq!(log.get(0).await?, "hello");
//! assert_eq!(log.seek(6).await?, (1, 1));
//!
//! let mut blocks = log.read_stream(1..);
//! assert_eq!(blocks.next().await.unwrap()?, "the");
//! # Ok::<(), hypercore::Error>(()) }).unwrap();
//! ```

pub mod append_log;
mod bitfield;
pub mod core;
pub mod crypto;
pub mod demand;
mod error;
pub mod events;
pub mod flat_tree;
mod info;
mod key;
pub mod manifest;
pub mod multisig;
pub mod proof;
pub mod session;
pub mod signing;
pub mod storage;
pub mod streams;
pub mod tree;
mod verifier;

pub use append_log::AppendLog;
pub use core::{AppendOptions, Appended, Core, CoreOptions, TruncateOptions};
pub use demand::{Demand, DownloadRange};
pub use error::{Error, ReceiveError};
pub use events::{CoreEvent, EventSink, PeerInfo, StreamedEvent};
pub use info::Info;
pub use key::{DiscoveryKey, Key, ParseKeyError};
pub use manifest::{Manifest, Prologue, Signer};
pub use proof::{
    DataBlock, DataHash, DataSeek, DataUpgrade, Node, Proof, ProofRequest, RequestBlock, RequestSeek,
    RequestUpgrade,
};
pub use session::{
    Download, GetOptions, Hypercore, HypercoreBuilder, SessionOptions, UpdateOptions, WeakHypercore,
};
pub use signing::KeyPair;
pub use verifier::{SignError, Verifier};
