//! What may happen in a network.

use std::time::Duration;

use hypercore::demand::{DownloadRange, Want, WantOptions};
use hypercore_replicator::{CloseReason, Event};

use crate::liar::{Field, Lie};
use crate::network::{Behaviour, Network, block};
use crate::with_seeds;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// All readers have the log as the writer has it.
fn assert_equal(network: &Network, writer: usize, readers: impl IntoIterator<Item = usize>) {
    let original = &network.nodes[writer].core;
    for reader in readers {
        let copy = &network.nodes[reader].core;
        assert_eq!((copy.fork(), copy.length()), (original.fork(), original.length()), "node {reader}");
        assert_eq!(copy.tree_hash(), original.tree_hash(), "node {reader}");
        for index in 0..copy.length() {
            assert_eq!(
                copy.get(index).unwrap(),
                original.get(index).unwrap(),
                "node {reader}, block {index}"
            );
        }
    }
}

pub(crate) fn nobody_waits(network: &mut Network) -> bool {
    network.nodes.iter_mut().all(|node| node.waiting().is_empty())
}

/// No peer was taken for a liar.
pub(crate) fn assert_no_blame(network: &Network) {
    for node in &network.nodes {
        let blamed = node.events.iter().find(|event| match event {
            Event::Close { reason, .. } => *reason != CloseReason::Idle,
            Event::Conflict(_) | Event::StorageFailed { .. } => true,
            _ => false,
        });
        assert!(blamed.is_none(), "{blamed:?}");
    }
}

fn random_range(network: &mut Network, length: u64) -> DownloadRange {
    match network.random.below(4) {
        0 => DownloadRange::new(0, length),
        1 => DownloadRange::new(0, length).linear(),
        2 => DownloadRange::list(0..length),
        _ => DownloadRange { start: 0, end: Some(length), linear: true, blocks: None },
    }
}

fn random_link(network: &mut Network, a: usize, b: usize) -> usize {
    let link = network.connect(a, b);
    network.links[link].latency = Duration::from_micros(10 + network.random.below(80_000));
    network.links[link].jitter = Duration::from_micros(network.random.below(20_000));
    network.links[link].bandwidth = 20_000 + network.random.below(50_000_000);
    link
}

#[test]
fn one_writer_and_many_readers() {
    with_seeds(100, |seed| {
        let mut network = Network::new(seed);
        let writer = network.writer();
        let length = 1 + network.random.below(300);
        network.append(writer, length);
        let count = 1 + network.random.below(4) as usize;
        for _ in 0..count {
            let reader = network.reader(writer);
            random_link(&mut network, writer, reader);
            let range = random_range(&mut network, length);
            network.want_all(reader, range);
        }
        assert!(network.run(10 * MINUTE, nobody_waits), "not done in time");
        assert_equal(&network, writer, 1..=count);
        assert_no_blame(&network);
        for reader in &network.nodes[1..] {
            let stats = reader.replicator.stats();
            assert_eq!((stats.stale, stats.invalid, stats.no_data), (0, 0, 0));
            assert!(stats.requests <= length + 4, "{stats:?}");
            assert!(stats.messages <= 3 * length + 20, "{stats:?}");
        }
    });
}

#[test]
fn answers_that_overtake_others_are_not_lost() {
    with_seeds(50, |seed| {
        let mut network = Network::new(seed);
        let writer = network.writer();
        network.nodes[writer].behaviour = Behaviour::Hasty;
        let length = 50 + network.random.below(500);
        network.append(writer, length);
        let reader = network.reader(writer);
        random_link(&mut network, writer, reader);
        let range = random_range(&mut network, length);
        network.want_all(reader, range);
        assert!(network.run(10 * MINUTE, nobody_waits), "not done in time");
        assert_equal(&network, writer, [reader]);
        assert_no_blame(&network);
        let stats = network.nodes[reader].replicator.stats();
        assert_eq!((stats.stale, stats.invalid, stats.no_data), (0, 0, 0));
        assert!(stats.requests <= length + 4, "{stats:?}");
    });
}

#[test]
fn a_chain_of_readers() {
    with_seeds(50, |seed| {
        let mut network = Network::new(seed);
        let writer = network.writer();
        network.append(writer, 40);
        let count = 2 + network.random.below(4) as usize;
        for index in 0..count {
            let reader = network.reader(writer);
            random_link(&mut network, index, reader);
            network.want_all(reader, DownloadRange::live(0));
        }
        for _ in 0..5 {
            let pause = Duration::from_millis(network.random.below(300));
            network.run(pause, |_| false);
            let more = 1 + network.random.below(20);
            network.append(writer, more);
        }
        let length = network.nodes[writer].core.length();
        let all =
            |network: &mut Network| network.nodes.iter().all(|node| node.core.contiguous_length() == length);
        assert!(network.run(10 * MINUTE, all), "not done in time");
        assert_equal(&network, writer, 1..=count);
        assert_no_blame(&network);
    });
}

