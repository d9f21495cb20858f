//! What a replicator tells its driver.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hypercore::core::Conflict;

use crate::peer::PeerId;

/// Something that the driver may want to know, or has to do.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// A peer joined.
    PeerAdded(PeerId),
    /// A peer left.
    PeerRemoved(PeerId),
    /// A peer sent an extension message.
    Extension {
        /// Who sent it.
        peer: PeerId,
        /// Name of the extension.
        name: String,
        /// Whatever it says.
        message: Bytes,
    },
    /// Two histories were signed for one length: the log is frozen. Every peer gets our evidence and is closed.
    Conflict(Arc<Conflict>),
    /// Send what [`poll_transmit_to`](crate::Replicator::poll_transmit_to) still has for this peer, then close its
    /// channel and call [`close_peer`](crate::Replicator::close_peer).
    Close {
        /// Whose channel.
        peer: PeerId,
        /// Why.
        reason: CloseReason,
    },
    /// Storage failed while blocks were taken over; the peer is asked for nothing more.
    StorageFailed {
        /// Whose blocks.
        peer: PeerId,
        /// What storage said.
        reason: String,
    },
}

/// Why a channel is to be closed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseReason {
    /// Neither side wants anything. It may be opened again at any time.
    Idle,
    /// The peer lied, again or about something that cannot be explained. Do not open it again on this connection.
    Misbehaved(String),
    /// The log is frozen.
    Conflict,
}

impl CloseReason {
    /// True when the peer is to blame.
    pub fn is_misbehaviour(&self) -> bool {
        matches!(self, Self::Misbehaved(_))
    }
}

/// A peer at a glance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Who it is.
    pub peer: PeerId,
    /// Its fork.
    pub fork: u64,
    /// Its length.
    pub length: u64,
    /// All blocks below are there.
    pub contiguous_length: u64,
    /// It answers requests.
    pub uploading: bool,
    /// It makes requests.
    pub downloading: bool,
    /// Requests that it has not answered yet.
    pub in_flight: usize,
    /// Requests that it may have in flight.
    pub window: usize,
    /// Typical time from request to answer.
    pub round_trip: Duration,
    /// It is asked for nothing, since it sent something wrong.
    pub paused: bool,
}

/// Counters, since the replicator was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Requests sent.
    pub requests: u64,
    /// Requests answered to peers with data.
    pub answers: u64,
    /// Requests answered to peers with "no data".
    pub refusals: u64,
    /// Blocks that came.
    pub blocks: u64,
    /// Bytes of blocks that came.
    pub block_bytes: u64,
    /// Blocks that came although they were here already.
    pub duplicates: u64,
    /// Answers that did not connect and were asked for again.
    pub stale: u64,
    /// Answers that were wrong.
    pub invalid: u64,
    /// "No data" from peers.
    pub no_data: u64,
    /// Blocks asked of a second peer because the first one was slow.
    pub hotswaps: u64,
    /// Times that a silent peer lost its requests.
    pub timeouts: u64,
    /// All messages sent.
    pub messages: u64,
}
