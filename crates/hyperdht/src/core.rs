//! What the parts of a node share.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::future::join_all;
use indexmap::IndexMap;
use secret_stream::KeyPair;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use udx::{StreamOptions, Udx, UdxError, UdxHandle, UdxStream};

use crate::addresses::local_addresses;
use crate::messages::{Command, error};
use crate::nat::Strategy;
use crate::punching::{PoolSocket, PunchBudget, PunchSlots, Punched};
use crate::records::Store;
use crate::router::{self, Route, Step};
use crate::rpc::{ReplyOptions, Request, Rpc};
use crate::server::{HandshakeId, ServerCore};

/// Servers whose relays are remembered (npm `hyperdht` 6.34, `relayAddresses`).
const MAX_REMEMBERED_RELAYS: usize = 512;

/// A running node.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) rpc: Rpc,
    pub(crate) udx: Udx,
    pub(crate) key_pair: KeyPair,
    pub(crate) keep_alive: Option<Duration>,
    pub(crate) relay_linger: Duration,
    pub(crate) budget: PunchBudget,
    /// Sockets for those who call, of all servers together.
    pub(crate) slots: PunchSlots<(Weak<ServerCore>, HandshakeId)>,
    pub(crate) counters: Counters,
    /// Cancelled when the node ends.
    pub(crate) ended: CancellationToken,
    pub(crate) host: IpAddr,
    pub(crate) store: Mutex<Store>,
    pub(crate) servers: Mutex<HashMap<[u8; 32], Arc<ServerCore>>>,
    pub(crate) session: Mutex<Session>,
    pub(crate) relays: Mutex<IndexMap<[u8; 32], Vec<SocketAddr>>>,
    pub(crate) streams: Mutex<Vec<UdxHandle>>,
}

/// From the start, or a resumption, to a suspension.
#[derive(Debug)]
pub(crate) struct Session {
    /// Cancelled with the suspension.
    pub(crate) token: CancellationToken,
    pub(crate) suspended: bool,
}

/// What was done since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) punches_consistent: AtomicU64,
    pub(crate) punches_random: AtomicU64,
    pub(crate) punches_open: AtomicU64,
    pub(crate) punches_later: AtomicU64,
    pub(crate) relay_attempts: AtomicU64,
    pub(crate) relay_successes: AtomicU64,
    pub(crate) relay_aborts: AtomicU64,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The lock, also when somebody panicked with it: no state here is left half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    /// `None` while nothing may be connected.
    pub(crate) fn session(&self) -> Option<CancellationToken> {
        let session = lock(&self.session);
        (!session.suspended && !self.ended.is_cancelled()).then(|| session.token.clone())
    }

    /// A stream that ends with the session.
    pub(crate) fn stream(&self) -> Result<UdxStream, UdxError> {
        let stream = self.udx.stream(StreamOptions::default())?;
        let mut streams = lock(&self.streams);
        if streams.len() == streams.capacity() {
            streams.retain(|stream| stream.close_reason().is_none());
        }
        streams.push(stream.handle());
        Ok(stream)
    }

    pub(crate) fn destroy_streams(&self) {
        for stream in std::mem::take(&mut *lock(&self.streams)) {
            stream.destroy();
        }
    }

    pub(crate) fn pool_socket(&self, punched: mpsc::Sender<Punched>) -> io::Result<PoolSocket> {
        PoolSocket::bind(&self.udx, &self.rpc, self.host, punched)
    }

    /// Where this node can be reached inside its network.
    pub(crate) fn local_addresses(&self) -> Vec<SocketAddr> {
        let interfaces: Vec<_> = if_addrs::get_if_addrs()
            .unwrap_or_default()
            .into_iter()
            .filter_map(|interface| match interface.ip() {
                IpAddr::V4(ip) if !interface.is_loopback() => Some(ip),
                _ => None,
            })
            .collect::<Vec<Ipv4Addr>>();
        local_addresses(self.rpc.local_address(), &interfaces)
    }

    pub(crate) fn count_punch(&self, strategy: &Strategy) {
        count(match strategy {
            Strategy::Consistent(_) => &self.counters.punches_consistent,
            Strategy::RandomProbes(_) | Strategy::BirthdaySockets(_) => &self.counters.punches_random,
        });
    }

    /// What this node knows of the server with this hashed public key.
    pub(crate) fn route(&self, target: &[u8; 32]) -> Route {
        if lock(&self.servers).contains_key(target) {
            return Route::Here;
        }
        match lock(&self.store).forward(Instant::now(), target) {
            Some(address) => Route::Announced(address),
            None => Route::Unknown,
        }
    }

    pub(crate) fn remember_relays(&self, target: [u8; 32], addresses: Vec<SocketAddr>) {
        let mut relays = lock(&self.relays);
        relays.shift_remove(&target);
        if relays.len() >= MAX_REMEMBERED_RELAYS {
            relays.shift_remove_index(0);
        }
        relays.insert(target, addresses);
    }

    pub(crate) fn remembered_relays(&self, target: &[u8; 32]) -> Vec<SocketAddr> {
        lock(&self.relays).get(target).cloned().unwrap_or_default()
    }

    pub(crate) fn all_servers(&self) -> Vec<Arc<ServerCore>> {
        lock(&self.servers).values().cloned().collect()
    }

    /// Closes all servers at once.
    pub(crate) async fn close_servers(self: &Arc<Self>) {
        join_all(self.all_servers().iter().map(|server| server.close(self))).await;
    }

    /// Answers a request of another node.
    pub(crate) fn on_request(self: &Arc<Self>, request: Request) {
        match Command::from_wire(request.command) {
            None => request.unknown_command(),
            Some(Command::PeerHandshake) => self.on_handshake(request),
            Some(Command::PeerHolepunch) => self.on_holepunch(request),
            Some(_) => {
                let id = self.rpc.id();
                if !lock(&self.store).serve(id.as_ref(), &request) {
                    request.unknown_command();
                }
            }
        }
    }

    fn on_handshake(self: &Arc<Self>, request: Request) {
        let Some(target) = request.target else { return };
        let step = router::handshake(request.value.clone(), request.from.addr, self.route(&target));
        match step {
            Step::Serve(call) => {
                let server = lock(&self.servers).get(&target).cloned();
                if let Some(server) = server {
                    server.on_handshake(self, call, request);
                }
            }
            step => take_step(&request, step),
        }
    }

    fn on_holepunch(self: &Arc<Self>, request: Request) {
        let Some(target) = request.target else { return };
        let step = router::holepunch(request.value.clone(), request.from.addr, self.route(&target));
        match step {
            Step::Serve(call) => {
                let server = lock(&self.servers).get(&target).cloned();
                if let Some(server) = server {
                    server.on_holepunch(self, call, request);
                }
            }
            step => take_step(&request, step),
        }
    }
}

/// What a node between does.
fn take_step(request: &Request, step: Step) {
    match step {
        Step::Forward { value, to } => request.relay(Some(value), to, None),
        Step::Answer { value, to } => {
            request.reply(Some(value), ReplyOptions { to: Some(to), ..ReplyOptions::bare() });
        }
        Step::HelpRouting => request.reply(None, ReplyOptions { token: false, ..ReplyOptions::default() }),
        Step::Serve(_) | Step::Ignore => {}
    }
}

/// True for answers that say that all is well.
pub(crate) fn is_fine(code: u64) -> bool {
    code == error::NONE
}
