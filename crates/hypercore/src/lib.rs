pub mod crypto;
pub mod flat_tree;
mod key;
pub mod manifest;
pub mod multisig;
pub mod proof;
pub mod signing;
pub mod storage;
pub mod tree;
mod verifier;

pub use key::{DiscoveryKey, Key, ParseKeyError};
pub use manifest::{Manifest, Prologue, Signer};
pub use proof::{
    DataBlock, DataHash, DataSeek, DataUpgrade, Node, Proof, ProofRequest, RequestBlock, RequestSeek,
    RequestUpgrade,
};
pub use signing::KeyPair;
pub use verifier::{SignError, Verifier};
