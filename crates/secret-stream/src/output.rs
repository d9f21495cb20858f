//! What waits for the transport, in few large pieces.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Frames are put together up to this many bytes; a longer frame gets a piece of its own.
const LARGEST_ARENA: usize = 256 * 1024;
const SMALLEST_ARENA: usize = 1024;

/// Frames are written one behind the other into an arena, pieces of which go to the transport. When the transport
/// has let go of them all, the arena is used again from its start: on a busy connection memory is neither taken
/// from the system nor touched for the first time, which would cost more than the encryption.
#[derive(Debug)]
pub(crate) struct Output {
    arena: BytesMut,
    /// What the arena was made with.
    arena_size: usize,
    /// Pieces of arenas that were full.
    full: VecDeque<Bytes>,
    len: usize,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { arena: BytesMut::new(), arena_size: 0, full: VecDeque::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Appends `len` bytes that `fill` writes; nothing is appended when it fails.
    pub(crate) fn append<E>(
        &mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.arena.capacity() - self.arena.len() < len {
            self.next_arena(len);
        }
        let start = self.arena.len();
        self.arena.resize(start + len, 0);
        if let Err(error) = fill(&mut self.arena[start..]) {
            self.arena.truncate(start);
            return Err(error);
        }
        self.len += len;
        Ok(())
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if let Some(piece) = self.full.pop_front() {
            self.len -= piece.len();
            return Some(piece);
        }
        if self.arena.is_empty() {
            return None;
        }
        let piece = self.arena.split().freeze();
        self.len -= piece.len();
        if piece.len() < self.arena_size / 4 {
            // It has become quiet: a connection at rest must not hold on to a large arena.
            self.arena = BytesMut::new();
            self.arena_size = piece.len();
        }
        Some(piece)
    }

    fn next_arena(&mut self, len: usize) {
        if !self.arena.is_empty() {
            self.full.push_back(self.arena.split().freeze());
        }
        if self.arena.try_reclaim(len) {
            return;
        }
        // Grows with what was needed before, so that a quiet connection takes little and a busy one all.
        self.arena_size = self.arena_size.saturating_mul(2).clamp(SMALLEST_ARENA, LARGEST_ARENA).max(len);
        self.arena = BytesMut::with_capacity(self.arena_size);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(output: &mut Output, len: usize, byte: u8) {
        let written: Result<(), ()> = output.append(len, |out| {
            out.fill(byte);
            Ok(())
        });
        written.unwrap();
    }

    #[test]
    fn pieces_keep_order_and_length_and_a_failed_fill_leaves_nothing() {
        let mut output = Output::new();
        let mut expected = Vec::new();
        for n in 0..2000usize {
            let byte = (n % 251) as u8;
            let len = n % 700;
            fill(&mut output, len, byte);
            expected.resize(expected.len() + len, byte);
            assert_eq!(output.append(100, |_| Err(5)), Err(5));
        }
        assert_eq!(output.len(), expected.len());
        let (mut seen, mut pieces) = (Vec::new(), 0);
        while let Some(piece) = output.pop() {
            assert!(!piece.is_empty() && piece.len() <= LARGEST_ARENA);
            seen.extend_from_slice(&piece);
            pieces += 1;
        }
        assert_eq!(seen, expected);
        assert!(pieces < 20, "{pieces} pieces");
        assert_eq!(output.len(), 0);
    }

    #[test]
    fn an_arena_is_used_again_once_the_transport_let_go_and_dropped_when_quiet() {
        let mut output = Output::new();
        fill(&mut output, 100_000, 1);
        let first = output.pop().unwrap();
        let address = first.as_ptr();
        fill(&mut output, 90_000, 2);
        let second = output.pop().unwrap();
        assert_ne!(second.as_ptr(), address);
        assert_eq!((first[0], second[0]), (1, 2));
        let address = second.as_ptr();
        drop((first, second));
        // Does not fit behind the second, so it starts over.
        fill(&mut output, 150_000, 3);
        let third = output.pop().unwrap();
        assert_eq!(third.as_ptr(), address);
        drop(third);
        fill(&mut output, 10, 4);
        output.pop().unwrap();
        assert_eq!(output.arena.capacity(), 0);
    }
}
