//! Joining and leaving topics, and the queries of the DHT that this takes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{
    Action, Discovery, JoinError, JoinOptions, Listening, MAX_KNOWN_PEERS, MAX_TOPICS, Peer, QueryId,
    QueryKind, SessionId, Swarm, Topic, WaiterId,
    discovery::{Line, OVERDUE, REFRESH},
    since,
};
use crate::{PublicKey, pacing::QueryOutcome};

/// A peer that failed so short a time ago is left to its retry timer, even if it is found again: those who share
/// thousands of topics find it thousands of times.
const REST: Duration = Duration::from_secs(3);

impl Swarm {
    /// Joins a topic, or joins it once more. It stays joined until its last session ends.
    pub fn join(&mut self, topic: Topic, options: JoinOptions, now: Instant) -> Result<SessionId, JoinError> {
        if self.destroyed {
            return Err(JoinError::Destroyed);
        }
        if !options.server && !options.client {
            return Err(JoinError::NoRole);
        }
        if self.topics.len() >= MAX_TOPICS && !self.topics.contains_key(&topic) {
            return Err(JoinError::TooMany(MAX_TOPICS));
        }
        let session = SessionId(self.id());
        self.sessions.insert(session, topic);
        self.topics.entry(topic).or_default().add_session(session, options);
        self.want_round(topic, now);
        self.run_queries(now);
        Ok(session)
    }

    /// Changes how a topic is joined, and asks for a round now.
    pub fn refresh(
        &mut self,
        session: SessionId,
        options: JoinOptions,
        now: Instant,
    ) -> Result<(), JoinError> {
        if !options.server && !options.client {
            return Err(JoinError::NoRole);
        }
        let topic = *self.sessions.get(&session).ok_or(JoinError::Left)?;
        if let Some(discovery) = self.topics.get_mut(&topic) {
            discovery.change_session(session, options);
        }
        self.want_round(topic, now);
        self.run_queries(now);
        Ok(())
    }

    /// Ends a session. The waiter is told when nothing of it is announced any more.
    pub fn end_session(&mut self, session: SessionId, now: Instant) -> WaiterId {
        let waiter = WaiterId(self.id());
        self.waiting.rounds(waiter, false);
        if let Some(topic) = self.sessions.remove(&session)
            && let Some(discovery) = self.topics.get_mut(&topic)
        {
            discovery.remove_session(session);
            if !discovery.is_joined() {
                self.leave_for(topic, waiter, now);
            } else if discovery.announced && !discovery.is_server() {
                discovery.waiters.push(waiter);
                self.waiting.more(waiter);
                self.want_round(topic, now);
            }
        }
        self.waiting_round_over(waiter, true);
        self.run_queries(now);
        waiter
    }

    /// Leaves a topic, whoever joined it. The waiter is told when nothing is announced any more.
    pub fn leave(&mut self, topic: Topic, now: Instant) -> WaiterId {
        let waiter = WaiterId(self.id());
        self.waiting.rounds(waiter, false);
        self.leave_for(topic, waiter, now);
        self.waiting_round_over(waiter, true);
        self.run_queries(now);
        waiter
    }

    /// Leaves all topics; the waiter is told when nothing is announced any more.
    pub fn leave_all(&mut self, now: Instant) -> WaiterId {
        let waiter = WaiterId(self.id());
        self.waiting.rounds(waiter, false);
        let topics: Vec<Topic> = self.topics.keys().copied().collect();
        for topic in topics {
            self.leave_for(topic, waiter, now);
        }
        self.waiting_round_over(waiter, true);
        self.run_queries(now);
        waiter
    }

    pub(super) fn leave_for(&mut self, topic: Topic, waiter: WaiterId, now: Instant) {
        let Some(discovery) = self.topics.get_mut(&topic) else { return };
        for session in discovery.clear_sessions() {
            self.sessions.remove(&session);
        }
        discovery.leaving.push(waiter);
        self.waiting.more(waiter);
        self.stop_topic(topic, now);
    }

    /// Nothing more is looked for; what was announced is taken back.
    pub(super) fn stop_topic(&mut self, topic: Topic, now: Instant) {
        let Some(discovery) = self.topics.get_mut(&topic) else { return };
        discovery.due = false;
        if let Some(deadline) = discovery.deadline.take() {
            self.deadlines.remove(&(deadline, topic));
        }
        if let Some((query, kind)) = discovery.running
            && kind != QueryKind::Unannounce
        {
            discovery.running = None;
            self.cancel(query);
        }
        self.round_over(topic, false);
        self.proceed(topic, now);
    }