#[test]
fn a_swarm_of_parts() {
    with_seeds(50, |seed| {
        let mut network = Network::new(seed);
        let writer = network.writer();
        let length = 20 + network.random.below(400);
        network.append(writer, length);
        let count = 2 + network.random.below(4) as usize;
        let readers: Vec<usize> = (0..count).map(|_| network.reader(writer)).collect();
        // Every block is with one reader at least; the writer is not there.
        let mut parts = vec![Vec::new(); count];
        for index in 0..length {
            let owners = 1 + network.random.below(2);
            for _ in 0..owners {
                parts[network.random.below(count as u64) as usize].push(index);
            }
        }
        for (reader, part) in readers.iter().zip(&mut parts) {
            part.dedup();
            network.give(writer, *reader, part.iter().copied());
        }
        for one in 0..count {
            for other in 0..one {
                random_link(&mut network, readers[one], readers[other]);
            }
            let range = random_range(&mut network, length);
            network.want_all(readers[one], range);
        }
        assert!(network.run(10 * MINUTE, nobody_waits), "not done in time");
        assert_equal(&network, writer, readers);
        assert_no_blame(&network);
    });
}

#[test]
fn connections_that_break_and_come_back() {
    with_seeds(100, |seed| {
        let mut network = Network::new(seed);
        let writer = network.writer();
        let length = 50 + network.random.below(200);
        network.append(writer, length);
        let count = 1 + network.random.below(3) as usize;
        let mut links = Vec::new();
        for index in 1..=count {
            let reader = network.reader(writer);
            links.push(random_link(&mut network, writer, reader));
            let bandwidth = 20_000 + network.random.below(200_000);
            network.links[*links.last().unwrap()].bandwidth = bandwidth;
            if index > 1 {
                links.push(random_link(&mut network, index - 1, reader));
            }
            let range = random_range(&mut network, length);
            network.want_all(reader, range);
        }
        for _ in 0..20 {
            let pause = Duration::from_millis(network.random.below(200));
            network.run(pause, |_| false);
            let link = links[network.random.below(links.len() as u64) as usize];
            if network.links[link].up {
                network.cut(link, None);
            } else {
                network.open(link);
            }
        }
        for link in links {
            network.open(link);
        }
        assert!(network.run(10 * MINUTE, nobody_waits), "not done in time");
        assert_equal(&network, writer, 1..=count);
        assert_no_blame(&network);
    });
}

#[test]
fn forks_while_everybody_replicates() {
    with_seeds(100, |seed| {
        let mut network = Network::new(seed);
        let writer = network.writer();
        network.append(writer, 30);
        let count = 1 + network.random.below(3) as usize;
        for index in 1..=count {
            let reader = network.reader(writer);
            random_link(&mut network, writer, reader);
            if index > 1 && network.random.chance(50) {
                random_link(&mut network, index - 1, reader);
            }
            network.want_all(reader, DownloadRange::live(0));
        }
        for _ in 0..6 {
            let pause = Duration::from_millis(network.random.below(400));
            network.run(pause, |_| false);
            let length = network.nodes[writer].core.length();
            if network.random.chance(60) {
                let to = network.random.below(length + 1).max(1);
                network.truncate(writer, to);
            }
            let more = network.random.below(40);
            network.append(writer, more);
        }
        network.append(writer, 1);
        let (fork, length) = (network.nodes[writer].core.fork(), network.nodes[writer].core.length());
        let all = |network: &mut Network| {
            let mut cores = network.nodes.iter().map(|node| &node.core);
            cores.all(|core| core.fork() == fork && core.contiguous_length() == length)
        };
        assert!(network.run(10 * MINUTE, all), "not done in time");
        assert_equal(&network, writer, 1..=count);
        assert_no_blame(&network);
    });
}

