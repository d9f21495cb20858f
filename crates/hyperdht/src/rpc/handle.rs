//! The DHT node that applications hold.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{broadcast, mpsc, oneshot};
use udx::{Udx, UdxSocket};

use super::driver::{self, LastHandle, Shared, State};
use super::incoming::WaitingRoom;
use super::node::{Asking, Querying};
use super::sockets::{Sockets, local_ip};
use super::{
    NodeId, Peer, PingOptions, Query, QueryOptions, Reply, RequestBody, RequestId, RequestOptions, Requests,
    RpcError, RpcOptions, Socket, Stats,
};

/// A node of the DHT: a cheap handle, all clones of which are the same node.
///
/// Getters and everything that sends without awaiting an answer take effect at once; futures may be dropped at any time,
/// which cancels what they stand for. When the last handle is dropped the node [closes](Self::close).
#[derive(Debug, Clone)]
pub struct Rpc {
    pub(super) shared: Arc<LastHandle>,
}

/// What happened to a node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RpcEvent {
    /// The first walk through the network is done.
    Ready,
    /// The node is part of the network from now on: it has an id, and others know it.
    Persistent,
    /// The node is no longer part of the network (it slept, or changed networks).
    Ephemeral,
    /// The machine slept.
    Wakeup,
    /// Our address, as others see it, changed.
    NatUpdate {
        /// `None`: others disagree.
        host: Option<IpAddr>,
        /// 0: others disagree.
        port: u16,
    },
    /// The interfaces of this machine changed.
    NetworkChange,
    /// We are online, offline or badly connected now, or the interfaces changed.
    NetworkUpdate {
        /// Anybody answers.
        online: bool,
        /// Most do not answer.
        degraded: bool,
    },
    /// The sockets are closed until the node is resumed.
    Suspended,
    /// It goes on.
    Resumed,
    /// It ended.
    Closed,
}

/// A datagram that is no message of the DHT (and no UDX packet), as hole punching sends them.
#[derive(Debug, Clone)]
pub struct ForeignDatagram {
    /// Where it came in.
    pub socket: UdxSocket,
    /// Where it came from.
    pub from: SocketAddr,
    /// Its bytes.
    pub payload: Bytes,
}

/// A socket besides the node's own two, attached to it; dropping this detaches it (the socket stays open).
#[derive(Debug)]
pub struct Attached {
    foreign: mpsc::Receiver<ForeignDatagram>,
}

impl Attached {
    /// The next datagram that came to this socket and is no message of the DHT; `None` once the socket or node is closed.
    pub async fn next(&mut self) -> Option<ForeignDatagram> {
        self.foreign.recv().await
    }
}

/// Datagrams of an attached socket that wait to be taken.
const FOREIGN_WAITING: usize = 256;
/// Sockets on which streams still run are not waited for longer than this.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);

