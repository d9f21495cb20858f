//! Events on their way to one client.
//!
//! Cores tell of what happens from whatever thread it happens on. A mailbox takes that in order, without waiting,
//! and wakes the client's connection, which turns the events into frames before it answers anything further: so an
//! OnAppend always goes out before the answer to the append that caused it.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use bytes::Bytes;
use hypercore::events::{CoreEvent, EventSink, PeerInfo};
use hyperspace_common::{
    Method, Outbox,
    messages::{AppendEvent, CloseEvent, DownloadEvent, FeedEvent, Peer, PeerEvent, UploadEvent},
};

/// From so many waiting events on, appends to one core are told together.
const GATHER_FROM: usize = 1024;
/// A client that leaves more events than this unread is let go.
const MAX_EVENTS: usize = 65_536;

/// Something to tell a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Append { session: u64, length: u64, byte_length: u64 },
    PeerOpen { session: u64, peer: Arc<PeerInfo> },
    PeerRemove { session: u64, peer: Arc<PeerInfo> },
    Close { session: u64 },
    Download { session: u64, seq: u64, bytes: u64 },
    Upload { session: u64, seq: u64, bytes: u64 },
    Feed { key: [u8; 32] },
    NetworkPeerAdd { peer: Arc<PeerInfo> },
    NetworkPeerRemove { peer: Arc<PeerInfo> },
}

/// The events that wait for one client.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Event>,
    overflow: bool,
    waker: Option<Waker>,
}