#[test]
fn single_blocks_come_and_cancelled_ones_cost_nothing() {
    with_seeds(100, |seed| {
        let mut network = Network::new(seed);
        let writer = network.writer();
        let length = 20 + network.random.below(200);
        network.append(writer, length);
        let reader = network.reader(writer);
        random_link(&mut network, writer, reader);
        let mut wanted = Vec::new();
        for _ in 0..60 {
            let pause = Duration::from_millis(network.random.below(40));
            network.run(pause, |_| false);
            let index = network.random.below(length + 5);
            let priority = network.random.below(4) as u8;
            let options = WantOptions { priority, ..WantOptions::default() };
            if network.nodes[reader].core.has(index).unwrap() {
                continue;
            }
            let id = network.want_with(reader, Want::Block { index }, options);
            if network.random.chance(40) {
                network.cancel(reader, id);
            } else {
                wanted.push(index);
            }
        }
        network.append(writer, 10);
        assert!(network.run(MINUTE, nobody_waits), "not done in time");
        let core = &network.nodes[reader].core;
        for index in wanted {
            assert_eq!(core.get(index).unwrap(), Some(block(index, 0)));
        }
        assert_no_blame(&network);
        let stats = network.nodes[reader].replicator.stats();
        assert!(stats.blocks <= 60, "{stats:?}");
        assert!(stats.requests <= 80, "{stats:?}");
    });
}

#[test]
fn bytes_are_found() {
    with_seeds(100, |seed| {
        let mut network = Network::new(seed);
        let writer = network.writer();
        let length = 1 + network.random.below(200);
        network.append(writer, length);
        let reader = network.reader(writer);
        random_link(&mut network, writer, reader);
        let total = network.nodes[writer].core.byte_length();
        for _ in 0..10 {
            let bytes = network.random.below(total + 20);
            network.want(reader, Want::Seek { bytes, padding: 0 });
            let pause = Duration::from_millis(network.random.below(100));
            network.run(pause, |_| false);
        }
        network.append(writer, 30);
        assert!(network.run(MINUTE, nobody_waits), "not done in time");
        assert_no_blame(&network);
        let stats = network.nodes[reader].replicator.stats();
        assert!(stats.requests <= 150, "{stats:?}");
    });
}

#[test]
fn slow_and_silent_peers_lose_their_requests() {
    with_seeds(50, |seed| {
        let mut network = Network::new(seed);
        let writer = network.writer();
        let length = 50 + network.random.below(200);
        network.append(writer, length);
        let helper = network.reader(writer);
        network.give(writer, helper, 0..length);
        let reader = network.reader(writer);
        let behaviour = if network.random.chance(50) {
            Behaviour::Silent
        } else {
            Behaviour::Slow(Duration::from_secs(20))
        };
        let bad = if network.random.chance(50) { writer } else { helper };
        network.nodes[bad].behaviour = behaviour;
        random_link(&mut network, writer, reader);
        random_link(&mut network, helper, reader);
        let range = random_range(&mut network, length);
        network.want_all(reader, range);
        assert!(network.run(MINUTE, |network| network.nodes[2].waiting().is_empty()), "not done in time");
        assert_equal(&network, writer, [reader]);
    });
}

#[test]
fn liars_are_found_out_and_others_serve() {
    for field in Field::all() {
        with_seeds(5, |seed| {
            let mut network = Network::new(seed);
            let writer = network.writer();
            let length = 5 + network.random.below(120);
            network.append(writer, length);
            let liar = network.reader(writer);
            network.give(writer, liar, 0..length);
            let percent = if network.random.chance(50) { 100 } else { 20 };
            network.nodes[liar].behaviour = Behaviour::Liar(Lie { field, percent });
            let reader = network.reader(writer);
            random_link(&mut network, liar, reader);
            let later = network.random.chance(50);
            if later {
                network.want_all(reader, DownloadRange::new(0, length));
                let bytes = network.random.below(network.nodes[writer].core.byte_length());
                network.want(reader, Want::Seek { bytes, padding: 0 });
                network.run(Duration::from_secs(5), |_| false);
            }
            random_link(&mut network, writer, reader);
            if !later {
                network.want_all(reader, DownloadRange::new(0, length).linear());
            }
            let done = network.run(10 * MINUTE, |network| network.nodes[2].waiting().is_empty());
            assert!(done, "{field:?}: not done in time");
            assert_equal(&network, writer, [reader]);
            assert!(!network.nodes[reader].core.frozen(), "{field:?}");
            let stats = network.nodes[reader].replicator.stats();
            assert!(stats.messages < 20 * length + 2_000, "{field:?}: {stats:?}");
        });
    }
}

