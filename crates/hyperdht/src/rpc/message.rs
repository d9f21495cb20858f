//! The two messages of the DHT.
//!
//! ```text
//! request  0x03 | flags | u16 tid | addr to | [32 id] | [32 token] | uint command | [32 target] | [buffer value]
//!                 flags: 1 id, 2 token, 4 internal, 8 target, 16 value
//! reply    0x13 | flags | u16 tid | addr to | [32 id] | [32 token] | [array addr closer] | [uint error] | [buffer value]
//!                 flags: 1 id, 2 token, 4 closer nodes, 8 error, 16 value
//! addr     4 bytes host | u16 port, little-endian
//! ```
//!
//! (dht-rpc 6.27, `lib/io.js`.) The low four bits of the first byte are the version, 3; the high ones the kind. `to` is
//! the address that the message is sent to, which is how nodes learn their own. Bytes after the last field are ignored,
//! as they are there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use bytes::Bytes;
use compact_codec::{DecodeError, Reader, Writer, uint_len};

use super::peer::canonical;
use super::{NodeId, RpcError};

const REQUEST: u8 = 0x03;
const REPLY: u8 = 0x13;

const HAS_ID: u64 = 1;
const HAS_TOKEN: u64 = 2;
const REQUEST_INTERNAL: u64 = 4;
const REQUEST_HAS_TARGET: u64 = 8;
const REPLY_HAS_CLOSER: u64 = 4;
const REPLY_HAS_ERROR: u64 = 8;
const HAS_VALUE: u64 = 16;

/// Bytes of an address.
const ADDR_LEN: usize = 6;
/// Most closer nodes that are taken from one reply. Nodes send twenty; what is beyond is not looked at.
pub(crate) const MAX_CLOSER: usize = 32;
/// The longest message we send: what a UDP datagram over IPv4 can carry.
pub(crate) const MAX_MESSAGE: usize = 65_507;

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Somebody wants something.
    Request(RequestMessage),
    /// Somebody answers.
    Reply(ReplyMessage),
}

/// A request on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestMessage {
    /// The number that the reply has to have.
    pub tid: u16,
    /// Whom it is sent to.
    pub to: SocketAddr,
    /// The sender's id, as it says; to be compared with its address.
    pub id: Option<NodeId>,
    /// What the receiver gave the sender earlier.
    pub token: Option<[u8; 32]>,
    /// The command is one of the DHT's own, not of the application.
    pub internal: bool,
    /// What is wanted.
    pub command: u64,
    /// About what.
    pub target: Option<NodeId>,
    /// With what argument.
    pub value: Option<Bytes>,
}

/// A reply on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplyMessage {
    /// The number of the request.
    pub tid: u16,
    /// Whom it is sent to.
    pub to: SocketAddr,
    /// The sender's id, as it says; to be compared with its address.
    pub id: Option<NodeId>,
    /// To be sent along with what changes something at the sender.
    pub token: Option<[u8; 32]>,
    /// Nodes nearer to the target.
    pub closer: Vec<SocketAddr>,
    /// 0 if all is well.
    pub error: u64,
    /// The answer.
    pub value: Option<Bytes>,
}

impl Message {
    /// Whether a datagram says of itself that it is such a message.
    pub fn looks_like_one(datagram: &[u8]) -> bool {
        datagram.len() > 1 && matches!(datagram.first(), Some(&(REQUEST | REPLY)))
    }

    /// Reads one datagram; values are slices of it.
    pub fn decode(datagram: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(datagram);
        match reader.u8("kind of message")? {
            REQUEST => Ok(Self::Request(RequestMessage::decode(&mut reader)?)),
            REPLY => Ok(Self::Reply(ReplyMessage::decode(&mut reader)?)),
            other => Err(DecodeError::Unknown { what: "kind of message", value: other.into() }),
        }
    }

    /// Writes it as a datagram.
    pub fn encode(&self) -> Result<Bytes, RpcError> {
        match self {
            Self::Request(request) => request.encode(),
            Self::Reply(reply) => reply.encode(),
        }
    }
}

