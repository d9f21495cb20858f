//! Many Hypercores in one database: names, namespaces, sessions, and replication of all of them.
//!
//! A store has one primary key. Names yield key pairs from it, the same ones that the Corestore 7 of npm yields from
//! the same primary key, and the folder of a store is the folder of a Corestore 7.
//!
//! ```
//! use corestore::{Corestore, Query};
//!
//! let store = Corestore::memory();
//! let log = store.get("log")?;
//! log.append("hello")?;
//!
//! // The same core, by whatever is known of it.
//! assert_eq!(store.get(log.key())?.length(), 1);
//! assert_eq!(store.get(log.discovery_key())?.length(), 1);
//!
//! // The same name in another namespace is another core.
//! let mine = store.namespace("mine");
//! assert_ne!(mine.get("log")?.key(), log.key());
//!
//! // A core is let go of with its last session.
//! drop(log);
//! assert_eq!(store.loaded_count(), 0);
//! assert_eq!(store.list().count(), 2);
//! # Ok::<(), hypercore::Error>(())
//! ```

mod exclusive;
mod list;
mod loaded;
mod names;
mod query;
pub mod replicate;
mod store;
mod summary;

pub use exclusive::ExclusiveHypercore;
pub use list::{Cores, Names};
pub use loaded::{LoadHook, LoadWatch};
pub use names::{DEFAULT_NAMESPACE, MAX_NAME_BYTES};
pub use query::Query;
pub use replicate::{ReplicateError, ReplicateOptions, Replication, ReplicationHub};
pub use store::Corestore;
pub use summary::CoreSummary;
