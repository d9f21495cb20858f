//! Messages and signatures against the bytes that npm `hyperdht` 6.34.0 makes of them
//! (`interop/js/vectors/dht-messages.js`).

use std::collections::BTreeMap;
use std::net::SocketAddrV4;

use secret_stream::KeyPair;

use super::*;
use crate::records::signing::{AnnounceContext, NAMESPACES, Signer, hash};

fn vectors() -> BTreeMap<&'static str, Bytes> {
    let lines = include_str!("../../tests/vectors/messages.txt").lines();
    lines
        .map(|line| {
            let (name, hex) = line.split_once(' ').unwrap();
            let byte = |n| u8::from_str_radix(&hex[n..n + 2], 16).unwrap();
            (name, (0..hex.len()).step_by(2).map(byte).collect())
        })
        .collect()
}

fn at(n: u8) -> SocketAddrV4 {
    SocketAddrV4::new([10, 1, 2, n].into(), 1000 * u16::from(n))
}

fn fill(byte: u8, n: usize) -> Bytes {
    Bytes::from(vec![byte; n])
}

#[track_caller]
fn check<M: Message + PartialEq + std::fmt::Debug>(
    vectors: &mut BTreeMap<&'static str, Bytes>,
    name: &str,
    message: &M,
) {
    let expected = vectors.remove(name).unwrap();
    assert_eq!(message.encode(), expected, "{name}");
    assert_eq!(&M::decode(expected).unwrap(), message, "{name}");
}

#[test]
fn messages() {
    let mut v = vectors();
    let bare =
        Handshake { mode: RelayMode::FromClient, noise: fill(1, 5), peer_address: None, relay_address: None };
    check(&mut v, "handshake-bare", &bare);
    let peer = Handshake { mode: RelayMode::Reply, peer_address: Some(at(2)), ..bare.clone() };
    check(&mut v, "handshake-peer", &peer);
    check(&mut v, "handshake-relay", &Handshake { relay_address: Some(at(3)), ..bare });
    let both = Handshake {
        mode: RelayMode::FromSecondRelay,
        noise: fill(1, 300),
        peer_address: Some(at(2)),
        relay_address: Some(at(3)),
    };
    check(&mut v, "handshake-both", &both);

    let payload = NoisePayload::default();
    check(&mut v, "noise-payload-bare", &payload);
    let refusal =
        NoisePayload { error: error::VERSION_MISMATCH, firewall: Firewall::Random, ..payload.clone() };
    check(&mut v, "noise-payload-error", &refusal);
    let relays = vec![
        RelayInfo { relay_address: at(4), peer_address: at(5) },
        RelayInfo { relay_address: at(6), peer_address: at(7) },
    ];
    let all = NoisePayload {
        version: 1,
        error: 0,
        firewall: Firewall::Consistent,
        holepunch: Some(HolepunchInfo { id: 300, relays }),
        addresses4: vec![at(8), at(9)],
        addresses6: vec!["[2001:db8::7:8]:12345".parse().unwrap()],
        udx: Some(UdxInfo { version: 1, reusable_socket: true, id: 70000, seq: 0 }),
        secret_stream: Some(SecretStreamInfo::default()),
        relay_through: Some(RelayThroughInfo { version: 1, public_key: [3; 32], token: [4; 32] }),
        relay_addresses: Some(vec![at(10)]),
    };
    check(&mut v, "noise-payload-all", &all);
    let udx = Some(UdxInfo { version: 1, reusable_socket: false, id: 1, seq: 2 });
    let empty = NoisePayload { relay_addresses: Some(Vec::new()), udx, ..payload };
    check(&mut v, "noise-payload-empty-relays", &empty);

    let punch = Holepunch { mode: RelayMode::FromClient, id: 0, payload: fill(5, 7), peer_address: None };
    check(&mut v, "holepunch-bare", &punch);
    let punch = Holepunch { mode: RelayMode::FromRelay, id: 70000, peer_address: Some(at(2)), ..punch };
    check(&mut v, "holepunch-peer", &punch);
    let inside = HolepunchPayload { firewall: Firewall::Open, ..HolepunchPayload::default() };
    check(&mut v, "holepunch-payload-bare", &inside);
    let inside = HolepunchPayload {
        error: error::TRY_LATER,
        firewall: Firewall::Consistent,
        round: 5,
        connected: true,
        punching: true,
        addresses: Some(vec![at(1), at(2)]),
        remote_address: Some(at(3)),
        token: Some([6; 32]),
        remote_token: Some([7; 32]),
    };
    check(&mut v, "holepunch-payload-all", &inside);

    let peer = Peer { public_key: [8; 32], relay_addresses: vec![at(1), at(2), at(3)] };
    let lone = Peer { public_key: [9; 32], relay_addresses: Vec::new() };
    check(&mut v, "peer", &peer);
    check(&mut v, "peer-lone", &lone);
    let reply = LookupReply { peers: vec![peer.clone(), lone.clone()], bump: 1_700_000_000_000 };
    check(&mut v, "lookup-reply", &reply);
    check(&mut v, "lookup-reply-no-bump", &LookupReply { peers: vec![lone], bump: 0 });
    let old = LookupReply::decode(v.remove("lookup-reply-old").unwrap()).unwrap();
    assert_eq!(old, LookupReply { bump: 0, ..reply });

    let announce = Announce { peer: Some(peer.clone()), refresh: None, signature: Some([1; 64]), bump: 0 };
    check(&mut v, "announce", &announce);
    let all = Announce { refresh: Some([2; 32]), bump: 1_700_000_000_000, ..announce };
    check(&mut v, "announce-all", &all);
    check(&mut v, "announce-refresh", &Announce { refresh: Some([2; 32]), ..Announce::default() });

    let value = Bytes::from_static(b"value");
    let record = MutableRecord { seq: 300, value: value.clone(), signature: [2; 64] };
    check(&mut v, "mutable-put", &MutablePut { public_key: [1; 32], record: record.clone() });
    check(&mut v, "mutable-record", &MutableRecord { seq: 5_000_000_000, ..record });
    let seq = v.remove("seq").unwrap();
    assert_eq!(encode_seq(70000), seq);
    assert_eq!(decode_seq(seq).unwrap(), 70000);

    let plugin = PluginRequest { plugin: "name".into(), version: 2, command: 300, value: Some("abc".into()) };
    check(&mut v, "plugin", &plugin);
    check(&mut v, "plugin-bare", &PluginRequest { command: 3, value: None, ..plugin });

    let left: Vec<_> = v.keys().filter(|k| !k.starts_with("ns-") && !k.starts_with("sign-")).collect();
    assert_eq!(left, [&"hash"], "every vector is looked at");
}

