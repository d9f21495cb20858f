//! One topic: who joined it and how, and what is being done about it. npm `hyperswarm` 4.17.2,
//! `lib/peer-discovery.js`.
//!
//! What is to be done is always derived from what is wanted (the sessions) and what is the case (announced or not),
//! never from the order in which it came to be wanted.

use std::time::{Duration, Instant};

use super::{QueryId, QueryKind, SessionId, WaiterId};
use crate::{JoinOptions, PublicKey, random::Random};

/// How long an announcement is left alone, and how much longer it may be by chance.
pub(super) const REFRESH: (Duration, Duration) = (Duration::from_secs(10 * 60), Duration::from_secs(2 * 60));
/// When a refresh is so late, the machine was asleep, and all others are late as well.
pub(super) const OVERDUE: Duration = Duration::from_secs(30);
/// When nobody could be asked.
const AFTER_FAILURE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));
/// Two who join at the same moment may each look before the other is announced: who found nobody looks again soon, and
/// so does, once, who was being announced meanwhile.
const LOOK_AGAIN: [(Duration, Duration); 2] =
    [(Duration::from_secs(2), Duration::from_secs(1)), (Duration::from_secs(20), Duration::from_secs(10))];
/// Peers that are remembered as having counted towards the limit.
const MAX_DISCOVERED: usize = 64;

/// Which line a topic waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    /// Somebody waits for it.
    Urgent,
    /// Its first round, or its last.
    Normal,
    /// It was announced before.
    Refresh,
    /// For the server to listen.
    Listening,
}

#[derive(Debug, Clone, Copy)]
struct Session {
    id: SessionId,
    server: bool,
    client: bool,
}

#[derive(Debug, Default)]
pub(super) struct Discovery {
    sessions: Vec<Session>,
    limit: Option<usize>,
    /// What the last round that was started was for.
    roles: (bool, bool),
    pub(super) running: Option<(QueryId, QueryKind)>,
    pub(super) line: Option<Line>,
    /// A round is wanted.
    pub(super) due: bool,
    /// Nodes of the DHT have, or may have, an announcement of ours.
    pub(super) announced: bool,
    announced_once: bool,
    /// When the next round is wanted.
    pub(super) deadline: Option<Instant>,
    looks: usize,
    /// Somebody was found in this round.
    pub(super) found: bool,
    /// Peers that the limit still allows in this round.
    room: Option<usize>,
    discovered: Vec<PublicKey>,
    /// Those who wait for the end of the round.
    pub(super) waiters: Vec<WaiterId>,
    /// One of them waits for this topic alone.
    pub(super) urgent: bool,
    /// Those who wait for it to be left.
    pub(super) leaving: Vec<WaiterId>,
    /// The last round that ended reached the network.
    pub(super) last_ok: bool,
}

impl Discovery {
    pub(super) fn add_session(&mut self, id: SessionId, options: JoinOptions) {
        self.sessions.push(Session { id, server: options.server, client: options.client });
        self.limit = options.limit;
    }

    pub(super) fn change_session(&mut self, id: SessionId, options: JoinOptions) {
        if let Some(session) = self.sessions.iter_mut().find(|session| session.id == id) {
            (session.server, session.client) = (options.server, options.client);
            self.limit = options.limit;
        }
    }

    pub(super) fn remove_session(&mut self, id: SessionId) {
        self.sessions.retain(|session| session.id != id);
    }

    /// Ends all sessions; returns their numbers.
    pub(super) fn clear_sessions(&mut self) -> Vec<SessionId> {
        self.sessions.drain(..).map(|session| session.id).collect()
    }

    pub(super) fn is_joined(&self) -> bool {
        !self.sessions.is_empty()
    }

    pub(super) fn is_server(&self) -> bool {
        self.sessions.iter().any(|session| session.server)
    }

    pub(super) fn is_client(&self) -> bool {
        self.sessions.iter().any(|session| session.client)
    }

    /// The sessions want something else than the last round was for.
    pub(super) fn roles_changed(&self) -> bool {
        self.roles != (self.is_server(), self.is_client())
    }

