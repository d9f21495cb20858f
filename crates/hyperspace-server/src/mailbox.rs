//! Events on their way to one client.
//!
//! Cores tell of what happens from whatever thread it happens on. A mailbox takes that in order, without waiting,
//! and wakes the client's connection, which turns the events into frames before it answers anything further: so an
//! OnAppend always goes out before the answer to the append that caused it.

#[cfg(test)]
mod tests;

use std::{
    collections::{HashSet, VecDeque},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
    time::Duration,
};

use bytes::Bytes;
use hypercore::events::{CoreEvent, EventSink, PeerInfo};
use hyperspace_common::{
    Method, Outbox,
    messages::{
        AppendEvent, CloseEvent, DownloadEvent, ExtensionMessage, FeedEvent, Peer, PeerEvent, TruncateEvent,
        UploadEvent,
    },
};
use tokio::{
    runtime::Handle,
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::limits::MAX_UNREAD;

/// From so many waiting events on, appends to one core are told together.
const GATHER_FROM: usize = 1024;
/// What an event counts for, besides the data that it carries: at least as much as it takes in memory and on the wire.
const EVENT_BYTES: usize = size_of::<Event>() + 64;

/// How long the news that a peer has made a core longer waits for more of the same, when nothing else is to be said.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long the news that a peer has connected waits for what the peer does first.
const ACQUAINTANCE: Duration = Duration::from_millis(50);
/// Among how many waiting events the last news of the same session is looked for.
const NEWS_LOOKED_AT: usize = 16;

/// Something to tell a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Append { session: u64, length: u64, byte_length: u64 },
    Truncate { session: u64, length: u64, byte_length: u64, fork: u64 },
    PeerOpen { session: u64, peer: Arc<PeerInfo> },
    PeerRemove { session: u64, peer: Arc<PeerInfo> },
    Close { session: u64 },
    Download { session: u64, seq: u64, bytes: u64 },
    Upload { session: u64, seq: u64, bytes: u64 },
    Extension { session: u64, resource: u64, remote: [u8; 32], data: Bytes },
    NetworkExtension { resource: u64, remote: [u8; 32], data: Bytes },
    Feed { key: [u8; 32] },
    NetworkPeerAdd { peer: Arc<PeerInfo> },
    NetworkPeerRemove { peer: Arc<PeerInfo> },
}

/// The events that wait for one client.
#[derive(Debug)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    /// Somebody who waits for that may look whether everything was told.
    told: Notify,
}

#[derive(Debug)]
struct State {
    events: VecDeque<Event>,
    /// What the events count for.
    bytes: usize,
    /// What the connection has ready and cannot write, in bytes.
    unsent: usize,
    /// The most that both may be together.
    limit: usize,
    overflow: bool,
    /// How many events have come, how many were turned into frames, and how many of these were handed to the
    /// connection's stream.
    pushed: u64,
    drained: u64,
    written: u64,
    gone: bool,
    /// The client knows who is connected, and is told who comes and goes.
    network: bool,
    /// Peers that have connected, and until when that may wait; in order.
    newcomers: VecDeque<(Instant, Arc<PeerInfo>)>,
    /// Somebody looks after that.
    are_newcomers_timed: bool,
    /// All that waits is news that may wait until then.
    patient_until: Option<Instant>,
    /// Somebody looks after that.
    is_timed: bool,
    waker: Option<Waker>,
}

impl Default for Mailbox {
    fn default() -> Self {
        Self::new(MAX_UNREAD)
    }
}

impl Mailbox {
    /// For a client that may leave so many bytes unread.
    pub(crate) fn new(limit: usize) -> Self {
        let state = State {
            events: VecDeque::new(),
            bytes: 0,
            unsent: 0,
            limit,
            overflow: false,
            pushed: 0,
            drained: 0,
            written: 0,
            gone: false,
            network: false,
            newcomers: VecDeque::new(),
            are_newcomers_timed: false,
            patient_until: None,
            is_timed: false,
            waker: None,
        };
        Self { state: Mutex::new(state), told: Notify::new() }
    }

