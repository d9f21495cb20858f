//! Two sides, and single sides against bytes as npm `protomux` 3 writes them.

use bytes::Bytes;
use proptest::prelude::*;

use crate::{ChannelId, Error, Event, Limits, OpenOptions, Protomux};

fn topic(protocol: &str, id: &'static [u8]) -> OpenOptions {
    OpenOptions { id: Some(Bytes::from_static(id)), ..OpenOptions::new(protocol) }
}

/// Everything that waits, in one piece each.
fn sent(mux: &mut Protomux) -> Vec<Bytes> {
    std::iter::from_fn(|| mux.poll_transmit()).map(|transmit| transmit.into_bytes()).collect()
}

fn events(mux: &mut Protomux) -> Vec<Event> {
    std::iter::from_fn(|| mux.poll_event().unwrap()).collect()
}

fn receive(mux: &mut Protomux, message: &'static [u8]) -> Result<(), Error> {
    mux.receive(Bytes::from_static(message))
}

/// Exchanges messages until both sides are silent.
fn settle(a: &mut Protomux, b: &mut Protomux) {
    loop {
        let (to_b, to_a) = (sent(a), sent(b));
        if to_b.is_empty() && to_a.is_empty() {
            return;
        }
        to_b.into_iter().for_each(|message| b.receive(message).unwrap());
        to_a.into_iter().for_each(|message| a.receive(message).unwrap());
    }
}

fn assert_nothing_kept(mux: &mut Protomux) {
    while mux.poll_event().unwrap().is_some() {}
    assert!(mux.topics.is_empty() && mux.locals.is_empty() && mux.remotes.is_empty());
}

#[test]
fn open_and_close_have_the_bytes_of_js() {
    let mut mux = Protomux::new();
    let channel =
        mux.open(OpenOptions { handshake: Some(Bytes::from_static(b"hs")), ..topic("foo", b"id") }).unwrap();
    mux.send(channel, 1, b"hi").unwrap();
    mux.close(channel).unwrap();
    assert_eq!(
        sent(&mut mux),
        [&b"\x00\x01\x01\x03foo\x02idhs"[..], &b"\x01\x01hi"[..], &b"\x00\x03\x01"[..]]
    );
}

#[test]
fn a_batch_has_the_bytes_of_js() {
    let mut mux = Protomux::new();
    let a = mux.open(OpenOptions::new("a")).unwrap();
    let b = mux.open(OpenOptions::new("b")).unwrap();
    sent(&mut mux);
    mux.cork();
    mux.send(a, 0, b"1").unwrap();
    mux.send(a, 7, b"22").unwrap();
    mux.cork();
    mux.send(b, 0, b"3").unwrap();
    mux.uncork();
    assert!(sent(&mut mux).is_empty());
    mux.close(a).unwrap();
    mux.uncork();
    assert_eq!(
        sent(&mut mux),
        [&b"\x00\x00\x01\x02\x001\x03\x0722\x00\x02\x02\x003\x00\x00\x02\x03\x01"[..]]
    );
    mux.uncork();
    mux.send(b, 0, b"4").unwrap();
    assert_eq!(sent(&mut mux), [&b"\x02\x004"[..]]);
}

#[test]
fn long_payloads_are_not_copied_and_batches_stay_below_the_limit() {
    let mut mux = Protomux::with_limits(Limits { max_batch: 20_000, ..Limits::default() });
    let channel = mux.open(OpenOptions::new("a")).unwrap();
    sent(&mut mux);
    let block = Bytes::from(vec![7; 8000]);
    mux.cork();
    for _ in 0..5 {
        mux.send_parts(channel, 0, &[Bytes::from_static(b"head"), block.clone()]).unwrap();
    }
    mux.send_parts(channel, 0, &[Bytes::from(vec![8; 30_000])]).unwrap();
    mux.uncork();
    let mut lens = Vec::new();
    while let Some(transmit) = mux.poll_transmit() {
        lens.push(transmit.len());
        assert_eq!(transmit.len(), transmit.parts().iter().map(Bytes::len).sum::<usize>());
        for part in transmit.parts().iter().filter(|part| part.len() == 8000) {
            assert_eq!(part.as_ptr(), block.as_ptr());
        }
    }
    assert_eq!(lens, [3 + 2 * 8008, 3 + 2 * 8008, 3 + 8008, 30_002]);
    assert_eq!(mux.queued_bytes(), 0);
}

