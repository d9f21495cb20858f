use std::time::{Duration, Instant};

use bytes::Bytes;
use hypercore::proof::{DataBlock, Proof};
use hypercore::{DiscoveryKey, Key};
use secret_stream::KeyPair;

use super::{
    ChannelId, CloseReason, Connection, ConnectionEvent, ConnectionOptions, SecretHandshake, TransportOptions,
};
use crate::Error;
use crate::messages::{Data, Extension, Message, Range, Request, Synchronize};

/// Two connections joined by memory, in virtual time.
struct Pair {
    a: Connection,
    b: Connection,
    now: Instant,
    /// How bytes are portioned on the way.
    chunk: usize,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let options =
            |is_initiator, seed| ConnectionOptions::new(is_initiator, KeyPair::from_seed(&[seed; 32]));
        Self {
            a: Connection::new(options(true, 1), now).unwrap(),
            b: Connection::new(options(false, 2), now).unwrap(),
            now,
            chunk: usize::MAX,
        }
    }

    /// Both encrypted streams stand.
    fn connected() -> Self {
        let mut pair = Self::new();
        let (a, b) = pair.run();
        let [ConnectionEvent::Handshake { handshake_hash: hash_a, .. }] = a[..] else { panic!("{a:?}") };
        let [ConnectionEvent::Handshake { handshake_hash: hash_b, .. }] = b[..] else { panic!("{b:?}") };
        assert_eq!(hash_a, hash_b);
        pair
    }

    fn run(&mut self) -> (Vec<ConnectionEvent>, Vec<ConnectionEvent>) {
        let (mut events_a, mut events_b) = (drain(&mut self.a), drain(&mut self.b));
        loop {
            let moved = deliver(&mut self.a, &mut self.b, self.chunk, self.now, &mut events_b)
                | deliver(&mut self.b, &mut self.a, self.chunk, self.now, &mut events_a);
            if !moved {
                return (events_a, events_b);
            }
        }
    }

    /// Both open `key`; the channel on each side.
    fn open(&mut self, key: &Key) -> (ChannelId, ChannelId) {
        let (a, b) = (self.a.open(key).unwrap(), self.b.open(key).unwrap());
        let (events_a, events_b) = self.run();
        let opened =
            |channel| ConnectionEvent::Opened { channel, discovery_key: key.discovery_key(), seeks: true };
        assert_eq!(events_a, [opened(a)]);
        assert_eq!(events_b, [opened(b)]);
        (a, b)
    }
}

fn drain(connection: &mut Connection) -> Vec<ConnectionEvent> {
    std::iter::from_fn(|| connection.poll_event().unwrap()).collect()
}

fn deliver(
    from: &mut Connection,
    to: &mut Connection,
    chunk: usize,
    now: Instant,
    events: &mut Vec<ConnectionEvent>,
) -> bool {
    let mut moved = false;
    while let Some(bytes) = from.poll_transmit().unwrap() {
        moved = true;
        for portion in bytes.chunks(chunk.min(bytes.len())) {
            to.receive(portion, now).unwrap();
        }
        events.extend(drain(to));
    }
    moved
}

fn key(byte: u8) -> Key {
    Key::from([byte; 32])
}

fn message(channel: ChannelId, message: Message) -> ConnectionEvent {
    ConnectionEvent::Message { channel, message }
}

fn data(len: usize) -> Message {
    let block = DataBlock { index: 7, value: Bytes::from(vec![3; len]), nodes: vec![] };
    Message::Data(Data { request: 1, proof: Proof { block: Some(block), ..Default::default() } })
}

#[test]
fn a_channel_opens_when_both_know_the_key() {
    let mut pair = Pair::connected();
    let channel_a = pair.a.open(&key(1)).unwrap();
    let (a, b) = pair.run();
    assert_eq!(a, []);
    assert_eq!(b, [ConnectionEvent::DiscoveryKey(key(1).discovery_key())]);
    let channel_b = pair.b.open(&key(1)).unwrap();
    assert!(matches!(pair.b.open(&key(1)), Err(Error::AlreadyOpen)));
    let (a, b) = pair.run();
    let discovery_key = key(1).discovery_key();
    assert_eq!(a, [ConnectionEvent::Opened { channel: channel_a, discovery_key, seeks: true }]);
    assert_eq!(b, [ConnectionEvent::Opened { channel: channel_b, discovery_key, seeks: true }]);
}

#[test]
fn opened_before_the_handshake_and_in_single_bytes() {
    let mut pair = Pair::new();
    pair.chunk = 1;
    let channel_a = pair.a.open(&key(1)).unwrap();
    let channel_b = pair.b.open(&key(1)).unwrap();
    pair.run();
    let hello = Message::Synchronize(Synchronize { length: 5, ..Default::default() });
    pair.a.send(channel_a, hello.clone()).unwrap();
    let (_, b) = pair.run();
    assert_eq!(b, [message(channel_b, hello)]);
}

