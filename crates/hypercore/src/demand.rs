//! What local users wait for, without knowing any network.
//!
//! A session that cannot answer from storage adds a [`Want`] and waits. A replicator reads the wants, asks peers,
//! and hands what arrives to the core; [`Demand::settle`] then answers everybody whose wish came true. A want that
//! is dropped or cancelled disappears from the list. Everything is bounded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use futures::channel::oneshot;

use crate::core::{Arrivals, Core, Seek};
use crate::error::Error;

/// Wants that may wait at the same time for one log.
pub const MAX_WANTS: usize = 65_536;
/// Changes kept for a replicator that does not look; beyond, it is told to look at everything.
const MAX_CHANGES: usize = 8_192;

/// Names a want.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DemandId(u64);

/// Something that is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// A block.
    Block {
        /// Its index.
        index: u64,
    },
    /// All blocks of a range, for keeping.
    Range(DownloadRange),
    /// The block that holds a byte offset.
    Seek {
        /// Byte offset.
        bytes: u64,
        /// Bytes in front of each block that do not count.
        padding: u64,
    },
    /// To be longer than this, or on another fork.
    Upgrade {
        /// Length when the want was added.
        length: u64,
        /// Fork when the want was added.
        fork: u64,
    },
}

/// Which blocks to download, and in which order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DownloadRange {
    /// First block.
    pub start: u64,
    /// One past the last block. Without it the range is live: it follows the log and never completes.
    pub end: Option<u64>,
    /// In ascending order; otherwise peers are asked in random order, so that a swarm holds different parts early.
    pub linear: bool,
    /// These blocks only (then `start` and `end` are ignored).
    pub blocks: Option<Arc<[u64]>>,
}

impl DownloadRange {
    /// `start..end`, in random order.
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, end: Some(end), ..Self::default() }
    }

    /// From `start` on, also what is appended later.
    pub fn live(start: u64) -> Self {
        Self { start, ..Self::default() }
    }

    /// A list of blocks.
    pub fn list(blocks: impl IntoIterator<Item = u64>) -> Self {
        let mut blocks: Vec<u64> = blocks.into_iter().collect();
        blocks.sort_unstable();
        blocks.dedup();
        Self { blocks: Some(blocks.into()), ..Self::default() }
    }

    /// In ascending order.
    pub fn linear(mut self) -> Self {
        self.linear = true;
        self
    }

    /// The first block at or after `from` (an index, or with a list a position in it) that is not held.
    pub(crate) fn next_missing(&self, core: &Core, cursor: u64) -> Result<Option<u64>, Error> {
        if let Some(blocks) = &self.blocks {
            let skip = usize::try_from(cursor).unwrap_or(usize::MAX);
            for (position, index) in blocks.iter().enumerate().skip(skip) {
                if !core.has(*index)? {
                    return Ok(Some(position as u64));
                }
            }
            return Ok(None);
        }
        let end = self.end.unwrap_or(u64::MAX);
        Ok(core.first_missing(cursor.max(self.start), end)?)
    }
}

/// How much and how urgently.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WantOptions {
    /// Higher goes first (wire values of npm `hypercore` 11: 0 normal, 1 high, 2 very high).
    pub priority: u8,
    /// Give up as soon as every connected peer is known not to have it. An upgrade gives up anyway; with this, only when
    /// that is so of every peer and every connection, and not just of the first ones.
    pub if_available: bool,
}

/// A want as the replicator sees it.
#[derive(Debug)]
pub struct WantEntry {
    /// What is wanted.
    pub want: Want,
    /// How urgently.
    pub options: WantOptions,
    /// Of a range: everything before this index (position, for a list) is here.
    pub cursor: u64,
    session: u64,
    reply: oneshot::Sender<Result<Outcome, Error>>,
}

/// How a want ended well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The block.
    Block(Bytes),
    /// The whole range is here.
    Range,
    /// The block that holds the byte, and the offset in it.
    Seek {
        /// Block index.
        index: u64,
        /// Offset in the block.
        offset: u64,
    },
    /// Whether the log became longer (or another fork); false when no peer has more.
    Upgrade(bool),
}

/// What a want's owner waits on.
pub type Reply = oneshot::Receiver<Result<Outcome, Error>>;

