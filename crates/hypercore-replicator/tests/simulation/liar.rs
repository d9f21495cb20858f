//! Peers that change what they send: every field of a proof, one at a time.

use bytes::Bytes;
use hypercore::proof::{DataBlock, DataHash, DataSeek, DataUpgrade, Node};
use hypercore_protocol::messages::Data;

use crate::network::Random;

/// What is changed, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Lie {
    pub(crate) field: Field,
    /// Percent of the messages that have the field.
    pub(crate) percent: u64,
}

/// Everything in a Data message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    Request,
    Fork,
    NoAnswer,
    Nothing,
    BlockIndex,
    BlockValue,
    BlockLonger,
    BlockEmpty,
    BlockNodes(NodeField),
    BlockInsteadOfHash,
    HashIndex,
    HashNodes(NodeField),
    SeekBytes,
    SeekNodes(NodeField),
    SeekAdded,
    UpgradeStart,
    UpgradeLength,
    UpgradeNodes(NodeField),
    UpgradeAdditional(NodeField),
    UpgradeSignature,
    UpgradeSignatureShort,
    UpgradeSignatureNone,
    UpgradeAdded,
    ManifestSigner,
    ManifestVersion,
    ManifestNone,
}

/// Everything in a list of nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NodeField {
    Index,
    Size,
    Hash,
    Missing,
    Twice,
    Swapped,
    Extra,
    Huge,
}

const NODE_FIELDS: [NodeField; 8] = [
    NodeField::Index,
    NodeField::Size,
    NodeField::Hash,
    NodeField::Missing,
    NodeField::Twice,
    NodeField::Swapped,
    NodeField::Extra,
    NodeField::Huge,
];

impl Field {
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![
            Self::Request,
            Self::Fork,
            Self::NoAnswer,
            Self::Nothing,
            Self::BlockIndex,
            Self::BlockValue,
            Self::BlockLonger,
            Self::BlockEmpty,
            Self::BlockInsteadOfHash,
            Self::HashIndex,
            Self::SeekBytes,
            Self::SeekAdded,
            Self::UpgradeStart,
            Self::UpgradeLength,
            Self::UpgradeSignature,
            Self::UpgradeSignatureShort,
            Self::UpgradeSignatureNone,
            Self::UpgradeAdded,
            Self::ManifestSigner,
            Self::ManifestVersion,
            Self::ManifestNone,
        ];
        for field in NODE_FIELDS {
            all.extend([
                Self::BlockNodes(field),
                Self::HashNodes(field),
                Self::SeekNodes(field),
                Self::UpgradeNodes(field),
                Self::UpgradeAdditional(field),
            ]);
        }
        all
    }
}

