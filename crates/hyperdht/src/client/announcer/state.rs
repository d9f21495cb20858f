//! When a server is announced, where, and what is done to keep it so (npm `hyperdht` 6.34 `lib/announcer.js`).
//!
//! The three nodes nearest to the hash of the server's key become its relays: they forward handshakes to it. It pings
//! them every few seconds, which keeps the way through its own NAT open, and looks for better ones every five minutes,
//! or sooner when it loses one. Relays that are no longer needed are told so.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::rpc::Peer;

/// How many relays a server has.
pub(crate) const RELAYS: usize = 3;
/// How long it rests between pings.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(3);
/// Rounds of pings until it announces itself anew.
pub(crate) const PING_ROUNDS: u32 = 100;
/// How long it waits after finding no relay at all, the first time; each further time twice as long, up to
/// [`MAX_RETRY`]. (npm waits for the five minutes to pass.)
pub(crate) const FIRST_RETRY: Duration = Duration::from_secs(3);
/// The longest such wait.
pub(crate) const MAX_RETRY: Duration = Duration::from_secs(60);

/// A node at which the server is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Relay {
    /// The node.
    pub(crate) node: Peer,
    /// The server as that node sees it.
    pub(crate) seen_as: SocketAddr,
}

/// A node near the server's target, which answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Candidate {
    /// The node and how it sees us.
    pub(crate) relay: Relay,
    /// What it wants to see with an announcement.
    pub(crate) token: [u8; 32],
}

/// What is to be done. Everything but [`Action::Query`] is answered exactly once, with the `on_` function of its name;
/// the query as well unless it was [cancelled](Action::CancelQuery).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Find the nodes nearest to the target, starting from these.
    Query(Vec<Peer>),
    /// Stop looking.
    CancelQuery,
    /// Announce the server here.
    Announce(Candidate),
    /// Take the announcement back here: ask for a token, then unannounce.
    Unannounce(Peer),
    /// See if it is alive.
    Ping(Peer),
    /// Its relays changed: tell whoever wants to know.
    Publish,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Wants to query; it does with the next poll, if it is online and nothing is on its way.
    Wanting,
    Querying,
    Announcing,
    /// Tells former relays that they are no longer needed.
    Leaving,
    /// Waits for pings to be answered.
    Pinging,
    /// Until the next round of pings, or the next try.
    Resting(Instant),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Announced,
    Suspended,
    Stopped,
}

/// The announcer of one server. No I/O, no clock.
#[derive(Debug)]
pub(crate) struct Announcer {
    phase: Phase,
    wish: Wish,
    online: bool,
    refresh: bool,
    /// Where it is announced. At most [`RELAYS`], and as many while they are being replaced.
    relays: Vec<Relay>,
    former: Vec<Relay>,
    closest: Vec<Peer>,
    round: u32,
    alive: usize,
    asked: usize,
    waiting: usize,
    retry: Duration,
    /// The first attempt is over.
    attempted: bool,
    actions: std::collections::VecDeque<Action>,
}

impl Announcer {
    pub(crate) fn new() -> Self {
        Self {
            phase: Phase::Wanting,
            wish: Wish::Announced,
            online: true,
            refresh: false,
            relays: Vec::new(),
            former: Vec::new(),
            closest: Vec::new(),
            round: 0,
            alive: 0,
            asked: 0,
            waiting: 0,
            retry: FIRST_RETRY,
            attempted: false,
            actions: std::collections::VecDeque::new(),
        }
    }

    /// Where the server is announced.
    pub(crate) fn relays(&self) -> &[Relay] {
        &self.relays
    }

    /// The first attempt is over, well or not.
    pub(crate) fn attempted(&self) -> bool {
        self.attempted
    }

    /// It is announced, and what was found last is all in use.
    pub(crate) fn is_announced(&self) -> bool {
        self.wish == Wish::Announced && !self.relays.is_empty() && self.phase != Phase::Announcing
    }

    /// Nothing is announced any more, and nothing on its way.
    pub(crate) fn is_quiet(&self) -> bool {
        self.wish != Wish::Announced
            && self.relays.is_empty()
            && self.former.is_empty()
            && self.waiting == 0
            && self.actions.is_empty()
    }

    /// It stopped for good.
    pub(crate) fn is_stopped(&self) -> bool {
        self.wish == Wish::Stopped && self.is_quiet()
    }

    /// Announce anew soon: the network changed.
    pub(crate) fn refresh(&mut self) {
        self.refresh = true;
    }

    /// Whether requests can be answered at all. Without, it does nothing until they can.
    pub(crate) fn set_online(&mut self, online: bool) {
        if online && !self.online {
            self.refresh = true;
        }
        self.online = online;
    }

    /// Takes everything back until [`resume`](Self::resume).
    pub(crate) fn suspend(&mut self) {
        if self.wish == Wish::Announced {
            self.wish = Wish::Suspended;
            self.wind_down();
        }
    }

    /// Undoes [`suspend`](Self::suspend).
    pub(crate) fn resume(&mut self) {
        if self.wish == Wish::Suspended {
            self.wish = Wish::Announced;
            self.refresh = true;
        }
    }

