//! The datagrams of UDX: a header of 20 bytes, then padding or SACK ranges, then the payload.
//!
//! ```text
//!  0       magic, 255
//!  1       version, 1
//!  2       type: a set of flags
//!  3       data offset: how many bytes (padding, SACK ranges) stand between the header and the payload
//!  4..8    id of the stream at the receiver        (all numbers little endian)
//!  8..12   receive window of the sender, in bytes
//! 12..16   sequence number of this packet, or of the next one where the packet takes none
//! 16..20   the sequence number that the sender expects next: everything before it has arrived
//! ```
//!
//! Sequence numbers count packets, not bytes: a packet that carries data or the end takes one, every other kind none.
//! A packet with the SACK flag has pairs of sequence numbers `start..end` behind the header, each a run of packets that
//! arrived beyond a gap; they reach as far as the data offset says, or to the end of the packet when it says nothing
//! (which is what libudx sends: SACKs travel in packets without payload). Source: libudx 1.21 `process_packet`.

use bytes::{Buf, Bytes};

/// First byte of every UDX packet.
pub const MAGIC: u8 = 255;
/// Second byte of every UDX packet.
pub const VERSION: u8 = 1;
/// Length of the header.
pub const HEADER_SIZE: usize = 20;
/// Most SACK ranges that one packet carries (libudx `UDX_MAX_SACKS`). What comes beyond is ignored.
pub const MAX_SACKS: usize = 50;
/// Bytes of one SACK range.
pub(crate) const SACK_SIZE: usize = 8;

/// Flag: the packet carries bytes of the stream.
pub const DATA: u8 = 0b00_0001;
/// Flag: the stream ends with this packet.
pub const END: u8 = 0b00_0010;
/// Flag: SACK ranges follow the header.
pub const SACK: u8 = 0b00_0100;
/// Flag: the packet carries a message, unordered and unreliable.
pub const MESSAGE: u8 = 0b00_1000;
/// Flag: the sender has given the stream up.
pub const DESTROY: u8 = 0b01_0000;
/// Flag: answer with an acknowledgement, please. Keep-alive and zero-window probe.
pub const HEARTBEAT: u8 = 0b10_0000;

/// The fixed part of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What the packet is: a set of [`DATA`], [`END`], [`SACK`], [`MESSAGE`], [`DESTROY`], [`HEARTBEAT`]; none of them:
    /// a plain acknowledgement.
    pub kind: u8,
    /// Bytes between header and payload.
    pub data_offset: u8,
    /// Id of the stream at the receiver.
    pub id: u32,
    /// How many bytes the sender is ready to take.
    pub window: u32,
    /// Number of this packet, or of the next one.
    pub seq: u32,
    /// Number of the packet that the sender waits for.
    pub ack: u32,
}

impl Header {
    /// Reads the header of a datagram. `None` if it is no UDX packet.
    pub fn decode(datagram: &[u8]) -> Option<Self> {
        let header = datagram.first_chunk::<HEADER_SIZE>()?;
        let [magic, version, kind, data_offset, numbers @ ..] = header;
        if *magic != MAGIC || *version != VERSION {
            return None;
        }
        let mut numbers = &numbers[..];
        Some(Self {
            kind: *kind,
            data_offset: *data_offset,
            id: numbers.get_u32_le(),
            window: numbers.get_u32_le(),
            seq: numbers.get_u32_le(),
            ack: numbers.get_u32_le(),
        })
    }

    /// The bytes of this header.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[..4].copy_from_slice(&[MAGIC, VERSION, self.kind, self.data_offset]);
        bytes[4..8].copy_from_slice(&self.id.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.window.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.seq.to_le_bytes());
        bytes[16..].copy_from_slice(&self.ack.to_le_bytes());
        bytes
    }

    /// Whether the packet has any of these flags.
    pub fn is(&self, flags: u8) -> bool {
        self.kind & flags != 0
    }

    /// Whether the packet says nothing but what has arrived.
    pub(crate) fn is_acknowledgement(&self) -> bool {
        !self.is(!SACK)
    }
}

/// Id of the stream that a datagram is for. `None` if it is no UDX packet; whether there is such a stream is another
/// question: datagrams for unknown streams count as foreign too.
pub fn stream_id(datagram: &[u8]) -> Option<u32> {
    Header::decode(datagram).map(|header| header.id)
}

/// Gives a datagram to another stream: what a relay does with packets that pass. Does nothing to a datagram that is no
/// UDX packet.
pub fn readdress(datagram: &mut [u8], id: u32) {
    if stream_id(datagram).is_some()
        && let Some(field) = datagram.get_mut(4..8)
    {
        field.copy_from_slice(&id.to_le_bytes());
    }
}

/// A packet as it arrived: the parts are slices of the datagram, nothing is copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The fixed part.
    pub header: Header,
    /// What lies behind header and offset. `None` if the offset points beyond the datagram: libudx then still takes
    /// the packet as a heartbeat if it is one, and ignores everything else about it.
    pub payload: Option<Bytes>,
    /// The SACK ranges, undecoded; empty if the packet has none.
    sacks: Bytes,
}

impl Packet {
    /// Takes a datagram apart. `None` if it is no UDX packet.
    pub fn decode(datagram: Bytes) -> Option<Self> {
        let header = Header::decode(&datagram)?;
        let mut rest = datagram;
        rest.advance(HEADER_SIZE);
        let offset = usize::from(header.data_offset);
        let sacks = if header.is(SACK) {
            let length = if offset > 0 && offset < rest.len() { offset } else { rest.len() };
            rest.slice(..length.min(MAX_SACKS * SACK_SIZE))
        } else {
            Bytes::new()
        };
        let payload = (offset <= rest.len()).then(|| {
            rest.advance(offset);
            rest
        });
        Some(Self { header, payload, sacks })
    }

    /// The SACK ranges, `(start, end)`, the end not included. They are what the sender claims, nothing more.
    pub fn sacks(&self) -> impl Iterator<Item = (u32, u32)> + use<> {
        let mut rest = self.sacks.clone();
        std::iter::from_fn(move || (rest.len() >= SACK_SIZE).then(|| (rest.get_u32_le(), rest.get_u32_le())))
    }
}
