//! Properties of the tree as a whole: what is proven is believed, what is bent is not, and nothing panics.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::flat_tree::Position;
use crate::proof::{
    DataBlock, DataHash, DataSeek, DataUpgrade, Node, Proof, ProofRequest, RequestBlock, RequestSeek,
    RequestUpgrade,
};

/// A log with all of its nodes.
#[derive(Debug, Clone)]
struct Log {
    blocks: Vec<Bytes>,
    head: TreeHead,
    nodes: MemoryNodes,
}

impl Log {
    fn new(sizes: &[u8]) -> Self {
        let mut log = Self { blocks: Vec::new(), head: TreeHead::default(), nodes: MemoryNodes::new() };
        log.append(sizes);
        log
    }

    fn append(&mut self, sizes: &[u8]) {
        let place = self.blocks.len() as u8;
        let blocks: Vec<Bytes> =
            sizes.iter().map(|size| Bytes::from(vec![*size ^ place; usize::from(*size)])).collect();
        let mut batch = TreeBatch::from_head(&self.head);
        batch.append(&blocks).unwrap();
        self.apply(batch);
        self.blocks.extend(blocks);
    }

    fn truncate(&mut self, length: usize) {
        let mut batch = TreeBatch::from_head(&self.head);
        batch.truncate(&self.nodes, length as u64, self.head.fork + 1).unwrap();
        self.apply(batch);
        self.blocks.truncate(length);
    }

    fn apply(&mut self, mut batch: TreeBatch) {
        batch.set_signature(Some(Bytes::from_static(b"signed")));
        self.nodes.apply(&batch);
        self.head = batch.into_head();
    }

    /// The same log, `length` blocks long, of which only the roots are known.
    fn sparse(&self, length: u64) -> Self {
        let head = TreeHead::load(&self.nodes, self.head.fork, length, None, None).unwrap();
        let mut nodes = MemoryNodes::new();
        nodes.insert(head.roots.iter().copied());
        Self { blocks: Vec::new(), head, nodes }
    }

    fn prove(&self, request: &ProofRequest) -> Result<Proof, ProofError> {
        let mut proof = prove(&self.head, &self.nodes, request)?;
        if let Some(block) = &mut proof.block {
            block.value = self.blocks[block.index as usize].clone();
        }
        Ok(proof)
    }

    fn receive(&mut self, proof: &Proof) -> Result<(), ProofError> {
        let mut batch = TreeBatch::from_head(&self.head);
        batch.accept(verify(&batch, &self.nodes, proof)?);
        self.nodes.apply(&batch);
        self.head = batch.into_head();
        Ok(())
    }

    /// Nothing is stored but what belongs to the log.
    fn check_nodes_against(&self, whole: &Self) {
        for node in self.nodes.iter() {
            assert_eq!(whole.nodes.node(node.index).unwrap(), Some(*node));
        }
    }
}

fn sizes(most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(0u8..20, 1..most)
}

fn upgrade(start: u64, length: u64) -> ProofRequest {
    ProofRequest { upgrade: Some(RequestUpgrade { start, length }), ..ProofRequest::default() }
}

