//! Honest peers in awkward moments: nobody's wish is forgotten, and nobody is asked for the same thing without end.

mod side;

use std::time::Duration;

use hypercore::demand::{Outcome, Reply, Want, WantOptions};
use hypercore::proof::Proof;
use hypercore_protocol::Message;
use hypercore_protocol::messages::{Data, NoData, Range, Request, Synchronize};
use hypercore_replicator::{Options, PeerId};
use side::Side;

const A: PeerId = PeerId(1);
const B: PeerId = PeerId(2);

fn synchronize(length: u64, fork: u64) -> Message {
    acknowledge(0, length, fork)
}

/// The same from one that knows how long the other's log is.
fn acknowledge(remote_length: u64, length: u64, fork: u64) -> Message {
    Message::Synchronize(Synchronize {
        length,
        fork,
        remote_length,
        can_upgrade: true,
        uploading: true,
        downloading: true,
        has_manifest: true,
        ..Synchronize::default()
    })
}

fn has(start: u64, length: u64, drop: bool) -> Message {
    Message::Range(Range { drop, start, length })
}

fn want(side: &mut Side, want: Want) -> Reply {
    let (_, reply) = side.demand.add(want, WantOptions::default()).unwrap();
    side.changed();
    reply
}

fn requests(side: &mut Side, peer: PeerId) -> Vec<Request> {
    let requests = side.transmit(peer).into_iter().filter_map(|message| match message {
        Message::Request(request) => Some(request),
        _ => None,
    });
    requests.collect()
}

fn blocks(requests: &[Request]) -> Vec<u64> {
    requests.iter().filter_map(|request| Some(request.proof.block.as_ref()?.index)).collect()
}

/// A reader that knows the first blocks of a writer's log, by having received them.
fn acquainted(writer: &mut Side, length: u64) -> Side {
    let mut reader = Side::reader(writer, Options::default());
    for side in [&mut *writer, &mut reader] {
        side.replicator.set_downloading(true, &mut side.core, &mut side.demand, side.now);
        side.open(A);
    }
    let mut reply = want(&mut reader, Want::Block { index: length - 1 });
    for _ in 0..10 {
        let to_reader = writer.transmit(A);
        reader.handle(A, to_reader);
        let to_writer = reader.transmit(A);
        writer.handle(A, to_writer);
    }
    assert!(reply.try_recv().unwrap().is_some_and(|outcome| outcome.is_ok()));
    assert_eq!(reader.core.length(), length);
    reader
}

#[test]
fn a_peer_that_was_silent_for_a_while_is_asked_again() {
    let mut writer = Side::writer(10);
    let mut reader = acquainted(&mut writer, 10);
    // One that has nothing.
    reader.open(B);
    reader.handle(B, vec![acknowledge(10, 10, 0)]);
    requests(&mut reader, B);
    let _reply = want(&mut reader, Want::Block { index: 7 });
    assert_eq!(blocks(&requests(&mut reader, A)), [7]);
    let given_up = reader.now + Duration::from_secs(60);
    while let Some(now) = reader.replicator.next_deadline().filter(|next| *next < given_up) {
        // A bit late, so that not everything happens at once.
        reader.now = now + Duration::from_millis(1);
        let now = reader.now;
        reader.replicator.handle_timeout(&mut reader.core, &mut reader.demand, now);
        requests(&mut reader, B);
        if blocks(&requests(&mut reader, A)) == [7] {
            return;
        }
    }
    panic!("nobody is asked any more for what is there");
}

