use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use crate::proof::Node;
use crate::storage::StorageError;

/// Stored tree nodes.
pub trait NodeSource {
    /// The node at a flat-tree index, if it is stored.
    fn node(&self, index: u64) -> Result<Option<Node>, StorageError>;

    /// Several nodes, in the order of `indexes`. Worth overriding where a read of many is cheaper than many reads.
    fn nodes(&self, indexes: &[u64]) -> Result<Vec<Option<Node>>, StorageError> {
        indexes.iter().map(|&index| self.node(index)).collect()
    }
}

impl<S: NodeSource + ?Sized> NodeSource for &S {
    fn node(&self, index: u64) -> Result<Option<Node>, StorageError> {
        (**self).node(index)
    }

    fn nodes(&self, indexes: &[u64]) -> Result<Vec<Option<Node>>, StorageError> {
        (**self).nodes(indexes)
    }
}

/// A source that holds its nodes in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryNodes {
    nodes: BTreeMap<u64, Node>,
}

impl MemoryNodes {
    /// Without any node.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces nodes.
    pub fn insert(&mut self, nodes: impl IntoIterator<Item = Node>) {
        self.nodes.extend(nodes.into_iter().map(|node| (node.index, node)));
    }

    /// Removes a node.
    pub fn remove(&mut self, index: u64) -> Option<Node> {
        self.nodes.remove(&index)
    }

    /// All nodes, in the order of their index.
    pub fn iter(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// Stores what a batch adds and removes.
    pub fn apply(&mut self, batch: &super::TreeBatch) {
        if let Some(removed) = batch.removed() {
            self.nodes.retain(|index, _| !removed.range.contains(index));
            for index in removed.parents {
                self.nodes.remove(&index);
            }
        }
        self.insert(batch.nodes().copied());
    }
}

impl NodeSource for MemoryNodes {
    fn node(&self, index: u64) -> Result<Option<Node>, StorageError> {
        Ok(self.nodes.get(&index).copied())
    }
}

/// Remembers what was read from another source, so that the neighbouring requests of a burst share their reads.
/// Meant to live as long as one burst; it holds at most [`CachedNodes::LIMIT`] nodes and reads through beyond.
#[derive(Debug)]
pub struct CachedNodes<S> {
    inner: S,
    seen: RefCell<HashMap<u64, Option<Node>>>,
}

impl<S: NodeSource> CachedNodes<S> {
    /// How many nodes (or absences of nodes) are remembered.
    pub const LIMIT: usize = 16 * 1024;

    /// Nothing is remembered yet.
    pub fn new(inner: S) -> Self {
        Self { inner, seen: RefCell::default() }
    }

    fn remember(&self, index: u64, node: Option<Node>) {
        let mut seen = self.seen.borrow_mut();
        if seen.len() < Self::LIMIT {
            seen.insert(index, node);
        }
    }
}

impl<S: NodeSource> NodeSource for CachedNodes<S> {
    fn node(&self, index: u64) -> Result<Option<Node>, StorageError> {
        if let Some(known) = self.seen.borrow().get(&index) {
            return Ok(*known);
        }
        let node = self.inner.node(index)?;
        self.remember(index, node);
        Ok(node)
    }

    fn nodes(&self, indexes: &[u64]) -> Result<Vec<Option<Node>>, StorageError> {
        let mut out: Vec<Option<Node>> = Vec::with_capacity(indexes.len());
        let mut missing = Vec::new();
        {
            let seen = self.seen.borrow();
            for (place, index) in indexes.iter().enumerate() {
                let known = seen.get(index);
                out.push(known.copied().flatten());
                if known.is_none() {
                    missing.push((place, *index));
                }
            }
        }
        let read: Vec<u64> = missing.iter().map(|(_, index)| *index).collect();
        for ((place, index), node) in missing.into_iter().zip(self.inner.nodes(&read)?) {
            self.remember(index, node);
            if let Some(out) = out.get_mut(place) {
                *out = node;
            }
        }
        Ok(out)
    }
}
