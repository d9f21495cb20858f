//! Hashes, namespaces and what is derived from them: the fixed points that every Hypercore peer must agree on.
//!
//! Facts: npm `hypercore-crypto` 3 (leaf, parent and tree hashes, discovery keys, namespaces) and `lib/caps.js` of
//! npm `hypercore` 11 (signables, replication capability).

use std::sync::LazyLock;

use blake2b_simd::many::{HashManyJob, degree, hash_many, update_many};
use blake2b_simd::{Params, State};

use crate::proof::Node;

const LEAF: u8 = 0;
const PARENT: u8 = 1;
const ROOT: u8 = 2;

/// The namespaces of the protocol: 32-byte strings that keep what is signed or hashed for one purpose from being
/// taken for another.
#[derive(Debug, Clone)]
pub struct Namespaces {
    /// Prefix of everything that signs a tree.
    pub tree: [u8; 32],
    /// Capability of the side that dialled.
    pub replicate_initiator: [u8; 32],
    /// Capability of the side that was dialled.
    pub replicate_responder: [u8; 32],
    /// Prefix of a manifest when it is hashed into a key.
    pub manifest: [u8; 32],
    /// Namespace of a signer that names none.
    pub default: [u8; 32],
    /// Prefix from which block encryption keys are derived.
    pub default_encryption: [u8; 32],
}

/// The namespaces of the protocol.
pub static NAMESPACES: LazyLock<Namespaces> = LazyLock::new(|| {
    let [tree, replicate_initiator, replicate_responder, manifest, default, default_encryption] =
        namespace::<6>(b"hypercore");
    Namespaces { tree, replicate_initiator, replicate_responder, manifest, default, default_encryption }
});

/// The first `N` namespaces under a name.
pub fn namespace<const N: usize>(name: &[u8]) -> [[u8; 32]; N] {
    let mut input = [0u8; 33];
    input[..32].copy_from_slice(&hash(&[name]));
    let mut out = [[0u8; 32]; N];
    for (id, out) in (0u8..=255).zip(&mut out) {
        input[32] = id;
        *out = hash(&[&input]);
    }
    out
}

/// BLAKE2b-256 of the parts, one after the other.
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = params().to_state();
    for part in parts {
        state.update(part);
    }
    digest(&state.finalize())
}

/// The hash of a block.
pub fn leaf_hash(block: &[u8]) -> [u8; 32] {
    hash(&[&leaf_prefix(block), block])
}

/// The hash of a parent: of both children in tree order and the bytes below them.
pub fn parent_hash(left: &Node, right: &Node) -> [u8; 32] {
    hash(&[&parent_input(left, right)])
}

/// The hashes of many blocks, computed side by side (four at a time where the processor can).
pub fn leaf_hashes<B: AsRef<[u8]>>(blocks: &[B]) -> Vec<[u8; 32]> {
    let mut out = Vec::with_capacity(blocks.len());
    if let [block] = blocks {
        out.push(leaf_hash(block.as_ref()));
        return out;
    }
    let mut rest = blocks;
    while let Some(first) = rest.first() {
        // Small blocks are copied behind their prefix and hashed in one go; for large ones a copy costs more than
        // the buffering of a streaming state.
        let small = first.as_ref().len() <= SMALL_BLOCK;
        let run = rest.iter().take(HASH_RUN);
        let same = run.take_while(|block| (block.as_ref().len() <= SMALL_BLOCK) == small);
        let (run, after) = rest.split_at(same.count());
        if small {
            hash_small(run, &mut out)
        } else {
            hash_large(run, &mut out)
        }
        rest = after;
    }
    out
}

/// The hashes of many parents, computed side by side.
pub fn parent_hashes(pairs: &[(Node, Node)]) -> Vec<[u8; 32]> {
    if let [(left, right)] = pairs {
        return vec![parent_hash(left, right)];
    }
    let params = params();
    let mut out = Vec::with_capacity(pairs.len());
    for pairs in pairs.chunks(HASH_RUN) {
        let inputs: Vec<[u8; 73]> = pairs.iter().map(|(left, right)| parent_input(left, right)).collect();
        let mut jobs: Vec<_> = inputs.iter().map(|input| HashManyJob::new(&params, input)).collect();
        hash_many(&mut jobs);
        out.extend(jobs.iter().map(|job| digest(&job.to_hash())));
    }
    out
}

/// Largest block that is copied in order to be hashed.
const SMALL_BLOCK: usize = 4096;
/// How many hashes are prepared at once: bounds the scratch memory.
const HASH_RUN: usize = 64;

fn leaf_prefix(block: &[u8]) -> [u8; 9] {
    let mut prefix = [LEAF; 9];
    prefix[1..].copy_from_slice(&(block.len() as u64).to_le_bytes());
    prefix
}

fn parent_input(left: &Node, right: &Node) -> [u8; 73] {
    let (left, right) = if left.index > right.index { (right, left) } else { (left, right) };
    let mut input = [PARENT; 73];
    input[1..9].copy_from_slice(&left.size.saturating_add(right.size).to_le_bytes());
    input[9..41].copy_from_slice(&left.hash);
    input[41..].copy_from_slice(&right.hash);
    input
}