#[test]
fn a_block_that_was_asked_of_another_fork_is_asked_for_again() {
    let writer = Side::writer(10);
    let mut reader = Side::reader(&writer, Options::default());
    let _reply = want(&mut reader, Want::Block { index: 7 });
    for peer in [A, B] {
        reader.open(peer);
        reader.handle(peer, vec![synchronize(10, 0), has(0, 10, false)]);
    }
    let mut asked = Vec::new();
    for peer in [A, B] {
        asked.extend(requests(&mut reader, peer).into_iter().map(|request| (peer, request)));
    }
    let (peer, first) = asked.iter().find(|(_, request)| request.proof.block.is_some()).unwrap();
    // It was truncated as it was asked.
    let proof = Proof { fork: 1, ..Proof::default() };
    reader.handle(*peer, vec![Message::Data(Data { request: first.id, proof })]);
    let other = if *peer == A { B } else { A };
    let again = [requests(&mut reader, other), requests(&mut reader, *peer)].concat();
    assert_eq!(blocks(&again), [7]);
}

#[test]
fn a_block_that_a_peer_lacks_says_nothing_of_the_log_behind_it() {
    let mut writer = Side::writer(4);
    let mut reader = acquainted(&mut writer, 4);
    let _reply = want(&mut reader, Want::Block { index: 5 });
    reader.handle(A, vec![acknowledge(4, 8, 0), has(4, 4, false)]);
    let asked = requests(&mut reader, A);
    assert_eq!(blocks(&asked), [5]);
    assert!(asked[0].proof.upgrade.is_some(), "both at once");
    reader.handle(A, vec![Message::NoData(NoData { request: asked[0].id, reason: 1 })]);
    let _update = want(&mut reader, Want::Upgrade { length: 8, fork: 0 });
    let asked = requests(&mut reader, A);
    let upgrade = asked.iter().find_map(|request| request.proof.upgrade).expect("it is asked for it alone");
    assert_eq!((upgrade.start, upgrade.length), (4, 4));
    assert_eq!(blocks(&asked), []);
}

#[test]
fn a_log_that_was_cut_to_nothing_is_not_asked_for_without_end() {
    let writer = Side::writer(3);
    let mut reader = Side::reader(&writer, Options::default());
    reader.open(A);
    reader.handle(A, vec![synchronize(0, 1)]);
    let _update = want(&mut reader, Want::Upgrade { length: 1, fork: 0 });
    for _ in 0..10 {
        for request in requests(&mut reader, A) {
            assert!(!request.proof.manifest, "its answer would be one of another fork");
        }
    }
}

#[test]
fn who_clears_what_is_being_fetched_has_not_lied() {
    let mut writer = Side::writer(100);
    let mut reader = acquainted(&mut writer, 100);
    let _replies: Vec<_> = (0..50).map(|index| want(&mut reader, Want::Block { index })).collect();
    let mut answered = 0;
    while answered < 1000 {
        let asked = requests(&mut reader, A);
        assert!(!asked.is_empty());
        answered += asked.len();
        // It says so, and then answers what was asked already.
        reader.handle(A, vec![has(0, 50, true)]);
        let no_data = |request: &Request| Message::NoData(NoData { request: request.id, reason: 1 });
        reader.handle(A, asked.iter().map(no_data).collect());
        assert!(!reader.misbehaved());
        // It has them once more.
        reader.handle(A, vec![has(0, 50, false)]);
    }
}

/// Lets two sides say all that they have to say to one another.
fn settle(writer: &mut Side, reader: &mut Side) {
    for _ in 0..20 {
        let to_reader = writer.transmit(A);
        reader.handle(A, to_reader);
        let to_writer = reader.transmit(A);
        writer.handle(A, to_writer);
    }
}

#[test]
fn forks_that_nobody_proves_are_in_nobodys_way() {
    for stay in [true, false] {
        let mut writer = Side::writer(10);
        let mut reader = acquainted(&mut writer, 10);
        for liar in (10..30).map(PeerId) {
            reader.open(liar);
            for n in 0..20 {
                reader.handle(liar, vec![synchronize(5, 1_000_000 + liar.0 * 100 + n)]);
                requests(&mut reader, liar);
            }
            if !stay {
                let Side { core, demand, replicator, now } = &mut reader;
                replicator.close_peer(liar, true, core, demand, *now);
            }
        }
        writer.core.truncate(5).unwrap();
        writer.changed();
        let _update = want(&mut reader, Want::Upgrade { length: 10, fork: 0 });
        settle(&mut writer, &mut reader);
        assert_eq!((reader.core.fork(), reader.core.length()), (1, 5));
    }
}