#[test]
fn remote_open_waits_for_an_answer_with_its_messages() {
    let (mut a, mut b) = (Protomux::new(), Protomux::new());
    let on_a = a.open(OpenOptions { handshake: Some("hey".into()), ..topic("p", b"k") }).unwrap();
    a.send(on_a, 0, b"early").unwrap();
    a.send(on_a, 9, b"ignored").unwrap();
    settle(&mut a, &mut b);
    assert_eq!(
        events(&mut b),
        [Event::RemoteOpen { protocol: "p".into(), id: Some("k".into()), handshake: "hey".into() }]
    );
    let on_b = b.open(OpenOptions { messages: 2, ..topic("p", b"k") }).unwrap();
    a.send(on_a, 1, b"late").unwrap();
    settle(&mut a, &mut b);
    let message = |kind, text: &'static str| Event::Message { channel: on_b, kind, payload: text.into() };
    assert_eq!(
        events(&mut b),
        [Event::Opened { channel: on_b, handshake: "hey".into() }, message(0, "early"), message(1, "late")]
    );
    assert_eq!(events(&mut a), [Event::Opened { channel: on_a, handshake: Bytes::new() }]);
    assert!(a.is_open("p", Some(b"k")) && !a.is_open("p", None));
    assert!(matches!(a.open(topic("p", b"k")), Err(Error::AlreadyOpen { .. })));

    a.send(on_a, 0, b"last").unwrap();
    a.close(on_a).unwrap();
    settle(&mut a, &mut b);
    assert_eq!(b.send(on_b, 0, b"too late"), Err(Error::ChannelClosed));
    assert_eq!(events(&mut b), [message(0, "last"), Event::Closed { channel: on_b, is_remote: true }]);
    assert_eq!(events(&mut a), [Event::Closed { channel: on_a, is_remote: false }]);
    assert_eq!(a.close(on_a), Err(Error::ChannelClosed));
    assert_nothing_kept(&mut a);
    assert_nothing_kept(&mut b);
}

#[test]
fn reject_closes_and_frees_the_id() {
    let (mut a, mut b) = (Protomux::new(), Protomux::new());
    let first = a.open(topic("p", b"k")).unwrap();
    settle(&mut a, &mut b);
    events(&mut b);
    b.reject("p", Some(b"k")).unwrap();
    b.reject("p", Some(b"k")).unwrap();
    settle(&mut a, &mut b);
    assert_eq!(events(&mut a), [Event::Closed { channel: first, is_remote: true }]);
    let second = a.open(topic("p", b"k")).unwrap();
    assert_ne!(first, second);
    assert_eq!(first.wire(), second.wire());
    settle(&mut a, &mut b);
    assert!(matches!(events(&mut b)[..], [Event::RemoteOpen { .. }]));
}

/// A message of the stream may hold far more than what is kept of it.
#[test]
fn what_waits_for_an_answer_keeps_nothing_else() {
    let mut mux = Protomux::new();
    let open = Bytes::from(b"\x00\x01\x01\x01p\x00handshake".to_vec());
    mux.receive(open.clone()).unwrap();
    let batch =
        Bytes::from([&b"\x00\x00\x01\x03\x00hi\x00\x09\xfe\x00\x10\x00\x00"[..], &[0; 4096]].concat());
    mux.receive(batch.clone()).unwrap();
    assert!(matches!(events(&mut mux)[..], [Event::RemoteOpen { .. }]));
    assert!(open.is_unique() && batch.is_unique());
    let channel = mux.open(OpenOptions::new("p")).unwrap();
    let opened = Event::Opened { channel, handshake: "handshake".into() };
    assert_eq!(events(&mut mux), [opened, Event::Message { channel, kind: 0, payload: "hi".into() }]);
}

