//! What a node keeps for others, and how it answers for it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::aging::{AgingMap, Bounds};
use super::announcements::{Announcements, Record};
use super::large::LargeReplies;
use super::limits::{Host, StoreLimits};
use super::random::Random;
use super::signing::{AnnounceContext, hash, verify_announce, verify_mutable, verify_unannounce};
use crate::messages::{
    Announce, Command, LookupReply, Message, MutablePut, MutableRecord, Peer, decode_seq, error,
};

/// Most peers of a lookup reply (npm `hyperdht` 6.34 `lib/persistent.js`).
pub const MAX_LOOKUP_PEERS: usize = 20;

/// How far a bump may lie in the future, in milliseconds (npm `hyperdht` 6.34 `lib/persistent.js`).
pub const MAX_BUMP_DRIFT: u64 = 60_000;

/// A request as the [`Store`] needs it. A token, where there is one, has been verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreRequest {
    /// Who asks.
    pub from: SocketAddr,
    /// What for.
    pub command: Command,
    /// About what.
    pub target: Option<[u8; 32]>,
    /// Proof that `from` is where the request came from.
    pub token: Option<[u8; 32]>,
    /// The argument.
    pub value: Option<Bytes>,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Reply with this value, with closer nodes and a token.
    Value(Option<Bytes>),
    /// Reply that it is done, with nothing else.
    Done,
    /// Reply with this error code and closer nodes.
    Error(u64),
    /// Do not reply: the request makes no sense or its signature is wrong.
    Ignore,
    /// Not for the store.
    NotMine,
}

/// How much is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreSize {
    /// Announcements of topics.
    pub announcements: usize,
    /// Announced servers.
    pub servers: usize,
    /// Mutable records.
    pub mutables: usize,
    /// Immutable values.
    pub immutables: usize,
    /// Bytes of mutable records and immutable values.
    pub value_bytes: usize,
}

/// The records of a node: announcements, servers to which it forwards handshakes, mutable and immutable values.
///
/// A state machine without clock or I/O. It answers like npm `hyperdht` 6.34 (`lib/persistent.js`), within the
/// [`StoreLimits`]; whoever has its share already gets the error
/// [`TRY_LATER`](crate::messages::error::TRY_LATER).
#[derive(Debug)]
pub struct Store {
    limits: StoreLimits,
    announcements: Announcements,
    servers: AgingMap<Forward>,
    own: HashMap<[u8; 32], Record>,
    refreshes: AgingMap<Refresh>,
    mutables: AgingMap<Box<[u8]>>,
    immutables: AgingMap<Box<[u8]>>,
    large: LargeReplies,
    random: Random,
}

/// A server that announced its public key here.
#[derive(Debug, Clone, Copy)]
struct Forward {
    relay: SocketAddr,
    record: Record,
}

/// What a refresh token renews.
#[derive(Debug, Clone, Copy)]
struct Refresh {
    target: [u8; 32],
    record: Record,
}

impl Store {
    /// An empty store. `seed` decides which announcers a lookup shows when there are more than fit.
    pub fn new(limits: StoreLimits, seed: u64) -> Self {
        let entries = |entries: usize, bytes: usize| Bounds {
            entries: entries.max(1),
            bytes,
            host_entries: limits.share(entries),
            host_bytes: limits.share(bytes),
        };
        let values = entries(limits.values, limits.value_bytes);
        Self {
            limits,
            announcements: Announcements::new(&limits),
            servers: AgingMap::new(entries(limits.servers, usize::MAX), limits.announcement_age),
            own: HashMap::new(),
            refreshes: AgingMap::new(entries(limits.refreshes, usize::MAX), limits.announcement_age),
            mutables: AgingMap::new(values, limits.value_age),
            immutables: AgingMap::new(values, limits.value_age),
            large: LargeReplies::new(),
            random: Random::new(seed),
        }
    }