impl Rpc {
    /// Binds the sockets and starts to bootstrap.
    pub async fn bind(udx: &Udx, options: RpcOptions) -> Result<(Rpc, Requests), RpcError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| RpcError::NoRandomness)?;
        let room = WaitingRoom::new();
        let shared = Shared::new(udx, options, seed, Arc::clone(&room))?;
        Ok((Self::over(shared), Requests::new(room)))
    }

    /// Asks one node.
    pub async fn request(
        &self,
        to: SocketAddr,
        body: RequestBody,
        options: RequestOptions,
    ) -> Result<Reply, RpcError> {
        self.answer_to(|state, now| {
            let asking = asking(state, &options)?;
            state.node.request(now, to, body, asking)
        })
        .await
    }

    /// Asks whether somebody is there.
    pub async fn ping(&self, to: SocketAddr, options: PingOptions) -> Result<Reply, RpcError> {
        self.answer_to(|state, now| {
            let asking = asking(state, &options.request)?;
            state.node.ping(now, to, options.size, asking)
        })
        .await
    }

    /// A ping that is answered after `delay`, to learn how long the routers between keep a path open.
    pub async fn delayed_ping(
        &self,
        to: SocketAddr,
        delay: Duration,
        options: RequestOptions,
    ) -> Result<Reply, RpcError> {
        self.answer_to(|state, now| {
            let asking = asking(state, &options)?;
            state.node.delayed_ping(now, to, delay, asking)
        })
        .await
    }

    /// Asks the nodes nearest to `target` that can be found.
    pub fn query(
        &self,
        target: NodeId,
        command: u64,
        value: Option<Bytes>,
        options: QueryOptions,
    ) -> Result<Query, RpcError> {
        self.shared().with(|state, now| {
            let id = state.node.query(now, target, command, value, querying(options))?;
            let (sender, receiver) = mpsc::unbounded_channel();
            state.queries.insert(id, sender);
            Ok(Query::new(self.clone(), id, target, receiver))
        })
    }

    /// Finds the nodes nearest to `target`.
    pub fn find_node(&self, target: NodeId, options: QueryOptions) -> Result<Query, RpcError> {
        self.shared().with(|state, now| {
            let id = state.node.find_node(now, target, querying(options))?;
            let (sender, receiver) = mpsc::unbounded_channel();
            state.queries.insert(id, sender);
            Ok(Query::new(self.clone(), id, target, receiver))
        })
    }

    /// [`query`](Self::query), then the same request, with their tokens, to the nearest nodes: how many took it.
    pub async fn query_and_commit(
        &self,
        target: NodeId,
        command: u64,
        value: Option<Bytes>,
        options: QueryOptions,
    ) -> Result<usize, RpcError> {
        let background = options.background;
        let mut query = self.query(target, command, value.clone(), options)?;
        let commit = |reply: Reply| {
            let body =
                RequestBody { command, target: Some(target), value: value.clone(), token: reply.token };
            let options = RequestOptions { background, ..RequestOptions::default() };
            async move {
                match body.token {
                    Some(_) => self.request(reply.from.addr, body, options).await,
                    None => Err(RpcError::NoToken(reply.from.addr)),
                }
            }
        };
        query.commit(commit).await
    }

    /// Our id; `None` while ephemeral.
    pub fn id(&self) -> Option<NodeId> {
        self.shared().lock().node.id()
    }

    /// The place of our routing table in the key space, also while ephemeral.
    pub fn table_id(&self) -> NodeId {
        self.shared().lock().node.table_id()
    }

    /// Our host as others see it, if they agree.
    pub fn host(&self) -> Option<IpAddr> {
        self.shared().lock().node.host()
    }

    /// Our port as others see it; 0 if they disagree.
    pub fn port(&self) -> u16 {
        self.shared().lock().node.port()
    }

    /// Where everybody can reach us, if everybody can.
    pub fn remote_address(&self) -> Option<SocketAddr> {
        self.shared().lock().node.remote_address()
    }

    /// Others do not reach us unasked, or we do not know whether they do.
    pub fn is_firewalled(&self) -> bool {
        self.shared().lock().node.is_firewalled()
    }

    /// We are not a part of the network, only use it.
    pub fn is_ephemeral(&self) -> bool {
        self.shared().lock().node.is_ephemeral()
    }

    /// Others agree on our host but not on our port.
    pub fn is_randomized(&self) -> bool {
        self.shared().lock().node.is_randomized()
    }

    /// Anybody answers, as far as we know.
    pub fn is_online(&self) -> bool {
        self.shared().lock().node.is_online()
    }

    /// Most do not answer.
    pub fn is_degraded(&self) -> bool {
        self.shared().lock().node.is_degraded()
    }

    /// The bootstrap is done.
    pub fn is_bootstrapped(&self) -> bool {
        self.shared().lock().node.is_bootstrapped()
    }

    /// Suspended at the moment.
    pub fn is_suspended(&self) -> bool {
        self.shared().lock().node.is_suspended()
    }

    /// The socket that a firewalled node asks from.
    pub fn client_socket(&self) -> UdxSocket {
        self.shared().lock().sockets.client.clone()
    }

    /// The socket at whose port others find us.
    pub fn server_socket(&self) -> UdxSocket {
        self.shared().lock().sockets.server.clone()
    }

    /// Of these two, the one that suits our state.
    pub fn socket(&self) -> UdxSocket {
        if self.is_firewalled() { self.client_socket() } else { self.server_socket() }
    }

    /// The address of the server socket in this machine's network.
    pub fn local_address(&self) -> SocketAddr {
        let mut addr = self.server_socket().local_addr();
        if addr.ip().is_unspecified() {
            addr.set_ip(local_ip());
        }
        addr
    }

    /// Waits for the end of the bootstrap.
    pub async fn fully_bootstrapped(&self) -> Result<(), RpcError> {
        let shared = self.shared();
        let (mut bootstrapped, mut closed) = (shared.bootstrapped.subscribe(), shared.closed.subscribe());
        tokio::select! {
            biased;
            _ = bootstrapped.wait_for(|done| *done) => Ok(()),
            _ = closed.wait_for(|closed| *closed) => Err(RpcError::Closed),
        }
    }

    /// Nodes we know, the one heard from last first.
    pub fn nodes(&self, limit: usize) -> Vec<Peer> {
        self.shared().lock().node.nodes(limit)
    }

    /// The nodes of our routing table that are nearest to `target`, at most twenty.
    pub fn closer_nodes(&self, target: NodeId) -> Vec<SocketAddr> {
        self.shared().lock().node.closer_nodes(&target)
    }

    /// Makes a node known.
    pub fn add_node(&self, addr: SocketAddr) {
        self.shared().with(|state, _| state.node.add_node(addr));
    }

    /// Looks around in the network.
    pub fn refresh(&self) {
        self.shared().with(|state, now| state.node.refresh(now));
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<RpcEvent> {
        self.shared().events.subscribe()
    }

    /// Lets a further socket take part: requests can be sent from it, and messages that come to it are ours. Its other
    /// datagrams come out of what this returns. From now on, nobody else may call `recv` on it.
    pub fn attach(&self, socket: &UdxSocket) -> Attached {
        let (sender, foreign) = mpsc::channel(FOREIGN_WAITING);
        self.shared().attach(socket.clone(), sender);
        Attached { foreign }
    }

    /// Datagrams to the client and server sockets that are no messages of the DHT.
    pub fn foreign(&self) -> broadcast::Receiver<ForeignDatagram> {
        self.shared().foreign.subscribe()
    }

    /// Closes the sockets until [`resume`](Self::resume); what is under way fails with [`RpcError::Suspended`].
    pub async fn suspend(&self) {
        let shared = self.shared();
        if self.is_suspended() || *shared.closed.borrow() {
            return;
        }
        let sockets = shared.with(|state, _| {
            state.node.suspend();
            [state.sockets.client.clone(), state.sockets.server.clone()]
        });
        close_all(&sockets).await;
        let _ = shared.events.send(RpcEvent::Suspended);
    }

    /// Binds the sockets again, to the same ports if they are free, and looks whom it still knows.
    pub async fn resume(&self) -> Result<(), RpcError> {
        let shared = self.shared();
        if *shared.closed.borrow() {
            return Err(RpcError::Closed);
        }
        if !self.is_suspended() {
            return Ok(());
        }
        let before = shared.lock().sockets.ports();
        let bound = Sockets::bind(&shared.udx, &shared.options, Some(before))?;
        shared.lock().sockets.replace(bound);
        shared.listen();
        shared.with(|state, now| {
            let (_, port) = state.sockets.ports();
            state.node.resume(now, port);
        });
        let _ = shared.events.send(RpcEvent::Resumed);
        Ok(())
    }

    /// Says that this machine's interfaces changed. Where the node is bound to no particular address, it notices by itself.
    pub fn network_changed(&self) {
        driver::network_changed(self.shared());
    }

    /// Ends the node; what is under way fails with [`RpcError::Closed`].
    pub async fn close(&self) {
        let sockets = [self.client_socket(), self.server_socket()];
        self.shared().close();
        close_all(&sockets).await;
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        let state = self.shared().lock();
        Stats { overflowed: state.overflowed, ..state.node.stats() }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared.0
    }

    /// Makes a request and awaits its answer; not awaiting it to the end cancels it.
    async fn answer_to(
        &self,
        ask: impl FnOnce(&mut State, Instant) -> Result<RequestId, RpcError>,
    ) -> Result<Reply, RpcError> {
        let (answer, answered) = oneshot::channel();
        let id = self.shared().with(|state, now| {
            let id = ask(state, now)?;
            state.answers.insert(id, answer);
            Ok(id)
        })?;
        let _cancel = Cancel { rpc: self, id };
        answered.await.unwrap_or(Err(RpcError::Closed))
    }
}

/// Cancels a request that nobody awaits.
struct Cancel<'a> {
    rpc: &'a Rpc,
    id: RequestId,
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        let mut state = self.rpc.shared().lock();
        if state.answers.remove(&self.id).is_some() {
            state.node.cancel_request(self.id);
        }
    }
}

async fn close_all(sockets: &[UdxSocket]) {
    for socket in sockets {
        socket.close();
    }
    let closed = futures::future::join_all(sockets.iter().map(UdxSocket::closed));
    let _ = tokio::time::timeout(CLOSE_PATIENCE, closed).await;
}

fn asking(state: &State, options: &RequestOptions) -> Result<Asking, RpcError> {
    let RequestOptions { socket, retries, ttl, background } = options;
    let socket: Option<Socket> = match socket {
        Some(socket) => Some(state.sockets.find(socket).ok_or(RpcError::NotAttached)?),
        None => None,
    };
    Ok(Asking { socket, retries: *retries, ttl: *ttl, background: *background })
}

fn querying(options: QueryOptions) -> Querying {
    let QueryOptions { concurrency, nodes, only_closest, retries, background } = options;
    Querying { concurrency, nodes, only_closest, retries, background }
}
