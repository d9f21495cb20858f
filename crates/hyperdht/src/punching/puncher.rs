//! One side's work to get through two NATs.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use udx::UdxSocket;

use super::pool::{PoolSocket, Punched, send_punch};
use super::{PunchBudget, PunchPermit, PunchSlot};
use crate::core::Core;
use crate::messages::Firewall;
use crate::nat::{MIN_SAMPLES, NatSamples, Punch, PunchStep, Remote, Strategy};
use crate::rpc::{PingOptions, RequestOptions};
use crate::server::{HandshakeId, ServerCore};

/// Other sockets that are tried when the first is seen differently by everyone (npm `hyperdht` 6.34, `MAX_REOPENS`).
const MAX_REOPENS: usize = 3;
/// Packets that wait to be looked at.
const MAX_PUNCHED: usize = 64;
/// The nodes heard from last are asked less: all use them (npm `hyperdht` 6.34, `autoSample`).
const SKIP: usize = 5;

/// What a server's attempt takes of its node.
pub(crate) type CallerSlot = PunchSlot<(Weak<ServerCore>, HandshakeId)>;

/// How it went.
#[derive(Debug, Clone)]
pub(crate) enum PunchEvent {
    /// There is a way: through this socket to that address.
    Open(UdxSocket, SocketAddr),
    /// There is none.
    Failed,
}

/// One attempt at getting through. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Puncher {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    core: Arc<Core>,
    is_initiator: bool,
    events: mpsc::Sender<PunchEvent>,
    punched: mpsc::Sender<Punched>,
    /// Which socket it is, and whether what others see of it is known.
    analyzed: watch::Sender<(u32, bool)>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    nat: NatSamples,
    generation: u32,
    sockets: Vec<PoolSocket>,
    remote: Remote,
    punching: bool,
    /// Connected, or given up.
    over: bool,
    permit: Option<PunchPermit>,
    /// What the socket of a server's attempt is counted with.
    slot: Option<CallerSlot>,
    tasks: Vec<AbortHandle>,
}

/// What a puncher tells its remote about itself.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    pub(crate) firewall: Firewall,
    pub(crate) addresses: Option<Vec<SocketAddr>>,
    pub(crate) punching: bool,
}

impl Puncher {
    /// Opens a socket and begins to find out what others see of it.
    pub(crate) fn new(
        core: &Arc<Core>,
        is_initiator: bool,
        remote_firewall: Firewall,
        events: mpsc::Sender<PunchEvent>,
        slot: Option<CallerSlot>,
    ) -> std::io::Result<Self> {
        let (punched, arrivals) = mpsc::channel(MAX_PUNCHED);
        let socket = core.pool_socket(punched.clone())?;
        let state = State {
            nat: NatSamples::new(),
            generation: 0,
            sockets: vec![socket],
            remote: Remote::new(remote_firewall),
            punching: false,
            over: false,
            permit: None,
            slot,
            tasks: Vec::new(),
        };
        let shared = Arc::new(Shared {
            core: Arc::clone(core),
            is_initiator,
            events,
            punched,
            analyzed: watch::Sender::new((0, false)),
            state: Mutex::new(state),
        });
        let puncher = Self { shared };
        puncher.shared.spawn(take_arrivals(Arc::clone(&puncher.shared), arrivals));
        puncher.shared.spawn(sample(Arc::clone(&puncher.shared), 0));
        Ok(puncher)
    }

    /// The socket that the remote should see.
    pub(crate) fn socket(&self) -> Option<UdxSocket> {
        self.shared.state().sockets.first().map(|pool| pool.socket().clone())
    }

    /// What others see of us.
    pub(crate) fn local(&self) -> Local {
        let state = self.shared.state();
        Local {
            firewall: state.nat.firewall(),
            addresses: state.nat.addresses().map(<[_]>::to_vec),
            punching: state.punching,
        }
    }

    /// How many nodes have told what they see of us.
    pub(crate) fn samples(&self) -> usize {
        self.shared.state().nat.samples()
    }

    pub(crate) fn remote_firewall(&self) -> Firewall {
        self.shared.state().remote.firewall
    }

    pub(crate) fn remote_is_punching(&self) -> bool {
        self.shared.state().remote.punching
    }

    /// Takes what the remote says about itself; see [`Remote::update`].
    pub(crate) fn update_remote(
        &self,
        firewall: Firewall,
        punching: bool,
        addresses: &[SocketAddr],
        verified: Option<std::net::IpAddr>,
    ) {
        self.shared.state().remote.update(firewall, punching, addresses, verified);
    }

    /// `from` sees our socket at `seen`.
    pub(crate) fn add_sample(&self, seen: SocketAddr, from: SocketAddr) {
        self.shared.add_sample(None, seen, from);
    }

