//! HRPC framing: where a frame ends and what it is.
//!
//! A frame is `length, header, method, id, payload`; the first four are variable-length integers of seven bits a
//! byte, and `length` counts everything after itself. `header` is the service's number shifted left by two, with
//! the frame's [`Kind`] in the two low bits. A length of 0 is a frame of nothing and is skipped. The facts are from
//! npm `arpeecee`, `parser.js`.

use std::ops::Range;

use bytes::{BufMut, BytesMut};
use thiserror::Error;

use crate::Method;

/// The largest frame that a [`Decoder`] takes unless told otherwise: 256 MiB.
///
/// The Node packages allow 2 GiB. Memory is only ever taken for bytes that have really arrived.
pub const DEFAULT_MAX_FRAME: usize = 256 << 20;

/// The most bytes that a frame's length prefix, header, method and id can take: four integers of eight bytes.
pub const MAX_HEAD: usize = 4 * MAX_VARINT;

/// JavaScript peers write integers of up to 53 bits, eight bytes.
const MAX_VARINT: usize = 8;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A call. With id 0 no answer is wanted, not even an error.
    Request,
    /// The answer to a call.
    Response,
    /// The other answer: an [`RpcError`](crate::RpcError).
    Error,
}

/// What a frame says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Request, answer or error.
    pub kind: Kind,
    /// The service's number.
    pub service: u64,
    /// The method's number within its service.
    pub method: u64,
    /// The call's number, chosen by the side that calls.
    pub id: u64,
}

impl Header {
    /// A call.
    pub fn request(method: Method, id: u64) -> Self {
        Self::new(Kind::Request, method, id)
    }

    /// An answer.
    pub fn response(method: Method, id: u64) -> Self {
        Self::new(Kind::Response, method, id)
    }

    /// The same call's header with another kind: how an answer is addressed.
    pub fn with_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }

    /// The method, unless it is none of the schema's.
    pub fn known_method(&self) -> Option<Method> {
        Method::from_numbers(self.service, self.method)
    }

    /// Writes everything that goes before a payload of `payload` bytes.
    pub fn write(&self, payload: usize, out: &mut BytesMut) {
        let head = (self.service << 2) | self.kind as u64;
        let length = varint_len(head)
            + varint_len(self.method)
            + varint_len(self.id)
            + u64::try_from(payload).unwrap_or(u64::MAX);
        write_varint(length, out);
        write_varint(head, out);
        write_varint(self.method, out);
        write_varint(self.id, out);
    }

    fn new(kind: Kind, method: Method, id: u64) -> Self {
        Self { kind, service: method.service() as u64, method: method.number(), id }
    }
}

/// A frame in the buffer that it was found in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What it is.
    pub header: Header,
    /// Where its payload is.
    pub payload: Range<usize>,
    /// Where the next frame starts.
    pub end: usize,
}

/// Finds frames in a buffer of received bytes.
///
/// It keeps nothing between calls, so that a whole burst is decoded in place: no copy and no allocation per frame.
#[derive(Debug, Clone, Copy)]
pub struct Decoder {
    max_frame: usize,
}

impl Decoder {
    /// A decoder that takes frames with payloads of up to `max_frame` bytes.
    pub fn new(max_frame: usize) -> Self {
        Self { max_frame }
    }

    /// The first frame of `buffer`; `None` when more bytes are needed.
    pub fn next(&self, buffer: &[u8]) -> Result<Option<Frame>, FrameError> {
        let mut reader = Varints { buffer, at: 0 };
        let Some(length) = reader.length()? else { return Ok(None) };
        let start = reader.at;
        let Some(head) = reader.next()? else { return missing(length, start, reader.buffer) };
        let kind = match head & 3 {
            0 => Kind::Request,
            1 => Kind::Response,
            2 => Kind::Error,
            _ => return Err(FrameError::Kind),
        };
        let Some(method) = reader.next()? else { return missing(length, start, reader.buffer) };
        let Some(id) = reader.next()? else { return missing(length, start, reader.buffer) };
        let header = Header { kind, service: head >> 2, method, id };
        let taken = (reader.at - start) as u64;
        let payload = length.checked_sub(taken).ok_or(FrameError::Short { length })?;
        if payload > self.max_frame as u64 {
            return Err(FrameError::TooLarge { header, length: payload, limit: self.max_frame });
        }
        // Fits: it is at most `max_frame`.
        let end = reader.at.saturating_add(payload as usize);
        if buffer.len() < end {
            return Ok(None);
        }
        Ok(Some(Frame { header, payload: reader.at..end, end }))
    }

