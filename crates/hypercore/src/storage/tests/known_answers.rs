//! Keys and records, byte for byte as npm `hypercore-storage` 3.3.1 makes them.

use std::collections::HashMap;

use bytes::Bytes;
use compact_codec::Writer;
use zeroize::Zeroizing;

use super::super::keys;
use super::super::records::*;
use crate::manifest::{HashAlgorithm, Manifest, Prologue, SignatureAlgorithm, Signer};
use crate::proof::Node;

struct Answers(HashMap<&'static str, Vec<u8>>);

impl Answers {
    fn load() -> Self {
        let lines = include_str!("../../../tests/vectors/storage.txt").lines();
        let pairs = lines.filter_map(|line| line.split_once(' '));
        Self(pairs.map(|(name, hex)| (name, unhex(hex))).collect())
    }

    #[track_caller]
    fn check(&self, name: &str, ours: impl AsRef<[u8]>) {
        assert_eq!(ours.as_ref(), self.0[name], "{name}");
    }

    /// Encodes as JS does, and decodes what JS made.
    #[track_caller]
    fn check_both<T: PartialEq + std::fmt::Debug, E: std::fmt::Debug>(
        &self,
        name: &str,
        value: &T,
        encode: impl FnOnce(&T) -> Bytes,
        decode: impl FnOnce(Bytes) -> Result<T, E>,
    ) {
        self.check(name, encode(value));
        assert_eq!(decode(self.0[name].clone().into()).unwrap(), *value, "{name}");
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    hex.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn written(write: impl FnOnce(&mut Writer)) -> Bytes {
    let mut out = Writer::new();
    write(&mut out);
    out.finish()
}

#[test]
fn keys_are_those_of_js() {
    let js = Answers::load();
    js.check("key-head", keys::store_head());
    js.check("key-core", keys::core_by_discovery_key(&[7; 32]));
    js.check("key-coreStart", keys::cores_after(None));
    js.check("key-coreEnd", keys::cores_end());
    js.check("key-alias", keys::core_by_alias(&[9; 32], "a\0b\u{e9}"));
    js.check("key-aliasEmpty", keys::core_by_alias(&[0; 32], ""));
    js.check("key-aliasStart", keys::aliases_start(None));
    js.check("key-aliasStartNs", keys::aliases_start(Some(&[9; 32])));
    js.check("key-aliasEnd", keys::aliases_end(None));
    js.check("key-aliasEndNs", keys::aliases_end(Some(&[9; 32])));
    js.check("key-auth", keys::auth(300));
    js.check("key-sessions", keys::sessions(300));
    js.check("key-group", keys::group(70000));
    js.check("key-groupEntry", keys::group_entry(300, 1_700_000_000_000, 70000));
    js.check("key-dhead", keys::head(5));
    js.check("key-dependency", keys::dependency(5));
    js.check("key-hints", keys::hints(5));
    js.check("key-userData", keys::user_data(5, "name"));
    js.check("key-userDataEnd", keys::user_data_range(5).1);
    js.check("key-local", keys::local(5, &[0, 1, 0xff]));
    js.check("key-bitfield", keys::bitfield_page(5, 300));
    js.check("key-blockEnd", keys::block(5, keys::END));
    js.check("key-treeEnd", keys::tree_node(5, keys::END));
    js.check("key-bitfieldEnd", keys::bitfield_page(5, keys::END));
    js.check("key-data", keys::data_range(251).0);
    js.check("key-data1", keys::data_range(251).1);
    for number in [0, 1, 0xfb, 0xfc, 0xff, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, (1 << 53) - 1] {
        js.check(&format!("block-{number}"), keys::block(number, number));
        js.check(&format!("tree-{number}"), keys::tree_node(number, number));
        assert_eq!(keys::index_of(&keys::block(number, number)).unwrap(), number);
    }
}

#[test]
fn store_records_are_those_of_js() {
    let js = Answers::load();
    let head = StoreHead { version: 2, ..StoreHead::default() };
    js.check_both("store-head-empty", &head, StoreHead::encode, StoreHead::decode);
    let head = StoreHead {
        version: 2,
        cores: 300,
        datas: 70000,
        groups: 3,
        seed: Some([1; 32]),
        default_discovery_key: Some([2; 32].into()),
    };
    js.check_both("store-head", &head, StoreHead::encode, StoreHead::decode);
    let head = StoreHead { version: 2, cores: 1, datas: 2, seed: Some([1; 32]), ..StoreHead::default() };
    js.check_both("store-head-seed", &head, StoreHead::encode, StoreHead::decode);
    let pointers = CorePointers { version: 2, core: 4, data: 500, alias: None };
    js.check_both("core", &pointers, CorePointers::encode, CorePointers::decode);
    let alias = Alias { namespace: [8; 32], name: "abc".into() };
    let pointers = CorePointers { version: 2, core: 4, data: 5, alias: Some(alias) };
    js.check_both("core-alias", &pointers, CorePointers::encode, CorePointers::decode);
}

#[test]
fn a_store_head_of_version_1_is_understood() {
    let old = unhex(&format!("01070304{}{}", "01".repeat(32), "02".repeat(32)));
    let head = StoreHead {
        version: 1,
        cores: 3,
        datas: 4,
        groups: 0,
        seed: Some([1; 32]),
        default_discovery_key: Some([2; 32].into()),
    };
    assert_eq!(StoreHead::decode(old.into()).unwrap(), head);
    assert_eq!(StoreHead::decode(head.encode()).unwrap(), StoreHead { version: 2, ..head });
}

fn signer(byte: u8) -> Signer {
    Signer { signature: SignatureAlgorithm::Ed25519, namespace: [byte; 32], public_key: [byte + 1; 32] }
}

fn manifest() -> Manifest {
    Manifest {
        version: 1,
        hash: HashAlgorithm::Blake2b,
        allow_patch: false,
        quorum: 1,
        signers: vec![signer(3)],
        prologue: None,
        linked: None,
        user_data: None,
    }
}

#[test]
fn auth_records_are_those_of_js() {
    let js = Answers::load();
    let bare = Auth {
        key: [1; 32].into(),
        discovery_key: [2; 32].into(),
        manifest: None,
        key_pair: None,
        encryption_key: None,
    };
    js.check_both("auth-bare", &bare, Auth::encode, Auth::decode);
    let auth = Auth {
        manifest: Some(manifest()),
        key_pair: Some(StoredKeyPair { public_key: [4; 32], secret_key: Some(Zeroizing::new([5; 64])) }),
        encryption_key: Some(Bytes::from_static(&[6; 32])),
        ..bare.clone()
    };
    js.check_both("auth", &auth, Auth::encode, Auth::decode);
    let several = Manifest {
        version: 0,
        signers: vec![signer(3), signer(5)],
        quorum: 2,
        allow_patch: true,
        ..manifest()
    };
    let auth = Auth {
        manifest: Some(several),
        key_pair: Some(StoredKeyPair { public_key: [4; 32], secret_key: None }),
        ..bare.clone()
    };
    js.check_both("auth-public", &auth, Auth::encode, Auth::decode);
    let prologue = Some(Prologue { hash: [7; 32], length: 5 });
    let fixed = Manifest { version: 0, signers: Vec::new(), quorum: 0, prologue, ..manifest() };
    let auth = Auth { manifest: Some(fixed), ..bare.clone() };
    js.check_both("auth-static", &auth, Auth::encode, Auth::decode);
    let rich = Manifest {
        version: 2,
        prologue,
        linked: Some(vec![[8; 32].into(), [9; 32].into()]),
        user_data: Some(Bytes::from_static(b"hello")),
        ..manifest()
    };
    let auth = Auth { manifest: Some(rich), ..bare };
    js.check_both("auth-v2", &auth, Auth::encode, Auth::decode);
}

#[test]
fn core_records_are_those_of_js() {
    let js = Answers::load();
    let head = Head {
        fork: 1,
        length: 300,
        root_hash: [1; 32],
        signature: Some(Bytes::from_static(&[2; 64])),
        timestamp: 1_700_000_000_000,
    };
    let encode = |head: &Head| written(|out| head.encode(out));
    js.check_both("head", &head, encode, Head::decode);
    // Schema version 1 has no flags and no timestamp.
    let mut old = js.0["head"].clone();
    old.truncate(old.len() - 9);
    assert_eq!(Head::decode(old.into()).unwrap(), Head { timestamp: 0, ..head });
    let unsigned = Head { fork: 0, length: 1, root_hash: [1; 32], signature: None, timestamp: 0 };
    js.check_both("head-unsigned", &unsigned, encode, Head::decode);

    let encode = |hints: &Hints| written(|out| hints.encode(out));
    js.check_both("hints-none", &Hints::default(), encode, Hints::decode);
    let hints = Hints { contiguous_length: 5, remote_contiguous_length: 300, recovering: 1_700_000_000_000 };
    js.check_both("hints", &hints, encode, Hints::decode);
    let hints = Hints { remote_contiguous_length: 7, ..Hints::default() };
    js.check_both("hints-remote", &hints, encode, Hints::decode);

    let node = Node { index: 300, size: 70000, hash: [3; 32] };
    js.check_both("tree-node", &node, |node| written(|out| encode_node(node, out)), decode_node);
    let dependency = Dependency { data: 3, length: 1000 };
    js.check_both("dependency", &dependency, Dependency::encode, Dependency::decode);

    let sessions = [("a", 1), ("batch", 300)].map(|(name, data)| NamedSession { name: name.into(), data });
    assert_eq!(decode_sessions(js.0["sessions"].clone().into()).unwrap(), sessions);
    let group = Group { key: Some([3; 32]), pointer: 9 };
    assert_eq!(Group::decode(js.0["group"].clone().into()).unwrap(), group);
}
