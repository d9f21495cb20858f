//! Keys, discovery keys, tree hashes and signatures of npm `hypercore` 11.37.1 and ours, byte for byte.

use bytes::Bytes;
use corestore::{Corestore, Query};
use hypercore::multisig::{self, PartialSignature};
use hypercore::{AppendOptions, DiscoveryKey, Hypercore, Key, KeyPair, Manifest, Prologue, Signer};
use interop::{Node, Peer, Value, hex, json, key, manifest_json, pattern};

const SEEDS: [[u8; 32]; 3] = [[0x11; 32], [0x22; 32], [0x33; 32]];

fn signers(count: usize) -> Vec<Signer> {
    SEEDS[..count].iter().map(|seed| Signer::new(KeyPair::from_seed(seed).public())).collect()
}

/// Every kind of manifest with one signer, and what it is called in a failure.
fn manifests_of_one_signer() -> Vec<(&'static str, Manifest)> {
    let one = || Manifest::with_signers(signers(1));
    let elsewhere = Signer { namespace: [9; 32], ..signers(1)[0] };
    vec![
        ("version 1", one()),
        ("version 0", Manifest { version: 0, ..one() }),
        ("version 0, namespace", Manifest { version: 0, ..Manifest::with_signers(vec![elsewhere]) }),
        ("version 1, namespace", Manifest::with_signers(vec![elsewhere])),
        ("version 1, patches", Manifest { allow_patch: true, ..one() }),
        ("version 2", Manifest { version: 2, ..one() }),
        (
            "version 2, linked and user data",
            Manifest {
                version: 2,
                linked: Some(vec![Key::from([5; 32]), Key::from([6; 32])]),
                user_data: Some(Bytes::from_static(b"anything")),
                ..one()
            },
        ),
    ]
}

/// Blocks `start..end` of every size from none on.
fn blocks(start: u64, end: u64) -> Vec<Bytes> {
    (start..end).map(|index| pattern::block(index, (index as usize * 37) % 300, 0).into()).collect()
}

async fn append_to(peer: &Peer, label: &str, blocks: &[Bytes]) {
    let blocks: Vec<String> = blocks.iter().map(hex).collect();
    peer.ask("append", json!({ "core": label, "blocks": blocks })).await;
}

async fn compare(peer: &Peer, label: &str, core: &Hypercore) {
    let theirs = peer.ask("info", json!({ "core": label })).await;
    assert_eq!(theirs["key"], core.key().to_hex(), "{label}");
    assert_eq!(theirs["discoveryKey"], core.discovery_key().to_hex(), "{label}");
    assert_eq!(theirs["id"], core.key().to_z32(), "{label}");
    assert_eq!(theirs["manifest"], core.manifest().as_ref().map_or(Value::Null, manifest_json), "{label}");
    assert_eq!(theirs["length"], core.length(), "{label}");
    assert_eq!(theirs["byteLength"], core.byte_length(), "{label}");
    assert_eq!(theirs["fork"], core.fork(), "{label}");
    if core.length() > 0 {
        assert_eq!(theirs["treeHash"], hex(core.tree_hash()), "{label}");
        assert_eq!(theirs["signature"], json!(signature(core).map(hex)), "{label}");
        let hashes: Vec<String> =
            (1..=core.length()).map(|length| hex(core.lock().core().tree_hash_at(length).unwrap())).collect();
        assert_eq!(peer.ask("treeHashes", json!({ "core": label })).await, json!(hashes), "{label}");
    }
}

fn signature(core: &Hypercore) -> Option<Bytes> {
    core.lock().core().head().signature.clone()
}