#[test]
fn messages_keep_their_order_in_batches_over_several_channels() {
    let mut pair = Pair::connected();
    let (a1, b1) = pair.open(&key(1));
    let (a2, b2) = pair.open(&key(2));
    pair.a.cork();
    let mut expected = Vec::new();
    for i in 0..200u64 {
        let (a, b) = if i % 3 == 0 { (a1, b1) } else { (a2, b2) };
        let said = match i % 4 {
            0 => data(70_000),
            1 => Message::Request(Request { id: i, ..Default::default() }),
            2 => data(10),
            _ => Message::Range(Range { drop: false, start: i, length: 1 }),
        };
        pair.a.send(a, said.clone()).unwrap();
        expected.push(message(b, said));
    }
    pair.a.uncork();
    assert!(pair.a.pending_transmit() > 50 * 70_000);
    let (a, b) = pair.run();
    assert_eq!(a, []);
    assert_eq!(b, expected);
    assert_eq!(pair.a.pending_transmit(), 0);
}

#[test]
fn a_core_that_is_not_there_is_rejected() {
    let mut pair = Pair::connected();
    let channel = pair.a.open(&key(1)).unwrap();
    let (_, b) = pair.run();
    let [ConnectionEvent::DiscoveryKey(discovery_key)] = b[..] else { panic!("{b:?}") };
    pair.b.reject(&discovery_key).unwrap();
    pair.b.reject(&discovery_key).unwrap();
    let (a, b) = pair.run();
    assert_eq!(a, [ConnectionEvent::Closed { channel, discovery_key, reason: CloseReason::Remote }]);
    assert_eq!(b, []);
    // Later both know it.
    pair.open(&key(1));
}

/// Opens a channel of a core without heeding that there may be one.
fn open_once_more(connection: &mut Connection, protocol: &str, key: &Key) -> protomux::ChannelId {
    let id = Some(Bytes::copy_from_slice(key.discovery_key().as_bytes()));
    let options = protomux::OpenOptions { id, unique: false, ..protomux::OpenOptions::new(protocol) };
    connection.mux.open(options).unwrap()
}

#[test]
fn a_second_channel_for_a_core_is_rejected_at_once() {
    for protocol in [super::PROTOCOL, super::PROTOCOL_ALIAS] {
        let mut pair = Pair::connected();
        let (a, b) = pair.open(&key(1));
        for _ in 0..3 {
            let second = open_once_more(&mut pair.a, protocol, &key(1));
            pair.a.mux.send(second, 2, &[0; 40_000]).unwrap();
            assert_eq!(pair.run(), (vec![], vec![]));
            assert_eq!(pair.a.mux.send(second, 2, b"x"), Err(protomux::Error::ChannelClosed));
        }
        assert!(!pair.b.is_paused() && pair.b.unpaired.is_empty());
        // The first one is as it was, and an honest open after it is answered.
        pair.a.send(a, data(1)).unwrap();
        assert_eq!(pair.run().1, [message(b, data(1))]);
        pair.a.close(a).unwrap();
        pair.run();
        let again = pair.a.open(&key(1)).unwrap();
        assert_eq!(pair.run().1, [ConnectionEvent::DiscoveryKey(key(1).discovery_key())]);
        pair.b.open(&key(1)).unwrap();
        let (events, _) = pair.run();
        assert!(matches!(events[..], [ConnectionEvent::Opened { channel, .. }] if channel == again));
    }
}

#[test]
fn of_several_channels_for_a_core_the_first_is_answered() {
    for accept in [true, false] {
        let mut pair = Pair::connected();
        let first = pair.a.open(&key(1)).unwrap();
        let more = [super::PROTOCOL, super::PROTOCOL_ALIAS]
            .map(|protocol| open_once_more(&mut pair.a, protocol, &key(1)));
        let (_, events) = pair.run();
        let discovery_key = key(1).discovery_key();
        assert_eq!(events, [ConnectionEvent::DiscoveryKey(discovery_key)]);
        if accept {
            pair.b.open(&key(1)).unwrap();
        } else {
            pair.b.reject(&discovery_key).unwrap();
        }
        let (events, _) = pair.run();
        match events[..] {
            [ConnectionEvent::Opened { channel, .. }] if accept => assert_eq!(channel, first),
            [ConnectionEvent::Closed { channel, .. }] if !accept => assert_eq!(channel, first),
            _ => panic!("{events:?}"),
        }
        for second in more {
            assert_eq!(pair.a.mux.send(second, 2, b"x"), Err(protomux::Error::ChannelClosed));
        }
    }
}

