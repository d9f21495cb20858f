//! Who has what: the states, ranges and bitfields that peers exchange.
//!
//! Facts from npm `hypercore` 11.37.1, `lib/replicator.js`: when a sync is sent (`signalUpgrade`), which ranges are
//! told to whom (`broadcastRange`), how wants are answered (`_onwant`).

use hypercore::core::{Core, HaveRange, Updates};
use hypercore_protocol::messages::{Bitfield, Message, Range, Synchronize, Want};

use crate::events::CloseReason;
use crate::peer::{Peer, PeerId};
use crate::replicator::Replicator;
use crate::wants::SEGMENT;

/// The newest blocks are announced to everybody, older ones only to those who asked.
const LAST_BLOCKS: u64 = 256;
/// Runs that wait to be told to a peer, beyond which it is told the whole again.
const MAX_HAVE: usize = 512;
/// Wants of a peer that wait for their answer; JS has 512 segments at most.
const MAX_ASKED: usize = 1_024;

impl Replicator {
    pub(crate) fn on_sync(&mut self, id: PeerId, sync: Synchronize, core: &mut Core) {
        let downloading = self.is_downloading();
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.synced = true;
        if (sync.fork, sync.length) != (peer.remote.fork, peer.remote.length) {
            self.reorgs.forgive(sync.fork, id);
        }
        let before = peer.remote.fork;
        if sync.fork != before {
            // What it told was about another history.
            peer.local_wants.forget_all();
            peer.ask_soon();
        }
        peer.remote = sync;
        if sync.fork != before {
            self.left_fork(id, before);
        }
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !sync.downloading && !downloading {
            return self.close(id, CloseReason::Idle);
        }
        let same_fork = sync.fork == core.fork();
        peer.acked = if same_fork { sync.remote_length } else { 0 };
        let could_upgrade = peer.can_upgrade;
        if peer.refresh_can_upgrade(core).is_err() {
            peer.can_upgrade = false;
        }
        // Only then does the remote need an answer, else syncs would go to and fro without end.
        if same_fork && (core.length() > sync.length || could_upgrade != peer.can_upgrade) {
            peer.sync_due = true;
        }
        self.hungry.insert(id);
    }

    pub(crate) fn on_range(&mut self, id: PeerId, range: Range, core: &mut Core) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let end = range.start.saturating_add(range.length);
        if range.drop {
            peer.blocks.clear_range(range.start, end);
            // JS announces nothing that it takes us to have, be it of a history that is gone: so ask.
            peer.local_wants.forget_range(range.start, end);
            peer.ask_soon();
            return;
        }
        peer.blocks.set_range(range.start, end);
        let contiguous = peer.blocks.contiguous_length().min(peer.remote.length);
        if peer.remote.fork == core.fork() && contiguous > core.remote_contiguous_length() {
            core.set_remote_contiguous_length(contiguous);
        }
    }

    pub(crate) fn on_bitfield(&mut self, id: PeerId, bitfield: &Bitfield) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.blocks.insert(bitfield.start, bitfield.words());
        }
    }

    pub(crate) fn on_want(&mut self, id: PeerId, want: Want) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if !peer.remote_wants.add(&want) || !peer.is_active() || peer.asked_us.contains(&want) {
            return;
        }
        if peer.asked_us.len() >= MAX_ASKED {
            let reason = format!("more than {MAX_ASKED} wants at once");
            return self.close(id, CloseReason::Misbehaved(reason));
        }
        peer.asked_us.push_back(want);
    }

    /// The answer to a want; empty when there is nothing to tell.
    pub(crate) fn answer_want(want: &Want, core: &Core) -> Vec<Message> {
        let contiguous = core.contiguous_length();
        let end = want.start.saturating_add(want.length);
        if end < contiguous || contiguous == core.length() || want.any && want.start < contiguous {
            // Also when there are none, as JS does.
            return vec![Message::Range(Range { drop: false, start: 0, length: contiguous })];
        }
        let end = end.min(core.length());
        if want.any {
            return match core.first_present(want.start, end) {
                Ok(Some(start)) => vec![Message::Range(Range { drop: false, start, length: 1 })],
                _ => Vec::new(),
            };
        }
        let bits = end.saturating_sub(want.start);
        let pieces = core.wire_bitfield(want.start, bits).unwrap_or_default();
        let pieces = pieces.into_iter();
        pieces.map(|(start, bitfield)| Message::Bitfield(Bitfield { start, bitfield })).collect()
    }

    /// Our state as a peer is told it.
    pub(crate) fn state_for(&self, peer: &Peer, core: &Core) -> Synchronize {
        let same_fork = core.fork() == peer.remote.fork;
        Synchronize {
            fork: core.fork(),
            length: core.length(),
            remote_length: if same_fork { peer.remote.length } else { 0 },
            can_upgrade: same_fork && peer.can_upgrade,
            uploading: true,
            downloading: self.is_downloading(),
            has_manifest: core.has_manifest() && !core.is_compat(),
            allow_push: self.options.allow_push && self.is_downloading(),
        }
    }

    /// Tells a peer what changed in our log.
    pub(crate) fn broadcast(&mut self, updates: &Updates, core: &Core) {
        for peer in self.peers.values_mut().filter(|peer| peer.is_active()) {
            if let Some(cut) = updates.truncated {
                peer.told_complete = peer.told_complete.min(cut.new_length);
                if cut.old_length > cut.new_length {
                    let length = cut.old_length - cut.new_length;
                    queue_have(peer, HaveRange { start: cut.new_length, length, drop: true });
                }
            }
            if updates.head_changed || updates.manifest || updates.resync || updates.truncated.is_some() {
                peer.sync_due = true;
            }
            if (updates.head_changed || !peer.can_upgrade) && peer.refresh_can_upgrade(core).is_err() {
                peer.can_upgrade = false;
            }
            if updates.resync {
                tell_everything(peer, core);
                continue;
            }
            for have in &updates.have {
                tell_have(peer, *have, core);
            }
        }
    }

    /// What a new peer is told unasked.
    pub(crate) fn tell_contiguous(&self, peer: &mut Peer, core: &Core) {
        let contiguous = core.contiguous_length();
        if contiguous > 0 {
            tell_have(peer, HaveRange { start: 0, length: contiguous, drop: false }, core);
        }
    }

    /// Asks a peer which blocks it has around `index`, unless that is known.
    pub(crate) fn want(peer: &mut Peer, index: u64, now: std::time::Instant) {
        if !peer.synced || peer.blocks.contiguous_length() >= peer.remote.length.max(index.saturating_add(1))
        {
            return;
        }
        peer.is_unknown |= index < peer.remote.length;
        let Some((want, unwant)) = peer.local_wants.add(index) else { return };
        peer.asked = Some(now);
        if let Some(unwant) = unwant {
            peer.outbox.push_back(Message::Unwant(unwant));
        }
        peer.outbox.push_back(Message::Want(want));
    }

    /// Asks a peer about the first segments of a range that it is not known to have.
    pub(crate) fn want_range(peer: &mut Peer, start: u64, end: u64, now: std::time::Instant) {
        for at in segments_to_ask(peer, start, end) {
            Self::want(peer, at, now);
        }
    }
}

