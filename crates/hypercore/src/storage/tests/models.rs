//! Every storage behaves like an ordered map.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use proptest::prelude::*;

use super::super::{Batch, MemoryStorage, Read, Storage};

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Change>),
    Get(Vec<u8>),
    Scan(Vec<u8>, Vec<u8>, bool, usize),
}

#[derive(Debug, Clone)]
enum Change {
    Put(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
}

fn key() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(0u8), Just(1), Just(0xfc), Just(0xff)], 1..4)
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    // Empty, small, and so large that RocksDB keeps them in blob files.
    (any::<u8>(), prop_oneof![Just(0usize), 1..40usize, Just(4096), Just(9000)])
        .prop_map(|(byte, length)| vec![byte; length])
}

fn step() -> impl Strategy<Value = Step> {
    let change = prop_oneof![
        4 => (key(), value()).prop_map(|(key, value)| Change::Put(key, value)),
        2 => key().prop_map(Change::Delete),
        1 => (key(), key()).prop_map(|(a, b)| Change::DeleteRange(a.clone().min(b.clone()), a.max(b))),
    ];
    prop_oneof![
        4 => proptest::collection::vec(change, 0..6).prop_map(Step::Commit),
        2 => key().prop_map(Step::Get),
        2 => (key(), key(), any::<bool>(), 0..10usize)
            .prop_map(|(start, end, reverse, limit)| Step::Scan(start, end, reverse, limit)),
    ]
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Entries = Vec<(Vec<u8>, Vec<u8>)>;

fn scanned(storage: &dyn Read, start: &[u8], end: &[u8], reverse: bool, limit: usize) -> Entries {
    let mut entries = Vec::new();
    let visit = &mut |key: &[u8], value: &[u8]| {
        if entries.len() == limit {
            return ControlFlow::Break(());
        }
        entries.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    };
    storage.scan(start, end, reverse, visit).unwrap();
    entries
}

fn expected(model: &Model, start: &[u8], end: &[u8], reverse: bool, limit: usize) -> Entries {
    let inside = |key: &[u8]| start <= key && key < end;
    let mut entries: Entries = model
        .iter()
        .filter(|(key, _)| inside(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    if reverse {
        entries.reverse();
    }
    entries.truncate(limit);
    entries
}

fn check_all(storage: &dyn Read, model: &Model) {
    let everything = (&[][..], &[0xff; 9][..]);
    assert_eq!(
        scanned(storage, everything.0, everything.1, false, usize::MAX),
        expected(model, everything.0, everything.1, false, usize::MAX)
    );
    let keys: Vec<&[u8]> = model.keys().map(Vec::as_slice).chain([&[7u8][..]]).collect();
    let values = storage.get_many(&keys).unwrap();
    for (key, value) in keys.into_iter().zip(values) {
        assert_eq!(value.as_deref(), model.get(key).map(Vec::as_slice));
    }
}

fn behaves_like_a_map(storage: &dyn Storage, steps: &[Step]) {
    let mut model = Model::new();
    for step in steps {
        match step {
            Step::Commit(changes) => {
                let mut batch = Batch::new();
                for change in changes {
                    match change.clone() {
                        Change::Put(key, value) => {
                            if value.len() % 2 == 0 {
                                batch.put(&key, &value);
                            } else {
                                batch.put_bytes(&key, value.clone().into());
                            }
                            model.insert(key, value);
                        }
                        Change::Delete(key) => {
                            batch.delete(&key);
                            model.remove(&key);
                        }
                        Change::DeleteRange(start, end) => {
                            batch.delete_range(&start, &end);
                            model.retain(|key, _| !(start <= *key && *key < end));
                        }
                    }
                }
                storage.commit(&batch).unwrap();
            }
            Step::Get(key) => {
                assert_eq!(storage.get(key).unwrap().as_deref(), model.get(key).map(Vec::as_slice));
            }
            Step::Scan(start, end, reverse, limit) => assert_eq!(
                scanned(storage, start, end, *reverse, *limit),
                expected(&model, start, end, *reverse, *limit)
            ),
        }
    }
    check_all(storage, &model);
    storage.with_snapshot(&mut |moment| check_all(moment, &model)).unwrap();
    let mut clear = Batch::new();
    clear.delete_range(&[], &[0xff; 9]);
    storage.commit(&clear).unwrap();
    check_all(storage, &Model::new());
}

proptest! {
    #[test]
    fn memory_behaves_like_a_map(steps in proptest::collection::vec(step(), 0..60)) {
        behaves_like_a_map(&MemoryStorage::new(), &steps);
    }
}

#[cfg(feature = "rocksdb")]
#[test]
fn rocksdb_behaves_like_a_map() {
    use proptest::test_runner::{Config, TestRunner};

    use super::super::folder::{Folder, FolderOptions};

    let folder = tempfile::tempdir().unwrap();
    let storage = Folder::open(folder.path(), &FolderOptions::default()).unwrap();
    let mut runner = TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
    let steps = proptest::collection::vec(step(), 0..60);
    // One store for all of them: each leaves it empty.
    runner
        .run(&steps, |steps| {
            behaves_like_a_map(&storage, &steps);
            Ok(())
        })
        .unwrap();
}
