//! Topics: who announces them, and announcing.

use std::net::{SocketAddr, SocketAddrV4};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use secret_stream::KeyPair;

use super::announced_relays;
use super::store_at::{Commits, Stored};
use crate::messages::{Command, LookupReply, Message, Peer};
use crate::records::MAX_LOOKUP_PEERS;
use crate::records::signing::{AnnounceContext, Signer};
use crate::rpc::{self, NodeId, Query, QueryOptions, Reply, RequestBody, RequestOptions, Rpc, RpcError};

/// What one node knows of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcers {
    /// The node.
    pub from: rpc::Peer,
    /// Us, as it sees us.
    pub to: SocketAddr,
    /// Who announces the topic there: a random choice of twenty when there are more.
    pub peers: Vec<Peer>,
    /// The latest time, in milliseconds since 1970, that an announcer bumped the topic to; 0 when none did.
    pub bump: u64,
}

/// How to announce.
#[derive(Debug, Clone, Default)]
pub struct AnnounceOptions {
    /// How to walk.
    pub query: QueryOptions,
    /// Take back what nodes on the way have of an earlier announcement, which may name other relays.
    pub clear: bool,
    /// A time, in milliseconds since 1970, to bump the topic to: lookups show the latest one. 0 for none.
    pub bump: u64,
}

/// Who announces `target`: a stream of what the nodes on the way know.
///
/// # Errors
/// When the node is closed.
pub fn lookup(rpc: &Rpc, target: NodeId, options: QueryOptions) -> Result<TopicQuery, RpcError> {
    TopicQuery::start(rpc, target, options, Plan::default())
}

/// Announces `key_pair` under `target`, reachable through the nodes at `relay_addresses`: a [`lookup`] that ends with
/// storing the announcement at the nearest nodes.
///
/// Announcements are kept for about 20 minutes.
///
/// # Errors
/// When the node is closed.
pub fn announce(
    rpc: &Rpc,
    target: NodeId,
    key_pair: &KeyPair,
    relay_addresses: &[SocketAddr],
    options: AnnounceOptions,
) -> Result<TopicQuery, RpcError> {
    announce_signed(rpc, target, Signer::new(key_pair), announced_relays(relay_addresses), options)
}

pub(super) fn announce_signed(
    rpc: &Rpc,
    target: NodeId,
    signer: Signer,
    relays: Vec<SocketAddrV4>,
    options: AnnounceOptions,
) -> Result<TopicQuery, RpcError> {
    let plan = Plan {
        signer: Some(signer),
        clear: options.clear,
        announce: Some(Announcement { relays, bump: options.bump }),
    };
    TopicQuery::start(rpc, target, options.query, plan)
}

/// A [`lookup`] that takes back what the nodes on the way have of an announcement of `key_pair`.
///
/// # Errors
/// When the node is closed.
pub fn lookup_and_unannounce(
    rpc: &Rpc,
    target: NodeId,
    key_pair: &KeyPair,
    options: QueryOptions,
) -> Result<TopicQuery, RpcError> {
    let plan = Plan { signer: Some(Signer::new(key_pair)), clear: true, announce: None };
    TopicQuery::start(rpc, target, options, plan)
}

/// Takes an announcement of `key_pair` back, wherever it is found.
///
/// # Errors
/// When the node is closed.
pub async fn unannounce(
    rpc: &Rpc,
    target: NodeId,
    key_pair: &KeyPair,
    options: QueryOptions,
) -> Result<(), RpcError> {
    lookup_and_unannounce(rpc, target, key_pair, options)?.finished().await.map(drop)
}

#[derive(Default)]
struct Plan {
    signer: Option<Signer>,
    clear: bool,
    announce: Option<Announcement>,
}

struct Announcement {
    relays: Vec<SocketAddrV4>,
    bump: u64,
}

/// A walk towards a topic: a stream of [`Announcers`]. What it is to store, or to take back, is done by the time the
/// stream ends.
pub struct TopicQuery {
    rpc: Rpc,
    target: NodeId,
    query: Query,
    plan: Plan,
    /// Announcements being taken back. A walk meets a few dozen nodes, so there are not more of these.
    clearing: FuturesUnordered<BoxFuture<'static, Result<Reply, RpcError>>>,
    commits: Commits,
    phase: Phase,
}

enum Phase {
    Walking,
    Clearing,
    Committing,
    Done(Option<Result<Stored, RpcError>>),
}