proptest! {
    #[test]
    fn a_tree_does_not_depend_on_how_it_was_grown(parts in vec(sizes(30), 1..6)) {
        let mut log = Log::new(&[]);
        for part in &parts {
            log.append(part);
        }
        let mut single = Log::new(&[]);
        for block in &log.blocks {
            let mut batch = TreeBatch::from_head(&single.head);
            batch.append(std::slice::from_ref(block)).unwrap();
            single.apply(batch);
        }
        prop_assert_eq!(&log.head, &single.head);
        prop_assert!(log.nodes.iter().eq(single.nodes.iter()));
        prop_assert_eq!(log.nodes.iter().count(), 2 * log.blocks.len() - log.head.roots.len());
        let bytes: usize = log.blocks.iter().map(Bytes::len).sum();
        prop_assert_eq!(log.head.byte_length, bytes as u64);
    }

    #[test]
    fn truncating_leaves_no_trace(before in sizes(40), at in any::<Index>(), after in sizes(40)) {
        let mut log = Log::new(&before);
        let at = at.index(before.len() + 1);
        log.truncate(at);
        let mut fresh = Log::new(&before[..at]);
        prop_assert!(log.nodes.iter().eq(fresh.nodes.iter()));
        prop_assert_eq!(log.head.hash(), fresh.head.hash());
        log.append(&after);
        fresh.append(&after);
        prop_assert_eq!(log.head.hash(), fresh.head.hash());
    }

    #[test]
    fn appended_and_truncated_in_one_batch(before in sizes(30), more in sizes(30), at in any::<Index>(), after in sizes(9)) {
        let log = Log::new(&before);
        let mut grown = log.clone();
        grown.append(&more);
        let at = at.index(grown.blocks.len() + 1);

        let mut batch = TreeBatch::from_head(&log.head);
        batch.append(&grown.blocks[before.len()..]).unwrap();
        batch.truncate(&log.nodes, at as u64, 0).unwrap();
        let blocks: Vec<Bytes> = after.iter().map(|size| vec![1; usize::from(*size)].into()).collect();
        batch.append(&blocks).unwrap();

        let mut nodes = log.nodes.clone();
        nodes.apply(&batch);
        let mut whole = TreeBatch::from_head(&TreeHead::default());
        whole.append(&[&grown.blocks[..at], &blocks].concat()).unwrap();
        prop_assert_eq!(batch.head().hash(), whole.head().hash());
        prop_assert!(nodes.iter().eq(whole.nodes()));
    }

    #[test]
    fn byte_ranges_are_where_the_blocks_are(sizes in sizes(60)) {
        let log = Log::new(&sizes);
        let mut offset = 0;
        for (place, block) in (0..).zip(&log.blocks) {
            let size = block.len() as u64;
            prop_assert_eq!(byte_range(&log.head, &log.nodes, 2 * place).unwrap(), (offset, size));
            for byte in offset..offset + size {
                let mut seeker = ByteSeeker::new(&log.head, byte, 0);
                let found = seeker.update(&log.head, &log.nodes).unwrap().unwrap();
                // Blocks without bytes are where the next byte is, too.
                prop_assert!(found == (place, byte - offset) || byte == offset && found.0 <= place && found.1 == 0);
            }
            offset += size;
        }
        let end = log.head.length;
        prop_assert_eq!(byte_offset(&log.head, &log.nodes, 2 * end).unwrap(), offset);
        let beyond = matches!(byte_range(&log.head, &log.nodes, 2 * end), Err(TreeError::OutOfBounds { .. }));
        prop_assert!(beyond);
        let mut seeker = ByteSeeker::new(&log.head, offset + 1, 0);
        prop_assert_eq!(seeker.range(), (end, 0));
        prop_assert_eq!(seeker.update(&log.head, &log.nodes).unwrap(), None);
    }

    #[test]
    fn a_sparse_reader_gets_every_block_in_any_order(
        sizes in sizes(60),
        have in any::<Index>(),
        order in vec(any::<Index>(), 1..40),
    ) {
        let writer = Log::new(&sizes);
        let mut reader = writer.sparse(have.index(sizes.len()) as u64);
        reader.receive(&writer.prove(&upgrade(reader.head.length, writer.head.length - reader.head.length)).unwrap()).unwrap();
        prop_assert_eq!(&reader.head, &writer.head);
        for index in order {
            let index = index.index(sizes.len()) as u64;
            let nodes = missing_nodes(&reader.nodes, 2 * index, reader.head.length).unwrap();
            prop_assert!(nodes <= max_missing_nodes(2 * index, reader.head.length) + 1);
            let block = Some(RequestBlock { index, nodes });
            let proof = writer.prove(&ProofRequest { block, ..ProofRequest::default() }).unwrap();
            prop_assert!(proof.block.as_ref().unwrap().nodes.len() as u64 <= nodes);
            reader.receive(&proof).unwrap();
            prop_assert_eq!(missing_nodes(&reader.nodes, 2 * index, reader.head.length).unwrap(), 0);
        }
        reader.check_nodes_against(&writer);
    }

    #[test]
    fn a_sparse_reader_finds_every_byte(sizes in sizes(60), byte in any::<Index>()) {
        let writer = Log::new(&sizes);
        prop_assume!(writer.head.byte_length > 0);
        let mut reader = writer.sparse(writer.head.length);
        let bytes = byte.index(writer.head.byte_length as usize) as u64;
        let expected = ByteSeeker::new(&writer.head, bytes, 0).update(&writer.head, &writer.nodes).unwrap();
        let mut seeker = ByteSeeker::new(&reader.head, bytes, 0);
        let mut turns = 0;
        let found = loop {
            if let Some(found) = seeker.update(&reader.head, &reader.nodes).unwrap() {
                break found;
            }
            turns += 1;
            prop_assert!(turns < 20);
            let (start, end) = seeker.range();
            let root = Position::leaf(start);
            let mut nodes = 0;
            let mut position = root;
            while position.end_block() < end {
                position = position.parent();
                nodes += 1;
            }
            let proof = writer.prove(&ProofRequest {
                hash: Some(RequestBlock { index: root.index(), nodes }),
                seek: Some(RequestSeek { bytes, padding: 0 }),
                ..ProofRequest::default()
            }).unwrap();
            reader.receive(&proof).unwrap();
        };
        prop_assert_eq!(Some(found), expected);
        prop_assert!(turns <= 1, "a seek is answered with all that it needs");
        reader.check_nodes_against(&writer);
    }

    #[test]
    fn every_request_that_is_answered_convinces(
        sizes in sizes(50),
        have in any::<Index>(),
        asked in requests(),
    ) {
        let writer = Log::new(&sizes);
        let mut reader = writer.sparse(have.index(sizes.len() + 1) as u64);
        let request = asked.on(&reader, &writer);
        if let Ok(proof) = writer.prove(&request) {
            let answered = (proof.block.is_some(), proof.hash.is_some(), proof.upgrade.is_some());
            prop_assert_eq!(answered, (request.block.is_some(), request.hash.is_some(), request.upgrade.is_some()));
            match reader.receive(&proof) {
                Ok(()) => {
                    reader.check_nodes_against(&writer);
                    if request.upgrade.is_some() {
                        prop_assert_eq!(reader.head.hash(), writer.head.hash());
                    }
                }
                // A path that ends at a node which the reader never heard of.
                Err(err) => prop_assert_eq!(err.kind(), ProofErrorKind::Stale, "{}", err),
            }
        }
    }

    #[test]
    fn whatever_is_bent_is_refused_or_harmless(
        sizes in sizes(50),
        have in any::<Index>(),
        asked in requests(),
        bends in vec(bends(), 1..3),
    ) {
        let writer = Log::new(&sizes);
        let mut reader = writer.sparse(have.index(sizes.len() + 1) as u64);
        let request = asked.on(&reader, &writer);
        let Ok(mut proof) = writer.prove(&request) else { return Ok(()) };
        for bend in &bends {
            bend.apply(&mut proof);
        }
        let before = reader.clone();
        let batch = TreeBatch::from_head(&reader.head);
        match verify(&batch, &reader.nodes, &proof) {
            Ok(verified) => {
                // The signature is what is checked next; a tree that differs from the writer's is not signed.
                if verified.upgrade().is_some_and(|head| head.hash() != writer.head.hash()) {
                    return Ok(());
                }
                let signature = proof.upgrade.as_ref().map(|upgrade| &upgrade.signature);
                if signature.is_some_and(|signature| *signature != writer.head.signature) {
                    return Ok(());
                }
                if let Some(block) = &proof.block {
                    prop_assert_eq!(Some(&block.value), writer.blocks.get(block.index as usize));
                }
                reader.receive(&proof).unwrap();
                for node in reader.nodes.iter() {
                    let known = writer.nodes.node(node.index).unwrap().unwrap();
                    prop_assert_eq!(known.hash, node.hash);
                }
            }
            Err(_) => prop_assert_eq!(before.head, reader.head),
        }
    }

    #[test]
    fn a_burst_is_worth_its_proofs_one_by_one(
        sizes in sizes(60),
        have in any::<Index>(),
        order in vec((any::<Index>(), any::<bool>()), 1..30),
        lie in option::of(any::<Index>()),
    ) {
        let writer = Log::new(&sizes);
        let reader = writer.sparse(have.index(sizes.len()) as u64);
        let mut one_by_one = reader.clone();
        let mut proofs = vec![writer.prove(&upgrade(reader.head.length, writer.head.length - reader.head.length)).unwrap()];
        let mut planned = one_by_one.clone();
        planned.receive(&proofs[0]).unwrap();
        for (index, shared) in order {
            let index = index.index(sizes.len()) as u64;
            // Either only what is missing after the proofs before, or all of the path.
            let nodes = if shared {
                missing_nodes(&planned.nodes, 2 * index, planned.head.length).unwrap()
            } else {
                max_missing_nodes(2 * index, planned.head.length)
            };
            let block = Some(RequestBlock { index, nodes });
            let proof = writer.prove(&ProofRequest { block, ..ProofRequest::default() }).unwrap();
            planned.receive(&proof).unwrap();
            proofs.push(proof);
        }
        if let Some(lie) = lie {
            let place = lie.index(proofs.len());
            if let Some(block) = &mut proofs[place].block {
                block.value = Bytes::from_static(b"something else");
            }
        }
        let alone: Vec<_> = proofs.iter().map(|proof| one_by_one.receive(proof).is_ok()).collect();
        let burst = verify_burst(&reader.head, &reader.nodes, &proofs, &mut |head, _| *head == writer.head);
        prop_assert_eq!(burst.results.iter().map(Result::is_ok).collect::<Vec<_>>(), alone);
        prop_assert_eq!(burst.batch.head(), &one_by_one.head);
        let mut stored = reader.nodes.clone();
        stored.apply(&burst.batch);
        prop_assert!(stored.iter().eq(one_by_one.nodes.iter()));

        let unsigned = verify_burst(&reader.head, &reader.nodes, &proofs[..1], &mut |_, _| false);
        let refused = matches!(unsigned.results[..], [Err(ProofError::Signature { .. })]);
        prop_assert!(refused && !unsigned.batch.upgraded() && unsigned.batch.nodes().len() == 0);
    }

    #[test]
    fn many_proofs_are_the_same_as_single_ones(sizes in sizes(60), asked in vec(requests(), 1..20), missing in vec(0u64..100, 0..3)) {
        let mut writer = Log::new(&sizes);
        let reader = writer.sparse(sizes.len() as u64 / 2);
        for index in missing {
            writer.nodes.remove(index);
        }
        let requests: Vec<_> = asked.iter().map(|asked| asked.on(&reader, &writer)).collect();
        let many = prove_many(&writer.head, &writer.nodes, &requests);
        for (request, many) in requests.iter().zip(many) {
            prop_assert_eq!(prove(&writer.head, &writer.nodes, request).ok(), many.ok());
        }
    }

    #[test]
    fn reorganising_finds_the_common_start(
        common in vec(0u8..20, 0..40),
        local in sizes(30),
        remote in sizes(30),
        picks in vec(any::<Index>(), 20),
    ) {
        let mut ours = Log::new(&common);
        ours.append(&local);
        let mut theirs = Log::new(&common);
        theirs.append(&remote);
        theirs.head.fork = 1;
        let same = ours.blocks.iter().zip(&theirs.blocks).take_while(|(a, b)| a == b).count();

        let mut reorg = Reorg::begin(&ours.head, &ours.nodes, &theirs.prove(&upgrade(0, theirs.head.length)).unwrap()).unwrap();
        for pick in picks {
            let Some(want) = reorg.want() else { break };
            prop_assert!(reorg.ancestors() <= same as u64);
            let end = want.end.min(theirs.head.length);
            prop_assert!(want.start < end, "{:?} of {}", want, theirs.head.length);
            let index = 2 * (want.start + pick.index((end - want.start) as usize) as u64);
            let hash = Some(RequestBlock { index, nodes: want.nodes });
            let proof = theirs.prove(&ProofRequest { hash, ..ProofRequest::default() }).unwrap();
            let mut bent = proof.clone();
            bent.hash.as_mut().unwrap().nodes[0].hash[0] ^= 1;
            prop_assert!(reorg.clone().update(&ours.nodes, &bent).is_err());
            reorg.update(&ours.nodes, &proof).unwrap();
        }
        prop_assert!(reorg.is_finished());
        prop_assert_eq!(reorg.ancestors(), same as u64);
        let batch = reorg.into_batch();
        prop_assert!(batch.is_committable(&ours.head));
        ours.nodes.apply(&batch);
        prop_assert_eq!(batch.head().hash(), theirs.head.hash());
        let moved = Log { blocks: Vec::new(), head: batch.into_head(), nodes: ours.nodes };
        moved.check_nodes_against(&theirs);
    }

    #[test]
    fn nonsense_never_panics(
        sizes in sizes(20),
        request in wild_requests(),
        proof in wild_proofs(),
    ) {
        let log = Log::new(&sizes);
        let _ = prove(&log.head, &log.nodes, &request);
        let batch = TreeBatch::from_head(&log.head);
        let _ = verify(&batch, &log.nodes, &proof);
        let _ = verify_fully_remote(&log.head, &proof);
        let _ = verify_burst(&log.head, &log.nodes, &[proof.clone(), proof.clone()], &mut |_, _| true);
        if let Ok(mut reorg) = Reorg::begin(&log.head, &log.nodes, &proof) {
            let _ = reorg.update(&log.nodes, &proof);
        }
        let _ = proof.upgrade.as_ref().map(upgrade_length);
        for index in [request.block, request.hash].into_iter().flatten().map(|block| block.index) {
            let _ = missing_nodes(&log.nodes, index, log.head.length);
            let _ = max_missing_nodes(index, log.head.length);
            let _ = byte_offset(&log.head, &log.nodes, index);
            let _ = byte_range(&log.head, &log.nodes, index);
            let _ = upgradeable(&log.nodes, index);
        }
        if let Some(seek) = request.seek {
            let _ = ByteSeeker::new(&log.head, seek.bytes, seek.padding).update(&log.head, &log.nodes);
        }
    }
}

