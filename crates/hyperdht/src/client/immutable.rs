//! Values under their hash.

use bytes::Bytes;
use futures::StreamExt;

use super::store_at::{Commits, Stored, fits};
use crate::messages::Command;
use crate::records::signing::hash;
use crate::rpc::{NodeId, Peer, QueryOptions, Rpc, RpcError};

/// A value, and who had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImmutableValue {
    /// The value; its hash is what was asked for.
    pub value: Bytes,
    /// The node that answered first.
    pub from: Peer,
}

/// The value with this hash, if a node has it.
///
/// # Errors
/// When the node is closed.
pub async fn immutable_get(
    rpc: &Rpc,
    target: NodeId,
    options: QueryOptions,
) -> Result<Option<ImmutableValue>, RpcError> {
    let mut query = rpc.query(target, Command::ImmutableGet.to_wire(), None, options)?;
    while let Some(reply) = query.next().await {
        if let Some(value) = reply.value.filter(|value| hash(&[value]) == target) {
            return Ok(Some(ImmutableValue { value, from: reply.from }));
        }
    }
    query.finished().await.map(|()| None)
}

/// Stores `value` under its hash, which is returned with what became of it.
///
/// Values should not be longer than about 1,000 bytes, so that they fit into one packet: longer ones arrive where
/// fragments do. Nodes, npm's too, take datagrams of 2,048 bytes, which have room for values of 1,970 bytes, and of
/// 1,938 from a node that has become a part of the network. A node that knows many others names twenty of them beside a
/// value: from it, what is longer than 1,850 bytes does not come back. Values are kept for two days after they were put
/// or asked for last.
///
/// # Errors
/// When no node answers, and at once with [`RpcError::TooLarge`] when no node would take the value.
pub async fn immutable_put(
    rpc: &Rpc,
    value: Bytes,
    options: QueryOptions,
) -> Result<(NodeId, Stored), RpcError> {
    let target = hash(&[&value]);
    fits(rpc, Command::ImmutablePut, target, &value)?;
    let mut query = rpc.query(target, Command::ImmutableGet.to_wire(), None, options)?;
    query.finished().await?;
    let mut commits = Commits::default();
    for reply in query.closest_replies() {
        commits.push(rpc, reply, Command::ImmutablePut, target, |_, _| value.clone());
    }
    Ok((target, commits.finish(query.closest_nodes()).await?))
}
