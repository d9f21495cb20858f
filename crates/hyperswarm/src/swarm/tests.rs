use std::time::Duration;

use super::simulation::{Knobs, World};
use super::{Action, DialOutcome, QueryKind, Swarm};
use crate::{JoinError, JoinOptions, QueryOutcome, SwarmOptions};

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

fn topic(number: usize) -> [u8; 32] {
    let mut topic = [0; 32];
    topic[..8].copy_from_slice(&(number as u64).to_le_bytes());
    topic
}

/// Joins every node to some of the topics, in one of the three ways, within some seconds.
fn scatter(world: &mut World, topics: usize, each: usize) {
    for node in 0..world.nodes.len() {
        for _ in 0..each {
            let number = world.random.below(topics);
            let options = match world.random.below(4) {
                0 => JoinOptions::SERVER,
                1 => JoinOptions::CLIENT,
                _ => JoinOptions::default(),
            };
            if world.nodes[node].topics.iter().all(|(joined, _)| *joined != topic(number)) {
                world.join(node, topic(number), options);
            }
        }
        let pause = world.random.up_to(SECOND / 20);
        world.run_until(world.elapsed() + pause);
    }
}

#[test]
fn two_who_join_at_the_same_moment_meet_within_seconds() {
    for seed in 0..200 {
        let mut world = World::new(seed, 2, Knobs::default());
        world.join(0, topic(1), JoinOptions::default());
        world.join(1, topic(1), JoinOptions::default());
        world.run_until(10 * SECOND);
        world.assert_connected();
        let opened = world.nodes.iter().map(|node| node.swarm.as_ref().unwrap().stats().server_opened);
        assert!(opened.sum::<u64>() >= 1);
    }
}

#[test]
fn everyone_who_shares_a_topic_ends_up_connected_once() {
    let mut duplicates = 0;
    for seed in 0..200 {
        let (nodes, topics) = if seed % 50 == 0 { (200, 60) } else { (40, 12) };
        let mut world = World::new(seed, nodes, Knobs::default());
        scatter(&mut world, topics, 3);
        // Who looked before the other was announced looks again, or is looked for when the announcement is renewed.
        world.run_until(15 * MINUTE);
        world.assert_connected();
        duplicates +=
            world.nodes.iter().map(|node| node.swarm.as_ref().unwrap().stats().duplicates).sum::<u64>();
    }
    assert!(duplicates > 200, "both sides dialled at the same time {duplicates} times");
}

#[test]
fn through_crashes_restarts_and_refused_dials() {
    for seed in 0..100 {
        let knobs =
            Knobs { dials_refused: 300, queries_failed: 200, bad_until: 30 * MINUTE, ..Knobs::default() };
        let (nodes, topics) = if seed % 50 == 0 { (200, 60) } else { (40, 12) };
        let mut world = World::new(seed, nodes, knobs);
        scatter(&mut world, topics, 3);
        for node in 0..world.nodes.len() {
            for _ in 0..world.random.below(4) {
                let at = world.random.up_to(25 * MINUTE);
                let pause = world.random.up_to(2 * MINUTE);
                world.crash_at(node, at);
                if world.random.below(10) > 0 {
                    world.restart_at(node, at + pause);
                }
            }
        }
        world.run_until(30 * MINUTE + 45 * MINUTE);
        world.assert_connected();
    }
}

#[test]
fn hundreds_of_swarms_on_one_topic_keep_to_their_limits() {
    let options = SwarmOptions { max_peers: 8, ..SwarmOptions::default() };
    let mut world = World::new(7, 300, Knobs { options, ..Knobs::default() });
    for node in 0..300 {
        world.join(node, topic(1), JoinOptions::default());
    }
    world.run_until(10 * MINUTE);
    for node in &world.nodes {
        let swarm = node.swarm.as_ref().unwrap();
        let dialled = node.open.keys().filter(|key| swarm.peer(key).is_some_and(|peer| peer.client)).count();
        assert!(dialled <= 8, "{dialled}");
        assert!(!node.open.is_empty());
    }
}