#[test]
fn an_upgrade_from_another_length_is_stale_but_its_block_counts() {
    let writer = Log::new(&[5; 40]);
    let mut reader = writer.sparse(3);
    let late = writer.prove(&upgrade(3, 10)).unwrap();
    let block = Some(RequestBlock { index: 2, nodes: 0 });
    let with_block = writer.prove(&ProofRequest { block, ..upgrade(3, 10) }).unwrap();
    reader.receive(&writer.prove(&upgrade(3, 37)).unwrap()).unwrap();

    let err = reader.receive(&late).unwrap_err();
    assert!(matches!(err, ProofError::OtherLength { start: 3, local: 40 }), "{err}");
    assert_eq!(err.kind(), ProofErrorKind::Stale);
    // Node 4 is not known at length 40 any more than before, so get it first.
    reader.nodes.insert(writer.nodes.node(4).unwrap());
    reader.receive(&with_block).unwrap();
    assert_eq!(reader.head, writer.head);
}

#[test]
fn nodes_to_spare_make_no_conflict() {
    let writer = Log::new(&[5; 12]);
    let mut proof = writer.prove(&upgrade(0, 12)).unwrap();
    assert_eq!(verify_fully_remote(&writer.head, &proof).unwrap().hash(), writer.head.hash());
    let upgrade = proof.upgrade.as_mut().unwrap();
    assert!(same_roots(&upgrade.nodes, &writer.head.roots));
    upgrade.nodes.push(Node { index: 24, size: 1, hash: [0; 32] });
    let err = verify_fully_remote(&writer.head, &proof).unwrap_err();
    assert_eq!(err.kind(), ProofErrorKind::Invalid);
}

