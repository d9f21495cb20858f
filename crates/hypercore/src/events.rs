//! What happens to a log, told to whoever asked: as calls into a sink, or as a stream with a bounded queue.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::Stream;

use crate::core::Conflict;

/// Events a stream keeps for a slow reader.
const STREAM_CAPACITY: usize = 1_024;

/// Something that happened to a log.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum CoreEvent {
    /// The log became longer, by a local append or by what peers sent.
    Append {
        /// New length.
        length: u64,
        /// New length in bytes.
        byte_length: u64,
    },
    /// Blocks from `length` on are gone.
    Truncate {
        /// Blocks that are left of the old history.
        length: u64,
        /// Bytes in the log as it is now. When another history has taken the place of the old one, an append follows
        /// that tells its length.
        byte_length: u64,
        /// New fork.
        fork: u64,
    },
    /// A block came from a peer.
    Download {
        /// Its index.
        index: u64,
        /// Its size.
        bytes: usize,
    },
    /// A block was sent to a peer.
    Upload {
        /// Its index.
        index: u64,
        /// Its size.
        bytes: usize,
    },
    /// The manifest became known.
    Manifest,
    /// A peer replicates this log with us now.
    PeerAdded(Arc<PeerInfo>),
    /// It does not any more.
    PeerRemoved(Arc<PeerInfo>),
    /// Two histories were signed for one length and fork: the log is frozen.
    Conflict(Arc<Conflict>),
    /// The log was closed.
    Close,
}

/// A peer that replicates a log with us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Its public key in the Noise handshake.
    pub remote_public_key: [u8; 32],
    /// Where it is, in the transport's own words.
    pub remote_address: String,
    /// Kind of transport.
    pub kind: String,
}

/// Gets told of events at once and in order, while the log is locked: it must be quick and must not call back into
/// the log. One sink may serve many logs, told apart by the tag it was given.
pub trait EventSink: Send + Sync {
    /// Something happened.
    fn event(&self, tag: u64, event: &CoreEvent);
}

/// What a stream of events yields.
#[derive(Debug, Clone)]
pub enum StreamedEvent {
    /// Something happened.
    Event(CoreEvent),
    /// The reader was too slow; this many events are missing here.
    Lagged(u64),
}

/// A stream of what happens to one log. Ends when the log was closed.
#[derive(Debug)]
pub struct Events {
    queue: Arc<EventQueue>,
    // Dropping it ends the subscription.
    _subscription: Option<crate::session::Subscription>,
}

impl Events {
    pub(crate) fn new(queue: Arc<EventQueue>, subscription: Option<crate::session::Subscription>) -> Self {
        Self { queue, _subscription: subscription }
    }
}

impl Stream for Events {
    type Item = StreamedEvent;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<StreamedEvent>> {
        let mut state = self.queue.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.missed > 0 {
            return Poll::Ready(Some(StreamedEvent::Lagged(std::mem::take(&mut state.missed))));
        }
        match state.events.pop_front() {
            Some(event) => Poll::Ready(Some(StreamedEvent::Event(event))),
            None if state.closed => Poll::Ready(None),
            None => {
                state.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The queue behind [`Events`].
#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    state: Mutex<QueueState>,
}

#[derive(Debug, Default)]
struct QueueState {
    events: VecDeque<CoreEvent>,
    missed: u64,
    closed: bool,
    waker: Option<Waker>,
}

impl EventSink for EventQueue {
    fn event(&self, _tag: u64, event: &CoreEvent) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.events.len() >= STREAM_CAPACITY {
            state.events.pop_front();
            state.missed += 1;
        }
        state.events.push_back(event.clone());
        state.closed |= matches!(event, CoreEvent::Close);
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_slow_reader_learns_that_it_missed_something_and_memory_stays_bounded() {
        let queue = Arc::new(EventQueue::default());
        let mut events = Events::new(queue.clone(), None);
        for length in 1..=STREAM_CAPACITY as u64 + 3 {
            queue.event(0, &CoreEvent::Append { length, byte_length: 0 });
        }
        queue.event(0, &CoreEvent::Close);
        block_on(async {
            assert!(matches!(events.next().await, Some(StreamedEvent::Lagged(4))));
            assert!(matches!(
                events.next().await,
                Some(StreamedEvent::Event(CoreEvent::Append { length: 5, .. }))
            ));
            let rest: Vec<_> = events.collect().await;
            assert_eq!(rest.len(), STREAM_CAPACITY - 1);
            assert!(matches!(rest.last(), Some(StreamedEvent::Event(CoreEvent::Close))));
        });
    }
}
