//! The store as those who ask it see it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use secret_stream::KeyPair;

use super::signing::{AnnounceContext, Signer, hash};
use super::*;
use crate::messages::{
    Announce, Command, LookupReply, Message, MutablePut, MutableRecord, Peer, encode_seq, error, strategies,
};

const NODE: [u8; 32] = [0xaa; 32];
const TOKEN: [u8; 32] = [0xbb; 32];
const TOPIC: [u8; 32] = [0x11; 32];
const UNIX_MS: u64 = 1_700_000_000_000;

struct World {
    store: Store,
    now: Instant,
    from: SocketAddr,
}

impl World {
    fn new() -> Self {
        Self::with(StoreLimits::default())
    }

    fn with(limits: StoreLimits) -> Self {
        Self { store: Store::new(limits, 3), now: Instant::now(), from: ([10, 0, 0, 1], 1000).into() }
    }

    fn ask(&mut self, command: Command, target: [u8; 32], value: Option<Bytes>) -> Answer {
        let request =
            StoreRequest { from: self.from, command, target: Some(target), token: Some(TOKEN), value };
        self.store.handle(self.now, UNIX_MS, Some(&NODE), request)
    }

    fn announce(&mut self, signer: &Signer, target: [u8; 32], bump: u64) -> Answer {
        let announce = signer.announce(context(&target), relays(2), None, bump);
        self.ask(Command::Announce, target, Some(announce.encode()))
    }

    fn lookup(&mut self, target: [u8; 32]) -> Option<LookupReply> {
        let Answer::Value(value) = self.ask(Command::Lookup, target, None) else { panic!() };
        value.map(|value| LookupReply::decode(value).unwrap())
    }

    fn find_peer(&mut self, target: [u8; 32]) -> Option<Peer> {
        let Answer::Value(value) = self.ask(Command::FindPeer, target, None) else { panic!() };
        value.map(|value| Peer::decode(value).unwrap())
    }

    fn put(&mut self, put: &MutablePut) -> Answer {
        self.ask(Command::MutablePut, hash(&[&put.public_key]), Some(put.encode()))
    }

    fn get(&mut self, public_key: [u8; 32], seq: u64) -> Option<MutableRecord> {
        let answer = self.ask(Command::MutableGet, hash(&[&public_key]), Some(encode_seq(seq)));
        let Answer::Value(value) = answer else { panic!() };
        value.map(|value| MutableRecord::decode(value).unwrap())
    }
}

fn context(target: &[u8; 32]) -> AnnounceContext<'_> {
    AnnounceContext { target, node_id: &NODE, token: &TOKEN }
}

fn signer(n: u8) -> Signer {
    Signer::new(&KeyPair::from_seed(&[n; 32]))
}

fn relays(count: u8) -> Vec<std::net::SocketAddrV4> {
    (0..count).map(|n| std::net::SocketAddrV4::new([9, 9, 9, n].into(), 4000)).collect()
}

