//! What peers answer: taking it over in bursts, and what becomes of those that are silent, slow or wrong.

use std::time::Instant;

use bytes::Bytes;
use hypercore::ReceiveError;
use hypercore::core::{Core, Received};
use hypercore::proof::{Node, Proof, ProofRequest, RequestUpgrade};
use hypercore_protocol::messages::{Cancel, Data, Message, NoData, Request};

use crate::events::{CloseReason, Event};
use crate::in_flight::{Pending, PendingBlock};
use crate::peer::{Peer, PeerId};
use crate::replicator::Replicator;

/// Answers in a row that bring nothing, after which a peer is taken for one that lies.
const MAX_FRUITLESS: u16 = 128;
/// Answers that may wait for earlier ones.
const MAX_PARKED: usize = 512;
/// Bytes that those of one peer may have together.
const MAX_PARKED_BYTES: usize = 64 << 20;
/// Proofs of a conflict that a peer may send without being asked.
const MAX_UNSOLICITED: u8 = 4;
/// Wrong answers of a peer that may turn out to come from another history.
const MAX_STRIKES: u8 = 2;

/// An answer that is to be taken over.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Number of the request, 0 for what was pushed.
    id: u64,
    /// The request; none for what was pushed.
    pending: Option<Pending>,
    /// The block is still asked of others.
    copies: u8,
    /// It waited before: its block lies in memory of its own.
    waited: bool,
    proof: Proof,
}

/// What is needed to keep an answer if it turns out to have come too early.
struct Early {
    request: u64,
    proof: Proof,
    waited: bool,
}

/// An answer that came before an earlier one whose nodes it builds on. JS peers read the parts of an answer from
/// storage while they go on to the next request, so a few percent of their answers overtake others.
#[derive(Debug)]
pub(crate) struct Parked {
    id: u64,
    pub(crate) pending: Pending,
    pub(crate) block: PendingBlock,
    proof: Proof,
    /// See [`bytes_of`].
    bytes: usize,
}

/// Bytes of a proof in memory; none if it has what nobody asks for together with a block.
fn bytes_of(proof: &Proof) -> Option<usize> {
    let Proof { block, hash, seek, upgrade: None, manifest: None, .. } = proof else { return None };
    let nodes = block.as_ref().map_or(0, |block| block.nodes.len())
        + hash.as_ref().map_or(0, |hash| hash.nodes.len())
        + seek.as_ref().map_or(0, |seek| seek.nodes.len());
    let value = block.as_ref().map_or(0, |block| block.value.len());
    Some(value.saturating_add(nodes.saturating_mul(size_of::<Node>())))
}

impl Replicator {
    /// Matches an answer with its request.
    pub(crate) fn on_data(
        &mut self,
        id: PeerId,
        data: Data,
        core: &mut Core,
        now: Instant,
    ) -> Option<Answer> {
        let Data { request, proof } = data;
        if request == 0 {
            let welcome = self.options.allow_push && proof.fork == core.fork();
            let from_start = proof.upgrade.as_ref().filter(|upgrade| upgrade.start == 0);
            if let Some(upgrade) = from_start
                && !(welcome && upgrade.length > core.length())
            {
                self.on_conflict_proof(id, &proof, core);
                return None;
            }
            return welcome.then_some(Answer { id: 0, pending: None, copies: 0, waited: false, proof });
        }
        let size = proof.block.as_ref().map(|block| block.value.len());
        let peer = self.peers.get_mut(&id)?;
        let download = peer.download.as_mut()?;
        // Nothing is known of requests that were cancelled, or made before a fork.
        let pending = download.in_flight.take(request)?;
        download.heard = now;
        download.window.answered(request, download.in_flight.next_id(), pending.sent, now, size);
        let copies = self.clear_marks(id, &pending);
        if pending.reorg || proof.fork > core.fork() {
            // What was asked for on this fork was not answered: others may have it, or this one later.
            self.requeue(&pending, core);
            self.on_reorg_data(id, &pending, proof, core);
            if !pending.reorg {
                self.on_fruitless(id);
            }
            return None;
        }
        if proof.fork != pending.fork {
            self.requeue(&pending, core);
            self.on_fruitless(id);
            return None;
        }
        if !answers(&pending, &proof) {
            self.stats.invalid += 1;
            let reason = "it answered something that was not asked".to_owned();
            self.requeue(&pending, core);
            self.close(id, CloseReason::Misbehaved(reason));
            return None;
        }
        Some(Answer { id: request, pending: Some(pending), copies, waited: false, proof })
    }

