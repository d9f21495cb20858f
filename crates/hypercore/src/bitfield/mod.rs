//! Which blocks are held: pages that are read when somebody asks, and answers that need none.
//!
//! Everything below the contiguous length is held and nothing at or beyond the length is, so a log that is
//! complete, or complete up to some block, answers from two numbers.

mod page;
mod stage;

use std::cell::RefCell;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

pub(crate) use page::{PAGE_BITS, Page};
pub(crate) use stage::{Change, Stage};

use crate::storage::{PAGE_BYTES, StorageError};

/// Pages kept in memory at most (4 KiB each, and nothing for those that are a plain run).
const CACHED_PAGES: usize = 48;

/// Bits of one piece on the wire (npm `hypercore` 11: one segment).
const MAX_WIRE_BITS: u64 = 2_097_152;

/// Where pages are read from.
pub(crate) trait PageSource {
    /// The page, if one was ever written.
    fn page(&self, index: u64) -> Result<Option<Bytes>, StorageError>;
    /// The first page that exists in a range of page indices.
    fn next_page(&self, range: Range<u64>) -> Result<Option<u64>, StorageError>;
}

/// The blocks that are held.
#[derive(Debug)]
pub(crate) struct Bitfield {
    contiguous: u64,
    length: u64,
    cache: RefCell<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    pages: Vec<CachedPage>,
    clock: u64,
}

#[derive(Debug)]
struct CachedPage {
    index: u64,
    used: u64,
    page: Page,
}

impl Bitfield {
    /// Takes over what is stored. `hint` is a contiguous length that was true once; it may have grown since.
    pub(crate) fn open(source: &dyn PageSource, hint: u64, length: u64) -> Result<Self, StorageError> {
        let mut bitfield = Self { contiguous: hint.min(length), length, cache: RefCell::default() };
        let contiguous = bitfield.first_missing(source, bitfield.contiguous, length)?;
        bitfield.contiguous = contiguous.unwrap_or(length);
        bitfield.trim();
        Ok(bitfield)
    }

    /// All blocks below are held; this one is not.
    pub(crate) fn contiguous_length(&self) -> u64 {
        self.contiguous
    }

    /// Whether a block is held.
    pub(crate) fn has(&self, source: &dyn PageSource, index: u64) -> Result<bool, StorageError> {
        if index < self.contiguous {
            return Ok(true);
        }
        if index >= self.length || self.contiguous == self.length {
            return Ok(false);
        }
        let (page, bit) = split(index);
        Ok(self.page(source, page)?.get(bit))
    }

    /// The first block of `from..to` that is not held.
    pub(crate) fn first_missing(
        &self,
        source: &dyn PageSource,
        from: u64,
        to: u64,
    ) -> Result<Option<u64>, StorageError> {
        let mut at = from.max(self.contiguous);
        while at < to {
            if at >= self.length {
                return Ok(Some(at));
            }
            let (index, bit) = split(at);
            if let Some(found) = self.page(source, index)?.find(false, bit) {
                let found = join(index, found);
                return Ok((found < to).then_some(found));
            }
            at = join(index + 1, 0);
        }
        Ok(None)
    }

