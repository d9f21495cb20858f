//! What a peer is asked for next.
//!
//! In this order, as npm `hypercore` 11.37.1 does (`_updatePeer`, `_updatePeerNonPrimary`, `_updateHotswap`): the
//! manifest, an upgrade (together with a block when one beyond our length is wanted), seeks, single blocks by
//! priority, ranges, what a newer fork needs, and, when nothing else is left, blocks that a slower peer owes.

use std::time::{Duration, Instant};

use hypercore::core::{Core, Seek};
use hypercore::demand::{Demand, DemandId};
use hypercore::proof::{ProofRequest, RequestBlock, RequestSeek, RequestUpgrade};
use hypercore::storage::StorageError;
use hypercore_protocol::messages::{Message, Request};

use crate::in_flight::{MAX_COPIES, Pending, PendingBlock};
use crate::peer::{Chunk, Peer, PeerId};
use crate::replicator::Replicator;
use crate::wants::SEGMENT;
use crate::wishes::PRIORITIES;

/// Requests that wait for a connection that does not take them.
pub(crate) const MAX_UNSENT: usize = 2_048;
/// Numbers of requests that a peer may leave open behind one that it does not answer.
pub(crate) const MAX_SPAN: usize = 8_192;
/// Blocks in a row of a range without order: their proofs share nodes.
const CHUNK: u32 = 32;
/// Ranges looked at for one peer in one go (npm `hypercore` 11: `MAX_RANGES`).
const MAX_RANGES: usize = 64;
/// Blocks taken over from slower peers in one go.
const MAX_SWAPS: usize = 16;
/// Requests for one seek without news of the log, after which it rests.
pub(crate) const MAX_SEEK_ATTEMPTS: u32 = 256;
/// How often peers with nothing to do look at what others owe.
const SWAP_INTERVAL: Duration = Duration::from_millis(50);

impl Replicator {
    /// Asks all peers that may have become useful.
    pub(crate) fn schedule_hungry(&mut self, core: &mut Core, demand: &Demand, now: Instant) {
        if !self.options.eager_upgrade && !self.wishes.upgrades.is_empty() && self.commit_waiting_reorg(core)
        {
            self.all_hungry();
        }
        // Whoever went first last time does not always go first.
        let first = self.random.below(self.peers.len() as u64) as usize;
        let mut ids: Vec<PeerId> = std::mem::take(&mut self.hungry).into_iter().collect();
        if let Some(len) = std::num::NonZero::new(ids.len()) {
            ids.rotate_left(first % len);
        }
        // Whoever owes answers for long gets what is left.
        let is_silent = |id: &PeerId| {
            let download = self.peers.get(id).and_then(|peer| peer.download.as_ref());
            download.is_some_and(|download| download.window.is_silent())
        };
        ids.sort_by_key(is_silent);
        for id in ids {
            if let Err(error) = self.schedule(id, core, demand, now) {
                tracing::warn!(%error, "storage failed while requests were chosen");
                return;
            }
        }
        let many = self.peers.len() > 1 && !self.blocks.is_empty();
        self.swap_at = many.then(|| self.swap_at.filter(|at| *at > now).unwrap_or(now + SWAP_INTERVAL));
    }

    fn schedule(
        &mut self,
        id: PeerId,
        core: &mut Core,
        demand: &Demand,
        now: Instant,
    ) -> Result<(), StorageError> {
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
        peer.is_unknown = false;
        if !peer.is_active() || !peer.synced || !peer.remote.uploading {
            return Ok(());
        }
        self.schedule_manifest(id, core, now);
        if peer_fork_differs(&self.peers, id, core) {
            self.schedule_fork(id, core, now);
            return Ok(());
        }
        self.schedule_upgrade(id, core, demand, now)?;
        self.schedule_seeks(id, core, now)?;
        for priority in (1..PRIORITIES).rev() {
            self.schedule_blocks(id, priority, core, now)?;
        }
        self.schedule_blocks(id, 0, core, now)?;
        self.schedule_ranges(id, core, demand, now)?;
        self.schedule_swaps(id, core, now)
    }

