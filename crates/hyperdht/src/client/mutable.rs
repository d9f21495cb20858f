//! Values under a public key, which its owner can replace.

use bytes::Bytes;
use futures::StreamExt;
use secret_stream::KeyPair;

use super::store_at::{Commits, Stored, fits};
use crate::messages::{Command, Message, MutablePut, MutableRecord, encode_seq};
use crate::records::signing::{Signer, hash, verify_mutable};
use crate::rpc::{Peer, QueryOptions, Rpc, RpcError};

/// A record, and who had it. Its signature is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MutableValue {
    /// The record.
    pub record: MutableRecord,
    /// The node that answered with it first.
    pub from: Peer,
}

/// Says whether a record that was found is to be stored again.
pub type Refresh = Box<dyn FnOnce(&MutableRecord) -> bool + Send>;

/// How to get a mutable record.
#[derive(Default)]
pub struct MutableGetOptions {
    /// How to walk.
    pub query: QueryOptions,
    /// Records with lower sequence numbers are of no interest.
    pub seq: u64,
    /// Take the first record that is found, instead of the one with the highest sequence number of all.
    pub first: bool,
    /// Asked, once the walk is over, whether to store what was found at the nearest nodes again, so that it lives on.
    /// Not asked with `first`.
    pub refresh: Option<Refresh>,
}

impl std::fmt::Debug for MutableGetOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MutableGetOptions")
            .field("query", &self.query)
            .field("seq", &self.seq)
            .field("first", &self.first)
            .field("refresh", &self.refresh.is_some())
            .finish()
    }
}

/// The record under `public_key`, if nodes have one.
///
/// # Errors
/// When the node is closed.
pub async fn mutable_get(
    rpc: &Rpc,
    public_key: [u8; 32],
    options: MutableGetOptions,
) -> Result<Option<MutableValue>, RpcError> {
    let MutableGetOptions { query, seq, first, refresh } = options;
    let target = hash(&[&public_key]);
    let mut query = rpc.query(target, Command::MutableGet.to_wire(), Some(encode_seq(seq)), query)?;
    let mut best: Option<MutableValue> = None;
    while let Some(reply) = query.next().await {
        let Some(record) = reply.value.and_then(|value| MutableRecord::decode(value).ok()) else { continue };
        let newer = best.as_ref().is_none_or(|best| record.seq > best.record.seq);
        // Whether it is newer first: checking a signature is what costs.
        if !newer || record.seq < seq || !verify_mutable(&record, &public_key) {
            continue;
        }
        let found = MutableValue { record, from: reply.from };
        if first {
            return Ok(Some(found));
        }
        best = Some(found);
    }
    query.finished().await?;
    if let (Some(best), Some(refresh)) = (&best, refresh)
        && refresh(&best.record)
    {
        let put = MutablePut { public_key, record: best.record.clone() }.encode();
        let mut commits = Commits::default();
        for reply in query.closest_replies() {
            commits.push(rpc, reply, Command::MutablePut, target, |_, _| put.clone());
        }
        // What was found is there, whether or not it could be stored again.
        let _ = commits.finish(Vec::new()).await;
    }
    Ok(best)
}

/// Stores `value` under the public key of `key_pair`. Higher sequence numbers replace lower ones: nodes that have a
/// higher one answer [`SEQ_TOO_LOW`](crate::messages::error::SEQ_TOO_LOW), with the same one and another value
/// [`SEQ_REUSED`](crate::messages::error::SEQ_REUSED).
///
/// As to its length, see [`immutable_put`](super::immutable_put): what is said there holds for a value with the 100 to 108
/// bytes of its key, sequence number and signature.
///
/// # Errors
/// When no node answers, and at once with [`RpcError::TooLarge`] when no node would take the value.
pub async fn mutable_put(
    rpc: &Rpc,
    key_pair: &KeyPair,
    seq: u64,
    value: Bytes,
    options: QueryOptions,
) -> Result<(MutableRecord, Stored), RpcError> {
    let put = Signer::new(key_pair).mutable(seq, value);
    let (target, bytes) = (hash(&[&put.public_key]), put.encode());
    fits(rpc, Command::MutablePut, target, &bytes)?;
    // Whatever sequence numbers are there: the nearest nodes are what is wanted.
    let mut query = rpc.query(target, Command::MutableGet.to_wire(), Some(encode_seq(0)), options)?;
    query.finished().await?;
    let mut commits = Commits::default();
    for reply in query.closest_replies() {
        commits.push(rpc, reply, Command::MutablePut, target, |_, _| bytes.clone());
    }
    Ok((put.record, commits.finish(query.closest_nodes()).await?))
}
