//! Hashes, names, manifests and signatures against those of npm `hypercore` 11.37.1 and libsodium.
//!
//! The files in `tests/vectors` were printed by the JavaScript packages; the head of each script in `interop/js/vectors`
//! says how.

use std::collections::HashSet;

use bytes::Bytes;
use hypercore::manifest::Manifest;
use hypercore::multisig::{self, PartialSignature};
use hypercore::signing;
use hypercore::tree::{MemoryNodes, TreeBatch, TreeHead};
use hypercore::{Key, KeyPair, Node, Verifier, crypto};
use serde_json::Value;

#[test]
fn hashes_and_names_are_those_of_javascript() {
    let fill = |byte: u8| [byte; 32];
    let a = Node { index: 4, size: 10, hash: fill(1) };
    let b = Node { index: 6, size: 70000, hash: fill(2) };
    let mut kinds = HashSet::new();
    for line in include_str!("vectors/hashes.txt").lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let (expected, input) = words.split_last().unwrap();
        let ours = match input {
            ["leaf", length] => crypto::leaf_hash(&counting(length.parse().unwrap())).to_vec(),
            ["parent"] => {
                assert_eq!(crypto::parent_hash(&a, &b), crypto::parent_hash(&b, &a));
                crypto::parent_hash(&a, &b).to_vec()
            }
            ["tree", "0"] => crypto::tree_hash(&[]).to_vec(),
            ["tree", "1"] => crypto::tree_hash(&[a]).to_vec(),
            ["tree", _] => crypto::tree_hash(&[Node { index: 1, size: 5, hash: fill(3) }, a]).to_vec(),
            ["namespace", name, place] => {
                let namespaces = crypto::namespace::<6>(name.as_bytes());
                namespaces[place.parse::<usize>().unwrap()].to_vec()
            }
            ["discovery-key", key] => Key::from(array(key)).discovery_key().to_bytes().to_vec(),
            ["z32", key] => {
                let key = Key::from(array(key));
                assert_eq!(key.to_z32(), *expected);
                assert_eq!(expected.parse(), Ok(key));
                assert_eq!(key.to_hex().parse(), Ok(key));
                continue;
            }
            ["capability", initiator, key, handshake] => {
                crypto::replication_capability(*initiator == "true", &array(key), &hex(handshake)).to_vec()
            }
            ["signable", context, hash, length, fork] => {
                let (length, fork) = (length.parse().unwrap(), fork.parse().unwrap());
                crypto::tree_signable(&array(context), &array(hash), length, fork).to_vec()
            }
            ["signable-compat", hash, length, fork] => {
                let (length, fork) = (length.parse().unwrap(), fork.parse().unwrap());
                crypto::tree_signable_compat(&array(hash), length, fork).to_vec()
            }
            ["key-pair", seed, public] => {
                let pair = KeyPair::from_seed(&array(seed));
                assert_eq!(pair.public(), array(public));
                assert_eq!(KeyPair::from_secret_bytes(&hex(expected)).unwrap().public(), pair.public());
                pair.secret_bytes().to_vec()
            }
            ["sign", seed, message] => {
                let pair = KeyPair::from_seed(&array(seed));
                let signature = pair.sign(&hex(message));
                assert!(signing::verify(&hex(message), &signature, &pair.public()));
                signature.to_vec()
            }
            _ => panic!("what is {line}?"),
        };
        assert_eq!(ours, hex(expected), "{line}");
        kinds.insert(input[0]);
    }
    assert_eq!(kinds.len(), 10);
}

#[test]
fn blocks_hash_alike_alone_and_side_by_side() {
    let blocks: Vec<Vec<u8>> =
        [0, 1, 118, 119, 120, 128, 4095, 4096, 4097, 70000, 5, 70001, 0, 9999].map(counting).to_vec();
    let large: Vec<Vec<u8>> = [5000, 70_000, 4100, 9000, 9000, 70_001, 4097].map(counting).to_vec();
    for blocks in [blocks, large] {
        for run in (0..blocks.len()).flat_map(|start| (start..=blocks.len()).map(move |end| start..end)) {
            let alone: Vec<_> = blocks[run.clone()].iter().map(|block| crypto::leaf_hash(block)).collect();
            assert_eq!(crypto::leaf_hashes(&blocks[run]), alone);
        }
    }
}

#[test]
fn signatures_are_judged_as_libsodium_judges_them() {
    for line in include_str!("vectors/signatures.txt").lines() {
        let [_, key, signature, message, verdict] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("what is {line}?");
        };
        let signature = hex(signature).try_into().unwrap();
        let ours = signing::verify(&hex(message), &signature, &array(key));
        assert_eq!(ours.to_string(), verdict, "{line}");
    }
}

#[test]
fn manifests_have_the_keys_that_javascript_gives_them() {
    for case in manifests() {
        let manifest = Manifest::decode(bytes(&case["manifest"])).unwrap();
        manifest.validate().unwrap();
        assert_eq!(manifest.encode(), bytes(&case["manifest"]), "{case}");
        assert_eq!(manifest.key().to_hex(), text(&case["hash"]), "{case}");
        assert_eq!(manifest.key().to_hex(), text(&case["decodedHash"]), "{case}");
        let key: Key = text(&case["key"]).parse().unwrap();
        assert!(manifest.belongs_to(&key));
        assert_eq!(manifest.is_compat(&key), case["compat"] == true);
        if case["name"] == "v1 default" {
            assert_eq!(manifest, Manifest::default_signer(pair(1).public()));
        }
    }
}

