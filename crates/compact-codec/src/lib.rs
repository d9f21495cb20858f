//! The primitives of npm `compact-encoding` 2, for bytes that nobody vouches for.
//!
//! Everything that Hypercore puts on the wire, hashes or stores is made of these few shapes: variable-length
//! unsigned integers, fixed 32-byte values, length-prefixed buffers and arrays. [`Reader`] takes them out of a
//! [`bytes::Bytes`] without copying and without ever reading, or reserving memory for, more than is really there;
//! [`Writer`] puts them into a growing buffer.
//!
//! ```
//! use bytes::Bytes;
//! use compact_codec::{Reader, Writer};
//!
//! let mut writer = Writer::new();
//! writer.uint(300);
//! writer.buffer(b"block");
//! let mut reader = Reader::new(writer.finish());
//! assert_eq!(reader.uint()?, 300);
//! assert_eq!(reader.buffer()?, Bytes::from_static(b"block"));
//! assert!(reader.is_empty());
//! # Ok::<(), compact_codec::DecodeError>(())
//! ```

mod reader;
mod writer;

pub use reader::{DecodeError, Reader};
pub use writer::{Writer, uint_len};
