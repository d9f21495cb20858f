//! Every message against the bytes that npm `hypercore` 11.37.1 makes of it (`interop/js/vectors/wire-messages.js`).

use std::collections::BTreeMap;

use bytes::Bytes;
use compact_codec::Writer;
use hypercore::proof::{
    DataBlock, DataHash, DataSeek, DataUpgrade, Node, Proof, ProofRequest, RequestBlock, RequestSeek,
    RequestUpgrade,
};
use hypercore::{Key, Manifest, crypto};
use hypercore_protocol::messages::{
    Bitfield, Cancel, Data, Extension, NoData, Range, ReorgHint, Request, Synchronize, Unwant, Want,
};
use hypercore_protocol::{ChannelHandshake, Message};

fn vectors() -> BTreeMap<&'static str, Bytes> {
    let lines = include_str!("vectors/wire-messages.txt").lines();
    lines
        .map(|line| {
            let (name, hex) = line.split_once(' ').expect("name and hex");
            let (pairs, _) = hex.as_bytes().as_chunks::<2>();
            let digit = |c: u8| (c as char).to_digit(16).expect("hex") as u8;
            (name, pairs.iter().map(|&[high, low]| digit(high) << 4 | digit(low)).collect())
        })
        .collect()
}

fn node(index: u64, size: u64, byte: u8) -> Node {
    Node { index, size, hash: [byte; 32] }
}

fn messages() -> Vec<(&'static str, Message)> {
    let hello = DataBlock {
        index: 4,
        value: Bytes::from_static(b"hello"),
        nodes: vec![node(10, 5, 1), node(13, 12, 2)],
    };
    let large = DataBlock { index: 4, value: vec![0xab; 5000].into(), nodes: vec![node(10, 5, 1)] };
    let request = |id, fork, proof| Message::Request(Request { id, fork, proof, priority: 0 });
    let data = |request, proof| Message::Data(Data { request, proof });
    vec![
        ("sync-plain", Message::Synchronize(Synchronize::default())),
        (
            "sync-all",
            Message::Synchronize(Synchronize {
                fork: 3,
                length: 70000,
                remote_length: 300,
                can_upgrade: true,
                uploading: true,
                downloading: true,
                has_manifest: true,
                allow_push: true,
            }),
        ),
        (
            "request-block",
            request(
                1,
                0,
                ProofRequest { block: Some(RequestBlock { index: 5, nodes: 2 }), ..Default::default() },
            ),
        ),
        (
            "request-hash",
            request(
                2,
                1,
                ProofRequest { hash: Some(RequestBlock { index: 11, nodes: 0 }), ..Default::default() },
            ),
        ),
        (
            "request-all",
            Message::Request(Request {
                id: 300,
                fork: 1,
                proof: ProofRequest {
                    block: Some(RequestBlock { index: 5_000_000_000, nodes: 33 }),
                    hash: Some(RequestBlock { index: 3, nodes: 1 }),
                    seek: Some(RequestSeek { bytes: 100_000, padding: 8 }),
                    upgrade: Some(RequestUpgrade { start: 10, length: 20 }),
                    manifest: true,
                },
                priority: 2,
            }),
        ),
        ("cancel", Message::Cancel(Cancel { request: 253 })),
        ("data-empty", data(1, Proof::default())),
        ("data-block", data(1, Proof { fork: 2, block: Some(hello), ..Default::default() })),
        ("data-large-block", data(1, Proof { fork: 2, block: Some(large), ..Default::default() })),
        (
            "data-all",
            data(
                70000,
                Proof {
                    fork: 1,
                    block: Some(DataBlock { index: 4, value: Bytes::new(), nodes: vec![] }),
                    hash: Some(DataHash { index: 9, nodes: vec![node(9, 1, 3)] }),
                    seek: Some(DataSeek { bytes: 17, nodes: vec![node(8, 2, 4)] }),
                    upgrade: Some(DataUpgrade {
                        start: 0,
                        length: 6,
                        nodes: vec![node(3, 40, 5), node(9, 20, 6)],
                        additional_nodes: vec![node(12, 10, 7)],
                        signature: Some(vec![8; 66].into()),
                    }),
                    manifest: Some(Box::new(Manifest::default_signer([7; 32]))),
                },
            ),
        ),
        (
            "data-static",
            data(
                4,
                Proof {
                    upgrade: Some(DataUpgrade {
                        start: 1,
                        length: 1,
                        nodes: vec![],
                        additional_nodes: vec![],
                        signature: None,
                    }),
                    ..Default::default()
                },
            ),
        ),
        ("no-data", Message::NoData(NoData { request: 9, reason: 0 })),
        ("no-data-reason", Message::NoData(NoData { request: 9, reason: NoData::INVALID_REQUEST })),
        ("want", Message::Want(Want { start: 32768, length: 32768, any: false })),
        ("want-any", Message::Want(Want { start: 0, length: 1, any: true })),
        ("unwant", Message::Unwant(Unwant { start: 32768, length: 32768, any: false })),
        ("unwant-any", Message::Unwant(Unwant { start: 0, length: 1, any: true })),
        ("bitfield", Message::Bitfield(Bitfield::from_words(32768, &[1, 0x8000_0000, 0xdead_beef]))),
        ("range", Message::Range(Range { drop: false, start: 7, length: 300 })),
        ("range-one", Message::Range(Range { drop: true, start: 7, length: 1 })),
        ("range-none", Message::Range(Range { drop: false, start: 7, length: 0 })),
        (
            "extension",
            Message::Extension(Extension {
                name: "exämple".into(), message: Bytes::from_static(b"payload")
            }),
        ),
        ("extension-repeat", Message::Extension(Extension::default())),
    ]
}

