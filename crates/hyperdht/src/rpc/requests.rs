//! Our requests: those that wait for their turn, and those that wait for an answer.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::RpcError;
use super::lanes::Lane;
use super::rng::Rng;
use super::window::{Admission, Window};

/// Requests that a node has under way or waiting, at most.
pub const MAX_REQUESTS: usize = 32_768;
/// How long an answer may take until the request is sent again or given up (dht-rpc 6.27, `lib/io.js`).
pub(crate) const TIMEOUT: Duration = Duration::from_millis(1_000);

/// A request of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

/// A socket of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Socket {
    /// The one that a firewalled node asks from.
    Client,
    /// The one at which others find us.
    Server,
    /// One of those attached.
    Other(u64),
}

/// A datagram to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// From where.
    pub socket: Socket,
    /// Where to.
    pub to: SocketAddr,
    /// What.
    pub payload: Bytes,
    /// With a limited number of hops.
    pub ttl: Option<u8>,
}

/// A request, and what is known of its fate. `P` says what it is for.
#[derive(Debug)]
pub(crate) struct Outgoing<P> {
    pub(crate) purpose: P,
    pub(crate) tid: u16,
    pub(crate) to: SocketAddr,
    pub(crate) socket: Socket,
    pub(crate) payload: Bytes,
    pub(crate) ttl: Option<u8>,
    /// How often it is sent again.
    pub(crate) retries: u32,
    pub(crate) timeout: Duration,
    pub(crate) background: bool,
    sent: u32,
    sent_at: Instant,
    /// Set while it waits for an answer; it then counts in the window.
    deadline: Option<Instant>,
}

/// What became of a request after its time was up.
#[derive(Debug)]
pub(crate) enum Overdue<P> {
    /// It will be sent again; true if this is the first time.
    Again(RequestId, bool),
    /// It was given up.
    GivenUp(RequestId, Outgoing<P>),
}

/// How a new request is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sending {
    pub(crate) socket: Socket,
    pub(crate) ttl: Option<u8>,
    pub(crate) retries: u32,
    pub(crate) timeout: Duration,
    pub(crate) background: bool,
}

/// All requests of a node.
#[derive(Debug)]
pub(crate) struct Requests<P> {
    all: HashMap<RequestId, Outgoing<P>>,
    /// Replies are matched by number and sender. Numbers are drawn at random: who does not see our requests has to guess
    /// one to forge an answer.
    by_wire: HashMap<(u16, SocketAddr), RequestId>,
    deadlines: BTreeSet<(Instant, RequestId)>,
    foreground: Lane<RequestId>,
    background: Lane<RequestId>,
    window: Window,
    release_at: Option<Instant>,
    next: u64,
    pub(crate) total: u64,
    pub(crate) responses: u64,
    pub(crate) timeouts: u64,
    pub(crate) retries: u64,
}

