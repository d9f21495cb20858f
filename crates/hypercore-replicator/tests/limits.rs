//! What one peer may cost, and what it gets.

mod side;

use std::time::Duration;

use bytes::Bytes;
use hypercore::demand::{DownloadRange, Outcome, Want, WantOptions};
use hypercore::proof::{ProofRequest, RequestBlock, RequestUpgrade};
use hypercore_protocol::Message;
use hypercore_protocol::messages::{self, Data, Range, Request, Synchronize};
use hypercore_replicator::{CloseReason, Event, Options, PeerId};

use side::Side;

const PEER: PeerId = PeerId(1);

fn synchronize(length: u64) -> Message {
    Message::Synchronize(Synchronize {
        length,
        can_upgrade: true,
        uploading: true,
        downloading: true,
        ..Synchronize::default()
    })
}

fn request(id: u64, index: u64) -> Message {
    let block = Some(RequestBlock { index, nodes: 0 });
    let upgrade = Some(RequestUpgrade { start: 0, length: index + 1 });
    let proof = ProofRequest { block, upgrade, ..ProofRequest::default() };
    Message::Request(Request { id, fork: 0, proof, priority: 0 })
}

#[test]
fn requests_wait_in_a_bounded_queue() {
    let mut writer = Side::writer(10);
    writer.open(PEER);
    writer.replicator.set_writable(PEER, false);
    let max = Options::default().max_queued_requests as u64;
    writer.handle(PEER, (1..=max).map(|id| request(id, id % 10)).collect());
    assert!(!writer.transmit(PEER).iter().any(|message| matches!(message, Message::Data(_))));
    assert!(!writer.misbehaved());
    writer.handle(PEER, vec![request(max + 1, 0)]);
    assert!(writer.misbehaved());
    assert!(writer.transmit(PEER).is_empty());
}

#[test]
fn wants_wait_in_a_bounded_queue() {
    let mut writer = Side::writer(10);
    writer.core.clear(3..4).unwrap();
    writer.open(PEER);
    writer.replicator.set_writable(PEER, false);
    let want = |start| Message::Want(messages::Want { start, length: 32, any: false });
    writer.handle(PEER, vec![want(0); 10_000]);
    assert!(!writer.misbehaved(), "the same want again is the same want");
    writer.handle(PEER, (0..10_000).map(|index| want(index * 32)).collect());
    assert!(writer.misbehaved());
}

#[test]
fn requests_that_make_no_sense_are_refused_and_in_the_end_not_heard() {
    let mut writer = Side::writer(10);
    writer.open(PEER);
    let senseless = |id| {
        let upgrade = Some(RequestUpgrade { start: 20, length: 5 });
        let proof = ProofRequest { upgrade, ..ProofRequest::default() };
        Message::Request(Request { id, fork: 0, proof, priority: 0 })
    };
    writer.handle(PEER, vec![synchronize(0), senseless(1)]);
    let refused = writer.transmit(PEER).into_iter().any(|message| match message {
        Message::NoData(no_data) => (no_data.request, no_data.reason) == (1, 2),
        _ => false,
    });
    assert!(refused);
    assert!(!writer.misbehaved());
    writer.handle(PEER, (2..100).map(senseless).collect());
    writer.transmit(PEER);
    assert!(writer.misbehaved());
}

#[test]
fn a_peer_that_does_not_read_costs_little() {
    let mut writer = Side::writer(10);
    writer.open(PEER);
    for _ in 0..3_000 {
        writer.core.append(&["more".into()]).unwrap();
        writer.changed();
        let length = writer.core.length();
        writer.core.clear(length - 2..length - 1).unwrap();
        writer.changed();
    }
    let waiting = writer.transmit(PEER);
    assert!(waiting.len() < 600, "{}", waiting.len());
    let state = waiting.iter().find_map(|message| match message {
        Message::Synchronize(sync) => Some(sync.length),
        _ => None,
    });
    assert_eq!(state, Some(writer.core.length()), "only the newest state is told");
}

#[test]
fn a_peer_that_names_fork_after_fork_and_does_not_read_costs_little() {
    let writer = Side::writer(10);
    let mut reader = Side::reader(&writer, Options::default());
    reader.open(PEER);
    for fork in 1..10_000 {
        let sync = Synchronize { fork, length: 5, uploading: true, downloading: true, ..Default::default() };
        reader.handle(PEER, vec![Message::Synchronize(sync)]);
    }
    let waiting = reader.transmit(PEER).len();
    assert!(waiting < 3_000, "{waiting}");
}

