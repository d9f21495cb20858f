//! Two streams and the links between them, with applications that write and read a known pattern.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use udx::packet::{DATA, Header, MAX_SACKS, SACK};
use udx::{CloseReason, Config, Event, Packet, Path, StreamState};

use crate::link::{Knobs, Link, Random};

/// What every stream carries: byte `i` is known, and no short stretch repeats.
pub(crate) fn pattern() -> Bytes {
    let mut random = Random(7);
    let bytes: Vec<u8> =
        (0..PATTERN / 8 + 1).flat_map(|_| random.next().to_le_bytes()).take(PATTERN).collect();
    Bytes::from(bytes)
}
const PATTERN: usize = 1_000_003;

/// What the application at one end does.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) to_write: usize,
    /// Size of each write.
    pub(crate) write_size: usize,
    /// Ends its half when everything is written.
    pub(crate) finish: bool,
    /// Reads nothing before this time.
    pub(crate) read_from: Duration,
    pub(crate) messages: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { to_write: 0, write_size: 64 << 10, finish: true, read_from: Duration::ZERO, messages: 0 }
    }
}

#[derive(Debug)]
pub(crate) struct End {
    pub(crate) state: StreamState,
    pub(crate) plan: Plan,
    pub(crate) written: usize,
    pub(crate) read: usize,
    pub(crate) read_ended_at: Option<Duration>,
    pub(crate) messages: usize,
    pub(crate) events: Vec<Event>,
    pub(crate) closed: Option<CloseReason>,
    pub(crate) finished: bool,
    pub(crate) sent_datagrams: usize,
}

impl End {
    fn new(local: u32, remote: u32, plan: Plan, config: Config, start: Instant) -> Self {
        let mut state = StreamState::new(local, config, start);
        assert!(state.connect(path(remote), start));
        Self {
            state,
            plan,
            written: 0,
            read: 0,
            read_ended_at: None,
            messages: 0,
            events: Vec::new(),
            closed: None,
            finished: false,
            sent_datagrams: 0,
        }
    }
}

pub(crate) fn path(remote_id: u32) -> Path {
    Path { remote_id, remote: ([127, 0, 0, 1], 4000).into(), socket: 0, link_mtu: None }
}

/// Ends 0 and 1, and routes between them; link 0 of a route leads from end 0 to end 1. Which route a packet takes says
/// the socket of its path.
#[derive(Debug)]
pub(crate) struct Pair {
    start: Instant,
    pub(crate) now: Duration,
    pub(crate) ends: [End; 2],
    pub(crate) routes: Vec<[Link; 2]>,
    pattern: Bytes,
    /// Timers fire late by up to a millisecond, as tokio's do.
    pub(crate) coarse_timers: bool,
    batch: Vec<u8>,
    /// End 1 acknowledges as libudx does, which reports the lowest runs only: what has arrived there.
    pub(crate) lowest_runs: Option<BTreeSet<u32>>,
    /// Prints every packet (`UDX_LOG`).
    log: bool,
}

impl Pair {
    pub(crate) fn new(plans: [Plan; 2], knobs: [Knobs; 2], seed: u64, config: Config) -> Self {
        let start = Instant::now();
        let [plan_a, plan_b] = plans;
        let [knobs_a, knobs_b] = knobs;
        let mut random = Random(seed);
        Self {
            start,
            now: Duration::ZERO,
            ends: [End::new(1, 2, plan_a, config.clone(), start), End::new(2, 1, plan_b, config, start)],
            routes: vec![[Link::new(knobs_a, random.next()), Link::new(knobs_b, random.next())]],
            pattern: PATTERN_BYTES.with(Bytes::clone),
            coarse_timers: true,
            batch: Vec::new(),
            lowest_runs: None,
            log: std::env::var_os("UDX_LOG").is_some(),
        }
    }

    /// Adds a route and returns its number.
    pub(crate) fn add_route(&mut self, knobs: [Knobs; 2], seed: u64) -> u64 {
        let mut random = Random(seed);
        self.routes.push(knobs.map(|knobs| Link::new(knobs, random.next())));
        self.routes.len() as u64 - 1
    }

    pub(crate) fn instant(&self) -> Instant {
        self.start + self.now
    }

