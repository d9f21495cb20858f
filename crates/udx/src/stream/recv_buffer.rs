//! Packets that have arrived: in order for the reader, and early ones that wait for a gap to close.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Bytes, BytesMut};

use crate::packet::MAX_SACKS;
use crate::ranges::Ranges;

/// How many packets may wait for a gap to close; libudx announces SACKs for the next 65,536.
pub(crate) const MAX_EARLY_PACKETS: usize = 16 << 10;
/// How many early packets of one burst are remembered for its acknowledgement.
const MAX_FRESH: usize = 1024;
/// Room for so many chunks is kept when all is read: an idle stream should be small.
const IDLE_CAPACITY: usize = 256;
/// Payloads smaller than this are copied together: a slice of one byte must not keep a whole datagram alive.
pub(crate) const SMALL: usize = 256;

#[derive(Debug)]
pub(crate) struct RecvBuffer {
    /// Number of the packet that is expected next.
    next: u64,
    /// Number of the packet that ends the stream, once seen.
    end: Option<u64>,
    ready: VecDeque<Bytes>,
    small: BytesMut,
    ready_bytes: usize,
    early: BTreeMap<u64, Bytes>,
    early_bytes: usize,
    early_ranges: Ranges,
    /// Early packets that came since the last acknowledgement, and where reporting the others goes on: see
    /// [`report`](Self::report).
    fresh: Vec<u64>,
    reported: usize,
    window: usize,
}

/// What became of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// New.
    Taken,
    /// Known, or beyond the end.
    Known,
    /// There is no room for it: it must be sent again.
    Dropped,
}

impl RecvBuffer {
    /// `window`: bytes to hold for the reader. Early packets have a budget of their own, twice as large: a lost packet
    /// would otherwise halve the throughput for the round trip that it takes to repeat it. Packets in order are taken
    /// up to twice the window, because what the remote has under way it may still send, and a gap must be able to
    /// close.
    pub(crate) fn new(first: u64, window: u32) -> Self {
        Self {
            next: first,
            end: None,
            ready: VecDeque::new(),
            small: BytesMut::new(),
            ready_bytes: 0,
            early: BTreeMap::new(),
            early_bytes: 0,
            early_ranges: Ranges::default(),
            fresh: Vec::new(),
            reported: 0,
            window: usize::try_from(window).unwrap_or(usize::MAX),
        }
    }

    /// From now on so many bytes are held.
    pub(crate) fn set_window(&mut self, window: u32) {
        self.window = usize::try_from(window).unwrap_or(usize::MAX);
    }

    /// Whether so few bytes are held that a window of `bytes` has room for them.
    pub(crate) fn fits(&self, bytes: u32) -> bool {
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        self.ready_bytes <= bytes && self.early_bytes <= bytes.saturating_mul(2)
    }

    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// Whether [`insert`](Self::insert) will take packet `seq` and keep a slice of its datagram, after all packets from
    /// `first` on; `bytes` is what they hold with this one.
    pub(crate) fn keeps(&self, first: u64, seq: u64, bytes: usize) -> bool {
        let ahead = seq.saturating_sub(self.next);
        let known = seq < self.next || self.end.is_some_and(|end| seq > end) || self.early.contains_key(&seq);
        let twice = self.window.saturating_mul(2);
        let has_room = if first == self.next {
            self.ready_bytes.saturating_add(bytes) <= twice.max(1 << 16)
        } else {
            let waiting = u64::try_from(self.early.len()).unwrap_or(u64::MAX);
            self.early_bytes.saturating_add(bytes) <= twice
                && waiting.saturating_add(seq - first) < MAX_EARLY_PACKETS as u64
                && ahead <= MAX_EARLY_PACKETS as u64 * 4
        };
        !known && has_room
    }

    /// Takes packet `seq`, which is not before [`next`](Self::next).
    pub(crate) fn insert(&mut self, seq: u64, payload: Bytes, end: bool) -> Inserted {
        if seq < self.next || self.end.is_some_and(|end| seq > end) {
            return Inserted::Known;
        }
        if seq > self.next {
            if self.early.contains_key(&seq) {
                return Inserted::Known;
            }
            if self.early_bytes + payload.len() > self.window.saturating_mul(2)
                || self.early.len() >= MAX_EARLY_PACKETS
                || seq - self.next > MAX_EARLY_PACKETS as u64 * 4
            {
                return Inserted::Dropped;
            }
            if end {
                self.end = Some(seq);
            }
            self.early_bytes += payload.len();
            let payload = if payload.len() < SMALL { Bytes::copy_from_slice(&payload) } else { payload };
            self.early.insert(seq, payload);
            self.early_ranges.insert(seq, seq + 1, |_, _| {});
            if self.fresh.len() < MAX_FRESH && self.early_ranges.len() > MAX_SACKS {
                self.fresh.push(seq);
            }
            return Inserted::Taken;
        }
        if self.ready_bytes + payload.len() > self.window.saturating_mul(2).max(1 << 16) {
            return Inserted::Dropped;
        }
        if end {
            self.end = Some(seq);
        }
        self.append(payload);
        if !self.early.is_empty() {
            self.take_early();
        }
        Inserted::Taken
    }

    fn append(&mut self, payload: Bytes) {
        self.next += 1;
        self.ready_bytes += payload.len();
        if payload.len() < SMALL {
            self.small.extend_from_slice(&payload);
            return;
        }
        if !self.small.is_empty() {
            self.ready.push_back(self.small.split().freeze());
        }
        self.ready.push_back(payload);
    }