#[test]
fn closing_is_told_once_on_both_sides_and_the_core_can_be_opened_again() {
    let mut pair = Pair::connected();
    let (a, b) = pair.open(&key(1));
    pair.a.close(a).unwrap();
    pair.a.close(a).unwrap();
    assert!(matches!(pair.a.send(a, data(1)), Err(Error::UnknownChannel)));
    let (events_a, events_b) = pair.run();
    let discovery_key = key(1).discovery_key();
    assert_eq!(events_a, [ConnectionEvent::Closed { channel: a, discovery_key, reason: CloseReason::Local }]);
    assert_eq!(
        events_b,
        [ConnectionEvent::Closed { channel: b, discovery_key, reason: CloseReason::Remote }]
    );
    let (again, _) = pair.open(&key(1));
    assert_ne!(a, again);
}

/// Who knows a discovery key (it is no secret) but not the key must not get a channel.
#[test]
fn a_wrong_capability_closes_the_channel() {
    let mut pair = Pair::connected();
    let wrong = key(9);
    let discovery_key = key(1).discovery_key();
    let forged = pair.b.channels.insert(super::Slot::core(wrong, discovery_key));
    pair.b.open_mux(forged).unwrap();
    let channel = pair.a.open(&key(1)).unwrap();
    let (a, _) = pair.run();
    assert_eq!(
        a,
        [
            ConnectionEvent::DiscoveryKey(discovery_key),
            ConnectionEvent::Closed { channel, discovery_key, reason: CloseReason::InvalidCapability }
        ][1..]
    );
    assert!(matches!(pair.a.send(channel, data(1)), Err(Error::UnknownChannel)));
    pair.open(&key(2));
}

#[test]
fn extension_names_are_shortened_on_the_wire_and_restored() {
    let mut pair = Pair::connected();
    let (a, b) = pair.open(&key(1));
    let said: Vec<_> = ["chat", "chat", "stats", "chat", "chat"]
        .into_iter()
        .map(|name| Message::Extension(Extension { name: name.into(), message: Bytes::from_static(b"x") }))
        .collect();
    for said in &said {
        pair.a.send(a, said.clone()).unwrap();
    }
    let (_, events) = pair.run();
    let heard: Vec<_> = said.into_iter().map(|said| message(b, said)).collect();
    assert_eq!(events, heard);
    let too_long = Extension { name: "x".repeat(2000), ..Default::default() };
    assert!(matches!(pair.a.send(a, Message::Extension(too_long)), Err(Error::ExtensionNameTooLong { .. })));
}