#[test]
fn bent_sizes_make_no_conflict() {
    let writer = Log::new(&[5; 2]);
    let mut proof = writer.prove(&upgrade(0, 1)).unwrap();
    let upgrade = proof.upgrade.as_mut().unwrap();
    // Only the sum of the sizes of two siblings is hashed: the signature holds, and nobody is guilty.
    upgrade.nodes[0].size += 1;
    upgrade.additional_nodes[0].size -= 1;
    let nodes = upgrade.nodes.clone();
    assert_eq!(verify_fully_remote(&writer.head, &proof).unwrap().hash(), writer.head.hash());
    assert!(same_roots(&nodes, &writer.sparse(1).head.roots));
}

#[test]
fn a_prologue_is_compared_and_never_cut() {
    let writer = Log::new(&[5; 12]);
    let prologue = crate::Prologue { hash: writer.sparse(7).head.hash(), length: 7 };
    let mut fixed = writer.clone();
    fixed.head.prologue = Some(prologue);
    let mut reader = Log::new(&[]);
    reader.head = TreeHead::empty(Some(prologue));

    // Asked for less, the writer answers with all of the prologue.
    let proof = fixed.prove(&upgrade(0, 3)).unwrap();
    assert_eq!(proof.upgrade.as_ref().unwrap().length, 7);
    reader.clone().receive(&proof).unwrap();

    // A writer that does not know better is not believed, nor one with another start.
    assert!(matches!(reader.receive(&writer.prove(&upgrade(0, 3)).unwrap()), Err(ProofError::Prologue)));
    reader.head.prologue = Some(crate::Prologue { hash: [1; 32], length: 7 });
    assert!(matches!(reader.receive(&proof), Err(ProofError::Prologue)));
}

