//! Signatures of several signers, taken apart and put together again.
#![no_main]

use bytes::Bytes;
use hypercore::multisig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let bytes = Bytes::copy_from_slice(data);
    let _ = multisig::inflate(bytes.clone());
    let _ = multisig::inflate_v0(bytes);
});
