//! A blind relay for others.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use secret_stream::KeyPair;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use udx::{Firewall, UdxStream};

use super::channel::RelayChannel;
use super::messages::{PAIR, Pair, UNPAIR, Unpair};
use super::pairings::{End, LinkId, Paired, Pairings, RelayLimits, SessionId};
use crate::connect::TaskGuard;
use crate::core::{Core, lock};
use crate::messages::Message;
use crate::{Connection, HyperDht, ListenError, Server, ServerOptions};

/// How often the quotas of joined pairs are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Messages that wait for a slow user.
const MAX_NOTICES: usize = 128;

/// Joins pairs of peers for as long as this lives.
#[derive(Debug)]
pub struct RelayService {
    server: Server,
    shared: Arc<Shared>,
    _tasks: [TaskGuard; 2],
}

/// What a relay does at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RelayStats {
    /// Peers connected to it.
    pub sessions: usize,
    /// Tokens that wait for their other end.
    pub waiting: usize,
    /// Joined pairs.
    pub pairs: usize,
    /// Bytes that were forwarded for pairs that are over and for those that are joined now (as of the last look).
    pub bytes: u64,
}

#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    limits: RelayLimits,
    state: Mutex<State>,
    stats: watch::Sender<RelayStats>,
}

#[derive(Debug)]
struct State {
    pairings: Pairings,
    users: HashMap<SessionId, User>,
    links: HashMap<LinkId, Link>,
    bytes: u64,
}

#[derive(Debug)]
struct User {
    notices: mpsc::Sender<Pair>,
    address: IpAddr,
}

/// Two joined streams.
#[derive(Debug)]
struct Link {
    streams: [UdxStream; 2],
    bytes: u64,
    active: Instant,
}

impl RelayService {
    /// Listens at `dht` with this key pair, whose public key is what users name.
    pub async fn listen(dht: &HyperDht, key_pair: KeyPair, limits: RelayLimits) -> Result<Self, ListenError> {
        let server = dht.create_server(ServerOptions::default());
        server.listen(key_pair).await?;
        let state =
            State { pairings: Pairings::new(limits), users: HashMap::new(), links: HashMap::new(), bytes: 0 };
        let stats = watch::Sender::new(RelayStats::default());
        let shared = Arc::new(Shared { core: dht.core(), limits, state: Mutex::new(state), stats });
        let accepting = tokio::spawn(accept(server.clone(), Arc::clone(&shared)));
        let looking = tokio::spawn(look_after(Arc::clone(&shared)));
        let _tasks = [TaskGuard::new(accepting.abort_handle()), TaskGuard::new(looking.abort_handle())];
        Ok(Self { server, shared, _tasks })
    }

    /// What users name.
    pub fn public_key(&self) -> Option<[u8; 32]> {
        self.server.address().map(|address| address.public_key)
    }

    /// What it does at the moment.
    pub fn stats(&self) -> RelayStats {
        lock(&self.shared.state).stats()
    }

    /// [`RelayService::stats`], to be watched.
    pub fn watch(&self) -> watch::Receiver<RelayStats> {
        self.shared.stats.subscribe()
    }

    /// Unannounces, and parts all pairs.
    pub async fn close(self) {
        self.server.close().await;
    }
}

async fn accept(server: Server, shared: Arc<Shared>) {
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            connection = server.accept() => {
                let Some(connection) = connection else { return };
                sessions.spawn(serve(Arc::clone(&shared), connection));
            }
            Some(_) = sessions.join_next(), if !sessions.is_empty() => {}
        }
    }
}

/// One user, as long as it is connected.
async fn serve(shared: Arc<Shared>, connection: Connection) {
    let Some(address) = connection.remote_addr().map(|address| address.ip()) else { return };
    let Some(mut channel) = RelayChannel::open(connection) else { return };
    let (notices, mut inbox) = mpsc::channel(MAX_NOTICES);
    let Some(session) = shared.open_session(User { notices, address }) else {
        tracing::warn!("blind relay has no room for another peer");
        return;
    };
    let _end = SessionEnd { shared: &shared, session };
    loop {
        tokio::select! {
            message = channel.next() => {
                let Some((kind, payload)) = message else { return };
                let known = match kind {
                    PAIR => Pair::decode(payload).map(|pair| shared.pair(session, pair)),
                    UNPAIR => Unpair::decode(payload).map(|unpair| shared.unpair(session, &unpair)),
                    _ => Ok(()),
                };
                if known.is_err() {
                    return;
                }
            }
            Some(pair) = inbox.recv() => {
                if !channel.send(PAIR, &pair.encode()) {
                    return;
                }
            }
        }
    }
}

struct SessionEnd<'a> {
    shared: &'a Shared,
    session: SessionId,
}