// --- requests, in terms of what there is to ask for

#[derive(Debug, Clone)]
struct Asked {
    block: Option<Index>,
    hash: Option<Index>,
    seek: Option<Index>,
    upgrade: Option<Index>,
}

fn requests() -> impl Strategy<Value = Asked> {
    let index = || option::of(any::<Index>());
    (index(), index(), index(), index()).prop_map(|(block, hash, seek, upgrade)| Asked {
        block,
        hash: hash.filter(|_| block.is_none()),
        seek,
        upgrade,
    })
}

impl Asked {
    fn on(&self, reader: &Log, writer: &Log) -> ProofRequest {
        let start = reader.head.length;
        let left = writer.head.length - start;
        let upgrade = self
            .upgrade
            .filter(|_| left > 0)
            .map(|upgrade| RequestUpgrade { start, length: 1 + upgrade.index(left as usize) as u64 });
        let end = upgrade.map_or(start, |upgrade| start + upgrade.length);
        let nodes = |index: u64| missing_nodes(&reader.nodes, index, start).unwrap();
        let block = self.block.filter(|_| end > 0).map(|block| {
            let index = block.index(end as usize) as u64;
            RequestBlock { index, nodes: nodes(2 * index) }
        });
        let hash = self.hash.filter(|_| end > 0).map(|hash| {
            let index = hash.index(2 * end as usize - 1) as u64;
            RequestBlock { index, nodes: nodes(index) }
        });
        let seek = self.seek.map(|seek| RequestSeek {
            bytes: seek.index(writer.head.byte_length as usize + 2) as u64,
            padding: 0,
        });
        ProofRequest { block, hash, seek, upgrade, manifest: false }
    }
}

