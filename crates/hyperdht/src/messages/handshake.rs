//! `PEER_HANDSHAKE`: a Noise message on its way between client and server.

use std::net::SocketAddrV4;

use bytes::Bytes;
use compact_codec::{DecodeError, Reader, Writer};

use super::address::{read_v4, write_v4};
use super::{Message, read_if, write_some};

const PEER_ADDRESS: u64 = 1;
const RELAY_ADDRESS: u64 = 2;

/// Which leg of its way a relayed message is on (npm `hyperdht` 6.34 `lib/router.js`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RelayMode {
    /// From the client to a relay, or straight to the server.
    FromClient = 0,
    /// From the server to a relay.
    FromServer = 1,
    /// From a relay to the server, or to a second relay that the server announced at.
    FromRelay = 2,
    /// From the second relay to the server.
    FromSecondRelay = 3,
    /// Back to the client.
    Reply = 4,
}

impl RelayMode {
    pub(super) fn write(self, writer: &mut Writer) {
        writer.u8(self as u8);
    }

    /// A mode that is not known is refused: JS acts on none of them either.
    pub(super) fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match reader.uint()? {
            0 => RelayMode::FromClient,
            1 => RelayMode::FromServer,
            2 => RelayMode::FromRelay,
            3 => RelayMode::FromSecondRelay,
            4 => RelayMode::Reply,
            value => return Err(DecodeError::Unknown { what: "relay mode", value }),
        })
    }
}

/// The value of `PEER_HANDSHAKE` requests and replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// Which leg this is.
    pub mode: RelayMode,
    /// The Noise message.
    pub noise: Bytes,
    /// From a relay: the client; to a relay: the client to answer; in a reply: the server behind the relay.
    pub peer_address: Option<SocketAddrV4>,
    /// From the client: the relay to forward to; from a second relay: the first one.
    pub relay_address: Option<SocketAddrV4>,
}

impl Message for Handshake {
    fn write(&self, writer: &mut Writer) {
        let mut flags = 0;
        if self.peer_address.is_some() {
            flags |= PEER_ADDRESS;
        }
        if self.relay_address.is_some() {
            flags |= RELAY_ADDRESS;
        }
        writer.uint(flags);
        self.mode.write(writer);
        writer.buffer(&self.noise);
        write_some(writer, self.peer_address.as_ref(), write_v4);
        write_some(writer, self.relay_address.as_ref(), write_v4);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let flags = reader.uint()?;
        Ok(Self {
            mode: RelayMode::read(reader)?,
            noise: reader.buffer()?,
            peer_address: read_if(flags & PEER_ADDRESS != 0, reader, read_v4)?,
            relay_address: read_if(flags & RELAY_ADDRESS != 0, reader, read_v4)?,
        })
    }
}
