use super::*;
use crate::manifest::{Prologue, Signer};
use crate::proof::{Proof, ProofRequest, RequestBlock, RequestUpgrade};
use crate::storage::Database;

fn blocks(range: Range<u64>) -> Vec<Bytes> {
    range.map(|i| Bytes::from(format!("block {i}"))).collect()
}

fn writer(seed: u8) -> (Database, Core) {
    let database = Database::memory();
    let key_pair = Some(KeyPair::from_seed(&[seed; 32]));
    let core = Core::open(&database, CoreOptions { key_pair, ..CoreOptions::default() }).unwrap();
    (database, core)
}

fn reader_of(core: &Core) -> (Database, Core) {
    let database = Database::memory();
    let options = CoreOptions { key: Some(core.key()), ..CoreOptions::default() };
    let reader = Core::open(&database, options).unwrap();
    (database, reader)
}

#[test]
fn a_key_pair_lent_to_a_log_that_was_opened_by_its_key_makes_it_writable() {
    for compat in [false, true] {
        let pair = KeyPair::from_seed(&[1; 32]);
        let options = CoreOptions { key_pair: Some(pair.clone()), compat, ..CoreOptions::default() };
        let key = Core::open(&Database::memory(), options).unwrap().key();
        let options = CoreOptions { key: Some(key), ..CoreOptions::default() };
        let mut core = Core::open(&Database::memory(), options).unwrap();
        core.add_signer(KeyPair::from_seed(&[2; 32]));
        assert!(!core.writable());
        assert!(core.append(&blocks(0..1)).is_err());
        core.add_signer(pair);
        assert!(core.writable());
        core.append(&blocks(0..1)).unwrap();
        assert!(core.writable());
    }
}

fn upgrade(writer: &Core, reader: &Core) -> Proof {
    let (start, length) = (reader.length(), writer.length() - reader.length());
    let upgrade = Some(RequestUpgrade { start, length });
    writer.prove(&ProofRequest { upgrade, manifest: true, ..ProofRequest::default() }).unwrap()
}

fn block(writer: &Core, reader: &Core, index: u64) -> Proof {
    let nodes = reader.missing_nodes(2 * index).unwrap();
    let block = Some(RequestBlock { index, nodes });
    writer.prove(&ProofRequest { block, ..ProofRequest::default() }).unwrap()
}

fn sync(writer: &Core, reader: &mut Core) {
    if reader.length() < writer.length() {
        reader.receive(vec![upgrade(writer, reader)]).pop().unwrap().unwrap();
    }
    let missing: Vec<u64> = (0..writer.length()).filter(|i| !reader.has(*i).unwrap()).collect();
    let proofs = missing.iter().map(|i| block(writer, reader, *i)).collect();
    for result in reader.receive(proofs) {
        result.unwrap();
    }
}

#[test]
fn appends_reads_and_reopens() {
    let (database, mut core) = writer(1);
    assert_eq!(core.append(&blocks(0..5)).unwrap(), Appended { length: 5, byte_length: 35 });
    assert_eq!(core.append(&[]).unwrap().length, 5);
    let (key, hash) = (core.key(), core.tree_hash());
    drop(core);
    let options = CoreOptions { key: Some(key), ..CoreOptions::default() };
    let core = Core::open(&database, options).unwrap();
    assert!(core.writable());
    assert_eq!((core.length(), core.byte_length(), core.contiguous_length()), (5, 35, 5));
    assert_eq!(core.tree_hash(), hash);
    assert_eq!(core.get(3).unwrap().unwrap(), "block 3");
    assert_eq!(core.get(5).unwrap(), None);
    assert_eq!(core.seek(8, 0).unwrap(), Seek::Found { index: 1, offset: 1 });
    assert_eq!(core.seek(35, 0).unwrap(), Seek::Found { index: 5, offset: 0 });
    assert_eq!(core.seek(36, 0).unwrap(), Seek::Beyond);
    assert_eq!(core.byte_range(2).unwrap(), (14, 7));
    assert!(core.byte_range(5).is_err());
    assert_eq!(core.tree_hash_at(5).unwrap(), hash);
}