    fn take_early(&mut self) {
        while !self.ended()
            && let Some(payload) = self.early.remove(&self.next)
        {
            self.early_bytes -= payload.len();
            self.append(payload);
        }
        if self.ended() {
            // Packets beyond the end mean nothing.
            self.early.clear();
            self.early_bytes = 0;
            self.early_ranges.clear();
        }
        self.early_ranges.forget_below(self.next);
    }

    pub(crate) fn read(&mut self) -> Option<Bytes> {
        let data = match self.ready.pop_front() {
            Some(data) => data,
            None if self.small.is_empty() => {
                self.ready.shrink_to(IDLE_CAPACITY);
                return None;
            }
            None => self.small.split().freeze(),
        };
        self.ready_bytes -= data.len();
        Some(data)
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.ready_bytes > 0
    }

    /// Whether everything up to the remote's end has arrived.
    pub(crate) fn ended(&self) -> bool {
        self.end.is_some_and(|end| self.next > end)
    }

    /// Bytes that there is room for.
    pub(crate) fn room(&self) -> u32 {
        let room = self.window.saturating_sub(self.ready_bytes);
        let early = self.window.saturating_mul(2).saturating_sub(self.early_bytes);
        u32::try_from(room.min(early)).unwrap_or(u32::MAX)
    }

    pub(crate) fn has_gaps(&self) -> bool {
        !self.early_ranges.is_empty()
    }

    /// Runs of packets that wait for a gap to close, for an acknowledgement: `write` takes at most [`MAX_SACKS`].
    ///
    /// libudx always reports the lowest. Where there are more than fit, its remote knows nothing of what arrives beyond
    /// them, takes it for lost, and overestimates the bandwidth when it learns of it at last. So the runs that have just
    /// grown come first, then the others in turn.
    pub(crate) fn report(&mut self, mut write: impl FnMut(u64, u64)) {
        let count = self.early_ranges.len();
        if count <= MAX_SACKS {
            self.fresh.clear();
            return self.early_ranges.iter().for_each(|(start, end)| write(start, end));
        }
        let mut indices: Vec<usize> =
            self.fresh.drain(..).filter_map(|seq| self.early_ranges.position(seq)).collect();
        indices.sort_unstable();
        indices.dedup();
        // The highest are what loss detection learns most from.
        let skipped = indices.len().saturating_sub(MAX_SACKS);
        indices.drain(..skipped);
        let mut turn = self.reported;
        while indices.len() < MAX_SACKS {
            turn = (turn + 1) % count;
            if !indices.contains(&turn) {
                indices.push(turn);
            }
        }
        self.reported = turn;
        indices.sort_unstable();
        indices
            .iter()
            .filter_map(|&index| self.early_ranges.get(index))
            .for_each(|(start, end)| write(start, end));
    }

    #[cfg(test)]
    fn early(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.early_ranges.iter()
    }

    /// Forgets what can no longer become readable.
    pub(crate) fn clear_early(&mut self) {
        self.early.clear();
        self.early_bytes = 0;
        self.early_ranges.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn drain(buffer: &mut RecvBuffer) -> Vec<u8> {
        std::iter::from_fn(|| buffer.read()).flatten().collect()
    }

    proptest! {
        #[test]
        fn any_order_reads_in_order(lengths in proptest::collection::vec(0usize..600, 1..40), seed in any::<u64>()) {
            let packets: Vec<Vec<u8>> =
                lengths.iter().enumerate().map(|(at, &length)| vec![at as u8; length]).collect();
            let mut order: Vec<usize> = (0..packets.len()).chain(0..packets.len()).collect();
            let mut state = seed | 1;
            for at in (1..order.len()).rev() {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                order.swap(at, (state >> 33) as usize % (at + 1));
            }
            let mut buffer = RecvBuffer::new(10, 1 << 20);
            let mut read = Vec::new();
            for at in order {
                buffer.insert(10 + at as u64, Bytes::from(packets[at].clone()), at + 1 == packets.len());
                prop_assert!(buffer.early().all(|(start, end)| start > buffer.next() && end > start));
                read.extend(drain(&mut buffer));
            }
            prop_assert_eq!(read, packets.concat());
            prop_assert!(buffer.ended() && !buffer.has_gaps());
            prop_assert_eq!(buffer.room(), 1 << 20);
        }
    }

    #[test]
    fn a_reader_that_does_not_read_bounds_what_is_held() {
        let mut buffer = RecvBuffer::new(0, 100_000);
        for seq in 1..2_000 {
            buffer.insert(seq, Bytes::from(vec![0; 1000]), false);
        }
        assert_eq!(buffer.early_bytes, 200_000);
        assert_eq!(buffer.room(), 0);
        assert_eq!(buffer.insert(0, Bytes::from(vec![0; 1000]), false), Inserted::Taken, "the gap closes");
        for seq in buffer.next()..2_000 {
            buffer.insert(seq, Bytes::from(vec![0; 1000]), false);
        }
        assert_eq!((buffer.ready_bytes, buffer.early_bytes, buffer.room()), (201_000, 200_000, 0));
    }

    #[test]
    fn packets_beyond_the_end_are_nothing() {
        let mut buffer = RecvBuffer::new(0, 100_000);
        buffer.insert(3, Bytes::from_static(b"beyond"), false);
        buffer.insert(1, Bytes::from_static(b"b"), true);
        buffer.insert(0, Bytes::from_static(b"a"), false);
        assert!(buffer.ended() && !buffer.has_gaps());
        assert_eq!(buffer.insert(2, Bytes::from_static(b"c"), false), Inserted::Known);
        assert_eq!(drain(&mut buffer), b"ab");
    }
}
