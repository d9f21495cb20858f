//! The messages as bytes: the encodings of npm `hypercore` 11.37.1 (`lib/messages.js`, `wire`).
//!
//! What JS tolerates is tolerated: unknown flag bits, bytes behind the last field, and fields that older peers
//! leave out at the end. Blocks, bitfields, signatures and extension messages are slices of the input, and lists
//! never reserve more than the input can hold.

use bytes::{Bytes, BytesMut};
use compact_codec::{DecodeError, Reader, Writer};
use hypercore::Manifest;
use hypercore::proof::{
    DataBlock, DataHash, DataSeek, DataUpgrade, Node, Proof, ProofRequest, RequestBlock, RequestSeek,
    RequestUpgrade,
};

use crate::messages::{
    Bitfield, Cancel, Data, Extension, Kind, Message, NoData, Range, ReorgHint, Request, Synchronize, Unwant,
    Want,
};

/// Blocks and bitfields of at least this size are not copied into the encoded message but stand beside it.
/// Below it a copy is cheaper than handling one more part.
pub const SEPARATE_PART_MIN: usize = 2048;

/// A message in up to three pieces; together, in order, they are the encoded message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedMessage {
    /// Number of the message.
    pub kind: Kind,
    /// All that stands in front of a large value; the whole message when there is none.
    pub head: Bytes,
    /// A value of at least [`SEPARATE_PART_MIN`] bytes, else empty.
    pub value: Bytes,
    /// What follows the value.
    pub tail: Bytes,
}

impl EncodedMessage {
    /// How many bytes the message takes.
    pub fn len(&self) -> usize {
        self.head.len() + self.value.len() + self.tail.len()
    }

    /// True when the message has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Message {
    /// Encodes into pieces, without copying a large block.
    pub fn encode(&self) -> EncodedMessage {
        let mut out = PartsWriter::new();
        self.write(&mut out);
        let (head, value, tail) = out.finish();
        EncodedMessage { kind: self.kind(), head, value, tail }
    }

    /// The large value of this message, if it has one: then [`Message::encode`] is worth its pieces.
    pub(crate) fn has_large_value(&self) -> bool {
        let value = match self {
            Message::Data(Data { proof: Proof { block: Some(block), .. }, .. }) => &block.value,
            Message::Bitfield(bitfield) => &bitfield.bitfield,
            Message::Extension(extension) => &extension.message,
            _ => return false,
        };
        value.len() >= SEPARATE_PART_MIN
    }

    /// Encodes behind what `writer` holds, in one piece.
    pub fn encode_into(&self, writer: &mut Writer) {
        self.write(writer);
    }

    fn write(&self, out: &mut impl Sink) {
        match self {
            Message::Synchronize(message) => write_synchronize(out.writer(), message),
            Message::Request(message) => write_request(out.writer(), message),
            Message::Cancel(message) => out.writer().uint(message.request),
            Message::Data(message) => write_data(out, message),
            Message::NoData(message) => write_no_data(out.writer(), message),
            Message::Want(Want { start, length, any }) => write_want(out.writer(), *start, *length, *any),
            Message::Unwant(Unwant { start, length, any }) => write_want(out.writer(), *start, *length, *any),
            Message::Bitfield(message) => write_bitfield(out, message),
            Message::Range(message) => write_range(out.writer(), message),
            Message::Extension(message) => {
                out.writer().string(&message.name);
                out.value(&message.message);
            }
        }
    }

    /// Decodes a message that arrived under the number `kind`.
    pub fn decode(kind: Kind, bytes: Bytes) -> Result<Self, DecodeError> {
        let r = &mut Reader::new(bytes);
        Ok(match kind {
            Kind::Synchronize => Message::Synchronize(read_synchronize(r)?),
            Kind::Request => Message::Request(read_request(r)?),
            Kind::Cancel => Message::Cancel(Cancel { request: r.uint()? }),
            Kind::Data => Message::Data(read_data(r)?),
            Kind::NoData => Message::NoData(read_no_data(r)?),
            Kind::Want => {
                let (start, length, any) = read_want(r)?;
                Message::Want(Want { start, length, any })
            }
            Kind::Unwant => {
                let (start, length, any) = read_want(r)?;
                Message::Unwant(Unwant { start, length, any })
            }
            Kind::Bitfield => Message::Bitfield(read_bitfield(r)?),
            Kind::Range => Message::Range(read_range(r)?),
            Kind::Extension => Message::Extension(read_extension(r)?),
        })
    }
}