// --- bent proofs

#[derive(Debug, Clone)]
enum Bend {
    Node { list: Index, place: Index, how: u8, bit: u8 },
    Number { which: u8, by: u64 },
    Value { place: Index },
    Signature,
}

fn bends() -> impl Strategy<Value = Bend> {
    prop_oneof![
        8 => (any::<Index>(), any::<Index>(), 0u8..6, any::<u8>())
            .prop_map(|(list, place, how, bit)| Bend::Node { list, place, how, bit }),
        3 => (0u8..7, prop_oneof![1u64..4, any::<u64>()]).prop_map(|(which, by)| Bend::Number { which, by }),
        2 => any::<Index>().prop_map(|place| Bend::Value { place }),
        1 => Just(Bend::Signature),
    ]
}

impl Bend {
    fn apply(&self, proof: &mut Proof) {
        match self {
            Self::Node { list, place, how, bit } => {
                let mut lists: Vec<&mut Vec<Node>> = Vec::new();
                lists.extend(proof.block.as_mut().map(|block| &mut block.nodes));
                lists.extend(proof.hash.as_mut().map(|hash| &mut hash.nodes));
                lists.extend(proof.seek.as_mut().map(|seek| &mut seek.nodes));
                if let Some(upgrade) = &mut proof.upgrade {
                    lists.extend([&mut upgrade.nodes, &mut upgrade.additional_nodes]);
                }
                lists.retain(|list| !list.is_empty());
                if lists.is_empty() {
                    return;
                }
                let list = list.index(lists.len());
                let list = &mut *lists[list];
                let place = place.index(list.len());
                match how {
                    0 => list[place].hash[usize::from(bit / 8)] ^= 1 << (bit % 8),
                    1 => list[place].size = list[place].size.wrapping_add(u64::from(*bit)),
                    2 => list[place].index = list[place].index.wrapping_add(u64::from(*bit)),
                    3 => drop(list.remove(place)),
                    4 => list.insert(place, list[place]),
                    _ => list.reverse(),
                }
            }
            Self::Number { which, by } => {
                let number = match which {
                    0 => Some(&mut proof.fork),
                    1 => proof.block.as_mut().map(|block| &mut block.index),
                    2 => proof.hash.as_mut().map(|hash| &mut hash.index),
                    3 => proof.seek.as_mut().map(|seek| &mut seek.bytes),
                    4 => proof.upgrade.as_mut().map(|upgrade| &mut upgrade.start),
                    _ => proof.upgrade.as_mut().map(|upgrade| &mut upgrade.length),
                };
                if let Some(number) = number {
                    *number = number.wrapping_add(*by);
                }
            }
            Self::Value { place } => {
                if let Some(block) = proof.block.as_mut().filter(|block| !block.value.is_empty()) {
                    let mut value = block.value.to_vec();
                    let place = place.index(value.len());
                    value[place] ^= 1;
                    block.value = value.into();
                }
            }
            Self::Signature => {
                if let Some(upgrade) = &mut proof.upgrade {
                    upgrade.signature = Some(Bytes::from_static(b"forged"));
                }
            }
        }
    }
}

