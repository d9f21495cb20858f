//! Cases with a story: paths that change, readers that sleep, remotes that vanish, links with small packets.

use std::time::Duration;

use udx::{CloseReason, Config, Event};

use crate::link::{Knobs, Random};
use crate::pair::{Pair, Plan, path};
use crate::{seeds, some_knobs};

const SECOND: Duration = Duration::from_secs(1);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn plan(to_write: usize) -> Plan {
    Plan { to_write, ..Plan::default() }
}

#[test]
fn a_stream_goes_on_over_another_path_even_if_the_old_one_is_dead() {
    seeds(300, |seed| {
        let mut random = Random(seed ^ 0xabcd);
        let (to_write, back) = (random.scaled(10, 10) as usize, random.scaled(4, 10) as usize);
        let knobs = [some_knobs(&mut random), some_knobs(&mut random)];
        let mut pair = Pair::new([plan(to_write), plan(back)], knobs, seed, Config::default());
        let knobs = [some_knobs(&mut random), some_knobs(&mut random)];
        let route = pair.add_route(knobs, seed);
        let mut dead = random.below(3) == 0;
        let change_at = [ms(random.below(400)), ms(random.below(400))];
        let mut order = [0, 1];
        order.sort_by_key(|end| change_at[*end]);
        for end in order {
            pair.run(change_at[end], |_| false);
            pair.now = pair.now.max(change_at[end]);
            let now = pair.instant();
            let remote_id = if end == 0 { 2 } else { 1 };
            let moved =
                pair.ends[end].state.change_remote(udx::Path { socket: route, ..path(remote_id) }, now);
            assert!(moved || pair.ends[end].closed.is_some());
            // Who has closed answers over the path that it knew.
            dead &= moved;
        }
        if dead {
            for link in &mut pair.routes[0] {
                link.knobs.loss = 1.0;
            }
        }
        let done = pair.run(pair.now + 600 * SECOND, |pair| {
            pair.ends.iter().all(|end| end.closed.is_some() && end.read_ended_at.is_some())
        });
        assert!(done, "{pair:#?}");
        for (end, expected) in [(0, back), (1, to_write)] {
            let end = &pair.ends[end];
            assert_eq!((end.closed, end.read), (Some(CloseReason::Ended), expected));
            let changed = end.events.iter().filter(|event| **event == Event::RemoteChanged).count();
            assert!(changed <= 1);
        }
    });
}

#[test]
fn throughput_recovers_on_the_new_path() {
    let slow = Knobs { bandwidth: Some(1e6), queue: 50_000, ..Knobs::default() };
    let fast = Knobs { bandwidth: Some(20e6), latency: ms(5), queue: 200_000, ..Knobs::default() };
    let total = 40_000_000;
    let mut pair = Pair::new([plan(total), plan(0)], [slow.clone(), slow], 1, Config::default());
    pair.run(2 * SECOND, |_| false);
    let route = pair.add_route([fast.clone(), fast], 2);
    let now = pair.instant();
    for (end, remote_id) in [(0, 2), (1, 1)] {
        assert!(pair.ends[end].state.change_remote(udx::Path { socket: route, ..path(remote_id) }, now));
    }
    assert!(pair.run(5 * SECOND, |pair| pair.ends[1].read == total), "{:?}", pair.ends[0].state.stats());
    assert!(pair.ends[0].events.contains(&Event::RemoteChanged));
}

#[test]
fn a_reader_that_sleeps_stops_the_writer_and_loses_nothing() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let knobs = Knobs { loss: if seed % 2 == 0 { 0.0 } else { 0.05 }, ..Knobs::default() };
        let reader = Plan { read_from: 40 * SECOND, finish: true, ..plan(0) };
        let config = Config { receive_window: 20_000 + random.below(100_000) as u32, ..Config::default() };
        let window = config.receive_window;
        let mut pair = Pair::new([plan(500_000), reader], [knobs.clone(), knobs], seed, config);
        pair.run(39 * SECOND, |_| false);
        let stats = pair.ends[0].state.stats();
        assert!(stats.window_probes > 2, "{stats:?}");
        assert_eq!(pair.ends[0].closed, None);
        assert!(stats.remote_window < 3_000, "{stats:?}");
        assert!(stats.bytes_sent < u64::from(window) * 2, "{stats:?}");
        let woken = pair.run(60 * SECOND, |pair| pair.ends[1].read == 500_000);
        assert!(woken, "{:?}", pair.ends[0].state.stats());
    }
}