    /// Answers a request. `node_id` is the id of this node, none while it is ephemeral (then it stores nothing);
    /// `unix_ms` are the milliseconds since 1970, by which bumps of topics are judged.
    pub fn handle(
        &mut self,
        now: Instant,
        unix_ms: u64,
        node_id: Option<&[u8; 32]>,
        request: StoreRequest,
    ) -> Answer {
        if matches!(request.command, Command::PeerHandshake | Command::PeerHolepunch | Command::Plugin) {
            return Answer::NotMine;
        }
        let Some(node_id) = node_id else { return Answer::NotMine };
        let Some(target) = request.target else { return Answer::Ignore };
        let answer = match request.command {
            Command::FindPeer => self.find_peer(now, &target),
            Command::Lookup => self.lookup(now, &target),
            Command::Announce => self.announce(now, unix_ms, node_id, &target, request),
            Command::Unannounce => self.take_back(node_id, &target, request),
            Command::MutablePut => self.mutable_put(now, &target, request),
            Command::MutableGet => self.mutable_get(now, &target, request),
            Command::ImmutablePut => self.immutable_put(now, target, request),
            Command::ImmutableGet => {
                let value = self.immutables.touch(now, &target).map(|value| Bytes::copy_from_slice(value));
                self.hand_out(now, value)
            }
            Command::PeerHandshake | Command::PeerHolepunch | Command::Plugin => None,
        };
        answer.unwrap_or(Answer::Ignore)
    }

    /// Where to forward handshakes for the server with this hashed public key: to whence it announced itself.
    pub fn forward(&mut self, now: Instant, target: &[u8; 32]) -> Option<SocketAddr> {
        self.servers.peek(now, target).map(|forward| forward.relay)
    }

    /// A server of this very node: it is found here as long as it listens.
    pub fn listen(&mut self, public_key: [u8; 32]) {
        let record = Record::new(&Peer { public_key, relay_addresses: Vec::new() });
        self.own.insert(hash(&[&public_key]), record);
    }

    /// The opposite of [`Store::listen`].
    pub fn unlisten(&mut self, public_key: &[u8; 32]) {
        self.own.remove(&hash(&[public_key]));
    }

    /// Forgets what `public_key` announced for `target`, without being asked by others.
    pub fn unannounce(&mut self, target: &[u8; 32], public_key: &[u8; 32]) {
        if hash(&[public_key]) == *target {
            self.servers.remove(target);
        }
        self.announcements.remove(target, public_key);
    }

    /// How much is stored.
    pub fn size(&self) -> StoreSize {
        StoreSize {
            announcements: self.announcements.len(),
            servers: self.servers.len(),
            mutables: self.mutables.len(),
            immutables: self.immutables.len(),
            value_bytes: self.mutables.bytes() + self.immutables.bytes(),
        }
    }

    /// The limits that were given.
    pub fn limits(&self) -> &StoreLimits {
        &self.limits
    }

    fn server_record(&mut self, now: Instant, target: &[u8; 32]) -> Option<Record> {
        let own = self.own.get(target).copied();
        own.or_else(|| self.servers.peek(now, target).map(|forward| forward.record))
    }

    fn find_peer(&mut self, now: Instant, target: &[u8; 32]) -> Option<Answer> {
        let record = self.server_record(now, target);
        Some(Answer::Value(record.map(|record| record.to_peer().encode())))
    }

    fn lookup(&mut self, now: Instant, target: &[u8; 32]) -> Option<Answer> {
        let mut records = self.announcements.choose(now, target, MAX_LOOKUP_PEERS, &mut self.random);
        if records.len() < MAX_LOOKUP_PEERS {
            records.extend(self.server_record(now, target));
        }
        if records.is_empty() {
            return Some(Answer::Value(None));
        }
        let peers = records.into_iter().map(Record::to_peer).collect();
        let reply = LookupReply { peers, bump: self.announcements.bump(target) };
        Some(Answer::Value(Some(reply.encode())))
    }

    fn announce(
        &mut self,
        now: Instant,
        unix_ms: u64,
        node_id: &[u8; 32],
        target: &[u8; 32],
        request: StoreRequest,
    ) -> Option<Answer> {
        let token = request.token?;
        let host = Host::of(request.from);
        let announce = Announce::decode(request.value?).ok()?;
        let Some(peer) = &announce.peer else {
            return self.refresh(now, request.from, announce.refresh?);
        };
        let is_server = hash(&[&peer.public_key]) == *target;
        // Before the signature: checking it is what costs.
        let full = if is_server {
            self.servers.would_refuse(target, host, 0)
        } else {
            self.announcements.would_refuse(host, target, &peer.public_key)
        };
        if full {
            return Some(Answer::Error(error::TRY_LATER));
        }
        if !verify_announce(AnnounceContext { target, node_id, token: &token }, &announce) {
            return None;
        }
        let record = Record::new(peer);
        let bump = if announce.bump <= unix_ms.saturating_add(MAX_BUMP_DRIFT) { announce.bump } else { 0 };
        let answer = self.keep(now, request.from, *target, record, is_server, bump);
        if let (Answer::Done, Some(refresh)) = (&answer, announce.refresh) {
            // Without room for the token the announcement stands, it is not renewed that way.
            let _ = self.refreshes.insert(now, refresh, Refresh { target: *target, record }, 0, host);
        }
        Some(answer)
    }

