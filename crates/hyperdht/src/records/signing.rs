//! What is signed in announcements and mutable records, and how (npm `hyperdht` 6.34 `lib/persistent.js`,
//! `lib/constants.js`).
//!
//! Every signature is over `namespace || BLAKE2b-256(fields)`, 64 bytes, so that one made for a purpose is worth
//! nothing for another. Announcements also sign the id of the node that stores them and the token it gave: nobody can
//! replay them elsewhere, or later.

use std::sync::LazyLock;

use blake2b_simd::Params;
use bytes::Bytes;
use compact_codec::Writer;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use secret_stream::KeyPair;

use crate::messages::{Announce, Command, Message, MutablePut, MutableRecord, Peer};

/// The namespaces of HyperDHT: 32-byte strings that keep what is signed or hashed for one purpose from being taken for
/// another.
#[derive(Debug, Clone)]
pub struct Namespaces {
    /// Of announcements.
    pub announce: [u8; 32],
    /// Of taking them back.
    pub unannounce: [u8; 32],
    /// Of mutable records.
    pub mutable_put: [u8; 32],
    /// Prologue of the Noise handshake.
    pub peer_handshake: [u8; 32],
    /// Of the key that seals hole punching payloads.
    pub peer_holepunch: [u8; 32],
    /// Of plugins.
    pub plugin: [u8; 32],
}

/// The namespaces of HyperDHT.
pub static NAMESPACES: LazyLock<Namespaces> = LazyLock::new(|| {
    let name = hash(&[b"hyperswarm/dht"]);
    let namespace = |command: Command| hash(&[&name, &[command as u8]]);
    Namespaces {
        announce: namespace(Command::Announce),
        unannounce: namespace(Command::Unannounce),
        mutable_put: namespace(Command::MutablePut),
        peer_handshake: namespace(Command::PeerHandshake),
        peer_holepunch: namespace(Command::PeerHolepunch),
        plugin: namespace(Command::Plugin),
    }
});

/// BLAKE2b-256 of the parts, one after the other: the target of a public key or an immutable value.
pub fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Params::new().hash_length(32).to_state();
    for part in parts {
        state.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(state.finalize().as_bytes());
    out
}

/// What an announcement is bound to: made for one topic, to be stored by one node, which gave a token for it.
#[derive(Debug, Clone, Copy)]
pub struct AnnounceContext<'a> {
    /// The topic, or the hash of the server's public key.
    pub target: &'a [u8; 32],
    /// The id of the node that stores it.
    pub node_id: &'a [u8; 32],
    /// The token that this node gave.
    pub token: &'a [u8; 32],
}

/// A key pair made ready for many signatures. The secret half is wiped when it is dropped.
#[derive(Clone)]
pub struct Signer {
    key: SigningKey,
}

impl Signer {
    /// Signs as `key_pair`.
    pub fn new(key_pair: &KeyPair) -> Self {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        seed.copy_from_slice(&key_pair.secret()[..32]);
        Self { key: SigningKey::from_bytes(&seed) }
    }

    /// Whose signatures these are.
    pub fn public_key(&self) -> [u8; 32] {
        self.key.verifying_key().to_bytes()
    }

    /// A signed announcement of this key's owner.
    pub fn announce(
        &self,
        context: AnnounceContext<'_>,
        relay_addresses: Vec<std::net::SocketAddrV4>,
        refresh: Option<[u8; 32]>,
        bump: u64,
    ) -> Announce {
        let peer = Peer { public_key: self.public_key(), relay_addresses };
        let signature = self.sign(&announce_signable(&NAMESPACES.announce, context, &peer, refresh.as_ref()));
        Announce { peer: Some(peer), refresh, signature: Some(signature), bump }
    }

    /// Takes an announcement back.
    pub fn unannounce(&self, context: AnnounceContext<'_>) -> Announce {
        let peer = Peer { public_key: self.public_key(), relay_addresses: Vec::new() };
        let signature = self.sign(&announce_signable(&NAMESPACES.unannounce, context, &peer, None));
        Announce { peer: Some(peer), refresh: None, signature: Some(signature), bump: 0 }
    }

    /// A signed mutable record of this key's owner.
    pub fn mutable(&self, seq: u64, value: Bytes) -> MutablePut {
        let signature = self.sign(&mutable_signable(seq, &value));
        MutablePut { public_key: self.public_key(), record: MutableRecord { seq, value, signature } }
    }

    fn sign(&self, signable: &[u8; 64]) -> [u8; 64] {
        self.key.sign(signable).to_bytes()
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("public_key", &self.public_key()).finish_non_exhaustive()
    }
}