    /// Takes everything back for good.
    pub(crate) fn stop(&mut self) {
        let winding_down = self.wish != Wish::Announced;
        self.wish = Wish::Stopped;
        self.attempted = true;
        if !winding_down {
            self.wind_down();
        }
    }

    /// The next thing to do.
    pub(crate) fn poll(&mut self, now: Instant) -> Option<Action> {
        self.advance(now);
        self.actions.pop_front()
    }

    /// When to poll again at the latest, unless something happens before.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Resting(until) if self.wish == Wish::Announced && self.online => Some(until),
            _ => None,
        }
    }

    /// The query ended: the nodes nearest to the target, nearest first, and those of them that could become relays.
    pub(crate) fn on_query(&mut self, now: Instant, closest: Vec<Peer>, candidates: Vec<Candidate>) {
        if self.phase != Phase::Querying {
            return;
        }
        self.waiting = 0;
        if !closest.is_empty() {
            self.closest = closest;
        }
        self.former = std::mem::take(&mut self.relays);
        for candidate in candidates.into_iter().take(RELAYS) {
            self.waiting += 1;
            self.actions.push_back(Action::Announce(candidate));
        }
        self.phase = Phase::Announcing;
        if self.waiting == 0 {
            self.announced(now);
        }
    }

    /// An announcement was taken, or not.
    pub(crate) fn on_announced(&mut self, now: Instant, relay: Relay, taken: bool) {
        self.waiting = self.waiting.saturating_sub(1);
        if taken && self.relays.len() < RELAYS {
            self.relays.push(relay);
        }
        if self.waiting == 0 && self.phase == Phase::Announcing {
            self.announced(now);
        }
    }

    /// An announcement was taken back, or its node does not answer.
    pub(crate) fn on_unannounced(&mut self, now: Instant) {
        self.waiting = self.waiting.saturating_sub(1);
        if self.waiting == 0 && self.phase == Phase::Leaving {
            self.rest(now);
        }
    }

    /// A ping was answered, or not.
    pub(crate) fn on_pinged(&mut self, now: Instant, alive: bool) {
        self.waiting = self.waiting.saturating_sub(1);
        self.alive += usize::from(alive);
        if self.waiting == 0 && self.phase == Phase::Pinging {
            if self.alive < self.asked.min(RELAYS) {
                self.refresh = true;
            }
            self.round += 1;
            self.rest(now);
        }
    }

    fn advance(&mut self, now: Instant) {
        if !self.actions.is_empty() || self.waiting > 0 {
            return;
        }
        if self.wish != Wish::Announced {
            // What was on its way when the wish changed has arrived by now.
            if !self.relays.is_empty() || !self.former.is_empty() {
                self.former.append(&mut self.relays);
                self.leave(now);
                self.actions.push_back(Action::Publish);
            }
            return;
        }
        if !self.online {
            return;
        }
        if self.refresh {
            self.refresh = false;
            self.phase = Phase::Wanting;
        }
        if let Phase::Resting(until) = self.phase
            && until <= now
        {
            if self.relays.is_empty() || self.round >= PING_ROUNDS {
                self.phase = Phase::Wanting;
            } else {
                self.ping();
            }
        }
        if self.phase == Phase::Wanting {
            self.round = 0;
            self.waiting = 1;
            self.phase = Phase::Querying;
            self.actions.push_back(Action::Query(self.closest.clone()));
        }
    }

    fn announced(&mut self, now: Instant) {
        self.attempted = true;
        self.former.retain(|former| !self.relays.iter().any(|relay| relay.node.addr == former.node.addr));
        self.actions.push_back(Action::Publish);
        self.leave(now);
    }

    /// Takes back what is announced at former relays.
    fn leave(&mut self, now: Instant) {
        for relay in std::mem::take(&mut self.former) {
            self.waiting += 1;
            self.actions.push_back(Action::Unannounce(relay.node));
        }
        self.phase = Phase::Leaving;
        if self.waiting == 0 {
            self.rest(now);
        }
    }

    fn rest(&mut self, now: Instant) {
        let pause = if self.relays.is_empty() {
            let pause = self.retry;
            self.retry = (self.retry * 2).min(MAX_RETRY);
            pause
        } else {
            self.retry = FIRST_RETRY;
            // The first pings go at once: they open the way for answers.
            if self.round == 0 { Duration::ZERO } else { PING_INTERVAL }
        };
        self.phase = Phase::Resting(now + pause);
    }

    fn ping(&mut self) {
        self.alive = 0;
        self.asked = self.relays.len();
        self.waiting = self.asked;
        self.phase = Phase::Pinging;
        self.actions.extend(self.relays.iter().map(|relay| Action::Ping(relay.node)));
    }

    /// The wish is no longer to be announced: what is on its way is awaited, except for the query.
    fn wind_down(&mut self) {
        if self.phase == Phase::Querying {
            self.waiting = 0;
            self.phase = Phase::Wanting;
            let begun = self.actions.is_empty();
            self.actions.clear();
            if begun {
                self.actions.push_back(Action::CancelQuery);
            }
        }
    }
}
