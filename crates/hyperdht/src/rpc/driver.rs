//! Joins a [`Node`] to sockets and a clock.
//!
//! One task reads each socket, a burst at a time; one sleeps until the node's next deadline. Whoever has something to do
//! with the node (these tasks, or the application) locks it for as long as that takes, never across an await, sends what
//! it has to send, and hands out its events.

use std::collections::HashMap;
use std::future::pending;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};

use tokio::runtime::Handle;
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use udx::{Udx, UdxSocket};

use super::handle::{ForeignDatagram, Rpc, RpcEvent};
use super::incoming::{Entered, Request, WaitingRoom};
use super::message::Message;
use super::node::{Answer, Asking, Incoming, NodeEvent, QueryId, QueryOutcome};
use super::sockets::{Sockets, local_ip};
use super::{BootstrapNode, Node, Reply, RequestId, RpcError, RpcOptions, Socket, code};

/// Datagrams handled in one go.
const BURST: usize = 64;
/// Events, and datagrams that are no messages, that wait for those who listen; who is slower loses the oldest.
const LISTENERS_BEHIND: usize = 256;
/// A wall clock that is this much ahead of the steady one tells that the machine slept.
const SLEPT: Duration = Duration::from_secs(15);
/// The network interfaces are looked at this often.
const LOOK: Duration = Duration::from_secs(5);

/// What a query tells its handle.
#[derive(Debug)]
pub(crate) enum QueryItem {
    Reply(Reply),
    Done(Result<QueryOutcome, RpcError>),
}

/// What all handles and tasks of a node share.
#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    pub(crate) udx: Udx,
    pub(crate) options: RpcOptions,
    pub(crate) events: broadcast::Sender<RpcEvent>,
    pub(crate) foreign: broadcast::Sender<ForeignDatagram>,
    pub(crate) bootstrapped: watch::Sender<bool>,
    pub(crate) closed: watch::Sender<bool>,
    requests: Arc<WaitingRoom>,
    /// The next deadline is nearer than it was.
    nearer: Notify,
    runtime: Handle,
}

/// What the lock protects.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) node: Node,
    pub(crate) sockets: Sockets,
    pub(crate) answers: HashMap<RequestId, oneshot::Sender<Result<Reply, RpcError>>>,
    pub(crate) queries: HashMap<QueryId, mpsc::UnboundedSender<QueryItem>>,
    pub(crate) overflowed: u64,
    /// What the timer sleeps until.
    planned: Option<Instant>,
}

impl Shared {
    pub(crate) fn new(
        udx: &Udx,
        mut options: RpcOptions,
        seed: [u8; 32],
        requests: Arc<WaitingRoom>,
    ) -> Result<Arc<Self>, RpcError> {
        let sockets = Sockets::bind(udx, &options, None)?;
        if let Some(external) = options.external.as_mut().filter(|external| external.port() == 0) {
            // Any port was asked for, and this one was given.
            external.set_port(sockets.ports().1);
        }
        let node = Node::new(options.clone(), sockets.ports().1, seed, Instant::now());
        let state = State {
            node,
            sockets,
            answers: HashMap::new(),
            queries: HashMap::new(),
            overflowed: 0,
            planned: None,
        };
        let shared = Arc::new(Self {
            state: Mutex::new(state),
            udx: udx.clone(),
            options,
            events: broadcast::Sender::new(LISTENERS_BEHIND),
            foreign: broadcast::Sender::new(LISTENERS_BEHIND),
            bootstrapped: watch::Sender::new(false),
            closed: watch::Sender::new(false),
            requests,
            nearer: Notify::new(),
            runtime: Handle::current(),
        });
        tokio::spawn(keep_time(Arc::clone(&shared)));
        shared.listen();
        // The first walk has begun.
        shared.with(|_, _| ());
        Ok(shared)
    }

    /// Reads the client and the server socket, until they are closed.
    pub(crate) fn listen(self: &Arc<Self>) {
        let (client, server) = {
            let state = self.lock();
            (state.sockets.client.clone(), state.sockets.server.clone())
        };
        for (socket, which) in [(client, Socket::Client), (server, Socket::Server)] {
            let foreign = self.foreign.clone();
            let take = move |datagram| {
                let _ = foreign.send(datagram);
            };
            self.runtime.spawn(read(Arc::clone(self), socket, which, take));
        }
    }