#[test]
fn all_that_wait_are_rejected_at_once() {
    let mut mux = Protomux::new();
    for open in [&b"\x00\x01\x01\x01p\x00"[..], b"\x00\x01\x02\x01p\x00", b"\x00\x01\x03\x01q\x00"] {
        receive(&mut mux, open).unwrap();
    }
    mux.reject_all("p", None).unwrap();
    mux.reject_all("r", None).unwrap();
    assert_eq!(sent(&mut mux), [&b"\x00\x02\x01"[..], b"\x00\x02\x02"]);
    assert!(matches!(&events(&mut mux)[..], [Event::RemoteOpen { protocol, .. }] if protocol == "q"));
    mux.reject_all("q", None).unwrap();
    assert_nothing_kept(&mut mux);
}

#[test]
fn several_channels_of_one_topic_pair_in_order() {
    let (mut a, mut b) = (Protomux::new(), Protomux::new());
    let options = || OpenOptions { unique: false, ..topic("p", b"k") };
    let on_a = [a.open(options()).unwrap(), a.open(options()).unwrap()];
    settle(&mut a, &mut b);
    assert_eq!(events(&mut b).len(), 2);
    let on_b = [b.open(options()).unwrap(), b.open(options()).unwrap()];
    a.send(on_a[0], 0, b"first").unwrap();
    a.send(on_a[1], 0, b"second").unwrap();
    settle(&mut a, &mut b);
    let got: Vec<_> = events(&mut b).into_iter().filter(|e| matches!(e, Event::Message { .. })).collect();
    let message = |channel, text: &'static str| Event::Message { channel, kind: 0, payload: text.into() };
    assert_eq!(got, [message(on_b[0], "first"), message(on_b[1], "second")]);
}

#[test]
fn an_alias_answers_whoever_opens_first() {
    let aliased = || OpenOptions { aliases: vec!["old".into()], ..topic("new", b"k") };
    for remote_first in [true, false] {
        let (mut a, mut b) = (Protomux::new(), Protomux::new());
        let early = (!remote_first).then(|| a.open(aliased()).unwrap());
        receive(&mut a, b"\x00\x01\x01\x03old\x01k").unwrap();
        let channel = early.unwrap_or_else(|| a.open(aliased()).unwrap());
        let got = events(&mut a);
        assert!(got.contains(&Event::Opened { channel, handshake: Bytes::new() }), "{got:?}");
        a.close(channel).unwrap();
        assert_nothing_kept(&mut a);
        assert_nothing_kept(&mut b);
    }
}

#[test]
fn what_the_owner_closed_says_nothing_more() {
    let (mut a, mut b) = (Protomux::new(), Protomux::new());
    let on_a = a.open(topic("p", b"k")).unwrap();
    let on_b = b.open(topic("p", b"k")).unwrap();
    settle(&mut a, &mut b);
    events(&mut a);
    b.send(on_b, 0, b"unseen").unwrap();
    b.close(on_b).unwrap();
    settle(&mut a, &mut b);
    // The remote's close has arrived but was not told yet.
    a.close(on_a).unwrap();
    assert_eq!(a.close(on_a), Err(Error::ChannelClosed));
    assert_eq!(events(&mut a), [Event::Closed { channel: on_a, is_remote: true }]);
    assert!(sent(&mut a).is_empty());
    assert_nothing_kept(&mut a);
}

