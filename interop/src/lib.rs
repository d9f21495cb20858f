//! The npm peers as processes that a Rust test commands.
//!
//! `interop/js` holds the peers of today (Corestore 7.12.5 with hypercore 11.37.1, and hypercore 10), `interop/js-old`
//! the Node client and daemon of Hyperspace 3, `interop/js-hyperspace` what is built on that client (hyperdrive 10,
//! hypertrie 5, hyperbee 1), with the packages' own tests. Each is a small script that speaks JSON lines; [`Peer`] spawns one, sends
//! commands and awaits answers and events.
//!
//! Every test begins with [`Node::find`]: without Node it says so loudly and passes, except in CI (`CI` set), where a
//! missing Node is a failure. What else a test may lack, and where it must not, is what [`skipped`] says.
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! use interop::{Node, json};
//!
//! let Some(node) = Node::find().await else { return };
//! let folder = tempfile::tempdir().unwrap();
//! let peer = node.peer(folder.path()).await;
//! let core = peer.ask("open", json!({ "core": "log", "name": "log" })).await;
//! peer.ask("generate", json!({ "core": "log", "count": 10, "size": 100 })).await;
//! assert_eq!(peer.ask("info", json!({ "core": "log" })).await["length"], 10);
//! peer.close().await;
//! # let _ = core;
//! # }
//! ```

#![forbid(unsafe_code)]

mod convert;
mod logs;
mod node;
pub mod pattern;
mod peer;
mod relay;
mod skip;
mod udp_relay;

pub use convert::{hex, key, manifest_json};
pub use logs::{blocks, digest, until};
pub use node::Node;
pub use peer::{DEADLINE, Peer, PeerError, within};
pub use relay::Relay;
pub use serde_json::{Value, json};
pub use skip::{Lack, in_own_network, say, skipped};
pub use udp_relay::{Faults, UdpRelay};
