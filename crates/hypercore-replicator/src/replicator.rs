//! The replicator of one log: its peers, and what every call ends with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use hypercore::core::{Core, Updates};
use hypercore::demand::Demand;
use hypercore_protocol::messages::{Extension, Message};

use crate::events::{CloseReason, Event, PeerInfo, Stats};
use crate::forks::Reorgs;
use crate::in_flight::BlockTable;
use crate::options::Options;
use crate::peer::{Peer, PeerId};
use crate::random::Random;
use crate::receive::Answer;
use crate::wishes::Wishes;

/// Extension messages that wait for a peer, beyond which new ones are dropped.
const MAX_EXTENSIONS: usize = 1_024;
/// The same in bytes.
const MAX_EXTENSION_BYTES: usize = 16 << 20;
/// Events that the driver has not taken yet, beyond which the oldest extension messages are dropped.
const MAX_EVENTS: usize = 4_096;

/// Replicates one log with any number of peers. See the [crate documentation](crate) for how it is driven.
#[derive(Debug)]
pub struct Replicator {
    pub(crate) options: Options,
    pub(crate) random: Random,
    /// Boxed, as a map has room for eleven in its first node and mostly one is there.
    pub(crate) peers: BTreeMap<PeerId, Box<Peer>>,
    pub(crate) wishes: Wishes,
    pub(crate) blocks: BlockTable,
    /// Who was asked for an upgrade: one at a time is enough.
    pub(crate) upgrading: Option<PeerId>,
    /// Who was asked for the manifest.
    pub(crate) manifest_from: Option<PeerId>,
    pub(crate) reorgs: Reorgs,
    /// Sessions are open.
    pub(crate) in_use: bool,
    /// The last session closed, but another one may open soon.
    pub(crate) lingers_until: Option<Instant>,
    /// Channels that were offered and are not answered yet.
    pub(crate) opening: u32,
    /// Until when those that are not answered may still bring somebody.
    pub(crate) opening_until: Option<Instant>,
    pub(crate) had_peers: bool,
    pub(crate) finding_peers: bool,
    pub(crate) events: VecDeque<Event>,
    pub(crate) ready: VecDeque<PeerId>,
    /// Peers that may be asked for more.
    pub(crate) hungry: BTreeSet<PeerId>,
    /// When peers with nothing to do look at what slower ones owe.
    pub(crate) swap_at: Option<Instant>,
    /// When to look again whether a peer has become an answer by its silence.
    pub(crate) recheck_at: Option<Instant>,
    /// Whose turn it is to be answered, see [`Replicator::poll_transmit`].
    pub(crate) turn: PeerId,
    /// Fork that requests are for.
    pub(crate) fork: u64,
    pub(crate) was_downloading: bool,
    following: bool,
    pub(crate) stats: Stats,
}

impl Default for Replicator {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

/// Peers and what comes from them.
impl Replicator {
    /// Without peers.
    pub fn new(options: Options) -> Self {
        Self {
            random: Random::new(options.seed),
            options,
            peers: BTreeMap::new(),
            wishes: Wishes::default(),
            blocks: BlockTable::default(),
            upgrading: None,
            manifest_from: None,
            reorgs: Reorgs::default(),
            in_use: false,
            lingers_until: None,
            opening: 0,
            opening_until: None,
            had_peers: false,
            finding_peers: false,
            events: VecDeque::new(),
            ready: VecDeque::new(),
            hungry: BTreeSet::new(),
            swap_at: None,
            recheck_at: None,
            turn: PeerId(0),
            fork: 0,
            was_downloading: false,
            following: false,
            stats: Stats::default(),
        }
    }

    /// A channel was offered to a connection and is not answered yet; an update waits for it.
    pub fn channel_opening(&mut self, now: Instant) {
        self.opening = self.opening.saturating_add(1);
        // Who has not answered by then keeps nobody waiting.
        self.opening_until = Some(now + self.options.patience);
    }

    /// An offered channel was answered, one way or the other. When it was opened, call it after
    /// [`Replicator::open_peer`], so that an update that waits for it goes on waiting for the peer.
    pub fn channel_answered(&mut self, core: &mut Core, demand: &mut Demand, now: Instant) {
        self.opening = self.opening.saturating_sub(1);
        self.finish(core, demand, now);
    }

    /// Both sides opened the channel.
    pub fn open_peer(&mut self, id: PeerId, core: &mut Core, demand: &mut Demand, now: Instant) {
        self.follow(core, demand);
        if self.peers.contains_key(&id) {
            return;
        }
        let mut peer = Peer::new(core, now);
        self.tell_contiguous(&mut peer, core);
        self.peers.insert(id, Box::new(peer));
        self.had_peers = true;
        self.event(Event::PeerAdded(id));
        if core.frozen() {
            self.close(id, CloseReason::Conflict);
        }
        self.finish(core, demand, now);
    }

