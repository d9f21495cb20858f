//! Datagrams for the user of a socket: a bounded queue that keeps the newest.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

/// A datagram that is no packet of a stream the instance knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Who sent it (IPv4 as IPv4, also on a socket of IPv6).
    pub from: SocketAddr,
    /// What it holds; 0 to 65,507 bytes.
    pub payload: Bytes,
}

/// Datagrams one socket keeps for its user.
pub(super) const MAX_DATAGRAMS: usize = 4096;
/// Bytes one socket keeps for its user; [`OVERHEAD`] is counted for each datagram.
pub(super) const MAX_BYTES: usize = 4 << 20;
/// What an empty datagram counts.
const OVERHEAD: usize = 96;

#[derive(Debug, Default)]
pub(super) struct Inbox {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    datagrams: VecDeque<Datagram>,
    bytes: usize,
    dropped: u64,
    closed: bool,
    wakers: Vec<Waker>,
}

impl Inbox {
    /// Adds what one burst brought, and wakes who waits once.
    pub(super) fn extend(&self, burst: &mut Vec<Datagram>) {
        if burst.is_empty() {
            return;
        }
        let mut queue = self.queue();
        for datagram in burst.drain(..) {
            queue.push(datagram);
        }
        let wakers = std::mem::take(&mut queue.wakers);
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn poll_recv(&self, cx: &mut Context<'_>) -> Poll<Option<Datagram>> {
        let mut queue = self.queue();
        match queue.pop() {
            Some(datagram) => Poll::Ready(Some(datagram)),
            None if queue.closed => Poll::Ready(None),
            None => {
                queue.wait(cx);
                Poll::Pending
            }
        }
    }

    /// Moves up to `limit` datagrams to `into`; 0 only when the socket is closed.
    pub(super) fn poll_recv_many(
        &self,
        cx: &mut Context<'_>,
        into: &mut Vec<Datagram>,
        limit: usize,
    ) -> Poll<usize> {
        let mut queue = self.queue();
        let mut taken = 0;
        while taken < limit {
            let Some(datagram) = queue.pop() else { break };
            into.push(datagram);
            taken += 1;
        }
        if taken > 0 || queue.closed {
            return Poll::Ready(taken);
        }
        queue.wait(cx);
        Poll::Pending
    }

    pub(super) fn close(&self) {
        let mut queue = self.queue();
        queue.closed = true;
        let wakers = std::mem::take(&mut queue.wakers);
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn dropped(&self) -> u64 {
        self.queue().dropped
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn push(&mut self, datagram: Datagram) {
        self.bytes += datagram.payload.len() + OVERHEAD;
        self.datagrams.push_back(datagram);
        // The oldest goes: who falls behind in a flood answers those who still wait.
        while self.datagrams.len() > MAX_DATAGRAMS || self.bytes > MAX_BYTES {
            if self.pop().is_none() {
                break;
            }
            self.dropped += 1;
        }
    }

    fn pop(&mut self) -> Option<Datagram> {
        let datagram = self.datagrams.pop_front()?;
        self.bytes -= datagram.payload.len() + OVERHEAD;
        if self.datagrams.is_empty() && self.datagrams.capacity() > 256 {
            // Memory that a flood made us take goes back.
            self.datagrams = VecDeque::new();
        }
        Some(datagram)
    }

    fn wait(&mut self, cx: &mut Context<'_>) {
        if !self.wakers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.wakers.push(cx.waker().clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram(size: usize, mark: u8) -> Datagram {
        Datagram { from: "127.0.0.1:9".parse().unwrap(), payload: Bytes::from(vec![mark; size]) }
    }

    #[test]
    fn keeps_the_newest_within_its_bounds() {
        let inbox = Inbox::default();
        inbox.extend(&mut (0..MAX_DATAGRAMS + 10).map(|n| datagram(1, n as u8)).collect());
        assert_eq!(inbox.dropped(), 10);
        let first = inbox.queue().pop().unwrap();
        assert_eq!(first.payload[0], 10);

        inbox.extend(&mut (0..200).map(|_| datagram(60_000, 1)).collect());
        assert!(inbox.queue().bytes <= MAX_BYTES);
    }

    #[test]
    fn ends_after_what_is_left() {
        let inbox = Inbox::default();
        inbox.extend(&mut vec![datagram(3, 1)]);
        inbox.close();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(inbox.poll_recv(&mut cx), Poll::Ready(Some(_))));
        assert!(matches!(inbox.poll_recv(&mut cx), Poll::Ready(None)));
    }
}
