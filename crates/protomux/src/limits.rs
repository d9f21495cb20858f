/// Bounds of one [`Protomux`](crate::Protomux).
///
/// npm `protomux` 3 bounds only the first of these that concern the remote (it pauses the stream at 32 KiB, see
/// [`is_paused`](crate::Protomux::is_paused)); the others are set far beyond what its peers send.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes that may wait for channels of the remote to be answered: names, handshakes and messages.
    pub max_pending_bytes: usize,
    /// Channels of the remote that may wait for an answer.
    pub max_pending_opens: usize,
    /// Channels that the remote may have open.
    pub max_remote_channels: usize,
    /// Events that may wait to be polled. What the remote sent beyond that waits as it came, as one batch of tiny messages
    /// would take many times its length: it is read on when these have been polled.
    pub max_events: usize,
    /// Bytes that may wait as they came, since nobody polls.
    pub max_unread: usize,
    /// While corked, messages are put together up to this many bytes. JS goes up to 8 MiB; by default this stops
    /// at 256 KiB, so that a batch is still in the cache when it is encrypted and the remote can start sooner.
    pub max_batch: usize,
    /// Bytes that may wait for [`poll_transmit`](crate::Protomux::poll_transmit).
    pub max_queued: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_pending_bytes: 64 << 20,
            max_pending_opens: 1 << 18,
            max_remote_channels: 1 << 20,
            max_events: 4096,
            max_unread: 64 << 20,
            max_batch: 256 << 10,
            max_queued: 64 << 20,
        }
    }
}