    /// The channel is gone. Returns true when it was only closed because nobody wanted anything, and we do now: then
    /// it should be opened again.
    pub fn close_peer(
        &mut self,
        id: PeerId,
        is_remote: bool,
        core: &mut Core,
        demand: &mut Demand,
        now: Instant,
    ) -> bool {
        let Some(mut peer) = self.peers.remove(&id) else { return false };
        self.release_requests(id, &mut peer);
        self.left_fork(id, peer.remote.fork);
        self.hungry.remove(&id);
        if self.manifest_from == Some(id) {
            self.manifest_from = None;
        }
        self.event(Event::PeerRemoved(id));
        self.all_hungry();
        self.finish(core, demand, now);
        is_remote && peer.synced && !peer.remote.downloading && peer.remote.uploading && self.is_downloading()
    }

    /// Everything that one read brought on a peer's channel, in order.
    pub fn handle(
        &mut self,
        id: PeerId,
        messages: Vec<Message>,
        core: &mut Core,
        demand: &mut Demand,
        now: Instant,
    ) {
        self.follow(core, demand);
        let mut answers: Vec<Answer> = Vec::new();
        for message in messages {
            if self.peers.get(&id).is_none_or(|peer| peer.closing) {
                break;
            }
            match message {
                Message::Synchronize(sync) => self.on_sync(id, sync, core),
                Message::Request(request) => self.on_request(id, request, core),
                Message::Cancel(cancel) => self.on_cancel(id, cancel.request),
                Message::Data(data) => answers.extend(self.on_data(id, data, core, now)),
                Message::NoData(no_data) => self.on_no_data(id, no_data, now),
                Message::Want(want) => self.on_want(id, want),
                Message::Unwant(unwant) => {
                    if let Some(peer) = self.peers.get_mut(&id) {
                        peer.remote_wants.remove(&unwant);
                    }
                }
                Message::Bitfield(bitfield) => {
                    self.on_bitfield(id, &bitfield);
                    self.on_echo(id, now);
                }
                Message::Range(range) => {
                    let before = self.told_contiguous(id);
                    self.on_range(id, range, core);
                    // Else it tells of what was appended or cleared.
                    if self.told_contiguous(id) == before {
                        self.on_echo(id, now);
                    }
                }
                Message::Extension(Extension { name, message }) => {
                    self.event(Event::Extension { peer: id, name, message });
                }
            }
        }
        self.receive(id, answers, core, now);
        self.hungry.insert(id);
        self.finish(core, demand, now);
    }

    /// Something was appended, truncated, cleared, wanted or cancelled by others than this replicator.
    pub fn core_changed(&mut self, core: &mut Core, demand: &mut Demand, now: Instant) {
        self.finish(core, demand, now);
    }

    /// Whether anybody uses the log (npm `hypercore` 11: sessions that are open). Peers of which neither wants
    /// anything close the channel. When it becomes true, offer the channel on connections that have none.
    pub fn set_downloading(&mut self, in_use: bool, core: &mut Core, demand: &mut Demand, now: Instant) {
        if in_use != self.in_use {
            self.in_use = in_use;
            self.lingers_until = (!in_use).then_some(now + self.options.linger);
        }
        self.finish(core, demand, now);
    }

    /// Whether peers are being looked for: an update then waits for the first one.
    pub fn set_finding_peers(&mut self, finding: bool, core: &mut Core, demand: &mut Demand, now: Instant) {
        self.finding_peers = finding;
        self.finish(core, demand, now);
    }

    /// Whether the connection of a peer has room. While it has not, no answers are made for it.
    pub fn set_writable(&mut self, id: PeerId, writable: bool) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.writable = writable;
        }
        self.announce(id);
    }

    /// Sends an extension message. False when there is no such peer, or too much waits for it.
    pub fn extension(&mut self, id: PeerId, name: &str, message: Bytes) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        let waiting = peer.outbox.iter().map(|waiting| match waiting {
            Message::Extension(extension) => extension.message.len(),
            _ => 0,
        });
        if peer.closing
            || peer.outbox.len() >= MAX_EXTENSIONS
            || waiting.sum::<usize>().saturating_add(message.len()) > MAX_EXTENSION_BYTES
        {
            return false;
        }
        peer.outbox.push_back(Message::Extension(Extension { name: name.to_owned(), message }));
        self.announce(id);
        true
    }

    /// Sends an extension message to all peers.
    pub fn broadcast_extension(&mut self, name: &str, message: &Bytes) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            self.extension(id, name, message.clone());
        }
    }
}

/// Looking in.
impl Replicator {
    /// What the driver should know or do.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// A peer that has something to send and was not named since it had nothing.
    pub fn poll_ready(&mut self) -> Option<PeerId> {
        while let Some(id) = self.ready.pop_front() {
            if let Some(peer) = self.peers.get_mut(&id) {
                peer.announced = false;
                return Some(id);
            }
        }
        None
    }

    /// True when nothing is left to do here: no peers, nobody lingers.
    pub fn is_idle(&self) -> bool {
        self.peers.is_empty() && self.opening == 0 && self.lingers_until.is_none()
    }

    /// Whether peers are told that we want blocks.
    pub fn is_downloading(&self) -> bool {
        self.in_use || self.lingers_until.is_some() || !self.wishes.is_empty() || !self.blocks.is_empty()
    }

