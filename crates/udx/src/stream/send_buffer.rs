//! Bytes that were written and not yet acknowledged.

use std::collections::VecDeque;

use bytes::Bytes;

/// Writes smaller than this are gathered, so that a million of them are not a million objects.
const SMALL: usize = 512;
/// How much one gathering takes.
const GATHERED: usize = 16 << 10;

/// The stream's bytes from the first unacknowledged one on, addressed by their offset in the stream.
#[derive(Debug, Default)]
pub(crate) struct SendBuffer {
    chunks: VecDeque<Chunk>,
    /// Everything before is acknowledged.
    start: u64,
    /// Next byte to be sent for the first time, and where in `chunks` it is (or will be).
    next: u64,
    next_chunk: usize,
    /// End of what was written.
    end: u64,
}

#[derive(Debug)]
struct Chunk {
    start: u64,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Shared(Bytes),
    Gathered(Vec<u8>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Shared(data) => data,
            Data::Gathered(data) => data,
        }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes().len() as u64
    }
}

impl SendBuffer {
    pub(crate) fn push(&mut self, data: Bytes) {
        if data.is_empty() {
            return;
        }
        let start = self.end;
        self.end += data.len() as u64;
        if data.len() >= SMALL {
            self.chunks.push_back(Chunk { start, data: Data::Shared(data) });
            return;
        }
        if let Some(Chunk { data: Data::Gathered(last), .. }) = self.chunks.back_mut()
            && last.len() + data.len() <= GATHERED
        {
            last.extend_from_slice(&data);
            // The cursor may have moved past the chunk that has just grown.
            self.next_chunk = self.next_chunk.min(self.chunks.len() - 1);
            return;
        }
        self.chunks.push_back(Chunk { start, data: Data::Gathered(data.to_vec()) });
    }

    /// Bytes that were never sent.
    pub(crate) fn unsent(&self) -> u64 {
        self.end - self.next
    }

    /// Bytes not yet acknowledged, sent or not.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.end - self.start).unwrap_or(usize::MAX)
    }

    /// Appends the next `length` unsent bytes to `buffer` and returns their offset.
    pub(crate) fn take(&mut self, length: usize, buffer: &mut Vec<u8>) -> u64 {
        let offset = self.next;
        let (chunk, written) = self.copy_from(self.next_chunk, offset, length, buffer);
        self.next_chunk = chunk;
        self.next += written as u64;
        offset
    }

    /// Appends bytes that were sent before.
    pub(crate) fn copy(&self, offset: u64, length: usize, buffer: &mut Vec<u8>) {
        let chunk = self.chunks.partition_point(|chunk| chunk.end() <= offset);
        self.copy_from(chunk, offset, length, buffer);
    }

    fn copy_from(
        &self,
        mut index: usize,
        offset: u64,
        length: usize,
        buffer: &mut Vec<u8>,
    ) -> (usize, usize) {
        let mut written = 0;
        while written < length {
            let Some(chunk) = self.chunks.get(index) else { break };
            let bytes = chunk.bytes();
            let within =
                usize::try_from((offset + written as u64).saturating_sub(chunk.start)).unwrap_or(usize::MAX);
            let rest = bytes.get(within..).unwrap_or_default();
            let part = &rest[..rest.len().min(length - written)];
            buffer.extend_from_slice(part);
            written += part.len();
            if part.len() == rest.len() {
                index += 1;
            }
        }
        (index, written)
    }

    /// Lets go of everything before `offset`: it is acknowledged.
    pub(crate) fn release(&mut self, offset: u64) {
        self.start = self.start.max(offset.min(self.next));
        while self.chunks.front().is_some_and(|chunk| chunk.end() <= self.start) {
            self.chunks.pop_front();
            self.next_chunk = self.next_chunk.saturating_sub(1);
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self { start: self.end, next: self.end, end: self.end, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_taken_is_what_was_written(
            steps in proptest::collection::vec((0usize..1500, 0usize..1500, 0usize..3000, any::<u16>()), 1..40)
        ) {
            let (mut buffer, mut model, mut sent, mut released) = (SendBuffer::default(), Vec::new(), 0, 0);
            for (write, take, release, again) in steps {
                let data: Vec<u8> = (0..write).map(|at| (model.len() + at) as u8 ^ (model.len() >> 8) as u8).collect();
                model.extend_from_slice(&data);
                buffer.push(Bytes::from(data));
                prop_assert_eq!(buffer.unsent(), (model.len() - sent) as u64);
                let take = take.min(model.len() - sent);
                let mut out = Vec::new();
                prop_assert_eq!(buffer.take(take, &mut out), sent as u64);
                prop_assert_eq!(&out[..], &model[sent..sent + take]);
                sent += take;
                released = (released + release).min(sent);
                buffer.release(released as u64);
                prop_assert_eq!(buffer.len(), model.len() - released);
                let from = released + (sent - released) * usize::from(again) / 65536;
                let mut out = Vec::new();
                buffer.copy(from as u64, sent - from, &mut out);
                prop_assert_eq!(&out[..], &model[from..sent]);
            }
        }
    }
}
