//! Fixed labels and what is derived from them (npm `@hyperswarm/secret-stream` 6.9, `hypercore-crypto` 3
//! `namespace`).

use std::sync::LazyLock;

use blake2b_simd::Params;
use zeroize::Zeroizing;

struct Labels {
    initiator: [u8; 32],
    responder: [u8; 32],
    send: [u8; 32],
}

static LABELS: LazyLock<Labels> = LazyLock::new(|| {
    let namespace = digest(&[], &[b"hyperswarm/secret-stream"]);
    let label = |index: u8| digest(&[], &[&namespace, &[index]]);
    Labels { initiator: label(0), responder: label(1), send: label(2) }
});

/// The id that the named side puts into its stream header: proof that the header belongs to this handshake.
pub(crate) fn stream_id(handshake_hash: &[u8; 64], initiator: bool) -> [u8; 32] {
    digest(handshake_hash, &[side(initiator)])
}

/// The key of the unordered messages that the named side sends.
pub(crate) fn datagram_key(handshake_hash: &[u8; 64], initiator: bool) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(digest(handshake_hash, &[side(initiator), &LABELS.send]))
}

fn side(initiator: bool) -> &'static [u8; 32] {
    if initiator { &LABELS.initiator } else { &LABELS.responder }
}

/// 32 bytes of BLAKE2b over all `parts` (libsodium `crypto_generichash`); an empty key is none.
fn digest(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut state = Params::new().hash_length(32).key(key).to_state();
    for part in parts {
        state.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(state.finalize().as_bytes());
    out
}