#[test]
fn groups_are_one_commit_with_an_event_each() {
    let (_database, mut core) = writer(1);
    let steps = core.append_group(&[blocks(0..2), Vec::new(), blocks(2..3)]).unwrap();
    assert_eq!(steps.iter().map(|step| step.length).collect::<Vec<_>>(), [2, 2, 3]);
    assert_eq!(core.byte_length(), steps[2].byte_length);
    assert_eq!(core.take_events().len(), 2);
}

#[test]
fn opens_by_everything_that_is_known_of_it() {
    let (database, mut core) = writer(1);
    let open = |options| Core::open(&database, options);
    let discovery_key = Some(core.discovery_key());
    let again = || CoreOptions { discovery_key, ..CoreOptions::default() };
    // Two owners would sign two histories.
    assert!(matches!(open(again()), Err(Error::InUse(_))));
    core.close();
    assert_eq!(open(again()).unwrap().key(), core.key());
    let closed = core.append(&blocks(0..1));
    assert!(matches!(closed, Err(Error::Storage(StorageError::Closed))));
    assert!(matches!(core.clear(0..1), Err(Error::Storage(StorageError::Closed))));
    let manifest = core.manifest().cloned();
    assert_eq!(manifest.as_ref().map(Manifest::key), Some(core.key()));
    assert_eq!(open(CoreOptions { manifest, ..CoreOptions::default() }).unwrap().key(), core.key());
    let elsewhere = Database::memory();
    let missing = Core::open(&elsewhere, CoreOptions { discovery_key, ..CoreOptions::default() });
    assert!(matches!(missing, Err(Error::NotFound(_))));
    let options = CoreOptions { key: Some(core.key()), create_if_missing: false, ..CoreOptions::default() };
    assert!(matches!(Core::open(&elsewhere, options), Err(Error::NotFound(_))));
    let wrong = CoreOptions { key: Some(core.key()), ..CoreOptions::default() };
    let wrong = CoreOptions { manifest: Some(Manifest::default_signer([9; 32])), ..wrong };
    assert!(matches!(Core::open(&elsewhere, wrong), Err(Error::Conflicting(_))));
}

#[test]
fn the_compat_form_has_the_public_key_for_a_key() {
    let database = Database::memory();
    let pair = KeyPair::from_seed(&[3; 32]);
    let options = CoreOptions { key_pair: Some(pair.clone()), compat: true, ..CoreOptions::default() };
    let mut core = Core::open(&database, options).unwrap();
    assert_eq!(core.key().to_bytes(), pair.public());
    assert!(core.is_compat() && core.writable());
    core.append(&blocks(0..4)).unwrap();
    // A reader who knows the key alone asks for the manifest, and is content without it.
    let (_database, mut reader) = reader_of(&core);
    let mut proof = upgrade(&core, &reader);
    proof.manifest = None;
    reader.receive(vec![proof]).pop().unwrap().unwrap();
    assert!(reader.is_compat());
    sync(&core, &mut reader);
    assert_eq!(reader.get(2).unwrap().unwrap(), "block 2");
}

#[test]
fn a_reader_can_not_write() {
    let (_database, core) = writer(1);
    let (_database, mut reader) = reader_of(&core);
    assert!(!reader.writable());
    assert!(matches!(reader.append(&blocks(0..1)), Err(Error::NotWritable(_))));
    assert!(matches!(reader.truncate(0), Err(Error::NotWritable(_))));
}

#[test]
fn blocks_have_a_largest_size() {
    let (_database, mut core) = writer(1);
    let large = Bytes::from(vec![0; MAX_BLOCK_SIZE + 1]);
    assert!(matches!(core.append(std::slice::from_ref(&large)), Err(Error::BlockTooLarge { .. })));
    core.append(&[large.slice(1..)]).unwrap();
}