#[test]
fn a_fork_that_the_only_peer_cannot_prove_is_not_waited_for() {
    let mut writer = Side::writer(40);
    let mut reader = acquainted(&mut writer, 40);
    reader.replicator.close_peer(A, true, &mut reader.core, &mut reader.demand, reader.now);
    writer.core.truncate(21).unwrap();
    writer.core.append(&(0..7).map(|n| format!("new {n}").into()).collect::<Vec<_>>()).unwrap();
    // Somebody who follows the writer and has none of its blocks.
    reader.open(B);
    reader.handle(B, vec![synchronize(28, 1)]);
    let mut update = want(&mut reader, Want::Upgrade { length: 41, fork: 0 });
    let options = WantOptions { if_available: true, ..WantOptions::default() };
    let (_, mut get) = reader.demand.add(Want::Block { index: 3 }, options).unwrap();
    reader.changed();
    assert!(update.try_recv().unwrap().is_none() && get.try_recv().unwrap().is_none());
    let roots = requests(&mut reader, B).pop().unwrap();
    let proof = writer.core.prove(&roots.proof).unwrap();
    reader.handle(B, vec![Message::Data(Data { request: roots.id, proof })]);
    assert!(reader.transmit(B).iter().any(|message| matches!(message, Message::Want(_))));
    // It may say that it has some of them.
    assert!(update.try_recv().unwrap().is_none() && get.try_recv().unwrap().is_none());
    let given_up = reader.now + Options::default().patience;
    while let Some(now) = reader.replicator.next_deadline().filter(|next| *next < given_up) {
        reader.now = now;
        reader.replicator.handle_timeout(&mut reader.core, &mut reader.demand, now);
    }
    assert!(get.try_recv().unwrap().is_some_and(|outcome| outcome.is_err()));
    assert!(matches!(update.try_recv().unwrap(), Some(Ok(Outcome::Upgrade(false)))));
    // And nobody waits once it has said that it cannot.
    reader.handle(B, vec![has(0, 28, false)]);
    let search = requests(&mut reader, B).pop().unwrap();
    let mut update = want(&mut reader, Want::Upgrade { length: 41, fork: 0 });
    assert!(update.try_recv().unwrap().is_none());
    reader.handle(B, vec![Message::NoData(NoData { request: search.id, reason: 1 })]);
    assert!(matches!(update.try_recv().unwrap(), Some(Ok(Outcome::Upgrade(false)))));
}

#[test]
fn who_never_answers_an_offered_channel_keeps_nobody_waiting() {
    let mut writer = Side::writer(4);
    let mut reader = acquainted(&mut writer, 4);
    let options = WantOptions { if_available: true, ..WantOptions::default() };
    // Somebody who speaks no Hypercore, or whose program hangs.
    reader.replicator.channel_opening(reader.now);
    let add = |reader: &mut Side, want| {
        let (_, reply) = reader.demand.add(want, options).unwrap();
        reader.changed();
        reply
    };
    let mut update = add(&mut reader, Want::Upgrade { length: 5, fork: 0 });
    let mut get = add(&mut reader, Want::Block { index: 9 });
    assert!(update.try_recv().unwrap().is_none() && get.try_recv().unwrap().is_none());
    let given_up = reader.now + 2 * Options::default().patience;
    while let Some(now) = reader.replicator.next_deadline().filter(|next| *next < given_up) {
        reader.now = now;
        reader.replicator.handle_timeout(&mut reader.core, &mut reader.demand, now);
        requests(&mut reader, A);
        if update.try_recv().unwrap().is_some() {
            assert!(get.try_recv().unwrap().is_some_and(|outcome| outcome.is_err()));
            return;
        }
    }
    panic!("they wait for ever");
}