impl ReorgHint {
    /// Encodes behind what `writer` holds.
    pub fn encode_into(&self, writer: &mut Writer) {
        writer.uint(self.from);
        writer.uint(self.to);
        writer.uint(self.ancestors);
    }

    /// Decodes the hint.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        Ok(Self { from: r.uint()?, to: r.uint()?, ancestors: r.uint()? })
    }
}

/// Where an encoded message goes: one buffer, or pieces with the large value apart.
trait Sink {
    fn writer(&mut self) -> &mut Writer;
    /// Bytes as they stand.
    fn value(&mut self, value: &Bytes);
}

impl Sink for Writer {
    fn writer(&mut self) -> &mut Writer {
        self
    }

    fn value(&mut self, value: &Bytes) {
        self.raw(value);
    }
}

struct PartsWriter {
    current: Writer,
    /// Set once the large value was met: what came before it, and the value.
    before: Option<(BytesMut, Bytes)>,
}

impl PartsWriter {
    fn new() -> Self {
        Self { current: Writer::new(), before: None }
    }

    fn finish(self) -> (Bytes, Bytes, Bytes) {
        match self.before {
            Some((head, value)) => (head.freeze(), value, self.current.finish()),
            None => (self.current.finish(), Bytes::new(), Bytes::new()),
        }
    }
}

impl Sink for PartsWriter {
    fn writer(&mut self) -> &mut Writer {
        &mut self.current
    }

    fn value(&mut self, value: &Bytes) {
        if value.len() < SEPARATE_PART_MIN || self.before.is_some() {
            self.current.raw(value);
            return;
        }
        let head = std::mem::take(&mut self.current).into_inner();
        self.before = Some((head, value.clone()));
    }
}

/// The least bytes that an encoded node takes: two short integers and a hash.
const NODE_MIN: usize = 1 + 1 + 32;

fn write_nodes(w: &mut Writer, nodes: &[Node]) {
    w.list(nodes, |w, node| {
        w.uint(node.index);
        w.uint(node.size);
        w.raw(&node.hash);
    });
}

fn read_nodes(r: &mut Reader) -> Result<Vec<Node>, DecodeError> {
    r.list("proof nodes", NODE_MIN, |r| {
        Ok(Node { index: r.uint()?, size: r.uint()?, hash: r.array("hash of a proof node")? })
    })
}

fn write_synchronize(w: &mut Writer, m: &Synchronize) {
    w.uint(
        u64::from(m.can_upgrade)
            | u64::from(m.uploading) << 1
            | u64::from(m.downloading) << 2
            | u64::from(m.has_manifest) << 3
            | u64::from(m.allow_push) << 4,
    );
    w.uint(m.fork);
    w.uint(m.length);
    w.uint(m.remote_length);
}

fn read_synchronize(r: &mut Reader) -> Result<Synchronize, DecodeError> {
    let flags = r.uint()?;
    Ok(Synchronize {
        fork: r.uint()?,
        length: r.uint()?,
        remote_length: r.uint()?,
        can_upgrade: flags & 1 != 0,
        uploading: flags & 2 != 0,
        downloading: flags & 4 != 0,
        has_manifest: flags & 8 != 0,
        allow_push: flags & 16 != 0,
    })
}

fn write_request(w: &mut Writer, m: &Request) {
    let ProofRequest { block, hash, seek, upgrade, manifest } = &m.proof;
    w.uint(
        u64::from(block.is_some())
            | u64::from(hash.is_some()) << 1
            | u64::from(seek.is_some()) << 2
            | u64::from(upgrade.is_some()) << 3
            | u64::from(*manifest) << 4
            | u64::from(m.priority != 0) << 5,
    );
    w.uint(m.id);
    w.uint(m.fork);
    for part in [block, hash].into_iter().flatten() {
        w.uint(part.index);
        w.uint(part.nodes);
    }
    if let Some(seek) = seek {
        w.uint(seek.bytes);
        w.uint(seek.padding);
    }
    if let Some(upgrade) = upgrade {
        w.uint(upgrade.start);
        w.uint(upgrade.length);
    }
    if m.priority != 0 {
        w.uint(m.priority);
    }
}