impl RequestMessage {
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let flags = reader.uint()?;
        let tid = u16::from_le_bytes(reader.array("tid")?);
        let to = decode_addr(reader)?;
        let id = optional(flags & HAS_ID, || reader.array("id"))?;
        let token = optional(flags & HAS_TOKEN, || reader.array("token"))?;
        let command = reader.uint()?;
        let target = optional(flags & REQUEST_HAS_TARGET, || reader.array("target"))?;
        let value = optional(flags & HAS_VALUE, || reader.buffer())?;
        let internal = flags & REQUEST_INTERNAL != 0;
        Ok(Self { tid, to, id, token, internal, command, target, value })
    }

    /// Writes it as a datagram.
    pub fn encode(&self) -> Result<Bytes, RpcError> {
        let flags = flag(self.id.is_some(), HAS_ID)
            | flag(self.token.is_some(), HAS_TOKEN)
            | flag(self.internal, REQUEST_INTERNAL)
            | flag(self.target.is_some(), REQUEST_HAS_TARGET)
            | flag(self.value.is_some(), HAS_VALUE);
        let len = 2 + 2 + ADDR_LEN + 3 * 32 + 9 + buffer_len(self.value.as_ref());
        let mut writer = start(REQUEST, flags, self.tid, len)?;
        encode_addr(&mut writer, self.to)?;
        for field in [&self.id, &self.token].into_iter().flatten() {
            writer.raw(field);
        }
        writer.uint(self.command);
        if let Some(target) = &self.target {
            writer.raw(target);
        }
        if let Some(value) = &self.value {
            writer.buffer(value);
        }
        Ok(writer.finish())
    }
}

impl ReplyMessage {
    fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let flags = reader.uint()?;
        let tid = u16::from_le_bytes(reader.array("tid")?);
        let to = decode_addr(reader)?;
        let id = optional(flags & HAS_ID, || reader.array("id"))?;
        let token = optional(flags & HAS_TOKEN, || reader.array("token"))?;
        let mut closer =
            optional(flags & REPLY_HAS_CLOSER, || reader.list("closer nodes", ADDR_LEN, decode_addr))?
                .unwrap_or_default();
        closer.truncate(MAX_CLOSER);
        let error = optional(flags & REPLY_HAS_ERROR, || reader.uint())?.unwrap_or(0);
        let value = optional(flags & HAS_VALUE, || reader.buffer())?;
        Ok(Self { tid, to, id, token, closer, error, value })
    }

    /// Writes it as a datagram.
    pub fn encode(&self) -> Result<Bytes, RpcError> {
        let flags = flag(self.id.is_some(), HAS_ID)
            | flag(self.token.is_some(), HAS_TOKEN)
            | flag(!self.closer.is_empty(), REPLY_HAS_CLOSER)
            | flag(self.error != 0, REPLY_HAS_ERROR)
            | flag(self.value.is_some(), HAS_VALUE);
        let closer = uint_len(self.closer.len() as u64) + ADDR_LEN * self.closer.len();
        let len = 2 + 2 + ADDR_LEN + 2 * 32 + closer + 9 + buffer_len(self.value.as_ref());
        let mut writer = start(REPLY, flags, self.tid, len)?;
        encode_addr(&mut writer, self.to)?;
        for field in [&self.id, &self.token].into_iter().flatten() {
            writer.raw(field);
        }
        if !self.closer.is_empty() {
            writer.uint(self.closer.len() as u64);
            for addr in &self.closer {
                encode_addr(&mut writer, *addr)?;
            }
        }
        if self.error != 0 {
            writer.uint(self.error);
        }
        if let Some(value) = &self.value {
            writer.buffer(value);
        }
        Ok(writer.finish())
    }
}

/// The six bytes by which a down hint names a node.
pub(crate) fn addr_bytes(addr: SocketAddr) -> Result<Bytes, RpcError> {
    let mut writer = Writer::with_capacity(ADDR_LEN);
    encode_addr(&mut writer, addr)?;
    Ok(writer.finish())
}

/// Reads what [`addr_bytes`] wrote; bytes behind it are ignored, as in dht-rpc.
pub(crate) fn addr_from(bytes: &Bytes) -> Result<SocketAddr, DecodeError> {
    decode_addr(&mut Reader::new(bytes.clone()))
}

fn start(kind: u8, flags: u64, tid: u16, len: usize) -> Result<Writer, RpcError> {
    if len > MAX_MESSAGE {
        return Err(RpcError::TooLarge { len, limit: MAX_MESSAGE });
    }
    let mut writer = Writer::with_capacity(len);
    writer.u8(kind);
    writer.uint(flags);
    writer.raw(&tid.to_le_bytes());
    Ok(writer)
}

fn flag(set: bool, flag: u64) -> u64 {
    if set { flag } else { 0 }
}

fn buffer_len(buffer: Option<&Bytes>) -> usize {
    buffer.map_or(0, |value| uint_len(value.len() as u64) + value.len())
}

