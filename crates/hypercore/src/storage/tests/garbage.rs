//! Stored bytes are not trusted: whatever they are, decoding ends with a value or an error, and what was written is
//! read back.

use bytes::Bytes;
use compact_codec::Writer;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::super::keys;
use super::super::records::*;
use crate::manifest::{HashAlgorithm, Manifest, Prologue, SignatureAlgorithm, Signer};
use crate::proof::Node;

const MAX: u64 = (1 << 53) - 1;

fn some_manifest() -> impl Strategy<Value = Manifest> {
    let signer = any::<([u8; 32], [u8; 32])>().prop_map(|(namespace, public_key)| Signer {
        signature: SignatureAlgorithm::Ed25519,
        namespace,
        public_key,
    });
    let prologue = (any::<[u8; 32]>(), 0..=MAX).prop_map(|(hash, length)| Prologue { hash, length });
    (
        (0..=Manifest::MAX_VERSION, any::<bool>(), 0..=MAX),
        proptest::collection::vec(signer, 0..5),
        proptest::option::of(prologue),
        proptest::option::of(proptest::collection::vec(any::<[u8; 32]>().prop_map(Into::into), 0..4)),
        proptest::option::of(proptest::collection::vec(any::<u8>(), 1..50).prop_map(Bytes::from)),
    )
        .prop_map(|((version, allow_patch, quorum), signers, prologue, linked, user_data)| Manifest {
            version,
            hash: HashAlgorithm::Blake2b,
            allow_patch,
            quorum,
            signers,
            prologue,
            linked,
            user_data,
        })
}

proptest! {
    #[test]
    fn garbage_is_refused_or_read(input in proptest::collection::vec(any::<u8>(), 0..300)) {
        let bytes = Bytes::from(input.clone());
        let _ = StoreHead::decode(bytes.clone());
        let _ = CorePointers::decode(bytes.clone());
        let _ = Auth::decode(bytes.clone());
        let _ = Head::decode(bytes.clone());
        let _ = Hints::decode(bytes.clone());
        let _ = decode_node(bytes.clone());
        let _ = Dependency::decode(bytes.clone());
        let _ = decode_sessions(bytes.clone());
        let _ = Group::decode(bytes);
        let _ = keys::discovery_key_of(&input);
        let _ = keys::alias_of(&input);
        let _ = keys::bitfield_page_of(&input);
        let _ = keys::index_of(&input);
        let _ = keys::user_data_name_of(&input);
    }

    #[test]
    fn a_cut_auth_record_is_refused(manifest in some_manifest(), cut in 1usize..200) {
        let auth = Auth {
            key: [1; 32].into(),
            discovery_key: [2; 32].into(),
            manifest: Some(manifest),
            key_pair: Some(StoredKeyPair { public_key: [3; 32], secret_key: Some(Zeroizing::new([4; 64])) }),
            encryption_key: None,
        };
        let bytes = auth.encode();
        prop_assert_eq!(&Auth::decode(bytes.clone()).unwrap(), &auth);
        let cut = bytes.len().saturating_sub(cut);
        prop_assert!(Auth::decode(bytes.slice(..cut)).is_err());
    }

    #[test]
    fn heads_and_nodes_come_back(
        (fork, length, timestamp) in (0..=MAX, 0..=MAX, any::<u64>()),
        hash: [u8; 32],
        signature in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..200)),
    ) {
        let head = Head { fork, length, root_hash: hash, signature: signature.map(Bytes::from), timestamp };
        let mut out = Writer::new();
        head.encode(&mut out);
        prop_assert_eq!(Head::decode(out.finish()).unwrap(), head);
        let node = Node { index: length, size: fork, hash };
        let mut out = Writer::new();
        encode_node(&node, &mut out);
        prop_assert_eq!(decode_node(out.finish()).unwrap(), node);
    }

    #[test]
    fn keys_sort_as_their_numbers(a in 0..=MAX, b in 0..=MAX) {
        prop_assert_eq!(a.cmp(&b), keys::block(3, a).as_ref().cmp(keys::block(3, b).as_ref()));
        prop_assert!(keys::block(3, a).as_ref() < keys::block(3, keys::END).as_ref());
    }

    #[test]
    fn names_come_back(namespace: [u8; 32], name in ".{0,40}") {
        let key = keys::core_by_alias(&namespace, &name);
        prop_assert_eq!(keys::alias_of(&key).unwrap(), (namespace, name.clone()));
        prop_assert!(key.as_slice() > keys::aliases_start(Some(&namespace)).as_ref());
        prop_assert!(key.as_slice() < keys::aliases_end(Some(&namespace)).as_ref());
        prop_assert_eq!(keys::user_data_name_of(&keys::user_data(7, &name)).unwrap(), name);
    }
}