    /// The waiter is told when the round of this topic is over, and, with `then_peers`, when those who were found
    /// have been dialled. At once when there is no round to wait for.
    pub fn flush_topic(&mut self, topic: &Topic, then_peers: bool, now: Instant) -> WaiterId {
        let waiter = WaiterId(self.id());
        if self.waiting.is_full() || self.destroyed {
            self.actions.push_back(Action::Done { waiter, ok: false });
            return waiter;
        }
        self.waiting.rounds(waiter, then_peers);
        let mut ok = true;
        if self.topics.get(topic).is_some_and(Discovery::is_to_look_again) {
            self.look_now(*topic, now);
        }
        match self.topics.get_mut(topic) {
            Some(discovery) if discovery.is_joined() && discovery.is_busy() => {
                discovery.waiters.push(waiter);
                self.waiting.more(waiter);
                // Somebody waits for it: it goes before those for whom nobody does.
                discovery.urgent = true;
                if discovery.line.is_some_and(|line| matches!(line, Line::Normal | Line::Refresh)) {
                    discovery.line = Some(Line::Urgent);
                    self.urgent.push_back(*topic);
                }
            }
            Some(discovery) if discovery.is_joined() => ok = discovery.last_ok,
            _ => {}
        }
        self.waiting_round_over(waiter, ok);
        self.run_queries(now);
        waiter
    }

    /// The waiter is told when every topic has had its round and everybody who was found has been dialled.
    pub fn flush(&mut self, now: Instant) -> WaiterId {
        let waiter = WaiterId(self.id());
        if self.waiting.is_full() || self.destroyed {
            self.actions.push_back(Action::Done { waiter, ok: false });
            return waiter;
        }
        self.waiting.rounds(waiter, true);
        for discovery in self.topics.values_mut() {
            if discovery.is_joined() && discovery.is_busy() {
                discovery.waiters.push(waiter);
                self.waiting.more(waiter);
            }
        }
        self.waiting_round_over(waiter, true);
        self.run_queries(now);
        waiter
    }

    /// Takes connections from now on, though nothing is announced: from those who know this side by its key. The waiter
    /// is told when that is so, or cannot be.
    pub fn listen(&mut self) -> WaiterId {
        let waiter = WaiterId(self.id());
        if self.destroyed || self.listening == Listening::Yes || self.waiting.is_full() {
            self.actions.push_back(Action::Done { waiter, ok: self.listening == Listening::Yes });
            return waiter;
        }
        self.waiting.rounds(waiter, false);
        self.for_listening.push(waiter);
        self.ask_to_listen();
        waiter
    }

    fn ask_to_listen(&mut self) {
        if self.listening == Listening::No {
            self.listening = Listening::Asked;
            self.actions.push_back(Action::Listen);
        }
    }

    /// The answer to [`Action::Listen`].
    pub fn listened(&mut self, ok: bool, now: Instant) {
        self.listening = if ok { Listening::Yes } else { Listening::No };
        for waiter in std::mem::take(&mut self.for_listening) {
            self.waiting_round_over(waiter, ok);
        }
        for topic in std::mem::take(&mut self.parked) {
            let Some(discovery) = self.topics.get_mut(&topic) else { continue };
            if discovery.line != Some(Line::Listening) {
                continue;
            }
            discovery.line = None;
            if ok {
                self.proceed(topic, now);
            } else {
                discovery.due = false;
                discovery.running = Some((QueryId(0), QueryKind::Lookup));
                self.end_round(topic, false, now);
            }
        }
        self.run_queries(now);
    }

    /// A query found a peer.
    pub fn found(
        &mut self,
        query: QueryId,
        public_key: &PublicKey,
        relay_addresses: &[SocketAddr],
        now: Instant,
    ) {
        if *public_key == self.public_key || self.suspended || self.destroyed {
            return;
        }
        let Some(topic) = self.queries.get(&query).copied() else { return };
        let is_connected = self.by_key.contains_key(public_key);
        let Some(discovery) = self.topics.get_mut(&topic) else { return };
        if !discovery.takes(public_key, is_connected) {
            return;
        }
        if self.peers.len() >= MAX_KNOWN_PEERS && !self.peers.contains_key(public_key) {
            return;
        }
        let peer = self.peers.entry(*public_key).or_insert_with(Peer::new);
        peer.set_relay_addresses(relay_addresses);
        peer.add_topic(topic);
        if is_connected || (peer.waiting && since(peer.disconnected_at, now) < REST) {
            return;
        }
        peer.found_again();
        self.enqueue(*public_key);
        self.dial_more(now);
    }

    /// A query has come to its end.
    pub fn query_ended(&mut self, query: QueryId, outcome: QueryOutcome, now: Instant) {
        let Some(topic) = self.queries.remove(&query) else { return };
        self.window.ended(outcome);
        self.end_round(topic, outcome.ok, now);
        self.run_queries(now);
    }

    fn end_round(&mut self, topic: Topic, ok: bool, now: Instant) {
        let Some(discovery) = self.topics.get_mut(&topic) else { return };
        if let Some(deadline) = discovery.ended(ok, now, &mut self.random) {
            self.deadlines.insert((deadline, topic));
        }
        if !self.topics.get(&topic).is_some_and(|discovery| discovery.due) {
            self.round_over(topic, ok);
        }
        self.proceed(topic, now);
    }