impl TopicQuery {
    fn start(rpc: &Rpc, target: NodeId, options: QueryOptions, plan: Plan) -> Result<Self, RpcError> {
        let query = rpc.query(target, Command::Lookup.to_wire(), None, options)?;
        Ok(Self {
            rpc: rpc.clone(),
            target,
            query,
            plan,
            clearing: FuturesUnordered::new(),
            commits: Commits::default(),
            phase: Phase::Walking,
        })
    }

    /// Lets it come to its end, and tells what was stored (nothing, unless it announces).
    ///
    /// # Errors
    /// When it was to announce and no node took the announcement.
    pub async fn finished(&mut self) -> Result<Stored, RpcError> {
        while self.next().await.is_some() {}
        match &mut self.phase {
            Phase::Done(outcome) => outcome.take().unwrap_or_else(|| Ok(Stored::default())),
            _ => Ok(Stored::default()),
        }
    }

    /// The nodes nearest to the topic, complete once the stream has ended: where the next query for it can begin.
    pub fn closest_nodes(&self) -> Vec<rpc::Peer> {
        self.query.closest_nodes()
    }

    /// How the walk went, once the stream has ended.
    pub fn outcome(&self) -> Option<&Result<rpc::node::QueryOutcome, RpcError>> {
        self.query.outcome()
    }

    fn arrived(&mut self, reply: Reply) -> Option<Announcers> {
        let found = LookupReply::decode(reply.value.clone()?).ok()?;
        if self.plan.clear {
            self.clear(&reply, &found);
        }
        Some(Announcers { from: reply.from, to: reply.to, peers: found.peers, bump: found.bump })
    }

    fn clear(&mut self, reply: &Reply, found: &LookupReply) {
        let Some(signer) = &self.plan.signer else { return };
        let key = signer.public_key();
        // With twenty others before our eyes we may be the twenty-first.
        let ours =
            found.peers.len() >= MAX_LOOKUP_PEERS || found.peers.iter().any(|peer| peer.public_key == key);
        let (Some(node_id), Some(token), true) = (&reply.from.id, &reply.token, ours) else { return };
        let unannounce = signer.unannounce(AnnounceContext { target: &self.target, node_id, token });
        let body = RequestBody {
            command: Command::Unannounce.to_wire(),
            target: Some(self.target),
            value: Some(unannounce.encode()),
            token: Some(*token),
        };
        let (rpc, to) = (self.rpc.clone(), reply.from.addr);
        self.clearing.push(Box::pin(async move { rpc.request(to, body, RequestOptions::default()).await }));
    }

    fn commit(&mut self) {
        let (Some(signer), Some(announcement)) = (&self.plan.signer, &self.plan.announce) else { return };
        for reply in self.query.closest_replies() {
            self.commits.push(&self.rpc, reply, Command::Announce, self.target, |node_id, token| {
                let context = AnnounceContext { target: &self.target, node_id, token };
                signer.announce(context, announcement.relays.clone(), None, announcement.bump).encode()
            });
        }
    }
}

impl Stream for TopicQuery {
    type Item = Announcers;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Announcers>> {
        let this = self.get_mut();
        loop {
            match &mut this.phase {
                Phase::Walking => {
                    while let Poll::Ready(Some(_)) = this.clearing.poll_next_unpin(context) {}
                    match this.query.poll_next_unpin(context) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(None) => this.phase = Phase::Clearing,
                        Poll::Ready(Some(reply)) => {
                            if let Some(found) = this.arrived(reply) {
                                return Poll::Ready(Some(found));
                            }
                        }
                    }
                }
                Phase::Clearing => match this.clearing.poll_next_unpin(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(_)) => {}
                    Poll::Ready(None) if this.plan.announce.is_none() => {
                        let closest_nodes = this.query.closest_nodes();
                        let outcome = match this.query.outcome() {
                            Some(Err(error)) => Err(error.clone()),
                            _ => Ok(Stored { closest_nodes, ..Stored::default() }),
                        };
                        this.phase = Phase::Done(Some(outcome));
                    }
                    Poll::Ready(None) => {
                        this.commit();
                        this.phase = Phase::Committing;
                    }
                },
                Phase::Committing => match this.commits.poll(context) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(()) => {
                        let outcome = this.commits.outcome(this.query.closest_nodes());
                        this.phase = Phase::Done(Some(outcome));
                    }
                },
                Phase::Done(_) => return Poll::Ready(None),
            }
        }
    }
}

impl std::fmt::Debug for TopicQuery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopicQuery").field("query", &self.query).finish_non_exhaustive()
    }
}
