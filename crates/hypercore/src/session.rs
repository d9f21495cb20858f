//! A log in the hands of its users: cheap handles, futures that wait for the network, streams and events.

mod builder;
mod download;
mod fetch;
mod shared;
mod snapshot;
mod waiting;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::core::{AppendOptions, Appended, Core, CoreOptions, Seek, TruncateOptions};
use crate::error::Error;
use crate::events::{EventQueue, EventSink, Events, PeerInfo};
use crate::info::Info;
use crate::key::{DiscoveryKey, Key};
use crate::manifest::Manifest;
use crate::storage::Database;

pub use builder::HypercoreBuilder;
pub use download::Download;
pub use fetch::{FindingPeers, GetOptions, UpdateOptions};
pub use shared::{CloseHook, CoreGuard, PeerTicket, ReplicationWaker, Subscription};

use shared::Shared;
use snapshot::Snapshot;

/// A session of a log. Clones are the same session; the log is let go of when its last session is closed or
/// dropped.
///
/// What can be done at once is a plain method; what may have to wait for peers is `async`, needs no particular
/// runtime, and is cancelled by dropping its future. For a deadline, race it against your runtime's timer.
#[derive(Clone)]
pub struct Hypercore {
    session: Arc<Session>,
}

struct Session {
    id: u64,
    shared: Arc<Shared>,
    snapshot: Option<Arc<Snapshot>>,
    read_only: bool,
    wait: bool,
    /// Does not keep the log open.
    visits: bool,
    closed: AtomicBool,
}

/// A handle that does not keep the log open.
#[derive(Debug, Clone)]
pub struct WeakHypercore {
    shared: Weak<Shared>,
}

/// What a further session may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionOptions {
    /// Refuse to write.
    pub read_only: bool,
    /// Stay at the present length.
    pub snapshot: bool,
    /// Whether reads wait for the network unless told otherwise.
    pub wait: bool,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self { read_only: false, snapshot: false, wait: true }
    }
}

/// Opening and closing.
impl Hypercore {
    /// A new log with a fresh key pair, in memory. For trying things out.
    pub fn memory() -> Result<Self, Error> {
        Self::builder().memory()
    }

    /// Says which log to open.
    pub fn builder() -> HypercoreBuilder {
        HypercoreBuilder::default()
    }

    /// Opens a log as `options` say.
    pub fn from_options(database: &Database, options: CoreOptions) -> Result<Self, Error> {
        Self::from_core(Core::open(database, options)?)
    }

    /// The first session of a log that was opened.
    pub fn from_core(core: Core) -> Result<Self, Error> {
        Self::begin(Shared::new(core), SessionOptions::default())
    }

    fn begin(shared: Arc<Shared>, options: SessionOptions) -> Result<Self, Error> {
        if !shared.session_opened() {
            return Err(Error::Closed);
        }
        Ok(Self::with_shared(shared, options, false))
    }

    fn with_shared(shared: Arc<Shared>, options: SessionOptions, visits: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let snapshot = options.snapshot.then(|| {
            let mut guard = shared.lock();
            let snapshot = Arc::new(Snapshot::take(guard.core()));
            let snapshots = &mut guard.state().snapshots;
            if snapshots.len() == snapshots.capacity() {
                // Before it takes more memory: what is dropped leaves its place.
                snapshots.retain(|snapshot| snapshot.strong_count() > 0);
            }
            snapshots.push(Arc::downgrade(&snapshot));
            snapshot
        });
        let session = Session {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            shared,
            snapshot,
            read_only: options.read_only || options.snapshot,
            wait: options.wait,
            visits,
            closed: AtomicBool::new(false),
        };
        Self { session: Arc::new(session) }
    }

    /// Another session of the same log. It restricts, never extends, what this one may do.
    pub fn session(&self, options: SessionOptions) -> Result<Self, Error> {
        self.check_open()?;
        let read_only = options.read_only || self.session.read_only;
        let session = Self::begin(self.shared().clone(), SessionOptions { read_only, ..options })?;
        match (&self.session.snapshot, options.snapshot) {
            // A session of a snapshot is the same snapshot.
            (Some(snapshot), _) => Ok(session.with_snapshot(snapshot.clone())),
            _ => Ok(session),
        }
    }

    /// A read-only session that stays at the present length while the log grows. When the log is truncated below
    /// it, the blocks that were cut away are gone from the snapshot, too.
    pub fn snapshot(&self) -> Result<Self, Error> {
        self.session(SessionOptions { snapshot: true, ..SessionOptions::default() })
    }