/// Each time blocks go, what is there has to be asked anew.
#[test]
fn a_peer_that_drops_blocks_again_and_again_and_does_not_read_costs_little() {
    let mut writer = Side::writer(10);
    let mut reader = Side::reader(&writer, Options::default());
    for side in [&mut writer, &mut reader] {
        side.replicator.set_downloading(true, &mut side.core, &mut side.demand, side.now);
        side.open(PEER);
    }
    let block = |reader: &mut Side, index| {
        let (_, reply) = reader.demand.add(Want::Block { index }, WantOptions::default()).unwrap();
        reader.changed();
        reply
    };
    let _last = block(&mut reader, 9);
    for _ in 0..10 {
        let to_reader = writer.transmit(PEER);
        reader.handle(PEER, to_reader);
        let to_writer = reader.transmit(PEER);
        writer.handle(PEER, to_writer);
    }
    // Another one, which is never asked for a block as it says that it has none.
    let other = PeerId(2);
    let drop = || vec![Message::Range(Range { drop: true, start: 0, length: 10 })];
    reader.open(other);
    reader.handle(other, vec![synchronize(10)]);
    reader.handle(PEER, drop());
    let _reply = block(&mut reader, 5);
    for _ in 0..10_000 {
        reader.handle(other, drop());
    }
    let waiting = reader.transmit(other);
    assert!(waiting.len() < 3_000, "{}", waiting.len());
    assert!(waiting.iter().any(|message| matches!(message, Message::Want(_))));
    // Once it reads it is asked as ever.
    reader.handle(other, drop());
    assert!(matches!(reader.transmit(other)[..], [Message::Want(_)]));
}

/// The first answer is late, and those behind it build on it.
#[test]
fn answers_that_wait_for_an_earlier_one_take_so_many_bytes_and_no_more() {
    const SIZE: usize = 5 << 18;
    const BLOCKS: u64 = 64;
    let mut writer = Side::writer(0);
    let blocks: Vec<Bytes> = (0..BLOCKS).map(|index| vec![index as u8; SIZE].into()).collect();
    writer.core.append(&blocks).unwrap();
    let mut reader = Side::reader(&writer, Options::default());
    for side in [&mut writer, &mut reader] {
        side.replicator.set_downloading(true, &mut side.core, &mut side.demand, side.now);
        side.open(PEER);
    }
    let _known = reader.demand.add(Want::Upgrade { length: 0, fork: 0 }, WantOptions::default()).unwrap();
    reader.changed();
    for _ in 0..10 {
        let to_reader = writer.transmit(PEER);
        reader.handle(PEER, to_reader);
        let to_writer = reader.transmit(PEER);
        writer.handle(PEER, to_writer);
    }
    assert_eq!(reader.core.length(), BLOCKS);

    let range = DownloadRange::new(0, BLOCKS).linear();
    let (_, _reply) = reader.demand.add(Want::Range(range), WantOptions::default()).unwrap();
    reader.changed();
    let (mut late, mut frames) = (None, Vec::new());
    while reader.replicator.stats().stale == 0 {
        let requests = reader.transmit(PEER);
        writer.handle(PEER, requests);
        let answers = writer.transmit(PEER);
        assert!(!answers.is_empty(), "{:?}", reader.replicator.stats());
        for mut answer in answers {
            if late.is_none() && matches!(answer, Message::Data(_)) {
                late = Some(answer);
                continue;
            }
            if let Message::Data(Data { proof, .. }) = &mut answer
                && let Some(block) = &mut proof.block
            {
                // As it comes from a connection: a part of a frame.
                let frame = Bytes::from([&[0; 16], &block.value[..]].concat());
                block.value = frame.slice(16..);
                frames.push(frame);
            }
            reader.handle(PEER, vec![answer]);
        }
    }
    let waiting = frames.len() as u64 - reader.replicator.stats().stale;
    assert!((45..=51).contains(&waiting), "{waiting} of {SIZE} bytes");
    assert!(frames.iter().all(Bytes::is_unique), "what peers sent is kept whole");
    // Nothing is lost by it.
    reader.handle(PEER, late.into_iter().collect());
    for _ in 0..20 {
        let requests = reader.transmit(PEER);
        writer.handle(PEER, requests);
        let answers = writer.transmit(PEER);
        reader.handle(PEER, answers);
    }
    assert_eq!(reader.core.contiguous_length(), BLOCKS);
}

