//! What goes out: state and requests first, answers as long as there is room.

use hypercore::core::Core;
use hypercore::proof::{Proof, ProofRequest};
use hypercore::tree::{ProofError, ProofErrorKind};
use hypercore_protocol::messages::{Data, Message, NoData, Range, Request};

use crate::events::CloseReason;
use crate::peer::PeerId;
use crate::replicator::Replicator;

/// Bytes of blocks in one burst of answers.
const BURST_BYTES: u64 = 256 * 1_024;
/// Answers in one burst.
const BURST_ANSWERS: usize = 128;
/// Requests that make no sense, after which a peer is closed (npm `hypercore` 11: `MAX_INVALID_REQUESTS`).
const MAX_INVALID: u8 = 64;

impl Replicator {
    pub(crate) fn on_request(&mut self, id: PeerId, request: Request, core: &Core) {
        let max = self.options.max_queued_requests;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if core.frozen() && request.id != 0 {
            return;
        }
        let queue = peer.upload.get_or_insert_default();
        if queue.len() >= max {
            let reason = format!("more than {max} requests at once");
            return self.close(id, CloseReason::Misbehaved(reason));
        }
        queue.push(request);
    }

    pub(crate) fn on_cancel(&mut self, id: PeerId, request: u64) {
        if let Some(queue) = self.peers.get_mut(&id).and_then(|peer| peer.upload.as_mut()) {
            queue.cancel(request);
        }
    }

    /// The next message for one peer. Answers are made here, a burst at a time, and only while the connection has
    /// room, see [`Replicator::set_writable`].
    pub fn poll_transmit_to(&mut self, id: PeerId, core: &mut Core) -> Option<Message> {
        let message = self.next_message(id, core);
        self.stats.messages += u64::from(message.is_some());
        message
    }

    /// The next message for any peer, peers taking turns.
    pub fn poll_transmit(&mut self, core: &mut Core) -> Option<(PeerId, Message)> {
        let after = self.peers.range(self.turn..).map(|(id, _)| *id);
        let before = self.peers.range(..self.turn).map(|(id, _)| *id);
        let ids: Vec<PeerId> = after.chain(before).collect();
        for id in ids {
            if self.peers.get(&id).is_some_and(|peer| peer.has_work())
                && let Some(message) = self.poll_transmit_to(id, core)
            {
                self.turn = PeerId(id.0.saturating_add(1));
                return Some((id, message));
            }
        }
        None
    }

    fn next_message(&mut self, id: PeerId, core: &mut Core) -> Option<Message> {
        loop {
            let peer = self.peers.get_mut(&id)?;
            // What is gone is told before the state that it went with, as JS does.
            if let Some(have) = peer.have.pop_front_if(|have| have.drop) {
                return Some(Message::Range(Range { drop: true, start: have.start, length: have.length }));
            }
            let peer = self.peers.get(&id)?;
            if peer.sync_due && !peer.closing {
                let state = self.state_for(peer, core);
                let peer = self.peers.get_mut(&id)?;
                peer.sync_due = false;
                if peer.sent_sync != Some(state) {
                    peer.sent_sync = Some(state);
                    return Some(Message::Synchronize(state));
                }
            }
            let peer = self.peers.get_mut(&id)?;
            peer.sync_due = false;
            if let Some(have) = peer.have.pop_front() {
                return Some(Message::Range(Range {
                    drop: have.drop,
                    start: have.start,
                    length: have.length,
                }));
            }
            if let Some(message) = peer.outbox.pop_front() {
                return Some(message);
            }
            if !peer.writable {
                return None;
            }
            if let Some(queue) = peer.upload.as_mut() {
                if let Some(message) = queue.next_answer() {
                    return Some(message);
                }
                if queue.has_requests() {
                    self.answer_some(id, core);
                    continue;
                }
                peer.upload = None; // an idle peer keeps nothing
            }
            let want = peer.asked_us.pop_front()?;
            let mut answers = Self::answer_want(&want, core).into_iter();
            let first = answers.next();
            peer.outbox.extend(answers);
            if first.is_some() {
                return first;
            }
        }
    }

    /// Answers the next requests of a peer.
    fn answer_some(&mut self, id: PeerId, core: &mut Core) {
        let average = core.byte_length().checked_div(core.length()).unwrap_or(0) + 64;
        let count = usize::try_from(BURST_BYTES / average).unwrap_or(1).clamp(1, BURST_ANSWERS);
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let Some(queue) = peer.upload.as_mut() else { return };
        let paused = peer.paused;
        let requests = queue.take(count);
        let (fork, frozen) = (core.fork(), core.frozen());
        // A peer that lied gets no blocks, but may see our signed roots.
        let may_have =
            |request: &Request| request.fork == fork && (!paused && !frozen || request.proof.block.is_none());
        let asked: Vec<ProofRequest> = requests
            .iter()
            .filter(|request| may_have(request))
            .map(|request| request.proof.clone())
            .collect();
        let mut proofs = core.prove_many(&asked).into_iter();
        for request in requests {
            let proof = if request.fork == fork {
                if !may_have(&request) {
                    continue;
                }
                match proofs.next() {
                    Some(proof) => proof,
                    None => break,
                }
            } else {
                Err(ProofError::OtherFork { proof: request.fork, local: fork })
            };
            self.answer(id, &request, proof, core);
        }
    }

    fn answer(&mut self, id: PeerId, request: &Request, proof: Result<Proof, ProofError>, core: &mut Core) {
        let Some(peer) = self.peers.get_mut(&id) else { return };
        let mut misbehaves = false;
        let message = match proof {
            Ok(proof) => {
                self.stats.answers += 1;
                if let Some(block) = &proof.block {
                    core.note_upload(block.index, block.value.len());
                }
                Message::Data(Data { request: request.id, proof })
            }
            Err(error) => {
                self.stats.refusals += 1;
                let invalid = error.kind() == ProofErrorKind::Invalid;
                let other_fork = matches!(error, ProofError::OtherFork { .. });
                if invalid {
                    peer.invalid_requests = peer.invalid_requests.saturating_add(1);
                    misbehaves = peer.invalid_requests >= MAX_INVALID;
                }
                match core.manifest().filter(|_| request.proof.manifest && !invalid) {
                    Some(manifest) => {
                        let manifest = Some(Box::new(manifest.clone()));
                        let proof = Proof { fork: core.fork(), manifest, ..Proof::default() };
                        Message::Data(Data { request: request.id, proof })
                    }
                    None => {
                        // npm `hypercore` 11 leaves a peer alone for good after 32 answers of "not available". A
                        // cut that meets a full window of requests must not cost us that, so it is not said why.
                        let reason = match (invalid, other_fork) {
                            (true, _) => NoData::INVALID_REQUEST,
                            (false, true) => 0,
                            (false, false) => NoData::NOT_AVAILABLE,
                        };
                        Message::NoData(NoData { request: request.id, reason })
                    }
                }
            }
        };
        if let Some(queue) = peer.upload.as_mut() {
            queue.answer(message);
        }
        if misbehaves {
            let reason = format!("{MAX_INVALID} requests that make no sense");
            self.close(id, CloseReason::Misbehaved(reason));
        }
    }
}