    fn with_snapshot(mut self, snapshot: Arc<Snapshot>) -> Self {
        if let Some(session) = Arc::get_mut(&mut self.session) {
            session.snapshot = Some(snapshot);
            session.read_only = true;
        }
        self
    }

    /// Ends this session: what it waits for fails, and so does whatever it is asked for. The last session to close
    /// closes the log.
    pub fn close(&self) {
        self.session.close();
    }

    /// Ends all sessions of the log.
    pub fn close_all(&self) {
        self.session.shared.close();
    }

    /// Whether this session, or the log, was closed.
    pub fn is_closed(&self) -> bool {
        self.session.closed.load(Ordering::Acquire) || self.shared().lock().is_closed()
    }

    /// A handle that does not keep the log open.
    pub fn weak(&self) -> WeakHypercore {
        WeakHypercore { shared: Arc::downgrade(self.shared()) }
    }

    /// How many sessions are open.
    pub fn session_count(&self) -> usize {
        self.shared().session_count()
    }

    /// Calls `hook` once, when the last session has gone.
    pub fn on_close(&self, hook: CloseHook) {
        self.shared().set_close_hook(hook);
    }
}

/// What it is.
impl Hypercore {
    /// The key; whoever knows it may read.
    pub fn key(&self) -> Key {
        self.shared().key
    }

    /// Hash of the key, under which peers find one another.
    pub fn discovery_key(&self) -> DiscoveryKey {
        self.shared().discovery_key
    }

    /// Who may sign, as far as it is known.
    pub fn manifest(&self) -> Option<Manifest> {
        self.shared().lock().core().manifest().cloned()
    }

    /// Whether blocks can be appended in this session.
    pub fn writable(&self) -> bool {
        !self.session.read_only && self.shared().lock().core().writable()
    }

    /// Blocks.
    pub fn length(&self) -> u64 {
        match &self.session.snapshot {
            Some(snapshot) => snapshot.length,
            None => self.shared().lock().core().length(),
        }
    }

    /// Bytes in all blocks together.
    pub fn byte_length(&self) -> u64 {
        match &self.session.snapshot {
            Some(snapshot) => snapshot.byte_length,
            None => self.shared().lock().core().byte_length(),
        }
    }

    /// How often history was rewritten.
    pub fn fork(&self) -> u64 {
        match &self.session.snapshot {
            Some(snapshot) => snapshot.fork,
            None => self.shared().lock().core().fork(),
        }
    }

    /// All blocks below this one are here.
    pub fn contiguous_length(&self) -> u64 {
        let guard = self.shared().lock();
        guard.core().contiguous_length().min(self.valid_length())
    }

    /// Hash over the whole tree.
    pub fn tree_hash(&self) -> [u8; 32] {
        match &self.session.snapshot {
            Some(snapshot) => snapshot.tree_hash,
            None => self.shared().lock().core().tree_hash(),
        }
    }

    /// The log at a glance.
    pub fn info(&self) -> Info {
        let mut guard = self.shared().lock();
        let peers = guard.state().peers.len();
        let info = Info { peers, ..guard.core().info() };
        self.as_seen_here(info)
    }

    /// The log as this session sees it. The caller holds the lock, if what may have been cut away matters.
    fn as_seen_here(&self, mut info: Info) -> Info {
        info.writable &= !self.session.read_only;
        if let Some(snapshot) = &self.session.snapshot {
            info.length = snapshot.length;
            info.byte_length = snapshot.byte_length;
            info.fork = snapshot.fork;
            info.tree_hash = snapshot.tree_hash;
            info.contiguous_length = info.contiguous_length.min(snapshot.valid_length());
        }
        info
    }

    /// The peers that replicate this log with us now.
    pub fn peers(&self) -> Vec<Arc<PeerInfo>> {
        self.shared().lock().state().peers.iter().map(|(_, peer)| peer.clone()).collect()
    }

    /// How many peers replicate this log with us now.
    pub fn peer_count(&self) -> usize {
        self.shared().lock().state().peers.len()
    }

    /// Below this the log's blocks are those of this session: a snapshot loses what is cut away, whatever comes in its
    /// place. It holds for as long as the caller holds the lock.
    fn valid_length(&self) -> u64 {
        self.session.snapshot.as_ref().map_or(u64::MAX, |snapshot| snapshot.valid_length())
    }
}

/// What can be done at once.
impl Hypercore {
    /// Appends a block and returns the new length. When it returns, the block survives the death of the process.
    pub fn append(&self, block: impl Into<Bytes>) -> Result<u64, Error> {
        Ok(self.append_with(&[block.into()], &AppendOptions::default())?.length)
    }

