//! Where a server is.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::{Stream, StreamExt};

use crate::messages::{Command, Message, Peer};
use crate::records::signing::hash;
use crate::rpc::{self, NodeId, Query, QueryOptions, Reply, Rpc, RpcError};

/// A node that knows a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPeer {
    /// The node; handshakes can be sent through it.
    pub from: rpc::Peer,
    /// Us, as it sees us.
    pub to: SocketAddr,
    /// What the server announced.
    pub peer: Peer,
}

/// Which nodes know the server with this public key: a stream of them.
///
/// # Errors
/// When the node is closed.
pub fn find_peer(rpc: &Rpc, public_key: &[u8; 32], options: QueryOptions) -> Result<FindPeer, RpcError> {
    find_target(rpc, hash(&[public_key]), options)
}

/// [`find_peer`] for a public key that was hashed already.
pub(crate) fn find_target(rpc: &Rpc, target: NodeId, options: QueryOptions) -> Result<FindPeer, RpcError> {
    Ok(FindPeer { query: rpc.query(target, Command::FindPeer.to_wire(), None, options)? })
}

/// A walk towards a server: a stream of the nodes that know it.
#[derive(Debug)]
pub struct FindPeer {
    query: Query,
}

impl FindPeer {
    /// Lets it come to its end.
    ///
    /// # Errors
    /// When the node is closed.
    pub async fn finished(&mut self) -> Result<(), RpcError> {
        self.query.finished().await
    }

    /// The nodes nearest to the server's hashed key, complete once the stream has ended.
    pub fn closest_nodes(&self) -> Vec<rpc::Peer> {
        self.query.closest_nodes()
    }

    /// What they answered.
    pub(crate) fn closest_replies(&self) -> &[Reply] {
        self.query.closest_replies()
    }
}

impl Stream for FindPeer {
    type Item = FoundPeer;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<FoundPeer>> {
        loop {
            let Some(reply) = std::task::ready!(self.query.poll_next_unpin(context)) else {
                return Poll::Ready(None);
            };
            if let Some(peer) = reply.value.and_then(|value| Peer::decode(value).ok()) {
                return Poll::Ready(Some(FoundPeer { from: reply.from, to: reply.to, peer }));
            }
        }
    }
}
