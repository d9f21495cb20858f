//! Sessions of cores: found by whatever is known, opened once, let go of when nobody needs them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use corestore::{Corestore, Query};
use futures::FutureExt;
use hypercore::storage::{Database, OpenError};
use hypercore::{Error, KeyPair, Manifest, Signer};

#[test]
fn a_core_is_open_once_and_as_long_as_it_has_sessions() {
    let store = Corestore::memory();
    let first = store.get("log").unwrap();
    let second = store.get(first.key()).unwrap();
    let third = store.get(first.discovery_key()).unwrap();
    first.append("hello").unwrap();
    assert_eq!((second.length(), third.length()), (1, 1));
    assert_eq!(first.session_count(), 3);
    assert_eq!(store.loaded_count(), 1);
    drop((first, second));
    assert_eq!(store.loaded_count(), 1);
    third.close();
    assert_eq!(store.loaded_count(), 0);
    // It was not lost, only let go of.
    let again = store.get("log").unwrap();
    assert_eq!(again.length(), 1);
    again.append("world").unwrap();
}

#[test]
fn known_cores_are_not_live_objects() {
    let store = Corestore::memory();
    for index in 0..1000 {
        store.get(format!("core {index}")).unwrap().append(format!("block {index}")).unwrap();
        assert_eq!(store.loaded_count(), 0);
    }
    assert_eq!(store.list().count(), 1000);
    assert_eq!(store.names().count(), 1000);
    let open: Vec<_> = store.list().map(|discovery_key| store.get(discovery_key.unwrap()).unwrap()).collect();
    assert_eq!(store.loaded_count(), 1000);
    assert!(open.iter().all(|core| core.length() == 1));
    drop(open);
    assert_eq!(store.loaded_count(), 0);
}

#[test]
fn what_is_not_stored_is_made_only_when_wanted() {
    let store = Corestore::memory();
    let elsewhere = Corestore::memory().get("log").unwrap();
    let error = store.get(elsewhere.discovery_key()).unwrap_err();
    assert!(matches!(error, Error::NotFound(_)), "{error}");
    for query in [Query::name("log"), Query::key(elsewhere.key())] {
        assert!(store.get(query.create_if_missing(false)).is_err());
    }
    assert_eq!(store.list().count(), 0);
    let reader = store.get(elsewhere.key()).unwrap();
    assert!(!reader.writable());
    assert!(store.has(&elsewhere.discovery_key()).unwrap());
    // A second time it is there.
    store.get(elsewhere.discovery_key()).unwrap();
}

#[test]
fn every_way_to_say_which_core() {
    let store = Corestore::memory();
    let pair = KeyPair::from_seed(&[7; 32]);
    let by_pair = store.get(Query::key_pair(pair.clone())).unwrap();
    assert_eq!(by_pair.key(), Manifest::default_signer(pair.public()).key());
    let compat = store.get(Query::key_pair(pair.clone()).compat(true)).unwrap();
    assert_eq!(compat.key().as_bytes(), &pair.public());
    compat.append("old form").unwrap();

    let manifest = Manifest::with_signers(
        [1, 2, 3].map(|seed| Signer::new(KeyPair::from_seed(&[seed; 32]).public())).into(),
    );
    let several = store.get(Query::manifest(manifest.clone())).unwrap();
    assert_eq!(several.key(), manifest.key());
    assert!(!several.writable());
    let signers =
        Query::key(several.key()).signer(KeyPair::from_seed(&[1; 32])).signer(KeyPair::from_seed(&[3; 32]));
    assert!(store.get(signers).unwrap().writable());

    let fresh = store.get(Query::fresh().user_data("kind", "test")).unwrap();
    assert_ne!(fresh.key(), store.get(Query::fresh()).unwrap().key());
    fresh.append("mine").unwrap();
    let key = fresh.key();
    drop(fresh);
    // The key pair was stored with it.
    let again = store.get(key).unwrap();
    again.append("still mine").unwrap();
    assert_eq!(again.user_data("kind").unwrap().unwrap(), "test");
}

#[test]
fn a_core_that_was_opened_by_its_key_becomes_writable_by_its_name() {
    let store = Corestore::from_database_with_primary_key(Database::memory(), [1; 32]).unwrap();
    let key = Corestore::from_database_with_primary_key(Database::memory(), [1; 32])
        .unwrap()
        .get("log")
        .unwrap()
        .key();
    let by_key = store.get(key).unwrap();
    assert!(!by_key.writable());
    let by_name = store.get("log").unwrap();
    assert_eq!(by_name.key(), key);
    by_name.append("hello").unwrap();
}