    /// Appends many blocks, all or none, with one signature and one commit. Returns the new length.
    pub fn append_batch<B: Into<Bytes>>(&self, blocks: impl IntoIterator<Item = B>) -> Result<u64, Error> {
        let blocks: Vec<Bytes> = blocks.into_iter().map(Into::into).collect();
        Ok(self.append_with(&blocks, &AppendOptions::default())?.length)
    }

    /// Appends, with options.
    pub fn append_with(&self, blocks: &[Bytes], options: &AppendOptions) -> Result<Appended, Error> {
        self.write(|core| core.append_with(blocks, options))
    }

    /// Makes several appends one commit; each gets its own length and its own event.
    pub fn append_group(&self, groups: &[Vec<Bytes>]) -> Result<Vec<Appended>, Error> {
        self.write(|core| core.append_group(groups))
    }

    /// Cuts the log to `length` blocks and moves it to the next fork.
    pub fn truncate(&self, length: u64) -> Result<(), Error> {
        self.truncate_with(length, &TruncateOptions::default())
    }

    /// Cuts the log, with options.
    pub fn truncate_with(&self, length: u64, options: &TruncateOptions) -> Result<(), Error> {
        self.write(|core| core.truncate_with(length, options))
    }

    /// Removes the blocks of a range and gives their space back; the log stays as long as it is. Returns how many
    /// blocks were here.
    pub fn clear(&self, range: Range<u64>) -> Result<u64, Error> {
        self.check_open()?;
        if self.session.read_only {
            return Err(Error::NotWritable(self.key()));
        }
        self.shared().change(|state| state.core.clear(range))
    }

    /// A block, if it is here.
    pub fn try_get(&self, index: u64) -> Result<Option<Bytes>, Error> {
        self.check_open()?;
        let guard = self.shared().lock();
        self.check_snapshot(index)?;
        guard.core().get(index)
    }

    /// The blocks from `start` on that are here without a gap: at most `limit`, and about `max_bytes` in all.
    pub fn try_get_run(&self, start: u64, limit: usize, max_bytes: u64) -> Result<Vec<Bytes>, Error> {
        self.check_open()?;
        let guard = self.shared().lock();
        self.check_snapshot(start)?;
        let valid = self.valid_length().saturating_sub(start);
        let limit = limit.min(usize::try_from(valid).unwrap_or(usize::MAX));
        guard.core().get_run(start, limit, max_bytes)
    }

    /// Whether a block is here.
    pub fn has(&self, index: u64) -> Result<bool, Error> {
        self.check_open()?;
        let guard = self.shared().lock();
        Ok(index < self.valid_length() && guard.core().has(index)?)
    }

    /// Whether all blocks of a range are here.
    pub fn has_range(&self, range: Range<u64>) -> Result<bool, Error> {
        self.check_open()?;
        let guard = self.shared().lock();
        let missing = guard.core().first_missing(range.start, range.end)?;
        Ok(missing.is_none() && range.end <= self.valid_length())
    }

    /// How many blocks of a range are here.
    pub fn count_local(&self, range: Range<u64>) -> Result<u64, Error> {
        self.check_open()?;
        let guard = self.shared().lock();
        let range = range.start..range.end.min(self.valid_length());
        Ok(guard.core().count(range)?)
    }

    /// The block that holds a byte offset, and the offset in it, if that can be told without peers. What lies beyond
    /// the end of a snapshot is out of bounds: it never becomes longer.
    pub fn try_seek(&self, bytes: u64) -> Result<Option<(u64, u64)>, Error> {
        self.check_open()?;
        let guard = self.shared().lock();
        self.seek_in(guard.core(), bytes)
    }

    /// A named value that was stored beside the log.
    pub fn user_data(&self, name: &str) -> Result<Option<Bytes>, Error> {
        self.check_open()?;
        self.shared().lock().core().user_data(name)
    }

    /// Allows appending again after [`Error::Recovering`], once the log is known to be as long as it ever was.
    pub fn end_recovery(&self) -> Result<(), Error> {
        self.check_open()?;
        self.shared().lock().state().core.end_recovery()
    }

    /// Stores or removes a named value beside the log. It is not replicated.
    pub fn set_user_data(&self, name: &str, value: Option<&[u8]>) -> Result<(), Error> {
        self.check_open()?;
        self.shared().lock().state().core.set_user_data(name, value)
    }

    /// Makes everything that was appended survive loss of power, whatever the fsync policy is.
    pub fn sync(&self) -> Result<(), Error> {
        self.check_open()?;
        let storage = self.shared().lock().core().store().storage().clone();
        Ok(storage.sync()?)
    }

