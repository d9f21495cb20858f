//! Who waits for whom at a blind relay, and who was joined with whom: without streams, sockets and clock.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::messages::{Pair, Token};

/// What a relay does for others, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RelayLimits {
    /// Peers connected to the relay.
    pub sessions: usize,
    /// Tokens that wait for their other end, and joined pairs, of one peer.
    pub pairs_per_session: usize,
    /// Joined pairs in total.
    pub pairs: usize,
    /// How long a token waits for its other end.
    pub wait: Duration,
    /// Bytes that one joined pair may send through the relay, both ways together; `None` for any number.
    pub bytes_per_pair: Option<u64>,
    /// How long a joined pair may send nothing.
    pub idle: Duration,
}

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            sessions: 1024,
            pairs_per_session: 64,
            pairs: 1024,
            wait: Duration::from_secs(60),
            bytes_per_pair: None,
            idle: Duration::from_secs(120),
        }
    }
}

/// Names a connected peer.
pub(crate) type SessionId = u64;
/// Names two ends that were joined.
pub(crate) type LinkId = u64;

/// One end of what is to be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) session: SessionId,
    /// The id of the peer's stream.
    pub(crate) stream: u32,
}

/// What became of a [`Pair`] message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paired {
    /// The other end is not there yet.
    Waiting,
    /// Join these.
    Join { link: LinkId, initiator: End, responder: End },
    /// It says nothing new.
    Ignored,
    /// The peer, or the relay, has too many.
    Refused,
}

#[derive(Debug)]
struct Waiting {
    ends: [Option<End>; 2],
    until: Instant,
}

#[derive(Debug)]
struct Link {
    token: Token,
    sessions: [SessionId; 2],
}

#[derive(Debug, Default)]
struct Session {
    waiting: HashSet<Token>,
    links: HashMap<Token, LinkId>,
}

/// All that a relay knows.
#[derive(Debug)]
pub(crate) struct Pairings {
    limits: RelayLimits,
    sessions: HashMap<SessionId, Session>,
    waiting: HashMap<Token, Waiting>,
    links: HashMap<LinkId, Link>,
    next_session: SessionId,
    next_link: LinkId,
}

impl Pairings {
    pub(crate) fn new(limits: RelayLimits) -> Self {
        let (sessions, waiting, links) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { limits, sessions, waiting, links, next_session: 0, next_link: 0 }
    }

    /// A peer connected; `None` when there are enough.
    pub(crate) fn open_session(&mut self) -> Option<SessionId> {
        if self.sessions.len() >= self.limits.sessions {
            return None;
        }
        let id = self.next_session;
        self.next_session += 1;
        self.sessions.insert(id, Session::default());
        Some(id)
    }

    /// A peer asks to be joined.
    pub(crate) fn pair(&mut self, id: SessionId, pair: Pair, now: Instant) -> Paired {
        let Some(session) = self.sessions.get_mut(&id) else {
            return Paired::Ignored;
        };
        if session.links.contains_key(&pair.token) {
            return Paired::Ignored;
        }
        let has = session.waiting.len() + session.links.len();
        if has >= self.limits.pairs_per_session && !session.waiting.contains(&pair.token) {
            return Paired::Refused;
        }
        let until = now + self.limits.wait;
        let side = usize::from(pair.is_initiator);
        let waiting = self.waiting.entry(pair.token).or_insert(Waiting { ends: [None; 2], until });
        if waiting.ends[side].is_some() {
            return Paired::Ignored;
        }
        if waiting.ends[1 - side].is_some() && self.links.len() >= self.limits.pairs {
            return Paired::Refused;
        }
        waiting.ends[side] = Some(End { session: id, stream: pair.id });
        session.waiting.insert(pair.token);
        let [Some(responder), Some(initiator)] = waiting.ends else {
            return Paired::Waiting;
        };
        self.forget_waiting(&pair.token);
        let link = self.next_link;
        self.next_link += 1;
        let sessions = [responder.session, initiator.session];
        for session in sessions {
            if let Some(session) = self.sessions.get_mut(&session) {
                session.links.insert(pair.token, link);
            }
        }
        self.links.insert(link, Link { token: pair.token, sessions });
        Paired::Join { link, initiator, responder }
    }

    /// A peer takes its wish back: the pair to part, if it was joined already.
    pub(crate) fn unpair(&mut self, session: SessionId, token: &Token) -> Option<LinkId> {
        let session = self.sessions.get(&session)?;
        if session.waiting.contains(token) {
            self.forget_waiting(token);
            return None;
        }
        let link = *session.links.get(token)?;
        self.close_link(link);
        Some(link)
    }

    /// A peer is gone: the pairs to part.
    pub(crate) fn close_session(&mut self, session: SessionId) -> Vec<LinkId> {
        let Some(session) = self.sessions.remove(&session) else {
            return Vec::new();
        };
        for token in &session.waiting {
            self.forget_waiting(token);
        }
        let links: Vec<_> = session.links.into_values().collect();
        for link in &links {
            self.close_link(*link);
        }
        links
    }

    /// A joined pair is parted.
    pub(crate) fn close_link(&mut self, link: LinkId) {
        let Some(link) = self.links.remove(&link) else {
            return;
        };
        for session in link.sessions {
            if let Some(session) = self.sessions.get_mut(&session) {
                session.links.remove(&link.token);
            }
        }
    }

    /// Forgets tokens that waited for too long.
    pub(crate) fn expire(&mut self, now: Instant) {
        let due: Vec<_> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.until <= now)
            .map(|(token, _)| *token)
            .collect();
        for token in due {
            self.forget_waiting(&token);
        }
    }

    /// Peers, waiting tokens and joined pairs.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (self.sessions.len(), self.waiting.len(), self.links.len())
    }

    fn forget_waiting(&mut self, token: &Token) {
        let Some(waiting) = self.waiting.remove(token) else {
            return;
        };
        for end in waiting.ends.into_iter().flatten() {
            if let Some(session) = self.sessions.get_mut(&end.session) {
                session.waiting.remove(token);
            }
        }
    }
}