    /// Whether a peer may be asked for one thing more.
    pub(crate) fn has_room(peer: &Peer) -> bool {
        // Also of one that was never asked for anything yet: it can have us ask again and again which blocks it has.
        peer.is_active()
            && peer.outbox.len() < MAX_UNSENT
            && peer.download.as_ref().is_none_or(|download| {
                download.in_flight.len() < download.window.limit() && download.in_flight.span() < MAX_SPAN
            })
    }

    fn schedule_manifest(&mut self, id: PeerId, core: &Core, now: Instant) {
        if core.has_manifest() || self.manifest_from.is_some() {
            return;
        }
        let Some(peer) = self.peers.get(&id) else { return };
        // With blocks to fetch, or another fork to follow, it comes along with the first upgrade.
        if peer.remote.length > 0 || !peer.remote.has_manifest || peer.remote.fork != core.fork() {
            return;
        }
        self.manifest_from = Some(id);
        let proof = ProofRequest { manifest: true, ..ProofRequest::default() };
        let pending = Pending::new(now, peer.remote.fork, &proof);
        self.send(id, pending, proof, 0, now);
    }

    /// The upgrade that a peer can give, if one is wanted and nobody was asked yet.
    fn upgrade_from(&self, peer: &Peer, core: &Core) -> Option<RequestUpgrade> {
        let wanted =
            self.options.eager_upgrade || !self.wishes.upgrades.is_empty() || self.wants_beyond(core);
        let length = core.length();
        let possible = self.upgrading.is_none()
            && peer.remote.can_upgrade
            && peer.remote.length > length
            && peer.acked == length
            && peer.remote.fork == core.fork();
        (wanted && possible).then(|| RequestUpgrade { start: length, length: peer.remote.length - length })
    }

    fn wants_beyond(&self, core: &Core) -> bool {
        (0..PRIORITIES).any(|priority| self.wishes.next_queued(priority, core.length()).is_some())
            || self.wishes.ranges.iter().any(|wish| wish.range.end.is_none_or(|end| end > core.length()))
    }

    fn schedule_upgrade(
        &mut self,
        id: PeerId,
        core: &Core,
        demand: &Demand,
        now: Instant,
    ) -> Result<(), StorageError> {
        let Some(peer) = self.peers.get(&id) else { return Ok(()) };
        let Some(upgrade) = self.upgrade_from(peer, core) else { return Ok(()) };
        let block = self.block_beyond(peer, core, demand);
        let mut proof = ProofRequest { upgrade: Some(upgrade), ..ProofRequest::default() };
        proof.manifest = !core.has_manifest() && peer.remote.has_manifest;
        proof.block = block.map(|index| RequestBlock { index, nodes: 0 });
        let pending = Pending::new(now, core.fork(), &proof);
        let priority = block.map_or(0, |index| self.wishes.priority(index));
        self.upgrading = Some(id);
        self.send(id, pending, proof, priority, now);
        Ok(())
    }

    /// A wanted block beyond our length, to come together with the upgrade.
    fn block_beyond(&self, peer: &Peer, core: &Core, demand: &Demand) -> Option<u64> {
        let (start, end) = (core.length(), peer.remote.length);
        for priority in (0..PRIORITIES).rev() {
            let mut at = start;
            while let Some(index) = self.wishes.next_queued(priority, at).filter(|index| *index < end) {
                match peer.blocks.next_set(index, end)? {
                    found if found == index => return Some(index),
                    found => at = found,
                }
            }
        }
        for wish in self.wishes.ranges.iter().take(MAX_RANGES) {
            if let Some(blocks) = &wish.range.blocks {
                let from = blocks.partition_point(|index| *index < start);
                let found =
                    blocks.get(from..)?.iter().find(|index| **index < end && peer.blocks.get(**index));
                if found.is_some() {
                    return found.copied();
                }
                continue;
            }
            let cursor = demand.entry(wish.id).map_or(wish.range.start, |entry| entry.cursor);
            let end = wish.range.end.unwrap_or(end).min(end);
            if let Some(index) = peer.blocks.next_set(cursor.max(start), end)
                && !self.blocks.contains(index)
            {
                return Some(index);
            }
        }
        None
    }

