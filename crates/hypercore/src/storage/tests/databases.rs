//! The store of many cores, on memory.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use super::super::records::*;
use super::super::*;
use super::super::{keys, records};
use crate::key::DiscoveryKey;
use crate::proof::Node;

pub(super) fn core(byte: u8, name: Option<&str>) -> CreateCore {
    CreateCore {
        auth: Auth {
            key: [byte; 32].into(),
            discovery_key: [byte; 32].into(),
            manifest: None,
            key_pair: None,
            encryption_key: None,
        },
        alias: name.map(|name| Alias { namespace: [0; 32], name: name.into() }),
        user_data: vec![("made".into(), Bytes::from_static(b"here"))],
    }
}

#[test]
fn cores_are_made_once_and_found_again() {
    let storage = Arc::new(MemoryStorage::new());
    let database = Database::open(storage.clone()).unwrap();
    let made = database.create_core(&core(1, Some("one"))).unwrap();
    database.create_core(&core(2, None)).unwrap();
    assert_eq!(made.read().user_data("made").unwrap().unwrap(), "here");

    // Made again, it is the same: nothing is overwritten.
    let mut batch = made.batch();
    batch.put_block(0, Bytes::from_static(b"block"));
    made.commit(&batch).unwrap();
    let again = database.create_core(&core(1, Some("other"))).unwrap();
    assert_eq!(again.read().block(0).unwrap().unwrap(), "block");

    let database = Database::open(storage).unwrap();
    assert_eq!(database.default_discovery_key(), Some([1; 32].into()));
    let found = database.resume(&[1; 32].into()).unwrap().unwrap();
    assert_eq!(found.read().auth().unwrap().unwrap(), core(1, None).auth);
    assert_eq!(found.read().block(0).unwrap().unwrap(), "block");
    assert!(database.resume(&[3; 32].into()).unwrap().is_none());
    let one = Alias { namespace: [0; 32], name: "one".into() };
    assert_eq!(database.alias(&one).unwrap(), Some([1; 32].into()));
    assert_eq!(database.alias(&Alias { name: "other".into(), ..one }).unwrap(), None);
    let pointers = database.pointers(&[2; 32].into()).unwrap().unwrap();
    assert_eq!((pointers.core, pointers.data), (1, 1));
}

#[test]
fn pages_cover_everything_once() {
    let database = Database::memory();
    for byte in 0..50 {
        database.create_core(&core(byte, Some(&format!("core {byte}")))).unwrap();
    }
    let mut seen = Vec::new();
    loop {
        let page = database.cores(seen.last(), 7).unwrap();
        if page.is_empty() {
            break;
        }
        seen.extend(page.into_iter().map(|(discovery_key, _)| discovery_key));
    }
    assert_eq!(seen, (0..50).map(|byte| DiscoveryKey::from([byte; 32])).collect::<Vec<_>>());

    let mut names: Vec<Alias> = Vec::new();
    loop {
        let page = database.aliases(Some(&[0; 32]), names.last(), 7).unwrap();
        if page.is_empty() {
            break;
        }
        names.extend(page.into_iter().map(|(alias, _)| alias));
    }
    assert_eq!(names.len(), 50);
    assert!(names.is_sorted());
    assert!(database.aliases(Some(&[1; 32]), None, 7).unwrap().is_empty());
    assert!(database.cores(None, 0).unwrap().is_empty());
}

#[test]
fn the_primary_key_is_set_once() {
    let database = Database::memory();
    assert_eq!(database.seed(), None);
    assert_eq!(database.set_seed_if_missing([1; 32]).unwrap(), [1; 32]);
    assert_eq!(database.set_seed_if_missing([2; 32]).unwrap(), [1; 32]);
    database.create_core(&core(1, None)).unwrap();
    assert_eq!(database.seed(), Some([1; 32]));
}

#[test]
fn newer_and_older_versions_get_a_sentence() {
    let storage = Arc::new(MemoryStorage::new());
    let database = Database::open(storage.clone()).unwrap();
    let pointers = |version| CorePointers { version, core: 0, data: 0, alias: None };
    for version in [0, 3] {
        let mut batch = Batch::new();
        batch.put(&keys::core_by_discovery_key(&[1; 32]), &pointers(version).encode());
        storage.commit(&batch).unwrap();
        let error = database.resume(&[1; 32].into()).unwrap_err();
        assert!(matches!(error, StorageError::Version { found, .. } if found == version), "{error}");
    }
    let mut batch = Batch::new();
    batch.put(&keys::store_head(), &[3, 0, 0]);
    storage.commit(&batch).unwrap();
    let error = Database::open(storage).unwrap_err();
    assert!(matches!(error, OpenError::TooNew { found: 3, known: 2 }), "{error}");
}

