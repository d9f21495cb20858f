//! Two streams joined by links in virtual time, over thousands of seeds. A case that fails prints its seed; run it alone
//! with `UDX_SEED=<seed>`.

mod link;
mod pair;
mod special;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use link::{Knobs, Random};
use pair::{Pair, Plan};
use udx::{CloseReason, Config};

/// Runs `case` for every seed, or for the one that the environment names.
fn seeds(count: u64, case: impl Fn(u64)) {
    if let Some(seed) = std::env::var("UDX_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return case(seed);
    }
    for seed in 0..count {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(seed))) {
            eprintln!("seed {seed} failed: run it alone with UDX_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn some_knobs(random: &mut Random) -> Knobs {
    let latency = Duration::from_micros(50 + random.scaled(7, 11));
    let rarely = |random: &mut Random, most: u64| match random.below(3) {
        0 => random.below(most) as f64 / 1000.0,
        _ => 0.0,
    };
    Knobs {
        latency,
        jitter: if random.below(3) == 0 { latency * random.below(8) as u32 / 4 } else { Duration::ZERO },
        loss: rarely(random, 150),
        duplication: rarely(random, 100),
        reordering: rarely(random, 100),
        mtu: if random.below(2) == 0 { 1500 } else { 1200 + random.below(300) as usize },
        bandwidth: (random.below(2) == 0).then(|| 100_000.0 * (1 + random.below(500)) as f64),
        queue: 8_000 << random.below(6),
    }
}

fn some_plan(random: &mut Random) -> Plan {
    Plan {
        to_write: random.scaled(4, 15) as usize,
        write_size: 1 + random.scaled(0, 17) as usize,
        finish: true,
        read_from: if random.below(6) == 0 {
            Duration::from_millis(random.below(3_000))
        } else {
            Duration::ZERO
        },
        messages: if random.below(4) == 0 { random.below(300) as usize } else { 0 },
    }
}

fn some_config(random: &mut Random) -> Config {
    // Numbers that wrap soon.
    let start = if random.below(4) == 0 { u32::MAX - random.below(40) as u32 } else { 0 };
    Config {
        receive_window: if random.below(3) == 0 { 4_000 + random.below(200_000) as u32 } else { 4 << 20 },
        keep_alive: (random.below(3) == 0).then(|| Duration::from_millis(500 + random.below(5_000))),
        first_seq: start,
        first_ack: start,
        ..Config::default()
    }
}

#[test]
fn every_byte_arrives_once_and_in_order_and_both_sides_end() {
    seeds(2_000, |seed| {
        let mut random = Random(seed);
        let plans = [some_plan(&mut random), some_plan(&mut random)];
        let knobs = [some_knobs(&mut random), some_knobs(&mut random)];
        let config = some_config(&mut random);
        let mut pair = Pair::new(plans.clone(), knobs, seed, config);
        let done = pair.run(Duration::from_secs(600), |pair| {
            pair.ends.iter().all(|end| end.closed.is_some() && end.read_ended_at.is_some())
        });
        for (end, other) in [(0, 1), (1, 0)] {
            let (end, other) = (&pair.ends[end], &pair.ends[other]);
            assert!(done, "not ended after {:?}: {pair:#?}", pair.now);
            assert_eq!(end.closed, Some(CloseReason::Ended), "{pair:#?}");
            assert_eq!(end.read, other.plan.to_write);
            assert!(end.finished);
            let stats = end.state.stats();
            assert_eq!((stats.in_flight, stats.packets_in_flight), (0, 0));
        }
        // Closed streams come to rest.
        pair.run(pair.now + Duration::from_secs(60), |pair| {
            pair.ends.iter().all(|end| end.state.is_drained())
        });
        assert!(pair.ends.iter().all(|end| end.state.is_drained()));
    });
}

#[test]
fn destroy_reaches_the_other_side_and_what_was_read_is_a_prefix() {
    seeds(1_000, |seed| {
        let mut random = Random(!seed);
        let plan = |random: &mut Random| Plan { to_write: 1 << 17, ..some_plan(random) };
        let plans = [plan(&mut random), plan(&mut random)];
        let knobs = [some_knobs(&mut random), some_knobs(&mut random)];
        let mut pair = Pair::new(plans, knobs, seed, Config::default());
        let destroy_at = Duration::from_micros(random.below(500_000));
        pair.run(destroy_at, |pair| pair.ends.iter().all(|end| end.closed.is_some()));
        let now = pair.instant();
        pair.ends[0].state.destroy(now);
        let done = pair.run(Duration::from_secs(60), |pair| pair.ends.iter().all(|end| end.closed.is_some()));
        // The side that is left learns it from the packet, or from the answers to what it goes on sending.
        let [left, right] = [pair.ends[0].closed, pair.ends[1].closed];
        if done && left == Some(CloseReason::Destroyed) {
            // Or it had everything and its end was acknowledged, only the acknowledgement of ours was not here yet.
            let ended = right == Some(CloseReason::Ended) && pair.ends[0].written == 1 << 17;
            assert!(right == Some(CloseReason::Reset) || ended, "{right:?}");
        } else {
            assert!(matches!(left, Some(CloseReason::Ended | CloseReason::Destroyed)), "{left:?}");
            assert!(!done || right.is_some(), "{right:?}");
        }
    });
}

/// Bytes per second that a transfer of `bytes` makes, and the pair after it.
fn throughput(bytes: usize, knobs: Knobs, seed: u64) -> (f64, Pair) {
    let back = Knobs { bandwidth: None, ..knobs.clone() };
    let plans = [Plan { to_write: bytes, ..Plan::default() }, Plan::default()];
    let mut pair = Pair::new(plans, [knobs, back], seed, Config::default());
    let trace = std::env::var_os("UDX_TRACE").is_some();
    let mut traced = Duration::ZERO;
    let done = pair.run(Duration::from_secs(300), |pair| {
        if trace && pair.now >= traced {
            traced = pair.now + Duration::from_millis(100);
            println!(
                "{:?} read {} unacked {} {:?} overflowed {}",
                pair.now,
                pair.ends[1].read,
                pair.ends[0].state.unacknowledged(),
                pair.ends[0].state.stats(),
                pair.routes[0][0].overflowed
            );
        }
        pair.ends[1].read == bytes
    });
    assert!(done, "{pair:#?}");
    (bytes as f64 / pair.now.as_secs_f64(), pair)
}

const MB: f64 = 1e6;

#[test]
fn throughput_stays_within_stated_bounds_of_the_link() {
    // (bandwidth, one-way latency in ms, queue, loss, least part of the link that the payload must make)
    let cases = [
        ("clean, 50 ms", 10.0 * MB, 25, 500_000, 0.0, 0.85),
        ("clean, 50 ms, short queue", 10.0 * MB, 25, 100_000, 0.0, 0.85),
        ("clean, 50 ms, fast", 50.0 * MB, 25, 2_500_000, 0.0, 0.80),
        ("clean, 10 ms", 20.0 * MB, 5, 200_000, 0.0, 0.90),
        ("clean, 200 ms", 5.0 * MB, 100, 1_000_000, 0.0, 0.80),
        ("clean, 2 ms", 40.0 * MB, 1, 200_000, 0.0, 0.90),
        ("clean, 50 ms, slow", 0.2 * MB, 25, 30_000, 0.0, 0.85),
        ("0.1 % loss, 50 ms", 20.0 * MB, 25, 1_000_000, 0.001, 0.80),
        ("1 % loss, 50 ms", 20.0 * MB, 25, 1_000_000, 0.01, 0.80),
        ("1 % loss, 10 ms", 20.0 * MB, 5, 200_000, 0.01, 0.85),
        ("3 % loss, 50 ms", 10.0 * MB, 25, 500_000, 0.03, 0.75),
    ];
    let mut failed = false;
    let only = std::env::var("UDX_CASE").ok();
    for (name, bandwidth, latency, queue, loss, bound) in cases {
        if only.as_ref().is_some_and(|only| only != name) {
            continue;
        }
        // Ten seconds and more, so that a probe for the round trip time is within; less where that would take long.
        let bytes = (bandwidth * 12.0).min((bandwidth * 3.0).max(60.0 * MB)) as usize;
        let knobs = Knobs {
            latency: Duration::from_millis(latency),
            bandwidth: Some(bandwidth),
            queue,
            loss,
            ..Knobs::default()
        };
        for seed in 0..if loss > 0.0 { 2 } else { 1 } {
            let (rate, pair) = throughput(bytes, knobs.clone(), seed);
            let stats = pair.ends[0].state.stats();
            let used = rate / bandwidth;
            println!(
                "{name}, seed {seed}: {:.2} MB/s = {:.0} % of the link (bound {:.0} %); {} packets, {} repeated, {} overflowed, {} timeouts, mtu {}",
                rate / MB,
                used * 100.0,
                bound * 100.0,
                stats.packets_sent,
                stats.retransmits,
                pair.routes[0][0].overflowed,
                stats.timeouts,
                stats.mtu,
            );
            failed |= used < bound;
        }
    }
    assert!(!failed, "a bound was not kept; see above");
}

#[test]
fn where_the_link_has_no_limit_the_window_is_the_limit() {
    // 4 MiB in 50 ms: 84 MB/s.
    for (loss, bound) in [(0.0, 60.0), (0.001, 55.0), (0.01, 45.0)] {
        let (rate, pair) = throughput(150_000_000, Knobs { loss, ..Knobs::default() }, 1);
        println!("loss {loss}: {:.1} MB/s, {:?}", rate / MB, pair.ends[0].state.stats());
        assert!(rate / MB > bound, "loss {loss}: {:.1} MB/s", rate / MB);
    }
}
