//! Our place in the network: bootstrap, firewall check, and becoming persistent.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;

use super::super::{Peer, Reply, RpcError, RpcOptions, node_id};
use super::questions::Owner;
use super::receive::command;
use super::*;

/// Nodes that are asked to write to our server socket.
const PROBES: usize = 5;
/// Of so many, this many have to reach it.
const PROBES_NEEDED: usize = 3;
/// Walks of a bootstrap: with a random id, and with our own.
const ROUNDS: u32 = 2;

/// The first steps in the network (dht-rpc 6.27, `_bootstrap`): a walk towards ourselves; if a first test says that
/// others reach us, or we are told to be persistent, a firewall check; if that says so too, another walk towards the id
/// that we then have.
#[derive(Debug)]
pub(super) struct Bootstrap {
    stage: Stage,
    round: u32,
    /// The first who answers is asked to write to our server socket.
    test_first: bool,
    quick_nat: bool,
    persistent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Walking,
    Checking,
    Done,
}

impl Bootstrap {
    pub(super) fn new(options: &RpcOptions) -> Self {
        let persistent = options.ephemeral == Some(false);
        Self {
            stage: Stage::Walking,
            round: 0,
            test_first: options.firewalled && options.quick_firewall && !persistent,
            quick_nat: false,
            persistent,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.stage == Stage::Done
    }
}

/// Several nodes are asked to write to our server socket.
#[derive(Debug)]
pub(super) struct FirewallCheck {
    /// Our address at the start; if it changes on the way, nothing was learnt.
    host: IpAddr,
    port: u16,
    only_firewall: bool,
    for_bootstrap: bool,
    /// Before they can be asked, the bootstrap nodes have to be resolved.
    awaits_bootstrap: bool,
    nodes: Vec<SocketAddr>,
    missing: usize,
    /// Hosts of theirs from which something came to the server socket.
    reached_from: HashSet<IpAddr>,
    pongs: Vec<(IpAddr, SocketAddr)>,
}

impl Node {
    /// The addresses of the bootstrap nodes, after [`NodeEvent::ResolveBootstrap`].
    pub fn set_bootstrap_nodes(&mut self, now: Instant, addrs: Vec<SocketAddr>) {
        self.resolving = false;
        self.bootstrap_nodes = Some(addrs);
        let peers = self.bootstrap_peers(now).unwrap_or_default();
        let waiting: Vec<QueryId> =
            self.walks.iter().filter(|(_, active)| active.walk.awaits_bootstrap).map(|(id, _)| *id).collect();
        for id in waiting {
            if let Some(active) = self.walks.get_mut(&id) {
                active.walk.awaits_bootstrap = false;
                active.walk.add_all(&peers);
            }
            self.advance(now, id);
        }
        if self.firewall_check.as_ref().is_some_and(|check| check.awaits_bootstrap) {
            self.probe(now);
        }
        // Nobody found: look again when they are next needed.
        if peers.is_empty() && !self.options.bootstrap.is_empty() {
            self.bootstrap_nodes = None;
        }
    }

    /// The bootstrap nodes, if their addresses are known; otherwise the owner is asked for them.
    pub fn bootstrap_peers(&mut self, _now: Instant) -> Option<Vec<Peer>> {
        if let Some(addrs) = &self.bootstrap_nodes {
            return Some(addrs.iter().map(|addr| Peer { addr: *addr, id: Some(node_id(*addr)) }).collect());
        }
        if !self.resolving {
            self.resolving = true;
            self.emit(NodeEvent::ResolveBootstrap);
        }
        None
    }

    /// Names may resolve to others by now.
    pub(super) fn forget_resolved(&mut self) {
        if self.options.bootstrap.iter().any(|node| node.host.is_some()) {
            self.bootstrap_nodes = None;
        }
    }

    /// The sockets are about to be closed. What is under way fails.
    pub fn suspend(&mut self) {
        if self.suspended || self.closed {
            return;
        }
        self.suspended = true;
        self.fail_all(&RpcError::Suspended);
    }

