//! Datagrams from anywhere: nothing panics, nothing grows without bound; relaying passes packets on unread.

use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;
use udx::packet::{self, HEADER_SIZE, Header};
use udx::{CloseReason, Config, Event, Packet, Path, StreamState};

fn path(remote_id: u32) -> Path {
    Path { remote_id, remote: ([127, 0, 0, 1], 4000).into(), socket: 0, link_mtu: None }
}

proptest! {
    #[test]
    fn headers_come_back(kind: u8, data_offset: u8, id: u32, window: u32, seq: u32, ack: u32) {
        let header = Header { kind, data_offset, id, window, seq, ack };
        let mut bytes = header.encode();
        prop_assert_eq!(Header::decode(&bytes), Some(header));
        prop_assert_eq!(packet::stream_id(&bytes), Some(id));
        packet::readdress(&mut bytes, 77);
        prop_assert_eq!(Header::decode(&bytes), Some(Header { id: 77, ..header }));
        for end in 0..HEADER_SIZE {
            prop_assert_eq!(Header::decode(&bytes[..end]), None);
        }
    }

    #[test]
    fn any_bytes_are_taken_apart_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600), fix: bool) {
        let mut bytes = bytes;
        if fix && bytes.len() > 1 {
            bytes[..2].copy_from_slice(&[packet::MAGIC, packet::VERSION]);
        }
        let length = bytes.len();
        if let Some(packet) = Packet::decode(Bytes::from(bytes)) {
            prop_assert!(packet.sacks().count() <= packet::MAX_SACKS.min((length - HEADER_SIZE) / 8));
            prop_assert!(packet.payload.is_none_or(|payload| payload.len() <= length - HEADER_SIZE));
        }
    }

    #[test]
    fn a_stream_takes_any_packets(
        packets in proptest::collection::vec(
            (any::<u8>(), prop_oneof![Just(0u8), any::<u8>()], any::<u32>(), -40i32..40, -40i32..40, 0usize..1400, 0u8..8),
            1..120,
        )
    ) {
        let mut now = Instant::now();
        let config = Config { receive_window: 30_000, ..Config::default() };
        let mut stream = StreamState::new(1, config, now);
        stream.write(Bytes::from(vec![1; 60_000]));
        stream.connect(path(2), now);
        let (mut buffer, mut read, mut held) = (Vec::new(), 0, 0);
        for (kind, data_offset, window, seq, ack, length, action) in packets {
            // Mostly without the flag that ends it all.
            let kind = if action > 0 { kind & !packet::DESTROY } else { kind };
            let header =
                Header { kind, data_offset, id: 1, window, seq: seq.cast_unsigned(), ack: ack.cast_unsigned() };
            let mut datagram = BytesMut::from(&header.encode()[..]);
            datagram.put_bytes(action, length);
            stream.receive(Packet::decode(datagram.freeze()).expect("a header"), now);
            held += length;
            if action > 3 {
                now += Duration::from_millis(u64::from(action) * 200);
                stream.handle_timeout(now);
                buffer.clear();
                while let Some(transmit) = stream.poll_transmit(now, 8, &mut buffer) {
                    prop_assert!(transmit.size > 0 && transmit.segment_size <= transmit.size);
                    prop_assert!(transmit.segment_size <= 1472);
                    prop_assert!(transmit.size.div_ceil(transmit.segment_size) <= 8);
                }
                let deadline = stream.next_deadline();
                prop_assert!(deadline.is_none_or(|at| at >= now), "a deadline that has passed makes a driver spin");
            }
            if action == 7 {
                while let Some(data) = stream.read() {
                    read += data.len();
                }
                prop_assert!(read <= held);
            }
            while stream.poll_message().is_some() {}
            while stream.poll_event().is_some() {}
        }
    }
}

/// Moves everything that `from` has to send to the streams it is for.
fn exchange(from: &mut StreamState, now: Instant, mut to: impl FnMut(&Path, Bytes)) {
    let mut buffer = Vec::new();
    while let Some(transmit) = from.poll_transmit(now, 10, &mut buffer) {
        for datagram in buffer.chunks(transmit.segment_size) {
            to(&transmit.path, Bytes::copy_from_slice(datagram));
        }
        buffer.clear();
    }
}

