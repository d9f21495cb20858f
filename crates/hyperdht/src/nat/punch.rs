//! One attempt to punch: which packet goes when, without sending any.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::strategy::{RemoteAddress, Strategy};

/// Sockets that are held open at once towards a remote that has to guess (npm `hyperdht` 6.34).
pub(crate) const BIRTHDAY_SOCKETS: usize = 256;
/// Rounds between two NATs that keep their ports.
const CONSISTENT_ROUNDS: u32 = 10;
const CONSISTENT_PAUSE: Duration = Duration::from_secs(1);
/// In every fourth round also addresses that the remote has not proven get a packet.
const UNPROVEN_EVERY: u32 = 4;
/// Packets towards, or out of, a NAT that takes a new port for every destination: about 35 s of them.
const RANDOM_PACKETS: u32 = 1750;
const RANDOM_PAUSE: Duration = Duration::from_millis(20);
/// Between opening the sockets and using them.
const BIRTHDAY_PAUSE: Duration = Duration::from_millis(100);
/// Ports below are given to nobody by a NAT.
const LOWEST_PORT: u32 = 1000;

/// What to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PunchStep {
    /// Send a packet from the socket with this index (0 is the one that was there first; a new index is a new
    /// socket). With `low_ttl` it need only get out of our own NAT.
    Send { socket: usize, to: SocketAddr, low_ttl: bool },
    /// Nothing to do before then.
    Wait(Instant),
    /// Nothing came through.
    GiveUp,
}

/// A running attempt.
#[derive(Debug)]
pub(crate) struct Punch {
    kind: Kind,
    next: Instant,
}

#[derive(Debug)]
enum Kind {
    Consistent { addresses: Vec<RemoteAddress>, round: u32, index: usize },
    Probes { host: IpAddr, sent: u32 },
    Opening { to: SocketAddr, opened: usize },
    Holding { to: SocketAddr, sent: u32 },
}

impl Punch {
    /// Starts at `now`. The side that was called waits a little: its first packet has just gone out.
    pub(crate) fn new(strategy: Strategy, is_initiator: bool, now: Instant) -> Self {
        let (kind, wait) = match strategy {
            Strategy::Consistent(addresses) => {
                let wait = if is_initiator { Duration::ZERO } else { CONSISTENT_PAUSE };
                (Kind::Consistent { addresses, round: 1, index: 0 }, wait)
            }
            Strategy::RandomProbes(host) => (Kind::Probes { host, sent: 0 }, Duration::ZERO),
            // The socket with index 0 is open already.
            Strategy::BirthdaySockets(to) => (Kind::Opening { to, opened: 1 }, Duration::ZERO),
        };
        Self { kind, next: now + wait }
    }

