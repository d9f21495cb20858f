//! What may have to wait for peers: blocks, byte offsets, a longer log, whole ranges.

use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::shared::{Shared, State};
use super::waiting::Waiting;
use super::{Download, Hypercore};
use crate::core::Core;
use crate::demand::{DownloadRange, Outcome, Want, WantOptions};
use crate::error::Error;

/// How to get a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GetOptions {
    /// Wait for the network when the block is not here.
    pub wait: bool,
    /// Higher goes first: 0 normal, 1 high, 2 very high.
    pub priority: u8,
    /// Fail with [`Error::NotAvailable`] once every connected peer is known not to have it.
    pub if_available: bool,
}

/// How to look for a longer log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UpdateOptions {
    /// Wait until peers have answered. Without it: only when peers are connected or being looked for.
    pub wait: Option<bool>,
    /// Ask although the log is writable here.
    pub force: bool,
    /// Wait for at least this length.
    pub min_length: Option<u64>,
    /// Nobody has more only when every peer has said so, also those whose connections are just being made, and near ones
    /// once more now that they are asked; otherwise the first three peers speak for all.
    pub all_peers: bool,
}

/// While it lives, updates wait for peers that are still being looked for.
#[derive(Debug)]
#[must_use = "updates stop waiting for peers when this is dropped"]
pub struct FindingPeers {
    shared: Weak<Shared>,
}

impl Default for GetOptions {
    fn default() -> Self {
        Self { wait: true, priority: 0, if_available: false }
    }
}

impl Hypercore {
    /// A block; waits for a peer that has it. Never ends while nobody does: race it against a timer, or use
    /// [`Hypercore::get_with`].
    pub async fn get(&self, index: u64) -> Result<Bytes, Error> {
        let options = GetOptions { wait: self.session.wait, ..GetOptions::default() };
        self.get_with(index, options).await?.ok_or(Error::NotAvailable(index))
    }

    /// A block, with options. `None` when it is not here and `wait` is off.
    pub async fn get_with(&self, index: u64, options: GetOptions) -> Result<Option<Bytes>, Error> {
        self.check_open()?;
        let want = Want::Block { index };
        let found = |core: &Core| {
            self.check_snapshot(index)?;
            Ok(core.get(index)?.map(Outcome::Block))
        };
        let wants = WantOptions { priority: options.priority, if_available: options.if_available };
        let waiting = match self.look(found, options.wait.then_some((want, wants)))? {
            Looked::Here(Outcome::Block(block)) => return Ok(Some(block)),
            Looked::Waiting(waiting) => waiting,
            Looked::Here(_) | Looked::Absent => return Ok(None),
        };
        let outcome = waiting.await?;
        self.check_snapshot(index)?;
        match outcome {
            Outcome::Block(block) => Ok(Some(block)),
            _ => Ok(None),
        }
    }

    /// The block that holds a byte offset, and the offset in it; asks peers for the tree nodes that are missing.
    pub async fn seek(&self, bytes: u64) -> Result<(u64, u64), Error> {
        self.seek_with(bytes, WantOptions::default()).await
    }

    /// The same, but `None` once every connected peer is known to have nothing that tells more.
    pub async fn seek_if_available(&self, bytes: u64) -> Result<Option<(u64, u64)>, Error> {
        match self.seek_with(bytes, WantOptions { if_available: true, ..WantOptions::default() }).await {
            Err(Error::NotAvailable(_)) => Ok(None),
            found => found.map(Some),
        }
    }

    async fn seek_with(&self, bytes: u64, options: WantOptions) -> Result<(u64, u64), Error> {
        self.check_open()?;
        let found = |core: &Core| {
            let found = self.seek_in(core, bytes)?;
            Ok(found.map(|(index, offset)| Outcome::Seek { index, offset }))
        };
        let want = Want::Seek { bytes, padding: 0 };
        let waiting = match self.look(found, Some((want, options)))? {
            Looked::Here(Outcome::Seek { index, offset }) => return Ok((index, offset)),
            Looked::Waiting(waiting) => waiting,
            Looked::Here(_) | Looked::Absent => return Err(Error::Cancelled),
        };
        match waiting.await? {
            Outcome::Seek { index, offset } => {
                self.check_snapshot(index)?;
                Ok((index, offset))
            }
            _ => Err(Error::Cancelled),
        }
    }

    /// Asks peers whether the log became longer. True when it did. A writable log has nobody to ask.
    pub async fn update(&self) -> Result<bool, Error> {
        self.update_with(UpdateOptions::default()).await
    }