#[test]
fn user_defined_protocols_must_be_expected() {
    let mut pair = Pair::connected();
    let refused = pair.a.open_protocol("chat", None, None).unwrap();
    let (a, b) = pair.run();
    assert_eq!(a, [ConnectionEvent::ProtocolClosed { channel: refused, reason: CloseReason::Remote }]);
    assert_eq!(b, []);

    pair.b.expect_protocol("chat");
    let hello = Some(Bytes::from_static(b"hello"));
    let a = pair.a.open_protocol("chat", None, hello).unwrap();
    pair.a.send_protocol(a, 3, b"early").unwrap();
    let (_, events) = pair.run();
    let [ConnectionEvent::RemoteProtocol { protocol, id: None, handshake }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((protocol.as_str(), &handshake[..]), ("chat", &b"hello"[..]));
    let b = pair.b.open_protocol("chat", None, None).unwrap();
    let (events_a, events_b) = pair.run();
    assert_eq!(events_a, [ConnectionEvent::ProtocolOpened { channel: a, handshake: Bytes::new() }]);
    assert_eq!(
        events_b,
        [
            ConnectionEvent::ProtocolOpened { channel: b, handshake: Bytes::from_static(b"hello") },
            ConnectionEvent::ProtocolMessage { channel: b, kind: 3, payload: Bytes::from_static(b"early") },
        ]
    );
}

#[test]
fn what_the_remote_opens_is_bounded() {
    let mut pair = Pair::connected();
    pair.b.max_unpaired = 3;
    pair.a.max_channels = 10;
    let channels: Vec<_> = (0..10).map(|i| pair.a.open(&key(i)).unwrap()).collect();
    assert!(matches!(pair.a.open(&key(99)), Err(Error::TooManyChannels { limit: 10 })));
    let (a, b) = pair.run();
    assert_eq!(b.len(), 3);
    let closed: Vec<_> = a
        .iter()
        .map(|event| match event {
            ConnectionEvent::Closed { channel, reason: CloseReason::Remote, .. } => *channel,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(closed, channels[3..]);
}

#[test]
fn a_message_that_cannot_be_read_ends_the_connection() {
    let mut pair = Pair::connected();
    let (a, _) = pair.open(&key(1));
    let super::Phase::Open(mux) = pair.a.channels.get(a).unwrap().phase else { panic!() };
    pair.a.mux.send(mux, 17, b"unknown messages are ignored").unwrap();
    assert_eq!(pair.run(), (vec![], vec![]));
    pair.a.mux.send(mux, 3, &[1]).unwrap();
    let bytes = pair.a.poll_transmit().unwrap().unwrap();
    pair.b.receive(&bytes, pair.now).unwrap();
    assert!(matches!(pair.b.poll_event(), Err(Error::BadMessage { .. })));
}

#[test]
fn an_already_encrypted_stream_carries_messages() {
    let now = Instant::now();
    let side = |is_initiator| {
        let handshake = SecretHandshake {
            is_initiator,
            remote_public_key: [u8::from(is_initiator); 32],
            handshake_hash: [8; 64],
        };
        Connection::new(ConnectionOptions::framed(handshake), now).unwrap()
    };
    let (mut a, mut b) = (side(true), side(false));
    assert!(matches!(a.receive(b"bytes", now), Err(Error::WrongInput { .. })));
    let channel_a = a.open(&key(1)).unwrap();
    let channel_b = b.open(&key(1)).unwrap();
    let mut events = Vec::new();
    let mut said = false;
    loop {
        let (to_b, to_a) = (a.poll_transmit().unwrap(), b.poll_transmit().unwrap());
        if to_b.is_none() && to_a.is_none() {
            if said {
                break;
            }
            said = true;
            drain(&mut a);
            a.send(channel_a, data(100_000)).unwrap();
            continue;
        }
        b.receive_message(to_b.unwrap_or_default()).unwrap();
        a.receive_message(to_a.unwrap_or_default()).unwrap();
        events.extend(drain(&mut b));
    }
    assert_eq!(events[2], message(channel_b, data(100_000)));
}

#[test]
fn a_silent_remote_is_given_up_and_a_quiet_one_is_not() {
    let now = Instant::now();
    let timed = |is_initiator| {
        let mut options = ConnectionOptions::new(is_initiator, KeyPair::from_seed(&[1; 32]));
        let TransportOptions::Noise(noise) = &mut options.transport else { panic!() };
        noise.timeout = Some(Duration::from_secs(20));
        Connection::new(options, now).unwrap()
    };
    let mut pair = Pair { a: timed(true), b: timed(false), now, chunk: usize::MAX };
    pair.run();
    for _ in 0..20 {
        pair.now = pair.a.next_deadline().unwrap().min(pair.b.next_deadline().unwrap());
        pair.a.handle_timeout(pair.now).unwrap();
        pair.b.handle_timeout(pair.now).unwrap();
        assert_eq!(pair.run(), (vec![], vec![]));
    }
    // From here on nothing of the remote arrives any more.
    let cut = pair.now;
    let failed = loop {
        let now = pair.a.next_deadline().unwrap();
        if let Err(error) = pair.a.handle_timeout(now) {
            break (now, error);
        }
        while pair.a.poll_transmit().unwrap().is_some() {}
    };
    assert!(matches!(failed.1, Error::Stream(secret_stream::Error::TimedOut)));
    assert!(failed.0 - cut <= Duration::from_secs(20));
}

#[test]
fn the_remote_ends_in_an_orderly_way() {
    let mut pair = Pair::connected();
    pair.a.receive_end().unwrap();
    assert_eq!(drain(&mut pair.a), [ConnectionEvent::Ended]);
}

proptest::proptest! {
    #[test]
    fn garbage_instead_of_a_handshake_never_panics(input in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400)) {
        let mut pair = Pair::new();
        let _ = pair.b.receive(&input, pair.now);
        while let Ok(Some(_)) = pair.b.poll_event() {}
    }

    #[test]
    fn garbage_inside_the_encrypted_stream_never_panics(
        messages in proptest::collection::vec(proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60), 0..20)
    ) {
        let handshake = SecretHandshake { is_initiator: false, remote_public_key: [1; 32], handshake_hash: [2; 64] };
        let mut connection = Connection::new(ConnectionOptions::framed(handshake), Instant::now()).unwrap();
        connection.open(&key(1)).unwrap();
        // The remote has opened the same core properly; what follows is garbage on its channel and elsewhere.
        let mut remote = Connection::new(
            ConnectionOptions::framed(SecretHandshake { is_initiator: true, ..handshake }),
            Instant::now(),
        ).unwrap();
        remote.open(&key(1)).unwrap();
        while let Some(bytes) = remote.poll_transmit().unwrap() {
            connection.receive_message(bytes).unwrap();
        }
        for (i, message) in messages.into_iter().enumerate() {
            let mut bytes = if i % 2 == 0 { vec![1] } else { vec![] };
            bytes.extend(message);
            let received = connection.receive_message(bytes.into());
            while let Ok(Some(_)) = connection.poll_event() {}
            if received.is_err() {
                break;
            }
        }
        let _: Option<ChannelId> = connection.channel(&DiscoveryKey::from([0; 32]));
    }
}
