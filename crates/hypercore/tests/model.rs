//! A log against a plain list, with storage that fails at any moment and handles that are dropped and opened again.
//!
//! Whatever fails, the log is afterwards either as it was before or as the operation leaves it (when only something
//! after the commit failed), never something between; and what memory says is what storage says.

mod failing;

use bytes::Bytes;
use failing::FailingStorage;
use hypercore::core::{CoreOptions, Seek};
use hypercore::proof::{ProofRequest, RequestBlock, RequestUpgrade};
use hypercore::storage::Database;
use hypercore::{Core, Key, KeyPair};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u16>),
    Truncate(prop::sample::Index),
    Clear(prop::sample::Index, u16),
    Seek(prop::sample::Index),
    UserData(u8),
    Reopen,
    /// Let the n-th operation on storage from now on fail.
    FailIn(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => proptest::collection::vec(0..60u16, 1..40).prop_map(Step::Append),
        1 => (0..3u16).prop_map(|size| Step::Append(vec![size; 300])),
        2 => any::<prop::sample::Index>().prop_map(Step::Truncate),
        2 => (any::<prop::sample::Index>(), 1..30u16).prop_map(|(at, len)| Step::Clear(at, len)),
        2 => any::<prop::sample::Index>().prop_map(Step::Seek),
        1 => any::<u8>().prop_map(Step::UserData),
        2 => Just(Step::Reopen),
        4 => (0..12u8).prop_map(Step::FailIn),
    ]
}

#[derive(Debug, Clone, PartialEq, Default)]
struct Model {
    blocks: Vec<Option<Bytes>>,
    sizes: Vec<usize>,
    fork: u64,
    user_data: Option<u8>,
}

impl Model {
    fn contiguous(&self) -> u64 {
        self.blocks.iter().position(Option::is_none).unwrap_or(self.blocks.len()) as u64
    }

    fn byte_length(&self) -> u64 {
        self.sizes.iter().sum::<usize>() as u64
    }

    fn check(&self, core: &Core) {
        assert_eq!(core.length(), self.blocks.len() as u64);
        assert_eq!(core.byte_length(), self.byte_length());
        assert_eq!(core.fork(), self.fork);
        assert_eq!(core.contiguous_length(), self.contiguous());
        for (index, block) in (0..).zip(&self.blocks) {
            assert_eq!(core.has(index).unwrap(), block.is_some());
            assert_eq!(&core.get(index).unwrap(), block, "block {index}");
        }
        let user_data = core.user_data("name").unwrap().map(|value| value[0]);
        assert_eq!(user_data, self.user_data);
        let held = self.blocks.iter().flatten().count() as u64;
        assert_eq!(core.count(0..u64::MAX).unwrap(), held);
    }
}

fn options(key: Option<Key>) -> CoreOptions {
    let key_pair = key.is_none().then(|| KeyPair::from_seed(&[5; 32]));
    CoreOptions { key, key_pair, ..CoreOptions::default() }
}

/// Blocks differ by where, in which fork and in which step they were written.
fn block(seed: u64, index: u64, size: u16) -> Bytes {
    let mut text = format!("{seed}/{index} ").into_bytes();
    text.resize(usize::from(size), b'.');
    text.into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn a_log_agrees_with_a_list_whatever_fails(steps in proptest::collection::vec(step(), 1..40)) {
        let storage = FailingStorage::new();
        let open = |key| Core::open(&Database::open(storage.clone()).unwrap(), options(key)).unwrap();
        let mut core = open(None);
        let key = core.key();
        let mut model = Model::default();
        for (seed, step) in (0..).zip(steps) {
            let before = model.clone();
            let result = match step {
                Step::Append(sizes) => {
                    let from = core.length();
                    let blocks: Vec<Bytes> =
                        (from..).zip(&sizes).map(|(index, size)| block(seed, index, *size)).collect();
                    model.sizes.extend(blocks.iter().map(Bytes::len));
                    model.blocks.extend(blocks.iter().cloned().map(Some));
                    core.append(&blocks).map(|appended| {
                        assert_eq!(appended.length, model.blocks.len() as u64);
                    })
                }
                Step::Truncate(at) => {
                    let length = at.index(model.blocks.len() + 1);
                    model.blocks.truncate(length);
                    model.sizes.truncate(length);
                    model.fork += 1;
                    core.truncate(length as u64)
                }
                Step::Clear(at, len) => {
                    let start = at.index(model.blocks.len() + 1);
                    let end = (start + usize::from(len)).min(model.blocks.len());
                    let there = model.blocks[start..end].iter().flatten().count() as u64;
                    model.blocks[start..end].fill(None);
                    core.clear(start as u64..start as u64 + u64::from(len)).map(|cleared| {
                        assert_eq!(cleared, there);
                    })
                }
                Step::Seek(at) => {
                    let offset = at.index(model.byte_length() as usize + 1);
                    let mut left = offset;
                    let mut index = 0;
                    // The first block that ends behind the offset holds it; none does at the very end.
                    while index < model.sizes.len() && model.sizes[index] <= left {
                        left -= model.sizes[index];
                        index += 1;
                    }
                    core.seek(offset as u64, 0).map(|seek| match seek {
                        Seek::Found { index: found, offset } => {
                            let start: usize = model.sizes[..found as usize].iter().sum();
                            assert_eq!((start as u64 + offset) as usize, index_offset(&model.sizes, index, left));
                        }
                        other => panic!("a full tree answers every seek, not with {other:?}"),
                    })
                }
                Step::UserData(value) => {
                    model.user_data = Some(value);
                    core.set_user_data("name", Some(&[value]))
                }
                Step::Reopen => {
                    storage.recover();
                    core = open(Some(key));
                    Ok(())
                }
                Step::FailIn(count) => {
                    storage.fail_in(u64::from(count));
                    continue;
                }
            };
            storage.recover();
            if result.is_err() {
                model = before;
            }
            model.check(&core);
            let tree_hash = core.tree_hash();
            let again = open(Some(key));
            model.check(&again);
            prop_assert_eq!(again.tree_hash(), tree_hash);
        }
    }
}

