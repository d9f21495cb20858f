//! Proofs against those of npm `hypercore` 11.37.1: made equal, believed alike, and the common start of two forks found
//! in the same steps.
//!
//! `tests/vectors/proofs.jsonl` was printed by the JavaScript package:
//!
//! ```text
//! cd interop/js && npm ci && node proofs.js 1 12 > ../../crates/hypercore/tests/vectors/proofs.jsonl
//! ```
//!
//! With the environment variable `HYPERCORE_PROOFS` naming another file of such lines (another seed, more of them), that
//! is compared as well.

use bytes::Bytes;
use hypercore::tree::{
    MemoryNodes, NodeSource, ProofErrorKind, Reorg, TreeBatch, TreeHead, prove, prove_many, verify,
};
use hypercore::{
    DataBlock, DataHash, DataSeek, DataUpgrade, Node, Prologue, Proof, ProofRequest, RequestBlock,
    RequestSeek, RequestUpgrade,
};
use serde_json::Value;

#[test]
fn proofs_are_those_of_javascript() {
    let mut made = 0;
    for case in cases("prove") {
        let mut writer = Log::new(&case);
        writer.head.prologue = prologue(&case["prologue"]);
        writer.forget(&case["missing"]);
        let mut requests = Vec::new();
        let mut expected = Vec::new();
        for case in array(&case["cases"]) {
            let request = request(&case["request"]);
            let ours = prove(&writer.head, &writer.nodes, &request);
            match (&ours, &case["result"]) {
                // JavaScript loses the seek of a path right of the first root (the byte offset there comes out as NaN),
                // and answers as if it had not been asked.
                (_, theirs @ Value::Object(_)) if lost_seek(&request, theirs) => {
                    let request = ProofRequest { seek: None, ..request.clone() };
                    let without = prove(&writer.head, &writer.nodes, &request).unwrap();
                    assert_eq!(without, proof(theirs), "{case}");
                }
                (Ok(ours), theirs @ Value::Object(_)) => {
                    assert_eq!(*ours, proof(theirs), "{case}");
                    made += 1;
                }
                (Err(_), Value::Null) => {}
                (ours, _) => panic!("we say {ours:?} to {case}"),
            }
            requests.push(request);
            expected.push(ours.ok());
        }
        let burst = prove_many(&writer.head, &writer.nodes, &requests);
        assert_eq!(burst.into_iter().map(Result::ok).collect::<Vec<_>>(), expected);
    }
    assert!(made > 50, "only {made} proofs were compared");
}

#[test]
fn proofs_are_believed_as_javascript_believes_them() {
    let (mut believed, mut denied) = (0, 0);
    for case in cases("verify") {
        let writer = Log::new(&case);
        let mut reader = writer.cut(number(&case["have"]));
        for index in array(&case["known"]).iter().map(number) {
            reader.nodes.insert(writer.nodes.node(index).unwrap());
        }
        for case in array(&case["cases"]) {
            let proof = proof(&case["proof"]);
            let mut batch = TreeBatch::from_head(&reader.head);
            let ours = verify(&batch, &reader.nodes, &proof);
            match (ours, &case["result"]) {
                (Ok(verified), theirs @ Value::Object(_)) => {
                    batch.accept(verified);
                    assert_eq!(batch.head().length, number(&theirs["length"]), "{case}");
                    assert_eq!(batch.head().byte_length, number(&theirs["byteLength"]), "{case}");
                    assert_eq!(batch.head().hash().as_slice(), bytes(text(&theirs["treeHash"])), "{case}");
                    assert_eq!(batch.upgraded(), theirs["upgraded"].as_bool().unwrap(), "{case}");
                    assert_eq!(batch.nodes().copied().collect::<Vec<_>>(), nodes(&theirs["nodes"]), "{case}");
                    believed += 1;
                }
                (Err(_), Value::Null) => denied += 1,
                // A node that is known already, with a size that is not its own: JavaScript looks at the hash only.
                (Err(_), Value::Object(_)) if case["spoiled"] == "size" => denied += 1,
                // An upgrade to a length that we are beyond does not spoil the block that comes with it.
                (Ok(verified), Value::Null)
                    if verified.upgrade().is_none()
                        && proof
                            .upgrade
                            .as_ref()
                            .is_some_and(|upgrade| upgrade.start != reader.head.length) => {}
                (ours, _) => panic!("we say {ours:?} to {case}"),
            }
        }
    }
    assert!(believed > 50, "only {believed} proofs were believed");
    assert!(denied > 20, "only {denied} proofs were denied");
}

#[test]
fn honest_proofs_that_fail_are_never_blamed_on_the_peer() {
    for case in cases("verify") {
        let writer = Log::new(&case);
        let reader = writer.cut(number(&case["have"]));
        for case in array(&case["cases"]).iter().filter(|case| case["spoiled"].is_null()) {
            let proof = proof(&case["proof"]);
            if let Err(err) = verify(&TreeBatch::from_head(&reader.head), &reader.nodes, &proof) {
                assert_eq!(err.kind(), ProofErrorKind::Stale, "{err} for {case}");
            }
        }
    }
}

