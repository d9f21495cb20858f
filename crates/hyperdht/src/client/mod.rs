//! What one can ask of the DHT: who announces a topic, where a server is, mutable and immutable values; and how to
//! announce and store.
//!
//! All of these walk towards a target, the nearest nodes of which hold what is stored under it. Whatever comes back is
//! checked: values against their hash, records against their signature. Dropping a query ends it.

pub(crate) mod announcer;
mod batch;
mod find_peer;
mod front;
mod immutable;
mod mutable;
mod store_at;
#[cfg(test)]
mod tests;
mod topic;

use std::net::{SocketAddr, SocketAddrV4};

pub use batch::{Announced, BATCH_WINDOW, BatchOptions, announce_many};
pub use find_peer::{FindPeer, FoundPeer, find_peer};
pub use immutable::{ImmutableValue, immutable_get, immutable_put};
pub use mutable::{MutableGetOptions, MutableValue, Refresh, mutable_get, mutable_put};
pub use store_at::Stored;
pub use topic::{
    AnnounceOptions, Announcers, TopicQuery, announce, lookup, lookup_and_unannounce, unannounce,
};

use crate::messages::ipv4;
use crate::records::MAX_RELAY_ADDRESSES;

/// Relay addresses as an announcement carries them: nodes keep no more than three.
fn announced_relays(addresses: &[SocketAddr]) -> Vec<SocketAddrV4> {
    addresses.iter().copied().filter_map(ipv4).take(MAX_RELAY_ADDRESSES).collect()
}
