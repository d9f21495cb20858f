//! A change to the map: puts, deletes and range deletes that take effect together.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use compact_codec::Writer;

/// Puts, deletes and range deletes that take effect together or not at all, in the order given.
///
/// Keys and small values are written one behind the other into one buffer; a block is kept as the [`Bytes`] it
/// came as. So a batch costs two or three allocations, not two for every record.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    arena: BytesMut,
    steps: Vec<Step>,
}

#[derive(Debug, Clone)]
enum Step {
    Put(Range<usize>, Value),
    Delete(Range<usize>),
    DeleteRange(Range<usize>, Range<usize>),
}

#[derive(Debug, Clone)]
enum Value {
    Inline(Range<usize>),
    Shared(Bytes),
}

/// One step of a [`Batch`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation<'a> {
    /// Set a value.
    Put(&'a [u8], &'a [u8]),
    /// Remove a key, if it is there.
    Delete(&'a [u8]),
    /// Remove every key in `start..end`.
    DeleteRange(&'a [u8], &'a [u8]),
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for `steps` steps and `bytes` bytes of keys and small values.
    pub fn with_capacity(steps: usize, bytes: usize) -> Self {
        Self { arena: BytesMut::with_capacity(bytes), steps: Vec::with_capacity(steps) }
    }

    /// Sets `key` to a copy of `value`.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        let key = self.keep(key);
        let value = self.keep(value);
        self.steps.push(Step::Put(key, Value::Inline(value)));
    }

    /// Sets `key` to `value` without copying it.
    pub fn put_bytes(&mut self, key: &[u8], value: Bytes) {
        let key = self.keep(key);
        self.steps.push(Step::Put(key, Value::Shared(value)));
    }

    /// Sets `key` to what `write` writes.
    pub fn put_with(&mut self, key: &[u8], write: impl FnOnce(&mut Writer)) {
        let key = self.keep(key);
        let start = self.arena.len();
        let mut writer = Writer::append_to(std::mem::take(&mut self.arena));
        write(&mut writer);
        self.arena = writer.into_inner();
        self.steps.push(Step::Put(key, Value::Inline(start..self.arena.len())));
    }

    /// Removes `key`.
    pub fn delete(&mut self, key: &[u8]) {
        let key = self.keep(key);
        self.steps.push(Step::Delete(key));
    }

    /// Removes all of `start..end`.
    pub fn delete_range(&mut self, start: &[u8], end: &[u8]) {
        let start = self.keep(start);
        let end = self.keep(end);
        self.steps.push(Step::DeleteRange(start, end));
    }

    /// The steps so far.
    pub fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        self.steps.iter().map(|step| match step {
            Step::Put(key, Value::Inline(value)) => Operation::Put(self.kept(key), self.kept(value)),
            Step::Put(key, Value::Shared(value)) => Operation::Put(self.kept(key), value),
            Step::Delete(key) => Operation::Delete(self.kept(key)),
            Step::DeleteRange(start, end) => Operation::DeleteRange(self.kept(start), self.kept(end)),
        })
    }

    /// How many steps.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// About how many bytes keys and values take together.
    pub fn size_hint(&self) -> usize {
        let shared = self.steps.iter().map(|step| match step {
            Step::Put(_, Value::Shared(value)) => value.len(),
            _ => 0,
        });
        self.arena.len() + shared.sum::<usize>() + self.steps.len() * 16
    }

    /// True when there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Forgets all steps and keeps the memory for the next use.
    pub fn clear(&mut self) {
        self.arena.clear();
        self.steps.clear();
    }

    /// Adds the steps of `other` behind these.
    pub fn append(&mut self, other: &Batch) {
        for operation in other.operations() {
            match operation {
                Operation::Put(key, value) => self.put(key, value),
                Operation::Delete(key) => self.delete(key),
                Operation::DeleteRange(start, end) => self.delete_range(start, end),
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        start..self.arena.len()
    }

    /// The ranges come from `keep`, and the arena only grows while there are steps.
    fn kept(&self, range: &Range<usize>) -> &[u8] {
        self.arena.get(range.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_come_out_as_they_went_in() {
        let mut batch = Batch::new();
        batch.put(b"a", b"1");
        batch.put_bytes(b"b", Bytes::from_static(b"2"));
        batch.put_with(b"c", |out| out.uint(300));
        batch.delete(b"d");
        batch.delete_range(b"e", b"f");
        let expected = [
            Operation::Put(b"a", b"1"),
            Operation::Put(b"b", b"2"),
            Operation::Put(b"c", &[0xfd, 0x2c, 0x01]),
            Operation::Delete(b"d"),
            Operation::DeleteRange(b"e", b"f"),
        ];
        assert_eq!(batch.operations().collect::<Vec<_>>(), expected);
        let mut copy = Batch::new();
        copy.append(&batch);
        assert_eq!(copy.operations().collect::<Vec<_>>(), expected);
        batch.clear();
        assert!(batch.is_empty());
        assert_eq!(batch.operations().count(), 0);
    }
}