    fn write<T>(&self, work: impl FnOnce(&mut Core) -> Result<T, Error>) -> Result<T, Error> {
        self.check_open()?;
        if self.session.read_only {
            return Err(Error::NotWritable(self.key()));
        }
        self.shared().change(|state| work(&mut state.core))
    }
}

/// Listening.
impl Hypercore {
    /// A stream of what happens to the log. It does not keep the log open and ends when the log closes.
    pub fn events(&self) -> Events {
        let queue = Arc::new(EventQueue::default());
        let subscription = self.subscribe(0, queue.clone());
        Events::new(queue, Some(subscription))
    }

    /// Calls a sink with what happens, at once and in order; see [`EventSink`] for what it must not do.
    pub fn subscribe(&self, tag: u64, sink: Arc<dyn EventSink>) -> Subscription {
        self.shared().subscribe(tag, sink).0
    }

    /// The same, with the log and its peers as they are when the sink begins to hear of changes: nothing that happens
    /// meanwhile is missing in both or told in both.
    pub fn subscribe_with_state(
        &self,
        tag: u64,
        sink: Arc<dyn EventSink>,
    ) -> (Subscription, Info, Vec<Arc<PeerInfo>>) {
        let (subscription, info, peers) = self.shared().subscribe(tag, sink);
        (subscription, self.as_seen_here(info), peers)
    }
}

/// For whoever replicates the log.
impl Hypercore {
    /// The core and its wants, locked. Wants that came true are answered, and events sent, when the guard drops.
    /// The replication waker is not called: this is for replicators.
    pub fn lock(&self) -> CoreGuard<'_> {
        self.shared().lock()
    }

    /// Calls `waker` after every change that peers may have to hear of: appends, truncations, clears, new and
    /// cancelled wants, and the close of the log. It is called without the lock and must return quickly.
    pub fn set_replication_waker(&self, waker: Option<ReplicationWaker>) {
        let mut guard = self.shared().lock();
        let state = guard.state();
        let attached = waker.is_some();
        state.demand.track_changes(attached);
        state.core.track_updates(attached);
        state.waker = waker;
    }

    /// Tells users of a peer that replicates the log with us, until the ticket is dropped.
    pub fn peer_added(&self, peer: PeerInfo) -> PeerTicket {
        self.shared().peer_added(peer)
    }
}

impl Hypercore {
    fn shared(&self) -> &Arc<Shared> {
        &self.session.shared
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.session.closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    /// Seeks in the log or, if this is a snapshot, in what is left of it.
    fn seek_in(&self, core: &Core, bytes: u64) -> Result<Option<(u64, u64)>, Error> {
        let snapshot = self.session.snapshot.as_deref();
        if let Some(end) = snapshot.map(|snapshot| snapshot.seek_end(bytes)).transpose()?.flatten() {
            return Ok(Some(end));
        }
        let found = core.seek(bytes, 0)?;
        if let Some(snapshot) = snapshot {
            snapshot.check_found(found)?;
        }
        match found {
            Seek::Found { index, offset } => Ok(Some((index, offset))),
            Seek::Between { .. } | Seek::Beyond => Ok(None),
        }
    }

    /// Checks that a block of the log is the one of this session. It is so for as long as the caller holds the lock.
    fn check_snapshot(&self, index: u64) -> Result<(), Error> {
        match &self.session.snapshot {
            Some(snapshot) if index >= snapshot.length => {
                Err(Error::OutOfBounds { what: "snapshot", index, length: snapshot.length })
            }
            Some(snapshot) if !snapshot.is_valid(index) => Err(Error::SnapshotLost(index)),
            _ => Ok(()),
        }
    }
}

impl WeakHypercore {
    /// A new session, unless the log was closed.
    pub fn upgrade(&self) -> Option<Hypercore> {
        Hypercore::begin(self.shared.upgrade()?, SessionOptions::default()).ok()
    }

    /// A new session that does not keep the log open either, unless it was closed: when the last of the others has
    /// gone, what this one waits for fails with [`Error::Closed`].
    pub fn visit(&self) -> Option<Hypercore> {
        let shared = self.shared.upgrade().filter(|shared| !shared.lock().is_closed())?;
        Some(Hypercore::with_shared(shared, SessionOptions::default(), true))
    }

    /// Whether the log was closed.
    pub fn is_closed(&self) -> bool {
        self.shared.upgrade().is_none_or(|shared| shared.lock().is_closed())
    }
}

impl Session {
    fn close(&self) {
        if self.closed.swap(true, Ordering::AcqRel) {
            return;
        }
        if self.visits {
            self.shared.visit_ended(self.id);
        } else {
            self.shared.session_closed(self.id);
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for Hypercore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hypercore").field("key", &self.key()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