    /// The first block of `from..to` that is held.
    pub(crate) fn first_present(
        &self,
        source: &dyn PageSource,
        from: u64,
        to: u64,
    ) -> Result<Option<u64>, StorageError> {
        let to = to.min(self.length);
        if from >= to {
            return Ok(None);
        }
        if from < self.contiguous {
            return Ok(Some(from));
        }
        let mut at = from;
        while at < to {
            let (index, bit) = split(at);
            if let Some(found) = self.page(source, index)?.find(true, bit) {
                let found = join(index, found);
                return Ok((found < to).then_some(found));
            }
            // Nothing here: hop over pages that were never written.
            let pages = index + 1..to.div_ceil(PAGE_BITS);
            match source.next_page(pages)? {
                Some(next) => at = join(next, 0),
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// How many blocks of a range are held.
    pub(crate) fn count(&self, source: &dyn PageSource, range: Range<u64>) -> Result<u64, StorageError> {
        let end = range.end.min(self.length);
        let mut total = end.min(self.contiguous).saturating_sub(range.start);
        let mut at = range.start.max(self.contiguous);
        while let Some(start) = self.first_present(source, at, end)? {
            let (index, low) = split(start);
            let stop = end.min(join(index + 1, 0));
            let high = low + (stop - start) as u32;
            total += u64::from(self.page(source, index)?.count(low..high));
            at = stop;
        }
        Ok(total)
    }

    /// The last block of `from..to` that is not held.
    pub(crate) fn last_missing(
        &self,
        source: &dyn PageSource,
        from: u64,
        to: u64,
    ) -> Result<Option<u64>, StorageError> {
        let from = from.max(self.contiguous);
        let mut end = to;
        while from < end {
            if end > self.length {
                return Ok(Some(end - 1));
            }
            let (index, last) = split(end - 1);
            let low = from.saturating_sub(join(index, 0)).min(PAGE_BITS) as u32;
            if let Some(bit) = self.page(source, index)?.find_last(false, low..last + 1) {
                return Ok(Some(join(index, bit)));
            }
            end = join(index, 0);
        }
        Ok(None)
    }

    /// The bits of `start..start + bits` in wire form: pieces of 32-bit little-endian words (npm `hypercore` 11,
    /// `want()` in `lib/bitfield.js`), without the stretches in which nothing is held.
    pub(crate) fn wire(
        &self,
        source: &dyn PageSource,
        start: u64,
        bits: u64,
    ) -> Result<Vec<(u64, Bytes)>, StorageError> {
        let end = start.saturating_add(bits).min(self.length);
        let mut pieces = Vec::new();
        let mut at = start - start % 32;
        while let Some(first) = self.first_present(source, at, end)? {
            let begin = first - first % 32;
            let stop = end.min(begin.saturating_add(MAX_WIRE_BITS));
            let (piece, next) = self.wire_piece(source, begin, stop)?;
            if piece.is_empty() {
                // A damaged store may count blocks as held that no page shows; go on with the next page.
                at = join(split(begin).0.saturating_add(1), 0);
                continue;
            }
            pieces.push((begin, piece));
            at = next;
        }
        Ok(pieces)
    }

    /// The words from `start` on, up to the end or to a page in which nothing is held. Says where it stopped.
    fn wire_piece(
        &self,
        source: &dyn PageSource,
        start: u64,
        end: u64,
    ) -> Result<(Bytes, u64), StorageError> {
        let mut out = BytesMut::new();
        let mut buffer = [0u8; PAGE_BYTES];
        let mut at = start;
        while at < end {
            let (index, low) = split(at);
            let stop = end.min(join(index + 1, 0));
            let page = self.page(source, index)?;
            if page == Page::EMPTY {
                break;
            }
            page.encode_into(&mut buffer);
            let from = (low / 8) as usize;
            let words = (stop - at).div_ceil(32) as usize;
            out.extend_from_slice(buffer.get(from..from + words * 4).unwrap_or_default());
            at = stop;
        }
        while out.len() > 4 && out.ends_with(&[0; 4]) {
            out.truncate(out.len() - 4);
        }
        Ok((out.freeze(), at))
    }

    /// Begins a change that takes effect with [`Bitfield::apply`], after it was stored.
    pub(crate) fn stage<'a>(&'a self, source: &'a dyn PageSource) -> Stage<'a> {
        Stage::new(self, source)
    }

    /// Makes a change that was stored visible.
    pub(crate) fn apply(&mut self, change: Change) {
        self.length = change.length;
        self.contiguous = change.contiguous;
        let cache = self.cache.get_mut();
        if let Some(from) = change.dropped_from {
            cache.pages.retain(|cached| cached.index < from);
        }
        for (index, page) in change.pages {
            cache.put(index, page);
        }
        self.trim();
    }

    /// Lets go of all pages in memory; they are read again when needed.
    pub(crate) fn release(&mut self) {
        *self.cache.get_mut() = Cache::default();
    }

    fn page(&self, source: &dyn PageSource, index: u64) -> Result<Page, StorageError> {
        let start = join(index, 0);
        if start >= self.length {
            return Ok(Page::EMPTY);
        }
        if start.saturating_add(PAGE_BITS) <= self.contiguous {
            return Ok(Page::FULL);
        }
        if self.contiguous == self.length {
            // Safe: `length` lies within this page.
            return Ok(Page::Run((self.length - start) as u32));
        }
        let mut cache = self.cache.borrow_mut();
        if let Some(page) = cache.get(index) {
            return Ok(page);
        }
        let page = match source.page(index)? {
            Some(stored) => Page::decode(&stored)?,
            None => Page::EMPTY,
        };
        cache.put(index, page.clone());
        Ok(page)
    }

    /// Forgets pages that two numbers answer for.
    fn trim(&mut self) {
        let whole = self.contiguous / PAGE_BITS;
        let complete = self.contiguous == self.length;
        let cache = self.cache.get_mut();
        cache.pages.retain(|cached| !complete && cached.index >= whole);
        if cache.pages.is_empty() {
            cache.pages = Vec::new();
        }
    }
}

impl Cache {
    fn get(&mut self, index: u64) -> Option<Page> {
        self.clock += 1;
        let at = self.pages.binary_search_by_key(&index, |cached| cached.index).ok()?;
        let cached = self.pages.get_mut(at)?;
        cached.used = self.clock;
        Some(cached.page.clone())
    }

    fn put(&mut self, index: u64, page: Page) {
        self.clock += 1;
        let used = self.clock;
        match self.pages.binary_search_by_key(&index, |cached| cached.index) {
            Ok(at) => {
                if let Some(cached) = self.pages.get_mut(at) {
                    *cached = CachedPage { index, used, page };
                }
            }
            Err(at) => {
                self.pages.insert(at, CachedPage { index, used, page });
                if self.pages.len() > CACHED_PAGES {
                    let oldest = self.pages.iter().enumerate().min_by_key(|(_, cached)| cached.used);
                    if let Some((at, _)) = oldest {
                        self.pages.remove(at);
                    }
                }
            }
        }
    }
}

fn split(index: u64) -> (u64, u32) {
    (index / PAGE_BITS, (index % PAGE_BITS) as u32)
}

fn join(page: u64, bit: u32) -> u64 {
    page.saturating_mul(PAGE_BITS).saturating_add(u64::from(bit))
}

#[cfg(test)]
mod tests;