/// Whether an announcement is by its peer, and for this context.
pub fn verify_announce(context: AnnounceContext<'_>, announce: &Announce) -> bool {
    verify_signed(&NAMESPACES.announce, context, announce)
}

/// Whether taking an announcement back is by its peer, and for this context.
pub fn verify_unannounce(context: AnnounceContext<'_>, announce: &Announce) -> bool {
    verify_signed(&NAMESPACES.unannounce, context, announce)
}

/// Whether a mutable record is by the holder of the key.
pub fn verify_mutable(record: &MutableRecord, public_key: &[u8; 32]) -> bool {
    verify(&mutable_signable(record.seq, &record.value), &record.signature, public_key)
}

fn verify_signed(namespace: &[u8; 32], context: AnnounceContext<'_>, announce: &Announce) -> bool {
    let (Some(peer), Some(signature)) = (&announce.peer, &announce.signature) else {
        return false;
    };
    let signable = announce_signable(namespace, context, peer, announce.refresh.as_ref());
    verify(&signable, signature, &peer.public_key)
}

/// As `crypto_sign_verify_detached` of libsodium judges: keys of small order and numbers that are not reduced are
/// refused.
fn verify(message: &[u8], signature: &[u8; 64], public_key: &[u8; 32]) -> bool {
    let Ok(key) = VerifyingKey::from_bytes(public_key) else {
        return false;
    };
    key.verify_strict(message, &Signature::from_bytes(signature)).is_ok()
}

fn announce_signable(
    namespace: &[u8; 32],
    context: AnnounceContext<'_>,
    peer: &Peer,
    refresh: Option<&[u8; 32]>,
) -> [u8; 64] {
    let refresh: &[u8] = refresh.map_or(&[], |refresh| refresh);
    signable(namespace, hash(&[context.target, context.node_id, context.token, &peer.encode(), refresh]))
}

fn mutable_signable(seq: u64, value: &[u8]) -> [u8; 64] {
    let mut fields = Writer::with_capacity(18 + value.len());
    fields.uint(seq);
    fields.buffer(value);
    signable(&NAMESPACES.mutable_put, hash(&[&fields.finish()]))
}

fn signable(namespace: &[u8; 32], hash: [u8; 32]) -> [u8; 64] {
    let mut out = [0; 64];
    out[..32].copy_from_slice(namespace);
    out[32..].copy_from_slice(&hash);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTEXT: AnnounceContext<'static> =
        AnnounceContext { target: &[1; 32], token: &[2; 32], node_id: &[3; 32] };

    fn signer() -> Signer {
        Signer::new(&KeyPair::from_seed(&[7; 32]))
    }

    #[test]
    fn announcements_count_only_as_they_were_signed() {
        let good = signer().announce(CONTEXT, vec!["10.0.0.1:1".parse().unwrap()], Some([4; 32]), 5);
        assert!(verify_announce(CONTEXT, &good));
        assert!(!verify_unannounce(CONTEXT, &good));
        assert!(verify_announce(CONTEXT, &Announce { bump: 6, ..good.clone() }), "JS does not sign the bump");
        for wrong in [
            AnnounceContext { target: &[9; 32], ..CONTEXT },
            AnnounceContext { token: &[9; 32], ..CONTEXT },
            AnnounceContext { node_id: &[9; 32], ..CONTEXT },
        ] {
            assert!(!verify_announce(wrong, &good));
        }
        let peer = Peer { public_key: signer().public_key(), relay_addresses: Vec::new() };
        assert!(!verify_announce(CONTEXT, &Announce { peer: Some(peer), ..good.clone() }));
        assert!(!verify_announce(CONTEXT, &Announce { refresh: None, ..good.clone() }));
        assert!(!verify_announce(CONTEXT, &Announce { signature: None, ..good.clone() }));
        assert!(!verify_announce(CONTEXT, &Announce { peer: None, ..good }));
    }

    #[test]
    fn taking_back_is_no_announcement() {
        let back = signer().unannounce(CONTEXT);
        assert!(verify_unannounce(CONTEXT, &back));
        assert!(!verify_announce(CONTEXT, &back));
    }

    #[test]
    fn mutable_records_count_only_as_they_were_signed() {
        let MutablePut { public_key, record } = signer().mutable(300, Bytes::from_static(b"value"));
        assert!(verify_mutable(&record, &public_key));
        assert!(!verify_mutable(&record, &[0; 32]));
        assert!(!verify_mutable(&MutableRecord { seq: 301, ..record.clone() }, &public_key));
        assert!(!verify_mutable(
            &MutableRecord { value: Bytes::from_static(b"other"), ..record },
            &public_key
        ));
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", signer()).contains("[7, 7"));
    }
}
