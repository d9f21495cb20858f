//! Records that nodes keep for others: who announces what, and mutable and immutable values.
//!
//! [`Store`] is the keeping side, a state machine without I/O:
//!
//! ```
//! use hyperdht::messages::{Command, Message};
//! use hyperdht::records::{Answer, Store, StoreLimits, StoreRequest, signing};
//! use std::time::Instant;
//!
//! let mut store = Store::new(StoreLimits::default(), 1);
//! let (now, node_id, token) = (Instant::now(), [9; 32], Some([1; 32]));
//! let target = Some(signing::hash(&[b"value"]));
//! let put = StoreRequest {
//!     from: "127.0.0.1:4000".parse()?,
//!     command: Command::ImmutablePut,
//!     target,
//!     token,
//!     value: Some("value".into()),
//! };
//! let get = StoreRequest { command: Command::ImmutableGet, token: None, value: None, ..put.clone() };
//! assert_eq!(store.handle(now, 0, Some(&node_id), put), Answer::Value(None));
//! assert_eq!(store.handle(now, 0, Some(&node_id), get), Answer::Value(Some("value".into())));
//! # Ok::<(), std::net::AddrParseError>(())
//! ```

mod aging;
mod announcements;
mod large;
mod limits;
mod random;
mod serve;
pub mod signing;
mod store;
#[cfg(test)]
mod tests;

pub use announcements::MAX_RELAY_ADDRESSES;
pub use limits::StoreLimits;
pub use store::{Answer, MAX_BUMP_DRIFT, MAX_LOOKUP_PEERS, Store, StoreRequest, StoreSize};