    /// The remote has said something: who only comes here does not take its place.
    pub(crate) fn heard(&self) {
        if let Some(slot) = &self.shared.state().slot {
            slot.heard(Instant::now());
        }
    }

    /// From now on what we say about ourselves stays.
    pub(crate) fn freeze(&self) {
        self.shared.state().nat.freeze();
    }

    /// Opens our NAT towards `to`, without getting there.
    pub(crate) fn open_session(&self, to: SocketAddr) {
        self.send(to, true);
    }

    /// Sends a packet to `to`.
    pub(crate) fn ping(&self, to: SocketAddr) {
        self.send(to, false);
    }

    /// True once it is connected or has given up.
    pub(crate) fn is_over(&self) -> bool {
        self.shared.state().over
    }

    /// Waits until it is known what others see of us; false when that leads nowhere. With `reopen`, other sockets are
    /// tried then: a mobile network may treat them better.
    pub(crate) async fn analyze(&self, reopen: bool) -> bool {
        self.analyzed().await;
        if !self.is_unstable() {
            return true;
        }
        if !reopen {
            return false;
        }
        for _ in 0..MAX_REOPENS {
            if !self.is_unstable() || !self.reset() {
                break;
            }
            self.analyzed().await;
        }
        self.shared.state().nat.firewall().is_consistent()
    }

    /// Begins to punch; false when there is no way. `budget` counts attempts that send a lot.
    pub(crate) fn punch(&self, budget: &PunchBudget) -> bool {
        let mut state = self.shared.state();
        if state.over {
            return false;
        }
        if state.punching {
            return true;
        }
        let Some(strategy) = Strategy::choose(state.nat.firewall(), &state.remote) else {
            return false;
        };
        self.shared.core.count_punch(&strategy);
        if !matches!(strategy, Strategy::Consistent(_)) {
            state.permit = Some(budget.begin());
        }
        state.punching = true;
        let punch = Punch::new(strategy, self.shared.is_initiator, Instant::now());
        drop(state);
        self.shared.spawn(run(Arc::clone(&self.shared), punch));
        true
    }

    async fn analyzed(&self) {
        let mut analyzed = self.shared.analyzed.subscribe();
        let generation = self.shared.state().generation;
        // Only fails with the sender, which `self` keeps.
        let _ = analyzed.wait_for(|(of, done)| *of > generation || (*of == generation && *done)).await;
    }

    fn is_unstable(&self) -> bool {
        let state = self.shared.state();
        let (local, remote) = (state.nat.firewall(), state.remote.firewall);
        (remote == Firewall::Random && local == Firewall::Random) || local == Firewall::Unknown
    }

    /// Takes another socket.
    fn reset(&self) -> bool {
        let Ok(socket) = self.shared.core.pool_socket(self.shared.punched.clone()) else {
            return false;
        };
        let mut state = self.shared.state();
        if state.over || state.punching {
            return false;
        }
        state.sockets = vec![socket];
        state.nat = NatSamples::new();
        state.generation += 1;
        let generation = state.generation;
        drop(state);
        self.shared.analyzed.send_replace((generation, false));
        self.shared.spawn(sample(Arc::clone(&self.shared), generation));
        true
    }

    fn send(&self, to: SocketAddr, low_ttl: bool) {
        if let Some(pool) = self.shared.state().sockets.first() {
            pool.punch(to, low_ttl);
        }
    }
}