    /// Takes an event and wakes the connection.
    pub(crate) fn push(&self, event: Event) {
        let waker = {
            let mut state = self.lock();
            state.push(event);
            state.hurry()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes the news that a peer has made a core longer. Until the client asks for something, or is told something
    /// else, this waits a while for more of the same: programs of the Node daemon's day count on one event for an
    /// update, however many appends that brings.
    pub(crate) fn push_patient(self: &Arc<Self>, event: Event) {
        let Ok(runtime) = Handle::try_current() else { return self.push(event) };
        let mut state = self.lock();
        if state.patient_until.is_none() && !state.events.is_empty() {
            // The client is about to be told other things, and this with them.
            return state.push(event);
        }
        state.push_news(event);
        state.patient_until.get_or_insert_with(|| Instant::now() + PATIENCE);
        if !std::mem::replace(&mut state.is_timed, true) {
            runtime.spawn(self.clone().end_patience());
        }
    }

    async fn end_patience(self: Arc<Self>) {
        loop {
            let until = {
                let mut state = self.lock();
                match state.patient_until {
                    Some(until) if until > Instant::now() => until,
                    ended => {
                        state.is_timed = false;
                        let waker = ended.and_then(|_| state.hurry());
                        drop(state);
                        return waker.into_iter().for_each(Waker::wake);
                    }
                }
            };
            sleep_until(until).await;
        }
    }

    /// Whether there is news that could wait, were the client not told something now.
    pub(crate) fn is_patient(&self) -> bool {
        let state = self.lock();
        state.patient_until.is_some() || !state.newcomers.is_empty()
    }

    /// Adds the sessions that will be told of their cores' lengths.
    pub(crate) fn sessions_with_news(&self, sessions: &mut HashSet<u64>) {
        let state = self.lock();
        sessions.extend(state.events.iter().filter_map(|event| match event {
            Event::Append { session, .. } => Some(*session),
            _ => None,
        }));
    }

    /// Takes the news that a peer has connected, if the client is told of the network's peers. Until the client asks for
    /// something this waits a short while, and goes out with the first thing that the peer does: programs that open a core as
    /// soon as they hear of a peer count on it being among the core's peers, as it is at the Node daemon.
    pub(crate) fn push_newcomer(self: &Arc<Self>, peer: Arc<PeerInfo>) {
        let mut state = self.lock();
        if !state.network {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            drop(state);
            return self.push(Event::NetworkPeerAdd { peer });
        };
        let until = Instant::now() + ACQUAINTANCE;
        state.newcomers.push_back((until, peer));
        if !std::mem::replace(&mut state.are_newcomers_timed, true) {
            runtime.spawn(self.clone().end_acquaintance(until));
        }
    }

    async fn end_acquaintance(self: Arc<Self>, mut until: Instant) {
        loop {
            sleep_until(until).await;
            let mut state = self.lock();
            let now = Instant::now();
            let waker = if state.has_acquaintance(now) { state.waker.take() } else { None };
            let next = state.newcomers.iter().map(|(until, _)| *until).find(|until| *until > now);
            state.are_newcomers_timed = next.is_some();
            drop(state);
            waker.into_iter().for_each(Waker::wake);
            match next {
                Some(next) => until = next,
                None => return,
            }
        }
    }

    /// Takes an event of the network, if the client knows what it goes on from.
    pub(crate) fn push_network(&self, event: Event) {
        if self.lock().network {
            self.push(event);
        }
    }

    /// From now on, the client is told of the network's peers.
    pub(crate) fn open_network(&self) {
        self.lock().network = true;
    }

    /// Turns what waits into frames. Returns the sessions whose end the client is told; `None` when it let too many events
    /// pile up.
    pub(crate) fn drain(&self, outbox: &mut Outbox) -> Option<Vec<u64>> {
        self.drain_with(outbox, true)
    }

    /// The same, but for newcomers that may wait on.
    pub(crate) fn drain_urgent(&self, outbox: &mut Outbox) -> Option<Vec<u64>> {
        self.drain_with(outbox, false)
    }

    fn drain_with(&self, outbox: &mut Outbox, all: bool) -> Option<Vec<u64>> {
        let mut ended = Vec::new();
        let mut state = self.lock();
        let now = Instant::now();
        while state.newcomers.front().is_some_and(|(until, _)| all || *until <= now)
            && let Some((_, peer)) = state.newcomers.pop_front()
        {
            state.add(Event::NetworkPeerAdd { peer });
        }
        state.drained = state.pushed;
        state.bytes = 0;
        state.patient_until = None;
        for event in state.events.drain(..) {
            if let Event::Close { session } = event {
                ended.push(session);
            }
            event.write(outbox);
        }
        state.unsent = outbox.len();
        if state.events.capacity() > 4 * GATHER_FROM {
            state.events.shrink_to(GATHER_FROM);
        }
        (!state.overflow).then_some(ended)
    }

    /// Asks to be woken by the next event. True when there is one already.
    pub(crate) fn register(&self, context: &Context<'_>) -> bool {
        let mut state = self.lock();
        let is_urgent = !state.events.is_empty() && state.patient_until.is_none();
        if is_urgent || state.has_acquaintance(Instant::now()) || state.overflow {
            return true;
        }
        state.wake_by(context);
        false
    }

    /// The connection is at work, and will ask again before it rests: nobody is woken for what it causes itself.
    pub(crate) fn at_work(&self) {
        self.lock().waker = None;
    }

    /// Asks to be woken by the next event, and leaves those that are there: the client has not read what came before
    /// them. How many bytes of events wait; `None` when they are too many.
    pub(crate) fn hold(&self, context: &Context<'_>) -> Option<usize> {
        let mut state = self.lock();
        state.wake_by(context);
        (!state.overflow).then_some(state.bytes)
    }

    /// What was drained has been handed to the connection's stream, as far as that takes it; so many bytes it did not
    /// take. When it is full, the client counts as told of everything: nobody waits for one that does not read.
    pub(crate) fn written(&self, unsent: usize, full: bool) {
        let mut state = self.lock();
        state.unsent = unsent;
        let written = if full { state.pushed } else { state.drained };
        if state.written < written {
            state.written = written;
            drop(state);
            self.told.notify_waiters();
        }
    }

    /// What waits for the client, in bytes.
    pub(crate) fn unread(&self) -> usize {
        let state = self.lock();
        state.bytes + state.unsent
    }

    /// The client is gone: nobody waits for it any more.
    pub(crate) fn gone(&self) {
        self.lock().gone = true;
        self.told.notify_waiters();
    }

    /// What has to be written until the client has been told everything that has happened; `None` when it has.
    /// Somebody waits for it: nothing waits for more any longer.
    pub(crate) fn untold(&self) -> Option<u64> {
        let mut state = self.lock();
        let untold = (state.written < state.pushed && !state.gone).then_some(state.pushed);
        let waker = state.patient_until.and_then(|_| state.hurry());
        drop(state);
        waker.into_iter().for_each(Waker::wake);
        untold
    }

    /// Waits until this much was written, or the client is gone.
    pub(crate) async fn told(&self, event: u64) {
        loop {
            let mut told = pin!(self.told.notified());
            // Registered before the look, so that what happens in between is not missed.
            told.as_mut().enable();
            {
                let state = self.lock();
                if state.written >= event || state.gone {
                    return;
                }
            }
            told.await;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What waits is to be told now, by whoever is to be woken for it.
    fn hurry(&mut self) -> Option<Waker> {
        self.patient_until = None;
        self.waker.take()
    }

    /// The news takes the place of what was not told yet.
    fn push_news(&mut self, event: Event) {
        if let Event::Append { session: new, .. } = &event {
            let of_session =
                |told: &&mut Event| matches!(told, Event::Append { session, .. } if session == new);
            if let Some(last) = self.events.iter_mut().rev().take(NEWS_LOOKED_AT).find(of_session) {
                *last = event;
                return;
            }
        }
        self.push(event);
    }

    /// There is a newcomer that waits no longer.
    fn has_acquaintance(&self, now: Instant) -> bool {
        self.newcomers.front().is_some_and(|(until, _)| *until <= now)
    }

    fn push(&mut self, event: Event) {
        // The client is to know the peer before it hears of what that does.
        if let Some(key) = event.by()
            && let Some(at) = self.newcomers.iter().position(|(_, peer)| peer.remote_public_key == key)
            && let Some((_, peer)) = self.newcomers.remove(at)
        {
            self.add(Event::NetworkPeerAdd { peer });
        }
        self.add(event);
    }

    fn add(&mut self, event: Event) {
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
        let bytes = event.counts_for();
        // Peers cannot be made to wait: a client that does not read misses messages.
        let is_message = matches!(event, Event::Extension { .. } | Event::NetworkExtension { .. });
        let limit = if is_message { self.limit / 2 } else { self.limit };
        if self.bytes.saturating_add(self.unsent).saturating_add(bytes) > limit {
            self.overflow |= !is_message;
            return;
        }
        self.bytes += bytes;
        self.pushed += 1;
        self.events.push_back(event);
    }

    fn wake_by(&mut self, context: &Context<'_>) {
        if !self.waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            self.waker = Some(context.waker().clone());
        }
    }
}

impl Event {
    /// The peer that does this.
    fn by(&self) -> Option<[u8; 32]> {
        match self {
            Self::PeerOpen { peer, .. } | Self::NetworkPeerRemove { peer } => Some(peer.remote_public_key),
            Self::Extension { remote, .. } | Self::NetworkExtension { remote, .. } => Some(*remote),
            _ => None,
        }
    }

    fn counts_for(&self) -> usize {
        let data = match self {
            Self::Extension { data, .. } | Self::NetworkExtension { data, .. } => data.len(),
            Self::PeerOpen { peer, .. }
            | Self::PeerRemove { peer, .. }
            | Self::NetworkPeerAdd { peer }
            | Self::NetworkPeerRemove { peer } => peer.remote_address.len() + peer.kind.len(),
            _ => 0,
        };
        EVENT_BYTES + data
    }

    fn write(self, outbox: &mut Outbox) {
        match self {
            Self::Append { session: id, length, byte_length } => {
                outbox.event(Method::HypercoreOnAppend, &AppendEvent { id, length, byte_length });
            }
            Self::Truncate { session: id, length, byte_length, fork } => {
                outbox.event(Method::LogOnTruncate, &TruncateEvent { id, length, byte_length, fork });
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
            Self::Extension { session: id, resource: resource_id, remote, data } => {
                let remote_public_key = Some(Bytes::copy_from_slice(&remote));
                let message = ExtensionMessage { id, resource_id, remote_public_key, data };
                outbox.event(Method::HypercoreOnExtension, &message);
            }
            Self::NetworkExtension { resource: resource_id, remote, data } => {
                let remote_public_key = Some(Bytes::copy_from_slice(&remote));
                let message = ExtensionMessage { id: 0, resource_id, remote_public_key, data };
                outbox.event(Method::NetworkOnExtension, &message);
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

/// How a session is told of its core's length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// In the words of npm `@hyperspace/rpc` 1.15.0. It has none for truncations: they are told as if by an append.
    Plain,
    /// So, too, of a core that only peers write: what they append in a short while is told at once.
    PlainOfPeers,
    /// Truncations as what they are.
    Full,
}

/// What a subscription lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interest {
    /// Appends and peers: what every session is told.
    Session {
        /// The core's end, too.
        end: bool,
        /// In which words.
        told: Told,
    },
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
            (Interest::Session { end, told }, event) => match event {
                &CoreEvent::Truncate { length, byte_length, fork } if told == Told::Full => {
                    Event::Truncate { session, length, byte_length, fork }
                }
                &CoreEvent::Truncate { length, byte_length, .. } => {
                    Event::Append { session, length, byte_length }
                }
                &CoreEvent::Append { length, byte_length } => {
                    let event = Event::Append { session, length, byte_length };
                    if told == Told::PlainOfPeers {
                        return self.mailbox.push_patient(event);
                    }
                    event
                }
                CoreEvent::PeerAdded(peer) => Event::PeerOpen { session, peer: peer.clone() },
                CoreEvent::PeerRemoved(peer) => Event::PeerRemove { session, peer: peer.clone() },
                CoreEvent::Close if end => Event::Close { session },
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