#[test]
fn the_common_start_of_forks_is_found_as_javascript_finds_it() {
    let mut steps = 0;
    for case in cases("reorg") {
        let remote = Log::new(&case);
        let mut local = Log::grow(array(&case["local"]), number(&case["localFork"]));
        local.forget(&case["missing"]);

        let upgrade = Some(RequestUpgrade { start: 0, length: remote.head.length });
        let begin = ProofRequest { upgrade, ..ProofRequest::default() };
        let begin = prove(&remote.head, &remote.nodes, &begin).unwrap();
        let mut reorg = Reorg::begin(&local.head, &local.nodes, &begin).unwrap();
        compare(&reorg, &case["begin"], &local);
        for step in array(&case["steps"]) {
            reorg.update(&local.nodes, &proof(&step["proof"])).unwrap();
            compare(&reorg, step, &local);
            steps += 1;
        }
        assert_eq!(reorg.head().hash(), remote.head.hash());
    }
    assert!(steps > 10, "only {steps} steps were compared");

    fn compare(reorg: &Reorg, theirs: &Value, local: &Log) {
        let want = reorg.want().map(|want| (want.start, want.end, want.nodes));
        let want_theirs = match &theirs["want"] {
            Value::Null => None,
            want => Some((number(&want["start"]), number(&want["end"]), number(&want["nodes"]))),
        };
        assert_eq!(want, want_theirs, "{theirs}");
        let ancestors = number(&theirs["ancestors"]).min(local.head.length);
        assert_eq!(reorg.ancestors(), ancestors, "{theirs}");
    }
}

fn lost_seek(request: &ProofRequest, theirs: &Value) -> bool {
    request.seek.is_some() && (request.block.is_some() || request.hash.is_some()) && theirs["seek"].is_null()
}

/// A log as the vectors describe it.
struct Log {
    head: TreeHead,
    nodes: MemoryNodes,
}

impl Log {
    fn new(case: &Value) -> Self {
        let mut log = Self::grow(array(&case["blocks"]), number(&case["fork"]));
        log.head.signature = Some(bytes(text(&case["signature"])));
        assert_eq!(log.head.hash().as_slice(), bytes(text(&case["treeHash"])), "the tree hash differs");
        log
    }

    fn grow(blocks: &[Value], fork: u64) -> Self {
        let blocks: Vec<Bytes> = blocks
            .iter()
            .map(|block| {
                let word = text(&block[0]).bytes().cycle();
                word.take(usize::try_from(number(&block[1])).unwrap()).collect()
            })
            .collect();
        let mut nodes = MemoryNodes::new();
        let mut batch = TreeBatch::from_head(&TreeHead { fork, ..TreeHead::default() });
        batch.append(&blocks).unwrap();
        nodes.apply(&batch);
        Self { head: batch.into_head(), nodes }
    }

    fn cut(&self, length: u64) -> Self {
        let head = TreeHead::load(&self.nodes, self.head.fork, length, None, None).unwrap();
        let mut nodes = MemoryNodes::new();
        nodes.insert(head.roots.iter().copied());
        Self { head, nodes }
    }

    fn forget(&mut self, indexes: &Value) {
        for index in array(indexes) {
            self.nodes.remove(number(index));
        }
    }
}

fn cases(kind: &str) -> Vec<Value> {
    let mut lines = include_str!("vectors/proofs.jsonl").to_owned();
    if let Some(path) = std::env::var_os("HYPERCORE_PROOFS") {
        lines.push_str(&std::fs::read_to_string(path).unwrap());
    }
    let cases = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    cases.filter(|case| case["kind"] == kind).collect()
}

fn request(request: &Value) -> ProofRequest {
    let block = |block: &Value| {
        block
            .is_object()
            .then(|| RequestBlock { index: number(&block["index"]), nodes: number(&block["nodes"]) })
    };
    let (seek, upgrade) = (&request["seek"], &request["upgrade"]);
    ProofRequest {
        block: block(&request["block"]),
        hash: block(&request["hash"]),
        seek: seek
            .is_object()
            .then(|| RequestSeek { bytes: number(&seek["bytes"]), padding: number(&seek["padding"]) }),
        upgrade: upgrade
            .is_object()
            .then(|| RequestUpgrade { start: number(&upgrade["start"]), length: number(&upgrade["length"]) }),
        manifest: false,
    }
}

fn proof(proof: &Value) -> Proof {
    let (block, hash, seek, upgrade) = (&proof["block"], &proof["hash"], &proof["seek"], &proof["upgrade"]);
    Proof {
        fork: number(&proof["fork"]),
        block: block.is_object().then(|| {
            let index = number(&block["index"]);
            // Proofs as they are made leave the value to be filled in.
            let value = block["value"].as_str().map(bytes).unwrap_or_default();
            DataBlock { index, value, nodes: nodes(&block["nodes"]) }
        }),
        hash: hash
            .is_object()
            .then(|| DataHash { index: number(&hash["index"]), nodes: nodes(&hash["nodes"]) }),
        seek: seek
            .is_object()
            .then(|| DataSeek { bytes: number(&seek["bytes"]), nodes: nodes(&seek["nodes"]) }),
        upgrade: upgrade.is_object().then(|| DataUpgrade {
            start: number(&upgrade["start"]),
            length: number(&upgrade["length"]),
            nodes: nodes(&upgrade["nodes"]),
            additional_nodes: nodes(&upgrade["additionalNodes"]),
            signature: upgrade["signature"].as_str().map(bytes),
        }),
        manifest: None,
    }
}

fn nodes(nodes: &Value) -> Vec<Node> {
    let node = |node: &Value| Node {
        index: number(&node[0]),
        size: number(&node[1]),
        hash: bytes(text(&node[2])).as_ref().try_into().unwrap(),
    };
    array(nodes).iter().map(node).collect()
}

fn prologue(prologue: &Value) -> Option<Prologue> {
    prologue.is_object().then(|| Prologue {
        hash: bytes(text(&prologue["hash"])).as_ref().try_into().unwrap(),
        length: number(&prologue["length"]),
    })
}

fn array(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap()
}

fn bytes(hex: &str) -> Bytes {
    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    pairs.iter().map(|&[high, low]| digit(high) << 4 | digit(low)).collect()
}