#[test]
fn ten_thousand_topics_are_announced_in_an_orderly_way() {
    let mut world = World::new(1, 1, Knobs::default());
    for number in 0..10_000 {
        world.join(0, topic(number), JoinOptions::SERVER);
    }
    let all = world.with(0, |swarm, now| swarm.flush(now));
    // A topic that somebody waits for does not wait for the others.
    let last = world.with(0, |swarm, now| swarm.flush_topic(&topic(9_999), false, now));
    world.run_until(SECOND);
    assert_eq!(world.nodes[0].done.get(&last), Some(&true));
    assert!(!world.nodes[0].done.contains_key(&all));
    // 200 ms for a query and 128 at a time are 640 in a second.
    world.run_until(30 * SECOND);
    assert_eq!(world.nodes[0].done.get(&all), Some(&true));
    assert_eq!((world.announces, world.records.len()), (10_000, 10_000));
    assert!(world.most_queries <= 128, "{}", world.most_queries);
    // They come again one by one, spread over two minutes.
    world.run_until(10 * MINUTE);
    assert_eq!(world.announces, 10_000);
    world.most_queries = 0;
    world.run_until(13 * MINUTE);
    assert!((19_000..=20_100).contains(&world.announces), "{}", world.announces);
    assert!(world.most_queries <= 64, "{}", world.most_queries);
    // And all are taken back in the end.
    let gone = world.with(0, |swarm, now| swarm.destroy(now));
    world.run_until(14 * MINUTE);
    assert_eq!(world.nodes[0].done.get(&gone), Some(&true));
    assert!(world.records.values().all(|records| records.is_empty()));
    assert_eq!(world.nodes[0].swarm.as_ref().unwrap().topic_count(), 0);
}

#[test]
fn a_machine_that_slept_does_not_announce_everything_at_once() {
    let mut world = World::new(1, 1, Knobs::default());
    for number in 0..1_000 {
        world.join(0, topic(number), JoinOptions::SERVER);
    }
    world.run_until(MINUTE);
    assert_eq!(world.announces, 1_000);
    // An hour without a call.
    world.now += 60 * MINUTE;
    world.with(0, |swarm, now| swarm.handle_timeout(now));
    let next = world.nodes[0].swarm.as_ref().unwrap().next_deadline().unwrap();
    assert!(next > world.now);
    world.most_queries = 0;
    world.run_until(world.elapsed() + 3 * MINUTE);
    assert_eq!(world.announces, 2_000);
    assert!(world.most_queries < 32, "{}", world.most_queries);
}

#[test]
fn a_topic_that_is_left_is_unannounced_and_can_be_joined_again() {
    for seed in 0..50 {
        let mut world = World::new(seed, 2, Knobs::default());
        let joined = world.with(0, |swarm, now| swarm.join(topic(1), JoinOptions::default(), now)).unwrap();
        let again = world.with(0, |swarm, now| swarm.join(topic(1), JoinOptions::CLIENT, now)).unwrap();
        let some = world.random.up_to(SECOND);
        world.run_until(some);
        // The client's session stays: only the announcement goes.
        let ended = world.with(0, |swarm, now| swarm.end_session(joined, now));
        world.run_until(some + 5 * SECOND);
        assert!(world.nodes[0].done.contains_key(&ended));
        assert!(world.records.get(&topic(1)).is_none_or(|records| records.is_empty()));
        let status = world.nodes[0].swarm.as_ref().unwrap().topic(&topic(1)).unwrap();
        assert!(!status.server && status.client && !status.announced);
        let ended = world.with(0, |swarm, now| swarm.end_session(again, now));
        assert_eq!(world.nodes[0].done.get(&ended), Some(&true));
        assert!(world.nodes[0].swarm.as_ref().unwrap().topic(&topic(1)).is_none());
        // Joined while it is still being left.
        world.join(0, topic(2), JoinOptions::default());
        let pause = world.random.up_to(SECOND);
        world.run_until(world.elapsed() + pause);
        let left = world.with(0, |swarm, now| swarm.leave(topic(2), now));
        let pause = world.random.up_to(SECOND / 2);
        world.run_until(world.elapsed() + pause);
        world.join(0, topic(2), JoinOptions::default());
        world.join(1, topic(2), JoinOptions::default());
        world.run_until(world.elapsed() + 15 * SECOND);
        assert!(world.nodes[0].done.contains_key(&left));
        world.assert_connected();
    }
}

#[test]
fn flush_ends_when_those_who_were_found_are_connected() {
    for seed in 0..50 {
        let mut world = World::new(seed, 8, Knobs::default());
        for node in 1..8 {
            world.join(node, topic(1), JoinOptions::SERVER);
        }
        world.run_until(5 * SECOND);
        world.join(0, topic(1), JoinOptions::CLIENT);
        let flushed = world.with(0, |swarm, now| swarm.flush_topic(&topic(1), true, now));
        let all = world.with(0, |swarm, now| swarm.flush(now));
        let mut millis = 0;
        while !world.nodes[0].done.contains_key(&flushed) {
            millis += 10;
            assert!(millis < 10_000);
            world.run_until(5 * SECOND + Duration::from_millis(millis));
        }
        assert_eq!(world.nodes[0].open.len(), 7, "all that were found are connected");
        assert_eq!(world.nodes[0].done.get(&all), Some(&true));
        // With nothing to wait for it ends at once.
        let again = world.with(0, |swarm, now| swarm.flush(now));
        assert_eq!(world.nodes[0].done.get(&again), Some(&true));
        let unknown = world.with(0, |swarm, now| swarm.flush_topic(&topic(5), true, now));
        assert_eq!(world.nodes[0].done.get(&unknown), Some(&true));
    }
}

