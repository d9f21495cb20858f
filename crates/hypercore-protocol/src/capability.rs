//! Proof that a peer knows a key, bound to one connection and one direction.

use hypercore::{Key, crypto};

/// What the side with this role sends to prove that it knows `key` (npm `hypercore` 11.37.1, `caps.replicate`).
pub(crate) fn capability(is_initiator: bool, key: &Key, handshake_hash: &[u8; 64]) -> [u8; 32] {
    crypto::replication_capability(is_initiator, key.as_bytes(), handshake_hash)
}
