//! Queries, as the application sees them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::Stream;

use super::{NodeId, Peer, Reply, RpcError};

/// A walk towards a target: a stream of the replies on the way, which goes on by itself whether or not they are taken.
/// Dropping it ends the walk.
#[derive(Debug)]
pub struct Query {
    pub(super) target: NodeId,
}

impl Query {
    /// Where it goes.
    pub fn target(&self) -> NodeId {
        self.target
    }

    /// Lets it come to its end; replies not taken from the stream are dropped.
    pub async fn finished(&mut self) -> Result<(), RpcError> {
        unimplemented!()
    }

    /// The replies of the nodes nearest to the target (at most twenty), nearest first; complete once the stream has ended.
    pub fn closest_replies(&self) -> Vec<Reply> {
        unimplemented!()
    }

    /// Who gave these replies.
    pub fn closest_nodes(&self) -> Vec<Peer> {
        unimplemented!()
    }

    /// Lets it come to its end, then does `commit` with each of the closest replies at once, and awaits that: how many
    /// succeeded. It failed if nobody is there to commit to, or if all of them failed (then with the last error).
    pub async fn commit<F, Fut, T>(&mut self, commit: F) -> Result<usize, RpcError>
    where
        F: FnMut(Reply) -> Fut,
        Fut: Future<Output = Result<T, RpcError>>,
    {
        let _ = commit;
        unimplemented!()
    }
}

impl Stream for Query {
    type Item = Reply;

    fn poll_next(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Reply>> {
        unimplemented!()
    }
}
