//! A change of the bitfield that is not stored yet: nothing is visible before the commit succeeded.

use std::collections::BTreeMap;

use super::{Bitfield, PAGE_BITS, Page, PageSource, join, split};
use crate::storage::StorageError;

/// Collects bits to set and to clear.
#[derive(Clone)]
pub(crate) struct Stage<'a> {
    base: &'a Bitfield,
    source: &'a dyn PageSource,
    pages: BTreeMap<u64, Page>,
    length: u64,
    contiguous: u64,
    dropped_from: Option<u64>,
}

/// What [`Stage::finish`] hands to storage and, after that, to [`Bitfield::apply`].
#[derive(Debug)]
pub(crate) struct Change {
    /// Pages to write.
    pub(crate) pages: Vec<(u64, Page)>,
    /// All stored pages from this one on are to be removed (before `pages` are written).
    pub(crate) dropped_from: Option<u64>,
    /// The contiguous length from now on.
    pub(crate) contiguous: u64,
    /// The length from now on.
    pub(crate) length: u64,
}

impl<'a> Stage<'a> {
    pub(super) fn new(base: &'a Bitfield, source: &'a dyn PageSource) -> Self {
        Self {
            base,
            source,
            pages: BTreeMap::new(),
            length: base.length,
            contiguous: base.contiguous,
            dropped_from: None,
        }
    }

    /// Whether a block will be held.
    pub(crate) fn has(&self, index: u64) -> Result<bool, StorageError> {
        if index < self.contiguous {
            return Ok(true);
        }
        if index >= self.length {
            return Ok(false);
        }
        let (page, bit) = split(index);
        Ok(self.page(page)?.get(bit))
    }

    /// Sets the length, forgetting everything beyond it.
    pub(crate) fn set_length(&mut self, length: u64) -> Result<(), StorageError> {
        if length < self.length {
            let (index, bit) = split(length);
            let keep = if bit == 0 { index } else { index + 1 };
            if bit != 0 {
                let mut page = self.page(index)?;
                page.fill(bit..PAGE_BITS as u32, false);
                self.pages.insert(index, page);
            }
            self.pages.retain(|index, _| *index < keep);
            self.dropped_from = Some(self.dropped_from.map_or(keep, |from| from.min(keep)));
            self.contiguous = self.contiguous.min(length);
        }
        self.length = length;
        Ok(())
    }

    /// Marks blocks as held. They must lie below the length.
    pub(crate) fn set(&mut self, start: u64, end: u64) -> Result<(), StorageError> {
        self.fill(start, end, true)?;
        if start <= self.contiguous && self.contiguous < end {
            self.contiguous = end;
            self.advance()?;
        }
        Ok(())
    }

    /// Marks blocks as not held. Answers how many of them were.
    pub(crate) fn clear(&mut self, start: u64, end: u64) -> Result<u64, StorageError> {
        let end = end.min(self.length);
        let mut cleared = 0;
        let mut at = start;
        while let Some(first) = self.first_present(at, end)? {
            let (index, low) = split(first);
            let stop = end.min(join(index + 1, 0));
            let range = low..low + (stop - first) as u32;
            let mut page = self.page(index)?;
            cleared += u64::from(page.count(range.clone()));
            page.fill(range, false);
            self.pages.insert(index, page);
            at = stop;
        }
        // Only now: until here the old number answered for pages that were not read.
        if start < self.contiguous && start < end {
            self.contiguous = start;
        }
        Ok(cleared)
    }

    /// The finished change.
    pub(crate) fn finish(self) -> Change {
        Change {
            pages: self.pages.into_iter().collect(),
            dropped_from: self.dropped_from,
            contiguous: self.contiguous,
            length: self.length,
        }
    }

    fn fill(&mut self, start: u64, end: u64, value: bool) -> Result<(), StorageError> {
        let mut at = start;
        while at < end {
            let (index, low) = split(at);
            let stop = end.min(join(index + 1, 0));
            let mut page = self.page(index)?;
            page.fill(low..low + (stop - at) as u32, value);
            self.pages.insert(index, page);
            at = stop;
        }
        Ok(())
    }

    fn advance(&mut self) -> Result<(), StorageError> {
        while self.contiguous < self.length {
            let (index, bit) = split(self.contiguous);
            match self.page(index)?.find(false, bit) {
                Some(bit) => {
                    self.contiguous = join(index, bit).min(self.length);
                    return Ok(());
                }
                None => self.contiguous = join(index + 1, 0).min(self.length),
            }
        }
        Ok(())
    }

    fn first_present(&self, from: u64, to: u64) -> Result<Option<u64>, StorageError> {
        let mut at = from;
        while at < to {
            let (index, bit) = split(at);
            if let Some(found) = self.page(index)?.find(true, bit) {
                let found = join(index, found);
                return Ok((found < to).then_some(found));
            }
            let pages = index + 1..to.div_ceil(PAGE_BITS);
            let staged = self.pages.range(pages.clone()).next().map(|(index, _)| *index);
            let stored = self.base.first_present(self.source, join(index + 1, 0), to)?;
            match staged.into_iter().chain(stored.map(|block| split(block).0)).min() {
                Some(next) => at = join(next, 0),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    fn page(&self, index: u64) -> Result<Page, StorageError> {
        if let Some(page) = self.pages.get(&index) {
            return Ok(page.clone());
        }
        if self.dropped_from.is_some_and(|from| index >= from) {
            return Ok(Page::EMPTY);
        }
        self.base.page(self.source, index)
    }
}
