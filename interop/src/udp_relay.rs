//! A UDP relay between two peers with the faults of a network: delay, loss, reordering, a bottleneck.
//!
//! It moves batches (GRO in, GSO out), so that what is measured through it is the peers. Faults are decided by a seeded
//! generator: the same packets in the same order meet the same fate.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::sync::Notify;

/// What the network between the two does, the same both ways.
#[derive(Debug, Clone, Copy)]
pub struct Faults {
    /// How long every datagram takes.
    pub delay: Duration,
    /// Up to so much longer, at random: datagrams overtake each other.
    pub jitter: Duration,
    /// Of a million datagrams, how many are lost.
    pub loss_ppm: u32,
    /// Of a million datagrams, how many come twice.
    pub duplicate_ppm: u32,
    /// Datagrams larger than this (UDP payload) are lost.
    pub max_size: usize,
    /// Bytes per second that pass; the rest waits in a queue of `queue` bytes, and is lost beyond it.
    pub rate: Option<u64>,
    /// See `rate`; also the bound of everything under way.
    pub queue: usize,
    /// What decides.
    pub seed: u64,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss_ppm: 0,
            duplicate_ppm: 0,
            max_size: usize::MAX,
            rate: None,
            queue: 64 << 20,
            seed: 1,
        }
    }
}

/// A running relay; it ends when dropped.
#[derive(Debug)]
pub struct UdpRelay {
    near: SocketAddr,
    far: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    faults: Mutex<Faults>,
    stop: Notify,
    passed: AtomicU64,
    lost: AtomicU64,
}

impl UdpRelay {
    /// A relay between `a` and `b`: `a` takes [`UdpRelay::near`] for `b`, `b` takes [`UdpRelay::far`] for `a`.
    ///
    /// # Panics
    ///
    /// When there are no sockets to be had on 127.0.0.1.
    pub fn new(a: SocketAddr, b: SocketAddr, faults: Faults) -> Self {
        let bind = || std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        let (near, far) = (bind(), bind());
        let address =
            |socket: &std::net::UdpSocket| socket.local_addr().expect("a bound socket has an address");
        let (near_addr, far_addr) = (address(&near), address(&far));
        let shared = Arc::new(Shared {
            faults: Mutex::new(faults),
            stop: Notify::new(),
            passed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let carrying = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be made").block_on(async {
                let side = |socket, to| Side::new(socket, to).expect("a bound socket can be used");
                let mut carrier = Carrier::new(carrying, [side(near, a), side(far, b)]);
                carrier.run().await;
            });
        });
        Self { near: near_addr, far: far_addr, shared, thread: Some(thread) }
    }

    /// Where `a` finds `b`.
    pub fn near(&self) -> SocketAddr {
        self.near
    }

    /// Where `b` finds `a`.
    pub fn far(&self) -> SocketAddr {
        self.far
    }

    /// From now on other faults.
    pub fn set(&self, faults: Faults) {
        *self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// Datagrams that passed, and that were lost.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.passed.load(Ordering::Relaxed), self.shared.lost.load(Ordering::Relaxed))
    }
}

impl Drop for UdpRelay {
    fn drop(&mut self) {
        self.shared.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Side {
    udp: UdpSocket,
    state: UdpSocketState,
    to: SocketAddr,
    /// When the bottleneck out of this side is free again.
    free_at: Instant,
}

impl Side {
    fn new(socket: std::net::UdpSocket, to: SocketAddr) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let udp = UdpSocket::from_std(socket)?;
        let state = UdpSocketState::new((&udp).into())?;
        let _ = state.set_recv_buffer_size((&udp).into(), 16 << 20);
        let _ = state.set_send_buffer_size((&udp).into(), 4 << 20);
        Ok(Self { udp, state, to, free_at: Instant::now() })
    }
}

/// When it leaves, its number (so that equals stay in order), through which side, what.
type Waiting = Reverse<(Instant, u64, usize, Bytes)>;

struct Carrier {
    shared: Arc<Shared>,
    sides: [Side; 2],
    waiting: BinaryHeap<Waiting>,
    bytes: usize,
    number: u64,
    random: u64,
}

impl Carrier {
    fn new(shared: Arc<Shared>, sides: [Side; 2]) -> Self {
        let random = shared.faults.lock().unwrap_or_else(PoisonError::into_inner).seed.max(1);
        Self { shared, sides, waiting: BinaryHeap::new(), bytes: 0, number: 0, random }
    }