#[test]
fn peers_take_turns() {
    let mut writer = Side::writer(100);
    let peers = [PeerId(1), PeerId(2), PeerId(3)];
    for peer in peers {
        writer.open(peer);
        let count = if peer == PeerId(1) { 2_000 } else { 50 };
        writer.handle(peer, (1..=count).map(|id| request(id, id % 100)).collect());
    }
    let mut answers = [0; 3];
    for _ in 0..150 + 6 {
        let (peer, message) = writer.replicator.poll_transmit(&mut writer.core).unwrap();
        if matches!(message, Message::Data(_)) {
            answers[peer.0 as usize - 1] += 1;
        }
    }
    assert_eq!(answers, [50, 50, 50]);
}

#[test]
fn what_is_pushed_is_taken_only_when_it_is_welcome() {
    for allow_push in [false, true] {
        let writer = Side::writer(4);
        let mut reader = Side::reader(&writer, Options { allow_push, ..Options::default() });
        reader.replicator.set_downloading(true, &mut reader.core, &mut reader.demand, reader.now);
        reader.open(PEER);
        let told = reader.transmit(PEER).into_iter().any(|message| match message {
            Message::Synchronize(sync) => sync.allow_push,
            _ => false,
        });
        assert_eq!(told, allow_push);
        let block = Some(RequestBlock { index: 2, nodes: 0 });
        let upgrade = Some(RequestUpgrade { start: 0, length: 4 });
        let request = ProofRequest { block, upgrade, manifest: true, ..ProofRequest::default() };
        let mut proof = writer.core.prove(&request).unwrap();
        reader.handle(PEER, vec![synchronize(4), Message::Data(Data { request: 0, proof: proof.clone() })]);
        assert_eq!(reader.core.has(2).unwrap(), allow_push);
        let upgrade = ProofRequest { upgrade, manifest: true, ..ProofRequest::default() };
        let known = reader.core.receive(vec![writer.core.prove(&upgrade).unwrap()]).pop().unwrap();
        assert!(known.is_ok() || allow_push);
        reader.changed();
        let nodes = reader.core.missing_nodes(0).unwrap();
        let block = Some(RequestBlock { index: 0, nodes });
        proof = writer.core.prove(&ProofRequest { block, ..ProofRequest::default() }).unwrap();
        reader.handle(PEER, vec![Message::Data(Data { request: 0, proof })]);
        assert_eq!(reader.core.has(0).unwrap(), allow_push);
    }
}

#[test]
fn an_update_waits_for_those_who_are_being_looked_for() {
    let writer = Side::writer(4);
    let mut reader = Side::reader(&writer, Options::default());
    let Side { core, demand, replicator, now } = &mut reader;
    replicator.set_finding_peers(true, core, demand, *now);
    let want = Want::Upgrade { length: 0, fork: 0 };
    let (_, mut reply) = demand.add(want.clone(), WantOptions::default()).unwrap();
    replicator.core_changed(core, demand, *now);
    assert!(reply.try_recv().unwrap().is_none());
    replicator.set_finding_peers(false, core, demand, *now);
    assert_eq!(reply.try_recv().unwrap().unwrap().unwrap(), Outcome::Upgrade(false));

    replicator.channel_opening(*now);
    let (_, mut reply) = demand.add(want, WantOptions::default()).unwrap();
    replicator.core_changed(core, demand, *now);
    assert!(reply.try_recv().unwrap().is_none());
    replicator.channel_answered(core, demand, *now);
    assert_eq!(reply.try_recv().unwrap().unwrap().unwrap(), Outcome::Upgrade(false));
}