    /// Takes over a burst of answers: verified together, stored in one commit.
    pub(crate) fn receive(&mut self, id: PeerId, mut answers: Vec<Answer>, core: &mut Core, now: Instant) {
        self.unpark(id, &mut answers);
        if answers.is_empty() {
            return;
        }
        // As they were asked: later ones build on earlier ones.
        if !answers.is_sorted_by_key(|answer| answer.id) {
            answers.sort_by_key(|answer| answer.id);
        }
        let download = self.peers.get(&id).and_then(|peer| peer.download.as_ref());
        let oldest = download.and_then(|download| download.in_flight.oldest_id()).unwrap_or(u64::MAX);
        let mut pending = Vec::with_capacity(answers.len());
        let mut proofs = Vec::with_capacity(answers.len());
        for answer in answers {
            let size = answer.proof.block.as_ref().map(|block| block.value.len());
            let early = (answer.id > oldest).then(|| Early {
                request: answer.id,
                proof: answer.proof.clone(),
                waited: answer.waited,
            });
            pending.push((answer.pending, answer.copies, size, early));
            proofs.push(answer.proof);
        }
        let results = core.receive(proofs);
        let mut lie = None;
        for ((pending, copies, size, early), result) in pending.into_iter().zip(results) {
            match result {
                Ok(received) => self.on_received(id, pending.as_ref(), copies, size, received, core),
                Err(error) => {
                    if error.is_stale()
                        && let (Some(pending), Some(early)) = (&pending, early)
                        && self.park(id, pending, early, core)
                    {
                        continue;
                    }
                    if let Some(pending) = &pending {
                        self.requeue(pending, core);
                    }
                    match error {
                        ReceiveError::BadPeer(reason) => lie = Some(reason),
                        ReceiveError::Stale(reason) => {
                            self.stats.stale += 1;
                            tracing::trace!(?id, reason, "stale answer");
                            self.on_fruitless(id);
                        }
                        ReceiveError::Storage(error) => self.on_storage_failure(id, error.to_string()),
                        _ => {}
                    }
                }
            }
        }
        if let Some(reason) = lie {
            self.on_lie(id, reason, core, now);
        }
    }

    /// Takes over answers that waited for earlier ones which will not come any more.
    /// False when there are none.
    pub(crate) fn retry_parked(&mut self, core: &mut Core, now: Instant) -> bool {
        let waits_for_nothing = |id: &PeerId| {
            let download = self.peers.get(id).and_then(|peer| peer.download.as_ref());
            download.is_some_and(|download| {
                let oldest = download.in_flight.oldest_id().unwrap_or(u64::MAX);
                download.parked.iter().any(|parked| parked.id < oldest)
            })
        };
        let ids: Vec<PeerId> = self.hungry.iter().copied().filter(waits_for_nothing).collect();
        for id in &ids {
            self.receive(*id, Vec::new(), core, now);
        }
        !ids.is_empty()
    }

    /// Keeps an answer until the ones before it have come. False when it cannot be kept.
    fn park(&mut self, id: PeerId, pending: &Pending, early: Early, core: &Core) -> bool {
        let Early { request, mut proof, waited } = early;
        let Some(peer) = self.peers.get_mut(&id).filter(|peer| peer.is_active()) else { return false };
        let (Some(download), Some(block)) = (peer.download.as_mut(), pending.block) else { return false };
        if download.parked.len() >= MAX_PARKED || pending.upgrade || pending.fork != core.fork() {
            return false;
        }
        let Some(bytes) = bytes_of(&proof) else { return false };
        let held: usize = download.parked.iter().map(|parked| parked.bytes).sum();
        if held.saturating_add(bytes) > MAX_PARKED_BYTES {
            return false;
        }
        if let Some(block) = proof.block.as_mut().filter(|_| !waited) {
            // As a part of what the peer sent it would keep all of that.
            block.value = Bytes::copy_from_slice(&block.value);
        }
        download.expected.add(block.index, block.nodes);
        self.blocks.add(block.index);
        self.wishes.dequeue(block.index);
        download.parked.push(Parked { id: request, pending: pending.clone(), block, proof, bytes });
        true
    }