impl Lie {
    /// The message as it is sent; none when it is swallowed.
    pub(crate) fn tell(&self, mut data: Data, random: &mut Random) -> Option<Data> {
        if !random.chance(self.percent) {
            return Some(data);
        }
        let proof = &mut data.proof;
        match self.field {
            Field::Request => data.request = data.request.wrapping_add(1 + random.below(3)),
            Field::Fork => proof.fork = random.below(3),
            Field::NoAnswer => return None,
            Field::Nothing => (proof.block, proof.hash, proof.upgrade) = (None, None, None),
            Field::BlockIndex => {
                edit(&mut proof.block, |block: &mut DataBlock| block.index = near(block.index, random));
            }
            Field::BlockValue => edit(&mut proof.block, |block| block.value = flipped(&block.value, random)),
            Field::BlockLonger => edit(&mut proof.block, |block| {
                block.value = [&block.value[..], b"and more"].concat().into();
            }),
            Field::BlockEmpty => edit(&mut proof.block, |block| block.value = Bytes::new()),
            Field::BlockInsteadOfHash => {
                if let Some(hash) = proof.hash.take() {
                    let value = Bytes::from_static(b"?");
                    proof.block = Some(DataBlock { index: hash.index / 2, value, nodes: hash.nodes });
                }
            }
            Field::BlockNodes(field) => edit(&mut proof.block, |block| field.edit(&mut block.nodes, random)),
            Field::HashIndex => {
                edit(&mut proof.hash, |hash: &mut DataHash| hash.index = near(hash.index, random));
            }
            Field::HashNodes(field) => edit(&mut proof.hash, |hash| field.edit(&mut hash.nodes, random)),
            Field::SeekBytes => {
                edit(&mut proof.seek, |seek: &mut DataSeek| seek.bytes = near(seek.bytes, random));
            }
            Field::SeekNodes(field) => edit(&mut proof.seek, |seek| field.edit(&mut seek.nodes, random)),
            Field::SeekAdded => {
                let nodes = proof.block.as_ref().map(|block| block.nodes.clone()).unwrap_or_default();
                proof.seek = Some(DataSeek { bytes: 7, nodes });
            }
            Field::UpgradeStart => {
                edit(&mut proof.upgrade, |up: &mut DataUpgrade| up.start = near(up.start, random));
            }
            Field::UpgradeLength => edit(&mut proof.upgrade, |up| up.length = near(up.length, random)),
            Field::UpgradeNodes(field) => edit(&mut proof.upgrade, |up| field.edit(&mut up.nodes, random)),
            Field::UpgradeAdditional(field) => {
                edit(&mut proof.upgrade, |up| field.edit(&mut up.additional_nodes, random));
            }
            Field::UpgradeSignature => edit(&mut proof.upgrade, |up| {
                up.signature = up.signature.as_ref().map(|signature| flipped(signature, random));
            }),
            Field::UpgradeSignatureShort => edit(&mut proof.upgrade, |up| {
                up.signature = up.signature.as_ref().map(|signature| signature.slice(..signature.len() / 2));
            }),
            Field::UpgradeSignatureNone => edit(&mut proof.upgrade, |up| up.signature = None),
            Field::UpgradeAdded => {
                if proof.upgrade.is_none() {
                    let signature = Some(Bytes::from(vec![7; 64]));
                    let (nodes, additional_nodes) = (Vec::new(), Vec::new());
                    let (start, length) = (random.below(100), 1 + random.below(100));
                    proof.upgrade = Some(DataUpgrade { start, length, nodes, additional_nodes, signature });
                }
            }
            Field::ManifestSigner => edit(&mut proof.manifest, |manifest| {
                edit_first(&mut manifest.signers, |signer| signer.public_key[3] ^= 1);
            }),
            Field::ManifestVersion => edit(&mut proof.manifest, |manifest| manifest.version ^= 2),
            Field::ManifestNone => proof.manifest = None,
        }
        Some(data)
    }
}

impl NodeField {
    fn edit(self, nodes: &mut Vec<Node>, random: &mut Random) {
        let at = random.below(nodes.len() as u64) as usize;
        match self {
            Self::Extra => {
                let index = random.below(64);
                nodes.insert(at, Node { index, size: random.below(99), hash: [9; 32] });
            }
            _ if nodes.is_empty() => {}
            Self::Index => nodes[at].index = near(nodes[at].index, random),
            Self::Size => nodes[at].size = near(nodes[at].size, random),
            Self::Hash => nodes[at].hash[random.below(32) as usize] ^= 1 << random.below(8),
            Self::Missing => drop(nodes.remove(at)),
            Self::Twice => nodes.insert(at, nodes[at]),
            Self::Swapped => nodes.reverse(),
            Self::Huge => (nodes[at].index, nodes[at].size) = (u64::MAX - random.below(3), u64::MAX),
        }
    }
}

fn edit<T>(part: &mut Option<T>, change: impl FnOnce(&mut T)) {
    if let Some(part) = part {
        change(part);
    }
}

fn edit_first<T>(parts: &mut [T], change: impl FnOnce(&mut T)) {
    if let Some(part) = parts.first_mut() {
        change(part);
    }
}

fn near(value: u64, random: &mut Random) -> u64 {
    match random.below(4) {
        0 => value.wrapping_add(1 + random.below(4)),
        1 => value.wrapping_sub(1 + random.below(4)),
        2 => u64::MAX - random.below(2),
        _ => random.below(200),
    }
}

fn flipped(bytes: &Bytes, random: &mut Random) -> Bytes {
    let mut bytes = bytes.to_vec();
    match random.below(bytes.len() as u64) as usize {
        _ if bytes.is_empty() => bytes.push(1),
        at => bytes[at] ^= 1 << random.below(8),
    }
    bytes.into()
}
