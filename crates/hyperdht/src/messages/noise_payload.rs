//! What client and server tell each other inside the Noise handshake.

use std::net::{SocketAddrV4, SocketAddrV6};

use compact_codec::{DecodeError, Reader, Writer};

use super::address::{read_v4, read_v4_list, read_v6_list, write_v4, write_v4_list, write_v6_list};
use super::{Firewall, Message, read_if, write_some};

/// The version of [`NoisePayload`] that is spoken today.
pub const NOISE_PAYLOAD_VERSION: u64 = 1;

const HOLEPUNCH: u64 = 1;
const ADDRESSES4: u64 = 2;
const ADDRESSES6: u64 = 4;
const UDX: u64 = 8;
const SECRET_STREAM: u64 = 16;
const RELAY_THROUGH: u64 = 32;
const RELAY_ADDRESSES: u64 = 64;

/// The payload of both messages of the Noise handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoisePayload {
    /// [`NOISE_PAYLOAD_VERSION`]. When a peer sends another one nothing else of its payload is looked at, and the
    /// answer is [`error::VERSION_MISMATCH`](super::error::VERSION_MISMATCH).
    pub version: u64,
    /// One of [`error`](super::error).
    pub error: u64,
    /// The NAT in front of the sender, as far as it knows.
    pub firewall: Firewall,
    /// From the server: how to start punching holes.
    pub holepunch: Option<HolepunchInfo>,
    /// Addresses of the sender, also those in its own network.
    pub addresses4: Vec<SocketAddrV4>,
    /// IPv6 addresses of the sender.
    pub addresses6: Vec<SocketAddrV6>,
    /// The UDX stream that the sender made ready.
    pub udx: Option<UdxInfo>,
    /// What the sender can do as a secret stream.
    pub secret_stream: Option<SecretStreamInfo>,
    /// The third peer through which the sender would have the stream relayed.
    pub relay_through: Option<RelayThroughInfo>,
    /// Nodes that know the sender (6.20 does not know of them).
    pub relay_addresses: Option<Vec<SocketAddrV4>>,
}

impl Default for NoisePayload {
    fn default() -> Self {
        Self::of_version(NOISE_PAYLOAD_VERSION)
    }
}

impl NoisePayload {
    fn of_version(version: u64) -> Self {
        Self {
            version,
            error: 0,
            firewall: Firewall::Unknown,
            holepunch: None,
            addresses4: Vec::new(),
            addresses6: Vec::new(),
            udx: None,
            secret_stream: None,
            relay_through: None,
            relay_addresses: None,
        }
    }

    fn flags(&self) -> u64 {
        let mut flags = 0;
        for (flag, set) in [
            (HOLEPUNCH, self.holepunch.is_some()),
            (ADDRESSES4, !self.addresses4.is_empty()),
            (ADDRESSES6, !self.addresses6.is_empty()),
            (UDX, self.udx.is_some()),
            (SECRET_STREAM, self.secret_stream.is_some()),
            (RELAY_THROUGH, self.relay_through.is_some()),
            (RELAY_ADDRESSES, self.relay_addresses.is_some()),
        ] {
            if set {
                flags |= flag;
            }
        }
        flags
    }
}

