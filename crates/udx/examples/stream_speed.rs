//! How fast the state machine is by itself: two streams joined in memory, batches in and out as a driver with GSO and GRO
//! moves them. One thread does both ends, so a core that does one end is about twice as fast.
//!
//! `cargo run --release -p udx --example stream_speed`

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use udx::{Config, Packet, Path, StreamState};

fn main() {
    for (name, loss) in [("clean", 0), ("1 % loss", 100)] {
        run(name, loss);
    }
}

/// Loses one packet in `loss`.
fn run(name: &str, loss: u64) {
    const TOTAL: usize = 2 << 30;
    let start = Instant::now();
    let path =
        |remote_id| Path { remote_id, remote: ([127, 0, 0, 1], 4000).into(), socket: 0, link_mtu: None };
    let mut a = StreamState::new(1, Config::default(), start);
    let mut b = StreamState::new(2, Config::default(), start);
    a.connect(path(2), start);
    b.connect(path(1), start);
    let chunk = Bytes::from(vec![7; 64 << 10]);
    let (mut written, mut read, mut packets, mut seen) = (0, 0, 0u64, 0u64);
    // Virtual time: 200 microseconds for each way, so that windows and pacing let much go.
    let mut now = start;
    let mut under_way: [Vec<(Bytes, usize)>; 2] = Default::default();
    let mut arena = Vec::new();
    while read < TOTAL {
        now += Duration::from_micros(200);
        for end in 0..2 {
            let (state, arrivals) = match end {
                0 => (&mut a, std::mem::take(&mut under_way[1])),
                _ => (&mut b, std::mem::take(&mut under_way[0])),
            };
            for (batch, segment) in arrivals {
                let mut rest = batch;
                while !rest.is_empty() {
                    let datagram = rest.split_to(segment.min(rest.len()));
                    seen += 1;
                    if loss > 0 && seen % loss == 0 {
                        continue;
                    }
                    packets += 1;
                    state.receive(Packet::decode(datagram).expect("a UDX packet"), now);
                }
            }
            state.handle_timeout(now);
            while let Some(data) = state.read() {
                read += data.len();
            }
            if end == 0 {
                while written < TOTAL && state.writable() > 0 {
                    written += chunk.len();
                    state.write(chunk.clone());
                }
            }
            while let Some(transmit) = state.poll_transmit(now, 44, &mut arena) {
                // What a socket would copy.
                under_way[end].push((BytesMut::from(&arena[..]).freeze(), transmit.segment_size));
                arena.clear();
            }
            while state.poll_event().is_some() {}
        }
    }
    let elapsed = start.elapsed();
    println!(
        "{name}: {:.0} MB/s, {:.0} ns a packet (both ends and two copies), virtual {:.2} s, {:?}",
        TOTAL as f64 / 1e6 / elapsed.as_secs_f64(),
        elapsed.as_nanos() as f64 / packets as f64,
        (now - start).as_secs_f64(),
        a.stats()
    );
}