fn read_request(r: &mut Reader) -> Result<Request, DecodeError> {
    let flags = r.uint()?;
    let has = |bit: u64| flags & bit != 0;
    let id = r.uint()?;
    let fork = r.uint()?;
    let block = has(1).then(|| Ok(RequestBlock { index: r.uint()?, nodes: r.uint()? })).transpose()?;
    let hash = has(2).then(|| Ok(RequestBlock { index: r.uint()?, nodes: r.uint()? })).transpose()?;
    let seek = has(4).then(|| Ok(RequestSeek { bytes: r.uint()?, padding: r.uint()? })).transpose()?;
    let upgrade = has(8).then(|| Ok(RequestUpgrade { start: r.uint()?, length: r.uint()? })).transpose()?;
    let manifest = has(16);
    let priority = if has(32) { r.uint()? } else { 0 };
    Ok(Request { id, fork, proof: ProofRequest { block, hash, seek, upgrade, manifest }, priority })
}

fn write_data(out: &mut impl Sink, m: &Data) {
    let Proof { fork, block, hash, seek, upgrade, manifest } = &m.proof;
    let w = out.writer();
    w.uint(
        u64::from(block.is_some())
            | u64::from(hash.is_some()) << 1
            | u64::from(seek.is_some()) << 2
            | u64::from(upgrade.is_some()) << 3
            | u64::from(manifest.is_some()) << 4,
    );
    w.uint(m.request);
    w.uint(*fork);
    if let Some(block) = block {
        w.uint(block.index);
        w.uint(block.value.len() as u64);
        out.value(&block.value);
        write_nodes(out.writer(), &block.nodes);
    }
    let w = out.writer();
    if let Some(hash) = hash {
        w.uint(hash.index);
        write_nodes(w, &hash.nodes);
    }
    if let Some(seek) = seek {
        w.uint(seek.bytes);
        write_nodes(w, &seek.nodes);
    }
    if let Some(upgrade) = upgrade {
        w.uint(upgrade.start);
        w.uint(upgrade.length);
        write_nodes(w, &upgrade.nodes);
        write_nodes(w, &upgrade.additional_nodes);
        w.optional_buffer(upgrade.signature.as_deref());
    }
    if let Some(manifest) = manifest {
        manifest.encode_to(w);
    }
}

fn read_data(r: &mut Reader) -> Result<Data, DecodeError> {
    let flags = r.uint()?;
    let has = |bit: u64| flags & bit != 0;
    let request = r.uint()?;
    let fork = r.uint()?;
    let block = has(1)
        .then(|| Ok(DataBlock { index: r.uint()?, value: r.buffer()?, nodes: read_nodes(r)? }))
        .transpose()?;
    let hash = has(2).then(|| Ok(DataHash { index: r.uint()?, nodes: read_nodes(r)? })).transpose()?;
    let seek = has(4).then(|| Ok(DataSeek { bytes: r.uint()?, nodes: read_nodes(r)? })).transpose()?;
    let upgrade = has(8)
        .then(|| {
            Ok(DataUpgrade {
                start: r.uint()?,
                length: r.uint()?,
                nodes: read_nodes(r)?,
                additional_nodes: read_nodes(r)?,
                signature: r.optional_buffer()?,
            })
        })
        .transpose()?;
    let manifest = has(16).then(|| Manifest::decode_from(r).map(Box::new)).transpose()?;
    Ok(Data { request, proof: Proof { fork, block, hash, seek, upgrade, manifest } })
}

fn write_no_data(w: &mut Writer, m: &NoData) {
    w.uint(m.request);
    w.uint(u64::from(m.reason != 0));
    if m.reason != 0 {
        w.uint(m.reason);
    }
}

fn read_no_data(r: &mut Reader) -> Result<NoData, DecodeError> {
    let request = r.uint()?;
    // hypercore 10 ends here.
    let flags = if r.is_empty() { 0 } else { r.uint()? };
    let reason = if flags & 1 != 0 { r.uint()? } else { 0 };
    Ok(NoData { request, reason })
}