    /// The next step; `random` gives evenly spread numbers.
    pub(crate) fn poll(&mut self, now: Instant, random: impl FnOnce() -> u32) -> PunchStep {
        if now < self.next {
            return PunchStep::Wait(self.next);
        }
        match &mut self.kind {
            Kind::Consistent { addresses, round, index } => {
                if *round <= CONSISTENT_ROUNDS {
                    let unproven_too = round.is_multiple_of(UNPROVEN_EVERY);
                    while let Some(remote) = addresses.get(*index) {
                        *index += 1;
                        if (remote.verified || unproven_too) && remote.address.port() != 0 {
                            return PunchStep::Send { socket: 0, to: remote.address, low_ttl: false };
                        }
                    }
                    *round += 1;
                    *index = 0;
                    self.next = now + CONSISTENT_PAUSE;
                    return PunchStep::Wait(self.next);
                }
                PunchStep::GiveUp
            }
            Kind::Probes { host, sent } => {
                if *sent >= RANDOM_PACKETS {
                    return PunchStep::GiveUp;
                }
                *sent += 1;
                self.next = now + RANDOM_PAUSE;
                let port = LOWEST_PORT + random() % (0x1_0000 - LOWEST_PORT);
                let port = u16::try_from(port).unwrap_or(u16::MAX);
                PunchStep::Send { socket: 0, to: SocketAddr::new(*host, port), low_ttl: false }
            }
            Kind::Opening { to, opened } => {
                if *opened < BIRTHDAY_SOCKETS {
                    *opened += 1;
                    return PunchStep::Send { socket: *opened - 1, to: *to, low_ttl: true };
                }
                self.kind = Kind::Holding { to: *to, sent: 0 };
                self.next = now + BIRTHDAY_PAUSE;
                PunchStep::Wait(self.next)
            }
            Kind::Holding { to, sent } => {
                if *sent >= RANDOM_PACKETS {
                    return PunchStep::GiveUp;
                }
                let sent_before = *sent as usize;
                *sent += 1;
                self.next = now + RANDOM_PAUSE;
                PunchStep::Send {
                    socket: sent_before % BIRTHDAY_SOCKETS,
                    to: *to,
                    low_ttl: sent_before < BIRTHDAY_SOCKETS,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs to the end: (seconds since the start, socket, to, low ttl) of every packet.
    fn run(mut punch: Punch, start: Instant) -> Vec<(f64, usize, SocketAddr, bool)> {
        let (mut now, mut sent, mut seed) = (start, Vec::new(), 1u32);
        for _ in 0..100_000 {
            let random = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                seed >> 8
            };
            match punch.poll(now, random) {
                PunchStep::Send { socket, to, low_ttl } => {
                    sent.push(((now - start).as_secs_f64(), socket, to, low_ttl));
                }
                PunchStep::Wait(until) => now = until,
                PunchStep::GiveUp => return sent,
            }
        }
        panic!("never gives up");
    }

    fn address(text: &str, verified: bool) -> RemoteAddress {
        RemoteAddress { address: text.parse().unwrap(), verified }
    }

    #[test]
    fn ten_rounds_between_consistent_nats() {
        let start = Instant::now();
        let addresses = vec![address("1.1.1.1:1", true), address("2.2.2.2:2", false)];
        let sent = run(Punch::new(Strategy::Consistent(addresses.clone()), true, start), start);
        let proven: Vec<_> = sent.iter().filter(|s| s.2 == addresses[0].address).map(|s| s.0).collect();
        let unproven: Vec<_> = sent.iter().filter(|s| s.2 == addresses[1].address).map(|s| s.0).collect();
        assert_eq!(proven, (0..10).map(f64::from).collect::<Vec<_>>());
        assert_eq!(unproven, [3.0, 7.0]);
        let called = run(Punch::new(Strategy::Consistent(addresses), false, start), start);
        assert_eq!(called[0].0, 1.0);
    }

    #[test]
    fn probes_try_ports_of_one_host_only() {
        let start = Instant::now();
        let host = "3.3.3.3".parse().unwrap();
        let sent = run(Punch::new(Strategy::RandomProbes(host), true, start), start);
        assert_eq!(sent.len(), 1750);
        assert!(sent.iter().all(|s| s.1 == 0 && s.2.ip() == host && s.2.port() >= 1000 && !s.3));
        assert!(sent.last().unwrap().0 < 36.0);
    }

    #[test]
    fn birthday_sockets_are_opened_then_held() {
        let start = Instant::now();
        let to = "4.4.4.4:4".parse().unwrap();
        let sent = run(Punch::new(Strategy::BirthdaySockets(to), true, start), start);
        let (opening, holding) = sent.split_at(255);
        assert!(opening.iter().enumerate().all(|(n, s)| s.0 == 0.0 && s.1 == n + 1 && s.3));
        assert_eq!((holding.len(), holding[0].0), (1750, 0.1));
        assert!(holding[..256].iter().all(|s| s.3) && holding[256..].iter().all(|s| !s.3));
        assert!(holding.iter().all(|s| s.1 < BIRTHDAY_SOCKETS && s.2 == to));
    }

    #[test]
    fn no_address_is_no_flood() {
        let start = Instant::now();
        let unusable = vec![address("1.1.1.1:0", true)];
        assert!(run(Punch::new(Strategy::Consistent(unusable), true, start), start).is_empty());
    }
}
