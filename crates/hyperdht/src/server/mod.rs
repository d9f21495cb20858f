//! Servers: reachable by their public key from everywhere in the DHT (npm `hyperdht` 6.34, `lib/server.js`).

mod answer;
mod attend;
mod holepunch;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use bytes::Bytes;
use secret_stream::KeyPair;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::client::announcer::{AnnouncerHandle, announcer};
use crate::connect::TaskGuard;
use crate::core::{Core, lock};
use crate::handshake::{SealedNotes, target_of};
use crate::punching::Puncher;
use crate::router::Call;
use crate::rpc::{ReplyOptions, Request};
use crate::{Connection, HyperDht, ServerOptions};
use table::{Begin, HandshakeTable};
pub(crate) use table::{HandshakeId, fuzz as fuzz_table};

/// Repetitions of a first message that wait for the same answer: through that many nodes a client may ask at once.
const MAX_REPETITIONS: usize = 8;

/// Takes connections to a public key. Clones are the same server; when the last is dropped without
/// [`Server::close`], the server stops without unannouncing.
#[derive(Debug, Clone)]
pub struct Server {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    dht: HyperDht,
    server: Arc<ServerCore>,
    accepted: tokio::sync::Mutex<mpsc::Receiver<Connection>>,
}

/// Where a server listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerAddress {
    /// Its public key: all that others need.
    pub public_key: [u8; 32],
    /// Where the network sees the node, if it agrees on one address.
    pub address: Option<SocketAddr>,
}

/// Why a server does not listen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// [`Server::listen`] was called before.
    #[error("server listens already: a server has one key pair, make another server for another")]
    AlreadyListening,
    /// Another server of this node has the same key pair.
    #[error("key pair is used by another server of this node")]
    KeyPairInUse,
    /// The node or the server was closed.
    #[error("node or server is closed")]
    Closed,
}

impl Server {
    pub(crate) fn new(dht: &HyperDht, options: ServerOptions) -> Self {
        let (accept, accepted) = mpsc::channel(options.backlog.max(1));
        let table = HandshakeTable::new(options.half_open_timeout);
        let server = ServerCore {
            options,
            half_open: watch::Sender::new(0),
            state: Mutex::new(State { accept: Some(accept), listening: None, suspended: false }),
            handshakes: Mutex::new(Handshakes {
                table,
                waiting: HashMap::new(),
                attempts: HashMap::new(),
                sweeping: false,
            }),
            closed: CancellationToken::new(),
        };
        let accepted = tokio::sync::Mutex::new(accepted);
        Self { handle: Arc::new(Handle { dht: dht.clone(), server: Arc::new(server), accepted }) }
    }

    /// Announces `key_pair` and takes connections; returns when the first announcement is through, or has failed (then
    /// it is tried again in the background).
    pub async fn listen(&self, key_pair: KeyPair) -> Result<(), ListenError> {
        self.handle.server.listen(&self.handle.dht.core(), key_pair).await
    }

    /// The next connection; `None` when the server is closed.
    pub async fn accept(&self) -> Option<Connection> {
        self.handle.accepted.lock().await.recv().await
    }

    /// Where this server listens; `None` before [`Server::listen`] and after [`Server::close`].
    pub fn address(&self) -> Option<ServerAddress> {
        let public_key = lock(&self.handle.server.state).listening.as_ref()?.key_pair.public;
        let rpc = self.handle.dht.rpc();
        let address = rpc.host().zip(Some(rpc.port()).filter(|port| *port != 0)).map(SocketAddr::from);
        Some(ServerAddress { public_key, address })
    }

    /// Nodes that forward calls to this server, and the node's own address if all reach it: what to announce topics with.
    pub fn relay_addresses(&self) -> Vec<SocketAddr> {
        self.handle.server.announcer().map(|announcer| announcer.relay_addresses()).unwrap_or_default()
    }

    /// Announces again soon, to nodes that may be others than now.
    pub fn refresh(&self) {
        if let Some(announcer) = self.handle.server.announcer() {
            announcer.refresh();
        }
    }

    /// How many handshakes wait for their connection.
    pub fn half_open(&self) -> usize {
        lock(&self.handle.server.handshakes).table.half_open()
    }

    /// [`Server::half_open`], to be watched.
    pub fn watch_half_open(&self) -> watch::Receiver<usize> {
        self.handle.server.half_open.subscribe()
    }

    /// Returns when the server is announced: after [`Server::listen`], which does not insist on that, and again after a
    /// suspension. False when the server is closed, or does not listen.
    pub async fn announced(&self) -> bool {
        match self.handle.server.announcer() {
            Some(announcer) => announcer.announced().await,
            None => false,
        }
    }

    /// Unannounces and takes no more connections. Those that are there live on.
    pub async fn close(&self) {
        self.handle.server.close(&self.handle.dht.core()).await;
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.server.stop(&self.dht.core());
    }
}