#[test]
fn a_relay_passes_packets_on_and_goes_with_the_stream() {
    let mut now = Instant::now();
    let stream = |id, remote| {
        let mut stream = StreamState::new(id, Config::default(), now);
        assert!(stream.connect(path(remote), now));
        stream
    };
    // a (1) <-> relay (10 | 20) <-> b (2)
    let (mut a, mut b) = (stream(1, 10), stream(2, 20));
    let mut relays = [stream(10, 1), stream(20, 2)];
    for relay in &mut relays {
        relay.set_relayed();
    }
    a.write(Bytes::from(vec![5; 300_000]));
    a.finish();
    b.write(Bytes::from_static(b"answer"));
    let (mut read_a, mut read_b) = (0, 0);
    for _ in 0..200 {
        now += Duration::from_millis(1);
        let mut pass = |through: usize, datagram: Bytes, receiver: &mut StreamState| {
            let packet = Packet::decode(datagram.clone()).expect("a UDX packet");
            assert_eq!(packet.header.id, relays[through].local_id());
            relays[through].relay(&packet, now);
            let onward = *relays[1 - through].path().expect("connected");
            let mut datagram = datagram.to_vec();
            packet::readdress(&mut datagram, onward.remote_id);
            assert_eq!(onward.remote_id, receiver.local_id());
            receiver.receive(Packet::decode(Bytes::from(datagram)).expect("a UDX packet"), now);
        };
        exchange(&mut a, now, |_, datagram| pass(0, datagram, &mut b));
        exchange(&mut b, now, |_, datagram| pass(1, datagram, &mut a));
        a.handle_timeout(now);
        b.handle_timeout(now);
        read_a += std::iter::from_fn(|| a.read()).map(|data| data.len()).sum::<usize>();
        read_b += std::iter::from_fn(|| b.read()).map(|data| data.len()).sum::<usize>();
        if b.read_ended() {
            b.destroy(now);
        }
    }
    assert_eq!((read_a, read_b), (6, 300_000));
    let events = |stream: &mut StreamState| std::iter::from_fn(|| stream.poll_event()).collect::<Vec<_>>();
    assert!(events(&mut b).contains(&Event::Closed(CloseReason::Destroyed)));
    assert!(events(&mut a).contains(&Event::Closed(CloseReason::Reset)));
    assert_eq!(
        events(&mut relays[1]),
        [Event::Closed(CloseReason::Reset)],
        "the packet destroyed it in passing"
    );
    relays[0].destroy(now);
    assert!(
        relays
            .iter_mut()
            .all(|relay| relay.is_drained() && relay.poll_transmit(now, 1, &mut Vec::new()).is_none())
    );
}

#[test]
fn messages_arrive_whole_and_the_queue_is_bounded() {
    let now = Instant::now();
    let (mut a, mut b) =
        (StreamState::new(1, Config::default(), now), StreamState::new(2, Config::default(), now));
    assert!(a.send_message(Bytes::from_static(b"too early")).is_err());
    a.connect(path(2), now);
    let most = a.max_message_size();
    assert_eq!(most, 1152);
    assert!(a.send_message(Bytes::from(vec![0; most + 1])).is_err());
    let mut taken = 0;
    while a.send_message(Bytes::from(vec![3; most])).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, udx::stream::MAX_QUEUED_MESSAGES);
    // b is not connected yet and takes them all the same.
    let mut receive = |datagram: Bytes| b.receive(Packet::decode(datagram).expect("a UDX packet"), now);
    exchange(&mut a, now, |_, datagram| receive(datagram));
    let messages: Vec<_> = std::iter::from_fn(|| b.poll_message()).collect();
    assert_eq!(messages.len(), taken);
    assert!(messages.iter().all(|message| message[..] == [3; 1152]));
    assert!(b.poll_transmit(now, 1, &mut Vec::new()).is_none(), "messages are not acknowledged");
}
