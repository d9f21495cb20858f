//! Every kind of manifest: the reader knows only the key, learns the manifest, and checks the signatures.

use bytes::Bytes;
use hypercore::multisig::{self, PartialSignature};
use hypercore::{AppendOptions, Hypercore, Key, KeyPair, Manifest, Prologue, Signer};
use interop::{Value, hex, json, key, pattern};

use crate::pair::Pair;
use crate::side::{Make, Side};

const SEEDS: [[u8; 32]; 3] = [[0x11; 32], [0x22; 32], [0x33; 32]];
const SIZE: usize = 60;

fn signers(count: usize, namespace: u8) -> Vec<Signer> {
    let signers = SEEDS[..count].iter().map(|seed| Signer::new(KeyPair::from_seed(seed).public()));
    // A namespace of its own makes each case another log.
    signers.map(|signer| Signer { namespace: [namespace; 32], ..signer }).collect()
}

async fn one_signer(pair: &Pair) {
    let one = |namespace| Manifest::with_signers(signers(1, namespace));
    let linked = Some(vec![Key::from([5; 32]), Key::from([6; 32])]);
    let user_data = Some(Bytes::from(vec![7; 5_000]));
    let draft = draft(23);
    let prologue = Prologue { hash: tree_hash(&draft, 4), length: 4 };
    let manifests = [
        ("version 1", Manifest::with_signers(vec![Signer::new(KeyPair::from_seed(&SEEDS[0]).public())])),
        ("version 1, namespace", one(1)),
        ("version 1, patches", Manifest { allow_patch: true, ..one(2) }),
        ("version 1, prologue", Manifest { prologue: Some(prologue), ..one(3) }),
        ("version 0", Manifest { version: 0, ..one(4) }),
        ("version 2", Manifest { version: 2, ..one(5) }),
        ("version 2, all", Manifest { version: 2, linked: linked.clone(), user_data, ..one(6) }),
        ("version 3", Manifest { version: 3, linked, ..one(7) }),
    ];
    let makes =
        manifests.into_iter().map(|(label, manifest)| (label, Make::Manifest(manifest, vec![SEEDS[0]])));
    let makes: Vec<_> = makes.chain([("compat", Make::Compat), ("default", Make::Named)]).collect();
    for (label, make) in &makes {
        let key = pair.writer.create(label, make).await;
        if let Make::Manifest(manifest, _) = make {
            assert_eq!(key, manifest.key());
        }
        pair.writer.generate(label, 20, SIZE, 0).await;
        pair.reader.open(label, key).await;
    }
    pair.connect().await;
    for (label, _) in &makes {
        pair.reader.download(label, 0, 20, false).await;
        pair.compare(label).await;
        pair.writer.truncate(label, 9).await;
        pair.writer.generate(label, 4, SIZE, 1).await;
        pair.reader.wait_fork(label, 1).await;
        pair.reader.wait_length(label, 13).await;
        pair.reader.download(label, 0, 13, false).await;
        pair.compare(label).await;
    }
}

/// A local core with the blocks that several signers sign.
fn draft(length: u64) -> Hypercore {
    let draft = Hypercore::builder().seed(SEEDS[0]).memory().unwrap();
    draft.append_batch((0..length).map(|index| pattern::block(index, SIZE, 0))).unwrap();
    draft
}

fn tree_hash(core: &Hypercore, length: u64) -> [u8; 32] {
    core.lock().core().tree_hash_at(length).unwrap()
}

/// Signs the first `length` blocks of `draft` as signer `index` that has seen `seen` blocks.
fn partial(draft: &Hypercore, manifest: &Manifest, index: usize, length: u64, seen: u64) -> PartialSignature {
    let hash = tree_hash(draft, seen);
    let guard = draft.lock();
    let core = guard.core();
    let context = match manifest.version {
        0 => manifest.signers[index].namespace,
        _ => *manifest.key().as_bytes(),
    };
    let signable = hypercore::crypto::tree_signable(&context, &hash, seen, 0);
    let signature = Bytes::copy_from_slice(&KeyPair::from_seed(&SEEDS[index]).sign(&signable));
    multisig::partial_signature(core.head(), core.store(), index as u64, length, seen, &signature)
        .unwrap()
        .expect("the draft is long enough")
}

