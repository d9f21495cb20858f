//! Who has what, who asks whom: the replication state machine of one Hypercore.
//!
//! [`Replicator`] speaks with any number of peers about one log, exactly as npm `hypercore` 11.37.1 does on the
//! wire. It does no I/O: messages, commands and the time come in as arguments; messages, events and the next
//! deadline go out. It works in bursts: everything that one read of a connection brought is taken over together,
//! verified together and stored in one commit, and requests are answered many at a time.
//!
//! A driver does this for every connection:
//!
//! 1. When both sides opened the channel of a log: [`Replicator::open_peer`].
//! 2. All messages that a read brought for the channel: [`Replicator::handle`].
//! 3. While the connection has room: send what [`Replicator::poll_transmit_to`] gives. Wake the connections that
//!    [`Replicator::poll_ready`] names.
//! 4. Do what [`Replicator::poll_event`] says, and call [`Replicator::handle_timeout`] at
//!    [`Replicator::next_deadline`].
//! 5. After a change by others (an append, a get that waits): [`Replicator::core_changed`].
//!
//! ```
//! use std::time::Instant;
//!
//! use hypercore::demand::{Demand, DownloadRange, Outcome, Want, WantOptions};
//! use hypercore::storage::Database;
//! use hypercore::{Core, CoreOptions};
//! use hypercore_replicator::{PeerId, Replicator};
//!
//! let mut writer = Core::open(&Database::memory(), CoreOptions::default())?;
//! writer.append(&["hello".into(), "world".into()])?;
//! let options = CoreOptions { key: Some(writer.key()), ..CoreOptions::default() };
//! let mut reader = Core::open(&Database::memory(), options)?;
//!
//! // What local users of the reader wait for.
//! let mut wanted = Demand::new();
//! let (_, mut reply) = wanted.add(Want::Range(DownloadRange::new(0, 2)), WantOptions::default())?;
//! let mut wanted_by_writer = Demand::new();
//!
//! let (mut a, mut b, now) = (Replicator::default(), Replicator::default(), Instant::now());
//! let peer = PeerId(1);
//! a.open_peer(peer, &mut writer, &mut wanted_by_writer, now);
//! b.open_peer(peer, &mut reader, &mut wanted, now);
//! loop {
//!     let to_b: Vec<_> = std::iter::from_fn(|| a.poll_transmit_to(peer, &mut writer)).collect();
//!     let to_a: Vec<_> = std::iter::from_fn(|| b.poll_transmit_to(peer, &mut reader)).collect();
//!     if to_a.is_empty() && to_b.is_empty() {
//!         break;
//!     }
//!     b.handle(peer, to_b, &mut reader, &mut wanted, now);
//!     a.handle(peer, to_a, &mut writer, &mut wanted_by_writer, now);
//! }
//! assert!(matches!(reply.try_recv(), Ok(Some(Ok(Outcome::Range)))));
//! assert_eq!(reader.get(1)?.unwrap(), "world");
//! assert_eq!(reader.tree_hash(), writer.tree_hash());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod availability;
mod events;
mod forks;
mod in_flight;
mod options;
mod path;
mod peer;
mod random;
mod receive;
mod remote_bitfield;
mod replicator;
mod schedule;
mod sync;
mod timers;
mod transmit;
mod upload_queue;
mod wants;
mod window;
mod wishes;

pub use events::{CloseReason, Event, PeerInfo, Stats};
pub use options::Options;
pub use peer::PeerId;
pub use replicator::Replicator;