    /// What earlier rounds did not find does not count any more.
    pub(super) fn begin_anew(&mut self) {
        self.looks = 0;
    }

    /// Whether a round is under way or wanted.
    pub(super) fn is_busy(&self) -> bool {
        self.due || self.running.is_some() || self.line.is_some()
    }

    /// The first round found nobody, and somebody who joined meanwhile may have been announced since.
    pub(super) fn is_to_look_again(&self) -> bool {
        self.announced && self.is_client() && !self.found && self.looks == 1 && self.deadline.is_some()
    }

    /// What is to be asked of the DHT, if anything.
    pub(super) fn wanted(&self, suspended: bool) -> Option<QueryKind> {
        if suspended || !self.is_joined() {
            return self.announced.then_some(QueryKind::Unannounce);
        }
        if !self.due {
            return None;
        }
        let looking_again = (1..=LOOK_AGAIN.len()).contains(&self.looks) && !self.roles_changed();
        Some(if self.is_server() && !(self.announced && looking_again) {
            QueryKind::Announce { first: !self.announced_once }
        } else if self.announced && !self.is_server() {
            QueryKind::LookupAndUnannounce
        } else {
            QueryKind::Lookup
        })
    }

    /// A query begins. `is_connected` tells who is connected already.
    pub(super) fn started(
        &mut self,
        id: QueryId,
        kind: QueryKind,
        is_connected: impl Fn(&PublicKey) -> bool,
    ) {
        self.running = Some((id, kind));
        if kind == QueryKind::Unannounce {
            return;
        }
        self.due = false;
        self.deadline = None;
        self.found = false;
        if self.roles_changed() {
            self.looks = 0;
        }
        self.roles = (self.is_server(), self.is_client());
        if let QueryKind::Announce { .. } = kind {
            self.announced = true;
            self.announced_once = true;
        }
        let connected = self.discovered.iter().filter(|key| is_connected(key)).count();
        self.room = self.limit.map(|limit| limit.saturating_sub(connected));
        self.discovered.clear();
    }

    /// Whether a peer that was found is to be dealt with, or is one too many.
    pub(super) fn takes(&mut self, key: &PublicKey, is_connected: bool) -> bool {
        self.found = true;
        if !self.is_client() {
            return false;
        }
        let Some(room) = &mut self.room else { return true };
        if self.discovered.len() < MAX_DISCOVERED && !self.discovered.contains(key) {
            self.discovered.push(*key);
        }
        if *room == 0 {
            return false;
        }
        if !is_connected {
            *room = room.saturating_sub(1);
        }
        true
    }

    /// The running query has ended; returns when to go on, if it is to.
    pub(super) fn ended(&mut self, ok: bool, now: Instant, random: &mut Random) -> Option<Instant> {
        let (_, kind) = self.running.take()?;
        match kind {
            QueryKind::Unannounce => {
                self.announced = false;
                // The nodes may hold something of ours all the same: the next announcement is to clear that.
                self.announced_once = false;
                return None;
            }
            QueryKind::LookupAndUnannounce if ok => self.announced = false,
            _ => {}
        }
        self.last_ok = ok;
        let found_nobody = ok && self.is_client() && !self.found && self.looks == 0;
        if found_nobody && self.urgent && kind == (QueryKind::Announce { first: true }) {
            // Whoever waits is to hear of those, too, who were being announced meanwhile.
            self.looks = 1;
            self.due = true;
            return None;
        }
        let (delay, jitter) = if !ok {
            AFTER_FAILURE
        } else if !self.is_client() || (self.found && !(self.is_server() && self.looks == 0)) {
            self.looks = LOOK_AGAIN.len() + 1;
            REFRESH
        } else {
            let delay = LOOK_AGAIN.get(self.looks).copied().unwrap_or(REFRESH);
            self.looks = (self.looks + 1).min(LOOK_AGAIN.len() + 1);
            delay
        };
        self.deadline = Some(now + delay + random.up_to(jitter));
        self.deadline
    }
}