    /// The sockets are bound again, the server socket to `server_port`.
    pub fn resume(&mut self, now: Instant, server_port: u16) {
        if !self.suspended || self.closed {
            return;
        }
        self.suspended = false;
        self.server_port = server_port;
        self.wake_up(now);
        if self.is_bootstrapped() {
            self.refresh(now);
        } else {
            self.start_bootstrap(now);
        }
    }

    /// The end. What is under way fails.
    pub fn close(&mut self) {
        if !self.closed {
            self.closed = true;
            self.fail_all(&RpcError::Closed);
        }
    }

    fn fail_all(&mut self, error: &RpcError) {
        self.answers.clear();
        self.delayed.clear();
        self.firewall_check = None;
        self.resolving = false;
        self.checks = 0;
        self.swaps = 0;
        for (id, request) in self.requests.clear() {
            if matches!(request.purpose, Purpose::Owner) {
                self.emit(NodeEvent::Answer(id, Err(error.clone())));
            }
        }
        let mut walks: Vec<(QueryId, ActiveWalk)> = self.walks.drain().collect();
        walks.sort_by_key(|(id, _)| *id);
        for (id, active) in walks {
            if active.owner == Owner::User {
                self.emit(NodeEvent::QueryDone(id, Err(error.clone())));
            }
        }
    }

    pub(super) fn start_bootstrap(&mut self, now: Instant) {
        self.bootstrap.stage = Stage::Walking;
        self.background_walk(now, self.contacts.own_id(), Owner::Bootstrap);
    }

    /// Somebody answered the bootstrap walk. If one reaches our server socket right away, a proper check is worth it, even
    /// for nodes that just started.
    pub(super) fn bootstrap_heard(&mut self, now: Instant, from: SocketAddr) {
        if std::mem::take(&mut self.bootstrap.test_first) {
            let port = Bytes::copy_from_slice(&self.server_port.to_le_bytes());
            let _ = self.ask_internal(now, from, command::PING_NAT, Some(port), Purpose::QuickNat);
        }
    }

    /// Something reaches our server socket. Where that is learnt only after the bootstrap, the proper check follows now;
    /// dht-rpc would wait for twenty minutes.
    pub(super) fn quick_nat_passed(&mut self, now: Instant) {
        self.bootstrap.quick_nat = true;
        if self.is_bootstrapped() {
            self.update_network_state(now, true, false);
        }
    }

    pub(super) fn bootstrap_walked(&mut self, now: Instant) {
        if self.bootstrap.is_done() {
            return;
        }
        let Bootstrap { quick_nat, persistent, .. } = self.bootstrap;
        if !quick_nat && !persistent {
            return self.bootstrap_done();
        }
        self.bootstrap.stage = Stage::Checking;
        self.update_network_state(now, !persistent, true);
    }

    fn bootstrap_done(&mut self) {
        self.bootstrap.stage = Stage::Done;
        self.emit(NodeEvent::Ready);
    }

    /// Finds out whether others reach us, and if they do becomes persistent (unless `only_firewall`).
    pub(super) fn update_network_state(&mut self, now: Instant, only_firewall: bool, for_bootstrap: bool) {
        if self.firewall_check.is_some() {
            return self.network_state_known(now, false, for_bootstrap);
        }
        let unneeded = !self.ephemeral || (only_firewall && !self.firewalled);
        if !unneeded && !only_firewall {
            self.stable_ticks = upkeep::MORE_STABLE_TICKS;
            self.checked_host = self.nat.host();
        }
        let (host, port) = match self.nat.host() {
            Some(host) if !unneeded && self.nat.port() != 0 => (host, self.nat.port()),
            _ => return self.network_state_known(now, false, for_bootstrap),
        };
        if !self.firewalled {
            let sampler = self.nat.clone();
            let changed = self.settle(now, host, port, only_firewall, sampler);
            return self.network_state_known(now, changed, for_bootstrap);
        }
        let nodes = self.nodes(PROBES).into_iter().map(|peer| peer.addr).collect();
        self.firewall_check = Some(FirewallCheck {
            host,
            port,
            only_firewall,
            for_bootstrap,
            awaits_bootstrap: false,
            nodes,
            missing: 0,
            reached_from: HashSet::new(),
            pongs: Vec::new(),
        });
        self.probe(now);
    }

