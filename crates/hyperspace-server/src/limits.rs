//! Every bound that a connection has, in one place.

use std::time::Duration;

/// What may wait for one client that does not read, in bytes of answers and events together. It is let go beyond that.
///
/// The longest answer has to fit: a block of 15 MiB behind the answers that were ready before it.
pub(crate) const MAX_UNREAD: usize = 32 << 20;

/// What one client may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The largest frame that is taken, in bytes of payload.
    pub max_frame: usize,
    /// Blocks of one append, which is worked on as a whole.
    pub max_append_blocks: usize,
    /// Clients at the same time. There may be places for fewer of those that connect to the server: see
    /// [`raise_descriptor_limit`](crate::raise_descriptor_limit).
    pub max_clients: usize,
    /// Open sessions of one client.
    pub max_sessions: usize,
    /// Requests of one client that wait for the network.
    pub max_waiting: usize,
    /// Answers that wait to be written before no further request is worked on.
    pub unsent_high_water: usize,
    /// Answers and events, in bytes, that wait because the client does not read; beyond, it is let go.
    pub max_unread: usize,
    /// How long one client's requests are worked on before others have their turn.
    pub turn: Duration,
    /// How long a client may leave what is ready for it unread.
    pub stall: Duration,
    /// How long a connection has, from its first byte on, to show an access token where one is wanted.
    pub admission: Duration,
    /// Connections at the same time that have shown none yet; a further one ends the oldest. Fewer where the process may
    /// have few connections open.
    pub max_pending: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_frame: hyperspace_common::DEFAULT_MAX_FRAME,
            // As many as `hyperspace-client write` appends at once when every byte is a block.
            max_append_blocks: 512 << 10,
            max_clients: 4096,
            max_sessions: 262_144,
            max_waiting: 65_536,
            unsent_high_water: 1 << 20,
            max_unread: MAX_UNREAD,
            turn: Duration::from_millis(10),
            stall: Duration::from_secs(60),
            admission: Duration::from_secs(15),
            max_pending: 64,
        }
    }
}
