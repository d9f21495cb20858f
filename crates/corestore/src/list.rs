//! Listing what is stored, a page at a time: a hundred thousand cores are never in memory at once.

use std::collections::VecDeque;

use hypercore::DiscoveryKey;
use hypercore::storage::{Alias, Database, StorageError};

/// How many entries are read at once.
const PAGE: usize = 256;

/// The discovery keys of all stored cores, in their order.
#[derive(Debug)]
pub struct Cores {
    pages: Pages<DiscoveryKey>,
    database: Database,
}

/// The named cores of one namespace or of all, in order of namespaces and names.
#[derive(Debug)]
pub struct Names {
    pages: Pages<(Alias, DiscoveryKey)>,
    database: Database,
    namespace: Option<[u8; 32]>,
}

#[derive(Debug)]
struct Pages<T> {
    ready: VecDeque<T>,
    last: Option<T>,
    done: bool,
}

impl<T: Clone> Pages<T> {
    fn new(last: Option<T>) -> Self {
        Self { ready: VecDeque::new(), last, done: false }
    }

    fn next(
        &mut self,
        read: impl FnOnce(Option<&T>) -> Result<Vec<T>, StorageError>,
    ) -> Option<Result<T, StorageError>> {
        if self.ready.is_empty() && !self.done {
            match read(self.last.as_ref()) {
                Ok(page) => {
                    self.done = page.len() < PAGE;
                    self.last = page.last().cloned();
                    self.ready = page.into();
                }
                Err(error) => {
                    self.done = true;
                    return Some(Err(error));
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

impl Cores {
    pub(crate) fn new(database: Database, after: Option<DiscoveryKey>) -> Self {
        Self { pages: Pages::new(after), database }
    }
}

impl Iterator for Cores {
    type Item = Result<DiscoveryKey, StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.pages.next(|last| {
            Ok(self.database.cores(last, PAGE)?.into_iter().map(|(discovery_key, _)| discovery_key).collect())
        })
    }
}

impl Names {
    pub(crate) fn new(database: Database, namespace: [u8; 32], after: Option<&str>) -> Self {
        // Only the name says where to go on.
        let after = after.map(|name| (Alias { namespace, name: name.into() }, DiscoveryKey::from([0; 32])));
        Self { pages: Pages::new(after), database, namespace: Some(namespace) }
    }
}

impl Iterator for Names {
    type Item = Result<(Alias, DiscoveryKey), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let namespace = self.namespace;
        self.pages.next(|last| self.database.aliases(namespace.as_ref(), last.map(|(alias, _)| alias), PAGE))
    }
}