impl<P> Requests<P> {
    pub(crate) fn new(max_window: usize, now: Instant) -> Self {
        Self {
            all: HashMap::new(),
            by_wire: HashMap::new(),
            deadlines: BTreeSet::new(),
            foreground: Lane::default(),
            background: Lane::default(),
            window: Window::new(max_window, now),
            release_at: None,
            next: 0,
            total: 0,
            responses: 0,
            timeouts: 0,
            retries: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Takes in a request, whose message `encode` makes for the number that it is given.
    pub(crate) fn push(
        &mut self,
        to: SocketAddr,
        sending: Sending,
        purpose: P,
        rng: &mut Rng,
        now: Instant,
        encode: impl FnOnce(u16) -> Result<Bytes, RpcError>,
    ) -> Result<RequestId, RpcError> {
        if self.all.len() >= MAX_REQUESTS {
            return Err(RpcError::Busy);
        }
        let tid = self.free_tid(to, rng)?;
        let payload = encode(tid)?;
        self.next += 1;
        self.total += 1;
        let id = RequestId(self.next);
        self.by_wire.insert((tid, to), id);
        let Sending { socket, ttl, retries, timeout, background } = sending;
        let outgoing = Outgoing {
            purpose,
            tid,
            to,
            socket,
            payload,
            ttl,
            retries,
            timeout,
            background,
            sent: 0,
            sent_at: now,
            deadline: None,
        };
        self.all.insert(id, outgoing);
        self.lane(background).push(to, id);
        Ok(id)
    }

    /// The next request to leave, if one may.
    pub(crate) fn poll_send(&mut self, now: Instant) -> Option<Transmit> {
        self.release_at = None;
        loop {
            let is_background = self.foreground.turn().is_none();
            let to = self.lane(is_background).turn()?;
            match self.window.admit(to, now) {
                Admission::Full => return None,
                Admission::At(at) => {
                    self.release_at = Some(at);
                    return None;
                }
                Admission::AddressBusy => self.lane(is_background).park(),
                Admission::Now => {
                    let Some(id) = self.lane(is_background).pop() else { continue };
                    let Some(request) = self.all.get_mut(&id) else { continue }; // cancelled
                    let deadline = now + request.timeout;
                    request.sent += 1;
                    request.sent_at = now;
                    request.deadline = Some(deadline);
                    self.deadlines.insert((deadline, id));
                    self.window.sent(to);
                    return Some(Transmit {
                        socket: request.socket,
                        to,
                        payload: request.payload.clone(),
                        ttl: request.ttl,
                    });
                }
            }
        }
    }

    /// The request that a reply answers, which is then done with, and how long it took.
    pub(crate) fn answered(
        &mut self,
        tid: u16,
        from: SocketAddr,
        now: Instant,
    ) -> Option<(RequestId, Outgoing<P>, Duration)> {
        let id = *self.by_wire.get(&(tid, from))?;
        // One that was never sent cannot have been answered.
        if self.all.get(&id)?.sent == 0 {
            return None;
        }
        let request = self.forget(id)?;
        let rtt = now.saturating_duration_since(request.sent_at);
        self.responses += 1;
        if let Some(deadline) = request.deadline {
            self.deadlines.remove(&(deadline, id));
            // What was asked to be answered late says nothing about the network.
            let measured = (request.timeout == TIMEOUT).then_some(rtt);
            self.window.received(from, measured, now);
            self.wake(from);
        }
        Some((id, request, rtt))
    }

    /// One request whose time is up.
    pub(crate) fn poll_overdue(&mut self, now: Instant) -> Option<Overdue<P>> {
        let (deadline, id) = self.deadlines.first().copied()?;
        if deadline > now {
            return None;
        }
        self.deadlines.pop_first();
        let request = self.all.get_mut(&id)?;
        request.deadline = None;
        let (to, sent, background) = (request.to, request.sent, request.background);
        let again = sent <= request.retries;
        self.window.lost(to, now);
        self.wake(to);
        if again {
            self.retries += 1;
            self.lane(background).push(to, id);
            return Some(Overdue::Again(id, sent == 1));
        }
        self.timeouts += 1;
        let request = self.forget(id)?;
        Some(Overdue::GivenUp(id, request))
    }

    /// Nobody wants the answer any longer.
    pub(crate) fn cancel(&mut self, id: RequestId) -> Option<Outgoing<P>> {
        let request = self.forget(id)?;
        match request.deadline {
            Some(deadline) => {
                self.deadlines.remove(&(deadline, id));
                self.window.gone(request.to);
                self.wake(request.to);
            }
            None => self.lane(request.background).remove(request.to, &id),
        }
        Some(request)
    }

    /// Cancels everything.
    pub(crate) fn clear(&mut self) -> Vec<(RequestId, Outgoing<P>)> {
        let mut ids: Vec<RequestId> = self.all.keys().copied().collect();
        ids.sort_unstable();
        self.foreground.clear();
        self.background.clear();
        ids.into_iter().filter_map(|id| Some((id, self.cancel(id)?))).collect()
    }

    pub(crate) fn get(&self, id: RequestId) -> Option<&Outgoing<P>> {
        self.all.get(&id)
    }

    /// When something is to be done, if nothing arrives.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let overdue = self.deadlines.first().map(|(deadline, _)| *deadline);
        [overdue, self.release_at].into_iter().flatten().min()
    }

    fn forget(&mut self, id: RequestId) -> Option<Outgoing<P>> {
        let request = self.all.remove(&id)?;
        self.by_wire.remove(&(request.tid, request.to));
        Some(request)
    }

    fn lane(&mut self, background: bool) -> &mut Lane<RequestId> {
        if background { &mut self.background } else { &mut self.foreground }
    }

    fn wake(&mut self, to: SocketAddr) {
        self.foreground.wake(to);
        self.background.wake(to);
    }

    fn free_tid(&self, to: SocketAddr, rng: &mut Rng) -> Result<u16, RpcError> {
        let start = rng.u16();
        // As there are fewer requests than numbers, one is free.
        let mut tids = (0..=u16::MAX).map(|n| start.wrapping_add(n));
        tids.find(|tid| !self.by_wire.contains_key(&(*tid, to))).ok_or(RpcError::Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDING: Sending =
        Sending { socket: Socket::Client, ttl: None, retries: 3, timeout: TIMEOUT, background: false };

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], n))
    }

    struct Bed {
        requests: Requests<u32>,
        rng: Rng,
        now: Instant,
    }

    impl Bed {
        fn new() -> Self {
            let now = Instant::now();
            Self { requests: Requests::new(80, now), rng: Rng::new([0; 32]), now }
        }

        fn push(&mut self, to: SocketAddr, purpose: u32, sending: Sending) -> RequestId {
            let encode = |tid: u16| Ok(Bytes::copy_from_slice(&tid.to_le_bytes()));
            self.requests.push(to, sending, purpose, &mut self.rng, self.now, encode).unwrap()
        }

        fn sent(&mut self) -> Vec<(SocketAddr, u16)> {
            std::iter::from_fn(|| self.requests.poll_send(self.now))
                .map(|transmit| (transmit.to, u16::from_le_bytes([transmit.payload[0], transmit.payload[1]])))
                .collect()
        }
    }

    #[test]
    fn a_request_is_sent_until_it_is_answered() {
        let mut bed = Bed::new();
        let id = bed.push(addr(1), 7, SENDING);
        let first = bed.sent();
        bed.now += TIMEOUT;
        assert!(
            matches!(bed.requests.poll_overdue(bed.now), Some(Overdue::Again(again, true)) if again == id)
        );
        assert_eq!(bed.sent(), first);
        bed.now += Duration::from_millis(30);
        assert!(bed.requests.answered(first[0].1, addr(2), bed.now).is_none(), "somebody else answered");
        let (answered, request, rtt) = bed.requests.answered(first[0].1, addr(1), bed.now).unwrap();
        assert_eq!((answered, request.purpose, rtt), (id, 7, Duration::from_millis(30)));
        assert!(bed.requests.answered(first[0].1, addr(1), bed.now).is_none(), "twice");
        assert_eq!((bed.requests.len(), bed.requests.next_deadline()), (0, None));
    }

    #[test]
    fn a_request_is_given_up_after_its_retries() {
        let mut bed = Bed::new();
        bed.push(addr(1), 7, SENDING);
        let mut sends = 0;
        loop {
            sends += bed.sent().len();
            bed.now = bed.requests.next_deadline().unwrap();
            if let Some(Overdue::GivenUp(_, request)) = bed.requests.poll_overdue(bed.now) {
                assert_eq!(request.purpose, 7);
                break;
            }
        }
        assert_eq!(sends, 4);
        assert!(bed.requests.by_wire.is_empty() && bed.requests.deadlines.is_empty());
    }

    #[test]
    fn a_thousand_requests_leave_as_answers_come() {
        let mut bed = Bed::new();
        for n in 0..1000 {
            bed.push(addr(n % 50), n.into(), SENDING);
        }
        let (start, mut answered) = (bed.now, 0);
        while answered < 1000 {
            let sent = bed.sent();
            bed.now += Duration::from_millis(1);
            for (to, tid) in sent {
                bed.requests.answered(tid, to, bed.now).unwrap();
                answered += 1;
            }
        }
        assert!(bed.now - start < Duration::from_millis(60), "{:?}", bed.now - start);
    }

    #[test]
    fn what_is_in_the_background_waits_for_the_rest() {
        let mut bed = Bed::new();
        for n in 0..500 {
            bed.push(addr(n), n.into(), Sending { background: true, ..SENDING });
        }
        bed.sent();
        let id = bed.push(addr(9_999), 1, SENDING);
        bed.now += TIMEOUT;
        while bed.requests.poll_overdue(bed.now).is_some() {}
        let sent = bed.sent();
        assert_eq!(sent[0].0, addr(9_999));
        assert!(bed.requests.cancel(id).is_some() && bed.requests.cancel(id).is_none());
    }

    #[test]
    fn their_number_is_bounded() {
        let mut bed = Bed::new();
        for n in 0..MAX_REQUESTS {
            bed.push(addr(1), n as u32, SENDING);
        }
        let more = bed.requests.push(addr(2), SENDING, 0, &mut bed.rng, bed.now, |_| Ok(Bytes::new()));
        assert_eq!(more, Err(RpcError::Busy));
        assert_eq!(bed.requests.clear().len(), MAX_REQUESTS);
        assert_eq!(bed.requests.len(), 0);
        assert!(bed.sent().is_empty());
    }
}