fn optional<T>(flag: u64, read: impl FnOnce() -> Result<T, DecodeError>) -> Result<Option<T>, DecodeError> {
    if flag == 0 { Ok(None) } else { read().map(Some) }
}

fn decode_addr(reader: &mut Reader) -> Result<SocketAddr, DecodeError> {
    let host = Ipv4Addr::from(reader.array::<4>("host")?);
    let port = u16::from_le_bytes(reader.array("port")?);
    Ok(SocketAddr::from((host, port)))
}

fn encode_addr(writer: &mut Writer, addr: SocketAddr) -> Result<(), RpcError> {
    let IpAddr::V4(host) = canonical(addr).ip() else { return Err(RpcError::NotIpv4(addr)) };
    writer.raw(&host.octets());
    writer.raw(&addr.port().to_le_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addr() -> impl Strategy<Value = SocketAddr> {
        (any::<[u8; 4]>(), any::<u16>()).prop_map(SocketAddr::from)
    }

    fn value() -> impl Strategy<Value = Option<Bytes>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..600).prop_map(Bytes::from))
    }

    prop_compose! {
        fn request()(
            tid: u16, to in addr(), id: Option<[u8; 32]>, token: Option<[u8; 32]>, internal: bool,
            command in 0..1u64 << 53, target: Option<[u8; 32]>, value in value(),
        ) -> RequestMessage {
            RequestMessage { tid, to, id, token, internal, command, target, value }
        }
    }

    prop_compose! {
        fn reply()(
            tid: u16, to in addr(), id: Option<[u8; 32]>, token: Option<[u8; 32]>,
            closer in proptest::collection::vec(addr(), 0..=MAX_CLOSER), error in 0..1u64 << 53, value in value(),
        ) -> ReplyMessage {
            ReplyMessage { tid, to, id, token, closer, error, value }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(message in prop_oneof![
            request().prop_map(Message::Request),
            reply().prop_map(Message::Reply),
        ]) {
            let bytes = message.encode().unwrap();
            prop_assert!(Message::looks_like_one(&bytes));
            prop_assert_eq!(Message::decode(bytes).unwrap(), message);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Message::decode(bytes.into());
        }

        #[test]
        fn any_bytes_after_a_good_start_are_read_or_refused(
            kind in prop_oneof![Just(REQUEST), Just(REPLY)],
            flags in 0u8..32,
            rest in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let bytes: Vec<u8> = [kind, flags].into_iter().chain(rest).collect();
            if let Ok(message) = Message::decode(bytes.into()) {
                let again = Message::decode(message.encode().unwrap()).unwrap();
                prop_assert_eq!(again, message);
            }
        }
    }

    #[test]
    fn a_request_stands_on_the_wire_as_in_npm() {
        let message = RequestMessage {
            tid: 0x1234,
            to: "127.0.0.1:49737".parse().unwrap(),
            id: None,
            token: None,
            internal: true,
            command: 2,
            target: Some([7; 32]),
            value: Some(Bytes::from_static(b"hi")),
        };
        let mut wire = vec![0x03, 4 | 8 | 16, 0x34, 0x12, 127, 0, 0, 1, 0x49, 0xc2, 2];
        wire.extend([7; 32]);
        wire.extend(b"\x02hi");
        assert_eq!(message.encode().unwrap(), wire);
    }

    #[test]
    fn a_long_list_of_closer_nodes_is_cut() {
        let closer: Vec<SocketAddr> =
            (1..=200u16).map(|port| SocketAddr::from(([1, 2, 3, 4], port))).collect();
        let to = SocketAddr::from(([9, 9, 9, 9], 9));
        let message = ReplyMessage { tid: 1, to, id: None, token: None, closer, error: 0, value: None };
        let Message::Reply(read) = Message::decode(message.encode().unwrap()).unwrap() else {
            unreachable!()
        };
        assert_eq!(read.closer.len(), MAX_CLOSER);
    }

    #[test]
    fn what_fits_no_datagram_is_refused() {
        let message = RequestMessage {
            tid: 0,
            to: "127.0.0.1:1".parse().unwrap(),
            id: None,
            token: None,
            internal: false,
            command: 0,
            target: None,
            value: Some(vec![0; 70_000].into()),
        };
        assert!(matches!(message.encode(), Err(RpcError::TooLarge { .. })));
        let to = "[2001:db8::1]:5".parse().unwrap();
        assert_eq!(RequestMessage { to, value: None, ..message }.encode(), Err(RpcError::NotIpv4(to)));
    }
}
