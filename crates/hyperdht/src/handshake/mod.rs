//! What client and server prove and tell each other before there is a connection: a Noise handshake whose messages
//! other nodes forward, and sealed notes about hole punching.

#[cfg(test)]
mod known_answers;
mod noise;
mod seal;

pub(crate) use noise::{Finished, PeerHandshake};
pub(crate) use seal::SealedNotes;

use blake2b_simd::Params;

/// 32 bytes of BLAKE2b (libsodium `crypto_generichash`); an empty key is none.
pub(crate) fn digest(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Params::new().hash_length(32).key(key).to_state();
    for part in parts {
        state.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(state.finalize().as_bytes());
    out
}

/// The hash under which a public key is announced and found.
pub(crate) fn target_of(public_key: &[u8; 32]) -> [u8; 32] {
    digest(&[], &[public_key])
}

/// The label of a command (npm `hyperdht` 6.34, `lib/constants.js`).
fn namespace(command: u8) -> [u8; 32] {
    digest(&[], &[&digest(&[], &[b"hyperswarm/dht"]), &[command]])
}