/// What happened to the list of wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new one; look it up with [`Demand::entry`].
    Added(DemandId),
    /// Cancelled, failed or fulfilled.
    Removed(DemandId, Want),
}

/// Changes since the last look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Too much happened: go through [`Demand::iter`] instead.
    pub resync: bool,
    /// In order.
    pub list: Vec<Change>,
}

/// All wants of one log.
#[derive(Debug, Default)]
pub struct Demand {
    entries: BTreeMap<DemandId, WantEntry>,
    blocks: BTreeSet<(u64, DemandId)>,
    others: BTreeSet<DemandId>,
    /// By session, so that the end of one of many costs what it waits for and not what all of them do.
    sessions: BTreeSet<(u64, DemandId)>,
    next: u64,
    tracking: bool,
    changes: Changes,
    finding_peers: u32,
}

impl Demand {
    /// No wants.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a want. The receiver answers when it came true, failed, or was cancelled.
    pub fn add(&mut self, want: Want, options: WantOptions) -> Result<(DemandId, Reply), Error> {
        self.add_for(0, want, options)
    }

    /// Adds a want of a session, for [`Demand::fail_session`].
    pub(crate) fn add_for(
        &mut self,
        session: u64,
        want: Want,
        options: WantOptions,
    ) -> Result<(DemandId, Reply), Error> {
        if self.entries.len() >= MAX_WANTS {
            return Err(Error::TooManyRequests(self.entries.len()));
        }
        let id = DemandId(self.next);
        self.next += 1;
        let (reply, receiver) = oneshot::channel();
        match &want {
            Want::Block { index } => self.blocks.insert((*index, id)),
            _ => self.others.insert(id),
        };
        let cursor = match &want {
            Want::Range(range) if range.blocks.is_none() => range.start,
            _ => 0,
        };
        self.sessions.insert((session, id));
        self.entries.insert(id, WantEntry { want, options, cursor, session, reply });
        self.note(Change::Added(id));
        Ok((id, receiver))
    }

    /// Removes a want that nobody waits for any more. Returns false when it was gone already.
    pub fn cancel(&mut self, id: DemandId) -> bool {
        self.fail(id, Error::Cancelled)
    }

    /// Ends a want with an error.
    pub fn fail(&mut self, id: DemandId, error: Error) -> bool {
        self.finish(id, Err(error))
    }

    /// Ends all wants with an error.
    pub fn fail_all(&mut self, error: &Error) {
        let ids: Vec<DemandId> = self.entries.keys().copied().collect();
        for id in ids {
            self.fail(id, error.clone());
        }
    }

    /// Ends all wants of a session with an error.
    pub(crate) fn fail_session(&mut self, session: u64, error: &Error) {
        let of_session = self.sessions.range((session, DemandId(0))..=(session, DemandId(u64::MAX)));
        let ids: Vec<DemandId> = of_session.map(|(_, id)| *id).collect();
        for id in ids {
            self.fail(id, error.clone());
        }
    }

    pub(crate) fn resolve_all_upgrades(&mut self, upgraded: bool) {
        let ids: Vec<DemandId> = self.others.iter().copied().collect();
        for id in ids {
            self.resolve_upgrade(id, upgraded);
        }
    }

    /// Ends a want for an upgrade: true when the log grew, false when every peer was asked and none has more.
    pub fn resolve_upgrade(&mut self, id: DemandId, upgraded: bool) -> bool {
        match self.entries.get(&id) {
            Some(WantEntry { want: Want::Upgrade { .. }, .. }) => {
                self.finish(id, Ok(Outcome::Upgrade(upgraded)))
            }
            _ => false,
        }
    }

    /// A want, with how far it got.
    pub fn entry(&self, id: DemandId) -> Option<&WantEntry> {
        self.entries.get(&id)
    }

    /// All wants, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = (DemandId, &WantEntry)> {
        self.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// How many wants there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True when nobody waits for anything.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// True when somebody waits for this block.
    pub fn wants_block(&self, index: u64) -> bool {
        self.block_ids(index).next().is_some()
    }

    /// Whether changes are to be recorded for [`Demand::take_changes`]. Starts with a resync.
    pub fn track_changes(&mut self, tracking: bool) {
        self.tracking = tracking;
        self.changes = Changes { resync: tracking, list: Vec::new() };
    }