    async fn run(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut memory = vec![0; BATCH_SIZE << 16];
        loop {
            let next = self.waiting.peek().map(|Reverse((at, ..))| tokio::time::Instant::from_std(*at));
            let timer = async {
                match next {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shared.stop.notified() => return,
                _ = self.sides[0].udp.readable() => self.read(0, &mut memory),
                _ = self.sides[1].udp.readable() => self.read(1, &mut memory),
                () = timer => {}
            }
            self.release();
        }
    }

    fn read(&mut self, side: usize, memory: &mut [u8]) {
        let faults = *self.shared.faults.lock().unwrap_or_else(PoisonError::into_inner);
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        for _ in 0..4 {
            let from = &self.sides[side];
            let read = from.udp.try_io(Interest::READABLE, || {
                let mut chunks = memory.chunks_exact_mut(1 << 16);
                let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                    std::array::from_fn(|_| IoSliceMut::new(chunks.next().expect("as many as slices")));
                from.state.recv((&from.udp).into(), &mut slices, &mut metas)
            });
            let Ok(read) = read else { return };
            let now = Instant::now();
            for (meta, train) in metas.iter().zip(memory.chunks_exact(1 << 16)).take(read) {
                let train = Bytes::copy_from_slice(&train[..meta.len]);
                for start in (0..train.len()).step_by(meta.stride.max(1)) {
                    let datagram = train.slice(start..(start + meta.stride).min(train.len()));
                    self.take(1 - side, datagram, &faults, now);
                }
            }
        }
    }

    /// Decides about a datagram that leaves through `side`.
    fn take(&mut self, side: usize, datagram: Bytes, faults: &Faults, now: Instant) {
        let copies = if self.chance(faults.duplicate_ppm) { 2 } else { 1 };
        for _ in 0..copies {
            let lost = self.chance(faults.loss_ppm)
                || datagram.len() > faults.max_size
                || self.bytes + datagram.len() > faults.queue;
            if lost {
                self.shared.lost.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let mut at = now;
            if let Some(rate) = faults.rate {
                let out = &mut self.sides[side];
                let length = datagram.len() as u64;
                out.free_at =
                    out.free_at.max(now) + Duration::from_nanos(length * 1_000_000_000 / rate.max(1));
                at = out.free_at;
            }
            at += faults.delay;
            if !faults.jitter.is_zero() {
                at += faults.jitter.mul_f64(self.random() as f64 / u64::MAX as f64);
            }
            self.number += 1;
            self.bytes += datagram.len();
            self.waiting.push(Reverse((at, self.number, side, datagram.clone())));
        }
    }

    /// Sends what is due, neighbours of one size together.
    fn release(&mut self) {
        const MAX_TRAIN: usize = 60_000;
        let now = Instant::now();
        let mut train = Vec::with_capacity(MAX_TRAIN + 2048);
        let (mut side, mut segment, mut count) = (0, 0, 0);
        loop {
            let due = match self.waiting.peek() {
                Some(Reverse((at, ..))) if *at <= now => self.waiting.pop(),
                _ => None,
            };
            let datagram = due.map(|Reverse((_, _, side, datagram))| (side, datagram));
            let fits = datagram.as_ref().is_some_and(|(to, datagram)| {
                *to == side && datagram.len() == segment && train.len() + segment <= MAX_TRAIN && count < 64
            });
            if !fits && !train.is_empty() {
                self.send(side, &train, segment);
                train.clear();
                count = 0;
            }
            let Some((to, datagram)) = datagram else { return };
            (side, segment) = (to, datagram.len());
            self.bytes -= datagram.len();
            train.extend_from_slice(&datagram);
            count += 1;
            self.shared.passed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send(&self, side: usize, contents: &[u8], segment: usize) {
        let side = &self.sides[side];
        let segment_size = (segment < contents.len()).then_some(segment);
        let transmit = Transmit { destination: side.to, ecn: None, contents, segment_size, src_ip: None };
        // What the kernel does not take is lost, as in a router.
        let _ = side.udp.try_io(Interest::WRITABLE, || side.state.try_send((&side.udp).into(), &transmit));
    }

    fn chance(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.random() % 1_000_000 < u64::from(ppm)
    }

    fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}