/// Three peers have nothing newer, and a fourth one has not said yet what it has.
#[test]
fn what_asks_all_peers_waits_for_the_last_of_them() {
    let writer = Side::writer(4);
    let mut reader = Side::reader(&writer, Options::default());
    let idle =
        || Message::Synchronize(Synchronize { uploading: true, can_upgrade: true, ..Default::default() });
    for peer in [1, 2, 3].map(PeerId) {
        reader.open(peer);
        reader.handle(peer, vec![idle()]);
    }
    let upgrade = Want::Upgrade { length: 0, fork: 0 };
    let all = WantOptions { if_available: true, ..WantOptions::default() };
    let add = |reader: &mut Side, want: &Want, options| {
        let (_, reply) = reader.demand.add(want.clone(), options).unwrap();
        reader.changed();
        reply
    };
    let mut first = add(&mut reader, &upgrade, WantOptions::default());
    assert_eq!(first.try_recv().unwrap().unwrap().unwrap(), Outcome::Upgrade(false));
    let mut now = add(&mut reader, &upgrade, all);
    assert_eq!(now.try_recv().unwrap().unwrap().unwrap(), Outcome::Upgrade(false), "nobody else is there");

    // Its channel is being opened, then open, and then it has said what it has.
    reader.replicator.channel_opening(reader.now);
    let mut late = add(&mut reader, &upgrade, all);
    let mut block = add(&mut reader, &Want::Block { index: 2 }, all);
    let mut first = add(&mut reader, &upgrade, WantOptions::default());
    assert_eq!(first.try_recv().unwrap().unwrap().unwrap(), Outcome::Upgrade(false), "three speak for all");
    assert!(late.try_recv().unwrap().is_none() && block.try_recv().unwrap().is_none());
    reader.open(PeerId(4));
    let Side { core, demand, replicator, now } = &mut reader;
    replicator.channel_answered(core, demand, *now);
    assert!(late.try_recv().unwrap().is_none() && block.try_recv().unwrap().is_none());
    reader.handle(PeerId(4), vec![idle()]);
    assert!(late.try_recv().unwrap().is_none(), "it is asked whether that is all");
    reader.handle(PeerId(4), vec![NOTHING]);
    assert_eq!(late.try_recv().unwrap().unwrap().unwrap(), Outcome::Upgrade(false));
    assert!(block.try_recv().unwrap().unwrap().is_err());
}

/// What a peer without blocks answers to a want.
const NOTHING: Message = Message::Range(Range { drop: false, start: 0, length: 0 });

#[test]
fn a_peer_is_asked_for_the_sake_of_each_update_and_not_waited_for_long() {
    let writer = Side::writer(4);
    let mut reader = Side::reader(&writer, Options::default());
    reader.replicator.set_downloading(true, &mut reader.core, &mut reader.demand, reader.now);
    reader.open(PEER);
    reader.handle(PEER, vec![Message::Synchronize(Synchronize { uploading: true, ..Default::default() })]);
    let update = |reader: &mut Side| {
        let all = WantOptions { if_available: true, ..WantOptions::default() };
        let (_, reply) = reader.demand.add(Want::Upgrade { length: 0, fork: 0 }, all).unwrap();
        reader.changed();
        reply
    };
    let is_asked = |reader: &mut Side| {
        let wants = reader.transmit(PEER).into_iter().filter(|message| matches!(message, Message::Want(_)));
        wants.count() == 1
    };
    let mut first = update(&mut reader);
    assert!(is_asked(&mut reader));
    // The answer may have been on its way when this one came.
    let mut second = update(&mut reader);
    assert!(!is_asked(&mut reader));
    reader.handle(PEER, vec![NOTHING]);
    assert_eq!(first.try_recv().unwrap().unwrap().unwrap(), Outcome::Upgrade(false));
    assert!(second.try_recv().unwrap().is_none() && is_asked(&mut reader));
    // It says no more: that is not waited for, now or later.
    reader.now = reader.replicator.next_deadline().unwrap();
    let Side { core, demand, replicator, now } = &mut reader;
    replicator.handle_timeout(core, demand, *now);
    assert_eq!(second.try_recv().unwrap().unwrap().unwrap(), Outcome::Upgrade(false));
    let mut third = update(&mut reader);
    assert_eq!(third.try_recv().unwrap().unwrap().unwrap(), Outcome::Upgrade(false));
}

#[test]
fn a_peer_that_does_not_read_is_not_asked_without_end() {
    let writer = Side::writer(4);
    let mut reader = Side::reader(&writer, Options::default());
    reader.replicator.set_downloading(true, &mut reader.core, &mut reader.demand, reader.now);
    reader.open(PEER);
    reader.handle(PEER, vec![Message::Synchronize(Synchronize { uploading: true, ..Default::default() })]);
    for _ in 0..1_000 {
        let all = WantOptions { if_available: true, ..WantOptions::default() };
        let _update = reader.demand.add(Want::Upgrade { length: 0, fork: 0 }, all).unwrap();
        reader.changed();
        reader.now += Duration::from_secs(2);
        let Side { core, demand, replicator, now } = &mut reader;
        replicator.handle_timeout(core, demand, *now);
    }
    let waiting = reader.transmit(PEER).len();
    assert!((10..100).contains(&waiting), "{waiting}");
}