    fn schedule_seeks(&mut self, id: PeerId, core: &Core, now: Instant) -> Result<(), StorageError> {
        for at in 0..self.wishes.seeks.len() {
            let (Some(peer), Some(seek)) = (self.peers.get_mut(&id), self.wishes.seeks.get(at)) else {
                break;
            };
            if seek.in_flight || seek.attempts >= MAX_SEEK_ATTEMPTS {
                continue;
            }
            if !Self::has_room(peer) {
                break;
            }
            let ask = RequestSeek { bytes: seek.bytes, padding: seek.padding };
            let mut proof = ProofRequest { seek: Some(ask), ..ProofRequest::default() };
            match core.seek(seek.bytes, seek.padding) {
                Ok(Seek::Between { start, end }) => {
                    let end_there = end.min(peer.valid_end(core));
                    let from = start.saturating_add(self.random.below(end_there.saturating_sub(start)));
                    let mut found = None;
                    for (from, to) in [(from, end_there), (start, from)] {
                        found = found.or(next_wanted(from, to, core, &self.blocks, peer)?);
                    }
                    let Some(index) = found else {
                        Self::want_range(peer, start, end, now);
                        continue;
                    };
                    let nodes = u64::from(start.saturating_add(end).saturating_sub(1).trailing_ones());
                    proof.hash = Some(RequestBlock { index: index.saturating_mul(2), nodes });
                }
                Ok(Seek::Beyond) => {
                    let Some(peer) = self.peers.get(&id) else { break };
                    let Some(upgrade) = self.upgrade_from(peer, core) else { continue };
                    proof.manifest = !core.has_manifest() && peer.remote.has_manifest;
                    proof.upgrade = Some(upgrade);
                    self.upgrading = Some(id);
                }
                _ => continue,
            }
            let mut pending = Pending::new(now, core.fork(), &proof);
            if let Some(seek) = self.wishes.seeks.get_mut(at) {
                seek.in_flight = true;
                seek.attempts += 1;
                pending.seek = Some((seek.id, seek.bytes));
            }
            self.send(id, pending, proof, 0, now);
        }
        Ok(())
    }

    /// Single blocks of one priority.
    fn schedule_blocks(
        &mut self,
        id: PeerId,
        priority: usize,
        core: &Core,
        now: Instant,
    ) -> Result<(), StorageError> {
        let mut at = 0;
        let mut unknown: Option<u64> = None;
        while let Some(index) = self.wishes.next_queued(priority, at) {
            let Some(peer) = self.peers.get_mut(&id) else { break };
            if !Self::has_room(peer) {
                break;
            }
            let end = peer.valid_end(core).min(core.length());
            let Some(next) = index.checked_add(1) else { break };
            match peer.blocks.next_set(index, end) {
                Some(found) if found == index => {
                    at = next;
                    self.ask_block(id, index, priority as u64, core, now)?;
                }
                found => {
                    // Whether it has this one is perhaps not known yet: ask about the segment, once.
                    let segment = index / SEGMENT;
                    if unknown != Some(segment) {
                        unknown = Some(segment);
                        Self::want(peer, index, now);
                    }
                    let next_segment = (segment + 1).saturating_mul(SEGMENT);
                    at = found.unwrap_or(next_segment).min(next_segment).max(next);
                }
            }
        }
        Ok(())
    }

