//! What standard input gives, cut into blocks.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

/// The largest block that peers accept.
pub(crate) const MAX_BLOCK: usize = 8 << 20;

/// How input becomes blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// A line a block, without its end.
    Lines,
    /// Chunks of this size; the last may be shorter.
    Chunks(usize),
}

/// A line is too long for a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "line {line} is longer than the {MAX_BLOCK} bytes that a block can have; use --binary for data without lines"
)]
pub(crate) struct LineTooLong {
    line: u64,
}

/// Cuts input that comes in pieces.
#[derive(Debug)]
pub(crate) struct Cutter {
    cut: Cut,
    /// The start of a block whose end has not come.
    rest: BytesMut,
    /// Lines, or chunks, whose end has come.
    ended: u64,
}

impl Cutter {
    pub(crate) fn new(cut: Cut) -> Self {
        Self { cut, rest: BytesMut::new(), ended: 0 }
    }

    /// The blocks that this piece completes; they share its memory where they can.
    pub(crate) fn push(&mut self, mut piece: Bytes) -> Result<Vec<Bytes>, LineTooLong> {
        let mut blocks = Vec::new();
        while let Some(end) = self.end_of_block(&piece) {
            let part = piece.split_to(end.block);
            let _ = piece.split_to(end.skip);
            self.ended += 1;
            let block = if self.rest.is_empty() {
                part
            } else {
                self.rest.extend_from_slice(&part);
                self.rest.split().freeze()
            };
            check(block.len(), self.ended)?;
            blocks.push(block);
        }
        self.rest.extend_from_slice(&piece);
        check(self.rest.len(), self.ended + 1)?;
        Ok(blocks)
    }

    /// The last block, when the input does not end with a line's end.
    pub(crate) fn finish(&mut self) -> Option<Bytes> {
        (!self.rest.is_empty()).then(|| self.rest.split().freeze())
    }

    fn end_of_block(&self, piece: &[u8]) -> Option<End> {
        match self.cut {
            Cut::Lines => {
                let block = memchr::memchr(b'\n', piece)?;
                Some(End { block, skip: 1 })
            }
            Cut::Chunks(size) => {
                let block = size.checked_sub(self.rest.len())?;
                (piece.len() >= block).then_some(End { block, skip: 0 })
            }
        }
    }
}

/// Refuses what is too long, or will be, for a block.
fn check(length: usize, line: u64) -> Result<(), LineTooLong> {
    if length > MAX_BLOCK { Err(LineTooLong { line }) } else { Ok(()) }
}

struct End {
    block: usize,
    skip: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(cut: Cut, pieces: &[&[u8]]) -> Vec<Bytes> {
        let mut cutter = Cutter::new(cut);
        let mut blocks = Vec::new();
        for piece in pieces {
            blocks.extend(cutter.push(Bytes::copy_from_slice(piece)).unwrap());
        }
        blocks.extend(cutter.finish());
        blocks
    }

    #[test]
    fn lines_may_be_empty_and_the_last_needs_no_end() {
        assert_eq!(cut(Cut::Lines, &[b"a\n\nb", b"c\nd"]), ["a", "", "bc", "d"]);
        assert_eq!(cut(Cut::Lines, &[b"a\n"]), ["a"]);
        assert_eq!(cut(Cut::Lines, &[b"\n"]), [""]);
        assert_eq!(cut(Cut::Lines, &[]), [""; 0]);
    }

    #[test]
    fn a_line_that_is_too_long_is_named() {
        let long = vec![b'x'; MAX_BLOCK + 1];
        let ended = [&long[..], b"\n"].concat();
        for (before, line) in
            [("", "line 1 "), ("a\n", "line 2 "), ("a\nb\n", "line 3 "), ("a\nb\nc", "line 3 ")]
        {
            for too_long in [&long, &ended] {
                let mut cutter = Cutter::new(Cut::Lines);
                cutter.push(Bytes::from_static(before.as_bytes())).unwrap();
                let error = cutter.push(Bytes::copy_from_slice(too_long)).unwrap_err().to_string();
                assert!(error.starts_with(line), "{before:?}: {error}");
            }
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(data in proptest::collection::vec(0u8..12, 0..200), at in proptest::collection::vec(0usize..200, 0..6), size in 1usize..30) {
            let mut at: Vec<usize> = at.into_iter().map(|i| i.min(data.len())).collect();
            at.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for to in at.into_iter().chain([data.len()]) {
                pieces.push(&data[from..to]);
                from = to;
            }
            let lines = cut(Cut::Lines, &pieces);
            let mut expected: Vec<&[u8]> = data.split(|b| *b == b'\n').collect();
            if expected.last().is_some_and(|last| last.is_empty()) {
                expected.pop();
            }
            prop_assert_eq!(lines, expected);
            let chunks = cut(Cut::Chunks(size), &pieces);
            let expected: Vec<&[u8]> = data.chunks(size).collect();
            prop_assert_eq!(chunks, expected);
        }
    }
}
