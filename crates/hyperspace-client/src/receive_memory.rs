//! Memory for large answers, used again once the program is done with them.
//!
//! Memory that is given back to the system with each block has to be asked for, and cleared, with the next: that takes
//! longer than to read the block.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// What is worth being used again: smaller memory is not given back to the system each time, and larger one is too much to
/// hold on to.
const SIZES: std::ops::RangeInclusive<usize> = 32 << 10..=256 << 10;
/// The most memory that is held on to, whether the program still has it or not.
const MAX_BYTES: usize = 2 << 20;

/// Memory that was received into and handed to the program.
#[derive(Default)]
pub(crate) struct ReceiveMemory {
    /// What was handed out and its capacity, the oldest first.
    lent: VecDeque<(Bytes, usize)>,
    bytes: usize,
}

impl ReceiveMemory {
    /// Takes the first `length` bytes out of `input`, and remembers their memory.
    pub(crate) fn lend(&mut self, input: &mut BytesMut, length: usize) -> Bytes {
        let capacity = input.capacity();
        let burst = input.split_to(length).freeze();
        // The memory behind a burst is free only with that of the burst.
        let is_behind = |(last, _): &(Bytes, usize)| last.as_ptr_range().end == burst.as_ptr();
        if SIZES.contains(&length) && capacity <= *SIZES.end() && !self.lent.back().is_some_and(is_behind) {
            self.lent.push_back((burst.clone(), capacity));
            self.bytes += capacity;
            while self.bytes > MAX_BYTES {
                self.forget(0);
            }
        }
        burst
    }

    /// Makes room for so many bytes more, in memory that the program is done with if there is some.
    pub(crate) fn reserve(&mut self, input: &mut BytesMut, room: usize) {
        if input.capacity() - input.len() >= room {
            return;
        }
        let needed = input.len() + room;
        // Most programs are done with the oldest first.
        let fits = |(burst, capacity): &(Bytes, usize)| *capacity >= needed && burst.is_unique();
        if let Some((burst, _)) = self.lent.iter().position(fits).and_then(|at| self.forget(at))
            && let Ok(mut memory) = burst.try_into_mut()
        {
            memory.clear();
            memory.extend_from_slice(input);
            *input = memory;
        }
        // Nothing to do if that was enough.
        input.reserve(room);
    }

    fn forget(&mut self, at: usize) -> Option<(Bytes, usize)> {
        let forgotten = self.lent.remove(at)?;
        self.bytes -= forgotten.1;
        Some(forgotten)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 64 << 10;

    /// Receives a block as a connection does: a bit of the next one comes with it.
    fn receive(memory: &mut ReceiveMemory, input: &mut BytesMut, content: u8) -> Bytes {
        memory.reserve(input, BLOCK - input.len() + 100);
        input.resize(BLOCK + 100, content);
        memory.lend(input, BLOCK)
    }

    #[test]
    fn memory_is_used_again_when_the_program_is_done_with_it() {
        let (mut memory, mut input) = (ReceiveMemory::default(), BytesMut::new());
        let mut places = std::collections::HashSet::new();
        let mut kept = Vec::new();
        for round in 0..100 {
            let block = receive(&mut memory, &mut input, round);
            assert!(block[100..].iter().all(|byte| *byte == round));
            assert!(block[..100].iter().all(|byte| *byte == round.saturating_sub(1)), "what came before");
            places.insert(block.as_ptr());
            // Four at a time are in use.
            kept.push(block.slice(1..));
            if kept.len() > 4 {
                kept.remove(0);
            }
        }
        assert!(places.len() <= 6, "{}", places.len());
    }

    #[test]
    fn what_the_program_keeps_is_left_alone_and_little_is_held_on_to() {
        let (mut memory, mut input) = (ReceiveMemory::default(), BytesMut::new());
        let kept: Vec<Bytes> = (0..200).map(|round| receive(&mut memory, &mut input, round)).collect();
        for (round, block) in kept.iter().enumerate() {
            assert!(block[100..].iter().all(|byte| usize::from(*byte) == round));
        }
        assert!(memory.bytes <= MAX_BYTES);
        assert_eq!(memory.bytes, memory.lent.iter().map(|(_, capacity)| capacity).sum::<usize>());
        drop(kept);
        for size in [10, 20 << 10, 300 << 10] {
            let before = memory.lent.len();
            let mut input = BytesMut::zeroed(size);
            assert_eq!(memory.lend(&mut input, size).len(), size);
            assert_eq!(memory.lent.len(), before, "{size}");
        }
    }

    #[test]
    fn bursts_that_share_memory_are_one() {
        let (mut memory, mut input) = (ReceiveMemory::default(), BytesMut::zeroed(128 << 10));
        let bursts = [memory.lend(&mut input, 64 << 10), memory.lend(&mut input, 64 << 10)];
        assert_eq!(memory.lent.len(), 1);
        let [first, second] = bursts;
        let place = first.as_ptr();
        drop(first);
        memory.reserve(&mut input, 128 << 10);
        assert_ne!(input.as_ptr(), place, "the program has half of it");
        drop(second);
        let mut input = BytesMut::new();
        memory.reserve(&mut input, 128 << 10);
        assert_eq!(input.as_ptr(), place);
    }

    #[test]
    fn memory_that_is_too_small_is_not_taken() {
        let (mut memory, mut input) = (ReceiveMemory::default(), BytesMut::new());
        drop(receive(&mut memory, &mut input, 1));
        memory.reserve(&mut input, 10 * BLOCK);
        assert!(input.capacity() >= 10 * BLOCK);
        assert_eq!(memory.lent.len(), 1);
        assert_eq!(&input[..], &[1; 100]);
    }
}
