//! What peers ask of one another and what they answer: the plain data of Merkle proofs.

use bytes::Bytes;
use compact_codec::{DecodeError, Reader, Writer};

use crate::manifest::Manifest;

/// A node of the Merkle tree, in flat-tree numbering (npm `flat-tree` 1: leaves are even, parents odd).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Flat-tree index.
    pub index: u64,
    /// Bytes of all blocks below this node.
    pub size: u64,
    /// BLAKE2b-256 of the block or of both children.
    pub hash: [u8; 32],
}

impl Node {
    /// Least number of bytes that an encoded node takes.
    pub const MIN_ENCODED: usize = 34;

    /// Writes the node as the wire and signatures carry it (`node` in `lib/messages.js` of npm `hypercore` 11).
    pub fn encode_to(&self, writer: &mut Writer) {
        writer.uint(self.index);
        writer.uint(self.size);
        writer.raw(&self.hash);
    }

    /// Reads an encoded node.
    pub fn decode_from(reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(Self { index: reader.uint()?, size: reader.uint()?, hash: reader.array("node hash")? })
    }
}

/// What a peer wants proven: any combination of the parts, as one request of npm `hypercore` 11 carries them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProofRequest {
    /// A block with its value.
    pub block: Option<RequestBlock>,
    /// A tree node without any value. JS peers send either `block` or `hash`.
    pub hash: Option<RequestBlock>,
    /// The block that holds a byte offset.
    pub seek: Option<RequestSeek>,
    /// The signed roots of a longer log.
    pub upgrade: Option<RequestUpgrade>,
    /// Also send the manifest.
    pub manifest: bool,
}

/// A block, or a tree node, and how much of its path the asker lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestBlock {
    /// Block index (of `block`) or flat-tree index (of `hash`).
    pub index: u64,
    /// How many nodes of the path to the root the asker lacks; 0 when not known.
    pub nodes: u64,
}

/// A byte offset to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestSeek {
    /// Byte offset.
    pub bytes: u64,
    /// Bytes of padding that encrypted blocks carry in front.
    pub padding: u64,
}

/// From which length to which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestUpgrade {
    /// Length that the asker has.
    pub start: u64,
    /// How many blocks further.
    pub length: u64,
}

/// The answer to a [`ProofRequest`]; not to be trusted before it is verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// Fork that the proof is for.
    pub fork: u64,
    /// A block with its value and the path to a known node.
    pub block: Option<DataBlock>,
    /// The path from a node to a known node.
    pub hash: Option<DataHash>,
    /// The path to a byte offset.
    pub seek: Option<DataSeek>,
    /// Signed roots of a longer log.
    pub upgrade: Option<DataUpgrade>,
    /// The manifest, when it was asked for.
    pub manifest: Option<Box<Manifest>>,
}

/// A block, its value and its path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataBlock {
    /// Block index.
    pub index: u64,
    /// The block.
    pub value: Bytes,
    /// Siblings on the way to a node that the asker knows.
    pub nodes: Vec<Node>,
}

/// The path of a tree node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataHash {
    /// Flat-tree index.
    pub index: u64,
    /// The node and the siblings on the way to a node that the asker knows.
    pub nodes: Vec<Node>,
}

/// The path to a byte offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataSeek {
    /// Byte offset.
    pub bytes: u64,
    /// Nodes on the way.
    pub nodes: Vec<Node>,
}

/// Signed roots of a longer log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataUpgrade {
    /// Length that the asker has.
    pub start: u64,
    /// How many blocks further the signature reaches when `additional_nodes` is empty.
    pub length: u64,
    /// Nodes that lead to the roots of `start + length`.
    pub nodes: Vec<Node>,
    /// Roots from there to the length that was signed.
    pub additional_nodes: Vec<Node>,
    /// Signature in the form that the manifest demands; none for a static core (prologue only).
    pub signature: Option<Bytes>,
}