    /// Something came to a socket: during a firewall check it matters that it is the server socket.
    pub(super) fn note_server_traffic(&mut self, socket: Socket, from: SocketAddr) {
        if let Some(check) = &mut self.firewall_check
            && socket == Socket::Server
            && check.nodes.iter().any(|node| node.ip() == from.ip())
        {
            check.reached_from.insert(from.ip());
        }
    }

    /// Asks the nodes of the check, with the bootstrap nodes if there are too few others.
    fn probe(&mut self, now: Instant) {
        let Some(mut check) = self.firewall_check.take() else { return };
        if check.nodes.len() < PROBES {
            match self.bootstrap_peers(now) {
                Some(peers) => check.nodes.extend(peers.into_iter().map(|peer| peer.addr)),
                None => {
                    check.awaits_bootstrap = true;
                    self.firewall_check = Some(check);
                    return;
                }
            }
        }
        check.awaits_bootstrap = false;
        let port = Bytes::copy_from_slice(&self.server_port.to_le_bytes());
        for node in check.nodes.clone() {
            let sent =
                self.ask_internal(now, node, command::PING_NAT, Some(port.clone()), Purpose::FirewallProbe);
            check.missing += usize::from(sent.is_ok());
        }
        let nobody = check.missing == 0;
        self.firewall_check = Some(check);
        if nobody {
            self.firewall_checked(now);
        }
    }

    pub(super) fn probed(&mut self, now: Instant, result: Result<Reply, RpcError>) {
        let Some(check) = &mut self.firewall_check else { return };
        check.missing = check.missing.saturating_sub(1);
        if let Ok(reply) = result {
            check.pongs.push((reply.from.addr.ip(), reply.to));
        }
        if check.missing == 0 {
            self.firewall_checked(now);
        }
    }

    fn firewall_checked(&mut self, now: Instant) {
        let Some(check) = self.firewall_check.take() else { return };
        let mut sampler = NatSampler::default();
        let mut reached = 0;
        for (from, to) in &check.pongs {
            if check.reached_from.contains(from) {
                reached += 1;
                sampler.add(*to);
            }
        }
        let needed = if check.nodes.len() >= PROBES { PROBES_NEEDED } else { 1 };
        let open = reached >= needed
            && sampler.host().is_some()
            // The server socket has the same host as the client socket,
            && sampler.host() == self.nat.host()
            // and the same port outside as inside.
            && sampler.port() == self.server_port
            && sampler.port() != 0;
        let changed = open && self.settle(now, check.host, check.port, check.only_firewall, sampler);
        self.network_state_known(now, changed, check.for_bootstrap);
    }

    /// Others reach us at the address that `sampler` tells. True if that makes us what we wanted to be.
    fn settle(
        &mut self,
        now: Instant,
        host: IpAddr,
        port: u16,
        only_firewall: bool,
        sampler: NatSampler,
    ) -> bool {
        self.firewalled = false;
        let moved = (self.nat.host(), self.nat.port()) != (Some(host), port);
        if !self.ephemeral || moved || sampler.host() != Some(host) || sampler.port() == 0 {
            return false;
        }
        let addr = SocketAddr::new(host, sampler.port());
        let before = (self.nat.host(), self.nat.port());
        self.nat = sampler;
        if before != (self.nat.host(), self.nat.port()) {
            self.sampled.clear();
            self.emit(NodeEvent::NatUpdate(self.nat.host(), self.nat.port()));
        }
        self.ephemeral = only_firewall;
        let id = node_id(addr);
        if self.contacts.own_id() != id {
            self.contacts.move_to(id);
            if self.is_bootstrapped() {
                self.refresh(now);
            }
        }
        if !self.ephemeral {
            self.emit(NodeEvent::Persistent);
        }
        true
    }

    fn network_state_known(&mut self, now: Instant, changed: bool, for_bootstrap: bool) {
        if !for_bootstrap || self.bootstrap.stage != Stage::Checking {
            return;
        }
        self.bootstrap.round += 1;
        if changed && self.bootstrap.round < ROUNDS {
            self.start_bootstrap(now);
        } else {
            self.bootstrap_done();
        }
    }
}
