//! The records of one core: reading them, and changing them as a whole.

use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;

use super::keys::{self, END};
use super::records::{self, Auth, Dependency, Group, Head, Hints, NamedSession};
use super::{Batch, Read, Storage, StorageError};
use crate::key::Key;
use crate::proof::Node;
use crate::tree::NodeSource;

/// Bytes of a bitfield page on disk: 32,768 blocks. JS fills in place what it reads, so a page is never shorter.
pub const PAGE_BYTES: usize = 4096;

/// From how many neighbouring blocks on one pass over them is faster than a look-up for each.
const SCAN_FROM: usize = 12;

/// What an append of one block takes: block, nodes, page, head and hints.
const BATCH_STEPS: usize = 12;
const BATCH_BYTES: usize = PAGE_BYTES + 1024;

/// How many inherited pieces a core may be made of; JS makes one or two.
const DEPENDENCIES_MAX: usize = 64;

/// The records of one core, or of one named session of it. Cheap to clone; holds no records itself.
#[derive(Debug, Clone)]
pub struct CoreStore {
    storage: Arc<dyn Storage>,
    pointers: Pointers,
}

#[derive(Debug, Clone)]
struct Pointers {
    core: u64,
    data: u64,
    dependencies: Box<[Dependency]>,
}

impl CoreStore {
    /// The records below two pointers; reads from which other data they inherit.
    pub(super) fn open(storage: Arc<dyn Storage>, core: u64, data: u64) -> Result<Self, StorageError> {
        let mut dependencies = Vec::new();
        let mut next = data;
        while let Some(bytes) = storage.get(&keys::dependency(next))? {
            let dependency = Dependency::decode(bytes)?;
            next = dependency.data;
            dependencies.push(dependency);
            if dependencies.len() > DEPENDENCIES_MAX {
                return Err(StorageError::Corrupt {
                    record: "core dependency",
                    reason: "it inherits from itself, or through too many others".into(),
                });
            }
        }
        Ok(Self { storage, pointers: Pointers { core, data, dependencies: dependencies.into() } })
    }

    /// Reads the present state.
    pub fn read(&self) -> CoreView<'_> {
        CoreView { read: &*self.storage, pointers: &self.pointers, once: false }
    }

    /// Reads the present state for the only time in a while: what is read when a core is opened must not push what
    /// is read all the time out of the cache.
    pub fn read_once(&self) -> CoreView<'_> {
        CoreView { once: true, ..self.read() }
    }

    /// Shows one unchanging moment of the core to `read`, which must not commit.
    pub fn with_snapshot<T>(&self, read: impl FnOnce(CoreView<'_>) -> T) -> Result<T, StorageError> {
        let mut read = Some(read);
        let mut result = None;
        self.storage.with_snapshot(&mut |moment| {
            if let Some(read) = read.take() {
                result = Some(read(CoreView { read: moment, pointers: &self.pointers, once: false }));
            }
        })?;
        result.ok_or(StorageError::Closed)
    }

    /// An empty change to this core.
    pub fn batch(&self) -> CoreBatch {
        CoreBatch {
            batch: Batch::with_capacity(BATCH_STEPS, BATCH_BYTES),
            core: self.pointers.core,
            data: self.pointers.data,
        }
    }

    /// Applies a change: all of it or, on error, nothing.
    pub fn commit(&self, batch: &CoreBatch) -> Result<(), StorageError> {
        self.storage.commit(&batch.batch)
    }

    /// The storage below, shared with the other cores.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// The named session `name`, when JS made one.
    pub fn session(&self, name: &str) -> Result<Option<CoreStore>, StorageError> {
        let sessions = self.read().sessions()?;
        match sessions.into_iter().find(|session| session.name == name) {
            Some(session) => {
                Self::open(Arc::clone(&self.storage), self.pointers.core, session.data).map(Some)
            }
            None => Ok(None),
        }
    }

    /// Gives the space of removed blocks back to the file system now rather than in the course of time.
    pub fn compact(&self) -> Result<(), StorageError> {
        let (start, end) = keys::data_range(self.pointers.data);
        self.storage.compact(&start, &end)
    }
}

/// What is read when a core is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreRecords {
    /// Who it is.
    pub auth: Option<Auth>,
    /// How long it is; none while it is empty.
    pub head: Option<Head>,
    /// What helps.
    pub hints: Hints,
    /// The group that JS put it into.
    pub group: Option<Group>,
}

/// The records of a core at one moment (of a snapshot) or at present.
#[derive(Debug, Clone, Copy)]
pub struct CoreView<'a> {
    read: &'a dyn Read,
    pointers: &'a Pointers,
    once: bool,
}