impl Mailbox {
    /// Takes an event and wakes the connection.
    pub(crate) fn push(&self, event: Event) {
        let waker = {
            let mut state = self.lock();
            state.push(event);
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Turns what waits into frames. False when the client let too many pile up.
    pub(crate) fn drain(&self, outbox: &mut Outbox) -> bool {
        let mut state = self.lock();
        for event in state.events.drain(..) {
            event.write(outbox);
        }
        if state.events.capacity() > 4 * GATHER_FROM {
            state.events.shrink_to(GATHER_FROM);
        }
        !state.overflow
    }

    /// Asks to be woken by the next event. True when there is one already.
    pub(crate) fn register(&self, context: &Context<'_>) -> bool {
        let mut state = self.lock();
        if !state.events.is_empty() || state.overflow {
            return true;
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            state.waker = Some(context.waker().clone());
        }
        false
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn push(&mut self, event: Event) {
        if self.events.len() >= GATHER_FROM
            && let (
                Some(Event::Append { session: last, length, byte_length }),
                Event::Append { session, length: l, byte_length: b },
            ) = (self.events.back_mut(), &event)
            && last == session
        {
            (*length, *byte_length) = (*l, *b);
            return;
        }
        if self.events.len() >= MAX_EVENTS {
            self.overflow = true;
            return;
        }
        self.events.push_back(event);
    }
}

impl Event {
    fn write(self, outbox: &mut Outbox) {
        match self {
            Self::Append { session: id, length, byte_length } => {
                outbox.event(Method::HypercoreOnAppend, &AppendEvent { id, length, byte_length });
            }
            Self::PeerOpen { session: id, peer } => {
                outbox.event(Method::HypercoreOnPeerOpen, &PeerEvent { id, peer: wire_peer(&peer) });
            }
            Self::PeerRemove { session: id, peer } => {
                outbox.event(Method::HypercoreOnPeerRemove, &PeerEvent { id, peer: wire_peer(&peer) });
            }
            Self::Close { session: id } => outbox.event(Method::HypercoreOnClose, &CloseEvent { id }),
            Self::Download { session: id, seq, bytes } => {
                outbox
                    .event(Method::HypercoreOnDownload, &DownloadEvent { id, seq, byte_length: Some(bytes) });
            }
            Self::Upload { session: id, seq, bytes } => {
                outbox.event(Method::HypercoreOnUpload, &UploadEvent { id, seq, byte_length: bytes });
            }
            Self::Feed { key } => {
                outbox.event(Method::CorestoreOnFeed, &FeedEvent { key: Bytes::copy_from_slice(&key) });
            }
            Self::NetworkPeerAdd { peer } => {
                outbox.event(Method::NetworkOnPeerAdd, &PeerEvent { id: 0, peer: wire_peer(&peer) });
            }
            Self::NetworkPeerRemove { peer } => {
                outbox.event(Method::NetworkOnPeerRemove, &PeerEvent { id: 0, peer: wire_peer(&peer) });
            }
        }
    }
}

/// A peer as the RPC tells of it.
pub(crate) fn wire_peer(peer: &PeerInfo) -> Peer {
    Peer {
        remote_public_key: Bytes::copy_from_slice(&peer.remote_public_key),
        remote_address: peer.remote_address.clone(),
        r#type: peer.kind.clone(),
    }
}

/// What a subscription lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Appends and peers: what every session is told.
    Session,
    /// The same and the core's end.
    WeakSession,
    /// Blocks that came.
    Downloads,
    /// Blocks that went.
    Uploads,
}

/// Brings a core's events to a mailbox; the tag is the session.
pub(crate) struct Forward {
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) interest: Interest,
}

impl EventSink for Forward {
    fn event(&self, session: u64, event: &CoreEvent) {
        let event = match (self.interest, event) {
            (Interest::Session | Interest::WeakSession, event) => match event {
                CoreEvent::Append { length, byte_length } => {
                    Event::Append { session, length: *length, byte_length: *byte_length }
                }
                CoreEvent::PeerAdded(peer) => Event::PeerOpen { session, peer: peer.clone() },
                CoreEvent::PeerRemoved(peer) => Event::PeerRemove { session, peer: peer.clone() },
                CoreEvent::Close if self.interest == Interest::WeakSession => Event::Close { session },
                _ => return,
            },
            (Interest::Downloads, CoreEvent::Download { index, bytes }) => {
                Event::Download { session, seq: *index, bytes: *bytes as u64 }
            }
            (Interest::Uploads, CoreEvent::Upload { index, bytes }) => {
                Event::Upload { session, seq: *index, bytes: *bytes as u64 }
            }
            _ => return,
        };
        self.mailbox.push(event);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyperspace_common::{Decoder, decode};

    fn append(session: u64, length: u64) -> Event {
        Event::Append { session, length, byte_length: 10 * length }
    }

    fn lengths(mailbox: &Mailbox) -> Vec<u64> {
        let mut outbox = Outbox::new();
        mailbox.drain(&mut outbox);
        let bytes = outbox.take();
        let mut at = 0;
        let mut lengths = Vec::new();
        while let Some(frame) = Decoder::default().next(&bytes[at..]).unwrap() {
            let event: AppendEvent = decode(&bytes[at..][frame.payload]).unwrap();
            lengths.push(event.length);
            at += frame.end;
        }
        lengths
    }

    #[test]
    fn one_append_one_event() {
        let mailbox = Mailbox::default();
        for length in 1..=100 {
            mailbox.push(append(0, length));
        }
        assert_eq!(lengths(&mailbox), (1..=100).collect::<Vec<_>>());
    }

    #[test]
    fn a_client_that_falls_behind_gets_the_newest_length_only() {
        let mailbox = Mailbox::default();
        for length in 1..=1_000_000 {
            mailbox.push(append(0, length));
        }
        let lengths = lengths(&mailbox);
        assert_eq!(lengths.len(), GATHER_FROM);
        assert_eq!(lengths.last(), Some(&1_000_000));
    }

    #[test]
    fn a_client_that_reads_nothing_is_noticed() {
        let mailbox = Mailbox::default();
        for length in 0..=MAX_EVENTS as u64 {
            mailbox.push(append(length % 2, length));
        }
        assert!(!mailbox.drain(&mut Outbox::new()));
    }

    #[test]
    fn who_waits_is_woken_once_an_event_is_there() {
        let mailbox = Mailbox::default();
        let context = Context::from_waker(Waker::noop());
        assert!(!mailbox.register(&context));
        mailbox.push(append(0, 1));
        assert!(mailbox.register(&context));
    }
}