    /// Tells those who wait for the topic's round.
    fn round_over(&mut self, topic: Topic, ok: bool) {
        let Some(discovery) = self.topics.get_mut(&topic) else { return };
        discovery.urgent = false;
        for waiter in std::mem::take(&mut discovery.waiters) {
            self.waiting_round_over(waiter, ok);
        }
    }

    /// A new round, now: with other roles the running one is given up, with the same it serves as well.
    pub(super) fn want_round(&mut self, topic: Topic, now: Instant) {
        let Some(discovery) = self.topics.get_mut(&topic) else { return };
        match discovery.running {
            Some((query, kind)) if kind != QueryKind::Unannounce => {
                if !discovery.roles_changed() {
                    return;
                }
                discovery.running = None;
                self.cancel(query);
            }
            _ => {}
        }
        if let Some(discovery) = self.topics.get_mut(&topic) {
            discovery.begin_anew();
        }
        self.look_now(topic, now);
    }

    /// What is to be done at the topic's deadline is done now.
    fn look_now(&mut self, topic: Topic, now: Instant) {
        let Some(discovery) = self.topics.get_mut(&topic) else { return };
        if let Some(deadline) = discovery.deadline.take() {
            self.deadlines.remove(&(deadline, topic));
        }
        discovery.due = true;
        self.proceed(topic, now);
    }

    fn cancel(&mut self, query: QueryId) {
        if self.queries.remove(&query).is_some() {
            self.window.cancelled();
            self.actions.push_back(Action::Cancel { query });
        }
    }

    /// Puts a topic in a line when there is something to do for it, and lets go of it when there is not and never
    /// will be.
    fn proceed(&mut self, topic: Topic, _now: Instant) {
        let Some(discovery) = self.topics.get_mut(&topic) else { return };
        if discovery.running.is_some() {
            return;
        }
        let Some(kind) = discovery.wanted(self.suspended) else {
            discovery.line = None;
            for waiter in std::mem::take(&mut discovery.leaving) {
                self.waiting_round_over(waiter, true);
            }
            let left = self.topics.get(&topic).is_some_and(|discovery| !discovery.is_joined());
            if left {
                self.topics.remove(&topic);
                self.actions.push_back(Action::Forget { topic });
            }
            return;
        };
        if discovery.line.is_some() {
            return;
        }
        let line = match kind {
            QueryKind::Unannounce | QueryKind::LookupAndUnannounce => Line::Normal,
            _ if discovery.urgent => Line::Urgent,
            _ if discovery.last_ok => Line::Refresh,
            _ => Line::Normal,
        };
        discovery.line = Some(line);
        match line {
            Line::Urgent => self.urgent.push_back(topic),
            Line::Refresh => self.refresh.push_back(topic),
            Line::Normal | Line::Listening => self.normal.push_back(topic),
        }
    }

    /// Starts as many queries as the window allows.
    pub(super) fn run_queries(&mut self, now: Instant) {
        while self.window.has_room() {
            let lines = [
                (Line::Urgent, &mut self.urgent),
                (Line::Normal, &mut self.normal),
                (Line::Refresh, &mut self.refresh),
            ];
            let next = lines.into_iter().find_map(|(line, topics)| Some((line, topics.pop_front()?)));
            let Some((line, topic)) = next else { return };
            let Some(discovery) = self.topics.get_mut(&topic) else { continue };
            // It may have moved to another line, or be done.
            if discovery.line != Some(line) {
                continue;
            }
            discovery.line = None;
            let Some(kind) = discovery.wanted(self.suspended) else {
                self.proceed(topic, now);
                continue;
            };
            if matches!(kind, QueryKind::Announce { .. }) && self.listening != Listening::Yes {
                discovery.line = Some(Line::Listening);
                self.parked.push(topic);
                self.ask_to_listen();
                continue;
            }
            let query = QueryId(self.id());
            let Some(discovery) = self.topics.get_mut(&topic) else { continue };
            let by_key = &self.by_key;
            discovery.started(query, kind, |key| by_key.contains_key(key));
            self.queries.insert(query, topic);
            self.window.started();
            self.stats.queries += 1;
            self.actions.push_back(Action::Query { query, topic, kind });
        }
    }

    /// Topics whose time has come.
    pub(super) fn refresh_due(&mut self, now: Instant) {
        while let Some((deadline, topic)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.pop_first();
            let Some(discovery) = self.topics.get_mut(&topic) else { continue };
            discovery.deadline = None;
            if now.saturating_duration_since(deadline) > OVERDUE {
                // The machine was asleep: everything is late, and is not to come at once.
                let later = now + self.random.up_to(REFRESH.1);
                discovery.deadline = Some(later);
                self.deadlines.insert((later, topic));
                continue;
            }
            discovery.due = true;
            self.proceed(topic, now);
        }
    }
}
