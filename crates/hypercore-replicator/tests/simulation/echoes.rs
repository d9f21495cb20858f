//! What a near peer has appended just before it was asked, and has not told yet.

use std::time::Duration;

use hypercore::core::Seek;
use hypercore::demand::{Want, WantOptions};

use crate::network::Network;
use crate::scenarios::{MINUTE, assert_no_blame, nobody_waits};

/// It ends when nobody has it.
const ALL: WantOptions = WantOptions { priority: 0, if_available: true };
/// A round trip to a near peer, and a bit.
const SOON: Duration = Duration::from_millis(3);
/// How long the answer of one that was near may take.
const BUSY: Duration = Duration::from_millis(100);

/// Runs until nobody waits, and says how long that took.
fn settle(network: &mut Network) -> Duration {
    let started = network.now;
    assert!(network.run(MINUTE, nobody_waits), "not done in time");
    network.now - started
}

/// A writer, and a reader that is near it; and their connection.
fn near() -> (Network, [usize; 3]) {
    let mut network = Network::new(0);
    let writer = network.writer();
    let reader = network.reader(writer);
    let link = network.connect(writer, reader);
    network.run(MINUTE, |_| false);
    (network, [writer, reader, link])
}

#[test]
fn an_update_finds_it() {
    let (mut network, [writer, reader, link]) = near();
    let update = |network: &mut Network| {
        let length = network.nodes[reader].core.length();
        network.want_with(reader, Want::Upgrade { length, fork: 0 }, ALL);
        let took = settle(network);
        (network.nodes[reader].core.length(), took)
    };
    for length in 1..10 {
        network.append(writer, 1);
        assert_eq!(update(&mut network).0, length);
        network.run(MINUTE, |_| false);
        let (same, took) = update(&mut network);
        assert!(same == length && took < SOON, "{took:?}");
    }
    // Of a distant one that is found out once; from then on it keeps nobody waiting.
    network.links[link].latency = Duration::from_secs(1) / 5;
    assert_eq!(update(&mut network), (9, BUSY));
    network.run(MINUTE, |_| false);
    for _ in 0..3 {
        assert_eq!(update(&mut network), (9, Duration::ZERO));
        network.run(MINUTE, |_| false);
    }
    assert_no_blame(&network);
}

#[test]
fn a_get_finds_it() {
    let (mut network, [writer, reader, _]) = near();
    for index in 0..10 {
        network.append(writer, 1);
        network.want_with(reader, Want::Block { index }, ALL);
        settle(&mut network);
        assert!(network.nodes[reader].core.has(index).unwrap(), "block {index}");
        network.run(MINUTE, |_| false);
        // Many in vain end together: those behind the first wait for its answer, and for one of their own.
        for beyond in 1..100 {
            network.want_with(reader, Want::Block { index: index + beyond }, ALL);
        }
        let took = settle(&mut network);
        assert!(took < SOON * 2, "{took:?}");
    }
    assert_no_blame(&network);
}

/// What it tells of an append is not its answer.
#[test]
fn a_get_finds_it_behind_another_append() {
    for pause in [0, 100, 500, 900, 1_500].map(Duration::from_micros) {
        let (mut network, [writer, reader, _]) = near();
        for round in 0..5 {
            network.append(writer, 1);
            network.run(pause, |_| false);
            network.append(writer, 1);
            let index = round * 2 + 1;
            network.want_with(reader, Want::Block { index }, ALL);
            settle(&mut network);
            assert!(network.nodes[reader].core.has(index).unwrap(), "block {index}, {pause:?}");
            network.run(MINUTE, |_| false);
        }
        assert_no_blame(&network);
    }
}

/// Its answer takes too long: each call ends when it would have been waited for long enough, whoever asked.
#[test]
fn a_peer_that_was_near_is_not_waited_for_long() {
    let wants: [fn() -> Want; 3] = [
        || Want::Upgrade { length: 0, fork: 0 },
        || Want::Block { index: 5 },
        || Want::Seek { bytes: 1_000, padding: 0 },
    ];
    for first in wants {
        for second in wants {
            let (mut network, [_, reader, link]) = near();
            network.links[link].latency = MINUTE * 2;
            network.want_with(reader, first(), ALL);
            let started = network.now;
            network.run(BUSY / 2, |_| false);
            network.want_with(reader, second(), ALL);
            settle(&mut network);
            assert_eq!(network.now - started, BUSY);
        }
    }
}

#[test]
fn a_seek_finds_it() {
    let (mut network, [writer, reader, _]) = near();
    for index in 0..10 {
        network.append(writer, 1);
        let end = network.nodes[writer].core.byte_length();
        network.want_with(reader, Want::Seek { bytes: end - 1, padding: 0 }, ALL);
        settle(&mut network);
        let found = network.nodes[reader].core.seek(end - 1, 0).unwrap();
        assert!(matches!(found, Seek::Found { index: at, .. } if at == index), "{found:?}");
        network.run(MINUTE, |_| false);
        network.want_with(reader, Want::Seek { bytes: end + 1, padding: 0 }, ALL);
        let took = settle(&mut network);
        assert!(took < SOON, "{took:?}");
    }
    assert_no_blame(&network);
}