impl Message for NoisePayload {
    /// Always the encoding of [`NOISE_PAYLOAD_VERSION`], with the given number in front (JS writes 1).
    fn write(&self, writer: &mut Writer) {
        writer.uint(self.version);
        writer.uint(self.flags());
        writer.uint(self.error);
        writer.uint(self.firewall.to_wire());
        write_some(writer, self.holepunch.as_ref(), |writer, info| info.write(writer));
        if !self.addresses4.is_empty() {
            write_v4_list(writer, &self.addresses4);
        }
        if !self.addresses6.is_empty() {
            write_v6_list(writer, &self.addresses6);
        }
        write_some(writer, self.udx.as_ref(), |writer, info| info.write(writer));
        write_some(writer, self.secret_stream.as_ref(), |writer, info| writer.uint(info.version));
        write_some(writer, self.relay_through.as_ref(), |writer, info| info.write(writer));
        write_some(writer, self.relay_addresses.as_ref(), |writer, list| write_v4_list(writer, list));
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = reader.uint()?;
        if version != NOISE_PAYLOAD_VERSION {
            return Ok(Self::of_version(version));
        }
        let flags = reader.uint()?;
        Ok(Self {
            version,
            error: reader.uint()?,
            firewall: Firewall::from_wire(reader.uint()?),
            holepunch: read_if(flags & HOLEPUNCH != 0, reader, HolepunchInfo::read)?,
            addresses4: read_if(flags & ADDRESSES4 != 0, reader, read_v4_list)?.unwrap_or_default(),
            addresses6: read_if(flags & ADDRESSES6 != 0, reader, read_v6_list)?.unwrap_or_default(),
            udx: read_if(flags & UDX != 0, reader, UdxInfo::read)?,
            secret_stream: read_if(flags & SECRET_STREAM != 0, reader, |reader| {
                Ok(SecretStreamInfo { version: reader.uint()? })
            })?,
            relay_through: read_if(flags & RELAY_THROUGH != 0, reader, RelayThroughInfo::read)?,
            relay_addresses: read_if(flags & RELAY_ADDRESSES != 0, reader, read_v4_list)?,
        })
    }
}

/// How to start punching holes to a server.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HolepunchInfo {
    /// The number under which the server knows the attempt.
    pub id: u64,
    /// Nodes through which the server can be spoken to.
    pub relays: Vec<RelayInfo>,
}

impl HolepunchInfo {
    fn write(&self, writer: &mut Writer) {
        writer.uint(self.id);
        writer.list(&self.relays, |writer, relay| {
            write_v4(writer, &relay.relay_address);
            write_v4(writer, &relay.peer_address);
        });
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self {
            id: reader.uint()?,
            relays: reader.list("relays", 12, |reader| {
                Ok(RelayInfo { relay_address: read_v4(reader)?, peer_address: read_v4(reader)? })
            })?,
        })
    }
}

/// A node through which a server can be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RelayInfo {
    /// The node.
    pub relay_address: SocketAddrV4,
    /// The server as that node sees it.
    pub peer_address: SocketAddrV4,
}

/// A UDX stream that waits for its other half.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UdxInfo {
    /// 1 today; other numbers are passed on.
    pub version: u64,
    /// The stream's socket may be used for further streams to the same peer.
    pub reusable_socket: bool,
    /// The id of the stream.
    pub id: u64,
    /// The first sequence number (0 today).
    pub seq: u64,
}

impl UdxInfo {
    fn write(&self, writer: &mut Writer) {
        writer.uint(self.version);
        writer.uint(u64::from(self.reusable_socket));
        writer.uint(self.id);
        writer.uint(self.seq);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = reader.uint()?;
        let features = reader.uint()?;
        Ok(Self { version, reusable_socket: features & 1 != 0, id: reader.uint()?, seq: reader.uint()? })
    }
}

/// What a peer can do as a secret stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecretStreamInfo {
    /// 1 today; other numbers are passed on.
    pub version: u64,
}

impl Default for SecretStreamInfo {
    fn default() -> Self {
        Self { version: 1 }
    }
}

/// A third peer through which the stream shall be relayed (blind relay).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayThroughInfo {
    /// 1 today; other numbers are passed on.
    pub version: u64,
    /// The relaying peer.
    pub public_key: [u8; 32],
    /// Under which both sides meet there.
    pub token: [u8; 32],
}

impl RelayThroughInfo {
    fn write(&self, writer: &mut Writer) {
        writer.uint(self.version);
        writer.uint(0); // flags, none defined
        writer.raw(&self.public_key);
        writer.raw(&self.token);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = reader.uint()?;
        reader.uint()?;
        Ok(Self { version, public_key: reader.array("relay key")?, token: reader.array("relay token")? })
    }
}
