//! What both sides of a channel say when they open it.

use bytes::Bytes;
use compact_codec::{DecodeError, Reader, Writer};

/// The handshake of a channel `hypercore/alpha` (npm `hypercore` 11.37.1, `wire.handshake`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelHandshake {
    /// The sender understands requests with a seek.
    pub seeks: bool,
    /// Proof that the sender knows the key: only who knows it can derive this for the present connection.
    pub capability: [u8; 32],
}

impl ChannelHandshake {
    /// The encoded handshake.
    pub fn encode(&self) -> Bytes {
        let mut w = Writer::with_capacity(33);
        w.uint(u64::from(self.seeks));
        w.raw(&self.capability);
        w.finish()
    }

    /// Decodes a handshake; unknown flags and bytes behind it are ignored.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let flags = r.uint()?;
        Ok(Self { seeks: flags & 1 != 0, capability: r.array("replication capability")? })
    }
}
