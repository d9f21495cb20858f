//! `PEER_HOLEPUNCH`: what two peers that punch holes tell each other through a relay.

use std::net::SocketAddrV4;

use bytes::Bytes;
use compact_codec::{DecodeError, Reader, Writer};

use super::address::{read_v4, read_v4_list, write_v4, write_v4_list};
use super::{Firewall, Message, RelayMode, read_if, write_some};

const PEER_ADDRESS: u64 = 1;

/// The value of `PEER_HOLEPUNCH` requests and replies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holepunch {
    /// Which leg this is.
    pub mode: RelayMode,
    /// The number that the server gave this attempt in [`HolepunchInfo`](super::HolepunchInfo).
    pub id: u64,
    /// The sealed [`HolepunchPayload`].
    pub payload: Bytes,
    /// From the client: the server's address at the relay; from a relay: the client; to a relay: the client to
    /// answer; in a reply: the server behind the relay.
    pub peer_address: Option<SocketAddrV4>,
}

impl Message for Holepunch {
    fn write(&self, writer: &mut Writer) {
        writer.uint(if self.peer_address.is_some() { PEER_ADDRESS } else { 0 });
        self.mode.write(writer);
        writer.uint(self.id);
        writer.buffer(&self.payload);
        write_some(writer, self.peer_address.as_ref(), write_v4);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let flags = reader.uint()?;
        Ok(Self {
            mode: RelayMode::read(reader)?,
            id: reader.uint()?,
            payload: reader.buffer()?,
            peer_address: read_if(flags & PEER_ADDRESS != 0, reader, read_v4)?,
        })
    }
}

const CONNECTED: u64 = 1;
const PUNCHING: u64 = 2;
const ADDRESSES: u64 = 4;
const REMOTE_ADDRESS: u64 = 8;
const TOKEN: u64 = 16;
const REMOTE_TOKEN: u64 = 32;

/// What is sealed inside a [`Holepunch`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HolepunchPayload {
    /// One of [`error`](super::error).
    pub error: u64,
    /// The NAT in front of the sender, as far as it knows.
    pub firewall: Firewall,
    /// Which round of the exchange this is.
    pub round: u64,
    /// The sender is connected already.
    pub connected: bool,
    /// The sender punches now.
    pub punching: bool,
    /// Where the sender thinks it can be reached.
    pub addresses: Option<Vec<SocketAddrV4>>,
    /// The address of the receiver as the sender sees it.
    pub remote_address: Option<SocketAddrV4>,
    /// A token of the sender for the receiver's address.
    pub token: Option<[u8; 32]>,
    /// The token that the receiver gave, as proof that its address is its own.
    pub remote_token: Option<[u8; 32]>,
}

impl Message for HolepunchPayload {
    fn write(&self, writer: &mut Writer) {
        let mut flags = 0;
        for (flag, set) in [
            (CONNECTED, self.connected),
            (PUNCHING, self.punching),
            (ADDRESSES, self.addresses.is_some()),
            (REMOTE_ADDRESS, self.remote_address.is_some()),
            (TOKEN, self.token.is_some()),
            (REMOTE_TOKEN, self.remote_token.is_some()),
        ] {
            if set {
                flags |= flag;
            }
        }
        writer.uint(flags);
        writer.uint(self.error);
        writer.uint(self.firewall.to_wire());
        writer.uint(self.round);
        write_some(writer, self.addresses.as_ref(), |writer, list| write_v4_list(writer, list));
        write_some(writer, self.remote_address.as_ref(), write_v4);
        write_some(writer, self.token.as_ref(), |writer, token| writer.raw(token));
        write_some(writer, self.remote_token.as_ref(), |writer, token| writer.raw(token));
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let flags = reader.uint()?;
        Ok(Self {
            error: reader.uint()?,
            firewall: Firewall::from_wire(reader.uint()?),
            round: reader.uint()?,
            connected: flags & CONNECTED != 0,
            punching: flags & PUNCHING != 0,
            addresses: read_if(flags & ADDRESSES != 0, reader, read_v4_list)?,
            remote_address: read_if(flags & REMOTE_ADDRESS != 0, reader, read_v4)?,
            token: read_if(flags & TOKEN != 0, reader, |reader| reader.array("token"))?,
            remote_token: read_if(flags & REMOTE_TOKEN != 0, reader, |reader| reader.array("remote token"))?,
        })
    }
}