    /// How many more bytes can be read without reading past the end of the first frame; 0 when it is whole, or too
    /// large to be taken. For whoever wants one frame and leaves the rest of a stream to somebody else.
    pub fn wanted(&self, buffer: &[u8]) -> Result<usize, FrameError> {
        let mut reader = Varints { buffer, at: 0 };
        let Some(length) = reader.length()? else { return Ok(1) };
        // Of a frame that is too large, the head tells whose it is.
        let most = self.max_frame.saturating_add(MAX_HEAD);
        let length = usize::try_from(length).map_or(most, |length| length.min(most));
        Ok(length.saturating_sub(buffer.len() - reader.at))
    }

    /// How many bytes at the start of `buffer` are whole frames and frames of nothing, and how many whole ones (at most
    /// `limit`). Behind fewer than `limit`, nothing is left but the beginning of another, or a fault that is told the next
    /// time: so what is taken away each time leaves no more to be kept, or to be looked at again, than one frame.
    pub fn complete(&self, buffer: &[u8], limit: usize) -> Result<(usize, usize), FrameError> {
        let (mut at, mut frames) = (0, 0);
        while frames < limit {
            match self.next(&buffer[at..]) {
                Ok(Some(frame)) => at += frame.end,
                Ok(None) => {
                    at += nothing(&buffer[at..]);
                    break;
                }
                // What came before the fault is good, and is handed out first.
                Err(_) if frames > 0 => break,
                Err(error) => return Err(error),
            }
            frames += 1;
        }
        Ok((at, frames))
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_FRAME)
    }
}

/// Why received bytes are no frames. The stream cannot be read any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FrameError {
    /// An integer goes on for too long.
    #[error(
        "a number in the frame's head is longer than {MAX_VARINT} bytes; is this a Hyperspace RPC connection?"
    )]
    Varint,
    /// The two low bits of the header are both set.
    #[error("a frame that is neither request nor answer nor error; is this a Hyperspace RPC connection?")]
    Kind,
    /// The frame ends within its own head.
    #[error("a frame of {length} bytes has no room for its header, method and id")]
    Short {
        /// The length it gave.
        length: u64,
    },
    /// The payload is larger than this side takes.
    #[error(
        "a frame with {length} bytes of payload is larger than the limit of {limit} bytes; send less at once"
    )]
    TooLarge {
        /// Which call it belongs to.
        header: Header,
        /// The payload's length.
        length: u64,
        /// The largest that is taken.
        limit: usize,
    },
}

/// An integer's length in bytes.
pub fn varint_len(value: u64) -> u64 {
    // Seven bits a byte; 0 takes one.
    u64::from((64 - (value | 1).leading_zeros()).div_ceil(7))
}

/// Appends an integer.
pub fn write_varint(mut value: u64, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A head that has not fully arrived: is it just late, or does the frame end within it?
fn missing(length: u64, start: usize, buffer: &[u8]) -> Result<Option<Frame>, FrameError> {
    if (buffer.len() - start) as u64 >= length { Err(FrameError::Short { length }) } else { Ok(None) }
}

/// How many bytes at the start are frames of nothing, which mean nothing.
pub fn nothing(buffer: &[u8]) -> usize {
    let mut reader = Varints { buffer, at: 0 };
    loop {
        let at = reader.at;
        match reader.next() {
            Ok(Some(0)) => reader.skip_zeros(),
            // What is wrong with a number is told when its frame is wanted.
            Ok(_) | Err(_) => return at,
        }
    }
}

struct Varints<'a> {
    buffer: &'a [u8],
    at: usize,
}