    fn schedule_ranges(
        &mut self,
        id: PeerId,
        core: &Core,
        demand: &Demand,
        now: Instant,
    ) -> Result<(), StorageError> {
        let count = self.wishes.ranges.len().min(MAX_RANGES);
        let first = self.random.below(self.wishes.ranges.len() as u64) as usize;
        for offset in 0..count {
            let at = (first + offset) % self.wishes.ranges.len().max(1);
            while let Some(peer) = self.peers.get_mut(&id)
                && Self::has_room(peer)
                && let Some(wish) = self.wishes.ranges.get(at)
            {
                let (range_id, range) = (wish.id, &wish.range);
                let Some(entry) = demand.entry(range_id) else { break };
                let end = peer.valid_end(core).min(core.length());
                let found = if let Some(blocks) = &range.blocks {
                    let cursor = usize::try_from(entry.cursor).unwrap_or(usize::MAX);
                    let rest = blocks.get(cursor..).unwrap_or_default();
                    next_listed(rest, end, core, &self.blocks, peer)?
                } else {
                    let end = range.end.unwrap_or(u64::MAX).min(end);
                    let start = entry.cursor.max(range.start);
                    if range.linear {
                        next_wanted(start, end, core, &self.blocks, peer)?
                    } else {
                        let random = self.random.next();
                        next_at_random(range_id, start, end, random, core, &self.blocks, peer)?
                    }
                };
                let Some(index) = found else {
                    let (start, end) = match &range.blocks {
                        Some(blocks) => (
                            blocks.get(entry.cursor as usize).copied().unwrap_or(u64::MAX),
                            blocks.last().map_or(0, |last| last.saturating_add(1)),
                        ),
                        None => (entry.cursor, range.end.unwrap_or(u64::MAX)),
                    };
                    Self::want_range(peer, start, end.min(core.length()), now);
                    break;
                };
                self.ask_block(id, index, 0, core, now)?;
            }
        }
        Ok(())
    }

    /// Blocks that slower peers owe, when this one has nothing else to do.
    fn schedule_swaps(&mut self, id: PeerId, core: &Core, now: Instant) -> Result<(), StorageError> {
        let Some(peer) = self.peers.get(&id) else { return Ok(()) };
        if self.peers.len() < 2 || self.blocks.is_empty() || !Self::has_room(peer) {
            return Ok(());
        }
        let mine = peer.download.as_ref().map(|download| download.window.round_trip()).unwrap_or_default();
        let patience = mine * 2 + Duration::from_millis(30);
        let end = peer.valid_end(core).min(core.length());
        let mut found = Vec::new();
        for (other, owing) in &self.peers {
            let Some(download) = owing.download.as_ref().filter(|_| *other != id) else { continue };
            for (_, pending) in download.in_flight.iter() {
                if now.saturating_duration_since(pending.sent) < patience || found.len() >= MAX_SWAPS {
                    break;
                }
                let Some(block) = pending.block else { continue };
                let asked_already = || {
                    peer.download.as_ref().is_some_and(|download| {
                        let mut mine = download.in_flight.iter();
                        mine.any(|(_, mine)| mine.block.is_some_and(|mine| mine.index == block.index))
                    })
                };
                if block.index < end
                    && peer.blocks.get(block.index)
                    && self.blocks.copies(block.index) < MAX_COPIES
                    && !found.contains(&block.index)
                    && !asked_already()
                {
                    found.push(block.index);
                }
            }
        }
        for index in found {
            if self.peers.get(&id).is_none_or(|peer| !Self::has_room(peer)) {
                break;
            }
            self.stats.hotswaps += 1;
            self.ask_block(id, index, self.wishes.priority(index), core, now)?;
        }
        Ok(())
    }

    fn ask_block(
        &mut self,
        id: PeerId,
        index: u64,
        priority: u64,
        core: &Core,
        now: Instant,
    ) -> Result<(), StorageError> {
        let max_bytes = self.options.max_bytes_in_flight;
        let Some(peer) = self.peers.get_mut(&id) else { return Ok(()) };
        let expected = &mut peer.download(max_bytes, now).expected;
        let nodes = expected.missing_nodes(index, core.length(), |node| core.has_node(node))?;
        expected.add(index, nodes);
        let block = Some(RequestBlock { index, nodes: u64::from(nodes) });
        let proof = ProofRequest { block, ..ProofRequest::default() };
        let pending = Pending::new(now, core.fork(), &proof);
        self.send(id, pending, proof, priority, now);
        Ok(())
    }