#[test]
fn an_update_ends_when_nobody_has_more() {
    with_seeds(100, |seed| {
        let mut network = Network::new(seed);
        let writer = network.writer();
        let length = network.random.below(50);
        network.append(writer, length);
        let reader = network.reader(writer);
        random_link(&mut network, writer, reader);
        network.want(reader, Want::Upgrade { length: 0, fork: 0 });
        assert!(network.run(MINUTE, nobody_waits), "not done in time");
        assert_eq!(network.nodes[reader].core.length(), length);
        network.want(reader, Want::Upgrade { length, fork: 0 });
        assert!(network.run(MINUTE, nobody_waits), "not done in time");
        let started = network.now;
        network.append(writer, 3);
        let has_more = |network: &mut Network| network.nodes[1].core.length() == length + 3;
        assert!(network.run(MINUTE, has_more), "not done in time");
        assert!(network.now - started < Duration::from_secs(1));
    });
}

#[test]
fn what_nobody_has_is_not_waited_for() {
    with_seeds(50, |seed| {
        let mut network = Network::new(seed);
        let writer = network.writer();
        network.append(writer, 50);
        network.clear(writer, 10, 20);
        let reader = network.reader(writer);
        random_link(&mut network, writer, reader);
        let options = WantOptions { if_available: true, ..WantOptions::default() };
        for index in [5, 15, 60] {
            network.want_with(reader, Want::Block { index }, options);
        }
        // Somewhere in what is gone, in what is there, and behind the end.
        let bytes = network.nodes[writer].core.byte_length();
        for bytes in [bytes / 3, bytes / 10, 2 * bytes] {
            network.want_with(reader, Want::Seek { bytes, padding: 0 }, options);
        }
        assert!(network.run(MINUTE, nobody_waits), "not done in time");
        assert!(network.now - network.started < Duration::from_secs(6));
        assert!(network.nodes[reader].core.has(5).unwrap());
        assert_no_blame(&network);
    });
}

#[test]
fn peers_of_which_neither_wants_anything_part() {
    let mut network = Network::new(0);
    let writer = network.writer();
    network.append(writer, 50);
    let reader = network.reader(writer);
    network.connect(writer, reader);
    network.want_all(reader, DownloadRange::new(0, 50));
    assert!(network.run(MINUTE, nobody_waits));
    network.run(MINUTE, |_| false);
    assert!(network.links[0].up);
    for node in &mut network.nodes {
        node.replicator.set_downloading(false, &mut node.core, &mut node.demand, network.now);
    }
    network.run(MINUTE, |_| false);
    assert!(!network.links[0].up);
    assert!(network.nodes.iter().all(|node| node.replicator.is_idle()));
}

#[test]
fn everything_at_once() {
    with_seeds(100, |seed| {
        let mut network = Network::new(seed);
        let writer = network.writer();
        network.append(writer, 20);
        let count = 2 + network.random.below(4) as usize;
        let mut links = Vec::new();
        for index in 1..=count {
            let reader = network.reader(writer);
            for other in 0..index {
                if other == 0 || network.random.chance(40) {
                    links.push(random_link(&mut network, other, reader));
                }
            }
        }
        for _ in 0..25 {
            let pause = Duration::from_millis(network.random.below(100));
            network.run(pause, |_| false);
            let node = 1 + network.random.below(count as u64) as usize;
            let link = links[network.random.below(links.len() as u64) as usize];
            let length = network.nodes[writer].core.length();
            match network.random.below(10) {
                0 => network.cut(link, None),
                1 | 2 => network.open(link),
                3 | 4 => {
                    let more = network.random.below(30);
                    network.append(writer, more);
                }
                5 => {
                    let to = network.random.below(length).max(1);
                    network.truncate(writer, to);
                    network.append(writer, 1);
                }
                6 => {
                    let length = network.nodes[node].core.length();
                    let start = network.random.below(length + 1);
                    network.clear(node, start, (start + 10).min(length));
                }
                7 => {
                    let index = network.random.below(length);
                    let id = network.want(node, Want::Block { index });
                    if network.random.chance(50) {
                        network.cancel(node, id);
                    }
                }
                8 => {
                    let length = network.nodes[node].core.length();
                    let fork = network.nodes[node].core.fork();
                    network.want(node, Want::Upgrade { length, fork });
                }
                _ => {
                    let start = network.random.below(length);
                    network.want_all(node, DownloadRange::new(start, length));
                }
            }
        }
        for link in links {
            network.open(link);
        }
        network.append(writer, 1);
        for reader in 1..=count {
            network.want_all(reader, DownloadRange::live(0));
        }
        let (fork, length) = (network.nodes[writer].core.fork(), network.nodes[writer].core.length());
        let all = |network: &mut Network| {
            let mut cores = network.nodes.iter().map(|node| &node.core);
            cores.all(|core| core.fork() == fork && core.contiguous_length() == length)
        };
        assert!(network.run(10 * MINUTE, all), "not done in time");
        assert_equal(&network, writer, 1..=count);
        assert_no_blame(&network);
    });
}

