//! Values of the Rust crates as the npm peers write them in JSON.

use hypercore::{Key, Manifest};
use serde_json::{Value, json};

/// Bytes as the peers write them.
pub fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A manifest as the peers take and answer it.
pub fn manifest_json(manifest: &Manifest) -> Value {
    let signers: Vec<Value> = manifest
        .signers
        .iter()
        .map(|signer| {
            json!({
                "signature": "ed25519",
                "namespace": hex(signer.namespace),
                "publicKey": hex(signer.public_key),
            })
        })
        .collect();
    json!({
        "version": manifest.version,
        "hash": "blake2b",
        "allowPatch": manifest.allow_patch,
        "quorum": manifest.quorum,
        "signers": signers,
        "prologue": manifest.prologue.map(|prologue| json!({ "hash": hex(prologue.hash), "length": prologue.length })),
        "linked": manifest.linked.as_ref().map(|linked| linked.iter().map(Key::to_hex).collect::<Vec<_>>()),
        "userData": manifest.user_data.as_ref().map(hex),
    })
}

/// The key in an answer of a peer.
///
/// # Panics
///
/// When there is none.
pub fn key(answer: &Value) -> Key {
    answer["key"].as_str().and_then(|key| key.parse().ok()).unwrap_or_else(|| panic!("no key in {answer}"))
}
