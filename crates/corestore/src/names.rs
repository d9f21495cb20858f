//! What names stand for: namespaces, and the key pairs derived from the primary key (npm `corestore` 7.12.5).

use std::sync::LazyLock;

use hypercore::{KeyPair, crypto};
use zeroize::Zeroizing;

/// The namespace that a store starts in.
pub const DEFAULT_NAMESPACE: [u8; 32] = [0; 32];

/// Longest name that is accepted. JS builds keys in buffers of 4 KiB; this leaves room for the escaping of zeros.
pub const MAX_NAME_BYTES: usize = 1024;

static KEY_PAIRS: LazyLock<[u8; 32]> = LazyLock::new(|| {
    let [namespace] = crypto::namespace::<1>(b"corestore");
    namespace
});

/// The namespace `name` within `namespace`.
pub(crate) fn sub_namespace(namespace: &[u8; 32], name: &[u8]) -> [u8; 32] {
    crypto::hash(&[namespace, name])
}

/// The key pair of `name` in `namespace`: always the same for the same primary key, here and in JS.
pub(crate) fn key_pair(primary_key: &[u8; 32], namespace: &[u8; 32], name: &[u8]) -> KeyPair {
    let mut state = blake2b_simd::Params::new().hash_length(32).key(primary_key).to_state();
    state.update(&*KEY_PAIRS).update(namespace).update(name);
    let hash = state.finalize();
    let mut seed = Zeroizing::new([0u8; 32]);
    for (seed, hash) in seed.iter_mut().zip(hash.as_bytes()) {
        *seed = *hash;
    }
    KeyPair::from_seed(&seed)
}
