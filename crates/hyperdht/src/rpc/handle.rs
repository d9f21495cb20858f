//! The DHT node that applications hold.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{Udx, UdxSocket};
use bytes::Bytes;
use tokio::sync::{broadcast, mpsc};

use super::{
    NodeId, Peer, PingOptions, Query, QueryOptions, Reply, RequestBody, RequestOptions, Requests, RpcError,
    RpcOptions, Stats,
};

/// A node of the DHT: a cheap handle, all clones of which are the same node.
///
/// Getters and everything that sends without awaiting an answer take effect at once; futures may be dropped at any time,
/// which cancels what they stand for.
#[derive(Debug, Clone)]
pub struct Rpc {}

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

impl Rpc {
    /// Binds the sockets and starts to bootstrap.
    pub async fn bind(udx: &Udx, options: RpcOptions) -> Result<(Rpc, Requests), RpcError> {
        let _ = (udx, options);
        unimplemented!()
    }

    /// Asks one node.
    pub async fn request(
        &self,
        to: SocketAddr,
        body: RequestBody,
        options: RequestOptions,
    ) -> Result<Reply, RpcError> {
        let _ = (to, body, options);
        unimplemented!()
    }

    /// Asks whether somebody is there.
    pub async fn ping(&self, to: SocketAddr, options: PingOptions) -> Result<Reply, RpcError> {
        let _ = (to, options);
        unimplemented!()
    }

    /// A ping that is answered after `delay`, to learn how long the routers between keep a path open.
    pub async fn delayed_ping(
        &self,
        to: SocketAddr,
        delay: Duration,
        options: RequestOptions,
    ) -> Result<Reply, RpcError> {
        let _ = (to, delay, options);
        unimplemented!()
    }

    /// Asks the nodes nearest to `target` that can be found.
    pub fn query(
        &self,
        target: NodeId,
        command: u64,
        value: Option<Bytes>,
        options: QueryOptions,
    ) -> Result<Query, RpcError> {
        let _ = (target, command, value, options);
        unimplemented!()
    }

    /// Finds the nodes nearest to `target`.
    pub fn find_node(&self, target: NodeId, options: QueryOptions) -> Result<Query, RpcError> {
        let _ = (target, options);
        unimplemented!()
    }

    /// [`query`](Self::query), then the same request, with their tokens, to the nearest nodes: how many took it.
    pub async fn query_and_commit(
        &self,
        target: NodeId,
        command: u64,
        value: Option<Bytes>,
        options: QueryOptions,
    ) -> Result<usize, RpcError> {
        let _ = (target, command, value, options);
        unimplemented!()
    }

    /// Our id; `None` while ephemeral.
    pub fn id(&self) -> Option<NodeId> {
        unimplemented!()
    }

    /// The place of our routing table in the key space, also while ephemeral.
    pub fn table_id(&self) -> NodeId {
        unimplemented!()
    }

    /// Our host as others see it, if they agree.
    pub fn host(&self) -> Option<IpAddr> {
        unimplemented!()
    }

    /// Our port as others see it; 0 if they disagree.
    pub fn port(&self) -> u16 {
        unimplemented!()
    }

    /// Where everybody can reach us, if everybody can.
    pub fn remote_address(&self) -> Option<SocketAddr> {
        unimplemented!()
    }

    /// Others do not reach us unasked, or we do not know whether they do.
    pub fn is_firewalled(&self) -> bool {
        unimplemented!()
    }

    /// We are not a part of the network, only use it.
    pub fn is_ephemeral(&self) -> bool {
        unimplemented!()
    }

    /// Others agree on our host but not on our port.
    pub fn is_randomized(&self) -> bool {
        unimplemented!()
    }

    /// Anybody answers, as far as we know.
    pub fn is_online(&self) -> bool {
        unimplemented!()
    }

    /// Most do not answer.
    pub fn is_degraded(&self) -> bool {
        unimplemented!()
    }

    /// The bootstrap is done.
    pub fn is_bootstrapped(&self) -> bool {
        unimplemented!()
    }

    /// Suspended at the moment.
    pub fn is_suspended(&self) -> bool {
        unimplemented!()
    }

    /// The socket that a firewalled node asks from.
    pub fn client_socket(&self) -> UdxSocket {
        unimplemented!()
    }

    /// The socket at whose port others find us.
    pub fn server_socket(&self) -> UdxSocket {
        unimplemented!()
    }

    /// Of these two, the one that suits our state.
    pub fn socket(&self) -> UdxSocket {
        unimplemented!()
    }

    /// The address of the server socket in this machine's network.
    pub fn local_address(&self) -> SocketAddr {
        unimplemented!()
    }

    /// Waits for the end of the bootstrap.
    pub async fn fully_bootstrapped(&self) -> Result<(), RpcError> {
        unimplemented!()
    }

    /// Nodes we know, the one heard from last first.
    pub fn nodes(&self, limit: usize) -> Vec<Peer> {
        let _ = limit;
        unimplemented!()
    }

    /// The nodes of our routing table that are nearest to `target`, at most twenty.
    pub fn closer_nodes(&self, target: NodeId) -> Vec<SocketAddr> {
        let _ = target;
        unimplemented!()
    }

    /// Makes a node known.
    pub fn add_node(&self, addr: SocketAddr) {
        let _ = addr;
        unimplemented!()
    }

    /// Looks around in the network.
    pub fn refresh(&self) {
        unimplemented!()
    }

    /// What happens from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<RpcEvent> {
        unimplemented!()
    }

    /// Lets a further socket take part: requests can be sent from it, and messages that come to it are ours. Its other
    /// datagrams come out of what this returns. From now on, nobody else may call `recv` on it.
    pub fn attach(&self, socket: &UdxSocket) -> Attached {
        let _ = socket;
        unimplemented!()
    }

    /// Datagrams to the client and server sockets that are no messages of the DHT.
    pub fn foreign(&self) -> broadcast::Receiver<ForeignDatagram> {
        unimplemented!()
    }

    /// Closes the sockets until [`resume`](Self::resume); what is under way fails with [`RpcError::Suspended`].
    pub async fn suspend(&self) {
        unimplemented!()
    }

    /// Binds the sockets again, to the same ports if they are free, and looks whom it still knows.
    pub async fn resume(&self) -> Result<(), RpcError> {
        unimplemented!()
    }

    /// Says that this machine's interfaces changed.
    pub fn network_changed(&self) {
        unimplemented!()
    }

    /// Ends the node; what is under way fails with [`RpcError::Closed`].
    pub async fn close(&self) {
        unimplemented!()
    }

    /// What was counted.
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }

    /// The nodes that bootstrap us, resolved.
    pub async fn bootstrap_nodes(&self) -> Vec<Peer> {
        unimplemented!()
    }
}