/// A core whose first five blocks stand elsewhere, the first two of them elsewhere still: as JS makes named sessions.
#[test]
fn inherited_blocks_and_nodes_are_found() {
    let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
    let mut batch = Batch::new();
    batch.put(&keys::dependency(7), &Dependency { data: 6, length: 5 }.encode());
    batch.put(&keys::dependency(6), &Dependency { data: 5, length: 2 }.encode());
    for data in 5..8 {
        for index in 0..8 {
            batch.put(&keys::block(data, index), format!("{data}:{index}").as_bytes());
        }
        for index in 0..15 {
            let node = Node { index, size: data, hash: [0; 32] };
            batch.put_with(&keys::tree_node(data, index), |out| records::encode_node(&node, out));
        }
    }
    storage.commit(&batch).unwrap();
    let core = CoreStore::open(storage.clone(), 0, 7).unwrap();
    let view = core.read();
    // The nearest that is long enough.
    let blocks = view.blocks(&[0, 1, 2, 4, 5, 7]).unwrap();
    let blocks: Vec<_> = blocks.into_iter().map(Option::unwrap).collect();
    assert_eq!(blocks, ["6:0", "6:1", "6:2", "6:4", "7:5", "7:7"]);
    // A node is inherited when all blocks below it are: block 4 is leaf 8, node 11 spans blocks 4 to 7.
    let from: Vec<_> =
        view.nodes(&[0, 3, 8, 9, 10, 11, 7]).unwrap().into_iter().map(|node| node.unwrap().size).collect();
    assert_eq!(from, [6, 6, 6, 7, 7, 7, 7]);

    // Inheriting from itself must not go on forever.
    let mut batch = Batch::new();
    batch.put(&keys::dependency(5), &Dependency { data: 7, length: 1 }.encode());
    storage.commit(&batch).unwrap();
    assert!(matches!(CoreStore::open(storage, 0, 7), Err(StorageError::Corrupt { .. })));
}

#[test]
fn pages_are_always_full_on_disk() {
    let database = Database::memory();
    let store = database.create_core(&core(1, None)).unwrap();
    let mut batch = store.batch();
    batch.put_page(0, &[0xff, 1]);
    batch.put_page(300, &[0xaa; PAGE_BYTES + 1]);
    store.commit(&batch).unwrap();
    let view = store.read();
    let page = view.page(0).unwrap().unwrap();
    assert_eq!(page.len(), PAGE_BYTES);
    assert_eq!(&page[..3], &[0xff, 1, 0]);
    let mut seen = Vec::new();
    let visit = &mut |index, page: &[u8]| {
        seen.push((index, page.len()));
        ControlFlow::Continue(())
    };
    view.pages(0..u64::MAX, visit).unwrap();
    assert_eq!(seen, [(0, PAGE_BYTES), (300, PAGE_BYTES)]);
}