fn write_want(w: &mut Writer, start: u64, length: u64, any: bool) {
    w.uint(start);
    w.uint(length);
    if any {
        w.uint(1);
    }
}

fn read_want(r: &mut Reader) -> Result<(u64, u64, bool), DecodeError> {
    let start = r.uint()?;
    let length = r.uint()?;
    let flags = if r.is_empty() { 0 } else { r.uint()? };
    Ok((start, length, flags & 1 != 0))
}

fn write_bitfield(out: &mut impl Sink, m: &Bitfield) {
    let words = m.bitfield.len() / 4;
    let w = out.writer();
    w.uint(m.start);
    w.uint(words as u64);
    out.value(&m.bitfield.slice(..words * 4));
}

fn read_bitfield(r: &mut Reader) -> Result<Bitfield, DecodeError> {
    let start = r.uint()?;
    let words = r.uint()?;
    let bitfield = r.take("bitfield", words.saturating_mul(4))?;
    Ok(Bitfield { start, bitfield })
}

fn write_range(w: &mut Writer, m: &Range) {
    let single = m.length == 1;
    w.uint(u64::from(m.drop) | u64::from(single) << 1);
    w.uint(m.start);
    if !single {
        w.uint(m.length);
    }
}

fn read_range(r: &mut Reader) -> Result<Range, DecodeError> {
    let flags = r.uint()?;
    let start = r.uint()?;
    let length = if flags & 2 != 0 { 1 } else { r.uint()? };
    Ok(Range { drop: flags & 1 != 0, start, length })
}

/// Longest name of an extension, so that the names kept per channel stay small.
pub const MAX_EXTENSION_NAME: u64 = 1024;

