//! Requests to what users of a node plug into it.

use bytes::Bytes;
use compact_codec::{DecodeError, Reader, Writer};

use super::{Message, read_if, write_some};

const VALUE: u64 = 1;

/// The value of `PLUGIN` (6.20 does not know of it).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRequest {
    /// Name of the plugin.
    pub plugin: String,
    /// Version of the plugin; both sides must have the same one.
    pub version: u64,
    /// A command of the plugin's own.
    pub command: u64,
    /// What the plugin likes.
    pub value: Option<Bytes>,
}

impl Message for PluginRequest {
    fn write(&self, writer: &mut Writer) {
        writer.string(&self.plugin);
        writer.uint(self.version);
        writer.uint(self.command);
        writer.uint(if self.value.is_some() { VALUE } else { 0 });
        write_some(writer, self.value.as_ref(), |writer, value| writer.buffer(value));
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let plugin = reader.string()?;
        let version = reader.uint()?;
        let command = reader.uint()?;
        let flags = reader.uint()?;
        Ok(Self { plugin, version, command, value: read_if(flags & VALUE != 0, reader, Reader::buffer)? })
    }
}