#[test]
fn a_close_that_js_overlooked_is_repeated() {
    let mut mux = Protomux::new();
    let channel = mux.open(topic("p", b"k")).unwrap();
    mux.close(channel).unwrap();
    sent(&mut mux);
    // The id stays in use until the remote has answered.
    let next = mux.open(topic("q", b"k")).unwrap();
    assert_eq!(next.wire(), 2);
    sent(&mut mux);
    receive(&mut mux, b"\x00\x01\x01\x01p\x01k").unwrap();
    assert_eq!(sent(&mut mux), [&b"\x00\x03\x01"[..]]);
    assert_eq!(mux.open(topic("p", b"k")).unwrap().wire(), 1);
}

#[test]
fn a_close_before_the_answer_is_rejected_and_forgotten() {
    let mut mux = Protomux::new();
    receive(&mut mux, b"\x00\x01\x01\x01p\x01k").unwrap();
    receive(&mut mux, b"\x01\x00message").unwrap();
    receive(&mut mux, b"\x00\x03\x01").unwrap();
    assert_eq!(sent(&mut mux), [&b"\x00\x02\x01"[..]]);
    assert_eq!(events(&mut mux), []);
    assert_nothing_kept(&mut mux);
}

#[test]
fn what_js_tolerates_is_tolerated() {
    let mut mux = Protomux::new();
    receive(&mut mux, b"").unwrap();
    receive(&mut mux, b"\x05\x00unknown channel").unwrap();
    receive(&mut mux, b"\x00\x63unknown kind").unwrap();
    receive(&mut mux, b"\x00\x03\x09").unwrap();
    receive(&mut mux, b"\x00\x03\x00").unwrap();
    receive(&mut mux, b"\x00\x00\x05\x00\x06\x02\x00x").unwrap();
    assert_eq!(events(&mut mux), []);
    // A last message in a batch that is cut short.
    let channel = mux.open(OpenOptions::new("p")).unwrap();
    receive(&mut mux, b"\x00\x01\x01\x01p\x00").unwrap();
    receive(&mut mux, b"\x00\x00\x01\x09\x00cut").unwrap();
    let message = Event::Message { channel, kind: 0, payload: "cut".into() };
    assert_eq!(events(&mut mux).last(), Some(&message));
    sent(&mut mux);
    // The control channel itself is not to be opened.
    receive(&mut mux, b"\x00\x01\x00\x01p\x00").unwrap();
    assert_eq!(sent(&mut mux), [&b"\x00\x02\x00"[..]]);
}

#[test]
fn what_js_refuses_is_refused() {
    let refused = |bytes: &'static [u8]| receive(&mut Protomux::new(), bytes).unwrap_err();
    assert!(matches!(refused(b"\x01"), Error::Decode(_)));
    assert!(matches!(refused(b"\x00\x01\x02\x01p\x00"), Error::InvalidOpen { remote_id: 2 }));
    assert!(matches!(refused(b"\x00\x01\x01\x09p"), Error::Decode(_)));
    assert!(matches!(refused(b"\x00\x02\x01"), Error::InvalidReject { local_id: 1 }));
    let mut mux = Protomux::new();
    receive(&mut mux, b"\x00\x01\x01\x01p\x00").unwrap();
    assert_eq!(receive(&mut mux, b"\x00\x01\x01\x01q\x00"), Err(Error::InvalidOpen { remote_id: 1 }));
}