/// Makes a core that is `start..length` of the draft longer, signed by these signers at the lengths that each has seen.
async fn append_signed(side: &Side, label: &str, manifest: &Manifest, to: (u64, u64), by: &[(usize, u64)]) {
    let (start, length) = to;
    let blocks: Vec<Bytes> = (start..length).map(|index| pattern::block(index, SIZE, 0).into()).collect();
    match side {
        Side::Rust(side) => {
            let draft = draft(23);
            let parts: Vec<_> =
                by.iter().map(|&(index, seen)| partial(&draft, manifest, index, length, seen)).collect();
            let signature = if manifest.version == 0 {
                multisig::assemble_v0(&parts)
            } else {
                multisig::assemble(&parts)
            };
            let options = AppendOptions { signature: Some(signature), ..AppendOptions::default() };
            side.core(label).append_with(&blocks, &options).unwrap();
        }
        Side::Npm(peer) => {
            let by: Vec<Value> = by
                .iter()
                .map(|&(index, seen)| json!({ "index": index, "seed": hex(SEEDS[index]), "length": seen }))
                .collect();
            let cosign = json!({ "core": label, "draft": "draft", "length": length, "signers": by });
            let signature = peer.ask("cosign", cosign).await["signature"].clone();
            let blocks: Vec<String> = blocks.iter().map(hex).collect();
            peer.ask("append", json!({ "core": label, "blocks": blocks, "signature": signature })).await;
        }
    }
}

async fn several_signers(pair: &Pair) {
    if let Side::Npm(peer) = &pair.writer {
        peer.ask("open", json!({ "core": "draft", "seed": hex(SEEDS[0]) })).await;
        peer.ask("generate", json!({ "core": "draft", "count": 23, "size": SIZE })).await;
    }
    let mut labels = Vec::new();
    for version in [0, 1, 2] {
        // Who signs 9 blocks, and then 17; patches where someone has seen more.
        for (case, quorum, first, then) in [
            (1, 2, vec![(0, 9), (1, 9)], vec![(1, 17), (2, 17)]),
            (2, 2, vec![(1, 14), (2, 9)], vec![(0, 17), (2, 23)]),
            (3, 3, vec![(0, 23), (1, 10), (2, 16)], vec![(0, 23), (1, 17), (2, 18)]),
            (4, 1, vec![(2, 9)], vec![(0, 17)]),
        ] {
            let allow_patch = first.iter().any(|&(_, seen)| seen != 9);
            let manifest =
                Manifest { version, allow_patch, quorum, ..Manifest::with_signers(signers(3, case)) };
            let label = format!("version {version}, case {case}");
            let key = pair.writer.create(&label, &Make::Manifest(manifest.clone(), Vec::new())).await;
            append_signed(&pair.writer, &label, &manifest, (0, 9), &first).await;
            pair.reader.open(&label, key).await;
            labels.push((label, manifest, then));
        }
    }
    pair.connect().await;
    for (label, manifest, then) in &labels {
        pair.reader.wait_length(label, 9).await;
        append_signed(&pair.writer, label, manifest, (9, 17), then).await;
        pair.reader.wait_length(label, 17).await;
        pair.reader.download(label, 0, 17, false).await;
        pair.compare(label).await;
    }
}

async fn a_static_core(pair: &Pair) {
    let fixed = Manifest::with_prologue(Prologue { hash: tree_hash(&draft(11), 11), length: 11 });
    let key = match &pair.writer {
        Side::Rust(_) => {
            let key = pair.writer.create("static", &Make::Manifest(fixed.clone(), Vec::new())).await;
            pair.writer.generate("static", 11, SIZE, 0).await;
            key
        }
        Side::Npm(peer) => {
            peer.ask("open", json!({ "core": "draft", "seed": hex(SEEDS[0]) })).await;
            peer.ask("generate", json!({ "core": "draft", "count": 11, "size": SIZE })).await;
            key(&peer.ask("staticify", json!({ "core": "draft", "as": "static" })).await)
        }
    };
    assert_eq!(key, fixed.key());
    pair.reader.open("static", key).await;
    pair.connect().await;
    pair.reader.wait_length("static", 11).await;
    assert_eq!(pair.reader.get("static", 7).await, hex(pattern::block(7, SIZE, 0)));
    pair.reader.download("static", 0, 11, false).await;
    pair.compare("static").await;
}

matrix!(one_signer, several_signers, a_static_core);
