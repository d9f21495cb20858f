use bytes::{Bytes, BytesMut};

/// One message for the stream below, in pieces that are to be put together.
///
/// Long payloads are pieces of their own, so that they need not be copied before the cipher reads them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transmit {
    parts: Vec<Bytes>,
    len: usize,
}

impl Transmit {
    pub(crate) fn new(parts: Vec<Bytes>, len: usize) -> Self {
        Self { parts, len }
    }

    /// The pieces, in order.
    pub fn parts(&self) -> &[Bytes] {
        &self.parts
    }

    /// Bytes of all pieces together.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True for a message without bytes, which is never handed out.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The message in one piece; copies when there is more than one.
    pub fn into_bytes(mut self) -> Bytes {
        if self.parts.len() <= 1 {
            return self.parts.pop().unwrap_or_default();
        }
        let mut whole = BytesMut::with_capacity(self.len);
        for part in &self.parts {
            whole.extend_from_slice(part);
        }
        whole.freeze()
    }
}