impl Drop for Puncher {
    fn drop(&mut self) {
        self.shared.end();
        let tasks = std::mem::take(&mut self.shared.state().tasks);
        for task in tasks {
            task.abort();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let handle = tokio::spawn(task).abort_handle();
        let mut state = self.state();
        state.tasks.retain(|task| !task.is_finished());
        state.tasks.push(handle);
    }

    fn add_sample(&self, generation: Option<u32>, seen: SocketAddr, from: SocketAddr) {
        let mut state = self.state();
        if generation.is_some_and(|generation| generation != state.generation) {
            return;
        }
        state.nat.add(seen, from);
        let (generation, decided) = (state.generation, state.nat.is_decided());
        drop(state);
        if decided {
            self.analyzed.send_replace((generation, true));
        }
    }

    /// Ends it: the sockets go, but for the one with the way through.
    fn end(&self) -> bool {
        let mut state = self.state();
        let was_over = std::mem::replace(&mut state.over, true);
        state.punching = false;
        let (sockets, permit) = (std::mem::take(&mut state.sockets), state.permit.take());
        let slot = state.slot.take();
        let generation = state.generation;
        drop(state);
        drop((sockets, permit, slot));
        self.analyzed.send_replace((generation, true));
        !was_over
    }

    fn fail(&self) {
        if self.end() {
            let _ = self.events.try_send(PunchEvent::Failed);
        }
    }
}

/// Asks nodes what they see of the socket of this generation.
async fn sample(shared: Arc<Shared>, generation: u32) {
    // Who does not answer may be made up for by others, once.
    for round in 0..2 {
        let (socket, wanted) = {
            let state = shared.state();
            let wanted = MIN_SAMPLES.saturating_sub(state.nat.samples());
            match state.sockets.first() {
                Some(pool) if state.generation == generation && wanted > 0 => (pool.socket().clone(), wanted),
                _ => break,
            }
        };
        let nodes = shared.core.rpc.nodes(4 * (SKIP + MIN_SAMPLES));
        let skip = if round == 0 && nodes.len() >= SKIP + 3 { SKIP } else { 0 };
        let chosen: Vec<_> = {
            let mut state = shared.state();
            let fresh = nodes.into_iter().skip(skip).filter(|node| state.nat.should_ask(node.addr));
            fresh.take(wanted).collect()
        };
        let pings = chosen.into_iter().map(|node| {
            let (shared, socket) = (Arc::clone(&shared), socket.clone());
            async move {
                // Once more (npm asks once): on a busy machine a sample that is late is worth more than none.
                let request = RequestOptions { socket: Some(socket), retries: Some(1), ..Default::default() };
                let options = PingOptions { request, ..Default::default() };
                if let Ok(pong) = shared.core.rpc.ping(node.addr, options).await {
                    shared.add_sample(Some(generation), pong.to, pong.from.addr);
                }
            }
        });
        futures::future::join_all(pings).await;
    }
    if shared.state().generation == generation {
        shared.analyzed.send_replace((generation, true));
    }
}

/// Packets that came through: the side that called is connected by the first, the other answers each.
async fn take_arrivals(shared: Arc<Shared>, mut arrivals: mpsc::Receiver<Punched>) {
    while let Some(Punched { socket, from }) = arrivals.recv().await {
        if !shared.is_initiator {
            send_punch(&socket, from, false);
            continue;
        }
        if shared.end() {
            let _ = shared.events.try_send(PunchEvent::Open(socket, from));
        }
        return;
    }
}

/// Sends what the schedule says.
async fn run(shared: Arc<Shared>, mut punch: Punch) {
    loop {
        let step = punch.poll(Instant::now(), || getrandom::u32().unwrap_or(0));
        if shared.state().over {
            return;
        }
        match step {
            PunchStep::Send { socket, to, low_ttl } => {
                if !send_from(&shared, socket, to, low_ttl) {
                    return shared.fail();
                }
            }
            PunchStep::Wait(until) => tokio::time::sleep_until(until.into()).await,
            PunchStep::GiveUp => {
                // The last packets may still get there.
                tokio::time::sleep(Duration::from_millis(500)).await;
                return shared.fail();
            }
        }
    }
}

/// Sends from the socket with this index, which is opened when it is not there yet.
fn send_from(shared: &Shared, index: usize, to: SocketAddr, low_ttl: bool) -> bool {
    let missing = shared.state().sockets.len() <= index;
    let opened = if missing { shared.core.pool_socket(shared.punched.clone()).ok() } else { None };
    let mut state = shared.state();
    state.sockets.extend(opened);
    // When the system gives no more sockets, those that are there do what they can.
    let index = index.min(state.sockets.len().saturating_sub(1));
    match state.sockets.get(index) {
        Some(pool) => {
            pool.punch(to, low_ttl);
            true
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::{DhtOptions, HyperDht};

    /// Such a node gets to punching when it learns too late that everybody reaches it: the remote has to be told where.
    #[tokio::test]
    async fn a_node_that_everybody_reaches_tells_where_its_puncher_is() {
        let mut nodes = vec![HyperDht::bootstrapper((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap()];
        let bootstrap = vec![nodes[0].local_address().to_string()];
        for _ in 0..MIN_SAMPLES {
            let options = DhtOptions {
                bootstrap: Some(bootstrap.clone()),
                host: Ipv4Addr::LOCALHOST.into(),
                port: 0,
                ephemeral: Some(false),
                firewalled: Some(false),
                ..DhtOptions::default()
            };
            let node = HyperDht::new(options).await.unwrap();
            node.fully_bootstrapped().await.unwrap();
            nodes.push(node);
        }
        let core = nodes[MIN_SAMPLES].core();
        assert!(core.rpc.remote_address().is_some());
        let (events, _) = mpsc::channel(2);
        let puncher = Puncher::new(&core, true, Firewall::Unknown, events, None).unwrap();
        assert!(puncher.analyze(false).await);
        let Local { firewall, addresses, .. } = puncher.local();
        assert!(firewall.is_consistent());
        assert_eq!(addresses, puncher.socket().map(|socket| vec![socket.local_addr()]));
    }
}