/// The same appends and truncations on both sides, compared after each.
async fn same_life(peer: &Peer, label: &str, core: &Hypercore) {
    compare(peer, label, core).await;
    for (start, end) in [(0, 1), (1, 2), (2, 7), (7, 8), (8, 40)] {
        append_to(peer, label, &blocks(start, end)).await;
        core.append_batch(blocks(start, end)).unwrap();
        compare(peer, label, core).await;
    }
    for length in [33, 8, 3] {
        peer.ask("truncate", json!({ "core": label, "length": length })).await;
        core.truncate(length).unwrap();
        compare(peer, label, core).await;
        append_to(peer, label, &blocks(100, 103)).await;
        core.append_batch(blocks(100, 103)).unwrap();
        compare(peer, label, core).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_one_signer_are_the_same_bytes() {
    let Some(node) = Node::find().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let peer = node.peer(folder.path().join("store")).await;
    for (label, manifest) in manifests_of_one_signer() {
        let theirs = json!({ "core": label, "manifest": manifest_json(&manifest), "seed": hex(SEEDS[0]) });
        peer.ask("open", theirs).await;
        let core = Hypercore::builder().manifest(manifest).seed(SEEDS[0]).memory().unwrap();
        same_life(&peer, label, &core).await;
    }
    peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn default_and_compat_logs_are_the_same_bytes() {
    let Some(node) = Node::find().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let peer = node.peer(folder.path().join("store")).await;

    peer.ask("open", json!({ "core": "default", "seed": hex(SEEDS[0]) })).await;
    let core = Hypercore::builder().seed(SEEDS[0]).memory().unwrap();
    same_life(&peer, "default", &core).await;

    peer.ask("open", json!({ "core": "compat", "seed": hex(SEEDS[1]), "compat": true })).await;
    let core = Hypercore::builder().seed(SEEDS[1]).compat(true).memory().unwrap();
    same_life(&peer, "compat", &core).await;
    peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_static_log_has_the_same_key() {
    let Some(node) = Node::find().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let peer = node.peer(folder.path().join("store")).await;
    peer.ask("open", json!({ "core": "draft", "seed": hex(SEEDS[0]) })).await;
    append_to(&peer, "draft", &blocks(0, 11)).await;
    let named = peer.ask("open", json!({ "core": "named", "name": "named" })).await;
    append_to(&peer, "named", &blocks(0, 3)).await;
    let named = named["discoveryKey"].as_str().unwrap().parse::<DiscoveryKey>().unwrap();
    let fixed_name = key(&peer.ask("staticify", json!({ "core": "named", "as": "static, named" })).await);
    let fixed = peer.ask("staticify", json!({ "core": "draft", "as": "static" })).await;

    let draft = Hypercore::builder().seed(SEEDS[0]).memory().unwrap();
    draft.append_batch(blocks(0, 11)).unwrap();
    let prologue = Prologue { hash: draft.tree_hash(), length: draft.length() };
    assert_eq!(fixed["key"], Manifest::with_prologue(prologue).key().to_hex());
    peer.close().await;

    // In npm's store two discovery keys lead to the same records now: they have one owner.
    let store = Corestore::open(folder.path().join("store")).unwrap();
    for first in [Query::name("named"), Query::discovery_key(named), Query::key(fixed_name)] {
        let first = store.get(first).unwrap();
        let second = store.get(Query::name("named")).unwrap();
        let third = store.get(Query::key(fixed_name)).unwrap();
        assert_eq!(first.session_count(), 3);
        assert_eq!([first.key(), second.key(), third.key()], [fixed_name; 3]);
        assert_eq!(first.try_get(2).unwrap().as_ref(), blocks(0, 3).last());
    }
}

/// Signs the first `length` blocks of `draft` for a log with this manifest, as its signer `index` that has seen `seen`.
fn partial(draft: &Hypercore, manifest: &Manifest, index: usize, length: u64, seen: u64) -> PartialSignature {
    let guard = draft.lock();
    let core = guard.core();
    let context = match manifest.version {
        0 => manifest.signers[index].namespace,
        _ => *manifest.key().as_bytes(),
    };
    let hash = core.tree_hash_at(seen).unwrap();
    let signable = hypercore::crypto::tree_signable(&context, &hash, seen, 0);
    let signature = Bytes::copy_from_slice(&KeyPair::from_seed(&SEEDS[index]).sign(&signable));
    multisig::partial_signature(core.head(), core.store(), index as u64, length, seen, &signature)
        .unwrap()
        .expect("the draft is long enough")
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_of_several_signers_are_the_same_bytes() {
    let Some(node) = Node::find().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let peer = node.peer(folder.path().join("store")).await;
    peer.ask("open", json!({ "core": "draft", "seed": hex(SEEDS[0]) })).await;
    append_to(&peer, "draft", &blocks(0, 23)).await;
    let draft = Hypercore::builder().seed(SEEDS[0]).memory().unwrap();
    draft.append_batch(blocks(0, 23)).unwrap();

    for version in [0, 1, 2] {
        // Who signs, and up to which length, for a log of 9 blocks.
        for (case, signed) in
            [vec![(0, 9), (1, 9)], vec![(2, 9), (0, 9)], vec![(1, 14), (2, 9)], vec![(0, 23), (2, 10)]]
                .into_iter()
                .enumerate()
        {
            let allow_patch = signed.iter().any(|&(_, seen)| seen != 9);
            // A namespace of its own, so that each case is another log.
            let signers =
                signers(3).into_iter().map(|signer| Signer { namespace: [case as u8; 32], ..signer });
            let manifest = Manifest { version, allow_patch, ..Manifest::with_signers(signers.collect()) };
            let label = format!("version {version}, case {case}");
            peer.ask("open", json!({ "core": label, "manifest": manifest_json(&manifest) })).await;

            let parts: Vec<_> =
                signed.iter().map(|&(index, seen)| partial(&draft, &manifest, index, 9, seen)).collect();
            let ours = if version == 0 { multisig::assemble_v0(&parts) } else { multisig::assemble(&parts) };
            let by: Vec<Value> = signed
                .iter()
                .map(|&(index, seen)| json!({ "index": index, "seed": hex(SEEDS[index]), "length": seen }))
                .collect();
            let cosign = json!({ "core": label, "draft": "draft", "length": 9, "signers": by });
            assert_eq!(peer.ask("cosign", cosign).await["signature"], hex(&ours), "{label}");

            // Each takes it: theirs refuses an append whose signature is wrong, and so must ours.
            let theirs: Vec<String> = blocks(0, 9).iter().map(hex).collect();
            peer.ask("append", json!({ "core": label, "blocks": theirs, "signature": hex(&ours) })).await;
            let core = Hypercore::builder().manifest(manifest).memory().unwrap();
            let options = AppendOptions { signature: Some(ours), ..AppendOptions::default() };
            core.append_with(&blocks(0, 9), &options).unwrap();
            compare(&peer, &label, &core).await;
        }
    }

    // With the keys held, signing needs no hand.
    let manifest = Manifest::with_signers(signers(3));
    peer.ask("open", json!({ "core": "held", "manifest": manifest_json(&manifest) })).await;
    let by = [0, 2].map(|index| json!({ "index": index, "seed": hex(SEEDS[index]) }));
    let cosign = json!({ "core": "held", "draft": "draft", "signers": by });
    let theirs = peer.ask("cosign", cosign).await["signature"].clone();
    let core = Hypercore::builder()
        .manifest(manifest)
        .signer(KeyPair::from_seed(&SEEDS[0]))
        .signer(KeyPair::from_seed(&SEEDS[2]))
        .memory()
        .unwrap();
    core.append_batch(blocks(0, 23)).unwrap();
    assert_eq!(theirs, json!(signature(&core).map(hex)));
    peer.close().await;
}

/// Names and namespaces yield the same logs from the same primary key.
#[tokio::test(flavor = "multi_thread")]
async fn names_mean_the_same_logs() {
    let Some(node) = Node::find().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let store = Corestore::memory();
    let args = [folder.path().join("store").to_str().unwrap().to_owned(), hex(store.primary_key())];
    let peer = node.run("js/peer.js", args).await;
    let namespaces = [vec![], vec!["a"], vec!["a", "b"], vec!["ab"], vec!["ä"]];
    for (at, namespace) in namespaces.into_iter().enumerate() {
        let label = format!("core {at}");
        let opened = peer.ask("open", json!({ "core": label, "name": "name", "namespace": namespace })).await;
        let ours = namespace.iter().fold(store.clone(), |store, name| store.namespace(name));
        assert_eq!(key(&opened), ours.get(Query::name("name")).unwrap().key(), "{namespace:?}");
    }
    peer.close().await;
}