    pub(crate) fn send(
        &mut self,
        id: PeerId,
        pending: Pending,
        proof: ProofRequest,
        priority: u64,
        now: Instant,
    ) {
        let max_bytes = self.options.max_bytes_in_flight;
        let Some(peer) = self.peers.get_mut(&id) else { return };
        if let Some(block) = pending.block {
            self.blocks.add(block.index);
            self.wishes.dequeue(block.index);
        }
        let fork = pending.fork;
        let download = peer.download(max_bytes, now);
        if download.in_flight.len() == 0 {
            download.heard = now;
        }
        let request = download.in_flight.push(pending);
        download.window.sent(download.in_flight.len());
        peer.outbox.push_back(Message::Request(Request { id: request, fork, proof, priority }));
        self.stats.requests += 1;
    }
}

impl Pending {
    pub(crate) fn new(sent: Instant, fork: u64, proof: &ProofRequest) -> Self {
        Self {
            sent,
            fork,
            block: proof.block.map(|block| PendingBlock {
                index: block.index,
                nodes: u8::try_from(block.nodes).unwrap_or(u8::MAX),
            }),
            hash: proof.hash.map(|hash| hash.index),
            seek: None,
            upgrade: proof.upgrade.is_some(),
            manifest: proof.manifest,
            reorg: false,
        }
    }
}

fn peer_fork_differs(peers: &std::collections::BTreeMap<PeerId, Box<Peer>>, id: PeerId, core: &Core) -> bool {
    peers.get(&id).is_none_or(|peer| peer.remote.fork != core.fork())
}

/// The first block of `from..end` that is neither here nor on its way, and that the peer has.
fn next_wanted(
    from: u64,
    end: u64,
    core: &Core,
    in_flight: &crate::in_flight::BlockTable,
    peer: &Peer,
) -> Result<Option<u64>, StorageError> {
    let mut at = from;
    while at < end {
        let free = in_flight.next_free(at);
        let Some(missing) = core.first_missing(free, end)? else { return Ok(None) };
        let Some(there) = peer.blocks.next_set(missing, end) else { return Ok(None) };
        if there == missing && (missing == free || !in_flight.contains(there)) {
            return Ok(Some(there));
        }
        at = there;
    }
    Ok(None)
}

/// The same in a sorted list.
fn next_listed(
    list: &[u64],
    end: u64,
    core: &Core,
    in_flight: &crate::in_flight::BlockTable,
    peer: &Peer,
) -> Result<Option<u64>, StorageError> {
    let mut rest = list;
    while let [index, others @ ..] = rest {
        if *index >= end {
            break;
        }
        let Some(there) = peer.blocks.next_set(*index, end) else { break };
        if there == *index {
            if !in_flight.contains(there) && !core.has(there)? {
                return Ok(Some(there));
            }
            rest = others;
        } else {
            rest = rest.get(rest.partition_point(|index| *index < there)..).unwrap_or_default();
        }
    }
    Ok(None)
}

/// The same anywhere in a range, a few in a row.
fn next_at_random(
    range: DemandId,
    start: u64,
    end: u64,
    random: u64,
    core: &Core,
    in_flight: &crate::in_flight::BlockTable,
    peer: &mut Peer,
) -> Result<Option<u64>, StorageError> {
    let chunk = peer.download.as_ref().and_then(|download| download.chunk);
    let goes_on =
        chunk.filter(|chunk| chunk.range == range && chunk.left > 0 && (start..end).contains(&chunk.next));
    let (from, left) = match goes_on {
        Some(chunk) => (chunk.next, chunk.left),
        None => {
            let blocks = end.saturating_sub(start);
            let from = start.saturating_add(random.checked_rem(blocks).unwrap_or(0));
            (from - from % u64::from(CHUNK), CHUNK)
        }
    };
    let from = from.max(start);
    let mut found = next_wanted(from, end, core, in_flight, peer)?;
    if found.is_none() {
        found = next_wanted(start, from.min(end), core, in_flight, peer)?;
    }
    if let (Some(index), Some(download)) = (found, peer.download.as_mut()) {
        download.chunk = Some(Chunk { range, next: index + 1, left: left - 1 });
    }
    Ok(found)
}
