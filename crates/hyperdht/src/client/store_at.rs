//! Storing something at the nodes nearest to its target.

use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;

use crate::messages::{Command, error};
use crate::rpc::node::MAX_DATAGRAM;
use crate::rpc::{NodeId, Peer, Reply, RequestBody, RequestMessage, RequestOptions, Rpc, RpcError};

/// What became of something that was stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Stored {
    /// The nodes nearest to the target: where to begin when it is stored again.
    pub closest_nodes: Vec<Peer>,
    /// How many of them took it.
    pub stored: usize,
    /// What one of them said that did not take it, one of [`error`](crate::messages::error).
    pub refused: Option<u64>,
}

/// Whether nodes take a request to store this: longer datagrams they do not look at, and nobody would answer.
pub(super) fn fits(rpc: &Rpc, command: Command, target: NodeId, value: &Bytes) -> Result<(), RpcError> {
    let request = RequestMessage {
        tid: 0,
        to: (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        id: rpc.id(),
        token: Some([0; 32]),
        internal: false,
        command: command.to_wire(),
        target: Some(target),
        value: Some(value.clone()),
    };
    match request.encode()?.len() {
        len if len > MAX_DATAGRAM => Err(RpcError::TooLarge { len, limit: MAX_DATAGRAM }),
        _ => Ok(()),
    }
}

/// Requests to the nearest nodes, all at once.
#[derive(Default)]
pub(super) struct Commits {
    waiting: FuturesUnordered<BoxFuture<'static, Result<Reply, RpcError>>>,
    stored: usize,
    refused: Option<u64>,
    failure: Option<RpcError>,
}

impl Commits {
    /// Asks the node that gave `reply` to store `value`; nodes without an id or token store nothing.
    pub(super) fn push(
        &mut self,
        rpc: &Rpc,
        reply: &Reply,
        command: Command,
        target: NodeId,
        value: impl FnOnce(&NodeId, &[u8; 32]) -> Bytes,
    ) {
        let (Some(id), Some(token)) = (reply.from.id, reply.token) else {
            self.failure = Some(RpcError::NoToken(reply.from.addr));
            return;
        };
        let body = RequestBody {
            command: command.to_wire(),
            target: Some(target),
            value: Some(value(&id, &token)),
            token: Some(token),
        };
        let (rpc, to) = (rpc.clone(), reply.from.addr);
        self.waiting.push(Box::pin(async move { rpc.request(to, body, RequestOptions::default()).await }));
    }

    /// Awaits one of them; true when all are done.
    pub(super) fn poll(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        while let std::task::Poll::Ready(outcome) = self.waiting.poll_next_unpin(context) {
            match outcome {
                None => return std::task::Poll::Ready(()),
                Some(Ok(reply)) if reply.error == error::NONE => self.stored += 1,
                Some(Ok(reply)) => self.refused = Some(reply.error),
                Some(Err(failure)) => self.failure = Some(failure),
            }
        }
        std::task::Poll::Pending
    }

    /// What came of it: an error when nobody answered at all.
    pub(super) fn outcome(&mut self, closest_nodes: Vec<Peer>) -> Result<Stored, RpcError> {
        if self.stored == 0 && self.refused.is_none() {
            return Err(self.failure.take().unwrap_or(RpcError::TooFewNodes));
        }
        Ok(Stored { closest_nodes, stored: self.stored, refused: self.refused })
    }

    pub(super) async fn finish(mut self, closest_nodes: Vec<Peer>) -> Result<Stored, RpcError> {
        std::future::poll_fn(|context| self.poll(context)).await;
        self.outcome(closest_nodes)
    }
}