/// Any order of messages: nothing is left behind when all peers are gone.
pub(crate) fn fuzz(data: &[u8], start: Instant) {
    let limits = RelayLimits { sessions: 4, pairs_per_session: 3, pairs: 5, ..RelayLimits::default() };
    let (mut relay, mut now) = (Pairings::new(limits), start);
    let mut sessions = Vec::new();
    for triple in data.chunks_exact(3) {
        let [what, which, token] = [triple[0], triple[1], triple[2]];
        let session = sessions.get(usize::from(which) % sessions.len().max(1)).copied().unwrap_or(0);
        match what % 6 {
            0 => sessions.extend(relay.open_session()),
            1 | 2 => {
                let pair = Pair { is_initiator: what % 2 == 0, token: [token % 8; 32], id: which.into() };
                relay.pair(session, pair, now);
            }
            3 => drop(relay.unpair(session, &[token % 8; 32])),
            4 => drop(relay.close_session(session)),
            _ => {
                now += Duration::from_secs(which.into());
                relay.expire(now);
            }
        }
        let (open, _, links) = relay.counts();
        assert!(open <= limits.sessions && links <= limits.pairs);
    }
    for session in sessions {
        relay.close_session(session);
    }
    assert_eq!(relay.counts(), (0, 0, 0));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(is_initiator: bool, token: u8, id: u32) -> Pair {
        Pair { is_initiator, token: [token; 32], id }
    }

    fn relay(limits: RelayLimits) -> (Pairings, Instant) {
        (Pairings::new(limits), Instant::now())
    }

    #[test]
    fn two_ends_of_one_token_are_joined() {
        let (mut relay, now) = relay(RelayLimits::default());
        let (a, b) = (relay.open_session().unwrap(), relay.open_session().unwrap());
        assert_eq!(relay.pair(a, ask(true, 1, 10), now), Paired::Waiting);
        assert_eq!(relay.pair(a, ask(true, 1, 11), now), Paired::Ignored);
        assert_eq!(relay.pair(b, ask(true, 1, 12), now), Paired::Ignored);
        let Paired::Join { link, initiator, responder } = relay.pair(b, ask(false, 1, 20), now) else {
            panic!()
        };
        assert_eq!(
            (initiator.session, initiator.stream, responder.session, responder.stream),
            (a, 10, b, 20)
        );
        assert_eq!(relay.counts(), (2, 0, 1));
        assert_eq!(relay.pair(a, ask(true, 1, 10), now), Paired::Ignored);
        assert_eq!(relay.close_session(a), [link]);
        assert_eq!(relay.counts(), (1, 0, 0));
        assert_eq!(relay.close_session(b), []);
    }

    #[test]
    fn a_wish_can_be_taken_back_before_and_after() {
        let (mut relay, now) = relay(RelayLimits::default());
        let (a, b) = (relay.open_session().unwrap(), relay.open_session().unwrap());
        relay.pair(a, ask(true, 1, 10), now);
        // A stranger does not take it back.
        assert_eq!(relay.unpair(b, &[1; 32]), None);
        assert_eq!(relay.counts().1, 1);
        assert_eq!(relay.unpair(a, &[1; 32]), None);
        assert_eq!(relay.counts().1, 0);
        relay.pair(a, ask(true, 1, 10), now);
        let Paired::Join { link, .. } = relay.pair(b, ask(false, 1, 20), now) else { panic!() };
        assert_eq!(relay.unpair(b, &[1; 32]), Some(link));
        assert_eq!(relay.counts(), (2, 0, 0));
    }

    #[test]
    fn quotas_hold() {
        let limits = RelayLimits { sessions: 3, pairs_per_session: 2, pairs: 1, ..RelayLimits::default() };
        let (mut relay, now) = relay(limits);
        let [a, b, c] = [(); 3].map(|()| relay.open_session().unwrap());
        assert_eq!(relay.open_session(), None);
        assert_eq!(relay.pair(a, ask(true, 1, 1), now), Paired::Waiting);
        assert_eq!(relay.pair(a, ask(true, 2, 1), now), Paired::Waiting);
        assert_eq!(relay.pair(a, ask(true, 3, 1), now), Paired::Refused);
        assert!(matches!(relay.pair(b, ask(false, 1, 1), now), Paired::Join { .. }));
        assert_eq!(relay.pair(c, ask(false, 2, 1), now), Paired::Refused);
        relay.close_session(b);
        assert!(matches!(relay.pair(c, ask(false, 2, 1), now), Paired::Join { .. }));
        assert!(relay.open_session().is_some());
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (mut relay, now) = relay(RelayLimits::default());
        let a = relay.open_session().unwrap();
        relay.pair(a, ask(true, 1, 1), now);
        relay.expire(now + Duration::from_secs(59));
        assert_eq!(relay.counts().1, 1);
        relay.expire(now + Duration::from_secs(60));
        assert_eq!((relay.counts().1, relay.sessions[&a].waiting.len()), (0, 0));
    }

    #[test]
    fn one_peer_may_be_both_ends() {
        let (mut relay, now) = relay(RelayLimits::default());
        let a = relay.open_session().unwrap();
        relay.pair(a, ask(true, 1, 1), now);
        let Paired::Join { link, .. } = relay.pair(a, ask(false, 1, 2), now) else { panic!() };
        assert_eq!(relay.close_session(a), [link]);
        assert_eq!(relay.counts(), (0, 0, 0));
    }
}
