//! What waits for the transport, in few large pieces.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Frames are put together up to this many bytes; a longer frame gets a piece of its own.
const CHUNK: usize = 128 * 1024;
const SMALLEST_CHUNK: usize = 1024;

#[derive(Debug)]
pub(crate) struct Output {
    chunks: VecDeque<BytesMut>,
    len: usize,
    /// Room of the next piece: follows the size of recent ones, so that a quiet connection does not hold
    /// 128 KiB and a busy one does not copy while growing.
    next_capacity: usize,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self { chunks: VecDeque::new(), len: 0, next_capacity: SMALLEST_CHUNK }
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
        let fits = self.chunks.back().is_some_and(|chunk| chunk.capacity() - chunk.len() >= len);
        if !fits {
            self.chunks.push_back(BytesMut::with_capacity(self.next_capacity.max(len)));
            self.next_capacity = self.next_capacity.saturating_mul(2).min(CHUNK);
        }
        let Some(chunk) = self.chunks.back_mut() else {
            return Ok(());
        };
        let start = chunk.len();
        chunk.resize(start + len, 0);
        if let Err(error) = fill(&mut chunk[start..]) {
            chunk.truncate(start);
            if start == 0 {
                self.chunks.pop_back();
            }
            return Err(error);
        }
        self.len += len;
        Ok(())
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let chunk = self.chunks.pop_front()?;
        self.len -= chunk.len();
        if self.chunks.is_empty() {
            self.next_capacity = chunk.len().next_power_of_two().clamp(SMALLEST_CHUNK, CHUNK);
        }
        Some(chunk.freeze())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_keep_order_and_length_and_a_failed_fill_leaves_nothing() {
        let mut output = Output::new();
        let mut expected = Vec::new();
        for n in 0..2000usize {
            let byte = (n % 251) as u8;
            let len = n % 700;
            output
                .append::<()>(len, |out| {
                    out.fill(byte);
                    Ok(())
                })
                .unwrap();
            expected.resize(expected.len() + len, byte);
            assert_eq!(output.append(100, |_| Err(5)), Err(5));
        }
        assert_eq!(output.len(), expected.len());
        let (mut seen, mut pieces) = (Vec::new(), 0);
        while let Some(piece) = output.pop() {
            assert!(piece.len() <= CHUNK);
            seen.extend_from_slice(&piece);
            pieces += 1;
        }
        assert_eq!(seen, expected);
        assert!(pieces < 20, "{pieces} pieces");
        assert_eq!(output.len(), 0);
    }
}