fn index_offset(sizes: &[usize], index: usize, left: usize) -> usize {
    sizes[..index].iter().sum::<usize>() + left
}

#[derive(Debug, Clone)]
enum Arrival {
    Burst(Vec<prop::sample::Index>),
    Upgrade(prop::sample::Index),
    Clear(prop::sample::Index, u8),
    Reopen,
    FailIn(u8),
}

fn arrival() -> impl Strategy<Value = Arrival> {
    prop_oneof![
        6 => proptest::collection::vec(any::<prop::sample::Index>(), 1..20).prop_map(Arrival::Burst),
        2 => any::<prop::sample::Index>().prop_map(Arrival::Upgrade),
        1 => (any::<prop::sample::Index>(), 1..9u8).prop_map(|(at, len)| Arrival::Clear(at, len)),
        1 => Just(Arrival::Reopen),
        4 => (0..30u8).prop_map(Arrival::FailIn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_sparse_copy_agrees_with_its_source_whatever_fails(arrivals in proptest::collection::vec(arrival(), 1..30)) {
        const LENGTH: u64 = 90;
        let mut source = Core::open(&Database::memory(), options(None)).unwrap();
        let all: Vec<Bytes> = (0..LENGTH).map(|index| block(0, index, 9)).collect();
        source.append(&all).unwrap();

        let storage = FailingStorage::new();
        let open = || Core::open(&Database::open(storage.clone()).unwrap(), options(Some(source.key()))).unwrap();
        let mut copy = open();
        let mut held = std::collections::BTreeSet::new();
        let mut length = 0;
        for arrival in arrivals {
            match arrival {
                Arrival::Upgrade(to) => {
                    let to = to.index(LENGTH as usize) as u64 + 1;
                    if to <= copy.length() {
                        continue;
                    }
                    // An upgrade to less than all has nodes up to all, since that is what was signed.
                    let upgrade = Some(RequestUpgrade { start: copy.length(), length: to - copy.length() });
                    let request = ProofRequest { upgrade, manifest: true, ..ProofRequest::default() };
                    let results = copy.receive(vec![source.prove(&request).unwrap()]);
                    if let Ok(received) = &results[0] {
                        length = received.upgraded.unwrap();
                    }
                }
                Arrival::Burst(picks) => {
                    if copy.length() == 0 {
                        continue;
                    }
                    let mut proofs = Vec::new();
                    let indexes: Vec<u64> = picks.iter().map(|pick| pick.index(length as usize) as u64).collect();
                    for &index in &indexes {
                        let Ok(nodes) = copy.missing_nodes(2 * index) else { continue };
                        let block = Some(RequestBlock { index, nodes });
                        proofs.push(source.prove(&ProofRequest { block, ..ProofRequest::default() }).unwrap());
                    }
                    let asked: Vec<u64> = proofs.iter().map(|proof| proof.block.as_ref().unwrap().index).collect();
                    let results = copy.receive(proofs);
                    // Each proof is good: the burst is stored as a whole or fails as a whole at the commit. A read
                    // that fails before takes only the proof down that needed it.
                    for (index, result) in asked.into_iter().zip(results) {
                        match result {
                            Ok(received) => {
                                assert_eq!(received.block, Some(index));
                                held.insert(index);
                            }
                            Err(error) => assert!(!error.is_bad_peer() && !error.is_stale(), "{error}"),
                        }
                    }
                }
                Arrival::Clear(at, len) => {
                    let start = at.index(LENGTH as usize) as u64;
                    if copy.clear(start..start + u64::from(len)).is_ok() {
                        held.retain(|index| !(start..start + u64::from(len)).contains(index));
                    }
                }
                Arrival::Reopen => {
                    storage.recover();
                    copy = open();
                }
                Arrival::FailIn(count) => {
                    storage.fail_in(u64::from(count));
                    continue;
                }
            }
            storage.recover();
            for core in [&copy, &open()] {
                assert_eq!(core.length(), length);
                let contiguous = (0..).find(|index| !held.contains(index)).unwrap();
                assert_eq!(core.contiguous_length(), contiguous);
                for index in 0..LENGTH {
                    assert_eq!(core.has(index).unwrap(), held.contains(&index), "block {index}");
                    let block = core.get(index).unwrap();
                    assert_eq!(block.as_ref(), held.contains(&index).then_some(&all[index as usize]));
                }
            }
        }
    }
}