#[test]
fn a_limit_is_kept_to() {
    let mut world = World::new(3, 20, Knobs::default());
    for node in 1..20 {
        world.join(node, topic(1), JoinOptions::SERVER);
    }
    world.run_until(5 * SECOND);
    world.join(0, topic(1), JoinOptions { limit: Some(5), ..JoinOptions::CLIENT });
    world.run_until(5 * MINUTE);
    assert_eq!(world.nodes[0].open.len(), 5);
}

#[test]
fn a_peer_can_be_joined_by_its_key() {
    for seed in 0..20 {
        let knobs = Knobs { dials_refused: 500, bad_until: MINUTE, ..Knobs::default() };
        let mut world = World::new(seed, 2, knobs);
        let key = world.nodes[1].key;
        // It listens, whatever for.
        world.join(1, topic(9), JoinOptions::SERVER);
        world.run_until(SECOND);
        world.with(0, |swarm, now| swarm.join_peer(key, now));
        world.run_until(25 * MINUTE);
        assert!(world.nodes[0].open.contains_key(&key));
        world.restart_at(1, SECOND);
        world.run_until(world.elapsed() + 2 * MINUTE);
        assert!(world.nodes[0].open.contains_key(&key), "it is dialled again");
        world.with(0, |swarm, _| swarm.leave_peer(&key));
        assert!(world.nodes[0].open.contains_key(&key), "the connection stays");
        world.crash_at(1, SECOND);
        world.run_until(world.elapsed() + MINUTE);
        assert!(world.nodes[0].swarm.as_ref().unwrap().peer(&key).is_none(), "nothing is remembered");
    }
}

#[test]
fn a_peer_that_is_not_to_be_tried_again_is_left_alone_until_it_is_found_again() {
    for again in [true, false] {
        let mut world = World::new(5, 2, Knobs::default());
        let key = world.nodes[1].key;
        world.join(1, topic(1), JoinOptions::SERVER);
        world.run_until(SECOND);
        world.join(0, topic(1), JoinOptions::CLIENT);
        world.run_until(MINUTE);
        let said = world.with(0, |swarm, _| {
            let peer = swarm.peer(&key).unwrap();
            assert!(peer.reconnecting && peer.is_prioritized() && !peer.queued && !peer.waiting);
            [swarm.reconnect(&key, again), swarm.reconnect(&[9; 32], again)]
        });
        assert_eq!(said, [true, false], "nothing is known about the other");
        world.restart_at(1, SECOND);
        world.run_until(5 * MINUTE);
        assert_eq!(world.nodes[0].open.contains_key(&key), again);
        assert_eq!(world.nodes[0].swarm.as_ref().unwrap().peer(&key).is_some(), again);
        // The next round finds it.
        world.run_until(14 * MINUTE);
        assert!(world.nodes[0].open.contains_key(&key));
    }
}

#[test]
fn it_listens_without_a_topic() {
    let mut world = World::new(3, 2, Knobs::default());
    let key = world.nodes[1].key;
    let waits = world.with(1, |swarm, _| [swarm.listen(), swarm.listen()]);
    world.run_until(SECOND);
    assert!(waits.iter().all(|waiter| world.nodes[1].done.get(waiter) == Some(&true)));
    let again = world.with(1, |swarm, _| swarm.listen());
    assert_eq!(world.nodes[1].done.get(&again), Some(&true), "at once");
    world.with(0, |swarm, now| swarm.join_peer(key, now));
    world.run_until(MINUTE);
    assert!(world.nodes[0].open.contains_key(&key));
}

#[test]
fn who_leaves_all_topics_is_announced_nowhere_and_can_go_on() {
    let mut world = World::new(3, 2, Knobs::default());
    for number in 0..20 {
        world.join(0, topic(number), JoinOptions::SERVER);
    }
    world.run_until(MINUTE);
    let left = world.with(0, |swarm, now| swarm.leave_all(now));
    world.run_until(2 * MINUTE);
    assert_eq!(world.nodes[0].done.get(&left), Some(&true));
    assert!(world.records.values().all(|records| records.is_empty()));
    assert_eq!(world.nodes[0].swarm.as_ref().unwrap().topic_count(), 0);
    world.nodes[0].topics.clear();
    for node in 0..2 {
        world.join(node, topic(50), JoinOptions::default());
    }
    world.run_until(3 * MINUTE);
    world.assert_connected();
}

