//! Messages that make no sense.

use bytes::Bytes;
use hypercore::proof::{
    DataBlock, DataHash, DataSeek, DataUpgrade, Node, Proof, ProofRequest, RequestBlock, RequestSeek,
    RequestUpgrade,
};
use hypercore_protocol::Message;
use hypercore_protocol::messages::{
    Bitfield, Cancel, Data, Extension, NoData, Range, Request, Synchronize, Unwant, Want,
};

use crate::network::Random;

/// Any message with any numbers in it.
pub(crate) fn message(random: &mut Random) -> Message {
    match random.below(10) {
        0 => Message::Synchronize(Synchronize {
            fork: number(random),
            length: number(random),
            remote_length: number(random),
            can_upgrade: random.chance(50),
            uploading: random.chance(80),
            downloading: random.chance(95),
            has_manifest: random.chance(50),
            allow_push: random.chance(50),
        }),
        1 => Message::Request(Request {
            id: number(random),
            fork: random.below(2),
            proof: ProofRequest {
                block: maybe(random, request_block),
                hash: maybe(random, request_block),
                seek: maybe(random, |random| RequestSeek { bytes: number(random), padding: number(random) }),
                upgrade: maybe(random, |random| RequestUpgrade {
                    start: number(random),
                    length: number(random),
                }),
                manifest: random.chance(50),
            },
            priority: number(random),
        }),
        2 => Message::Cancel(Cancel { request: number(random) }),
        3 => Message::Data(Data { request: number(random), proof: proof(random) }),
        4 => Message::NoData(NoData { request: number(random), reason: random.below(4) }),
        5 => Message::Want(Want { start: number(random), length: number(random), any: random.chance(30) }),
        6 => {
            Message::Unwant(Unwant { start: number(random), length: number(random), any: random.chance(30) })
        }
        7 => {
            let words: Vec<u32> = (0..random.below(40)).map(|_| random.next() as u32).collect();
            Message::Bitfield(Bitfield::from_words(number(random), &words))
        }
        8 => Message::Range(Range { drop: random.chance(50), start: number(random), length: number(random) }),
        _ => Message::Extension(Extension { name: "any".into(), message: Bytes::from_static(b"thing") }),
    }
}

fn number(random: &mut Random) -> u64 {
    match random.below(8) {
        0 => 0,
        1 => u64::MAX - random.below(3),
        2 => (1 << 53) - 1 + random.below(3),
        3 => 1 << random.below(64),
        4 => random.next(),
        5 => 32_768 * random.below(100),
        _ => random.below(100),
    }
}

fn maybe<T>(random: &mut Random, make: impl FnOnce(&mut Random) -> T) -> Option<T> {
    random.chance(40).then(|| make(random))
}

fn request_block(random: &mut Random) -> RequestBlock {
    RequestBlock { index: number(random), nodes: number(random) }
}

fn nodes(random: &mut Random) -> Vec<Node> {
    (0..random.below(6))
        .map(|_| Node { index: number(random), size: number(random), hash: [random.next() as u8; 32] })
        .collect()
}

fn proof(random: &mut Random) -> Proof {
    Proof {
        fork: random.below(3),
        block: maybe(random, |random| {
            let value = vec![1; random.below(50) as usize].into();
            DataBlock { index: number(random), value, nodes: nodes(random) }
        }),
        hash: maybe(random, |random| DataHash { index: number(random), nodes: nodes(random) }),
        seek: maybe(random, |random| DataSeek { bytes: number(random), nodes: nodes(random) }),
        upgrade: maybe(random, |random| DataUpgrade {
            start: number(random),
            length: number(random),
            nodes: nodes(random),
            additional_nodes: nodes(random),
            signature: maybe(random, |_| Bytes::from(vec![3; 64])),
        }),
        manifest: None,
    }
}