impl Varints<'_> {
    /// The next length that is not 0.
    fn length(&mut self) -> Result<Option<u64>, FrameError> {
        loop {
            match self.next()? {
                Some(0) => self.skip_zeros(),
                length => return Ok(length),
            }
        }
    }

    /// Goes past bytes of 0, many at a time.
    fn skip_zeros(&mut self) {
        const BLOCK: usize = 64;
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let blocks = BLOCK * rest.chunks_exact(BLOCK).take_while(|block| **block == [0; BLOCK]).count();
        let rest = rest.get(blocks..).unwrap_or_default();
        self.at += blocks + rest.iter().take_while(|byte| **byte == 0).count();
    }

    fn next(&mut self) -> Result<Option<u64>, FrameError> {
        let mut value = 0;
        for (i, byte) in self.buffer.iter().skip(self.at).take(MAX_VARINT).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                self.at += i + 1;
                return Ok(Some(value));
            }
        }
        if self.buffer.len() - self.at >= MAX_VARINT { Err(FrameError::Varint) } else { Ok(None) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(kind: Kind) -> Header {
        Header { kind, service: 3, method: 1, id: 7 }
    }

    fn bytes(header: Header, payload: &[u8]) -> BytesMut {
        let mut out = BytesMut::new();
        header.write(payload.len(), &mut out);
        out.extend_from_slice(payload);
        out
    }

    #[test]
    fn one_byte_at_a_time() {
        let whole = bytes(header(Kind::Response), b"payload");
        let decoder = Decoder::default();
        for end in 0..whole.len() {
            assert_eq!(decoder.next(&whole[..end]), Ok(None), "{end} bytes");
        }
        let frame = decoder.next(&whole).unwrap().unwrap();
        assert_eq!(frame.header, header(Kind::Response));
        assert_eq!(&whole[frame.payload], b"payload");
    }

    #[test]
    fn one_frame_is_read_and_nothing_after_it() {
        let decoder = Decoder::new(1000);
        for size in [0, 1, 100, 300, 1000] {
            let mut input = vec![0, 0];
            input.extend_from_slice(&bytes(header(Kind::Request), &vec![7; size]));
            let (whole, mut at) = (input.len(), 0);
            input.extend_from_slice(&[9; 10]);
            while let more @ 1.. = decoder.wanted(&input[..at]).unwrap() {
                at += more;
            }
            assert_eq!(at, whole, "{size}");
            assert_eq!(decoder.next(&input[..at]).unwrap().unwrap().end, whole);
        }
        let mut large = BytesMut::new();
        header(Kind::Request).write(1 << 40, &mut large);
        let wanted = decoder.wanted(&large).unwrap();
        assert!(wanted <= 1000 + MAX_HEAD, "{wanted}");
        assert!(matches!(decoder.next(&large), Err(FrameError::TooLarge { .. })));
    }

    #[test]
    fn frames_of_nothing_are_skipped() {
        let mut input = BytesMut::from(&[0, 0, 0][..]);
        input.extend_from_slice(&bytes(header(Kind::Error), b""));
        let frame = Decoder::default().next(&input).unwrap().unwrap();
        assert_eq!((frame.header.kind, frame.payload.len(), frame.end), (Kind::Error, 0, input.len()));
    }

    #[test]
    fn an_oversized_frame_still_tells_whose_it_is() {
        let mut input = BytesMut::new();
        header(Kind::Request).write(5000, &mut input);
        let error = Decoder::new(4096).next(&input).unwrap_err();
        assert_eq!(error, FrameError::TooLarge { header: header(Kind::Request), length: 5000, limit: 4096 });
    }

    #[test]
    fn faults_are_told_apart() {
        let decoder = Decoder::default();
        assert_eq!(decoder.next(&[0xff; 8]), Err(FrameError::Varint));
        assert_eq!(decoder.next(&[0xff; 7]), Ok(None));
        assert_eq!(decoder.next(&[3, 0x0f, 1, 1]), Err(FrameError::Kind));
        assert_eq!(decoder.next(&[2, 0x0c, 1, 1]), Err(FrameError::Short { length: 2 }));
        assert_eq!(decoder.next(&[1, 0x0c]), Err(FrameError::Short { length: 1 }));
    }

    #[test]
    fn what_precedes_a_fault_is_handed_out_first() {
        let mut input = bytes(header(Kind::Request), b"a");
        let good = input.len();
        input.extend_from_slice(&[0xff; 16]);
        let decoder = Decoder::default();
        assert_eq!(decoder.complete(&input, 100), Ok((good, 1)));
        assert_eq!(decoder.complete(&input[good..], 100), Err(FrameError::Varint));
    }

    #[test]
    fn what_means_nothing_is_taken_with_or_without_frames() {
        let decoder = Decoder::default();
        let frame = bytes(header(Kind::Request), b"payload");
        for (nothing, partial) in [(&[0; 300][..], 0), (&[0, 0x80, 0, 0], 5), (&[], frame.len() - 1)] {
            let rest = &frame[..partial];
            assert_eq!(decoder.complete(&[nothing, rest].concat(), 10), Ok((nothing.len(), 0)));
            let input = [nothing, &frame, nothing, rest].concat();
            assert_eq!(decoder.complete(&input, 10), Ok((2 * nothing.len() + frame.len(), 1)));
        }
        // A number that has only begun may become anything.
        assert_eq!(decoder.complete(&[0, 0x80, 0x80], 10), Ok((1, 0)));
        let fault = [&[0; 100][..], &[0xff; 8]].concat();
        assert_eq!(decoder.complete(&fault, 10), Err(FrameError::Varint));
    }

    /// Frames, and what means nothing, in one byte or in more.
    fn piece() -> impl Strategy<Value = Vec<u8>> {
        let frame = (0u8..3, 0usize..300).prop_map(|(kind, size)| {
            let kind = [Kind::Request, Kind::Response, Kind::Error][usize::from(kind)];
            bytes(header(kind), &vec![0; size]).to_vec()
        });
        let nothing = (1usize..200, 0usize..MAX_VARINT).prop_map(|(count, longer)| {
            let one = [&vec![0x80; longer][..], &[0]].concat();
            one.repeat(count)
        });
        prop_oneof![frame, nothing]
    }

    proptest! {
        #[test]
        fn heads_come_back(kind in 0u8..3, service in 0u64..1 << 53, method in 0u64..1 << 53, id in 0u64..1 << 53, payload in proptest::collection::vec(any::<u8>(), 0..300)) {
            let kind = [Kind::Request, Kind::Response, Kind::Error][usize::from(kind)];
            let header = Header { kind, service: service >> 2, method, id };
            let input = bytes(header, &payload);
            let frame = Decoder::default().next(&input).unwrap().unwrap();
            prop_assert_eq!(frame.header, header);
            prop_assert_eq!(&input[frame.payload], &payload[..]);
            prop_assert_eq!(frame.end, input.len());
        }

        #[test]
        fn varint_lengths_are_right(value in any::<u64>(), shift in 0u32..64) {
            let value = value >> shift;
            let mut out = BytesMut::new();
            write_varint(value, &mut out);
            prop_assert_eq!(out.len() as u64, varint_len(value));
        }

        #[test]
        fn any_bytes_are_survived(input in proptest::collection::vec(any::<u8>(), 0..200), limit in 0usize..100) {
            let decoder = Decoder::new(limit);
            if let Ok(Some(frame)) = decoder.next(&input) {
                prop_assert!(frame.payload.end <= input.len() && frame.payload.len() <= limit);
                prop_assert_eq!(frame.payload.end, frame.end);
            }
            if let Ok((taken, _)) = decoder.complete(&input, 16) {
                prop_assert!(taken <= input.len());
            }
        }

        #[test]
        fn what_is_left_is_the_beginning_of_one_frame(
            pieces in proptest::collection::vec(piece(), 0..30),
            cut in any::<proptest::sample::Index>(),
            at_once in 1usize..5,
        ) {
            let whole: Vec<u8> = pieces.concat();
            let input = &whole[..cut.index(whole.len() + 1)];
            let decoder = Decoder::new(1000);
            let mut at = 0;
            let fault = loop {
                match decoder.complete(&input[at..], at_once) {
                    Ok((0, _)) => break None,
                    Ok((taken, _)) => at += taken,
                    Err(fault) => break Some(fault),
                }
            };
            prop_assert_eq!(fault, None);
            let left = &input[at..];
            prop_assert_eq!(nothing(left), 0);
            if let Ok(Some(length)) = (Varints { buffer: left, at: 0 }).next() {
                prop_assert!(left.len() < MAX_VARINT + length as usize, "{} bytes of {length}", left.len());
            } else {
                prop_assert!(left.len() < MAX_VARINT);
            }
            // What was taken has the frames that the whole begins with.
            let frames = |bytes: &[u8]| {
                let (mut at, mut frames) = (0, Vec::new());
                while let Ok(Some(frame)) = decoder.next(&bytes[at..]) {
                    frames.push(bytes[at..][frame.payload.clone()].to_vec());
                    at += frame.end;
                }
                frames
            };
            prop_assert_eq!(frames(&input[..at]), frames(input));
        }
    }
}