fn hash_small<B: AsRef<[u8]>>(blocks: &[B], out: &mut Vec<[u8; 32]>) {
    let params = params();
    let mut scratch = Vec::with_capacity(blocks.iter().map(|block| 9 + block.as_ref().len()).sum());
    for block in blocks {
        scratch.extend_from_slice(&leaf_prefix(block.as_ref()));
        scratch.extend_from_slice(block.as_ref());
    }
    let mut rest = scratch.as_slice();
    let mut jobs: Vec<_> = blocks
        .iter()
        .map(|block| {
            let (input, after) = rest.split_at(9 + block.as_ref().len());
            rest = after;
            HashManyJob::new(&params, input)
        })
        .collect();
    hash_many(&mut jobs);
    out.extend(jobs.iter().map(|job| digest(&job.to_hash())));
}

fn hash_large<B: AsRef<[u8]>>(blocks: &[B], out: &mut Vec<[u8; 32]>) {
    let params = params();
    let inputs = blocks.iter().map(AsRef::as_ref).chain(fourth(blocks));
    let mut states: Vec<State> = inputs
        .clone()
        .map(|block| {
            let mut state = params.to_state();
            state.update(&leaf_prefix(block));
            state
        })
        .collect();
    update_many(states.iter_mut().zip(inputs));
    out.extend(states.iter().take(blocks.len()).map(|state| digest(&state.finalize())));
}

/// Where four blocks are hashed side by side that takes a third less than two of them and then one: if three are left, one
/// of them is hashed twice.
fn fourth<B: AsRef<[u8]>>(blocks: &[B]) -> Option<&[u8]> {
    let three = blocks.chunks(4).next_back().filter(|left| left.len() == 3 && degree() == 4)?;
    three.iter().map(AsRef::as_ref).min_by_key(|block| block.len())
}

/// The tree hash: of all roots.
pub fn tree_hash(roots: &[Node]) -> [u8; 32] {
    let mut state = params().to_state();
    state.update(&[ROOT]);
    for root in roots {
        state.update(&root.hash).update(&root.index.to_le_bytes()).update(&root.size.to_le_bytes());
    }
    digest(&state.finalize())
}

/// What a signer signs: `context` is the key of the core, or for manifests of version 0 the signer's namespace.
pub fn tree_signable(context: &[u8; 32], tree_hash: &[u8; 32], length: u64, fork: u64) -> [u8; 112] {
    let mut out = [0u8; 112];
    out[..32].copy_from_slice(&NAMESPACES.tree);
    out[32..64].copy_from_slice(context);
    out[64..96].copy_from_slice(tree_hash);
    out[96..104].copy_from_slice(&length.to_le_bytes());
    out[104..].copy_from_slice(&fork.to_le_bytes());
    out
}

/// What the single signer of a compat core (key = public key) signs.
pub fn tree_signable_compat(tree_hash: &[u8; 32], length: u64, fork: u64) -> [u8; 80] {
    let mut out = [0u8; 80];
    out[..32].copy_from_slice(&NAMESPACES.tree);
    out[32..64].copy_from_slice(tree_hash);
    out[64..72].copy_from_slice(&length.to_le_bytes());
    out[72..].copy_from_slice(&fork.to_le_bytes());
    out
}

/// Proves to a peer that we know `key` without sending it: bound to this connection by its handshake hash and to
/// our role in it.
pub fn replication_capability(is_initiator: bool, key: &[u8; 32], handshake_hash: &[u8]) -> [u8; 32] {
    let role = if is_initiator { &NAMESPACES.replicate_initiator } else { &NAMESPACES.replicate_responder };
    // BLAKE2b takes keys of up to 64 bytes; a handshake hash is that long at most.
    let keyed = handshake_hash.get(..64).unwrap_or(handshake_hash);
    let mut state = Params::new().hash_length(32).key(keyed).to_state();
    state.update(role).update(key);
    digest(&state.finalize())
}

/// The discovery key of a key: what may be told to strangers.
pub(crate) fn discovery_key(key: &[u8; 32]) -> [u8; 32] {
    let hash = Params::new().hash_length(32).key(key).hash(b"hypercore");
    digest(&hash)
}

fn params() -> Params {
    let mut params = Params::new();
    params.hash_length(32);
    params
}

fn digest(hash: &blake2b_simd::Hash) -> [u8; 32] {
    let mut out = [0u8; 32];
    out.copy_from_slice(hash.as_bytes());
    out
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// A block that counts how often it is looked at.
    struct Counted<'a>(Vec<u8>, &'a Cell<usize>);

    impl AsRef<[u8]> for Counted<'_> {
        fn as_ref(&self) -> &[u8] {
            self.1.set(self.1.get() + 1);
            &self.0
        }
    }

    #[test]
    fn each_of_many_blocks_is_looked_at_a_few_times() {
        const BLOCKS: usize = 100 * HASH_RUN;
        let looks = Cell::new(0);
        let blocks: Vec<_> = (0..BLOCKS).map(|_| Counted(Vec::new(), &looks)).collect();
        let hashes = leaf_hashes(&blocks);
        assert_eq!(hashes, vec![leaf_hash(b""); BLOCKS]);
        assert!(looks.get() <= 10 * BLOCKS, "{} looks at {BLOCKS} blocks", looks.get());
    }
}