#[test]
fn silence_is_broken_by_keep_alive_and_ended_by_timeouts() {
    let config = Config { keep_alive: Some(5 * SECOND), ..Config::default() };
    let silent = Plan { finish: false, ..plan(0) };
    let mut pair =
        Pair::new([silent.clone(), silent], [Knobs::default(), Knobs::default()], 1, config.clone());
    pair.run(61 * SECOND, |_| false);
    for end in &pair.ends {
        // A probe every 5 s, and an answer to each of the other's.
        assert!((22..=25).contains(&end.sent_datagrams), "{}", end.sent_datagrams);
    }
    let now = pair.instant();
    pair.routes[0][0].knobs.loss = 1.0;
    pair.ends[0].plan.to_write = 1000;
    pair.ends[0].state.handle_timeout(now);
    let begin = pair.now;
    assert!(pair.run(100 * SECOND, |pair| pair.ends[0].closed.is_some()));
    assert_eq!(pair.ends[0].closed, Some(CloseReason::TimedOut));
    // libudx: 1 s, then six times 2 s.
    assert!((12 * SECOND..20 * SECOND).contains(&(pair.now - begin)), "{:?}", pair.now - begin);
    assert!(pair.ends[0].state.is_drained());
}

#[test]
fn the_mtu_of_the_link_is_found_and_never_exceeded_for_long() {
    for mtu in [1200, 1201, 1280, 1300, 1366, 1400, 1454, 1456, 1499, 1500, 9000] {
        let knobs = Knobs { mtu, latency: ms(5), ..Knobs::default() };
        let mut pair =
            Pair::new([plan(15_000_000), plan(0)], [knobs.clone(), Knobs::default()], 1, Config::default());
        assert!(pair.run(10 * SECOND, |pair| pair.ends[1].read == 15_000_000), "{mtu}");
        let stats = pair.ends[0].state.stats();
        let best = mtu.min(1500);
        assert!(usize::from(stats.mtu) <= best && usize::from(stats.mtu) + 32 > best, "{mtu}: {}", stats.mtu);
        assert!(pair.routes[0][0].dropped <= 12, "{mtu}: {} probes lost", pair.routes[0][0].dropped);
        assert_eq!(stats.fast_recoveries, 0, "a lost probe is no congestion");
    }
}

#[test]
fn a_burst_is_acknowledged_once_and_tiny_writes_share_packets() {
    let fast = Knobs { latency: ms(10), ..Knobs::default() };
    let mut pair = Pair::new([plan(2_000_000), plan(0)], [fast.clone(), fast.clone()], 1, Config::default());
    assert!(pair.run(10 * SECOND, |pair| pair.ends[1].read == 2_000_000));
    let (sent, acks) = (pair.ends[0].sent_datagrams, pair.ends[1].sent_datagrams);
    assert!(acks * 8 < sent, "{acks} acknowledgements for {sent} packets");

    let tiny = Plan { write_size: 1, ..plan(100_000) };
    let mut pair = Pair::new([tiny, plan(0)], [fast.clone(), fast], 1, Config::default());
    assert!(pair.run(10 * SECOND, |pair| pair.ends[1].read == 100_000));
    assert!(pair.ends[0].sent_datagrams < 120, "{} packets", pair.ends[0].sent_datagrams);
}

#[test]
fn reordering_alone_causes_few_needless_packets() {
    let knobs = Knobs { jitter: ms(10), bandwidth: Some(10e6), ..Knobs::default() };
    let mut pair = Pair::new([plan(10_000_000), plan(0)], [knobs, Knobs::default()], 1, Config::default());
    assert!(pair.run(20 * SECOND, |pair| pair.ends[1].read == 10_000_000));
    let stats = pair.ends[0].state.stats();
    let lost = pair.routes[0][0].overflowed;
    assert!(stats.retransmits < lost + stats.packets_sent / 50, "{lost} lost, {stats:?}");
    assert!(pair.now < 3 * SECOND, "{:?}", pair.now);
}

#[test]
fn a_remote_that_reports_only_the_lowest_gaps_gets_few_needless_packets() {
    for loss in [0.0, 0.01, 0.03] {
        let knobs = Knobs { loss, bandwidth: Some(20e6), queue: 200_000, ..Knobs::default() };
        let mut pair =
            Pair::new([plan(60_000_000), plan(0)], [knobs, Knobs::default()], 1, Config::default());
        pair.lowest_runs = Some(std::collections::BTreeSet::new());
        assert!(pair.run(60 * SECOND, |pair| pair.ends[1].read == 60_000_000));
        let stats = pair.ends[0].state.stats();
        let lost = pair.routes[0][0].overflowed + pair.routes[0][0].dropped;
        let rate = 60.0 / pair.now.as_secs_f64();
        println!("loss {loss}: {rate:.1} MB/s, {lost} lost, {} repeated", stats.retransmits);
        assert!(stats.retransmits <= lost + lost / 5 + 20, "{lost} lost, {stats:?}");
        assert!(rate > 10.0, "{rate:.1} MB/s");
    }
}