/// A server, as its node knows it.
#[derive(Debug)]
pub(crate) struct ServerCore {
    options: ServerOptions,
    state: Mutex<State>,
    handshakes: Mutex<Handshakes>,
    half_open: watch::Sender<usize>,
    closed: CancellationToken,
}

#[derive(Debug)]
struct State {
    /// Gone when the server is closed.
    accept: Option<mpsc::Sender<Connection>>,
    listening: Option<Listening>,
    suspended: bool,
}

#[derive(Debug)]
struct Listening {
    key_pair: KeyPair,
    target: [u8; 32],
    announcer: AnnouncerHandle,
    /// The announcer's task ends with this.
    _task: TaskGuard,
}

#[derive(Debug)]
struct Handshakes {
    table: HandshakeTable<HandshakeAnswer>,
    waiting: HashMap<HandshakeId, Vec<(Call, Request)>>,
    attempts: HashMap<HandshakeId, Attempt>,
    /// A task forgets what is due.
    sweeping: bool,
}

/// What a client gets, and from where.
#[derive(Debug, Clone)]
struct HandshakeAnswer {
    noise: Bytes,
    /// From the socket that punches, as long as there is one: an answer that is kept keeps no socket.
    punching: Weak<Punching>,
}

/// Work for one client.
#[derive(Debug)]
struct Attempt {
    /// Notes about hole punching are for this one.
    punching: Option<Arc<Punching>>,
    /// Waits for a way, and for the end. `None` when there is nothing to wait for.
    _task: Option<TaskGuard>,
}

/// What is needed to answer notes about hole punching.
#[derive(Debug)]
struct Punching {
    notes: SealedNotes,
    puncher: Puncher,
    /// The two meet at a blind relay meanwhile: punching may wait.
    relayed: bool,
    /// A note has come.
    heard: AtomicBool,
    /// The last round that was heard of.
    round: Mutex<u64>,
}

impl ServerCore {
    async fn listen(self: &Arc<Self>, core: &Arc<Core>, key_pair: KeyPair) -> Result<(), ListenError> {
        let target = target_of(&key_pair.public);
        let announcer = {
            let mut servers = lock(&core.servers);
            let mut state = lock(&self.state);
            if state.accept.is_none() || core.ended.is_cancelled() {
                return Err(ListenError::Closed);
            }
            if state.listening.is_some() {
                return Err(ListenError::AlreadyListening);
            }
            if servers.contains_key(&target) {
                return Err(ListenError::KeyPairInUse);
            }
            servers.insert(target, Arc::clone(self));
            lock(&core.store).listen(key_pair.public);
            let (announcer, task) = announcer(&core.rpc, &key_pair);
            let _task = TaskGuard::new(tokio::spawn(task).abort_handle());
            state.listening = Some(Listening { key_pair, target, announcer: announcer.clone(), _task });
            state.suspended = core.session().is_none();
            announcer
        };
        if core.session().is_none() {
            announcer.suspend().await;
            return Ok(());
        }
        tokio::select! {
            () = announcer.started() => Ok(()),
            () = self.closed.cancelled() => Err(ListenError::Closed),
        }
    }

    pub(crate) fn announcer(&self) -> Option<AnnouncerHandle> {
        lock(&self.state).listening.as_ref().map(|listening| listening.announcer.clone())
    }

    fn key_pair(&self) -> Option<KeyPair> {
        lock(&self.state).listening.as_ref().map(|listening| listening.key_pair.clone())
    }

    /// Takes no more connections, unannounces.
    pub(crate) async fn close(&self, core: &Core) {
        if let Some(listening) = self.stop(core) {
            listening.announcer.stop().await;
        }
    }

    /// Takes no more connections.
    fn stop(&self, core: &Core) -> Option<Listening> {
        self.closed.cancel();
        let listening = {
            let mut state = lock(&self.state);
            state.accept = None;
            state.listening.take()
        };
        self.clear();
        let listening = listening?;
        lock(&core.servers).remove(&listening.target);
        lock(&core.store).unlisten(&listening.key_pair.public);
        Some(listening)
    }

    pub(crate) async fn suspend(&self) {
        lock(&self.state).suspended = true;
        self.clear();
        if let Some(announcer) = self.announcer() {
            announcer.suspend().await;
        }
    }

    pub(crate) fn resume(&self) {
        lock(&self.state).suspended = false;
        if let Some(announcer) = self.announcer() {
            announcer.resume();
        }
    }

    /// Drops all handshakes under way.
    fn clear(&self) {
        let mut handshakes = lock(&self.handshakes);
        handshakes.table.clear();
        self.tell_half_open(&handshakes);
        handshakes.waiting.clear();
        let attempts = std::mem::take(&mut handshakes.attempts);
        drop(handshakes);
        drop(attempts);
    }