fn minutes(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

#[test]
fn announcements_are_looked_up_and_taken_back() {
    let mut world = World::new();
    assert_eq!(world.lookup(TOPIC), None);
    assert_eq!(world.announce(&signer(1), TOPIC, 0), Answer::Done);
    assert_eq!(world.announce(&signer(2), TOPIC, 0), Answer::Done);
    assert_eq!(world.announce(&signer(2), TOPIC, 0), Answer::Done);
    let mut peers = world.lookup(TOPIC).unwrap().peers;
    peers.sort_by_key(|peer| peer.public_key);
    let mut expected: Vec<_> =
        [1, 2].map(|n| Peer { public_key: signer(n).public_key(), relay_addresses: relays(2) }).into();
    expected.sort_by_key(|peer| peer.public_key);
    assert_eq!(peers, expected);

    let back = signer(1).unannounce(context(&TOPIC)).encode();
    assert_eq!(world.ask(Command::Unannounce, [0x12; 32], Some(back.clone())), Answer::Ignore);
    assert_eq!(world.lookup(TOPIC).unwrap().peers.len(), 2);
    assert_eq!(world.ask(Command::Unannounce, TOPIC, Some(back)), Answer::Done);
    let left = world.lookup(TOPIC).unwrap().peers;
    assert_eq!(left.iter().map(|peer| peer.public_key).collect::<Vec<_>>(), [signer(2).public_key()]);
    world.now += minutes(40);
    assert_eq!(world.lookup(TOPIC), None);
}

#[test]
fn more_than_three_relays_are_cut() {
    let mut world = World::new();
    let announce = signer(1).announce(context(&TOPIC), relays(5), None, 0);
    assert_eq!(world.ask(Command::Announce, TOPIC, Some(announce.encode())), Answer::Done);
    assert_eq!(world.lookup(TOPIC).unwrap().peers[0].relay_addresses, relays(3));
}

#[test]
fn a_server_is_found_and_forwarded_to() {
    let mut world = World::new();
    let target = hash(&[&signer(1).public_key()]);
    assert_eq!(world.find_peer(target), None);
    assert_eq!(world.announce(&signer(1), target, 0), Answer::Done);
    let server = Peer { public_key: signer(1).public_key(), relay_addresses: relays(2) };
    assert_eq!(world.find_peer(target), Some(server.clone()));
    assert_eq!(world.lookup(target).unwrap().peers, [server]);
    assert_eq!(world.store.forward(world.now, &target), Some(world.from));
    assert_eq!(world.store.size().announcements, 0);

    let back = signer(1).unannounce(context(&target)).encode();
    assert_eq!(world.ask(Command::Unannounce, target, Some(back)), Answer::Done);
    assert_eq!(world.find_peer(target), None);
    assert_eq!(world.store.forward(world.now, &target), None);
}

#[test]
fn own_servers_are_found_as_long_as_they_listen() {
    let mut world = World::new();
    let target = hash(&[&[5; 32]]);
    world.store.listen([5; 32]);
    world.now += minutes(600);
    assert_eq!(world.find_peer(target), Some(Peer { public_key: [5; 32], relay_addresses: Vec::new() }));
    assert_eq!(world.lookup(target).unwrap().peers.len(), 1);
    world.store.unlisten(&[5; 32]);
    assert_eq!(world.find_peer(target), None);
}

#[test]
fn bumps_go_up_and_not_far_into_the_future() {
    let mut world = World::new();
    assert_eq!(world.announce(&signer(1), TOPIC, UNIX_MS - 5), Answer::Done);
    assert_eq!(world.lookup(TOPIC).unwrap().bump, UNIX_MS - 5);
    world.announce(&signer(2), TOPIC, UNIX_MS - 6);
    assert_eq!(world.lookup(TOPIC).unwrap().bump, UNIX_MS - 5);
    world.announce(&signer(2), TOPIC, UNIX_MS + MAX_BUMP_DRIFT + 1);
    assert_eq!(world.lookup(TOPIC).unwrap().bump, UNIX_MS - 5);
    world.announce(&signer(2), TOPIC, UNIX_MS + MAX_BUMP_DRIFT);
    assert_eq!(world.lookup(TOPIC).unwrap().bump, UNIX_MS + MAX_BUMP_DRIFT);
}

#[test]
fn a_refresh_token_renews_once_and_names_its_successor() {
    let mut world = World::new();
    // A chain: each token is the hash of the next one.
    let last = [7; 32];
    let middle = hash(&[&last]);
    let first = hash(&[&middle]);
    let announce = signer(1).announce(context(&TOPIC), relays(1), Some(first), 0);
    assert_eq!(world.ask(Command::Announce, TOPIC, Some(announce.encode())), Answer::Done);
    let refresh = |token| Some(Announce { refresh: Some(token), ..Announce::default() }.encode());
    assert_eq!(world.ask(Command::Announce, TOPIC, refresh([8; 32])), Answer::Ignore);
    world.now += minutes(14);
    assert_eq!(world.ask(Command::Announce, TOPIC, refresh(middle)), Answer::Done);
    assert_eq!(world.ask(Command::Announce, TOPIC, refresh(middle)), Answer::Ignore);
    world.now += minutes(14);
    assert_eq!(world.lookup(TOPIC).unwrap().peers.len(), 1);
    assert_eq!(world.ask(Command::Announce, TOPIC, refresh(last)), Answer::Done);
}

#[test]
fn wrong_announcements_are_ignored() {
    let mut world = World::new();
    let good = signer(1).announce(context(&TOPIC), relays(2), None, 0);
    let mut forged = good.clone();
    forged.peer.as_mut().unwrap().public_key = signer(2).public_key();
    for wrong in [
        None,
        Some(Bytes::new()),
        Some(good.encode().slice(..40)),
        Some(forged.encode()),
        Some(Announce { signature: None, ..good.clone() }.encode()),
        Some(signer(1).unannounce(context(&TOPIC)).encode()),
    ] {
        assert_eq!(world.ask(Command::Announce, TOPIC, wrong), Answer::Ignore);
    }
    let request = StoreRequest {
        from: world.from,
        command: Command::Announce,
        target: Some(TOPIC),
        token: None,
        value: Some(good.encode()),
    };
    assert_eq!(world.store.handle(world.now, UNIX_MS, Some(&NODE), request.clone()), Answer::Ignore);
    let with_token = StoreRequest { token: Some(TOKEN), ..request };
    let elsewhere = world.store.handle(world.now, UNIX_MS, Some(&[1; 32]), with_token.clone());
    assert_eq!(elsewhere, Answer::Ignore, "it was signed for another node");
    assert_eq!(world.store.handle(world.now, UNIX_MS, None, with_token), Answer::NotMine);
    assert_eq!(world.store.size(), StoreSize::default());
}

#[test]
fn newer_mutable_records_win() {
    let mut world = World::new();
    let key = signer(1).public_key();
    assert_eq!(world.get(key, 0), None);
    let second = signer(1).mutable(2, "second".into());
    assert_eq!(world.put(&second), Answer::Value(None));
    assert_eq!(world.put(&second), Answer::Value(None), "the same once more is welcome");
    assert_eq!(world.get(key, 0), Some(second.record.clone()));
    assert_eq!(world.get(key, 2), Some(second.record.clone()));
    assert_eq!(world.get(key, 3), None);
    let first = signer(1).mutable(1, "first".into());
    assert_eq!(world.put(&first), Answer::Error(error::SEQ_TOO_LOW));
    let other = signer(1).mutable(2, "other".into());
    assert_eq!(world.put(&other), Answer::Error(error::SEQ_REUSED));
    let third = signer(1).mutable(3, Bytes::new());
    assert_eq!(world.put(&third), Answer::Value(None));
    assert_eq!(world.get(key, 0), Some(third.record));
}

#[test]
fn wrong_mutable_records_are_ignored() {
    let mut world = World::new();
    let good = signer(1).mutable(2, "value".into());
    let forged = MutablePut { public_key: signer(2).public_key(), ..good.clone() };
    assert_eq!(world.put(&forged), Answer::Ignore);
    assert_eq!(world.ask(Command::MutablePut, TOPIC, Some(good.encode())), Answer::Ignore, "another target");
    let long = signer(1).mutable(2, vec![0; StoreLimits::default().value_len + 1].into());
    assert_eq!(world.put(&long), Answer::Ignore);
    assert_eq!(world.ask(Command::MutableGet, hash(&[&good.public_key]), None), Answer::Ignore);
    assert_eq!(world.store.size(), StoreSize::default());
}

#[test]
fn immutable_values_live_while_they_are_asked_for() {
    let mut world = World::new();
    let value = Bytes::from_static(b"some value");
    let target = hash(&[&value]);
    assert_eq!(world.ask(Command::ImmutablePut, TOPIC, Some(value.clone())), Answer::Ignore);
    assert_eq!(world.ask(Command::ImmutablePut, target, Some(value.clone())), Answer::Value(None));
    for _ in 0..5 {
        world.now += minutes(40 * 60);
        assert_eq!(world.ask(Command::ImmutableGet, target, None), Answer::Value(Some(value.clone())));
    }
    world.now += minutes(65 * 60);
    assert_eq!(world.ask(Command::ImmutableGet, target, None), Answer::Value(None));
}

#[test]
fn one_host_gets_its_share_and_others_the_rest() {
    let limits = StoreLimits {
        announcements: 40,
        values: 40,
        value_bytes: 4000,
        servers: 8,
        ..StoreLimits::default()
    };
    let mut world = World::with(limits);
    let later = Answer::Error(error::TRY_LATER);
    for n in 0..10 {
        assert_eq!(world.announce(&signer(n), TOPIC, 0), Answer::Done);
    }
    assert_eq!(world.announce(&signer(10), TOPIC, 0), later);
    assert_eq!(world.announce(&signer(3), TOPIC, 0), Answer::Done, "what is there may be renewed");
    for n in 0..2 {
        assert_eq!(world.announce(&signer(n), hash(&[&signer(n).public_key()]), 0), Answer::Done);
    }
    assert_eq!(world.announce(&signer(2), hash(&[&signer(2).public_key()]), 0), later);
    let value = |n: u8| Bytes::from(vec![n; 500]);
    for n in 0..2 {
        let put = world.ask(Command::ImmutablePut, hash(&[&value(n)]), Some(value(n)));
        assert_eq!(put, Answer::Value(None));
    }
    assert_eq!(world.ask(Command::ImmutablePut, hash(&[&value(2)]), Some(value(2))), later);
    world.from = ([10, 0, 0, 2], 1).into();
    assert_eq!(world.announce(&signer(10), TOPIC, 0), Answer::Done);
    assert_eq!(world.ask(Command::ImmutablePut, hash(&[&value(2)]), Some(value(2))), Answer::Value(None));
}

#[test]
fn what_is_not_of_the_store_is_left_to_others() {
    let mut world = World::new();
    for command in [Command::PeerHandshake, Command::PeerHolepunch, Command::Plugin] {
        assert_eq!(world.ask(command, TOPIC, None), Answer::NotMine);
    }
}

/// A request of any kind: sometimes right in every respect, mostly not.
fn request() -> impl Strategy<Value = (StoreRequest, u64)> {
    let signed = (0u8..4, 0u8..4, 0u64..4, 0u64..3).prop_map(|(who, topic, seq, kind)| {
        let who = signer(who);
        let server = hash(&[&who.public_key()]);
        let target = if topic == 0 { server } else { [topic; 32] };
        match kind {
            0 => (Command::Announce, target, who.announce(context(&target), relays(4), None, seq).encode()),
            1 => (Command::Unannounce, target, who.unannounce(context(&target)).encode()),
            _ => (Command::MutablePut, server, who.mutable(seq, vec![topic; 3].into()).encode()),
        }
    });
    let unsigned = (0u64..11, 0u8..4, proptest::collection::vec(any::<u8>(), 0..150))
        .prop_map(|(command, n, value)| (Command::from_wire(command).unwrap(), [n; 32], Bytes::from(value)));
    let shaped = prop_oneof![
        strategies::announce().prop_map(|message| (Command::Announce, [1; 32], message.encode())),
        strategies::mutable_put()
            .prop_map(|message| { (Command::MutablePut, hash(&[&message.public_key]), message.encode()) }),
        proptest::collection::vec(any::<u8>(), 0..100)
            .prop_map(|value| { (Command::ImmutablePut, hash(&[&value]), Bytes::from(value)) }),
    ];
    let what = prop_oneof![signed, unsigned, shaped];
    (what, 0u8..3, any::<bool>(), any::<bool>(), 0u64..1000).prop_map(
        |((command, target, value), host, token, some, wait)| {
            let request = StoreRequest {
                from: ([10, 0, 0, host], 1).into(),
                command,
                target: Some(target),
                token: token.then_some(TOKEN),
                value: some.then_some(value),
            };
            (request, wait)
        },
    )
}

proptest! {
    /// Nothing that comes in makes the store panic, grow beyond its bounds, or answer with more than a datagram.
    #[test]
    fn any_request(requests in proptest::collection::vec(request(), 0..60)) {
        let limits = StoreLimits { announcements: 4, servers: 3, values: 3, value_bytes: 300, announcements_of_topic: 2, ..StoreLimits::default() };
        let mut world = World::with(limits);
        for (request, wait) in requests {
            world.now += Duration::from_secs(wait);
            let tokenless = request.token.is_none();
            let before = world.store.size();
            let command = request.command;
            let answer = world.store.handle(world.now, UNIX_MS, Some(&NODE), request);
            if tokenless && matches!(command, Command::Announce | Command::Unannounce | Command::MutablePut | Command::ImmutablePut) {
                prop_assert_eq!(&answer, &Answer::Ignore, "nothing is changed for who does not prove its address");
                prop_assert_eq!(world.store.size(), before);
            }
            if let Answer::Value(Some(value)) = answer {
                prop_assert!(value.len() <= limits.value_len + 80);
            }
            let size = world.store.size();
            prop_assert!(size.announcements <= 8 && size.servers <= 6 && size.mutables <= 6 && size.immutables <= 6);
            prop_assert!(size.value_bytes <= 2 * 600);
        }
    }
}