impl CoreView<'_> {
    /// What is needed to open the core, in one read.
    pub fn records(&self) -> Result<CoreRecords, StorageError> {
        let Pointers { core, data, .. } = *self.pointers;
        let keys = [keys::auth(core), keys::head(data), keys::hints(data), keys::group(core)];
        let mut values = self.get_many(&keys.each_ref().map(|key| &**key))?.into_iter();
        let mut next = || values.next().flatten();
        Ok(CoreRecords {
            auth: next().map(Auth::decode).transpose()?,
            head: next().map(Head::decode).transpose()?,
            hints: next().map(Hints::decode).transpose()?.unwrap_or_default(),
            group: next().map(Group::decode).transpose()?,
        })
    }

    /// The group that JS put it into.
    pub fn group(&self) -> Result<Option<Group>, StorageError> {
        self.read.get(&keys::group(self.pointers.core))?.map(Group::decode).transpose()
    }

    /// Who it is.
    pub fn auth(&self) -> Result<Option<Auth>, StorageError> {
        self.read.get(&keys::auth(self.pointers.core))?.map(Auth::decode).transpose()
    }

    /// How long it is; none while it is empty.
    pub fn head(&self) -> Result<Option<Head>, StorageError> {
        self.read.get(&keys::head(self.pointers.data))?.map(Head::decode).transpose()
    }

    /// What helps.
    pub fn hints(&self) -> Result<Hints, StorageError> {
        Ok(self
            .read
            .get(&keys::hints(self.pointers.data))?
            .map(Hints::decode)
            .transpose()?
            .unwrap_or_default())
    }

    /// The named sessions that JS made.
    pub fn sessions(&self) -> Result<Vec<NamedSession>, StorageError> {
        let sessions = self.read.get(&keys::sessions(self.pointers.core))?;
        Ok(sessions.map(records::decode_sessions).transpose()?.unwrap_or_default())
    }

    /// A block.
    pub fn block(&self, index: u64) -> Result<Option<Bytes>, StorageError> {
        self.read.get(&keys::block(self.data_of_block(index), index))
    }

    /// Several blocks, in the order asked for.
    pub fn blocks(&self, indexes: &[u64]) -> Result<Vec<Option<Bytes>>, StorageError> {
        if let Some(run) = self.own_run(indexes) {
            return self.block_run(run);
        }
        let keys: Vec<_> =
            indexes.iter().map(|&index| keys::block(self.data_of_block(index), index)).collect();
        self.get_many(&keys.iter().map(|key| &**key).collect::<Vec<_>>())
    }

    /// The indexes of stored blocks in `range`, from the core's own data (not what it inherits).
    pub fn block_indexes(
        &self,
        range: Range<u64>,
        visit: &mut dyn FnMut(u64) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let data = self.pointers.data;
        self.scan_indexed(&keys::block(data, range.start), &keys::block(data, range.end), |index, _| {
            visit(index)
        })
    }

    /// A node of the tree, by flat-tree index.
    pub fn node(&self, index: u64) -> Result<Option<Node>, StorageError> {
        self.read
            .get(&keys::tree_node(self.data_of_node(index), index))?
            .map(|bytes| decode_node_at(index, bytes))
            .transpose()
    }

    /// Several nodes of the tree, in the order asked for.
    pub fn nodes(&self, indexes: &[u64]) -> Result<Vec<Option<Node>>, StorageError> {
        let keys: Vec<_> =
            indexes.iter().map(|&index| keys::tree_node(self.data_of_node(index), index)).collect();
        let values = self.get_many(&keys.iter().map(|key| &**key).collect::<Vec<_>>())?;
        indexes
            .iter()
            .zip(values)
            .map(|(&index, value)| value.map(|bytes| decode_node_at(index, bytes)).transpose())
            .collect()
    }

    /// A page of the bitfield: [`PAGE_BYTES`] bytes; what stands behind a shorter one is zero.
    pub fn page(&self, index: u64) -> Result<Option<Bytes>, StorageError> {
        self.read.get(&keys::bitfield_page(self.pointers.data, index))
    }

    /// The stored pages of the bitfield with an index in `range`, in order.
    pub fn pages(
        &self,
        range: Range<u64>,
        visit: &mut dyn FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let data = self.pointers.data;
        let (start, end) = (keys::bitfield_page(data, range.start), keys::bitfield_page(data, range.end));
        let mut failed = None;
        self.read.scan(&start, &end, false, &mut |key, page| match keys::bitfield_page_of(key) {
            Ok(Some(index)) => visit(index, page.get(..PAGE_BYTES).unwrap_or(page)),
            Ok(None) => ControlFlow::Continue(()),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// A named value of the user.
    pub fn user_data(&self, name: &str) -> Result<Option<Bytes>, StorageError> {
        self.read.get(&keys::user_data(self.pointers.data, name))
    }

    /// All named values of the user, in order of their names.
    pub fn all_user_data(
        &self,
        visit: &mut dyn FnMut(String, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let (start, end) = keys::user_data_range(self.pointers.data);
        let mut failed = None;
        self.read.scan(&start, &end, false, &mut |key, value| match keys::user_data_name_of(key) {
            Ok(name) => visit(name, value),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// A value that a higher structure keeps beside the core.
    pub fn local(&self, name: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.read.get(&keys::local(self.pointers.data, name))
    }

    fn get_many(&self, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, StorageError> {
        if self.once { self.read.get_many_once(keys) } else { self.read.get_many(keys) }
    }

    fn scan_indexed(
        &self,
        start: &[u8],
        end: &[u8],
        mut visit: impl FnMut(u64, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let mut failed = None;
        self.read.scan(start, end, false, &mut |key, value| match keys::index_of(key) {
            Ok(index) => visit(index, value),
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    /// The indexes as a range, when they are a long run in the core's own data.
    fn own_run(&self, indexes: &[u64]) -> Option<Range<u64>> {
        let first = *indexes.first()?;
        let is_run = indexes.len() >= SCAN_FROM
            && (first..).zip(indexes).all(|(expected, index)| expected == *index)
            && self.data_of_block(first) == self.pointers.data;
        is_run.then(|| first..first.saturating_add(indexes.len() as u64))
    }

    /// All blocks of a range in one pass, which is several times as fast as looking each of them up.
    fn block_run(&self, range: Range<u64>) -> Result<Vec<Option<Bytes>>, StorageError> {
        let mut blocks = vec![None; usize::try_from(range.end - range.start).unwrap_or(0)];
        let data = self.pointers.data;
        self.scan_indexed(&keys::block(data, range.start), &keys::block(data, range.end), |index, value| {
            let at = index.checked_sub(range.start).and_then(|at| usize::try_from(at).ok());
            if let Some(block) = at.and_then(|at| blocks.get_mut(at)) {
                *block = Some(Bytes::copy_from_slice(value));
            }
            ControlFlow::Continue(())
        })?;
        Ok(blocks)
    }

    /// Below which pointer a block stands: the nearest inherited data that is long enough, else the own.
    fn data_of_block(&self, index: u64) -> u64 {
        let inherited = self.pointers.dependencies.iter().find(|dependency| index < dependency.length);
        inherited.map_or(self.pointers.data, |dependency| dependency.data)
    }

    /// Below which pointer a tree node stands: inherited when its last block is.
    fn data_of_node(&self, index: u64) -> u64 {
        let inherited = self.pointers.dependencies.iter().find(|dependency| {
            // A node of depth d spans 2^d blocks; its last leaf in flat-tree numbering:
            let span = 1u64.checked_shl(index.trailing_ones()).unwrap_or(u64::MAX) - 1;
            let last = index.saturating_add(span);
            dependency.length > 0 && last <= (dependency.length - 1).saturating_mul(2)
        });
        inherited.map_or(self.pointers.data, |dependency| dependency.data)
    }
}

impl NodeSource for CoreStore {
    fn node(&self, index: u64) -> Result<Option<Node>, StorageError> {
        self.read().node(index)
    }

    fn nodes(&self, indexes: &[u64]) -> Result<Vec<Option<Node>>, StorageError> {
        self.read().nodes(indexes)
    }
}

impl NodeSource for CoreView<'_> {
    fn node(&self, index: u64) -> Result<Option<Node>, StorageError> {
        CoreView::node(self, index)
    }

    fn nodes(&self, indexes: &[u64]) -> Result<Vec<Option<Node>>, StorageError> {
        CoreView::nodes(self, indexes)
    }
}

fn decode_node_at(index: u64, bytes: Bytes) -> Result<Node, StorageError> {
    let node = records::decode_node(bytes)?;
    if node.index == index {
        return Ok(node);
    }
    let reason = format!("node {} stands where node {index} belongs", node.index);
    Err(StorageError::Corrupt { record: "tree node", reason })
}

/// A change to a core, collected and then committed as a whole.
#[derive(Debug, Clone)]
pub struct CoreBatch {
    batch: Batch,
    core: u64,
    data: u64,
}

impl CoreBatch {
    /// Sets a block.
    pub fn put_block(&mut self, index: u64, value: Bytes) {
        self.batch.put_bytes(&keys::block(self.data, index), value);
    }

    /// Removes one block.
    pub fn delete_block(&mut self, index: u64) {
        self.batch.delete(&keys::block(self.data, index));
    }

    /// Removes the blocks of `range` in one step; an end of `u64::MAX` means all that follow.
    pub fn delete_blocks(&mut self, range: Range<u64>) {
        self.batch.delete_range(&keys::block(self.data, range.start), &keys::block(self.data, range.end));
    }

    /// Sets a tree node.
    pub fn put_node(&mut self, node: &Node) {
        self.batch.put_with(&keys::tree_node(self.data, node.index), |out| records::encode_node(node, out));
    }

    /// Removes one tree node.
    pub fn delete_node(&mut self, index: u64) {
        self.batch.delete(&keys::tree_node(self.data, index));
    }

    /// Removes the tree nodes with a flat-tree index in `range`; an end of `u64::MAX` means all that follow.
    pub fn delete_nodes(&mut self, range: Range<u64>) {
        self.batch
            .delete_range(&keys::tree_node(self.data, range.start), &keys::tree_node(self.data, range.end));
    }

    /// Sets a page of the bitfield. Shorter pages are filled up with zeros, as JS changes pages in place and
    /// would lose bits behind the end of a shorter one.
    pub fn put_page(&mut self, index: u64, page: &[u8]) {
        const ZEROS: [u8; PAGE_BYTES] = [0; PAGE_BYTES];
        let page = page.get(..PAGE_BYTES).unwrap_or(page);
        self.batch.put_with(&keys::bitfield_page(self.data, index), |out| {
            out.raw(page);
            out.raw(ZEROS.get(page.len()..).unwrap_or_default());
        });
    }

    /// Removes a page of the bitfield.
    pub fn delete_page(&mut self, index: u64) {
        self.batch.delete(&keys::bitfield_page(self.data, index));
    }

    /// Removes the pages with an index in `range`; an end of `u64::MAX` means all that follow.
    pub fn delete_pages(&mut self, range: Range<u64>) {
        self.batch.delete_range(
            &keys::bitfield_page(self.data, range.start),
            &keys::bitfield_page(self.data, range.end),
        );
    }

    /// Sets length, fork, tree hash and signature.
    pub fn set_head(&mut self, head: &Head) {
        self.batch.put_with(&keys::head(self.data), |out| head.encode(out));
    }

    /// Moves the core within its group, from the time of one head to that of the next.
    pub fn move_in_group(&mut self, group: &Group, from: u64, to: u64, key: &Key) {
        self.batch.delete(&keys::group_entry(group.pointer, from, self.core));
        self.batch.put(&keys::group_entry(group.pointer, to, self.core), key.as_bytes());
    }

    /// Makes the core empty (its blocks, nodes and pages are removed on their own).
    pub fn delete_head(&mut self) {
        self.batch.delete(&keys::head(self.data));
    }

    /// Sets the hints.
    pub fn set_hints(&mut self, hints: &Hints) {
        self.batch.put_with(&keys::hints(self.data), |out| hints.encode(out));
    }

    /// Sets key, manifest and key pair.
    pub fn set_auth(&mut self, auth: &Auth) {
        self.batch.put(&keys::auth(self.core), &auth.encode());
    }

    /// Sets a named value of the user.
    pub fn put_user_data(&mut self, name: &str, value: &[u8]) {
        self.batch.put(&keys::user_data(self.data, name), value);
    }

    /// Removes a named value of the user.
    pub fn delete_user_data(&mut self, name: &str) {
        self.batch.delete(&keys::user_data(self.data, name));
    }

    /// Sets a value that a higher structure keeps beside the core. Names have at most 2,048 bytes, as in JS.
    pub fn put_local(&mut self, name: &[u8], value: &[u8]) -> Result<(), StorageError> {
        if name.len() > keys::LOCAL_KEY_MAX {
            return Err(StorageError::Unstorable {
                record: "local value",
                reason: format!("its name has {} bytes, the limit is {}", name.len(), keys::LOCAL_KEY_MAX),
            });
        }
        self.batch.put(&keys::local(self.data, name), value);
        Ok(())
    }

    /// Removes a value that a higher structure keeps beside the core.
    pub fn delete_local(&mut self, name: &[u8]) {
        self.batch.delete(&keys::local(self.data, name));
    }

    /// Removes everything below the data pointer.
    pub fn delete_all_data(&mut self) {
        let (start, end) = keys::data_range(self.data);
        self.batch.delete_range(&start, &end);
    }

    /// True when there is nothing to commit.
    pub fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Forgets the change and keeps the memory for the next one.
    pub fn clear(&mut self) {
        self.batch.clear();
    }

    /// The change in terms of the map.
    pub fn as_batch(&self) -> &Batch {
        &self.batch
    }
}

const _: () = assert!(END == u64::MAX, "the ranges above say that u64::MAX is the end");