#[test]
fn a_peer_that_only_went_to_sleep_is_called_again() {
    let writer = Side::writer(4);
    let mut reader = Side::reader(&writer, Options::default());
    reader.open(PEER);
    let idle = Synchronize { uploading: true, length: 4, ..Synchronize::default() };
    let (_, _reply) = reader.demand.add(Want::Block { index: 9 }, WantOptions::default()).unwrap();
    reader.handle(PEER, vec![Message::Synchronize(idle)]);
    let Side { core, demand, replicator, now } = &mut reader;
    assert!(replicator.close_peer(PEER, true, core, demand, *now));
    assert!(!replicator.close_peer(PEER, true, core, demand, *now), "it is gone");
}

#[test]
fn nobody_in_need_means_the_channel_is_closed() {
    let mut writer = Side::writer(4);
    writer.open(PEER);
    let idle = Synchronize { uploading: true, length: 4, ..Synchronize::default() };
    writer.handle(PEER, vec![Message::Synchronize(idle)]);
    let closed = writer.events().into_iter().any(|event| match event {
        Event::Close { reason, .. } => reason == CloseReason::Idle,
        _ => false,
    });
    assert!(closed);
}

#[test]
fn a_silent_peer_is_not_waited_for_when_another_one_can_help() {
    let writer = Side::writer(4);
    let mut reader = Side::reader(&writer, Options::default());
    let (silent, other) = (PeerId(1), PeerId(2));
    let has_all = Message::Range(Range { drop: false, start: 0, length: 4 });
    reader.open(silent);
    reader.handle(silent, vec![synchronize(4), has_all.clone()]);
    let asked =
        |messages: Vec<Message>| messages.into_iter().any(|message| matches!(message, Message::Request(_)));
    assert!(asked(reader.transmit(silent)));
    reader.open(other);
    reader.handle(other, vec![synchronize(4), has_all]);
    assert!(!asked(reader.transmit(other)), "one upgrade at a time");
    reader.now = reader.replicator.next_deadline().unwrap() + Duration::from_secs(4);
    let Side { core, demand, replicator, now } = &mut reader;
    replicator.handle_timeout(core, demand, *now);
    assert!(asked(reader.transmit(other)));
}

/// npm `hypercore` announces no block that it takes the other side to have. After a cut that is wrong: the reader
/// still had blocks of the old history when new ones were appended in their place, and was never told of them. A
/// download from JS 10 then waited for ever.
#[test]
fn a_peer_that_announces_nothing_is_asked_again() {
    let writer = Side::writer(40);
    let mut reader = Side::reader(&writer, Options::default());
    reader.open(PEER);
    let has_all = Message::Range(Range { drop: false, start: 0, length: 40 });
    reader.handle(PEER, vec![synchronize(40), has_all]);
    let upgrade = Some(RequestUpgrade { start: 0, length: 40 });
    let request = ProofRequest { upgrade, manifest: true, ..ProofRequest::default() };
    let upgrade = writer.core.prove(&request).unwrap();
    reader.transmit(PEER);
    reader.handle(PEER, vec![Message::Data(Data { request: 1, proof: upgrade })]);
    assert_eq!(reader.core.length(), 40);
    let gone = Message::Range(Range { drop: true, start: 20, length: 20 });
    reader.handle(PEER, vec![gone.clone()]);
    let (_, _reply) = reader.demand.add(Want::Block { index: 30 }, WantOptions::default()).unwrap();
    reader.changed();
    let asks = |messages: Vec<Message>| {
        messages.iter().filter(|message| matches!(message, Message::Want(_))).count()
    };
    assert_eq!(asks(reader.transmit(PEER)), 1);
    reader.handle(PEER, vec![gone]);
    assert_eq!(asks(reader.transmit(PEER)), 1, "after blocks went, what is there has to be asked anew");

    let mut times = Vec::new();
    for _ in 0..10 {
        let before = reader.now;
        reader.now = reader.replicator.next_deadline().unwrap();
        let Side { core, demand, replicator, now } = &mut reader;
        replicator.handle_timeout(core, demand, *now);
        // Whatever it answers, it is not asked more often for that.
        let answer = Message::Range(Range { drop: false, start: 0, length: 20 });
        replicator.handle(PEER, vec![answer], core, demand, *now);
        assert_eq!(asks(reader.transmit(PEER)), 1);
        times.push((reader.now - before).as_secs());
    }
    assert_eq!(times, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
}