#[test]
fn namespaces_and_signatures() {
    let v = vectors();
    assert_eq!(NAMESPACES.announce[..], v["ns-announce"]);
    assert_eq!(NAMESPACES.unannounce[..], v["ns-unannounce"]);
    assert_eq!(NAMESPACES.mutable_put[..], v["ns-mutable-put"]);
    assert_eq!(NAMESPACES.peer_handshake[..], v["ns-peer-handshake"]);
    assert_eq!(NAMESPACES.peer_holepunch[..], v["ns-peer-holepunch"]);
    assert_eq!(NAMESPACES.plugin[..], v["ns-plugin"]);

    let pair = KeyPair::from_seed(&[7; 32]);
    assert_eq!(hash(&[&pair.public])[..], v["hash"]);
    let signer = Signer::new(&pair);
    assert_eq!(signer.mutable(300, "value".into()).record.signature[..], v["sign-mutable"]);
    assert_eq!(signer.mutable(0, Bytes::new()).record.signature[..], v["sign-mutable-empty"]);
    let context = AnnounceContext { target: &[1; 32], token: &[2; 32], node_id: &[3; 32] };
    let announce = |refresh| signer.announce(context, vec![at(1), at(2)], refresh, 0).signature.unwrap();
    assert_eq!(announce(None)[..], v["sign-announce"]);
    assert_eq!(announce(Some([4; 32]))[..], v["sign-announce-refresh"]);
    assert_eq!(signer.unannounce(context).signature.unwrap()[..], v["sign-unannounce"]);
}
