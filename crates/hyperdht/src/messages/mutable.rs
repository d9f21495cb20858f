//! Records that the holder of a key can replace.

use bytes::Bytes;
use compact_codec::{DecodeError, Reader, Writer};

use super::Message;

/// A signed value: the reply to `MUTABLE_GET`, and what nodes store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutableRecord {
    /// Higher numbers replace lower ones.
    pub seq: u64,
    /// The value.
    pub value: Bytes,
    /// Over number and value, see [`signing`](crate::records::signing).
    pub signature: [u8; 64],
}

impl Message for MutableRecord {
    fn write(&self, writer: &mut Writer) {
        writer.uint(self.seq);
        writer.buffer(&self.value);
        writer.raw(&self.signature);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { seq: reader.uint()?, value: reader.buffer()?, signature: reader.array("signature")? })
    }
}

/// The value of `MUTABLE_PUT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutablePut {
    /// Whose record it is; its hash is the target of the request.
    pub public_key: [u8; 32],
    /// The record.
    pub record: MutableRecord,
}

impl Message for MutablePut {
    fn write(&self, writer: &mut Writer) {
        writer.raw(&self.public_key);
        self.record.write(writer);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { public_key: reader.array("public key")?, record: MutableRecord::read(reader)? })
    }
}

/// The value of `MUTABLE_GET`: nodes that know only lower sequence numbers answer without a record.
pub fn encode_seq(seq: u64) -> Bytes {
    let mut writer = Writer::new();
    writer.uint(seq);
    writer.finish()
}

/// The opposite of [`encode_seq`].
///
/// # Errors
/// When there is no number.
pub fn decode_seq(bytes: Bytes) -> Result<u64, DecodeError> {
    Reader::new(bytes).uint()
}
