//! What we ask others.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::message::{RequestMessage, addr_bytes};
use super::super::peer::canonical;
use super::super::requests::{Outgoing, Overdue, Sending, TIMEOUT};
use super::super::walk::{DownHint, Question, Step, Walk};
use super::super::{NodeId, Peer, Reply, RpcError};
use super::receive::command;
use super::*;

/// Queries under way at once, at most.
pub const MAX_QUERIES: usize = 16_384;
/// How often a request is sent again (dht-rpc 6.27, `lib/io.js`).
const RETRIES: u32 = 3;
/// The same for those of a query (`lib/query.js`).
const QUERY_RETRIES: u32 = 5;
/// A delayed ping may take this much longer than the delay.
const DELAYED_PING_GRACE: Duration = Duration::from_secs(1);

/// A query of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(pub(crate) u64);

/// What came of a query.
#[derive(Debug, Clone, Default)]
pub struct QueryOutcome {
    /// The replies of the nodes nearest to the target, nearest first.
    pub closest: Vec<Reply>,
    /// The longest chain of nodes, each told of by the one before, to one of the nearest.
    pub hops: u32,
    /// How many answered.
    pub successes: usize,
    /// How many did not, or with an error.
    pub errors: usize,
}

#[derive(Debug)]
pub(super) struct ActiveWalk {
    pub(super) walk: Walk,
    pub(super) owner: Owner,
    /// The questions it waits for, so that they can be cancelled with it, and whether each is slow.
    pub(super) open: HashMap<RequestId, bool>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    User,
    Bootstrap,
    Refresh,
}

/// How the owner of a node wants a request sent.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asking {
    /// From which socket; `None`: the one that suits our state.
    pub socket: Option<Socket>,
    /// How often it is sent again; `None`: three times.
    pub retries: Option<u32>,
    /// Hops that the datagram may take.
    pub ttl: Option<u8>,
    /// Give way to others.
    pub background: bool,
}

/// How the owner of a node wants a query done.
#[derive(Debug, Clone, Default)]
pub struct Querying {
    /// Questions under way at once.
    pub concurrency: Option<usize>,
    /// Start from these.
    pub nodes: Vec<Peer>,
    /// And ask no others.
    pub only_closest: bool,
    /// How often each is asked again.
    pub retries: Option<u32>,
    /// Give way to others.
    pub background: bool,
}

/// A request before it has its number.
struct Body {
    internal: bool,
    command: u64,
    target: Option<NodeId>,
    value: Option<Bytes>,
    token: Option<[u8; 32]>,
}

impl Body {
    fn internal(command: u64, value: Option<Bytes>) -> Self {
        Self { internal: true, command, target: None, value, token: None }
    }
}

impl Node {
    /// Asks one node.
    pub fn request(
        &mut self,
        now: Instant,
        to: SocketAddr,
        body: super::super::RequestBody,
        asking: Asking,
    ) -> Result<RequestId, RpcError> {
        let super::super::RequestBody { command, target, value, token } = body;
        let body = Body { internal: false, command, target, value, token };
        let sending = self.sending(asking, TIMEOUT);
        self.ask(now, to, body, sending, Purpose::Owner)
    }

    /// Asks whether somebody is there; `size` zeros go along.
    pub fn ping(
        &mut self,
        now: Instant,
        to: SocketAddr,
        size: usize,
        asking: Asking,
    ) -> Result<RequestId, RpcError> {
        let value = (size > 0).then(|| Bytes::from(vec![0; size]));
        let sending = self.sending(asking, TIMEOUT);
        self.ask(now, to, Body::internal(command::PING, value), sending, Purpose::Owner)
    }

    /// Asks for a sign of life after `delay`.
    pub fn delayed_ping(
        &mut self,
        now: Instant,
        to: SocketAddr,
        delay: Duration,
        asking: Asking,
    ) -> Result<RequestId, RpcError> {
        let limit = self.options.max_ping_delay;
        let too_long = RpcError::DelayTooLong(limit);
        let millis = u32::try_from(delay.as_millis()).map_err(|_| too_long.clone())?;
        if delay > limit {
            return Err(too_long);
        }
        let body = Body::internal(command::DELAYED_PING, Some(Bytes::copy_from_slice(&millis.to_le_bytes())));
        let sending = self.sending(asking, delay + DELAYED_PING_GRACE);
        self.ask(now, to, body, sending, Purpose::Owner)
    }

    /// Asks the nodes nearest to `target` that can be found.
    pub fn query(
        &mut self,
        now: Instant,
        target: NodeId,
        command: u64,
        value: Option<Bytes>,
        querying: Querying,
    ) -> Result<QueryId, RpcError> {
        let question = Question { target, internal: false, command, value };
        self.start_query(now, question, querying, Owner::User)
    }

    /// Finds the nodes nearest to `target`.
    pub fn find_node(
        &mut self,
        now: Instant,
        target: NodeId,
        querying: Querying,
    ) -> Result<QueryId, RpcError> {
        let question = Question { target, internal: true, command: command::FIND_NODE, value: None };
        self.start_query(now, question, querying, Owner::User)
    }