    fn takes_calls(&self) -> bool {
        let state = lock(&self.state);
        state.accept.is_some() && !state.suspended
    }

    /// A first message of a client.
    pub(crate) fn on_handshake(self: &Arc<Self>, core: &Arc<Core>, call: Call, request: Request) {
        if !self.takes_calls() {
            return;
        }
        let now = Instant::now();
        self.sweep(now);
        let mut handshakes = lock(&self.handshakes);
        let begin = handshakes.table.begin(&call.payload, call.client, now);
        self.tell_half_open(&handshakes);
        match begin {
            Begin::Refused => tracing::debug!(client = %call.client, "too many handshakes under way"),
            Begin::Known(None) => {}
            Begin::Known(Some(answer)) => send_answer(&call, &request, &answer),
            Begin::Pending(id) => {
                let waiting = handshakes.waiting.entry(id).or_default();
                if waiting.len() < MAX_REPETITIONS {
                    waiting.push((call, request));
                }
            }
            Begin::New(id) => {
                drop(handshakes);
                self.start_sweeper();
                let (server, core) = (Arc::clone(self), Arc::clone(core));
                tokio::spawn(async move {
                    let closed = server.closed.clone();
                    closed.run_until_cancelled(server.answer(core, id, call, request)).await;
                });
            }
        }
    }

    /// All who sent this first message get this answer: `None` is silence.
    fn answered(&self, id: HandshakeId, call: &Call, request: &Request, answer: Option<HandshakeAnswer>) {
        let mut handshakes = lock(&self.handshakes);
        handshakes.table.answered(id, answer.clone());
        let waiting = handshakes.waiting.remove(&id).unwrap_or_default();
        drop(handshakes);
        let Some(answer) = answer else { return };
        send_answer(call, request, &answer);
        for (call, request) in &waiting {
            send_answer(call, request, &answer);
        }
    }

    /// Forgets what is due.
    fn sweep(&self, now: Instant) {
        let mut handshakes = lock(&self.handshakes);
        if handshakes.table.next_deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let due = handshakes.table.expire(now);
        let ended: Vec<_> = due.iter().filter_map(|id| handshakes.attempts.remove(id)).collect();
        for id in due {
            handshakes.waiting.remove(&id);
        }
        self.tell_half_open(&handshakes);
        drop(handshakes);
        drop(ended);
    }

    /// Runs [`ServerCore::sweep`] when something is due, as long as there is anything.
    fn start_sweeper(self: &Arc<Self>) {
        if std::mem::replace(&mut lock(&self.handshakes).sweeping, true) {
            return;
        }
        let server = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(server) = server.upgrade() {
                server.sweep(Instant::now());
                let deadline = {
                    let mut handshakes = lock(&server.handshakes);
                    let deadline = handshakes.table.next_deadline();
                    handshakes.sweeping = deadline.is_some();
                    deadline
                };
                let closed = server.closed.clone();
                drop(server);
                let Some(deadline) = deadline else { return };
                tokio::select! {
                    () = tokio::time::sleep_until(deadline.into()) => {}
                    () = closed.cancelled() => return,
                }
            }
        });
    }

    /// It is over, with or without a connection. Late repetitions still get the answer, but no socket is kept for them.
    fn finish(&self, id: HandshakeId) {
        let mut handshakes = lock(&self.handshakes);
        handshakes.table.finish(id, Instant::now(), |answer| answer.punching = Weak::new());
        self.tell_half_open(&handshakes);
    }

    /// Whoever watches learns of it.
    fn tell_half_open(&self, handshakes: &Handshakes) {
        let now = handshakes.table.half_open();
        self.half_open.send_if_modified(|before| std::mem::replace(before, now) != now);
    }

    /// Somebody else needs the socket more: from now on this client can only come by itself, or through a relay.
    fn stop_punching(&self, id: HandshakeId) {
        let punching =
            lock(&self.handshakes).attempts.get_mut(&id).and_then(|attempt| attempt.punching.take());
        drop(punching);
    }

    /// A connection for whoever accepts.
    fn deliver(&self, connection: Connection) {
        let accept = lock(&self.state).accept.clone();
        if let Some(accept) = accept
            && accept.try_send(connection).is_err()
        {
            tracing::warn!("connection dropped: more wait to be accepted than the server's backlog holds");
        }
    }
}

fn send_answer(call: &Call, request: &Request, answer: &HandshakeAnswer) {
    let (value, relay) = call.answer_handshake(answer.noise.clone());
    let socket = answer.punching.upgrade().and_then(|punching| punching.puncher.socket());
    match relay {
        Some(relay) => request.relay(Some(value), relay, socket.as_ref()),
        None => {
            let options = ReplyOptions { socket, ..ReplyOptions::bare() };
            request.reply(Some(value), options);
        }
    }
}