#[test]
fn trees_are_signed_as_javascript_signs_them() {
    for case in manifests() {
        let verifier = verifier(&case);
        let head = tree(5, &verifier).0;
        for (place, expected) in (1..).zip(array_of(&case["signed"])) {
            assert_eq!(verifier.sign(&head, &pair(place)).unwrap(), bytes(expected), "{case}");
        }
    }
}

#[test]
fn signed_trees_are_judged_as_javascript_judges_them() {
    for case in manifests() {
        let verifier = verifier(&case);
        for verdict in array_of(&case["verdicts"]) {
            let mut head = tree(number(&verdict["length"]), &verifier).0;
            head.fork = number(&verdict["fork"]);
            head.signature = verdict["signature"].as_str().map(|signature| hex(signature).into());
            let expected = verdict["verdict"] == true;
            assert_eq!(verifier.verify(&head), expected, "{} of {}", verdict["what"], case["name"]);
        }
    }
}

#[test]
fn contributions_of_signers_are_put_together_as_javascript_does() {
    for case in manifests() {
        let verifier = verifier(&case);
        let (short, _) = tree(5, &verifier);
        let (long, nodes) = tree(8, &verifier);
        let part = |place: u8| {
            let signature = bare(&verifier.sign(&short, &pair(place)).unwrap());
            PartialSignature { signer: u64::from(place) - 1, signature, patch: 0, nodes: Vec::new() }
        };
        let ahead = |place: u8| {
            let signature = verifier.sign(&long, &pair(place)).unwrap();
            let signature = Bytes::copy_from_slice(&bare(&signature));
            let place = u64::from(place) - 1;
            multisig::partial_signature(&long, &nodes, place, 5, 8, &signature).unwrap().unwrap()
        };
        for verdict in array_of(&case["verdicts"]) {
            let inputs = match text(&verdict["what"]) {
                "one" => vec![part(1)],
                "one ahead" => vec![ahead(1)],
                "two" => vec![part(1), part(2)],
                "two, turned" => vec![part(2), part(1)],
                "two, one ahead" => vec![part(1), ahead(2)],
                "two, both ahead" => vec![ahead(1), ahead(2)],
                "three, two ahead" => vec![ahead(3), part(1), ahead(2)],
                _ => continue,
            };
            assert_eq!(verifier.assemble(&inputs), bytes(&verdict["signature"]), "{verdict}");
        }
    }
}

#[test]
fn held_keys_sign_what_the_manifest_demands() {
    for case in manifests() {
        let verifier = verifier(&case);
        let manifest = verifier.manifest().clone();
        let mut head = tree(6, &verifier).0;
        let pairs: Vec<KeyPair> = (1..=3).rev().map(pair).collect();
        match verifier.sign_with(&head, &pairs) {
            Ok(signature) => {
                head.signature = Some(signature);
                assert!(verifier.verify(&head), "{case}");
            }
            Err(_) => assert!(manifest.signers.is_empty() || manifest.quorum == 0, "{case}"),
        }
        if manifest.quorum > 1 {
            verifier.sign_with(&head, &pairs[..1]).unwrap_err();
        }
        verifier.sign_with(&head, &[pair(9)]).unwrap_err();
    }
}

fn verifier(case: &Value) -> Verifier {
    let manifest = Manifest::decode(bytes(&case["manifest"])).unwrap();
    Verifier::new(text(&case["key"]).parse().unwrap(), manifest)
}

fn tree(length: u64, verifier: &Verifier) -> (TreeHead, MemoryNodes) {
    let blocks: Vec<Bytes> = (0..length).map(|place| format!("block {place}").into()).collect();
    let mut batch = TreeBatch::from_head(&TreeHead::empty(verifier.prologue()));
    batch.append(&blocks).unwrap();
    let mut nodes = MemoryNodes::new();
    nodes.apply(&batch);
    (batch.into_head(), nodes)
}

fn bare(signature: &Bytes) -> [u8; 64] {
    match signature.as_ref().try_into() {
        Ok(bare) => bare,
        Err(_) => multisig::inflate(signature.clone()).unwrap().proofs[0].signature,
    }
}

fn pair(place: u8) -> KeyPair {
    KeyPair::from_seed(&[place; 32])
}

fn manifests() -> Vec<Value> {
    let lines = include_str!("vectors/manifests.jsonl").lines();
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn counting(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place * 7 + (place >> 8)) as u8).collect()
}

fn array_of(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn bytes(value: &Value) -> Bytes {
    hex(text(value)).into()
}

fn array(text: &str) -> [u8; 32] {
    hex(text).try_into().unwrap()
}

fn hex(text: &str) -> Vec<u8> {
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    pairs.iter().map(|&[high, low]| digit(high) << 4 | digit(low)).collect()
}