impl Drop for SessionEnd<'_> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared.state);
        state.users.remove(&self.session);
        let parted = state.pairings.close_session(self.session);
        let gone: Vec<_> = parted.into_iter().filter_map(|link| state.take_link(link)).collect();
        self.shared.tell(&state);
        drop(state);
        drop(gone);
    }
}

impl Shared {
    fn open_session(&self, user: User) -> Option<SessionId> {
        let mut state = lock(&self.state);
        let session = state.pairings.open_session()?;
        state.users.insert(session, user);
        self.tell(&state);
        Some(session)
    }

    fn pair(&self, session: SessionId, pair: Pair) {
        let mut state = lock(&self.state);
        match state.pairings.pair(session, pair, Instant::now()) {
            Paired::Join { link, initiator, responder } => {
                let joined = self.join(&state, [responder, initiator]);
                match joined {
                    Some(streams) => {
                        let ids = [streams[0].local_id(), streams[1].local_id()];
                        let active = Instant::now();
                        state.links.insert(link, Link { streams, bytes: 0, active });
                        for (end, id, is_initiator) in [(responder, ids[0], false), (initiator, ids[1], true)]
                        {
                            if let Some(user) = state.users.get(&end.session) {
                                let answer = Pair { is_initiator, token: pair.token, id };
                                let _ = user.notices.try_send(answer);
                            }
                        }
                    }
                    None => state.pairings.close_link(link),
                }
            }
            Paired::Refused => tracing::debug!("blind relay refuses a pair: its quota is used up"),
            Paired::Waiting | Paired::Ignored => {}
        }
        self.tell(&state);
    }

    /// Two streams that forward to each other. Each is connected by the first packet of its user.
    fn join(&self, state: &State, ends: [End; 2]) -> Option<[UdxStream; 2]> {
        let make = |end: End| {
            let stream = self.core.stream().ok()?;
            let (handle, address) = (stream.handle(), state.users.get(&end.session)?.address);
            stream.set_firewall(move |socket, from: SocketAddr| {
                // Nobody else may take the place of the user.
                if from.ip() != address || handle.is_connected() {
                    return Firewall::Refuse;
                }
                match handle.connect(socket, end.stream, from) {
                    Ok(()) => Firewall::Accept,
                    Err(_) => Firewall::Refuse,
                }
            });
            Some(stream)
        };
        let streams = [make(ends[0])?, make(ends[1])?];
        streams[0].relay_to(&streams[1]).ok()?;
        streams[1].relay_to(&streams[0]).ok()?;
        Some(streams)
    }

    fn unpair(&self, session: SessionId, unpair: &Unpair) {
        let mut state = lock(&self.state);
        let parted = state.pairings.unpair(session, &unpair.token).and_then(|link| state.take_link(link));
        self.tell(&state);
        drop(state);
        drop(parted);
    }

    /// Parts pairs that are over, idle or beyond their quota.
    fn look(&self, now: Instant) {
        let mut state = lock(&self.state);
        state.pairings.expire(now);
        let mut over = Vec::new();
        for (id, link) in &mut state.links {
            let mut bytes = 0u64;
            let mut closed = false;
            for stream in &link.streams {
                let handle = stream.handle();
                bytes = bytes.saturating_add(handle.stats().bytes_received);
                closed |= handle.close_reason().is_some();
            }
            if bytes != link.bytes {
                (link.bytes, link.active) = (bytes, now);
            }
            let idle = now.duration_since(link.active) >= self.limits.idle;
            let used_up = self.limits.bytes_per_pair.is_some_and(|limit| bytes >= limit);
            if closed || idle || used_up {
                over.push(*id);
            }
        }
        let gone: Vec<_> = over
            .into_iter()
            .filter_map(|link| {
                state.pairings.close_link(link);
                state.take_link(link)
            })
            .collect();
        self.tell(&state);
        drop(state);
        drop(gone);
    }

    /// Whoever watches learns of it.
    fn tell(&self, state: &State) {
        let now = state.stats();
        self.stats.send_if_modified(|before| std::mem::replace(before, now) != now);
    }
}

impl State {
    fn stats(&self) -> RelayStats {
        let (sessions, waiting, pairs) = self.pairings.counts();
        let now: u64 = self.links.values().map(|link| link.bytes).sum();
        RelayStats { sessions, waiting, pairs, bytes: self.bytes.saturating_add(now) }
    }

    fn take_link(&mut self, link: LinkId) -> Option<LinkEnd> {
        let link = self.links.remove(&link)?;
        self.bytes = self.bytes.saturating_add(link.bytes);
        Some(LinkEnd(link))
    }
}

/// A pair that is parted: its streams end at once, without a word to the users.
struct LinkEnd(Link);

impl Drop for LinkEnd {
    fn drop(&mut self) {
        for stream in &self.0.streams {
            stream.handle().destroy();
        }
    }
}

async fn look_after(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        ticks.tick().await;
        shared.look(Instant::now());
    }
}
