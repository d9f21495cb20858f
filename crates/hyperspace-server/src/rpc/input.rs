//! What a client has sent and nobody has looked at yet.

use bytes::{Buf, Bytes, BytesMut};
use hyperspace_common::{Decoder, FrameError, frame};

/// Frames that are taken out at once.
const FRAMES_AT_ONCE: usize = 4096;
/// A frame of this size is a large one.
const LARGE_FRAME: usize = 16 << 10;

/// Received bytes, up to one frame that has not come as a whole yet.
pub(super) struct Input {
    bytes: BytesMut,
    decoder: Decoder,
}

impl Input {
    pub(super) fn new(decoder: Decoder) -> Self {
        Self { bytes: BytesMut::new(), decoder }
    }

    /// Where received bytes go.
    pub(super) fn bytes(&mut self) -> &mut BytesMut {
        &mut self.bytes
    }

    /// Whether it begins with a large frame.
    pub(super) fn begins_large(&mut self) -> bool {
        // Else it would be looked through again with every read while more is gathered.
        self.bytes.advance(frame::nothing(&self.bytes));
        match self.decoder.next(&self.bytes) {
            Ok(Some(frame)) => frame.end >= LARGE_FRAME,
            Ok(None) => self.bytes.len() >= LARGE_FRAME,
            Err(_) => false,
        }
    }

    /// Takes whole frames out, if there are any.
    pub(super) fn take_burst(&mut self) -> Result<Option<Bytes>, FrameError> {
        match self.decoder.complete(&self.bytes, FRAMES_AT_ONCE)? {
            (nothing, 0) => {
                self.bytes.advance(nothing);
                Ok(None)
            }
            (length, _) => Ok(Some(self.bytes.split_to(length).freeze())),
        }
    }
}

#[cfg(test)]
mod tests {
    use hyperspace_common::{Header, Method, Outbox};

    use super::*;

    /// What comes of one read.
    const READ: usize = 64 << 10;

    fn input() -> Input {
        Input::new(Decoder::default())
    }

    fn status() -> Bytes {
        let mut outbox = Outbox::new();
        outbox.request(Method::HyperspaceStatus, 7, &());
        outbox.take()
    }

    #[test]
    fn what_means_nothing_takes_no_memory_however_much_comes() {
        // 0, and 0 in two bytes.
        for nothing in [&[0][..], &[0x80, 0]] {
            let mut input = input();
            for _ in 0..200 {
                input.bytes().reserve(READ);
                input.bytes().extend_from_slice(&nothing.repeat(READ / nothing.len()));
                assert_eq!(input.take_burst(), Ok(None));
                assert!(input.bytes.is_empty());
                assert!(input.bytes.capacity() <= 2 * READ, "{}", input.bytes.capacity());
            }
            input.bytes().extend_from_slice(&status());
            assert_eq!(input.take_burst(), Ok(Some(status())));
        }
    }

    #[test]
    fn a_frame_that_comes_in_pieces_among_them_is_not_lost() {
        let mut input = input();
        let mut burst = None;
        for byte in [&[0, 0][..], &status(), &[0, 0]].concat() {
            input.bytes().extend_from_slice(&[byte]);
            burst = burst.or(input.take_burst().unwrap());
        }
        assert_eq!(burst.unwrap(), status());
        assert!(input.bytes.is_empty());
    }

    #[test]
    fn nothing_is_not_gathered_as_a_large_frame_is() {
        let mut input = input();
        input.bytes().extend_from_slice(&[0; 2 * LARGE_FRAME]);
        assert!(!input.begins_large() && input.bytes.is_empty(), "it would be looked through at each read");
        let mut outbox = Outbox::new();
        outbox.block_response(Header::request(Method::HypercoreAppend, 7), vec![1; 4 * LARGE_FRAME].into());
        let large = outbox.take();
        input.bytes().extend_from_slice(&[0; 100]);
        input.bytes().extend_from_slice(&large[..2 * LARGE_FRAME]);
        assert!(input.begins_large());
        input.bytes().extend_from_slice(&large[2 * LARGE_FRAME..]);
        assert!(input.begins_large());
        assert_eq!(input.take_burst().unwrap().map(|burst| burst.len()), Some(large.len()));
    }
}