#[test]
fn read_only_sessions_and_stores_refuse_to_write() {
    let store = Corestore::memory();
    let log = store.get("log").unwrap();
    let reader = store.get(Query::name("log").writable(false)).unwrap();
    assert!(matches!(reader.append("x").unwrap_err(), Error::NotWritable(_)));
    let inner = store.read_only().namespace("inner").get("log").unwrap();
    assert!(matches!(inner.append("x").unwrap_err(), Error::NotWritable(_)));
    log.append("x").unwrap();
    assert_eq!(reader.length(), 1);
}

#[test]
fn the_primary_key_must_be_the_one_of_the_store() {
    let database = Database::memory();
    let store = Corestore::from_database_with_primary_key(database.clone(), [1; 32]).unwrap();
    assert_eq!(store.primary_key(), &[1; 32]);
    let error = Corestore::from_database_with_primary_key(database.clone(), [2; 32]).unwrap_err();
    assert!(matches!(error, OpenError::AnotherPrimaryKey), "{error}");
    assert_eq!(Corestore::from_database(database).unwrap().primary_key(), &[1; 32]);
    assert_ne!(Corestore::memory().primary_key(), Corestore::memory().primary_key());
}

#[test]
fn names_have_a_bound() {
    let store = Corestore::memory();
    assert!(store.get("n".repeat(1024)).is_ok());
    let error = store.get("n".repeat(1025)).unwrap_err();
    assert!(error.to_string().contains("1024"), "{error}");
}

#[test]
fn hooks_hear_of_each_load_once() {
    let store = Corestore::memory();
    let loads = Arc::new(AtomicUsize::new(0));
    let counted = loads.clone();
    let watch = store.on_load(Arc::new(move |core| {
        assert!(!core.is_closed());
        counted.fetch_add(1, Ordering::Relaxed);
    }));
    let first = store.get("log").unwrap();
    let second = store.get("log").unwrap();
    assert_eq!(loads.load(Ordering::Relaxed), 1);
    drop((first, second));
    drop(store.get("log").unwrap());
    assert_eq!(loads.load(Ordering::Relaxed), 2);
    drop(watch);
    drop(store.get("log").unwrap());
    assert_eq!(loads.load(Ordering::Relaxed), 2);
}

#[test]
fn exclusive_sessions_wait_for_one_another() {
    let store = Corestore::memory();
    let first = store.get_exclusive("log").now_or_never().unwrap().unwrap();
    first.append("mine alone").unwrap();
    let mut given_up = Box::pin(store.get_exclusive("log"));
    let mut second = Box::pin(store.get_exclusive("log"));
    assert!((&mut given_up).now_or_never().is_none());
    assert!((&mut second).now_or_never().is_none());
    // Another core, and a plain session, do not wait.
    store.get_exclusive("other").now_or_never().unwrap().unwrap();
    store.get("log").unwrap();
    drop(given_up);
    drop(first);
    let second = (&mut second).now_or_never().unwrap().unwrap();
    assert_eq!(second.length(), 1);
    drop(second);
    store.get_exclusive("log").now_or_never().unwrap().unwrap();
}

#[test]
fn closing_the_store_ends_everything() {
    let store = Corestore::memory();
    let log = store.get("log").unwrap();
    let clone = store.namespace("inner");
    store.close().unwrap();
    assert!(log.is_closed());
    assert!(matches!(log.append("x").unwrap_err(), Error::Closed));
    assert!(matches!(clone.get("log").unwrap_err(), Error::Closed));
    assert_eq!(store.loaded_count(), 0);
}

#[test]
fn many_threads_open_the_same_cores() {
    let store = Corestore::memory();
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let store = store.clone();
            std::thread::spawn(move || {
                for round in 0..200 {
                    let log = store.get(format!("core {}", round % 3)).unwrap();
                    log.append(format!("{thread} {round}")).unwrap();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let lengths: u64 = (0..3).map(|index| store.get(format!("core {index}")).unwrap().length()).sum();
    assert_eq!(lengths, 8 * 200);
    assert_eq!(store.loaded_count(), 0);
    assert_eq!(store.list().count(), 3);
}

#[cfg(feature = "rocksdb")]
#[test]
fn a_store_in_a_folder_keeps_its_primary_key() {
    let folder = tempfile::tempdir().unwrap();
    let key = {
        let store = Corestore::open(folder.path()).unwrap();
        let log = store.get("log").unwrap();
        log.append("hello").unwrap();
        store.close().unwrap();
        log.key()
    };
    let store = Corestore::open(folder.path()).unwrap();
    let log = store.get("log").unwrap();
    assert_eq!((log.key(), log.length()), (key, 1));
    assert_eq!(store.default_discovery_key(), Some(log.discovery_key()));
    assert!(matches!(Corestore::open(folder.path()), Err(OpenError::Locked { .. })));
}