    /// Looks for a longer log, with options.
    pub async fn update_with(&self, options: UpdateOptions) -> Result<bool, Error> {
        self.check_open()?;
        if self.session.snapshot.is_some() || (self.writable() && !options.force) {
            return Ok(false);
        }
        let waiting = {
            let mut guard = self.shared().lock();
            let state = guard.state();
            let (length, fork) = (state.core.length(), state.core.fork());
            if options.min_length.is_some_and(|min| length >= min) {
                return Ok(true);
            }
            if state.core.frozen() {
                return Err(Error::Frozen(self.key()));
            }
            let finding = state.demand.is_finding_peers();
            let reachable = state.waker.is_some() || finding;
            if !reachable || !options.wait.unwrap_or(finding || !state.peers.is_empty()) {
                return Ok(false);
            }
            let length = options.min_length.map_or(length, |min| min.saturating_sub(1).max(length));
            let asked = WantOptions { if_available: options.all_peers, ..WantOptions::default() };
            self.wait_for(state, Want::Upgrade { length, fork }, asked)?
        };
        self.shared().wake_replicator();
        Ok(matches!(waiting.await?, Outcome::Upgrade(true)))
    }

    /// Downloads a range of blocks for as long as the handle lives. What lies beyond the end of a snapshot is out of
    /// bounds: it never comes.
    pub fn download(&self, range: DownloadRange) -> Result<Download, Error> {
        self.check_open()?;
        let last = match &range.blocks {
            Some(blocks) => blocks.last().copied(),
            None => range.end.filter(|end| *end > range.start).map(|end| end - 1),
        };
        if let (Some(snapshot), Some(index)) = (&self.session.snapshot, last)
            && index >= snapshot.length
        {
            return Err(Error::OutOfBounds { what: "snapshot", index, length: snapshot.length });
        }
        let found = |core: &Core| Ok(range.next_missing(core, 0)?.is_none().then_some(Outcome::Range));
        let want = Want::Range(range.clone());
        match self.look(found, Some((want, WantOptions::default())))? {
            Looked::Waiting(waiting) => Ok(Download::waiting(waiting)),
            Looked::Here(_) | Looked::Absent => Ok(Download::complete()),
        }
    }

    /// Says that peers are being looked for: until the guard is dropped, updates wait for the first ones.
    pub fn finding_peers(&self) -> FindingPeers {
        self.shared().lock().state().demand.begin_finding_peers();
        FindingPeers { shared: Arc::downgrade(self.shared()) }
    }

    /// Looks in the core, and waits for what is not there.
    fn look(
        &self,
        found: impl FnOnce(&Core) -> Result<Option<Outcome>, Error>,
        want: Option<(Want, WantOptions)>,
    ) -> Result<Looked, Error> {
        let waiting = {
            let mut guard = self.shared().lock();
            let state = guard.state();
            if state.closed {
                return Err(Error::Closed);
            }
            if let Some(outcome) = found(&state.core)? {
                return Ok(Looked::Here(outcome));
            }
            let Some((want, options)) = want else { return Ok(Looked::Absent) };
            if state.core.frozen() {
                return Err(Error::Frozen(self.key()));
            }
            if let (Some(index), true, None) = (asked_for(&want), options.if_available, &state.waker)
                && !state.demand.is_finding_peers()
            {
                return Err(Error::NotAvailable(index));
            }
            self.wait_for(state, want, options)?
        };
        self.shared().wake_replicator();
        Ok(Looked::Waiting(waiting))
    }

    fn wait_for(&self, state: &mut State, want: Want, options: WantOptions) -> Result<Waiting, Error> {
        Waiting::add(self.shared(), state, self.session.id, want, options)
    }
}

/// What [`Error::NotAvailable`] says of a want that may end with it: the block, or the byte.
pub(super) fn asked_for(want: &Want) -> Option<u64> {
    match want {
        Want::Block { index } => Some(*index),
        Want::Seek { bytes, .. } => Some(*bytes),
        Want::Range(_) | Want::Upgrade { .. } => None,
    }
}

enum Looked {
    Here(Outcome),
    Waiting(Waiting),
    Absent,
}

impl Drop for FindingPeers {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            let mut guard = shared.lock();
            let state = guard.state();
            state.demand.end_finding_peers();
            if !state.demand.is_finding_peers() && state.waker.is_none() {
                state.demand.resolve_all_upgrades(false);
                state.fail_if_available();
            }
            drop(guard);
            shared.wake_replicator();
        }
    }
}
