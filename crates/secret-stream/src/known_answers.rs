//! Answers taken from npm `noise-handshake` 4.2, `noise-curve-ed` 2.1, `sodium-secretstream` 1.2 and
//! `@hyperswarm/secret-stream` 6.9.2, with fixed keys.

use crate::KeyPair;
use crate::cipher::{Pull, Push};
use crate::datagram::Datagrams;
use crate::namespace;
use crate::noise::{Handshake, HandshakeResult, NoiseError, Pattern};

/// Static keys of seeds 1 and 2, ephemeral keys of seeds 3 and 4; the payload of each message is given.
fn run(pattern: Pattern, prologue: &[u8], payloads: &[&str]) -> (Vec<String>, [HandshakeResult; 2]) {
    let key = |n| KeyPair::from_seed(&[n; 32]);
    let mut sides = [
        Handshake::with_ephemeral(true, &key(1), pattern, prologue, &key(3)).unwrap(),
        Handshake::with_ephemeral(false, &key(2), pattern, prologue, &key(4)).unwrap(),
    ];
    let mut messages = Vec::new();
    for (n, payload) in payloads.iter().enumerate() {
        assert!(sides[n % 2].is_my_turn() && !sides[1 - n % 2].is_my_turn());
        let message = sides[n % 2].write(payload.as_bytes()).unwrap();
        assert_eq!(sides[1 - n % 2].read(&message).unwrap(), payload.as_bytes());
        messages.push(hex(&message));
    }
    let results = sides.map(|side| side.finish().unwrap());
    assert_eq!(results[0].tx, results[1].rx);
    assert_eq!(results[0].rx, results[1].tx);
    assert_eq!(results[0].hash, results[1].hash);
    assert_eq!(results[0].remote_public_key, key(2).public);
    assert_eq!(results[1].remote_public_key, key(1).public);
    (messages, results)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> [u8; N] {
    std::array::from_fn(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap())
}

fn ik() -> Pattern {
    Pattern::IK { remote_public_key: Some(KeyPair::from_seed(&[2; 32]).public) }
}

#[test]
fn xx_handshake() {
    let (messages, [initiator, _]) = run(Pattern::XX, b"", &["", "", ""]);
    assert_eq!(
        messages,
        [
            "ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d1",
            "ca93ac1705187071d67b83c7ff0efe8108e8ec4530575d7726879333dbdabe7c\
             8924380c5066a7dcffff1174cebcbfefc17dafd675f6dc2e688de867ff96c431\
             a1fcb7f80997fba29d5bbc64a50e8d74e82bc092a89c62eacaf68db17bb5d0b5",
            "585b6e8320c9dfc6764d48e242b912333244a85ae8769c90ee632f1d3bf6945d\
             6d4729ee9c716f0f82946ce191158c480d53f508585c93bb66354bbee6b8bdad",
        ]
    );
    assert_eq!(hex(&initiator.tx[..]), "36e72ba85cd0a2b5e7c9f44704a1757d7230c30dd39736e46f2190fcd1300c13");
    assert_eq!(hex(&initiator.rx[..]), "29c4a931005b47aaf766f5ec7a119810eb15399b8612e79071f77447826dee17");
    assert_eq!(
        hex(&initiator.hash),
        "aa42bcea44d843e3803e549191ae7eac847a85dccf21ef3918a7cf228d87b788\
         9b194cdb190b8b2cf82daf543e71e86871532b84ba1d7982489eb3040dcfc412"
    );
    assert_eq!(
        hex(&namespace::stream_id(&initiator.hash, true)),
        "a1d1ba79814a026a75d3d0d86df2d767c48c1a62a59d9e5d47876ab9b0867673"
    );
    assert_eq!(
        hex(&namespace::stream_id(&initiator.hash, false)),
        "87964fe510a0eef9766102bc05eb51bd18d4baf59ec0fe2e51fa323b19101cf6"
    );
}

#[test]
fn ik_handshake() {
    let (messages, [initiator, _]) = run(ik(), b"", &["", ""]);
    assert_eq!(
        messages,
        [
            "ed4928c628d1c2c6eae90338905995612959273a5c63f93636c14614ac8737d1\
             605c88a9067c5f85bd7499907d5c869548dd90bed5350bb2e7cb47efe61f60bc\
             e3d91d6f7ee21d53ffd7248510830899923986ef00f3d2f9557a4694d4664081",
            "ca93ac1705187071d67b83c7ff0efe8108e8ec4530575d7726879333dbdabe7c\
             cf420e7a7ff614ce18de6d2ea8d8d758",
        ]
    );
    assert_eq!(hex(&initiator.tx[..]), "cc00d99bd3a15a6779df38fd42fd25a84d73264023e7c1da95cf3bcbdce9c210");
    assert_eq!(
        hex(&initiator.hash),
        "d7b3563df9304bfca9bb06eeb664ea6e500656528cab55aacf6d7e7c60975f5c\
         24f8283b7768ee1dc06d27e7e28a21e75f40950e806732c159e40820cb0b7ddc"
    );
}

#[test]
fn ik_handshake_with_prologue_and_payloads() {
    let (messages, [initiator, _]) = run(ik(), b"context", &["ask", "answer"]);
    assert!(messages[0].ends_with("9cefdc87887106a85168f33f993911bf909436097899131b0870109641c6dff7087070"));
    assert!(messages[1].ends_with("96b6f16e14b8094b8aecaa205783c2be8f296c017294"));
    assert_eq!(
        hex(&initiator.hash),
        "1fe051c8af777f1a764a92bdea1d664b6cdd354500a94acee57ddf7bd83debfb\
         38c95bf4b57245b497a0bd8dd4e29f03ac5a5fd2245ed6dd483bce32e4974ace"
    );
}

/// What libsodium's `crypto_scalarmult_ed25519_noclamp` refuses: small order, not canonical, not on the curve,
/// and a point with a small part (a public key plus the point of order 2).
#[test]
fn points_that_libsodium_refuses_are_refused() {
    for point in [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0200000000000000000000000000000000000000000000000000000000000000",
        "6cc688f15782e8a0a95cab993cb381333472756e4b11c85da209f0a470364c6b",
    ] {
        let mut responder = Handshake::new(false, &KeyPair::from_seed(&[2; 32]), Pattern::XX, &[]).unwrap();
        // The first message holds the ephemeral key alone; the answer is the first to compute with it.
        responder.read(&unhex::<32>(point)).unwrap();
        assert_eq!(responder.write(&[]), Err(NoiseError::InvalidPublicKey), "{point}");
    }
}

#[test]
fn secretstream_frames() {
    let header = std::array::from_fn(|n| n as u8);
    let mut push = Push::with_header(&[7; 32], &header);
    let mut pull = Pull::new(&[7; 32], &header);
    for (text, frame) in [
        (String::new(), "ebf6132b1f61605a3d1b7cb08c0524a4c3"),
        ("hello".to_owned(), "97058535c857f3ab3371c73a96664e0b64f853cbb856"),
        (
            "x".repeat(100),
            "448cd66ca5a1d3f18207313709ae1537d76611afe92db8364dc749f2616d4319df381a66cd5cf59ffef2f87a4b81\
             a6ab2e1a1ef3f3b41cb6bed0d83327a16c4f94de078d4662bf1ff3c521ef7149c7eddc220dc809924a0fcc0b8aaf\
             412542be22ebcb393a823288e45768e4b5cce4788d04e55758",
        ),
    ] {
        let mut sealed = vec![0; text.len() + 17];
        push.encrypt(text.as_bytes(), &mut sealed).unwrap();
        assert_eq!(hex(&sealed), frame);
        let mut opened = vec![0; text.len()];
        pull.decrypt(&sealed, &mut opened).unwrap();
        assert_eq!(opened, text.as_bytes());
    }
}

#[test]
fn datagrams() {
    let hash = [9; 64];
    let (mut initiator, mut responder) = (Datagrams::new(&hash, true), Datagrams::new(&hash, false));
    let from_initiator = unhex::<29>("050505050505050598c9ec3c3fb813bfc23d00a4869387f0c0b3ded5c9");
    let from_responder = unhex::<29>("0505050505050505ba71cabd18f11381dafaba8611ab39cf1b52e47112");
    assert_eq!(responder.open(&from_initiator).unwrap(), "hello");
    assert_eq!(initiator.open(&from_responder).unwrap(), "hello");
    assert_eq!(initiator.open(&from_initiator), None);
    assert_eq!(initiator.open(&from_responder[..23]), None);
    let (one, two) = (initiator.seal(b"text").unwrap(), initiator.seal(b"text").unwrap());
    assert_ne!(one, two);
    assert_eq!(responder.open(&two).unwrap(), "text");
    assert_eq!(responder.open(&one).unwrap(), "text");
    assert!(responder.seal(b"").is_some());
}