#[test]
fn messages_are_encoded_as_javascript_encodes_them() {
    let vectors = vectors();
    for (name, message) in messages() {
        let expected = &vectors[name];
        let encoded = message.encode();
        let joined = [&encoded.head[..], &encoded.value, &encoded.tail].concat();
        assert_eq!(joined, **expected, "{name} in pieces");
        let mut writer = Writer::new();
        message.encode_into(&mut writer);
        assert_eq!(writer.finish(), expected, "{name} in one piece");
        assert_eq!(Message::decode(message.kind(), expected.clone()).expect(name), message, "{name} decoded");
    }
}

#[test]
fn a_large_block_is_a_piece_of_its_own() {
    let (_, message) =
        messages().into_iter().find(|(name, _)| *name == "data-large-block").expect("is there");
    let Message::Data(Data { proof: Proof { block: Some(block), .. }, .. }) = &message else {
        panic!("a block")
    };
    assert_eq!(message.encode().value.as_ptr(), block.value.as_ptr());
}

#[test]
fn unknown_flags_and_bytes_behind_the_last_field_are_tolerated() {
    let vectors = vectors();
    for (name, message) in messages() {
        if matches!(message, Message::Extension(_)) {
            continue;
        }
        let mut longer = vectors[name].to_vec();
        // A want or a noData without flags would take the first byte for its flags.
        longer.extend_from_slice(&[0x40, 1, 2, 3]);
        assert_eq!(Message::decode(message.kind(), longer.into()).expect(name), message, "{name}");
    }
    let mut strange = vectors["sync-all"].to_vec();
    strange[0] |= 0x60;
    assert!(matches!(
        Message::decode(hypercore_protocol::Kind::Synchronize, strange.into()),
        Ok(Message::Synchronize(Synchronize { length: 70000, allow_push: true, .. }))
    ));
}

#[test]
fn handshakes_hints_and_capabilities_are_those_of_javascript() {
    let vectors = vectors();
    let handshake = ChannelHandshake { seeks: true, capability: [9; 32] };
    assert_eq!(handshake.encode(), vectors["handshake"]);
    assert_eq!(ChannelHandshake::decode(vectors["handshake"].clone()), Ok(handshake));

    let hint = ReorgHint { from: 1, to: 2, ancestors: 300 };
    let mut writer = Writer::new();
    hint.encode_into(&mut writer);
    assert_eq!(writer.finish(), vectors["reorg-hint"]);
    assert_eq!(ReorgHint::decode(vectors["reorg-hint"].clone()), Ok(hint));

    let key = Key::from([5; 32]);
    let hash = [[6; 32], [7; 32]].concat();
    assert_eq!(&key.discovery_key().as_bytes()[..], vectors["discovery-key"]);
    let capability = |is_initiator| crypto::replication_capability(is_initiator, key.as_bytes(), &hash);
    assert_eq!(&capability(true)[..], vectors["capability-initiator"]);
    assert_eq!(&capability(false)[..], vectors["capability-responder"]);
}
