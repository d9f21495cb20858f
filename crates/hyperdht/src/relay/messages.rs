//! What a blind relay and its users say to each other, on a protomux channel `blind-relay` (npm `blind-relay` 1.6).
//!
//! ```text
//! kind 0, pair     flags: 1 byte (1: initiator) | token: 32 bytes | uint stream id | uint seq (0)
//! kind 1, unpair   flags: 1 byte (0) | token: 32 bytes
//! ```
//!
//! Both ends of a connection ask for the same token, one of them as the initiator, and each with the id of its stream.
//! The relay answers both with the ids of two streams of its own, one to send to for each.

use compact_codec::{DecodeError, Reader, Writer};

use crate::messages::Message;

/// The name of the protocol.
pub(crate) const PROTOCOL: &str = "blind-relay";
/// Kinds of message.
pub(crate) const PAIR: u32 = 0;
pub(crate) const UNPAIR: u32 = 1;

/// Under which two ends meet: 32 random bytes that only they know.
pub type Token = [u8; 32];

/// Asks to be joined with the other who names this token, or says that it was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) is_initiator: bool,
    pub(crate) token: Token,
    /// The sender's stream.
    pub(crate) id: u32,
}

/// Takes a [`Pair`] back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unpair {
    pub(crate) token: Token,
}

impl Message for Pair {
    fn write(&self, writer: &mut Writer) {
        writer.u8(u8::from(self.is_initiator));
        writer.raw(&self.token);
        writer.uint(u64::from(self.id));
        writer.uint(0);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let is_initiator = reader.uint()? & 1 != 0;
        let token = reader.array("token")?;
        let id = reader.uint_at_most("stream id", u32::MAX.into())?;
        reader.uint()?;
        let id = u32::try_from(id).unwrap_or(u32::MAX);
        Ok(Self { is_initiator, token, id })
    }
}

impl Message for Unpair {
    fn write(&self, writer: &mut Writer) {
        writer.u8(0);
        writer.raw(&self.token);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        reader.uint()?;
        Ok(Self { token: reader.array("token")? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    #[test]
    fn as_npm_writes_them() {
        let token = [7; 32];
        let mut expected = vec![1];
        expected.extend_from_slice(&token);
        expected.extend_from_slice(&[0xfd, 0x2c, 0x01, 0]);
        let pair = Pair { is_initiator: true, token, id: 300 };
        assert_eq!(pair.encode()[..], expected);
        let mut expected = vec![0];
        expected.extend_from_slice(&token);
        assert_eq!(Unpair { token }.encode()[..], expected);
    }

    proptest! {
        #[test]
        fn round_trip(is_initiator: bool, token: [u8; 32], id: u32) {
            let pair = Pair { is_initiator, token, id };
            prop_assert_eq!(Pair::decode(pair.encode()).unwrap(), pair);
            prop_assert_eq!(Unpair::decode(Unpair { token }.encode()).unwrap().token, token);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = Pair::decode(Bytes::from(bytes.clone()));
            let _ = Unpair::decode(Bytes::from(bytes));
        }
    }
}