/// A block of each of the segments of a range that a peer is asked about: the first ones that it is not known to have.
pub(crate) fn segments_to_ask(peer: &Peer, start: u64, end: u64) -> impl Iterator<Item = u64> + use<> {
    let end = end.min(peer.remote.length);
    let first = start.max(peer.blocks.contiguous_length());
    let next = |at: &u64| Some((at / SEGMENT + 1).saturating_mul(SEGMENT));
    std::iter::successors(Some(first), next).take_while(move |at| *at < end).take(3)
}

/// Tells a peer about a run, if it may care (`broadcastRange`).
fn tell_have(peer: &mut Peer, have: HaveRange, core: &Core) {
    let HaveRange { mut start, mut length, drop } = have;
    let complete = core.contiguous_length() == core.length();
    let old = start.saturating_add(length).saturating_add(LAST_BLOCKS) < core.length();
    if !drop && !complete && old && !peer.remote_wants.has_range(start, length) {
        return;
    }
    let mut force = false;
    if complete && !drop {
        (start, length) = (0, core.length());
        if peer.told_complete < length {
            peer.told_complete = length;
            force = true;
        }
    }
    // What a peer on another fork has is not what we have.
    let has_it =
        || peer.remote.fork == core.fork() && peer.blocks.covers(start, start.saturating_add(length));
    if length == 0 || !force && !drop && has_it() {
        return;
    }
    queue_have(peer, HaveRange { start, length, drop });
}

fn tell_everything(peer: &mut Peer, core: &Core) {
    peer.have.clear();
    let (contiguous, length) = (core.contiguous_length(), core.length());
    if contiguous < length {
        // Blocks may have gone: what is told next is the truth.
        let gone = HaveRange { start: contiguous, length: length - contiguous, drop: true };
        peer.have.push_back(gone);
    }
    if contiguous > 0 {
        peer.have.push_back(HaveRange { start: 0, length: contiguous, drop: false });
    }
    if contiguous == length {
        peer.told_complete = length;
    }
    peer.asked_us.extend(peer.remote_wants.iter());
    peer.asked_us.truncate(MAX_ASKED);
}

fn queue_have(peer: &mut Peer, have: HaveRange) {
    if let Some(last) = peer.have.back_mut()
        && last.drop == have.drop
    {
        let last_end = last.start.saturating_add(last.length);
        if have.start == last_end {
            last.length = last.length.saturating_add(have.length);
            return;
        }
        if have.start <= last.start && have.start.saturating_add(have.length) >= last_end {
            *last = have;
            return;
        }
    }
    if peer.have.len() >= MAX_HAVE {
        // The peer does not read. What it misses costs it a request that gets no data.
        if !have.drop {
            return;
        }
        peer.have.pop_front();
    }
    peer.have.push_back(have);
}
