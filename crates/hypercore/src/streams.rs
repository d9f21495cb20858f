//! Streams over the blocks of a log, and a sink that appends.

mod bytes;
mod read;
mod write;

pub use bytes::{ByteStream, ByteStreamOptions};
pub use read::{ReadOptions, ReadStream};
pub use write::WriteSink;