    /// What changed since the last call.
    pub fn take_changes(&mut self) -> Changes {
        std::mem::take(&mut self.changes)
    }

    /// While peers are being looked for, "no peer has more" is not yet an answer to an upgrade.
    pub fn is_finding_peers(&self) -> bool {
        self.finding_peers > 0
    }

    pub(crate) fn begin_finding_peers(&mut self) {
        self.finding_peers = self.finding_peers.saturating_add(1);
    }

    pub(crate) fn end_finding_peers(&mut self) {
        self.finding_peers = self.finding_peers.saturating_sub(1);
    }

    /// Answers everybody whose wish came true through what happened to `core`. Call it after every change;
    /// sessions do.
    pub fn settle(&mut self, core: &mut Core) {
        let arrivals = core.take_arrivals();
        if self.entries.is_empty() || !arrivals.any() {
            return;
        }
        self.settle_blocks(core, &arrivals);
        let ids: Vec<DemandId> = self.others.iter().copied().collect();
        for id in ids {
            if let Some(length) = arrivals.truncated {
                self.rewind(id, length);
            }
            self.settle_other(core, id);
        }
    }

    fn settle_blocks(&mut self, core: &Core, arrivals: &Arrivals) {
        for (index, block) in &arrivals.blocks {
            let ids: Vec<DemandId> = self.block_ids(*index).collect();
            for id in ids {
                self.finish(id, Ok(Outcome::Block(block.clone())));
            }
        }
        let ranges = arrivals.appended.iter().cloned().chain(arrivals.resync.then_some(0..u64::MAX));
        for range in ranges {
            let from = (range.start, DemandId(0));
            let waiting: Vec<(u64, DemandId)> =
                self.blocks.range(from..(range.end, DemandId(0))).copied().collect();
            for (index, id) in waiting {
                match core.get(index) {
                    Ok(Some(block)) => self.finish(id, Ok(Outcome::Block(block))),
                    Ok(None) => false,
                    Err(error) => self.fail(id, error),
                };
            }
        }
    }

    /// After the log was cut: a range that was complete up to somewhere is complete up to there at most.
    fn rewind(&mut self, id: DemandId, length: u64) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let Want::Range(range) = &entry.want else { return };
        let cursor = match &range.blocks {
            Some(blocks) => blocks.partition_point(|index| *index < length) as u64,
            None => length.max(range.start),
        };
        entry.cursor = entry.cursor.min(cursor);
    }

    fn settle_other(&mut self, core: &Core, id: DemandId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let result = match &entry.want {
            Want::Block { .. } => return,
            Want::Range(range) => match range.next_missing(core, entry.cursor) {
                Ok(Some(cursor)) => {
                    entry.cursor = cursor;
                    return;
                }
                Ok(None) => Ok(Outcome::Range),
                Err(error) => Err(error),
            },
            Want::Seek { bytes, padding } => match core.seek(*bytes, *padding) {
                Ok(Seek::Found { index, offset }) => Ok(Outcome::Seek { index, offset }),
                Ok(_) => return,
                Err(error) => Err(error),
            },
            Want::Upgrade { length, fork } => {
                if core.length() <= *length && core.fork() == *fork {
                    return;
                }
                Ok(Outcome::Upgrade(true))
            }
        };
        self.finish(id, result);
    }

    fn block_ids(&self, index: u64) -> impl Iterator<Item = DemandId> {
        let all = (index, DemandId(0))..=(index, DemandId(u64::MAX));
        self.blocks.range(all).map(|(_, id)| *id)
    }

    fn finish(&mut self, id: DemandId, result: Result<Outcome, Error>) -> bool {
        let Some(entry) = self.entries.remove(&id) else {
            return false;
        };
        match &entry.want {
            Want::Block { index } => self.blocks.remove(&(*index, id)),
            _ => self.others.remove(&id),
        };
        self.sessions.remove(&(entry.session, id));
        // Nobody listens when the owner was dropped: the want is over either way.
        let _ = entry.reply.send(result);
        self.note(Change::Removed(id, entry.want));
        true
    }

    fn note(&mut self, change: Change) {
        if !self.tracking || self.changes.resync {
            return;
        }
        if self.changes.list.len() >= MAX_CHANGES {
            self.changes = Changes { resync: true, list: Vec::new() };
            return;
        }
        self.changes.list.push(change);
    }
}
