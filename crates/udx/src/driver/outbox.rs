//! What the kernel did not take at once, in order and bounded.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;

/// Datagrams that wait for the kernel, per socket.
pub(super) const MAX_QUEUED: usize = 4096;
/// Bytes that wait for the kernel, per socket.
pub(super) const MAX_BYTES: usize = 4 << 20;

/// Datagrams that the kernel is to send: one, or several of `segment` bytes (the last may be shorter).
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) contents: Bytes,
    pub(super) segment: Option<usize>,
    /// As the kernel wants it.
    pub(super) to: SocketAddr,
    pub(super) ttl: Option<u8>,
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: VecDeque<Outgoing>,
    bytes: usize,
}

impl Outbox {
    /// False when there is no room; the queue always takes one more, so that no transmit is bigger than it.
    pub(super) fn push(&mut self, outgoing: Outgoing) -> bool {
        if self.queue.len() >= MAX_QUEUED || self.bytes >= MAX_BYTES {
            return false;
        }
        self.bytes += outgoing.contents.len();
        self.queue.push_back(outgoing);
        true
    }

    pub(super) fn front(&self) -> Option<&Outgoing> {
        self.queue.front()
    }

    pub(super) fn pop(&mut self) {
        if let Some(gone) = self.queue.pop_front() {
            self.bytes -= gone.contents.len();
        }
        if self.queue.is_empty() && self.queue.capacity() > 256 {
            self.queue = VecDeque::new();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