#[test]
fn banned_peers_are_kept_out() {
    let mut world = World::new(3, 3, Knobs::default());
    let [zero, one, _] = [0, 1, 2].map(|node| world.nodes[node].key);
    world.with(0, |swarm, now| swarm.ban(one, true, now));
    for node in 0..3 {
        world.join(node, topic(1), JoinOptions::default());
    }
    world.run_until(MINUTE);
    assert!(!world.nodes[0].open.contains_key(&one) && !world.nodes[1].open.contains_key(&zero));
    assert_eq!(world.nodes[2].open.len(), 2);
    // A ban closes the connection that is there.
    world.with(2, |swarm, now| swarm.ban(one, true, now));
    world.run_until(2 * MINUTE);
    assert_eq!(world.nodes[2].open.len(), 1);
    assert!(world.nodes[1].open.is_empty());
    world.with(2, |swarm, now| swarm.ban(one, false, now));
    world.run_until(15 * MINUTE);
    assert!(world.nodes[1].open.contains_key(&world.nodes[2].key));
}

#[test]
fn the_firewall_is_asked_in_both_directions() {
    let firewall: crate::Firewall = std::sync::Arc::new(|key| key[0] % 2 == 0);
    let options = SwarmOptions { firewall: Some(firewall), ..SwarmOptions::default() };
    let mut world = World::new(3, 20, Knobs { options, ..Knobs::default() });
    for node in 0..20 {
        world.join(node, topic(1), JoinOptions::default());
    }
    world.run_until(15 * MINUTE);
    for node in &world.nodes {
        assert!(node.open.keys().all(|key| key[0] % 2 == 1));
    }
    assert!(world.nodes.iter().any(|node| !node.open.is_empty()));
}

#[test]
fn suspended_it_is_not_there_and_resumed_it_is_again() {
    let mut world = World::new(3, 5, Knobs::default());
    for node in 0..5 {
        world.join(node, topic(1), JoinOptions::default());
    }
    world.run_until(MINUTE);
    world.assert_connected();
    let suspended = world.with(0, |swarm, now| swarm.suspend(now));
    assert!(world.nodes[0].open.is_empty());
    world.run_until(2 * MINUTE);
    assert_eq!(world.nodes[0].done.get(&suspended), Some(&true));
    let key = world.nodes[0].key;
    assert!(!world.records[&topic(1)].contains_key(&key));
    assert!(world.nodes[1..].iter().all(|node| !node.open.contains_key(&key)));
    world.with(0, |swarm, now| swarm.resume(now));
    world.run_until(4 * MINUTE);
    world.assert_connected();
}

#[test]
fn a_swarm_that_ends_leaves_nothing_behind() {
    let mut world = World::new(3, 3, Knobs::default());
    for node in 0..3 {
        world.join(node, topic(1), JoinOptions::default());
    }
    world.run_until(MINUTE);
    let flushing = world.with(0, |swarm, now| swarm.flush(now));
    let destroyed = world.with(0, |swarm, now| swarm.destroy(now));
    world.run_until(2 * MINUTE);
    assert_eq!(world.nodes[0].done.get(&destroyed), Some(&true));
    assert!(world.nodes[0].done.contains_key(&flushing));
    assert!(!world.records[&topic(1)].contains_key(&world.nodes[0].key));
    let refused = world.with(0, |swarm, now| swarm.join(topic(2), JoinOptions::default(), now));
    assert_eq!(refused, Err(JoinError::Destroyed));
}

#[test]
fn joining_takes_a_role() {
    let now = std::time::Instant::now();
    let mut swarm = Swarm::new(SwarmOptions::default(), [1; 32], 1);
    let none = JoinOptions { server: false, client: false, limit: None };
    assert_eq!(swarm.join(topic(1), none, now), Err(JoinError::NoRole));
    assert_eq!(swarm.topic_count(), 0);
    // The first announcement clears what an earlier run may have left; the second need not.
    swarm.join(topic(1), JoinOptions::SERVER, now).unwrap();
    assert_eq!(swarm.poll_action(), Some(Action::Listen));
    swarm.listened(true, now);
    let Some(Action::Query { query, kind, .. }) = swarm.poll_action() else { panic!() };
    assert_eq!(kind, QueryKind::Announce { first: true });
    swarm.query_ended(query, QueryOutcome::OK, now);
    assert_eq!(swarm.poll_action(), None);
    let next = swarm.next_deadline().unwrap();
    assert!((10 * MINUTE..=12 * MINUTE).contains(&(next - now)));
    swarm.handle_timeout(next);
    let Some(Action::Query { kind, .. }) = swarm.poll_action() else { panic!() };
    assert_eq!(kind, QueryKind::Announce { first: false });
}