    /// Adds the answers that were kept to a burst.
    fn unpark(&mut self, id: PeerId, answers: &mut Vec<Answer>) {
        let Some(download) = self.peers.get_mut(&id).and_then(|peer| peer.download.as_mut()) else { return };
        let oldest = download.in_flight.oldest_id().unwrap_or(u64::MAX);
        if answers.is_empty() && download.parked.iter().all(|parked| parked.id > oldest) {
            return; // nothing has changed for them
        }
        for parked in std::mem::take(&mut download.parked) {
            download.expected.remove(parked.block.index, parked.block.nodes);
            let copies = self.blocks.remove(parked.block.index);
            let Parked { id, pending, proof, .. } = parked;
            answers.push(Answer { id, pending: Some(pending), copies, waited: true, proof });
        }
    }

    fn on_received(
        &mut self,
        id: PeerId,
        pending: Option<&Pending>,
        copies: u8,
        size: Option<usize>,
        received: Received,
        core: &Core,
    ) {
        if let Some(index) = received.block {
            self.stats.blocks += 1;
            self.stats.block_bytes += size.unwrap_or(0) as u64;
            if copies > 0 {
                self.cancel_block(index);
            }
        }
        let Some(pending) = pending else { return };
        let wanted_block = pending.block.is_some();
        if wanted_block && received.block.is_none() {
            self.requeue(pending, core);
            self.on_fruitless(id);
            return;
        }
        let useful = received.block.is_some() || received.upgraded.is_some() || pending.hash.is_some();
        if useful && let Some(peer) = self.peers.get_mut(&id) {
            peer.fruitless = 0;
        } else if !pending.manifest {
            self.on_fruitless(id);
        }
    }

    pub(crate) fn on_no_data(&mut self, id: PeerId, no_data: NoData, now: Instant) {
        self.stats.no_data += 1;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if no_data.request == 0 {
            if peer.checking_conflict.is_some() {
                let reason = "it cannot prove the log that it sent blocks of".to_owned();
                self.close(id, CloseReason::Misbehaved(reason));
            }
            return;
        }
        let Some(download) = peer.download.as_mut() else { return };
        let Some(pending) = download.in_flight.take(no_data.request) else { return };
        download.heard = now;
        download.window.answered(no_data.request, download.in_flight.next_id(), pending.sent, now, None);
        // Whatever it announced before, it is not asked for this again until it announces it anew. A peer that went
        // to another fork in the meantime says nothing about what it has there.
        let leaf = pending.hash.filter(|node| node.is_multiple_of(2)).map(|node| node / 2);
        let index = pending.block.map(|block| block.index).or(leaf);
        let is_news = pending.fork == peer.remote.fork;
        let mut is_taken_back = false;
        if let Some(index) = index.filter(|_| is_news) {
            // It may have said so itself while it was asked.
            is_taken_back = !peer.blocks.get(index);
            peer.blocks.clear_range(index, index.saturating_add(1));
            peer.local_wants.forget(index);
        }
        // With a block, it may be the block that it lacks.
        if pending.upgrade && pending.block.is_none() && pending.seek.is_none() && is_news {
            peer.remote.can_upgrade = false;
        }
        if pending.manifest {
            peer.remote.has_manifest = false;
        }
        if pending.reorg {
            self.reorgs.refused(pending.fork, id);
        }
        self.clear_marks(id, &pending);
        match pending.block {
            Some(block) => self.requeue_block(block.index),
            None => self.all_hungry(),
        }
        if is_news && !is_taken_back {
            self.on_fruitless(id);
        }
    }