    /// Runs until `done` or until virtual time `limit`. Whether it was done.
    pub(crate) fn run(&mut self, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> bool {
        loop {
            for at in 0..2 {
                self.turn(at);
            }
            if done(self) {
                return true;
            }
            let arrivals = self.routes.iter().flatten().filter_map(Link::next_arrival);
            let deadlines = self.ends.iter().filter_map(|end| {
                let wanted = end.state.next_deadline()?.saturating_duration_since(self.start);
                Some(if self.coarse_timers { coarse(wanted) } else { wanted })
            });
            let reads = self.ends.iter().map(|end| end.plan.read_from).filter(|at| *at > self.now);
            let Some(next) = arrivals.chain(deadlines).chain(reads).min() else { return false };
            assert!(
                next >= self.now || self.now == Duration::ZERO || next + Duration::from_millis(1) >= self.now
            );
            // A deadline that never moves would spin for ever: time goes on by at least a microsecond.
            self.now = next.max(self.now + Duration::from_micros(1));
            if self.now > limit {
                return false;
            }
        }
    }

    fn turn(&mut self, at: usize) {
        let now = self.instant();
        let end = &mut self.ends[at];
        while let Some(datagram) = self.routes.iter_mut().find_map(|route| route[1 - at].receive(self.now)) {
            let packet = Packet::decode(datagram).expect("a UDX packet");
            if at == 1
                && packet.header.is(DATA)
                && let Some(arrived) = &mut self.lowest_runs
            {
                arrived.insert(packet.header.seq);
            }
            if self.log {
                println!(
                    "{:?} end {at} receives seq {} ack {}",
                    self.now, packet.header.seq, packet.header.ack
                );
            }
            end.state.receive(packet, now);
        }
        end.state.handle_timeout(now);
        if self.now >= end.plan.read_from {
            while let Some(data) = end.state.read() {
                check(&self.pattern, end.read, &data);
                end.read += data.len();
            }
            if end.state.read_ended() {
                end.read_ended_at.get_or_insert(self.now);
            }
        }
        while let Some(message) = end.state.poll_message() {
            assert_eq!(message.len(), 100);
            end.messages += 1;
        }
        while end.plan.messages > 0 && end.state.send_message(Bytes::from_static(&[9; 100])).is_ok() {
            end.plan.messages -= 1;
        }
        while end.written < end.plan.to_write && end.state.writable() > 0 {
            let from = end.written % PATTERN;
            let length = end.plan.write_size.min(end.plan.to_write - end.written).min(PATTERN - from);
            assert!(end.state.write(self.pattern.slice(from..from + length)));
            end.written += length;
        }
        if end.plan.finish && end.written == end.plan.to_write {
            end.state.finish();
        }
        while let Some(transmit) = end.state.poll_transmit(now, 40, &mut self.batch) {
            assert_eq!(self.batch.len(), transmit.size);
            let route = transmit.path.socket as usize;
            let datagrams = Bytes::from(std::mem::take(&mut self.batch));
            for from in (0..transmit.size).step_by(transmit.segment_size) {
                let datagram = datagrams.slice(from..transmit.size.min(from + transmit.segment_size));
                end.sent_datagrams += 1;
                let datagram = match &mut self.lowest_runs {
                    Some(arrived) if at == 1 => report_lowest(arrived, datagram),
                    _ => datagram,
                };
                if self.log {
                    let header = udx::packet::Header::decode(&datagram);
                    println!(
                        "{:?} end {at} sends {} bytes on route {route} {header:?}",
                        self.now,
                        datagram.len()
                    );
                }
                self.routes[route][at].send(self.now, datagram);
            }
        }
        while let Some(event) = end.state.poll_event() {
            match event {
                Event::Closed(reason) => {
                    assert_eq!(end.closed.replace(reason), None, "closed twice");
                }
                Event::Finished => end.finished = true,
                _ => {}
            }
            end.events.push(event);
        }
    }
}

/// The same acknowledgement with the lowest runs of what has arrived.
fn report_lowest(arrived: &mut BTreeSet<u32>, datagram: Bytes) -> Bytes {
    let Some(header) = Header::decode(&datagram).filter(|header| header.is(SACK)) else { return datagram };
    *arrived = arrived.split_off(&header.ack);
    let mut report = header.encode().to_vec();
    let mut rest = arrived.iter().copied().peekable();
    for _ in 0..MAX_SACKS {
        let Some(start) = rest.next() else { break };
        let mut end = start + 1;
        while rest.next_if_eq(&end).is_some() {
            end += 1;
        }
        report.extend_from_slice(&start.to_le_bytes());
        report.extend_from_slice(&end.to_le_bytes());
    }
    Bytes::from(report)
}

/// Rounds up to the next tick of a timer wheel.
fn coarse(at: Duration) -> Duration {
    Duration::from_millis(u64::try_from(at.as_nanos().div_ceil(1_000_000)).expect("a short simulation"))
}

fn check(pattern: &Bytes, at: usize, data: &[u8]) {
    let mut rest = data;
    let mut at = at;
    while !rest.is_empty() {
        let expected = &pattern[at % PATTERN..];
        let length = rest.len().min(expected.len());
        assert!(rest[..length] == expected[..length], "wrong bytes at {at}");
        rest = &rest[length..];
        at += length;
    }
}

thread_local! {
    static PATTERN_BYTES: Bytes = pattern();
}