#[test]
fn a_burst_is_verified_in_order_and_a_lie_spoils_only_itself() {
    let (_database, mut core) = writer(1);
    core.append(&blocks(0..64)).unwrap();
    let (database, mut reader) = reader_of(&core);
    assert!(!reader.has_manifest());
    let head = upgrade(&core, &reader);
    let mut proofs = vec![head.clone()];
    reader.receive(vec![head]);
    // Asked for as if each answer were the first: later ones overlap with earlier ones.
    proofs.extend((0..64).map(|index| block(&core, &reader, index)));
    let (_database, mut fresh) = reader_of(&core);
    proofs[10].block.as_mut().unwrap().value = Bytes::from_static(b"lie");
    let mut other_fork = proofs[11].clone();
    other_fork.fork = 7;
    proofs.push(other_fork);
    let results = fresh.receive(proofs);
    assert_eq!(results[0].as_ref().unwrap().upgraded, Some(64));
    assert!(results[10].as_ref().unwrap_err().is_bad_peer());
    assert!(results[65].as_ref().unwrap_err().is_stale());
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 64);
    assert_eq!(fresh.contiguous_length(), 9);
    assert_eq!(fresh.count(0..64).unwrap(), 63);
    assert_eq!(fresh.tree_hash(), core.tree_hash());
    assert!(fresh.has_manifest());
    drop(reader);
    let options = CoreOptions { key: Some(core.key()), ..CoreOptions::default() };
    assert_eq!(Core::open(&database, options).unwrap().length(), 64);
}

#[test]
fn updates_tell_a_replicator_what_to_announce() {
    let (_database, mut core) = writer(1);
    core.append(&blocks(0..3)).unwrap();
    core.track_updates(true);
    assert!(core.take_updates().resync);
    core.append(&blocks(3..5)).unwrap();
    core.append(&blocks(5..6)).unwrap();
    core.clear(1..3).unwrap();
    let updates = core.take_updates();
    assert!(updates.head_changed && !updates.resync);
    assert_eq!(
        updates.have,
        [HaveRange { start: 3, length: 3, drop: false }, HaveRange { start: 1, length: 2, drop: true }]
    );
    assert!(core.take_updates().is_empty());
    core.truncate(4).unwrap();
    let truncated = core.take_updates().truncated;
    assert_eq!(truncated, Some(Truncated { new_length: 4, old_length: 6 }));
}

#[test]
fn cleared_blocks_are_gone_and_can_come_back() {
    let (_database, mut core) = writer(1);
    core.append(&blocks(0..10)).unwrap();
    let (_database, mut reader) = reader_of(&core);
    sync(&core, &mut reader);
    assert_eq!(reader.clear(2..5).unwrap(), 3);
    assert_eq!(reader.clear(2..5).unwrap(), 0);
    assert_eq!(reader.contiguous_length(), 2);
    assert_eq!(reader.get(3).unwrap(), None);
    assert_eq!(reader.store().read().block(3).unwrap(), None);
    assert_eq!(reader.length(), 10);
    sync(&core, &mut reader);
    assert_eq!(reader.contiguous_length(), 10);
    // Peers that are behind can still be brought up to date by somebody who cleared everything.
    core.clear(0..10).unwrap();
    let (_database, mut late) = reader_of(&core);
    late.receive(vec![upgrade(&core, &late)]).pop().unwrap().unwrap();
    assert_eq!(late.length(), 10);
}

#[test]
fn truncation_moves_to_a_new_fork_and_readers_follow() {
    let (_database, mut core) = writer(1);
    core.append(&blocks(0..20)).unwrap();
    let (_database, mut reader) = reader_of(&core);
    sync(&core, &mut reader);
    core.truncate(13).unwrap();
    assert_eq!((core.length(), core.fork(), core.contiguous_length()), (13, 1, 13));
    core.append(&blocks(100..110)).unwrap();

    let request = |length| ProofRequest {
        upgrade: Some(RequestUpgrade { start: 0, length }),
        ..ProofRequest::default()
    };
    let mut reorg = reader.begin_reorg(&core.prove(&request(core.length())).unwrap()).unwrap();
    let mut rounds = 0;
    while let Some(want) = reorg.want() {
        rounds += 1;
        assert!(rounds < 20);
        let block = Some(RequestBlock { index: want.start, nodes: want.nodes });
        let hash = block.map(|block| RequestBlock { index: 2 * block.index, ..block });
        let proof = core.prove(&ProofRequest { hash, ..ProofRequest::default() }).unwrap();
        reader.update_reorg(&mut reorg, &proof).unwrap();
    }
    reader.take_events();
    assert!(reader.commit_reorg(reorg).unwrap());
    assert_eq!((reader.length(), reader.fork()), (23, 1));
    assert_eq!(reader.tree_hash(), core.tree_hash());
    assert!(reader.contiguous_length() <= 13 && reader.contiguous_length() >= 12);
    assert!(matches!(reader.take_events()[0], CoreEvent::Truncate { fork: 1, .. }));
    sync(&core, &mut reader);
    assert_eq!(reader.contiguous_length(), 23);
    assert_eq!(reader.get(20).unwrap().unwrap(), "block 107");
}

