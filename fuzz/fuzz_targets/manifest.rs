//! Manifests, which come from peers and from storage: what decodes, encodes to something that decodes to the same.
#![no_main]

use bytes::Bytes;
use hypercore::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(manifest) = Manifest::decode(Bytes::copy_from_slice(data)) else { return };
    let _ = manifest.validate();
    let again = Manifest::decode(manifest.encode()).expect("what was encoded here decodes");
    assert_eq!(again, manifest);
    assert_eq!(again.key(), manifest.key());
});