    /// Nobody waits for this answer any longer.
    pub fn cancel_request(&mut self, id: RequestId) {
        if self.requests.get(id).is_some_and(|request| matches!(request.purpose, Purpose::Owner)) {
            self.requests.cancel(id);
        }
    }

    /// Nobody wants this query to go on.
    pub fn cancel_query(&mut self, id: QueryId) {
        if let Some(active) = self.walks.remove(&id) {
            for request in active.open.into_keys() {
                self.requests.cancel(request);
            }
        }
    }

    /// Looks around: towards a node that we know, or ourselves.
    pub fn refresh(&mut self, now: Instant) {
        let target = self.contacts.random(&mut self.rng).map_or(self.contacts.own_id(), |contact| contact.id);
        self.background_walk(now, target, Owner::Refresh);
    }

    pub(super) fn background_walk(&mut self, now: Instant, target: NodeId, owner: Owner) {
        let question = Question { target, internal: true, command: command::FIND_NODE, value: None };
        let querying = Querying {
            concurrency: Some(self.background_concurrency()),
            background: owner == Owner::Refresh,
            ..Querying::default()
        };
        // With too many queries under way the table is fresh anyway.
        let _ = self.start_query(now, question, querying, owner);
    }

    pub(super) fn background_concurrency(&self) -> usize {
        self.options.concurrency.min((self.options.concurrency / 8).max(2))
    }

    fn start_query(
        &mut self,
        now: Instant,
        question: Question,
        querying: Querying,
        owner: Owner,
    ) -> Result<QueryId, RpcError> {
        self.check_open()?;
        if self.walks.len() >= MAX_QUERIES {
            return Err(RpcError::Busy);
        }
        let Querying { concurrency, nodes, only_closest, retries, background } = querying;
        let concurrency = concurrency.unwrap_or(self.options.concurrency).max(1);
        let mut walk = Walk::new(question, concurrency, retries.unwrap_or(QUERY_RETRIES), background);
        if !walk.start_from(&nodes, only_closest) && !only_closest {
            self.give_table(now, &mut walk);
        }
        self.refresh_ticks = upkeep::REFRESH_TICKS;
        self.next_query += 1;
        self.queries += 1;
        let id = QueryId(self.next_query);
        self.walks.insert(id, ActiveWalk { walk, owner, open: HashMap::new() });
        self.advance(now, id);
        Ok(id)
    }

    /// Gives a walk the nodes of the routing table that are nearest to its target, and if those are few, the bootstrap
    /// nodes.
    fn give_table(&mut self, now: Instant, walk: &mut Walk) {
        let known: Vec<Peer> = self
            .contacts
            .closest(&walk.target, walk.room())
            .into_iter()
            .map(|contact| Peer { addr: contact.addr, id: Some(contact.id) })
            .collect();
        walk.add_from_table(&known);
        if walk.room() > 0 {
            match self.bootstrap_peers(now) {
                Some(peers) => walk.add_all(&peers),
                None => walk.awaits_bootstrap = true,
            }
        }
    }

    /// Lets a walk ask whom it wants to ask now.
    pub(super) fn advance(&mut self, now: Instant, id: QueryId) {
        let Some(mut active) = self.walks.remove(&id) else { return };
        loop {
            match active.walk.next() {
                Step::Wait => break,
                Step::NeedsTable => {
                    let mut walk = active.walk;
                    self.give_table(now, &mut walk);
                    active.walk = walk;
                }
                Step::Visit(peer) => self.visit(now, id, &mut active, peer),
                Step::Done => return self.query_done(now, id, active),
            }
        }
        self.walks.insert(id, active);
    }

    fn visit(&mut self, now: Instant, id: QueryId, active: &mut ActiveWalk, peer: Peer) {
        let walk = &active.walk;
        let body = Body {
            internal: walk.internal,
            command: walk.command,
            target: Some(walk.target),
            value: walk.value.clone(),
            token: None,
        };
        let asking = Asking { retries: Some(walk.retries), background: walk.background, ..Asking::default() };
        let sending = self.sending(asking, TIMEOUT);
        match self.ask(now, peer.addr, body, sending, Purpose::Walk(id)) {
            Ok(request) => {
                active.open.insert(request, false);
            }
            Err(_) => {
                active.walk.failed(peer.addr, false, false);
            }
        }
    }

    fn query_done(&mut self, now: Instant, id: QueryId, active: ActiveWalk) {
        let ActiveWalk { walk, owner, open } = active;
        for request in open.into_keys() {
            self.requests.cancel(request);
        }
        match owner {
            Owner::User => {
                let outcome = QueryOutcome {
                    closest: walk.closest().cloned().collect(),
                    hops: walk.hops,
                    successes: walk.successes,
                    errors: walk.errors,
                };
                self.emit(NodeEvent::QueryDone(id, Ok(outcome)));
            }
            Owner::Bootstrap => self.bootstrap_walked(now),
            Owner::Refresh => {}
        }
    }

