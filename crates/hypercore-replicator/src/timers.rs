//! Deadlines: peers that are silent, proofs that do not come, lingering.

use std::time::{Duration, Instant};

use hypercore::core::Core;
use hypercore::demand::Demand;
use hypercore_protocol::messages::{Cancel, Message};

use crate::events::CloseReason;
use crate::peer::{Peer, PeerId};
use crate::replicator::Replicator;

/// How long a peer has to show its signed roots after it sent something wrong.
const CONFLICT_TIMEOUT: Duration = Duration::from_secs(10);

impl Replicator {
    /// When [`Replicator::handle_timeout`] is to be called, unless something else happens before.
    pub fn next_deadline(&self) -> Option<Instant> {
        let peers = self.peers.values().filter(|peer| !peer.closing);
        let peers = peers.flat_map(|peer| {
            let conflict = peer.checking_conflict.map(|since| since + CONFLICT_TIMEOUT);
            [silent_at(peer), conflict, peer.ask_again_at()]
        });
        let own = [self.lingers_until, self.swap_at, self.recheck_at];
        peers.chain(own).flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, core: &mut Core, demand: &mut Demand, now: Instant) {
        let ids: Vec<PeerId> = self.peers.keys().copied().collect();
        for id in ids {
            let Some(peer) = self.peers.get(&id).filter(|peer| !peer.closing) else { continue };
            if peer.checking_conflict.is_some_and(|since| since + CONFLICT_TIMEOUT <= now) {
                let reason = "it did not prove the log that it sent blocks of".to_owned();
                self.close(id, CloseReason::Misbehaved(reason));
                continue;
            }
            let ask_again = peer.ask_again_at().is_some_and(|at| at <= now);
            if silent_at(peer).is_some_and(|at| at <= now) {
                self.on_silent(id, core, now);
            }
            if ask_again && let Some(peer) = self.peers.get_mut(&id) {
                peer.ask_again();
                self.hungry.insert(id);
            }
        }
        if self.swap_at.is_some_and(|at| at <= now) {
            self.swap_at = None;
            self.all_hungry();
        }
        if self.recheck_at.is_some_and(|at| at <= now) {
            self.recheck_at = None;
        }
        self.finish(core, demand, now);
    }

    /// A peer owes answers and says nothing: others get its requests, if there is anybody else.
    fn on_silent(&mut self, id: PeerId, core: &Core, now: Instant) {
        self.stats.timeouts += 1;
        let others = self.peers.iter().any(|(other, peer)| {
            *other != id
                && peer.is_active()
                && peer.synced
                && peer.remote.uploading
                && peer.remote.fork >= core.fork()
                && peer.remote.length > 0
                && !peer.download.as_ref().is_some_and(|download| download.window.is_silent())
        });
        let Some(mut peer) = self.peers.remove(&id) else { return };
        if let Some(download) = peer.download.as_mut() {
            download.window.timed_out();
            download.heard = now;
            if others {
                let unanswered: Vec<u64> = download.in_flight.iter().map(|(request, _)| request).collect();
                peer.outbox.retain(|message| !matches!(message, Message::Request(_)));
                let cancels = unanswered.into_iter().map(|request| Message::Cancel(Cancel { request }));
                peer.outbox.extend(cancels);
                self.release_requests(id, &mut peer);
            }
        }
        self.peers.insert(id, peer);
        // It may try again, but after everybody else: they are asked before those who are silent.
        self.all_hungry();
    }
}

fn silent_at(peer: &Peer) -> Option<Instant> {
    let download = peer.download.as_ref()?;
    let oldest = download.in_flight.oldest()?;
    Some(download.heard.max(oldest.sent) + download.window.timeout())
}
