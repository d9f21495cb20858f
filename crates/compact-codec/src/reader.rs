use bytes::{Buf, Bytes};

/// Why bytes could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The input ended inside a value.
    #[error("input ends early: {what} needs {needed} more bytes, {left} are left")]
    UnexpectedEnd {
        /// What was being read.
        what: &'static str,
        /// How many bytes it needs.
        needed: u64,
        /// How many bytes there are.
        left: usize,
    },
    /// A number is larger than the field allows.
    #[error("{what} is {value}, the limit is {limit}")]
    TooLarge {
        /// What was being read.
        what: &'static str,
        /// The value found.
        value: u64,
        /// The largest value allowed.
        limit: u64,
    },
    /// A string is not UTF-8.
    #[error("{what} is not valid UTF-8")]
    NotUtf8 {
        /// What was being read.
        what: &'static str,
    },
    /// A value has no meaning here (an unknown version, type or flag).
    #[error("{what} has the unknown value {value}")]
    Unknown {
        /// What was being read.
        what: &'static str,
        /// The value found.
        value: u64,
    },
}

/// Largest integer that JavaScript peers can represent exactly; larger ones are refused, as nothing that is
/// counted here (blocks, bytes, forks) can reach them honestly.
pub(crate) const MAX_SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Takes values out of a [`Bytes`], front to back. Buffers are slices of the input, not copies.
#[derive(Debug, Clone)]
pub struct Reader {
    input: Bytes,
}

impl Reader {
    /// Starts at the front of `input`.
    pub fn new(input: Bytes) -> Self {
        Self { input }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.input.len()
    }

    /// True when everything was read.
    pub fn is_empty(&self) -> bool {
        self.input.is_empty()
    }

    /// A variable-length unsigned integer of at most 2^53 - 1.
    pub fn uint(&mut self) -> Result<u64, DecodeError> {
        let value = match self.u8("uint")? {
            small @ 0..=0xfc => u64::from(small),
            0xfd => u64::from(u16::from_le_bytes(self.array("uint16")?)),
            0xfe => u64::from(u32::from_le_bytes(self.array("uint32")?)),
            0xff => u64::from_le_bytes(self.array("uint64")?),
        };
        if value > MAX_SAFE_INTEGER {
            return Err(DecodeError::TooLarge { what: "uint", value, limit: MAX_SAFE_INTEGER });
        }
        Ok(value)
    }

    /// A [`Reader::uint`] that must not exceed `limit`.
    pub fn uint_at_most(&mut self, what: &'static str, limit: u64) -> Result<u64, DecodeError> {
        let value = self.uint()?;
        if value > limit {
            return Err(DecodeError::TooLarge { what, value, limit });
        }
        Ok(value)
    }

    /// One byte.
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        let [byte] = self.array(what)?;
        Ok(byte)
    }

    /// A fixed 8-byte little-endian integer (`uint64` of compact-encoding).
    pub fn uint64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array("uint64")?))
    }

    /// `N` bytes as they stand (`fixed32`, `fixed64`, ...).
    pub fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        let Some(head) = self.input.first_chunk::<N>().copied() else {
            return Err(self.short(what, N as u64));
        };
        self.input.advance(N);
        Ok(head)
    }

    /// A length-prefixed buffer.
    pub fn buffer(&mut self) -> Result<Bytes, DecodeError> {
        let len = self.uint()?;
        self.take("buffer", len)
    }

    /// A length-prefixed buffer in which length 0 stands for none (`optionalBuffer`; `buffer` decodes so in JS).
    pub fn optional_buffer(&mut self) -> Result<Option<Bytes>, DecodeError> {
        let buffer = self.buffer()?;
        Ok(if buffer.is_empty() { None } else { Some(buffer) })
    }

    /// A length-prefixed UTF-8 string.
    pub fn string(&mut self) -> Result<String, DecodeError> {
        let bytes = self.buffer()?;
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(DecodeError::NotUtf8 { what: "string" }),
        }
    }

    /// A count-prefixed array; `element_min` is the least number of bytes an element takes, so that a count
    /// that the input cannot hold is refused before memory is reserved.
    pub fn list<T>(
        &mut self,
        what: &'static str,
        element_min: usize,
        mut element: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.uint()?;
        let needed = count.saturating_mul(element_min.max(1) as u64);
        let fits = usize::try_from(count).ok().filter(|_| needed <= self.input.len() as u64);
        let Some(count) = fits else {
            return Err(self.short(what, needed));
        };
        let mut list = Vec::with_capacity(count);
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(list)
    }

    /// `len` bytes as they stand.
    pub fn take(&mut self, what: &'static str, len: u64) -> Result<Bytes, DecodeError> {
        match usize::try_from(len) {
            Ok(len) if len <= self.input.len() => Ok(self.input.split_to(len)),
            _ => Err(self.short(what, len)),
        }
    }

    /// All that is left (`raw`).
    pub fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.input)
    }

    fn short(&self, what: &'static str, needed: u64) -> DecodeError {
        DecodeError::UnexpectedEnd { what, needed, left: self.input.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Writer;
    use proptest::prelude::*;

    #[test]
    fn a_count_that_cannot_fit_is_refused_before_reserving() {
        let mut writer = Writer::new();
        writer.uint(1 << 40);
        let mut reader = Reader::new(writer.finish());
        let err = reader.list("nodes", 34, |r| r.u8("x")).unwrap_err();
        assert!(matches!(err, DecodeError::UnexpectedEnd { what: "nodes", .. }));
    }

    #[test]
    fn numbers_beyond_javascript_are_refused() {
        let mut reader = Reader::new(Bytes::from_static(&[0xff, 0, 0, 0, 0, 0, 0, 0x20, 0]));
        assert!(matches!(reader.uint(), Err(DecodeError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn uint_round_trips(value in 0u64..=MAX_SAFE_INTEGER) {
            let mut writer = Writer::new();
            writer.uint(value);
            let bytes = writer.finish();
            prop_assert_eq!(bytes.len(), crate::uint_len(value));
            prop_assert_eq!(Reader::new(bytes).uint().unwrap(), value);
        }

        #[test]
        fn garbage_never_panics(input in proptest::collection::vec(any::<u8>(), 0..200), ops in proptest::collection::vec(0u8..8, 0..40)) {
            let mut reader = Reader::new(Bytes::from(input));
            for op in ops {
                match op {
                    0 => { let _ = reader.uint(); }
                    1 => { let _ = reader.buffer(); }
                    2 => { let _ = reader.string(); }
                    3 => { let _ = reader.array::<32>("x"); }
                    4 => { let _ = reader.optional_buffer(); }
                    5 => { let _ = reader.list("l", 1, |r| r.uint()); }
                    6 => { let _ = reader.uint64(); }
                    _ => { let _ = reader.u8("x"); }
                }
            }
        }
    }
}
