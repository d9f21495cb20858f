//! Two streams joined by plain memory, and one stream against whatever else may arrive.

use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use secret_stream::{Config, Error, Event, KeyPair, MAX_MESSAGE, Pattern, SecretStream};

const SECOND: Duration = Duration::from_secs(1);

fn key(n: u8) -> KeyPair {
    KeyPair::from_seed(&[n; 32])
}

fn config(is_initiator: bool, ik: bool) -> Config {
    let mut config = Config::new(is_initiator, key(if is_initiator { 1 } else { 2 }));
    if ik {
        config.pattern = Pattern::IK { remote_public_key: is_initiator.then(|| key(2).public) };
    }
    config
}

/// Both ends and the time they are told.
struct Pair {
    ends: [SecretStream; 2],
    now: Instant,
}

impl Pair {
    fn new(configs: [Config; 2]) -> Self {
        let now = Instant::now();
        Self { ends: configs.map(|config| SecretStream::new(config, now).unwrap()), now }
    }

    fn connected() -> Self {
        let mut pair = Self::new([config(true, false), config(false, false)]);
        pair.settle();
        for n in 0..2 {
            assert!(matches!(pair.events(n)[..], [Event::Connected { .. }]));
        }
        pair
    }

    fn settle(&mut self) {
        loop {
            let pieces = [self.wire(0), self.wire(1)];
            if pieces.iter().all(Vec::is_empty) {
                return;
            }
            for (n, piece) in pieces.iter().enumerate() {
                self.ends[1 - n].receive(piece, self.now).unwrap();
            }
        }
    }

    /// All that one end has for the other.
    fn wire(&mut self, n: usize) -> Vec<u8> {
        std::iter::from_fn(|| self.ends[n].poll_transmit()).flatten().collect()
    }

    fn events(&mut self, n: usize) -> Vec<Event> {
        std::iter::from_fn(|| self.ends[n].poll_event()).collect()
    }

    fn send(&mut self, n: usize, text: &[u8]) -> Vec<u8> {
        self.ends[n].send(text).unwrap();
        self.wire(n)
    }

    /// What the second end says to these bytes; it must be dead afterwards.
    fn refused(&mut self, bytes: &[u8]) -> Error {
        let error = self.ends[1].receive(bytes, self.now).unwrap_err();
        assert_eq!(self.ends[1].receive(b"x", self.now), Err(Error::Closed));
        assert_eq!(self.ends[1].send(b"x"), Err(Error::Closed));
        assert_eq!(self.ends[1].receive_end(), Err(Error::Closed));
        assert_eq!(self.ends[1].next_deadline(), None);
        assert!(!self.ends[1].is_connected());
        error
    }
}

fn text(message: &'static [u8]) -> Event {
    Event::Message(Bytes::from_static(message))
}

#[test]
fn both_patterns_tell_both_sides_the_same() {
    for ik in [false, true] {
        let mut pair = Pair::new([config(true, ik), config(false, ik)]);
        pair.settle();
        let (a, b) = (pair.events(0), pair.events(1));
        let (
            [
                Event::Connected {
                    remote_public_key: a_key,
                    handshake_hash: a_hash,
                    stream_id: a_id,
                    remote_stream_id: a_other,
                },
            ],
            [
                Event::Connected {
                    remote_public_key: b_key,
                    handshake_hash: b_hash,
                    stream_id: b_id,
                    remote_stream_id: b_other,
                },
            ],
        ) = (&a[..], &b[..])
        else {
            panic!("{a:?} {b:?}");
        };
        assert_eq!((*a_key, *b_key), (key(2).public, key(1).public));
        assert_eq!((a_hash, a_id, a_other), (b_hash, b_other, b_id));
        assert_eq!(pair.ends[0].handshake_hash(), Some(*a_hash));
        assert_eq!(pair.ends[0].remote_public_key(), Some(*a_key));
    }
}

#[test]
fn an_ik_initiator_needs_the_remote_key_and_the_right_one() {
    let mut lacking = config(true, true);
    lacking.pattern = Pattern::IK { remote_public_key: None };
    assert!(matches!(SecretStream::new(lacking, Instant::now()), Err(Error::Handshake(_))));

    let mut wrong = config(true, true);
    wrong.pattern = Pattern::IK { remote_public_key: Some(key(9).public) };
    let mut pair = Pair::new([wrong, config(false, true)]);
    let first = pair.wire(0);
    assert!(matches!(pair.refused(&first), Error::Handshake(_)));
    // Both must run the same pattern.
    let mut pair = Pair::new([config(true, true), config(false, false)]);
    let first = pair.wire(0);
    pair.ends[1].receive(&first, pair.now).unwrap();
    let second = pair.wire(1);
    assert!(matches!(pair.ends[0].receive(&second, pair.now), Err(Error::Handshake(_))));
}

#[test]
fn empty_messages_are_kept_unless_filtered() {
    let mut pair = Pair::connected();
    let wire = pair.send(0, b"");
    pair.ends[1].receive(&wire, pair.now).unwrap();
    assert_eq!(pair.events(1), [text(b"")]);

    let mut filtering = config(false, false);
    filtering.keep_alive = Some(SECOND);
    let mut pair = Pair::new([config(true, false), filtering]);
    pair.ends[0].send(b"").unwrap();
    pair.ends[0].send(b"x").unwrap();
    pair.settle();
    assert_eq!(pair.events(1)[1..], [text(b"x")]);
}