fn read_extension(r: &mut Reader) -> Result<Extension, DecodeError> {
    let len = r.uint_at_most("length of an extension name", MAX_EXTENSION_NAME)?;
    let name = r.take("extension name", len)?;
    // JS decodes broken UTF-8 with replacement characters instead of refusing it.
    let name = String::from_utf8_lossy(&name).into_owned();
    Ok(Extension { name, message: r.rest() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KINDS: u32 = Kind::COUNT;

    fn uint() -> impl Strategy<Value = u64> {
        prop_oneof![0..300u64, 0..(1u64 << 53)]
    }

    fn bytes() -> impl Strategy<Value = Bytes> {
        let small = proptest::collection::vec(any::<u8>(), 0..60).prop_map(Bytes::from);
        let large = (any::<u8>(), SEPARATE_PART_MIN - 2..SEPARATE_PART_MIN + 200)
            .prop_map(|(byte, len)| Bytes::from(vec![byte; len]));
        prop_oneof![3 => small, 1 => large]
    }

    fn nodes() -> impl Strategy<Value = Vec<Node>> {
        let node =
            (uint(), uint(), any::<[u8; 32]>()).prop_map(|(index, size, hash)| Node { index, size, hash });
        proptest::collection::vec(node, 0..4)
    }

    fn option<T: std::fmt::Debug>(strategy: impl Strategy<Value = T>) -> impl Strategy<Value = Option<T>> {
        proptest::option::of(strategy)
    }

    fn request() -> impl Strategy<Value = Request> {
        let block = || option((uint(), uint()).prop_map(|(index, nodes)| RequestBlock { index, nodes }));
        let seek = option((uint(), uint()).prop_map(|(bytes, padding)| RequestSeek { bytes, padding }));
        let upgrade = option((uint(), uint()).prop_map(|(start, length)| RequestUpgrade { start, length }));
        (uint(), uint(), block(), block(), seek, upgrade, any::<bool>(), 0..3u64).prop_map(
            |(id, fork, block, hash, seek, upgrade, manifest, priority)| Request {
                id,
                fork,
                proof: ProofRequest { block, hash, seek, upgrade, manifest },
                priority,
            },
        )
    }

    fn data() -> impl Strategy<Value = Data> {
        let block =
            (uint(), bytes(), nodes()).prop_map(|(index, value, nodes)| DataBlock { index, value, nodes });
        let hash = (uint(), nodes()).prop_map(|(index, nodes)| DataHash { index, nodes });
        let seek = (uint(), nodes()).prop_map(|(bytes, nodes)| DataSeek { bytes, nodes });
        let signature = option(proptest::collection::vec(any::<u8>(), 1..80).prop_map(Bytes::from));
        let upgrade = (uint(), uint(), nodes(), nodes(), signature).prop_map(
            |(start, length, nodes, additional_nodes, signature)| DataUpgrade {
                start,
                length,
                nodes,
                additional_nodes,
                signature,
            },
        );
        let manifest = any::<[u8; 32]>().prop_map(|key| Box::new(Manifest::default_signer(key)));
        (uint(), uint(), option(block), option(hash), option(seek), option(upgrade), option(manifest))
            .prop_map(|(request, fork, block, hash, seek, upgrade, manifest)| Data {
                request,
                proof: Proof { fork, block, hash, seek, upgrade, manifest },
            })
    }

    fn message() -> impl Strategy<Value = Message> {
        prop_oneof![
            (uint(), uint(), uint(), any::<[bool; 5]>()).prop_map(|(fork, length, remote_length, flags)| {
                let [can_upgrade, uploading, downloading, has_manifest, allow_push] = flags;
                Message::Synchronize(Synchronize {
                    fork,
                    length,
                    remote_length,
                    can_upgrade,
                    uploading,
                    downloading,
                    has_manifest,
                    allow_push,
                })
            }),
            request().prop_map(Message::Request),
            uint().prop_map(|request| Message::Cancel(Cancel { request })),
            data().prop_map(Message::Data),
            (uint(), 0..4u64).prop_map(|(request, reason)| Message::NoData(NoData { request, reason })),
            (uint(), uint(), any::<bool>()).prop_map(|(start, length, any)| Message::Want(Want {
                start,
                length,
                any
            })),
            (uint(), uint(), any::<bool>()).prop_map(|(start, length, any)| Message::Unwant(Unwant {
                start,
                length,
                any
            })),
            (uint(), proptest::collection::vec(any::<u32>(), 0..700))
                .prop_map(|(start, words)| Message::Bitfield(Bitfield::from_words(start, &words))),
            (any::<bool>(), uint(), prop_oneof![Just(1), uint()])
                .prop_map(|(drop, start, length)| Message::Range(Range { drop, start, length })),
            (".{0,20}", bytes()).prop_map(|(name, message)| Message::Extension(Extension { name, message })),
        ]
    }

    proptest! {
        #[test]
        fn messages_round_trip(message in message()) {
            let mut whole = Writer::new();
            message.encode_into(&mut whole);
            let whole = whole.finish();
            let parts = message.encode();
            prop_assert_eq!(parts.len(), whole.len());
            prop_assert_eq!([&parts.head[..], &parts.value, &parts.tail].concat(), &whole[..]);
            prop_assert_eq!(message.has_large_value(), !parts.value.is_empty());
            prop_assert_eq!(Message::decode(message.kind(), whole).unwrap(), message);
        }

        #[test]
        fn a_message_cut_short_is_an_error_or_another_message(message in message(), cut in any::<proptest::sample::Index>()) {
            let mut whole = Writer::new();
            message.encode_into(&mut whole);
            let mut whole = whole.finish();
            whole.truncate(cut.index(whole.len() + 1));
            let _ = Message::decode(message.kind(), whole);
        }

        #[test]
        fn garbage_never_panics(kind in 0..KINDS, input in proptest::collection::vec(any::<u8>(), 0..300)) {
            let kind = Kind::from_wire(kind).unwrap();
            prop_assert_eq!(kind.to_wire(), kind as u32);
            if let Ok(message) = Message::decode(kind, Bytes::from(input)) {
                // Whatever was understood can be said again.
                let mut again = Writer::new();
                message.encode_into(&mut again);
                if !matches!(&message, Message::Data(data) if data.proof.manifest.is_some()) {
                    prop_assert_eq!(Message::decode(kind, again.finish()).unwrap(), message);
                }
            }
        }
    }

    #[test]
    fn the_number_behind_the_last_kind_is_unknown() {
        assert_eq!(Kind::from_wire(KINDS), None);
    }
}