#[test]
fn several_signers_write_with_the_keys_held_or_with_a_signature_made_elsewhere() {
    let pairs: Vec<KeyPair> = (1..=3).map(|seed| KeyPair::from_seed(&[seed; 32])).collect();
    let signers = pairs.iter().map(|pair| Signer::new(pair.public())).collect();
    let manifest = Manifest::with_signers(signers);
    assert_eq!(manifest.quorum, 2);
    let options = |held: &[KeyPair]| CoreOptions {
        manifest: Some(manifest.clone()),
        signers: held.to_vec(),
        ..CoreOptions::default()
    };
    let mut core = Core::open(&Database::memory(), options(&pairs[..2])).unwrap();
    assert!(core.writable());
    core.append(&blocks(0..3)).unwrap();

    // Nobody here holds enough keys: the signature comes from outside.
    let mut other = Core::open(&Database::memory(), options(&pairs[2..])).unwrap();
    assert!(!other.writable());
    assert!(matches!(other.append(&blocks(0..3)), Err(Error::Signature(_))));
    let signature = core.head().signature.clone();
    let with = |signature| AppendOptions { signature, ..AppendOptions::default() };
    let broken = Some(Bytes::from_static(b"no signature"));
    assert!(matches!(other.append_with(&blocks(0..3), &with(broken)), Err(Error::Signature(_))));
    assert_eq!(other.length(), 0);
    other.append_with(&blocks(0..3), &with(signature)).unwrap();
    assert_eq!(other.tree_hash(), core.tree_hash());

    let (_database, mut reader) = reader_of(&core);
    sync(&core, &mut reader);
    assert_eq!(reader.length(), 3);
}

#[test]
fn a_static_core_is_its_prologue_and_needs_no_signature() {
    let (_database, mut source) = writer(1);
    source.append(&blocks(0..5)).unwrap();
    let prologue = Prologue { hash: source.tree_hash(), length: 5 };
    let manifest = Manifest::with_prologue(prologue);
    let options = CoreOptions { manifest: Some(manifest), ..CoreOptions::default() };
    let mut fixed = Core::open(&Database::memory(), options).unwrap();
    assert!(matches!(fixed.append(&blocks(0..4)), Err(Error::Prologue { .. })));
    assert!(matches!(fixed.append(&blocks(1..6)), Err(Error::NotWritable(_))));
    fixed.append(&blocks(0..5)).unwrap();
    assert_eq!(fixed.tree_hash(), source.tree_hash());
    assert!(fixed.append(&blocks(5..6)).is_err());
    assert!(fixed.truncate(3).is_err());
    let (_database, mut reader) = reader_of(&fixed);
    sync(&fixed, &mut reader);
    assert_eq!(reader.get(4).unwrap().unwrap(), "block 4");
}

#[test]
fn two_histories_for_one_length_freeze_the_log_and_nothing_is_deleted() {
    let (_database, mut core) = writer(1);
    core.append(&blocks(0..6)).unwrap();
    let (_other, mut twin) = writer(1);
    twin.append(&blocks(50..58)).unwrap();
    assert_eq!(core.key(), twin.key());
    let (database, mut reader) = reader_of(&core);
    sync(&core, &mut reader);

    let request = |length| ProofRequest {
        upgrade: Some(RequestUpgrade { start: 0, length }),
        ..ProofRequest::default()
    };
    let same = core.prove(&request(6)).unwrap();
    assert_eq!(reader.check_conflict(&same).unwrap(), None);
    let mut unsigned = twin.prove(&request(6)).unwrap();
    unsigned.upgrade.as_mut().unwrap().signature = same.upgrade.unwrap().signature;
    assert!(reader.check_conflict(&unsigned).unwrap_err().is_bad_peer());
    assert!(!reader.frozen());

    reader.track_updates(true);
    let conflict = reader.check_conflict(&twin.prove(&request(6)).unwrap()).unwrap().unwrap();
    assert_eq!((conflict.fork, conflict.length, conflict.remote.length), (0, 6, 8));
    assert!(reader.frozen() && reader.take_updates().frozen);
    assert_eq!(reader.receive(vec![same_block(&core)]).len(), 1);
    assert!(matches!(reader.append(&blocks(0..1)), Err(Error::Frozen(_))));
    assert_eq!(reader.get(3).unwrap().unwrap(), "block 3");
    let key = reader.key();
    drop(reader);
    let again = Core::open(&database, CoreOptions { key: Some(key), ..CoreOptions::default() }).unwrap();
    assert!(again.frozen());
    assert_eq!(again.conflict().unwrap().as_ref(), Some(&*conflict));
}