    /// Renews the announcement whose refresh token hashes to what was announced.
    fn refresh(&mut self, now: Instant, from: SocketAddr, token: [u8; 32]) -> Option<Answer> {
        let active = hash(&[&token]);
        let refresh = *self.refreshes.peek(now, &active)?;
        let is_server = hash(&[&refresh.record.public_key]) == refresh.target;
        let answer = self.keep(now, from, refresh.target, refresh.record, is_server, 0);
        if answer == Answer::Done {
            self.refreshes.remove(&active);
            let _ = self.refreshes.insert(now, token, refresh, 0, Host::of(from));
        }
        Some(answer)
    }

    fn keep(
        &mut self,
        now: Instant,
        from: SocketAddr,
        target: [u8; 32],
        record: Record,
        is_server: bool,
        bump: u64,
    ) -> Answer {
        let host = Host::of(from);
        let kept = if is_server {
            self.announcements.remove(&target, &record.public_key);
            self.servers.insert(now, target, Forward { relay: from, record }, 0, host)
        } else {
            self.announcements.add(now, target, record, host, bump, &mut self.random)
        };
        if kept.is_ok() { Answer::Done } else { Answer::Error(error::TRY_LATER) }
    }

    fn take_back(&mut self, node_id: &[u8; 32], target: &[u8; 32], request: StoreRequest) -> Option<Answer> {
        let token = request.token?;
        let announce = Announce::decode(request.value?).ok()?;
        if !verify_unannounce(AnnounceContext { target, node_id, token: &token }, &announce) {
            return None;
        }
        self.unannounce(target, &announce.peer?.public_key);
        Some(Answer::Done)
    }

    fn mutable_put(&mut self, now: Instant, target: &[u8; 32], request: StoreRequest) -> Option<Answer> {
        request.token?;
        let MutablePut { public_key, record } = MutablePut::decode(request.value?).ok()?;
        if hash(&[&public_key]) != *target || record.value.len() > self.limits.value_len {
            return None;
        }
        let host = Host::of(request.from);
        let stored = record.encode();
        if self.mutables.would_refuse(target, host, stored.len()) {
            return Some(Answer::Error(error::TRY_LATER));
        }
        if !verify_mutable(&record, &public_key) {
            return None;
        }
        if let Some(old) = self.mutables.peek(now, target).and_then(|old| decode_record(old)) {
            if record.seq == old.seq && record.value != old.value {
                return Some(Answer::Error(error::SEQ_REUSED));
            }
            if record.seq < old.seq {
                return Some(Answer::Error(error::SEQ_TOO_LOW));
            }
        }
        let kept = self.mutables.insert(now, *target, stored[..].into(), stored.len(), host);
        Some(if kept.is_ok() { Answer::Value(None) } else { Answer::Error(error::TRY_LATER) })
    }

    fn mutable_get(&mut self, now: Instant, target: &[u8; 32], request: StoreRequest) -> Option<Answer> {
        let least = decode_seq(request.value?).ok()?;
        let stored = self.mutables.touch(now, target).map(|stored| Bytes::copy_from_slice(stored));
        let wanted = stored.filter(|stored| decode_seq(stored.clone()).is_ok_and(|seq| seq >= least));
        self.hand_out(now, wanted)
    }

    /// What is there, unless too much went out lately: whoever asked asks again.
    fn hand_out(&mut self, now: Instant, value: Option<Bytes>) -> Option<Answer> {
        let len = value.as_ref().map_or(0, Bytes::len);
        self.large.take(now, len).then_some(Answer::Value(value))
    }

    fn immutable_put(&mut self, now: Instant, target: [u8; 32], request: StoreRequest) -> Option<Answer> {
        request.token?;
        let value = request.value?;
        if value.len() > self.limits.value_len || hash(&[&value]) != target {
            return None;
        }
        let kept = self.immutables.insert(now, target, value[..].into(), value.len(), Host::of(request.from));
        Some(if kept.is_ok() { Answer::Value(None) } else { Answer::Error(error::TRY_LATER) })
    }
}

fn decode_record(stored: &[u8]) -> Option<MutableRecord> {
    MutableRecord::decode(Bytes::copy_from_slice(stored)).ok()
}