#[test]
fn remote_queues_are_bounded() {
    let limits = Limits { max_pending_opens: 2, ..Limits::default() };
    let mut mux = Protomux::with_limits(limits);
    receive(&mut mux, b"\x00\x01\x01\x01p\x00").unwrap();
    assert!(!mux.is_paused());
    for _ in 0..64 {
        receive(&mut mux, b"\x01\x00message").unwrap();
    }
    assert!(mux.is_paused());
    receive(&mut mux, b"\x00\x01\x02\x01q\x00").unwrap();
    assert_eq!(receive(&mut mux, b"\x00\x01\x03\x01r\x00"), Err(Error::TooManyPendingOpens { limit: 2 }));
    mux.reject("p", None).unwrap();
    assert!(!mux.is_paused());

    let limits = Limits { max_pending_bytes: 1000, ..Limits::default() };
    let mut mux = Protomux::with_limits(limits);
    receive(&mut mux, b"\x00\x01\x01\x01p\x00").unwrap();
    receive(&mut mux, b"\x01\x00").unwrap();
    assert!(matches!(receive(&mut mux, b"\x01\x00"), Err(Error::TooMuchPending { .. })));

    let mut mux = Protomux::with_limits(Limits { max_remote_channels: 1, ..Limits::default() });
    receive(&mut mux, b"\x00\x01\x01\x01p\x00").unwrap();
    assert_eq!(receive(&mut mux, b"\x00\x01\x02\x01q\x00"), Err(Error::TooManyRemoteChannels { limit: 1 }));

    let mut mux = Protomux::new();
    let mut open = |id: u32| {
        let id = [&[0xfd][..], &(id as u16).to_le_bytes()].concat();
        mux.receive([b"\x00\x01", &id[..], b"\x01p\x00"].concat().into())
    };
    (1..=1024).for_each(|id| open(id).unwrap());
    assert_eq!(open(1025), Err(Error::TooManyPendingOpens { limit: 1024 }));

    let mut mux = Protomux::with_limits(Limits { max_events: 10, max_unread: 100, ..Limits::default() });
    let _ = mux.open(OpenOptions::new("p")).unwrap();
    receive(&mut mux, b"\x00\x01\x01\x01p\x00").unwrap();
    let batch = Bytes::from([b"\x00\x00\x01".to_vec(), b"\x01\x00".repeat(60)].concat());
    mux.receive(batch.clone()).unwrap();
    assert_eq!(mux.receive(batch.clone()), Err(Error::TooMuchUnread { unread: 123, limit: 100 }));
    assert_eq!(events(&mut mux).len(), 61);
    mux.receive(batch).unwrap();
}

/// A tiny message takes four bytes of a batch, and many times as many as an event.
#[test]
fn a_batch_becomes_events_in_portions() {
    let mut mux = Protomux::with_limits(Limits { max_events: 10, ..Limits::default() });
    let _ = mux.open(OpenOptions::new("p")).unwrap();
    receive(&mut mux, b"\x00\x01\x01\x01p\x00").unwrap();
    // Messages, two of them in a batch within the batch, and a channel that is opened and closed behind them.
    let message = |n: u8| [&[3, 0][..], &[n, n]].concat();
    let mut batch = b"\x00\x00\x01".to_vec();
    batch.extend((0..100).flat_map(message));
    batch.extend(
        b"\x00\x00\x09\x00\x01".iter().chain(&message(100)[..3]).chain(&[100]).chain(b"\x02\x00\x65"),
    );
    batch.extend(b"\x05\x01\x02\x01q\x00\x00\x01");
    batch.extend((102..120).flat_map(message));
    batch.extend(b"\x00\x00\x02\x03\x02\x02\x03\x01");
    mux.receive(batch.into()).unwrap();
    // What comes behind it waits for its turn.
    receive(&mut mux, b"\x01\x00\x00").unwrap();
    receive(&mut mux, b"\x01").unwrap();
    let mut heard = Vec::new();
    let failed = loop {
        assert!(mux.events.len() <= 10);
        match mux.poll_event() {
            Ok(Some(Event::Message { payload, .. })) => heard.push(payload[0]),
            Ok(Some(Event::Opened { .. })) => {}
            Ok(Some(Event::RemoteOpen { .. })) => heard.push(200),
            Ok(Some(Event::Closed { .. })) => heard.push(201),
            Ok(None) => panic!("it ends with an error"),
            Err(error) => break error,
        }
    };
    let expected = (0..102).chain([200]).chain(102..120).chain([201]);
    assert_eq!(heard, expected.collect::<Vec<u8>>());
    assert!(matches!(failed, Error::Decode(_)));
    assert_eq!(mux.poll_event(), Ok(None));
}