#[test]
fn changed_repeated_lost_and_reordered_frames_do_not_authenticate() {
    let one_two = |pair: &mut Pair| (pair.send(0, b"one"), pair.send(0, b"two"));
    let mut pair = Pair::connected();
    let (one, _) = one_two(&mut pair);
    let mut changed = one.clone();
    *changed.last_mut().unwrap() ^= 1;
    assert_eq!(pair.refused(&changed), Error::Authentication { index: 0 });

    let mut pair = Pair::connected();
    let (one, _) = one_two(&mut pair);
    let repeated = [one.clone(), one].concat();
    assert_eq!(pair.refused(&repeated), Error::Authentication { index: 1 });
    // What came before stays.
    assert_eq!(pair.events(1), [text(b"one")]);

    let mut pair = Pair::connected();
    let (one, two) = one_two(&mut pair);
    assert_eq!(pair.refused(&[two, one].concat()), Error::Authentication { index: 0 });
}

#[test]
fn frames_of_wrong_length_are_refused() {
    let mut pair = Pair::connected();
    assert_eq!(
        pair.refused(&[16, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6]),
        Error::FrameTooShort { len: 16, minimum: 17 }
    );
    let mut pair = Pair::connected();
    assert_eq!(pair.refused(&[0, 0, 0]), Error::FrameTooShort { len: 0, minimum: 17 });

    let mut pair = Pair::new([config(true, false), config(false, false)]);
    let len = 0x01_0000;
    assert_eq!(pair.refused(&[0, 0, 1]), Error::HandshakeFrameTooLarge { len, limit: 65535 });
    let mut pair = Pair::new([config(true, false), config(false, false)]);
    assert!(matches!(pair.refused(&[3, 0, 0, 1, 2, 3]), Error::Handshake(_)));
}

#[test]
fn a_header_of_another_handshake_is_refused() {
    // In an IK handshake the responder's answer and header come together: 3 + 48 bytes, then 3 + 56.
    let run = |change: fn(&mut Vec<u8>)| {
        let mut pair = Pair::new([config(false, true), config(true, true)]);
        let first = pair.wire(1);
        pair.ends[0].receive(&first, pair.now).unwrap();
        let mut second = pair.wire(0);
        assert_eq!(second.len(), 3 + 48 + 3 + 56);
        change(&mut second);
        pair.refused(&second)
    };
    assert_eq!(run(|wire| wire[60] ^= 1), Error::InvalidHeader);
    let expected = 56;
    assert_eq!(run(|wire| wire[51] = 55), Error::InvalidHeaderLength { len: 55, expected });
    assert_eq!(
        run(|wire| {
            wire[51] = 2;
            wire.truncate(56)
        }),
        Error::InvalidHeaderLength { len: 2, expected }
    );
}

#[test]
fn the_end_of_the_transport_is_clean_only_between_frames() {
    let mut pair = Pair::connected();
    let wire = pair.send(0, b"last");
    pair.ends[1].receive(&wire, pair.now).unwrap();
    pair.ends[1].receive_end().unwrap();
    assert_eq!(pair.events(1), [text(b"last"), Event::Closed]);
    assert_eq!(pair.ends[1].receive_end(), Err(Error::Closed));

    let mut pair = Pair::connected();
    let wire = pair.send(0, b"cut");
    pair.ends[1].receive(&wire[..wire.len() - 1], pair.now).unwrap();
    assert!(matches!(pair.ends[1].receive_end(), Err(Error::Truncated { .. })));
    assert_eq!(pair.events(1), []);

    let mut early = SecretStream::new(config(false, false), Instant::now()).unwrap();
    assert!(matches!(early.receive_end(), Err(Error::Truncated { .. })));
}

#[test]
fn what_is_sent_is_bounded() {
    let mut config = config(true, false);
    config.max_queued = 100;
    config.max_pending_transmit = 1000;
    let mut pair = Pair::new([config, Config::new(false, key(2))]);
    pair.ends[0].send(&[1; 60]).unwrap();
    assert_eq!(pair.ends[0].send(&[1; 60]), Err(Error::QueueFull { queued: 80, limit: 100 }));
    pair.settle();
    assert_eq!(pair.events(1)[1..], [Event::Message(vec![1; 60].into())]);

    let end = &mut pair.ends[0];
    end.send(&[2; 900]).unwrap();
    assert_eq!(end.send(&[2; 900]), Err(Error::TransmitFull { pending: 920, limit: 1000 }));
    assert_eq!(end.pending_transmit(), 920);
    assert_eq!(end.poll_transmit().unwrap().len(), 920);
    // Alone, even a message beyond the limit goes.
    end.send_parts(&[vec![2; 900], vec![2; 900]]).unwrap();
    let too_large = vec![0; MAX_MESSAGE + 1];
    assert_eq!(
        end.send(&too_large),
        Err(Error::MessageTooLarge { len: MAX_MESSAGE + 1, limit: MAX_MESSAGE })
    );
}