fn same_block(core: &Core) -> Proof {
    let block = Some(RequestBlock { index: 1, nodes: 0 });
    core.prove(&ProofRequest { block, ..ProofRequest::default() }).unwrap()
}

#[test]
fn requests_for_what_is_not_here_are_not_the_askers_fault() {
    let (_database, mut core) = writer(1);
    core.append(&blocks(0..8)).unwrap();
    core.clear(3..4).unwrap();
    let ask =
        |index| ProofRequest { block: Some(RequestBlock { index, nodes: 0 }), ..ProofRequest::default() };
    let results = core.prove_many(&[ask(2), ask(3), ask(4)]);
    assert_eq!(results[0].as_ref().unwrap().block.as_ref().unwrap().value, "block 2");
    assert_eq!(results[1].as_ref().unwrap_err().kind(), crate::tree::ProofErrorKind::Stale);
    assert_eq!(results[2].as_ref().unwrap().block.as_ref().unwrap().value, "block 4");
}

mod stored {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn evidence_of_any_content_is_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Conflict::decode(bytes.into());
        }
    }
}

#[test]
fn a_fork_that_cannot_be_stored_is_refused() {
    let mut core = Core::open(&Database::memory(), CoreOptions::default()).unwrap();
    core.append(&["a".into(), "b".into()]).unwrap();
    let to = |fork| TruncateOptions { fork: Some(fork), ..TruncateOptions::default() };
    assert!(matches!(core.truncate_with(1, &to(1 << 53)), Err(Error::Full(_))));
    assert_eq!((core.length(), core.fork()), (2, 0));
    core.truncate_with(1, &to((1 << 53) - 1)).unwrap();
    assert!(matches!(core.truncate(0), Err(Error::Full(_))), "there is none behind it");
    assert_eq!((core.length(), core.fork()), (1, (1 << 53) - 1));
}

#[test]
fn of_a_manifest_only_what_the_key_vouches_for_is_believed() {
    let key_pair = Some(KeyPair::from_seed(&[4; 32]));
    let options = CoreOptions { key_pair, compat: true, ..CoreOptions::default() };
    let mut core = Core::open(&Database::memory(), options).unwrap();
    core.append(&blocks(0..3)).unwrap();
    // In the compat form the key is that of the signer, whatever else somebody says.
    let own = Manifest::default_signer(core.key().to_bytes());
    let user_data = Some(Bytes::from(vec![1; 1000]));
    let (database, mut reader) = reader_of(&core);
    let mut proof = upgrade(&core, &reader);
    proof.manifest = Some(Box::new(Manifest { version: 2, quorum: 5, user_data, ..own.clone() }));
    reader.receive(vec![proof]).pop().unwrap().unwrap();
    assert_eq!(reader.manifest(), Some(&own));
    let key = reader.key();
    drop(reader);
    let again = Core::open(&database, CoreOptions { key: Some(key), ..CoreOptions::default() }).unwrap();
    assert_eq!(again.manifest(), Some(&own));
    assert_eq!(again.length(), 3);

    // One that belongs to the key by its hash may be one that nobody can use.
    let signers = vec![Signer::new([1; 32])];
    let senseless = Manifest { quorum: 5, ..Manifest::with_signers(signers) };
    let options = CoreOptions { key: Some(senseless.key()), ..CoreOptions::default() };
    let mut reader = Core::open(&Database::memory(), options).unwrap();
    let mut proof = upgrade(&core, &reader);
    proof.manifest = Some(Box::new(senseless));
    assert!(reader.receive(vec![proof]).pop().unwrap().is_err());
    assert!(!reader.has_manifest());
}
