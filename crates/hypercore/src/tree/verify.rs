use std::collections::BTreeMap;

use super::upgrade::{self, Upgraded};
use super::{NodeSource, ProofError, TreeBatch, TreeHead, path};
use crate::flat_tree::Position;
use crate::proof::{Node, Proof};

/// What a proof proves, as long as its upgrade (if it has one) is signed: check [`Verified::upgrade`] with a
/// [`crate::Verifier`], then [`TreeBatch::accept`] it.
#[derive(Debug, Clone)]
pub struct Verified {
    pub(super) nodes: Vec<Node>,
    pub(super) upgrade: Option<TreeHead>,
}

impl Verified {
    /// The longer tree that the proof claims; not to be believed before its signature is verified. None when the
    /// proof has no upgrade, or one that tells nothing new.
    pub fn upgrade(&self) -> Option<&TreeHead> {
        self.upgrade.as_ref()
    }

    /// Nodes that become known.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }
}

impl TreeBatch {
    /// Takes over what a proof has proven against this batch.
    pub fn accept(&mut self, verified: Verified) {
        self.nodes.extend(verified.nodes.into_iter().map(|node| (node.index, node)));
        if let Some(head) = verified.upgrade {
            self.head = head;
            self.upgraded = true;
        }
    }
}

/// Checks a proof against the tree as `batch` will leave it; nodes that earlier proofs brought into `batch` count
/// as known. Signatures are not checked here.
///
/// An upgrade that was made for another length than the log has by now is passed over when the rest of the proof can
/// do without it.
pub fn verify(batch: &TreeBatch, source: &dyn NodeSource, proof: &Proof) -> Result<Verified, ProofError> {
    verify_hashed(batch, source, proof, None)
}

/// [`verify`] with the hash of the block at hand.
pub(super) fn verify_hashed(
    batch: &TreeBatch,
    source: &dyn NodeSource,
    proof: &Proof,
    leaf: Option<[u8; 32]>,
) -> Result<Verified, ProofError> {
    let head = batch.head();
    if proof.fork != head.fork {
        return Err(ProofError::OtherFork { proof: proof.fork, local: head.fork });
    }
    let mut nodes = Vec::new();
    let computed = path::climb(proof, leaf, &batch.nodes, &mut nodes)?.unproven();

    let upgraded = match &proof.upgrade {
        Some(upgrade) => match replay_on(head, proof.fork, upgrade, computed) {
            Ok(upgraded) => Some(upgraded),
            Err(err @ ProofError::OtherLength { .. }) if computed.is_none() => return Err(err),
            Err(ProofError::OtherLength { .. }) => None,
            Err(err) => return Err(err),
        },
        None => None,
    };
    let used = upgraded.as_ref().is_some_and(|upgraded| upgraded.used_computed);
    if let Some(computed) = computed.filter(|_| !used) {
        let known = batch.known(source, computed.index)?;
        match known.ok_or(ProofError::MissingNode { index: computed.index })? {
            known if known == computed => {}
            _ => return Err(ProofError::Checksum { index: computed.index }),
        }
    }
    let upgrade = match upgraded {
        Some(upgraded) if upgraded.changed(head) => {
            nodes.extend(upgraded.nodes);
            Some(upgraded.head)
        }
        _ => None,
    };
    // Whatever the path led to, a node beyond the end is none of this log.
    let length = upgrade.as_ref().map_or(head.length, |head| head.length);
    if nodes.iter().any(|node| Position::new(node.index).end_block() > length) {
        return Err(ProofError::Malformed { reason: "it reaches beyond the log" });
    }
    Ok(Verified { nodes, upgrade })
}

/// Replays an upgrade, telling one that was made for another length from one that lies.
fn replay_on(
    head: &TreeHead,
    fork: u64,
    upgrade: &crate::proof::DataUpgrade,
    computed: Option<Node>,
) -> Result<Upgraded, ProofError> {
    let other_length = ProofError::OtherLength { start: upgrade.start, local: head.length };
    if upgrade::end_of(upgrade)? < head.length {
        return Err(other_length);
    }
    match upgrade::replay(head, fork, upgrade, computed) {
        Err(ProofError::UnexpectedNode { .. }) if upgrade.start != head.length => Err(other_length),
        outcome => outcome,
    }
}

/// The tree that an upgrade from length 0 claims, whatever the local log holds: for conflict checks and proofs
/// that arrive out of context. Of `head` only the prologue counts. The signature is for the caller to verify.
pub fn verify_fully_remote(head: &TreeHead, proof: &Proof) -> Result<TreeHead, ProofError> {
    let (upgraded, _) = replay_from_start(head, proof)?;
    if upgraded.left_over {
        // The nodes are compared with the local roots: nothing may be among them that nobody signed.
        return Err(ProofError::Malformed { reason: "its upgrade has nodes to spare" });
    }
    Ok(upgraded.head)
}

/// The tree that an upgrade from length 0 claims, and all nodes that the proof brings.
pub(super) fn replay_from_start(head: &TreeHead, proof: &Proof) -> Result<(Upgraded, Vec<Node>), ProofError> {
    let mut nodes = Vec::new();
    let computed = path::climb(proof, None, &BTreeMap::new(), &mut nodes)?.unproven();
    let Some(upgrade) = &proof.upgrade else {
        return Err(ProofError::Malformed { reason: "it has no upgrade" });
    };
    let empty = TreeHead::empty(head.prologue);
    let mut upgraded = upgrade::replay(&empty, proof.fork, upgrade, computed)?;
    if let Some(computed) = computed.filter(|_| !upgraded.used_computed) {
        return Err(ProofError::Checksum { index: computed.index });
    }
    nodes.append(&mut upgraded.nodes);
    Ok((upgraded, nodes))
}

/// True when both lists of roots are those of the same blocks. Sizes are left out: a hash commits to the bytes below
/// it, whereas the sizes of two siblings in a proof can be bent against each other without any hash telling, so that a
/// difference in sizes alone proves nothing against the signer.
pub fn same_roots(a: &[Node], b: &[Node]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a.index, a.hash) == (b.index, b.hash))
}