    /// An answer brought nothing. Honest peers do that now and then, not all the time.
    fn on_fruitless(&mut self, id: PeerId) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        peer.fruitless = peer.fruitless.saturating_add(1);
        if peer.fruitless > MAX_FRUITLESS {
            let reason = format!("{MAX_FRUITLESS} answers in a row brought nothing");
            self.close(id, CloseReason::Misbehaved(reason));
        }
    }

    fn on_storage_failure(&mut self, id: PeerId, reason: String) {
        let Some(mut peer) = self.peers.remove(&id) else { return };
        if !peer.paused {
            peer.paused = true;
            self.release_requests(id, &mut peer);
            self.event(Event::StorageFailed { peer: id, reason });
        }
        self.peers.insert(id, peer);
    }

    /// A peer sent a wrong proof. It may honestly be on another history: then the whole log is in question, so it is
    /// asked once for the proof of that (npm `hypercore` 11.37.1, `_checkIfConflict`).
    pub(crate) fn on_lie(&mut self, id: PeerId, reason: String, core: &Core, now: Instant) {
        self.stats.invalid += 1;
        tracing::debug!(?id, reason, "a peer sent a wrong proof");
        let Some(mut peer) = self.peers.remove(&id) else { return };
        peer.strikes = peer.strikes.saturating_add(1);
        self.release_requests(id, &mut peer);
        let length = core.length().min(peer.remote.length);
        let explainable = peer.strikes < MAX_STRIKES && length > 0 && peer.remote.fork == core.fork();
        if explainable && peer.is_active() {
            peer.paused = true;
            peer.checking_conflict = Some(now);
            let upgrade = Some(RequestUpgrade { start: 0, length });
            let proof = ProofRequest { upgrade, ..ProofRequest::default() };
            peer.outbox.push_back(Message::Request(Request {
                id: 0,
                fork: peer.remote.fork,
                proof,
                priority: 0,
            }));
        }
        self.peers.insert(id, peer);
        if !explainable {
            self.close(id, CloseReason::Misbehaved(reason));
        }
        self.all_hungry();
    }

    /// A peer shows its signed roots, asked or unasked.
    fn on_conflict_proof(&mut self, id: PeerId, proof: &Proof, core: &mut Core) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let asked = peer.checking_conflict.take().is_some();
        if !asked {
            peer.unsolicited = peer.unsolicited.saturating_add(1);
            if peer.unsolicited > MAX_UNSOLICITED {
                let reason = "it keeps sending proofs that were not asked for".to_owned();
                return self.close(id, CloseReason::Misbehaved(reason));
            }
        }
        match core.check_conflict(proof) {
            Ok(None) => {
                if asked {
                    peer.paused = false;
                }
            }
            Ok(Some(conflict)) => {
                self.event(Event::Conflict(conflict));
                self.show_conflict(core);
            }
            Err(ReceiveError::BadPeer(reason)) => self.close(id, CloseReason::Misbehaved(reason)),
            Err(error) if asked => self.close(id, CloseReason::Misbehaved(error.to_string())),
            Err(_) => {}
        }
    }

    /// The log is frozen: every peer gets our roots, so that it can see the conflict itself, and is closed.
    fn show_conflict(&mut self, core: &Core) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            if let Some(peer) = self.peers.get_mut(&id) {
                let length = core.length().min(peer.remote.length);
                if length > 0 && peer.remote.fork == core.fork() {
                    let upgrade = Some(RequestUpgrade { start: 0, length });
                    let proof = ProofRequest { upgrade, ..ProofRequest::default() };
                    let request = Request { id: 0, fork: core.fork(), proof, priority: 0 };
                    peer.upload.get_or_insert_default().push(request);
                }
            }
            self.close(id, CloseReason::Conflict);
        }
    }
}

/// Giving up on requests.
impl Replicator {
    /// Forgets a request's marks. Returns how many other requests for the same block are left.
    pub(crate) fn clear_marks(&mut self, id: PeerId, pending: &Pending) -> u8 {
        let Self { peers, blocks, .. } = self;
        let mut left = 0;
        if let Some(block) = pending.block {
            if let Some(download) = peers.get_mut(&id).and_then(|peer| peer.download.as_mut()) {
                download.expected.remove(block.index, block.nodes);
            }
            left = blocks.remove(block.index);
        }
        self.clear_other_marks(id, pending);
        left
    }

    fn clear_other_marks(&mut self, id: PeerId, pending: &Pending) {
        if pending.upgrade && !pending.reorg && self.upgrading == Some(id) {
            self.upgrading = None;
        }
        if pending.manifest && self.manifest_from == Some(id) {
            self.manifest_from = None;
        }
        if let Some((seek, _)) = pending.seek
            && let Some(seek) = self.wishes.seek_mut(seek)
        {
            seek.in_flight = false;
        }
        if pending.reorg {
            self.reorgs.answered(pending.fork);
        }
    }

