//! Cuts the transport's bytes into frames: a 3-byte little-endian length, then that many bytes.

/// The longest frame: what three bytes can count.
pub(crate) const MAX_FRAME: usize = (1 << 24) - 1;
/// Bytes of a frame's length.
pub(crate) const LENGTH: usize = 3;
/// A buffer for split frames that grew beyond this is given back instead of kept.
const KEEP_CAPACITY: usize = 256 * 1024;
/// Room made for a split frame ahead of its arrival.
const RESERVE_AHEAD: usize = 64 * 1024;

/// A frame that is split over several receives is collected here; all others never pass through it.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    length: [u8; LENGTH],
    length_filled: usize,
    body: Vec<u8>,
    /// `body` was handed out and is to be emptied.
    taken: bool,
}

/// Refused: the frame announces more than the caller accepts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TooLong(pub(crate) usize);

impl FrameReader {
    /// Takes the next frame off `input`; `None` when all of `input` was taken and more is needed.
    pub(crate) fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        limit: usize,
    ) -> Result<Option<&'s [u8]>, TooLong> {
        if self.taken {
            self.taken = false;
            self.length_filled = 0;
            self.body.clear();
            if self.body.capacity() > KEEP_CAPACITY {
                self.body = Vec::new();
            }
        }
        if self.length_filled == 0
            && let Some((length, rest)) = input.split_first_chunk::<LENGTH>()
        {
            let len = decode(*length);
            if len > limit {
                return Err(TooLong(len));
            }
            if let Some((frame, rest)) = rest.split_at_checked(len) {
                *input = rest;
                return Ok(Some(frame));
            }
        }
        self.collect(input, limit)
    }

    /// True in the middle of a frame.
    pub(crate) fn is_partial(&self) -> bool {
        self.length_filled > 0 && !self.taken
    }

    fn collect<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        limit: usize,
    ) -> Result<Option<&'s [u8]>, TooLong> {
        while self.length_filled < LENGTH {
            let (Some((&byte, rest)), Some(slot)) =
                (input.split_first(), self.length.get_mut(self.length_filled))
            else {
                return Ok(None);
            };
            *slot = byte;
            self.length_filled += 1;
            *input = rest;
        }
        let len = decode(self.length);
        if len > limit {
            return Err(TooLong(len));
        }
        let missing = len.saturating_sub(self.body.len());
        let (part, rest) = input.split_at(missing.min(input.len()));
        // Room grows with what has arrived, not with what is announced.
        if self.body.capacity() - self.body.len() < part.len() {
            let ahead = part.len().max(self.body.len()).saturating_add(RESERVE_AHEAD);
            self.body.reserve_exact(ahead.min(missing));
        }
        self.body.extend_from_slice(part);
        *input = rest;
        if self.body.len() < len {
            return Ok(None);
        }
        self.taken = true;
        Ok(Some(&self.body))
    }
}

/// The length in front of a frame of `len` bytes; `None` when it is too long.
pub(crate) fn encode(len: usize) -> Option<[u8; LENGTH]> {
    let [a, b, c, 0] = u32::try_from(len).ok()?.to_le_bytes() else {
        return None;
    };
    Some([a, b, c])
}

fn decode([a, b, c]: [u8; LENGTH]) -> usize {
    usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_at_the_edge() {
        assert_eq!(encode(MAX_FRAME), Some([255; 3]));
        assert_eq!(encode(MAX_FRAME + 1), None);
        assert_eq!(decode([1, 2, 3]), 0x030201);
    }

    #[test]
    fn an_announced_length_reserves_little() {
        let mut reader = FrameReader::default();
        let mut input: &[u8] = &[255, 255, 255, 1, 2, 3];
        assert_eq!(reader.next(&mut input, MAX_FRAME), Ok(None));
        assert!(input.is_empty() && reader.is_partial());
        assert!(reader.body.capacity() < 128 * 1024);
    }

    #[test]
    fn too_long_is_refused_split_or_whole() {
        let frame = [0, 1, 0, 9];
        let mut whole: &[u8] = &frame;
        assert_eq!(FrameReader::default().next(&mut whole, 255), Err(TooLong(256)));
        let mut reader = FrameReader::default();
        let (mut first, mut second) = frame.split_at(2);
        assert_eq!(reader.next(&mut first, 255), Ok(None));
        assert_eq!(reader.next(&mut second, 255), Err(TooLong(256)));
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..400), 0..20),
            cuts in proptest::collection::vec(1usize..300, 1..50),
        ) {
            let mut wire = Vec::new();
            for frame in &frames {
                wire.extend_from_slice(&encode(frame.len()).unwrap());
                wire.extend_from_slice(frame);
            }
            let mut reader = FrameReader::default();
            let mut seen = Vec::new();
            let mut rest = &wire[..];
            let mut cuts = cuts.iter().cycle();
            while !rest.is_empty() {
                let (mut chunk, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                rest = tail;
                while let Some(frame) = reader.next(&mut chunk, MAX_FRAME).unwrap() {
                    seen.push(frame.to_vec());
                }
                prop_assert!(chunk.is_empty());
            }
            prop_assert_eq!(seen, frames);
            prop_assert!(!reader.is_partial());
        }
    }
}