// --- anything at all

fn wild() -> impl Strategy<Value = u64> {
    prop_oneof![
        4 => 0u64..60,
        1 => (0u32..64).prop_map(|bit| (1 << bit) - 1),
        1 => (0u32..64).prop_map(|bit| 1 << bit),
        1 => any::<u64>()
    ]
}

fn wild_nodes() -> impl Strategy<Value = Vec<Node>> {
    vec((wild(), wild()).prop_map(|(index, size)| Node { index, size, hash: [3; 32] }), 0..6)
}

prop_compose! {
    fn wild_requests()(
        block in option::of((wild(), wild())),
        hash in option::of((wild(), wild())),
        seek in option::of((wild(), wild())),
        upgrade in option::of((wild(), wild())),
    ) -> ProofRequest {
        let request = |(index, nodes)| RequestBlock { index, nodes };
        ProofRequest {
            block: block.map(request),
            hash: hash.map(request),
            seek: seek.map(|(bytes, padding)| RequestSeek { bytes, padding }),
            upgrade: upgrade.map(|(start, length)| RequestUpgrade { start, length }),
            manifest: false,
        }
    }
}

prop_compose! {
    fn wild_proofs()(
        block in option::of((wild(), wild_nodes())),
        hash in option::of((wild(), wild_nodes())),
        seek in option::of((wild(), wild_nodes())),
        upgrade in option::of((wild(), wild(), wild_nodes(), wild_nodes())),
    ) -> Proof {
        Proof {
            fork: 0,
            block: block.map(|(index, nodes)| DataBlock { index, value: Bytes::from_static(b"x"), nodes }),
            hash: hash.map(|(index, nodes)| DataHash { index, nodes }),
            seek: seek.map(|(bytes, nodes)| DataSeek { bytes, nodes }),
            upgrade: upgrade.map(|(start, length, nodes, additional_nodes)| DataUpgrade {
                start,
                length,
                nodes,
                additional_nodes,
                signature: None,
            }),
            manifest: None,
        }
    }
}