    /// What a request was for is to be asked of somebody again.
    fn requeue(&mut self, pending: &Pending, core: &Core) {
        if let Some(block) = pending.block
            && !core.has(block.index).unwrap_or(false)
        {
            self.requeue_block(block.index);
        }
    }

    pub(crate) fn requeue_block(&mut self, index: u64) {
        if !self.blocks.contains(index) {
            self.wishes.requeue(index);
            self.all_hungry();
        }
    }

    /// Takes all requests away from a peer (which is not in the map for the moment).
    pub(crate) fn release_requests(&mut self, id: PeerId, peer: &mut Peer) {
        self.take_back(id, peer, |_| true);
        self.all_hungry();
    }

    /// Takes some of a peer's requests away, and those of its answers that wait.
    fn take_back(&mut self, id: PeerId, peer: &mut Peer, which: impl Fn(&Pending) -> bool) {
        let Some(download) = peer.download.as_mut() else { return };
        for parked in std::mem::take(&mut download.parked) {
            download.expected.remove(parked.block.index, parked.block.nodes);
            self.blocks.remove(parked.block.index);
            self.requeue_block(parked.block.index);
        }
        let chosen = download.in_flight.iter().filter(|(_, pending)| which(pending));
        let requests: Vec<u64> = chosen.map(|(request, _)| request).collect();
        for request in requests {
            let Some(pending) = download.in_flight.take(request) else { continue };
            if let Some(block) = pending.block {
                download.expected.remove(block.index, block.nodes);
                self.blocks.remove(block.index);
                self.requeue_block(block.index);
            }
            self.clear_other_marks(id, &pending);
        }
    }

    /// After a fork: answers to requests for the old one would fit nothing.
    pub(crate) fn drop_old_requests(&mut self, core: &Core) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            let Some(mut peer) = self.peers.remove(&id) else { continue };
            self.take_back(id, &mut peer, |pending| pending.fork != core.fork() || pending.reorg);
            self.peers.insert(id, peer);
        }
    }

    /// Nobody waits for this block by itself any more.
    pub(crate) fn give_up(&mut self, index: u64, core: &Core) {
        if self.blocks.contains(index)
            && !self.wishes.wants_block(index)
            && !self.wishes.in_range(index)
            && index < core.length()
        {
            self.cancel_block(index);
        }
    }

    /// Cancels all requests for a block, apart from those that bring an upgrade as well.
    pub(crate) fn cancel_block(&mut self, index: u64) {
        let mut cancelled = Vec::new();
        for (id, peer) in &mut self.peers {
            let Some(download) = peer.download.as_mut() else { continue };
            let found = download.in_flight.iter().find(|(_, pending)| {
                pending.block.is_some_and(|block| block.index == index) && !pending.upgrade
            });
            let Some((request, _)) = found else { continue };
            let Some(pending) = download.in_flight.take(request) else { continue };
            let unsent = peer.outbox.iter().rposition(|message| match message {
                Message::Request(queued) => queued.id == request,
                _ => false,
            });
            match unsent {
                Some(at) => drop(peer.outbox.remove(at)),
                None => peer.outbox.push_back(Message::Cancel(Cancel { request })),
            }
            cancelled.push((*id, pending));
        }
        for (id, pending) in cancelled {
            self.clear_marks(id, &pending);
            self.hungry.insert(id);
        }
    }
}

/// Whether an answer holds nothing but what was asked (npm `hypercore` 11.37.1, `_matchingRequest`).
fn answers(pending: &Pending, proof: &Proof) -> bool {
    let block = proof
        .block
        .as_ref()
        .is_none_or(|block| pending.block.is_some_and(|asked| asked.index == block.index));
    let hash = proof.hash.as_ref().is_none_or(|hash| pending.hash == Some(hash.index));
    let seek =
        proof.seek.as_ref().is_none_or(|seek| pending.seek.is_some_and(|(_, bytes)| bytes == seek.bytes));
    let upgrade = proof.upgrade.is_none() || pending.upgrade;
    block && hash && seek && upgrade
}