#[test]
fn a_batch_changes_everything_at_once() {
    let database = Database::memory();
    let store = database.create_core(&core(1, None)).unwrap();
    let mut batch = store.batch();
    for index in 0..10 {
        batch.put_block(index, Bytes::from(vec![index as u8]));
        batch.put_node(&Node { index: index * 2, size: 1, hash: [index as u8; 32] });
    }
    batch.set_hints(&Hints { contiguous_length: 10, ..Hints::default() });
    batch.put_user_data("name", b"value");
    batch.put_local(b"local", b"value").unwrap();
    assert!(batch.put_local(&[0; 2049], b"").is_err());
    assert!(store.read().block(0).unwrap().is_none());
    store.commit(&batch).unwrap();

    batch.clear();
    batch.delete_blocks(2..5);
    batch.delete_block(9);
    batch.delete_nodes(8..u64::MAX);
    batch.delete_user_data("name");
    store.commit(&batch).unwrap();
    let snapshot = store.with_snapshot(|view| {
        let mut indexes = Vec::new();
        view.block_indexes(1..u64::MAX, &mut |index| {
            indexes.push(index);
            ControlFlow::Continue(())
        })?;
        Ok::<_, StorageError>((indexes, view.records()?))
    });
    let (indexes, records) = snapshot.unwrap().unwrap();
    assert_eq!(indexes, [1, 5, 6, 7, 8]);
    assert_eq!(records.hints.contiguous_length, 10);
    assert_eq!(records.head, None);
    let view = store.read();
    assert!(view.node(6).unwrap().is_some() && view.node(8).unwrap().is_none());
    let mut names = Vec::new();
    view.all_user_data(&mut |name, _| {
        names.push(name);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert_eq!(names, ["made"]);
    assert_eq!(view.local(b"local").unwrap().unwrap(), "value");
}

#[test]
fn a_node_in_the_wrong_place_is_damage() {
    let database = Database::memory();
    let store = database.create_core(&core(1, None)).unwrap();
    let mut batch = Batch::new();
    let node = Node { index: 4, size: 1, hash: [0; 32] };
    batch.put_with(&keys::tree_node(0, 6), |out| records::encode_node(&node, out));
    database.storage().commit(&batch).unwrap();
    assert!(matches!(store.read().node(6), Err(StorageError::Corrupt { .. })));
}

#[test]
fn a_core_that_lost_commits_is_not_appended_to() {
    let database = Database::memory();
    let log = crate::Hypercore::builder().seed([1; 32]).open(&database).unwrap();
    log.append("one").unwrap();
    let (key, discovery_key) = (log.key(), log.discovery_key());
    drop(log);
    let store = database.resume(&discovery_key).unwrap().unwrap();
    let mut batch = store.batch();
    batch.set_hints(&Hints { recovering: 5, ..store.read().hints().unwrap() });
    store.commit(&batch).unwrap();

    let log = crate::Hypercore::builder().key(key).open(&database).unwrap();
    let error = log.append("two").unwrap_err();
    assert!(matches!(error, crate::Error::Recovering(_)), "{error}");
    assert_eq!(log.length(), 1);
    log.end_recovery().unwrap();
    log.append("two").unwrap();
    assert_eq!(store.read().hints().unwrap().recovering, 0);
}

#[test]
fn whatever_changes_a_core_moves_it_in_its_group() {
    let database = Database::memory();
    let log = crate::Hypercore::builder().seed([1; 32]).open(&database).unwrap();
    let (key, discovery_key) = (log.key(), log.discovery_key());
    log.append("one").unwrap();
    drop(log);
    let store = database.resume(&discovery_key).unwrap().unwrap();
    let core = database.pointers(&discovery_key).unwrap().unwrap().core;
    // As Node does when a group is set: the entry comes with the next change.
    let mut batch = Batch::new();
    batch.put(&keys::group(core), &[&[3][..], &[9; 32], &[5]].concat());
    database.storage().commit(&batch).unwrap();
    let entries = || {
        let mut found = Vec::new();
        let (start, end) = (keys::group_entry(5, 0, 0), keys::group_entry(6, 0, 0));
        let mut note = |key: &[u8], value: &[u8]| {
            found.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        };
        database.storage().scan(&start, &end, false, &mut note).unwrap();
        found
    };
    let expected = || {
        let timestamp = store.read().head().unwrap().unwrap().timestamp;
        vec![(keys::group_entry(5, timestamp, core).to_vec(), key.as_bytes().to_vec())]
    };
    // The time of each change is its own.
    let set_back = || {
        let head = store.read().head().unwrap().unwrap();
        let mut batch = store.batch();
        let from = head.timestamp;
        batch.set_head(&Head { timestamp: from - 1000, ..head });
        let group = store.read().group().unwrap().unwrap();
        batch.move_in_group(&group, from, from - 1000, &key);
        store.commit(&batch).unwrap();
        assert_eq!(entries(), expected());
    };

    let log = crate::Hypercore::builder().key(key).open(&database).unwrap();
    assert_eq!(entries(), []);
    log.append_batch(["two", "three"]).unwrap();
    assert_eq!(entries(), expected());
    set_back();
    log.append("four").unwrap();
    assert_eq!(entries(), expected());
    set_back();
    log.truncate(1).unwrap();
    assert_eq!(entries(), expected());
}
