//! Announcements: who can be reached, under which topic, through whom.

use std::net::SocketAddrV4;

use compact_codec::{DecodeError, Reader, Writer};

use super::address::{read_v4_list, write_v4_list};
use super::{Message, read_if, write_some};

/// A peer and the nodes through which it can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Peer {
    /// The peer.
    pub public_key: [u8; 32],
    /// Nodes that forward handshakes to it.
    pub relay_addresses: Vec<SocketAddrV4>,
}

impl Message for Peer {
    fn write(&self, writer: &mut Writer) {
        writer.raw(&self.public_key);
        write_v4_list(writer, &self.relay_addresses);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { public_key: reader.array("public key")?, relay_addresses: read_v4_list(reader)? })
    }
}

/// What a node knows of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LookupReply {
    /// Peers that announce it: a random choice of 20 when there are more.
    pub peers: Vec<Peer>,
    /// The latest time, in milliseconds since 1970, that an announcer bumped the topic to; 0 when none did. Older nodes
    /// (6.20) do not send it.
    pub bump: u64,
}

impl Message for LookupReply {
    fn write(&self, writer: &mut Writer) {
        writer.list(&self.peers, |writer, peer| peer.write(writer));
        writer.uint(self.bump);
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let peers = reader.list("peers", 33, Peer::read)?;
        Ok(Self { peers, bump: if reader.is_empty() { 0 } else { reader.uint()? } })
    }
}

const PEER: u64 = 1;
const REFRESH: u64 = 2;
const SIGNATURE: u64 = 4;
const BUMP: u64 = 8;

/// The value of `ANNOUNCE` and `UNANNOUNCE`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announce {
    /// Who is announced; none when an announcement is refreshed by its token.
    pub peer: Option<Peer>,
    /// With a peer: the hash of the token that will refresh the announcement. Without: the token itself, which is
    /// the hash of nothing that was sent before.
    pub refresh: Option<[u8; 32]>,
    /// By the peer's key, see [`signing`](crate::records::signing).
    pub signature: Option<[u8; 64]>,
    /// The time, in milliseconds since 1970, to bump the topic to; 0 for none.
    pub bump: u64,
}

impl Message for Announce {
    fn write(&self, writer: &mut Writer) {
        let mut flags = 0;
        for (flag, set) in [
            (PEER, self.peer.is_some()),
            (REFRESH, self.refresh.is_some()),
            (SIGNATURE, self.signature.is_some()),
            (BUMP, self.bump != 0),
        ] {
            if set {
                flags |= flag;
            }
        }
        writer.uint(flags);
        write_some(writer, self.peer.as_ref(), |writer, peer| peer.write(writer));
        write_some(writer, self.refresh.as_ref(), |writer, token| writer.raw(token));
        write_some(writer, self.signature.as_ref(), |writer, signature| writer.raw(signature));
        if self.bump != 0 {
            writer.uint(self.bump);
        }
    }

    fn read(reader: &mut Reader) -> Result<Self, DecodeError> {
        let flags = reader.uint()?;
        Ok(Self {
            peer: read_if(flags & PEER != 0, reader, Peer::read)?,
            refresh: read_if(flags & REFRESH != 0, reader, |reader| reader.array("refresh token"))?,
            signature: read_if(flags & SIGNATURE != 0, reader, |reader| reader.array("signature"))?,
            bump: read_if(flags & BUMP != 0, reader, Reader::uint)?.unwrap_or(0),
        })
    }
}
