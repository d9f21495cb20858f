//! Which packets of a train may share one buffer.
//!
//! A train is up to 64 KiB of datagrams that the kernel hands over in one piece. One copy of all of it serves every
//! packet in it, and lives as long as the last of them: a remote could send one new packet with fifty that are known, and
//! have each of its packets keep a whole train alive.

use super::StreamState;
use super::recv_buffer::SMALL;
use crate::packet::{DATA, DESTROY, END, HEADER_SIZE, HEARTBEAT, Header, MESSAGE};
use crate::seq;

impl StreamState {
    /// How many datagrams at the beginning of a train (all of `stride` bytes, the last one may be shorter) may be slices
    /// of one buffer: of them, [`receive`](Self::receive) will keep none beyond its call, or it will keep all, and they
    /// are read one after the other. Whatever else there is goes into a buffer of its own. 0 only for an empty train.
    pub fn shared_buffer(&self, train: &[u8], stride: usize) -> usize {
        let mut datagrams = train.chunks(stride.max(1));
        let Some(first) = datagrams.next() else { return 0 };
        match self.fate(first) {
            Fate::Passes => 1 + datagrams.take_while(|next| matches!(self.fate(next), Fate::Passes)).count(),
            Fate::Alone => 1,
            Fate::Kept { number: first, mut bytes, mut end } => {
                let mut count = 1;
                if !self.recv.keeps(first, first, bytes) {
                    return count;
                }
                for (datagram, expected) in datagrams.zip(first + 1..) {
                    let Fate::Kept { number, bytes: more, end: ends } = self.fate(datagram) else { break };
                    bytes += more;
                    if end || number != expected || !self.recv.keeps(first, number, bytes) {
                        break;
                    }
                    end = ends;
                    count += 1;
                }
                count
            }
        }
    }

    fn fate(&self, datagram: &[u8]) -> Fate {
        let Some(header) = Header::decode(datagram).filter(|_| self.closed.is_none()) else {
            return Fate::Passes;
        };
        let bytes = datagram.len().saturating_sub(HEADER_SIZE + usize::from(header.data_offset));
        if header.is(HEARTBEAT) || !header.is(DATA | MESSAGE) {
            Fate::Passes
        } else if header.is(MESSAGE | DESTROY) {
            Fate::Alone
        } else if bytes < SMALL {
            // It is copied, or there is nothing to be kept.
            Fate::Passes
        } else {
            let number = seq::widen(header.seq, self.recv.next());
            Fate::Kept { number, bytes, end: header.is(END) }
        }
    }
}

/// What becomes of a datagram.
enum Fate {
    /// Nothing of it is needed any more once it was received.
    Passes,
    /// It is kept for itself.
    Alone,
    /// It is a packet of the stream, and kept if it is new and there is room.
    Kept { number: u64, bytes: usize, end: bool },
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::stream::Config;

    const STRIDE: usize = 1200;

    fn datagram(kind: u8, seq: u32, padding: u8, size: usize) -> Vec<u8> {
        let header = Header { kind, data_offset: padding, id: 1, window: 1 << 20, seq, ack: 0 };
        let mut datagram = header.encode().to_vec();
        datagram.resize(size, 7);
        datagram
    }

    fn train(seqs: impl IntoIterator<Item = u32>) -> Vec<u8> {
        seqs.into_iter().flat_map(|seq| datagram(DATA, seq, 0, STRIDE)).collect()
    }

    fn stream() -> StreamState {
        StreamState::new(1, Config::default(), Instant::now())
    }

    /// Hands a train over as the driver does; the bytes of all buffers that stay alive.
    fn receive(stream: &mut StreamState, train: &[u8]) -> usize {
        let mut rest = train;
        let mut kept = 0;
        while !rest.is_empty() {
            let count = stream.shared_buffer(rest, STRIDE);
            assert!(count > 0);
            let (run, others) = rest.split_at((count * STRIDE).min(rest.len()));
            rest = others;
            let buffer = bytes::Bytes::copy_from_slice(run);
            for start in (0..run.len()).step_by(STRIDE) {
                let end = (start + STRIDE).min(run.len());
                let packet = crate::Packet::decode(buffer.slice(start..end)).unwrap();
                stream.receive(packet, Instant::now());
            }
            if !buffer.is_unique() {
                kept += buffer.len();
            }
        }
        kept
    }

    #[test]
    fn a_train_in_order_is_one_buffer() {
        let stream = stream();
        assert_eq!(stream.shared_buffer(&train(0..50), STRIDE), 50);
        assert_eq!(stream.shared_buffer(&train(7..57), STRIDE), 50, "also behind a gap");
        assert_eq!(stream.shared_buffer(&train((0..20).chain(21..30)), STRIDE), 20);
        assert_eq!(stream.shared_buffer(&[], STRIDE), 0);
        let acknowledgements: Vec<u8> = (0..30).flat_map(|_| datagram(0, 0, 0, STRIDE)).collect();
        assert_eq!(stream.shared_buffer(&acknowledgements, STRIDE), 30);
    }

    #[test]
    fn what_is_known_keeps_no_buffer_alive() {
        let mut stream = stream();
        let mut payload = 0;
        let mut kept = 0;
        // Each train has one new packet, early or in order, and 49 that are known, or repeated within the train.
        for turn in 0..200u32 {
            let new = if turn % 2 == 0 { turn / 2 } else { 10_000 + turn * 2 };
            let known = if turn % 3 == 0 { new } else { 0 };
            kept += receive(&mut stream, &train(std::iter::repeat_n(new, 1).chain((1..50).map(|_| known))));
            payload += STRIDE;
        }
        assert!(kept <= payload, "{kept} bytes for {payload}");
    }

    #[test]
    fn what_is_refused_keeps_no_buffer_alive() {
        let mut stream = stream();
        // One that is taken, and then some that are too far ahead; some that are mostly padding; some behind the end.
        let far = train([5].into_iter().chain((0..49).map(|at| 1_000_000 + at)));
        assert_eq!(receive(&mut stream, &far), STRIDE);
        let padded: Vec<u8> = (10..60).flat_map(|seq| datagram(DATA, seq, 255, 300)).collect();
        assert_eq!(stream.shared_buffer(&padded, 300), 50);
        let mut ends = datagram(DATA | END, 100, 0, STRIDE);
        ends.extend(train(101..140));
        assert_eq!(receive(&mut stream, &ends), STRIDE);
        let messages: Vec<u8> = (0..3).flat_map(|_| datagram(MESSAGE, 0, 0, STRIDE)).collect();
        assert_eq!(stream.shared_buffer(&messages, STRIDE), 1);
    }
}