#[test]
fn nested_batches_do_not_exhaust_the_stack() {
    let mut message = b"\x05\x00".to_vec();
    for _ in 0..100_000 {
        let mut outer = vec![0, 0, 0];
        outer.extend_from_slice(&[0xfe]);
        outer.extend_from_slice(&u32::try_from(message.len()).unwrap().to_le_bytes());
        // Each level is the batch of one message on the control channel: kind 0, channel 0, that message.
        if message.len() > 4000 {
            break;
        }
        outer.extend_from_slice(&message);
        message = outer[1..].to_vec();
    }
    let whole = [vec![0], message].concat();
    assert_eq!(Protomux::new().receive(whole.into()), Err(Error::BatchTooDeep { limit: 8 }));
}

#[test]
fn transmit_is_bounded() {
    let mut mux = Protomux::with_limits(Limits { max_queued: 1000, ..Limits::default() });
    let channel = mux.open(OpenOptions::new("p")).unwrap();
    sent(&mut mux);
    mux.send(channel, 0, &[0; 900]).unwrap();
    assert!(matches!(mux.send(channel, 0, &[0; 200]), Err(Error::TransmitFull { .. })));
    assert_eq!(mux.queued_bytes(), 902);
    sent(&mut mux);
    mux.send(channel, 0, &[0; 200]).unwrap();
    let huge = Bytes::from(vec![0; 1 << 24]);
    assert!(matches!(mux.send_parts(channel, 0, &[huge]), Err(Error::MessageTooLarge { .. })));
}

/// What one side of a random run does.
#[derive(Debug, Clone)]
enum Step {
    Open {
        side: bool,
        topic: u8,
        unique: bool,
    },
    Close {
        side: bool,
        which: usize,
    },
    Send {
        side: bool,
        which: usize,
        len: usize,
    },
    Cork {
        side: bool,
    },
    Uncork {
        side: bool,
    },
    /// Hands over one message.
    Deliver {
        to: bool,
    },
    /// Polls one event; a remote open is answered with yes or no.
    Poll {
        side: bool,
        accept: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let side = any::<bool>;
    prop_oneof![
        2 => (side(), 0u8..3, any::<bool>()).prop_map(|(side, topic, unique)| Step::Open { side, topic, unique }),
        2 => (side(), any::<usize>()).prop_map(|(side, which)| Step::Close { side, which }),
        4 => (side(), any::<usize>(), 0usize..5000).prop_map(|(side, which, len)| Step::Send { side, which, len }),
        1 => side().prop_map(|side| Step::Cork { side }),
        1 => side().prop_map(|side| Step::Uncork { side }),
        6 => side().prop_map(|to| Step::Deliver { to }),
        6 => (side(), any::<bool>()).prop_map(|(side, accept)| Step::Poll { side, accept }),
    ]
}

#[derive(Default)]
struct Side {
    mux: Protomux,
    wire: std::collections::VecDeque<Bytes>,
    channels: Vec<ChannelId>,
    serial: u32,
    /// Of each channel: the last number received and whether it is still to be heard of.
    heard: std::collections::HashMap<ChannelId, (Option<u32>, bool)>,
}

impl Side {
    fn open(&mut self, topic: u8, unique: bool) {
        let options =
            OpenOptions { unique, id: Some(Bytes::copy_from_slice(&[topic])), ..OpenOptions::new("p") };
        if let Ok(channel) = self.mux.open(options) {
            self.channels.push(channel);
            self.heard.insert(channel, (None, true));
        }
    }