    /// Lets a further socket take part, until the sender's receiver is dropped.
    pub(crate) fn attach(self: &Arc<Self>, socket: UdxSocket, foreign: mpsc::Sender<ForeignDatagram>) -> u64 {
        let id = self.lock().sockets.attach(socket.clone());
        let take = {
            let foreign = foreign.clone();
            move |datagram| {
                let _ = foreign.try_send(datagram);
            }
        };
        let shared = Arc::clone(self);
        self.runtime.spawn(async move {
            tokio::select! {
                () = read(Arc::clone(&shared), socket, Socket::Other(id), take) => {}
                () = foreign.closed() => {}
            }
            shared.lock().sockets.detach(id);
        });
        id
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the node, and then all that follows from it.
    pub(crate) fn with<T>(self: &Arc<Self>, act: impl FnOnce(&mut State, Instant) -> T) -> T {
        let now = Instant::now();
        let mut state = self.lock();
        let result = act(&mut state, now);
        self.flush(&mut state, now);
        result
    }

    /// Sends what is to be sent, and hands out the events.
    fn flush(self: &Arc<Self>, state: &mut State, now: Instant) {
        loop {
            while let Some(transmit) = state.node.poll_transmit(now) {
                state.sockets.send(transmit.socket, transmit.payload, transmit.to, transmit.ttl);
            }
            let Some(event) = state.node.poll_event() else { break };
            self.hand_out(state, event, now);
        }
        let next = state.node.next_deadline();
        if let Some(next) = next
            && state.planned.is_none_or(|planned| next < planned)
        {
            state.planned = Some(next);
            self.nearer.notify_one();
        }
    }

    fn hand_out(self: &Arc<Self>, state: &mut State, event: NodeEvent, now: Instant) {
        let tell = |event| {
            let _ = self.events.send(event);
        };
        match event {
            NodeEvent::Answer(id, result) => {
                if let Some(waiting) = state.answers.remove(&id) {
                    let _ = waiting.send(result);
                }
            }
            NodeEvent::QueryReply(id, reply) => {
                if let Some(query) = state.queries.get(&id) {
                    let _ = query.send(QueryItem::Reply(reply));
                }
            }
            NodeEvent::QueryDone(id, result) => {
                if let Some(query) = state.queries.remove(&id) {
                    let _ = query.send(QueryItem::Done(result));
                }
            }
            NodeEvent::Request(incoming) => self.hand_request(state, incoming, now),
            NodeEvent::ResolveBootstrap => {
                self.runtime.spawn(resolve(Arc::downgrade(self), self.options.bootstrap.clone()));
            }
            NodeEvent::Ready => {
                self.bootstrapped.send_replace(true);
                tell(RpcEvent::Ready);
            }
            NodeEvent::Persistent => tell(RpcEvent::Persistent),
            NodeEvent::Ephemeral => tell(RpcEvent::Ephemeral),
            NodeEvent::Wakeup => tell(RpcEvent::Wakeup),
            NodeEvent::NatUpdate(host, port) => tell(RpcEvent::NatUpdate { host, port }),
            NodeEvent::NetworkUpdate(online, degraded) => tell(RpcEvent::NetworkUpdate { online, degraded }),
            NodeEvent::NodeAdded(_) | NodeEvent::NodeRemoved(_) => {}
        }
    }

    fn hand_request(self: &Arc<Self>, state: &mut State, incoming: Incoming, now: Instant) {
        let Some(socket) = state.sockets.get(incoming.socket).cloned() else { return };
        let unknown = Answer {
            to: incoming.from.addr,
            socket: incoming.socket,
            tid: incoming.tid,
            error: code::UNKNOWN_COMMAND,
            value: None,
            closer_to: incoming.target,
            token: false,
        };
        match self.requests.enter(Request::new(incoming, socket, Arc::downgrade(self))) {
            Entered::Waits => {}
            Entered::Full => state.overflowed += 1,
            Entered::Closed => {
                let _ = state.node.reply(now, unknown);
            }
        }
    }

    /// Ends the node and its tasks.
    pub(crate) fn close(self: &Arc<Self>) {
        if self.closed.send_replace(true) {
            return;
        }
        self.with(|state, _| {
            state.node.close();
            state.sockets.client.close();
            state.sockets.server.close();
        });
        self.requests.close();
        let _ = self.events.send(RpcEvent::Closed);
    }
}

/// Hands the datagrams of a socket to the node, and those that are no messages to `foreign`.
async fn read(
    shared: Arc<Shared>,
    socket: UdxSocket,
    which: Socket,
    foreign: impl Fn(ForeignDatagram) + Send,
) {
    let mut closed = shared.closed.subscribe();
    let mut burst = Vec::with_capacity(BURST);
    loop {
        let count = tokio::select! {
            count = socket.recv_many(&mut burst, BURST) => count,
            _ = closed.wait_for(|closed| *closed) => return,
        };
        if count == 0 {
            return;
        }
        shared.with(|state, now| {
            for datagram in burst.drain(..) {
                let (from, payload) = (datagram.from, datagram.payload);
                if Message::looks_like_one(&payload) {
                    state.node.handle_datagram(now, which, from, payload);
                } else {
                    foreign(ForeignDatagram { socket: socket.clone(), from, payload });
                }
            }
        });
    }
}

/// Calls the node when its time has come, and notices when the machine slept or moved to another network.
async fn keep_time(shared: Arc<Shared>) {
    let mut closed = shared.closed.subscribe();
    let mut clocks = (SystemTime::now(), Instant::now());
    let watches_network = shared.options.host.is_unspecified();
    let (mut looked, mut network) = (Instant::now(), local_ip());
    loop {
        let planned = shared.lock().planned;
        let sleep = async {
            match planned {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => pending().await,
            }
        };
        let due = tokio::select! {
            () = sleep => true,
            () = shared.nearer.notified() => false,
            _ = closed.wait_for(|closed| *closed) => return,
        };
        if !due {
            continue;
        }
        let passed = (clocks.0.elapsed().unwrap_or_default(), clocks.1.elapsed());
        clocks = (SystemTime::now(), Instant::now());
        let slept = passed.0.saturating_sub(passed.1) > SLEPT;
        shared.with(|state, now| {
            state.planned = None;
            if slept && !state.node.is_suspended() {
                state.node.wake_up(now);
            }
            state.node.handle_timeout(now);
        });
        if watches_network && looked.elapsed() >= LOOK {
            looked = Instant::now();
            let found = local_ip();
            if std::mem::replace(&mut network, found) != found {
                network_changed(&shared);
            }
        }
    }
}

/// Tells those who listen that the interfaces changed.
pub(crate) fn network_changed(shared: &Shared) {
    let (online, degraded) = {
        let state = shared.lock();
        (state.node.is_online(), state.node.is_degraded())
    };
    let _ = shared.events.send(RpcEvent::NetworkChange);
    let _ = shared.events.send(RpcEvent::NetworkUpdate { online, degraded });
}

/// Finds the addresses of the bootstrap nodes.
async fn resolve(shared: Weak<Shared>, nodes: Vec<BootstrapNode>) {
    let found = futures::future::join_all(nodes.iter().map(|node| resolve_one(&shared, node))).await;
    if let Some(shared) = shared.upgrade() {
        let found = found.into_iter().flatten().collect();
        shared.with(|state, now| state.node.set_bootstrap_nodes(now, found));
    }
}

/// The IP, if somebody answers there or there is nothing else; else what the name resolves to.
async fn resolve_one(shared: &Weak<Shared>, node: &BootstrapNode) -> Option<SocketAddr> {
    let Some(host) = &node.host else { return Some(SocketAddr::new(node.ip?, node.port)) };
    if let Some(ip) = node.ip {
        let addr = SocketAddr::new(ip, node.port);
        let (answer, answered) = oneshot::channel();
        shared.upgrade()?.with(|state, now| {
            if let Ok(id) = state.node.ping(now, addr, 0, Asking::default()) {
                state.answers.insert(id, answer);
            }
        });
        if let Ok(Ok(_)) = answered.await {
            return Some(addr);
        }
    }
    match tokio::net::lookup_host((host.as_str(), node.port)).await {
        Ok(mut addrs) => addrs.find(|addr| matches!(addr.ip(), IpAddr::V4(_))),
        Err(err) => {
            tracing::warn!(%host, %err, "a bootstrap node of the DHT cannot be resolved");
            None
        }
    }
}

/// Closes the node when the last handle is gone; tasks and requests do not count.
#[derive(Debug)]
pub(crate) struct LastHandle(pub(crate) Arc<Shared>);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Rpc {
    pub(crate) fn over(shared: Arc<Shared>) -> Self {
        Self { shared: Arc::new(LastHandle(shared)) }
    }
}
