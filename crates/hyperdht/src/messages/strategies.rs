//! Every shape of every message, for property tests.

use std::net::{SocketAddrV4, SocketAddrV6};

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

const SAFE: std::ops::Range<u64> = 0..1 << 53;

fn v4() -> impl Strategy<Value = SocketAddrV4> {
    (any::<[u8; 4]>(), any::<u16>()).prop_map(|(host, port)| SocketAddrV4::new(host.into(), port))
}

fn v6() -> impl Strategy<Value = SocketAddrV6> {
    (any::<[u8; 16]>(), any::<u16>()).prop_map(|(host, port)| SocketAddrV6::new(host.into(), port, 0, 0))
}

fn blob() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn signature() -> impl Strategy<Value = [u8; 64]> {
    (any::<[u8; 32]>(), any::<[u8; 32]>()).prop_map(|(a, b)| {
        let mut both = [0; 64];
        both[..32].copy_from_slice(&a);
        both[32..].copy_from_slice(&b);
        both
    })
}

fn mode() -> impl Strategy<Value = RelayMode> {
    prop::sample::select(vec![
        RelayMode::FromClient,
        RelayMode::FromServer,
        RelayMode::FromRelay,
        RelayMode::FromSecondRelay,
        RelayMode::Reply,
    ])
}

fn firewall() -> impl Strategy<Value = Firewall> {
    (0u64..4).prop_map(Firewall::from_wire)
}

pub(crate) fn handshake() -> impl Strategy<Value = Handshake> {
    (mode(), blob(), option::of(v4()), option::of(v4())).prop_map(
        |(mode, noise, peer_address, relay_address)| Handshake { mode, noise, peer_address, relay_address },
    )
}

pub(crate) fn holepunch() -> impl Strategy<Value = Holepunch> {
    (mode(), SAFE, blob(), option::of(v4())).prop_map(|(mode, id, payload, peer_address)| Holepunch {
        mode,
        id,
        payload,
        peer_address,
    })
}

pub(crate) fn holepunch_payload() -> impl Strategy<Value = HolepunchPayload> {
    (
        (SAFE, firewall(), SAFE, any::<bool>(), any::<bool>()),
        (
            option::of(vec(v4(), 0..4)),
            option::of(v4()),
            option::of(any::<[u8; 32]>()),
            option::of(any::<[u8; 32]>()),
        ),
    )
        .prop_map(
            |(
                (error, firewall, round, connected, punching),
                (addresses, remote_address, token, remote_token),
            )| {
                HolepunchPayload {
                    error,
                    firewall,
                    round,
                    connected,
                    punching,
                    addresses,
                    remote_address,
                    token,
                    remote_token,
                }
            },
        )
}

pub(crate) fn noise_payload() -> impl Strategy<Value = NoisePayload> {
    let relay =
        (v4(), v4()).prop_map(|(relay_address, peer_address)| RelayInfo { relay_address, peer_address });
    let holepunch = (SAFE, vec(relay, 0..4)).prop_map(|(id, relays)| HolepunchInfo { id, relays });
    let udx = (SAFE, any::<bool>(), SAFE, SAFE).prop_map(|(version, reusable_socket, id, seq)| UdxInfo {
        version,
        reusable_socket,
        id,
        seq,
    });
    let relay_through = (SAFE, any::<[u8; 32]>(), any::<[u8; 32]>())
        .prop_map(|(version, public_key, token)| RelayThroughInfo { version, public_key, token });
    (
        (SAFE, firewall(), option::of(holepunch), vec(v4(), 0..4), vec(v6(), 0..3)),
        (option::of(udx), option::of(SAFE), option::of(relay_through), option::of(vec(v4(), 0..4))),
    )
        .prop_map(
            |(
                (error, firewall, holepunch, addresses4, addresses6),
                (udx, stream, relay_through, relay_addresses),
            )| {
                NoisePayload {
                    version: NOISE_PAYLOAD_VERSION,
                    error,
                    firewall,
                    holepunch,
                    addresses4,
                    addresses6,
                    udx,
                    secret_stream: stream.map(|version| SecretStreamInfo { version }),
                    relay_through,
                    relay_addresses,
                }
            },
        )
}

pub(crate) fn peer() -> impl Strategy<Value = Peer> {
    (any::<[u8; 32]>(), vec(v4(), 0..5))
        .prop_map(|(public_key, relay_addresses)| Peer { public_key, relay_addresses })
}

pub(crate) fn announce() -> impl Strategy<Value = Announce> {
    (option::of(peer()), option::of(any::<[u8; 32]>()), option::of(signature()), SAFE)
        .prop_map(|(peer, refresh, signature, bump)| Announce { peer, refresh, signature, bump })
}

pub(crate) fn mutable_put() -> impl Strategy<Value = MutablePut> {
    (any::<[u8; 32]>(), SAFE, blob(), signature()).prop_map(|(public_key, seq, value, signature)| {
        MutablePut { public_key, record: MutableRecord { seq, value, signature } }
    })
}

pub(crate) fn plugin_request() -> impl Strategy<Value = PluginRequest> {
    (".{0,20}", SAFE, SAFE, option::of(blob())).prop_map(|(plugin, version, command, value)| PluginRequest {
        plugin,
        version,
        command,
        value,
    })
}
