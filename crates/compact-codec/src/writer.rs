use bytes::{BufMut, Bytes, BytesMut};

/// Puts values into a growing buffer.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    out: BytesMut,
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { out: BytesMut::with_capacity(capacity) }
    }

    /// Goes on writing behind what `out` holds.
    pub fn append_to(out: BytesMut) -> Self {
        Self { out }
    }

    /// A variable-length unsigned integer.
    pub fn uint(&mut self, value: u64) {
        match value {
            0..=0xfc => self.out.put_u8(value as u8),
            0xfd..=0xffff => {
                self.out.put_u8(0xfd);
                self.out.put_u16_le(value as u16);
            }
            0x1_0000..=0xffff_ffff => {
                self.out.put_u8(0xfe);
                self.out.put_u32_le(value as u32);
            }
            _ => {
                self.out.put_u8(0xff);
                self.out.put_u64_le(value);
            }
        }
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.out.put_u8(value);
    }

    /// A fixed 8-byte little-endian integer.
    pub fn uint64(&mut self, value: u64) {
        self.out.put_u64_le(value);
    }

    /// Bytes as they stand (`raw`, `fixed32`, ...).
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// A length-prefixed buffer.
    pub fn buffer(&mut self, bytes: &[u8]) {
        self.uint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// A length-prefixed buffer; none is written as length 0.
    pub fn optional_buffer(&mut self, bytes: Option<&[u8]>) {
        self.buffer(bytes.unwrap_or_default());
    }

    /// A length-prefixed UTF-8 string.
    pub fn string(&mut self, text: &str) {
        self.buffer(text.as_bytes());
    }

    /// A count-prefixed array.
    pub fn list<T>(&mut self, items: &[T], mut element: impl FnMut(&mut Self, &T)) {
        self.uint(items.len() as u64);
        for item in items {
            element(self, item);
        }
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// True when nothing was written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// What was written.
    pub fn finish(self) -> Bytes {
        self.out.freeze()
    }

    /// What was written, still growable.
    pub fn into_inner(self) -> BytesMut {
        self.out
    }
}

/// How many bytes [`Writer::uint`] takes for `value`.
pub fn uint_len(value: u64) -> usize {
    match value {
        0..=0xfc => 1,
        0xfd..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}