    /// All peers.
    pub fn peers(&self) -> impl Iterator<Item = PeerInfo> {
        self.peers.iter().map(|(id, peer)| PeerInfo {
            peer: *id,
            fork: peer.remote.fork,
            length: peer.remote.length,
            contiguous_length: peer.blocks.contiguous_length(),
            uploading: peer.remote.uploading,
            downloading: peer.remote.downloading,
            in_flight: peer.in_flight(),
            window: peer.download.as_ref().map_or(0, |download| download.window.limit()),
            round_trip: peer
                .download
                .as_ref()
                .map(|download| download.window.round_trip())
                .unwrap_or_default(),
            paused: peer.paused,
        })
    }

    /// How many peers there are.
    pub fn peer_count(&self) -> usize {
        self.peers.len()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}

/// What every call ends with.
impl Replicator {
    /// Begins to follow core and demand.
    fn follow(&mut self, core: &mut Core, demand: &mut Demand) {
        if !self.following {
            self.following = true;
            self.fork = core.fork();
            core.track_updates(true);
            core.take_updates();
            demand.track_changes(true);
        }
    }

    /// Takes over what changed, tells peers, and asks them for what is wanted.
    pub(crate) fn finish(&mut self, core: &mut Core, demand: &mut Demand, now: Instant) {
        self.follow(core, demand);
        loop {
            demand.settle(core);
            let updates = core.take_updates();
            if !updates.is_empty() {
                self.on_updates(&updates, core);
            }
            self.follow_demand(demand, core);
            if !self.retry_parked(core, now) {
                break;
            }
        }
        if self.lingers_until.is_some_and(|until| until <= now) {
            self.lingers_until = None;
        }
        if core.frozen() {
            return self.announce_all();
        }
        self.schedule_hungry(core, demand, now);
        self.settle_upgrades(core, demand, now);
        self.settle_if_available(core, demand, now);
        self.settle_seeks(core, demand, now);
        let wishes = &self.wishes;
        if !wishes.if_available.is_empty() || !wishes.upgrades.is_empty() || !wishes.seeks.is_empty() {
            // Their owners may be gone by now.
            self.follow_demand(demand, core);
        }
        self.tell_downloading();
        self.announce_all();
    }

    fn follow_demand(&mut self, demand: &mut Demand, core: &Core) {
        let blocks = &self.blocks;
        let followed = self.wishes.follow(demand, |index| blocks.contains(index));
        if followed.added {
            self.all_hungry();
        }
        for index in followed.given_up {
            self.give_up(index, core);
        }
    }

    fn on_updates(&mut self, updates: &Updates, core: &mut Core) {
        if core.fork() != self.fork || updates.truncated.is_some() {
            self.fork = core.fork();
            self.drop_old_requests(core);
            self.reorgs.forget(core.fork());
        }
        self.broadcast(updates, core);
        if updates.head_changed || updates.manifest || updates.resync || updates.truncated.is_some() {
            self.all_hungry();
            for seek in &mut self.wishes.seeks {
                seek.attempts = 0;
            }
        }
    }

    /// Tells peers whether we download, when that changed, and closes those with whom there is nothing to do.
    fn tell_downloading(&mut self) {
        let downloading = self.is_downloading();
        if downloading == self.was_downloading {
            return;
        }
        self.was_downloading = downloading;
        let mut idle = Vec::new();
        for (id, peer) in &mut self.peers {
            peer.sync_due = true;
            if !downloading && peer.synced && !peer.remote.downloading {
                idle.push(*id);
            }
        }
        for id in idle {
            self.close(id, CloseReason::Idle);
        }
    }

    pub(crate) fn all_hungry(&mut self) {
        self.hungry.extend(self.peers.keys());
    }

    /// Asks the driver to close a channel, once.
    pub(crate) fn close(&mut self, id: PeerId, reason: CloseReason) {
        let Some(mut peer) = self.peers.remove(&id) else { return };
        if !peer.closing {
            peer.closing = true;
            self.release_requests(id, &mut peer);
            if reason != CloseReason::Conflict {
                peer.outbox.clear();
                peer.upload = None;
            }
            peer.have.clear();
            peer.asked_us.clear();
            self.event(Event::Close { peer: id, reason });
            self.all_hungry();
        }
        self.peers.insert(id, peer);
    }

    pub(crate) fn event(&mut self, event: Event) {
        if self.events.len() >= MAX_EVENTS
            && let Some(at) = self.events.iter().position(|event| matches!(event, Event::Extension { .. }))
        {
            self.events.remove(at);
        }
        self.events.push_back(event);
    }

    pub(crate) fn announce(&mut self, id: PeerId) {
        if let Some(peer) = self.peers.get_mut(&id)
            && !peer.announced
            && peer.has_work()
        {
            peer.announced = true;
            self.ready.push_back(id);
        }
    }

    fn announce_all(&mut self) {
        for (id, peer) in &mut self.peers {
            if !peer.announced && peer.has_work() {
                peer.announced = true;
                self.ready.push_back(*id);
            }
        }
    }
}
