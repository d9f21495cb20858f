//! Whether what peers have told is still all that they have.
//!
//! A peer tells of what it appends when it does that, and no message asks for it. But wants are answered, and what a peer
//! has told before comes before its answer. So a want is what near peers are asked with before an update, a get or a seek
//! that does not want to wait fails: it ends a round trip later. Distant ones are not waited for: whoever asks for an update
//! before each read would pay for it each time.

use std::time::{Duration, Instant};

use hypercore::core::Core;
use hypercore::demand::DemandId;
use hypercore_protocol::messages::{Message, Unwant, Want};

use super::earlier;
use crate::peer::{Peer, PeerId};
use crate::replicator::Replicator;

/// A peer is near when its last answer took no longer: it is on this machine, or next to it.
const NEAR: Duration = Duration::from_millis(10);
/// How long the answer of a near peer may take this time: machines are busy now and then.
const BUSY: Duration = Duration::from_millis(100);
/// What is not answered by then is lost.
const LOST: Duration = Duration::from_secs(1);
/// Messages that may wait for a peer that is asked: one that does not read is asked no more.
const MAX_WAITING: usize = 64;
/// The blocks that are asked about, the fewest that can be. All that matters is that there is an answer.
const BLOCKS: u64 = 32;

/// How fast a peer answers.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    asked: Option<Instant>,
    took: Option<Duration>,
}

impl Echo {
    /// Until when it is worth waiting for the answer.
    fn until(&self, now: Instant) -> Option<Instant> {
        let is_near = self.took.is_none_or(|took| took <= NEAR);
        self.asked.map(|asked| asked + BUSY).filter(|until| is_near && *until > now)
    }

    /// Whether the peer may be asked. One that did not answer is taken for a distant one.
    fn is_due(&mut self, now: Instant) -> bool {
        if self.asked.take_if(|asked| *asked + LOST <= now).is_some() {
            self.took = Some(LOST);
        }
        self.asked.is_none()
    }

    /// It may be the answer to another want, made a moment before: rarely, and the next one tells.
    fn heard(&mut self, now: Instant) {
        if let Some(asked) = self.asked.take() {
            self.took = Some(now.saturating_duration_since(asked));
        }
    }
}

impl Replicator {
    /// Of what nobody is known to have, keeps what nobody is to be asked for any more. Near peers may yet say that they have
    /// the rest: that is looked at again at the next deadline.
    pub(crate) fn await_echoes<T>(
        &mut self,
        mut hopeless: Vec<T>,
        id: impl Fn(&T) -> DemandId,
        core: &Core,
        now: Instant,
    ) -> Vec<T> {
        if hopeless.is_empty() {
            return hopeless;
        }
        if let Some(until) = self.echo_until(now) {
            self.recheck_at = earlier(self.recheck_at, until);
            return Vec::new();
        }
        // What came while peers were asked for the sake of others is still among these.
        if !hopeless.iter().any(|wish| self.wishes.unasked.contains(&id(wish))) {
            return hopeless;
        }
        // It is for the sake of all that is wanted by now.
        let unasked = std::mem::take(&mut self.wishes.unasked);
        for peer in self.peers.values_mut().filter(|peer| peer.is_active()) {
            if peer.outbox.len() < MAX_WAITING && peer.echo.is_due(now) && has_an_answer(peer, core) {
                peer.echo.asked = Some(now);
                peer.outbox.push_back(Message::Want(Want { start: 0, length: BLOCKS, any: false }));
                // It is not to go on telling of them.
                peer.outbox.push_back(Message::Unwant(Unwant { start: 0, length: BLOCKS, any: false }));
            }
        }
        if let Some(until) = self.echo_until(now) {
            self.recheck_at = earlier(self.recheck_at, until);
            hopeless.retain(|wish| !unasked.contains(&id(wish)));
        }
        hopeless
    }

    /// How many blocks from the first on a peer has, as far as it has told.
    pub(crate) fn told_contiguous(&self, id: PeerId) -> Option<u64> {
        self.peers.get(&id).map(|peer| peer.blocks.contiguous_length())
    }

    /// A peer told which blocks it has, and that was known.
    pub(crate) fn on_echo(&mut self, id: PeerId, now: Instant) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.echo.heard(now);
        }
    }

    fn echo_until(&self, now: Instant) -> Option<Instant> {
        self.peers.values().filter(|peer| peer.is_active()).filter_map(|peer| peer.echo.until(now)).max()
    }
}

/// Whether a peer surely answers a want: it has all of its log, as who writes it has.
fn has_an_answer(peer: &Peer, core: &Core) -> bool {
    peer.synced && peer.remote.fork == core.fork() && peer.blocks.contiguous_length() >= peer.remote.length
}