    fn poll(&mut self, accept: bool) -> bool {
        match self.mux.poll_event().unwrap() {
            None => return false,
            Some(Event::RemoteOpen { id, .. }) => {
                let topic = id.unwrap()[0];
                if accept {
                    self.open(topic, false);
                } else {
                    self.mux.reject("p", Some(&[topic])).unwrap();
                }
            }
            Some(Event::Message { channel, payload, .. }) => {
                let number = u32::from_le_bytes(*payload.first_chunk().unwrap());
                let (last, open) = self.heard.get_mut(&channel).unwrap();
                assert!(*open && last.is_none_or(|last| last < number));
                *last = Some(number);
            }
            Some(Event::Opened { channel, .. }) => assert!(self.heard[&channel].1),
            Some(Event::Closed { channel, .. }) => {
                let (_, open) = self.heard.get_mut(&channel).unwrap();
                assert!(std::mem::take(open));
                self.channels.retain(|other| *other != channel);
            }
        }
        true
    }

    fn collect(&mut self) {
        self.wire.extend(sent(&mut self.mux));
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(messages in proptest::collection::vec(proptest::collection::vec(0u8..12, 0..60), 0..60)) {
        let mut mux = Protomux::new();
        let channel = mux.open(OpenOptions::new("\u{1}")).unwrap();
        for message in messages {
            let _ = mux.receive(message.into());
            let _ = mux.send(channel, 0, b"x");
        }
        while let Ok(Some(_)) = mux.poll_event() {}
    }

    #[test]
    fn any_bytes_never_panic(message in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Protomux::new().receive(message.into());
    }

    /// Two sides that open, close, send and reject in any order, with any delay on the wire, never disagree, and
    /// nothing is left when all is closed.
    #[test]
    fn two_sides_never_disagree(steps in proptest::collection::vec(step(), 0..300)) {
        let mut sides = [Side::default(), Side::default()];
        for step in steps {
            match step {
                Step::Open { side, topic, unique } => sides[usize::from(side)].open(topic, unique),
                Step::Close { side, which } => {
                    let side = &mut sides[usize::from(side)];
                    if !side.channels.is_empty() {
                        let _ = side.mux.close(side.channels[which % side.channels.len()]);
                    }
                }
                Step::Send { side, which, len } => {
                    let side = &mut sides[usize::from(side)];
                    if !side.channels.is_empty() {
                        side.serial += 1;
                        let number = Bytes::copy_from_slice(&side.serial.to_le_bytes());
                        let channel = side.channels[which % side.channels.len()];
                        let _ = side.mux.send_parts(channel, 0, &[number, Bytes::from(vec![1; len])]);
                    }
                }
                Step::Cork { side } => sides[usize::from(side)].mux.cork(),
                Step::Uncork { side } => sides[usize::from(side)].mux.uncork(),
                Step::Deliver { to } => {
                    let from = &mut sides[usize::from(!to)];
                    from.collect();
                    if let Some(message) = from.wire.pop_front() {
                        sides[usize::from(to)].mux.receive(message).unwrap();
                    }
                }
                Step::Poll { side, accept } => { sides[usize::from(side)].poll(accept); }
            }
        }
        for side in &mut sides {
            (0..300).for_each(|_| side.mux.uncork());
        }
        loop {
            let mut moved = false;
            for n in 0..2 {
                for channel in std::mem::take(&mut sides[n].channels) {
                    let _ = sides[n].mux.close(channel);
                }
                sides[n].collect();
                while let Some(message) = sides[n].wire.pop_front() {
                    sides[1 - n].mux.receive(message).unwrap();
                    moved = true;
                }
                while sides[1 - n].poll(false) {
                    moved = true;
                }
            }
            if !moved {
                break;
            }
        }
        for side in &mut sides {
            prop_assert_eq!(side.mux.queued_bytes(), 0);
            prop_assert!(side.heard.values().all(|(_, open)| !open));
            assert_nothing_kept(&mut side.mux);
        }
    }
}