/// The other one joined a moment before, and is announced while this one looks.
#[test]
fn a_round_that_finds_nobody_looks_again_once_announced_for_those_who_wait() {
    let now = std::time::Instant::now();
    let both = JoinOptions::default();
    for (options, waits, finds, ok) in [
        (both, true, false, true),
        (both, false, false, true),
        (both, true, true, true),
        (both, true, false, false),
        (JoinOptions::SERVER, true, false, true),
        (JoinOptions::CLIENT, true, false, true),
    ] {
        let mut swarm = Swarm::new(SwarmOptions::default(), [1; 32], 1);
        swarm.join(topic(1), options, now).unwrap();
        let waiter = waits.then(|| swarm.flush_topic(&topic(1), false, now));
        if options.server {
            assert_eq!(swarm.poll_action(), Some(Action::Listen));
            swarm.listened(true, now);
        }
        let Some(Action::Query { query, .. }) = swarm.poll_action() else { panic!() };
        if finds {
            swarm.found(query, &[2; 32], &[], now);
            assert!(matches!(swarm.poll_action(), Some(Action::Dial { .. })));
        }
        let outcome = if ok { QueryOutcome::OK } else { QueryOutcome { ok: false, ..QueryOutcome::OK } };
        swarm.query_ended(query, outcome, now);
        let mut next = swarm.poll_action();
        if options == both && waits && !finds && ok {
            let Some(Action::Query { query, kind, .. }) = next else { panic!("{next:?}") };
            assert_eq!(kind, QueryKind::Lookup);
            swarm.query_ended(query, QueryOutcome::OK, now);
            next = swarm.poll_action();
        }
        assert_eq!(next, waiter.map(|waiter| Action::Done { waiter, ok }));
        assert!(swarm.poll_action().is_none() && swarm.next_deadline().is_some());
        if !waits {
            let waiter = swarm.flush_topic(&topic(1), false, now);
            let Some(Action::Query { query, kind: QueryKind::Lookup, .. }) = swarm.poll_action() else {
                panic!()
            };
            assert!(swarm.poll_action().is_none());
            swarm.query_ended(query, QueryOutcome::OK, now);
            assert_eq!(swarm.poll_action(), Some(Action::Done { waiter, ok }));
        }
        // Once, and not for each of those who come later.
        let waiter = swarm.flush_topic(&topic(1), false, now);
        assert_eq!(swarm.poll_action(), Some(Action::Done { waiter, ok }));
        assert!(swarm.next_deadline().is_some_and(|at| at > now));
    }
}

#[test]
fn of_two_connections_both_sides_keep_the_same() {
    let now = std::time::Instant::now();
    let both = || {
        let mut swarms = [1u8, 2].map(|key| Swarm::new(SwarmOptions::default(), [key; 32], 1));
        let dials = [0usize, 1].map(|side| {
            swarms[side].join_peer([u8::try_from(2 - side).unwrap(); 32], now);
            let Some(Action::Dial { connection, .. }) = swarms[side].poll_action() else { panic!() };
            connection
        });
        (swarms, dials)
    };
    // The greater key's dial lives: the smaller one takes it and gives up its own, the greater refuses the other's.
    let ([mut small, mut great], [small_dial, great_dial]) = both();
    let taken = small.incoming(&[2; 32], now).unwrap();
    assert!(great.incoming(&[1; 32], now).is_err());
    assert_eq!(small.connection_with(&[2; 32]), Some(taken));
    assert_eq!(great.connection_with(&[1; 32]), Some(great_dial));
    small.dialled(small_dial, DialOutcome::Open, now);
    assert_eq!(
        (small.connection_count(), small.dialling_count()),
        (1, 0),
        "what was given up does not come back"
    );
    great.dialled(great_dial, DialOutcome::Open, now);
    // A second one soon after is still the twin of the first; later it means that the peer comes back.
    assert!(great.incoming(&[1; 32], now + SECOND).is_err());
    assert!(great.incoming(&[1; 32], now + 4 * SECOND).is_ok());
    assert_eq!(great.connection_count(), 1);
}