#[test]
fn nonsense_from_one_peer_harms_nobody_else() {
    with_seeds(100, |seed| {
        let mut network = Network::new(seed);
        let writer = network.writer();
        let length = 20 + network.random.below(100);
        network.append(writer, length);
        let mad = network.reader(writer);
        network.give(writer, mad, 0..length / 2);
        network.nodes[mad].behaviour = Behaviour::Mad;
        let reader = network.reader(writer);
        random_link(&mut network, mad, reader);
        random_link(&mut network, mad, writer);
        random_link(&mut network, writer, reader);
        let range = random_range(&mut network, length);
        network.want_all(reader, range);
        network.want(reader, Want::Block { index: u64::MAX });
        network.want(reader, Want::Seek { bytes: u64::MAX, padding: 0 });
        let done = |network: &mut Network| network.nodes[2].core.contiguous_length() == length;
        assert!(network.run(10 * MINUTE, done), "not done in time");
        assert_equal(&network, writer, [reader]);
        network.run(Duration::from_secs(30), |_| false);
        assert!(!network.nodes[reader].core.frozen() && !network.nodes[writer].core.frozen());
    });
}

#[test]
fn two_histories_stop_the_log_and_are_shown_to_everybody() {
    with_seeds(50, |seed| {
        let mut network = Network::new(seed);
        let writer = network.writer();
        let twin = network.twin(writer);
        let length = 2 + network.random.below(60);
        network.append(writer, length);
        network.append_other(twin, length);
        let reader = network.reader(writer);
        let witness = network.reader(writer);
        random_link(&mut network, writer, reader);
        random_link(&mut network, writer, witness);
        network.want_all(witness, DownloadRange::new(0, length));
        network.run(Duration::from_secs(3), |_| false);
        // The reader knows the length of the first history and asks for blocks of the second one.
        network.cut(0, None);
        random_link(&mut network, twin, reader);
        network.want_all(reader, DownloadRange::new(0, length));
        network.run(MINUTE, |network| network.nodes[reader].core.frozen());
        network.run(MINUTE, |_| false);
        // A log that is frozen does not talk to anybody any more.
        random_link(&mut network, reader, witness);
        network.run(MINUTE, |_| false);
        assert!(!network.nodes[witness].core.frozen());
        assert!(network.nodes[reader].core.frozen(), "the reader saw both");
        assert!(network.nodes[reader].core.conflict().unwrap().is_some());
        let told =
            |node: &crate::network::Node| node.events.iter().any(|event| matches!(event, Event::Conflict(_)));
        assert!(told(&network.nodes[reader]));
        assert!(network.nodes[twin].core.frozen(), "the evidence was shown to the other writer");
        assert!(network.links.iter().all(|link| !link.up || !link.ends.contains(&reader)));
    });
}

#[test]
fn a_long_way_is_filled_with_requests() {
    let mut network = Network::new(1);
    let writer = network.writer();
    network.append(writer, 20_000);
    let reader = network.reader(writer);
    let link = network.connect(writer, reader);
    network.links[link].latency = Duration::from_millis(50);
    network.want_all(reader, DownloadRange::new(0, 20_000).linear());
    assert!(network.run(MINUTE, nobody_waits));
    // With the 48 requests that JS keeps in flight over TCP it would take 42 seconds.
    let took = network.now - network.started;
    assert!(took < Duration::from_secs(4), "{took:?}");
}

#[test]
fn a_reader_of_old_blocks_does_not_wait_behind_a_download() {
    let mut network = Network::new(1);
    let writer = network.writer();
    network.append(writer, 20_000);
    let reader = network.reader(writer);
    let link = network.connect(writer, reader);
    network.links[link].bandwidth = 200_000;
    network.want_all(reader, DownloadRange::new(0, 20_000).linear());
    network.run(Duration::from_secs(2), |_| false);
    let asked = network.now;
    network.want(reader, Want::Block { index: 19_000 });
    assert!(network.run(MINUTE, |network| network.nodes[1].core.has(19_000).unwrap()));
    let took = network.now - asked;
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    assert!(network.nodes[reader].core.contiguous_length() < 15_000);
}