#[test]
fn keep_alives_fill_silence_and_silence_times_out() {
    let mut speaking = config(true, false);
    speaking.keep_alive = Some(4 * SECOND);
    let mut listening = config(false, false);
    listening.timeout = Some(5 * SECOND);
    listening.filter_empty_messages = true;
    let mut pair = Pair::new([speaking, listening]);
    pair.settle();
    for _ in 0..100 {
        pair.now += SECOND;
        for n in 0..2 {
            pair.ends[n].handle_timeout(pair.now).unwrap();
        }
        pair.settle();
    }
    assert!(matches!(pair.events(1)[..], [Event::Connected { .. }]));
    let deadline = pair.ends[1].next_deadline().unwrap();
    assert_eq!(pair.ends[1].handle_timeout(deadline), Err(Error::TimedOut));
    assert_eq!(pair.ends[1].handle_timeout(deadline + SECOND), Ok(()));
    assert_eq!(pair.ends[1].receive(&[], deadline), Err(Error::Closed));
}

#[test]
fn datagrams_travel_beside_the_stream() {
    let mut early = SecretStream::new(config(true, false), Instant::now()).unwrap();
    assert_eq!(early.seal_datagram(b"x"), Err(Error::Closed));
    assert_eq!(early.open_datagram(&[0; 40]), None);
    let mut pair = Pair::connected();
    let [a, b] = &mut pair.ends;
    let lost = a.seal_datagram(b"lost").unwrap();
    let datagram = a.seal_datagram(b"hello").unwrap();
    assert_eq!(b.open_datagram(&datagram).unwrap(), "hello");
    assert_eq!(a.open_datagram(&datagram), None);
    assert_eq!(b.open_datagram(&lost[1..]), None);
}

proptest! {
    // Handshakes are slow without optimisation.
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 16 } else { 256 }))]

    #[test]
    fn any_chunking_gives_the_same_messages(
        messages in proptest::collection::vec((any::<bool>(), 0usize..3000, any::<u8>()), 0..60),
        cuts in proptest::collection::vec(1usize..2000, 1..40),
        ik in any::<bool>(),
    ) {
        let mut pair = Pair::new([config(true, ik), config(false, ik)]);
        let mut expected = [Vec::new(), Vec::new()];
        let mut seen = [Vec::new(), Vec::new()];
        let mut cuts = cuts.iter().cycle();
        let mut messages = messages.into_iter();
        loop {
            let mut idle = true;
            if let Some((side, len, byte)) = messages.next() {
                idle = false;
                let text = vec![byte; len];
                let (head, tail) = text.split_at(len / 2);
                pair.ends[usize::from(side)].send_parts(&[head, tail]).unwrap();
                expected[usize::from(!side)].push(Bytes::from(text));
            }
            for n in 0..2 {
                let wire = pair.wire(n);
                idle &= wire.is_empty();
                let mut rest = &wire[..];
                while !rest.is_empty() {
                    let (chunk, tail) = rest.split_at((*cuts.next().unwrap()).min(rest.len()));
                    rest = tail;
                    pair.ends[1 - n].receive(chunk, pair.now).unwrap();
                    seen[1 - n].extend(pair.events(1 - n).into_iter().filter_map(|event| match event {
                        Event::Message(text) => Some(text),
                        _ => None,
                    }));
                }
            }
            if idle {
                break;
            }
        }
        prop_assert_eq!(seen, expected);
    }

    /// Any single change anywhere on the wire is noticed, or has cut off the rest: nothing but what was sent comes out.
    #[test]
    fn nothing_forged_comes_out(at in any::<prop::sample::Index>(), flip in 1u8..=255, ik in any::<bool>()) {
        let mut pair = Pair::new([config(true, ik), config(false, ik)]);
        let mut sent = 0;
        let mut seen = 0;
        let position = at.index(600);
        let mut passed = 0;
        for _ in 0..6 {
            let _ = pair.ends[0].send(&[7; 50]);
            sent += 1;
            for n in 0..2 {
                let mut wire = pair.wire(n);
                if n == 0 {
                    if let Some(byte) = position.checked_sub(passed).and_then(|place| wire.get_mut(place)) {
                        *byte ^= flip;
                    }
                    passed += wire.len();
                }
                let _ = pair.ends[1 - n].receive(&wire, pair.now);
                for event in pair.events(1 - n) {
                    if let Event::Message(text) = event {
                        prop_assert_eq!(&text[..], &[7; 50][..]);
                        seen += 1;
                    }
                }
            }
        }
        prop_assert!(seen <= sent);
    }

    #[test]
    fn garbage_never_panics(chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..10), connected in any::<bool>()) {
        let mut pair = if connected { Pair::connected() } else { Pair::new([config(true, true), config(false, true)]) };
        for chunk in chunks {
            let _ = pair.ends[1].receive(&chunk, pair.now);
            let _ = pair.ends[1].open_datagram(&chunk);
            prop_assert!(!pair.events(1).iter().any(|event| matches!(event, Event::Message(_))));
        }
    }
}
