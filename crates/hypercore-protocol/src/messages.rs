//! What peers say to one another on the channel of a core.
//!
//! These are the messages of npm `hypercore` 11.37.1 (`lib/messages.js`, `wire`), in the order in which its
//! replicator registers them on the channel: the position is the number on the wire, see [`Kind`].

use bytes::Bytes;
use hypercore::proof::{Proof, ProofRequest};

/// A message on the channel of a core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// The state of the sender's log.
    Synchronize(Synchronize),
    /// Asks for a part of the log and its proof.
    Request(Request),
    /// Takes a request back.
    Cancel(Cancel),
    /// Answers a request, or pushes a block that nobody asked for.
    Data(Data),
    /// Says that a request will not be answered.
    NoData(NoData),
    /// Asks to be told which blocks of a range the other side has.
    Want(Want),
    /// Takes a [`Want`] back.
    Unwant(Unwant),
    /// Which blocks the sender has, block by block.
    Bitfield(Bitfield),
    /// Which blocks the sender has, as a run.
    Range(Range),
    /// A message of a user-defined extension.
    Extension(Extension),
}

impl Message {
    /// The number under which this message travels.
    pub fn kind(&self) -> Kind {
        match self {
            Message::Synchronize(_) => Kind::Synchronize,
            Message::Request(_) => Kind::Request,
            Message::Cancel(_) => Kind::Cancel,
            Message::Data(_) => Kind::Data,
            Message::NoData(_) => Kind::NoData,
            Message::Want(_) => Kind::Want,
            Message::Unwant(_) => Kind::Unwant,
            Message::Bitfield(_) => Kind::Bitfield,
            Message::Range(_) => Kind::Range,
            Message::Extension(_) => Kind::Extension,
        }
    }
}

/// The numbers of the messages on a channel `hypercore/alpha`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// [`Synchronize`]
    Synchronize = 0,
    /// [`Request`]
    Request = 1,
    /// [`Cancel`]
    Cancel = 2,
    /// [`Data`]
    Data = 3,
    /// [`NoData`]
    NoData = 4,
    /// [`Want`]
    Want = 5,
    /// [`Unwant`]
    Unwant = 6,
    /// [`Bitfield`]
    Bitfield = 7,
    /// [`Range`]
    Range = 8,
    /// [`Extension`]
    Extension = 9,
}

impl Kind {
    /// How many kinds there are. Messages with this number or a higher one are ignored, as JS ignores them.
    pub const COUNT: u32 = 10;

    /// The kind with this number, none when it is not known.
    pub fn from_wire(number: u32) -> Option<Self> {
        Some(match number {
            0 => Kind::Synchronize,
            1 => Kind::Request,
            2 => Kind::Cancel,
            3 => Kind::Data,
            4 => Kind::NoData,
            5 => Kind::Want,
            6 => Kind::Unwant,
            7 => Kind::Bitfield,
            8 => Kind::Range,
            9 => Kind::Extension,
            _ => return None,
        })
    }

    /// The number on the wire.
    pub fn to_wire(self) -> u32 {
        u32::from(self as u8)
    }
}

/// The state of the sender's log and what it is up to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Synchronize {
    /// Fork of the sender.
    pub fork: u64,
    /// Length of the sender.
    pub length: u64,
    /// The length that the sender last heard from the receiver, 0 when they are on different forks.
    pub remote_length: u64,
    /// The sender can prove an upgrade from the receiver's length to its own.
    pub can_upgrade: bool,
    /// The sender answers requests.
    pub uploading: bool,
    /// The sender makes requests.
    pub downloading: bool,
    /// The sender has the manifest.
    pub has_manifest: bool,
    /// The sender accepts blocks that it did not ask for.
    pub allow_push: bool,
}

/// Asks for a part of the log and its proof.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Number that the answer repeats. JS peers count from 1, as 0 marks a pushed block.
    pub id: u64,
    /// Fork that the asker is on.
    pub fork: u64,
    /// What is to be proven.
    pub proof: ProofRequest,
    /// 0 is the normal priority; written only when it is another one.
    pub priority: u64,
}

/// Takes a request back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cancel {
    /// Number of the request.
    pub request: u64,
}

/// Answers a request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Data {
    /// Number of the request; 0 when the block is pushed without one.
    pub request: u64,
    /// What was asked for.
    pub proof: Proof,
}

/// Says that a request will not be answered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoData {
    /// Number of the request.
    pub request: u64,
    /// Why: 0 (not said), [`NoData::NOT_AVAILABLE`], [`NoData::INVALID_REQUEST`], or one that is not known yet.
    pub reason: u64,
}

impl NoData {
    /// The block is not there, or not any more.
    pub const NOT_AVAILABLE: u64 = 1;
    /// The request makes no sense for this log.
    pub const INVALID_REQUEST: u64 = 2;
}

/// Asks to be told which blocks of a range the other side has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Want {
    /// First block.
    pub start: u64,
    /// How many blocks.
    pub length: u64,
    /// Any few blocks of the range will do.
    pub any: bool,
}

/// Takes a [`Want`] back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unwant {
    /// First block.
    pub start: u64,
    /// How many blocks.
    pub length: u64,
    /// As in the [`Want`].
    pub any: bool,
}

/// Which blocks the sender has, block by block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bitfield {
    /// The block that the first bit stands for.
    pub start: u64,
    /// 32-bit words, little-endian; the bit of the first block is the lowest one of the first word. A multiple
    /// of four bytes: what is beyond one is not written.
    pub bitfield: Bytes,
}

impl Bitfield {
    /// A bitfield message of these words.
    pub fn from_words(start: u64, words: &[u32]) -> Self {
        let bitfield: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Self { start, bitfield: bitfield.into() }
    }

    /// The words, first to last.
    pub fn words(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        let (words, _) = self.bitfield.as_chunks::<4>();
        words.iter().map(|word| u32::from_le_bytes(*word))
    }

    /// How many blocks the message speaks of.
    pub fn bits(&self) -> u64 {
        (self.bitfield.len() / 4) as u64 * 32
    }
}

/// Which blocks the sender has, as a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    /// The sender does not have these any more.
    pub drop: bool,
    /// First block.
    pub start: u64,
    /// How many blocks.
    pub length: u64,
}

/// A message of a user-defined extension.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extension {
    /// Name of the extension. On the wire an empty name stands for the one of the message before it in the same
    /// direction; [`Connection`](crate::Connection) shortens and restores names.
    pub name: String,
    /// Whatever the extension says.
    pub message: Bytes,
}

/// Where two logs part. npm `hypercore` 11.37.1 defines this encoding (`wire.reorgHint`) but gives it no number
/// on the channel and never sends it; so there is a codec for it and no [`Message`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReorgHint {
    /// Fork that is left.
    pub from: u64,
    /// Fork that is joined.
    pub to: u64,
    /// Blocks that both have.
    pub ancestors: u64,
}
