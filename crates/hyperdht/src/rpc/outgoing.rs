//! Queries, as the application sees them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;

use super::driver::QueryItem;
use super::node::{QueryId, QueryOutcome};
use super::{NodeId, Peer, Reply, Rpc, RpcError};

/// A walk towards a target: a stream of the replies on the way, which goes on by itself whether or not they are taken.
/// Dropping it ends the walk.
#[derive(Debug)]
pub struct Query {
    rpc: Rpc,
    id: QueryId,
    target: NodeId,
    items: mpsc::UnboundedReceiver<QueryItem>,
    outcome: Option<Result<QueryOutcome, RpcError>>,
}

impl Query {
    pub(super) fn new(
        rpc: Rpc,
        id: QueryId,
        target: NodeId,
        items: mpsc::UnboundedReceiver<QueryItem>,
    ) -> Self {
        Self { rpc, id, target, items, outcome: None }
    }

    /// Where it goes.
    pub fn target(&self) -> NodeId {
        self.target
    }

    /// Lets it come to its end; replies not taken from the stream are dropped.
    pub async fn finished(&mut self) -> Result<(), RpcError> {
        while self.next().await.is_some() {}
        match &self.outcome {
            Some(Ok(_)) => Ok(()),
            Some(Err(err)) => Err(err.clone()),
            None => Err(RpcError::Closed),
        }
    }

    /// The replies of the nodes nearest to the target (at most twenty), nearest first, once the stream has ended; none
    /// before.
    pub fn closest_replies(&self) -> &[Reply] {
        match &self.outcome {
            Some(Ok(outcome)) => &outcome.closest,
            _ => &[],
        }
    }

    /// Who gave these replies.
    pub fn closest_nodes(&self) -> Vec<Peer> {
        self.closest_replies().iter().map(|reply| reply.from).collect()
    }

    /// How it went, once the stream has ended.
    pub fn outcome(&self) -> Option<&Result<QueryOutcome, RpcError>> {
        self.outcome.as_ref()
    }

    /// Lets it come to its end, then does `commit` with each of the closest replies at once, and awaits that: how many
    /// succeeded. It failed if nobody is there to commit to, or if all of them failed (then with the last error).
    pub async fn commit<F, Fut, T>(&mut self, commit: F) -> Result<usize, RpcError>
    where
        F: FnMut(Reply) -> Fut,
        Fut: Future<Output = Result<T, RpcError>>,
    {
        self.finished().await?;
        let mut commits: FuturesUnordered<Fut> = self.closest_replies().iter().cloned().map(commit).collect();
        let (mut succeeded, mut last) = (0, RpcError::TooFewNodes);
        while let Some(result) = commits.next().await {
            match result {
                Ok(_) => succeeded += 1,
                Err(err) => last = err,
            }
        }
        if succeeded > 0 { Ok(succeeded) } else { Err(last) }
    }
}

impl Stream for Query {
    type Item = Reply;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Reply>> {
        if self.outcome.is_some() {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(self.items.poll_recv(context)) {
            Some(QueryItem::Reply(reply)) => Some(reply),
            Some(QueryItem::Done(outcome)) => {
                self.outcome = Some(outcome);
                None
            }
            None => {
                self.outcome = Some(Err(RpcError::Closed));
                None
            }
        })
    }
}

impl Drop for Query {
    fn drop(&mut self) {
        if self.outcome.is_none() {
            let mut state = self.rpc.shared().lock();
            if state.queries.remove(&self.id).is_some() {
                state.node.cancel_query(self.id);
            }
        }
    }
}