    pub(super) fn check_open(&self) -> Result<(), RpcError> {
        match (self.closed, self.suspended) {
            (true, _) => Err(RpcError::Closed),
            (_, true) => Err(RpcError::Suspended),
            _ => Ok(()),
        }
    }

    fn sending(&self, asking: Asking, timeout: Duration) -> Sending {
        Sending {
            socket: asking.socket.unwrap_or(self.socket()),
            ttl: asking.ttl,
            retries: asking.retries.unwrap_or(RETRIES),
            timeout,
            background: asking.background,
        }
    }

    /// A request of the node's own.
    pub(super) fn ask_internal(
        &mut self,
        now: Instant,
        to: SocketAddr,
        command: u64,
        value: Option<Bytes>,
        purpose: Purpose,
    ) -> Result<RequestId, RpcError> {
        let sending = self.sending(Asking::default(), TIMEOUT);
        self.ask(now, to, Body::internal(command, value), sending, purpose)
    }

    fn ask(
        &mut self,
        now: Instant,
        to: SocketAddr,
        body: Body,
        sending: Sending,
        purpose: Purpose,
    ) -> Result<RequestId, RpcError> {
        self.check_open()?;
        let to = canonical(to);
        let id = self.id_at(sending.socket);
        let Body { internal, command, target, value, token } = body;
        self.requests.push(to, sending, purpose, &mut self.rng, now, |tid| {
            RequestMessage { tid, to, id, token, internal, command, target, value }.encode()
        })
    }

    /// Requests whose time is up are sent again or given up.
    pub(super) fn handle_overdue(&mut self, now: Instant) {
        while let Some(overdue) = self.requests.poll_overdue(now) {
            match overdue {
                Overdue::Again(id, first) => {
                    let purpose = self.requests.get(id).map(|request| &request.purpose);
                    if let Some(Purpose::Walk(query)) = purpose
                        && first
                    {
                        let query = *query;
                        if let Some(active) = self.walks.get_mut(&query) {
                            active.open.insert(id, true);
                            active.walk.is_slow();
                        }
                        self.advance(now, query);
                    }
                }
                Overdue::GivenUp(id, request) => {
                    let to = request.to;
                    self.conclude(now, id, request, Err(RpcError::Timeout(to)));
                }
            }
        }
    }

    /// Does with an answer (or its absence) what the request was made for.
    pub(super) fn conclude(
        &mut self,
        now: Instant,
        id: RequestId,
        request: Outgoing<Purpose>,
        result: Result<Reply, RpcError>,
    ) {
        match request.purpose {
            Purpose::Owner => self.emit(NodeEvent::Answer(id, result)),
            Purpose::Walk(query) => self.walk_answered(now, query, id, request.to, result),
            Purpose::Check(node) => self.checked(node, result),
            Purpose::Swap { old, new } => self.swapped(old, new, result),
            Purpose::QuickNat => {
                if result.is_ok() {
                    self.quick_nat_passed(now);
                }
            }
            Purpose::FirewallProbe => self.probed(now, result),
            Purpose::DownHint => {
                if result.is_err() {
                    self.remove_at(request.to);
                }
            }
        }
    }

    fn walk_answered(
        &mut self,
        now: Instant,
        query: QueryId,
        request: RequestId,
        to: SocketAddr,
        result: Result<Reply, RpcError>,
    ) {
        if result.is_err() {
            self.remove_at(to);
        }
        let Some(mut active) = self.walks.remove(&query) else { return };
        let was_slow = active.open.remove(&request).unwrap_or(false);
        let hints = match &result {
            Ok(reply) => {
                let own = self.contacts.own_id();
                active.walk.answered(reply, was_slow, |id, addr| *id != own && self.usable(addr))
            }
            Err(_) => active.walk.failed(to, was_slow, true),
        };
        self.send_down_hints(now, hints);
        let owner = active.owner;
        if owner != Owner::User {
            // Look around quickly while there is nothing else to do.
            let idle = self.requests.len() < 3;
            active.walk.concurrency =
                if idle { self.options.concurrency } else { self.background_concurrency() };
        }
        self.walks.insert(query, active);
        match (owner, result) {
            (Owner::User, Ok(reply)) if reply.error == 0 => self.emit(NodeEvent::QueryReply(query, reply)),
            (Owner::Bootstrap, Ok(reply)) if reply.error == 0 => self.bootstrap_heard(now, reply.from.addr),
            _ => {}
        }
        self.advance(now, query);
    }

    fn send_down_hints(&mut self, now: Instant, hints: Vec<DownHint>) {
        for DownHint { to, down } in hints {
            let too_many = self.options.down_hints_rate.is_some_and(|rate| self.down_hints >= rate);
            if !self.options.send_down_hints || too_many {
                return;
            }
            let Ok(value) = addr_bytes(down) else { continue };
            self.down_hints += 1;
            let _ = self.ask_internal(now, to, command::DOWN_HINT, Some(value), Purpose::DownHint);
        }
    }
}
