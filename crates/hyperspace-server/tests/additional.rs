//! The services of our own, frame by frame.

mod common;

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use common::{Fixture, Raw};
use corestore::Corestore;
use hypercore::storage::{Batch, Database};
use hyperspace_common::{Method, messages::*, text};
use hyperspace_server::ServerOptions;

async fn open(raw: &mut Raw, call: u64, request: &OpenCoreRequest) -> OpenCoreResponse {
    raw.send(Method::StoreOpen, call, request).await;
    loop {
        let (header, payload) = raw.next().await.expect("an answer");
        if header.id == call {
            return hyperspace_common::decode(payload).expect("the core is open");
        }
    }
}

async fn append(raw: &mut Raw, id: u64, blocks: &[&'static str]) {
    let blocks = blocks.iter().map(|block| Bytes::from_static(block.as_bytes())).collect();
    raw.send(Method::HypercoreAppend, 50, &AppendRequest { id, blocks }).await;
    raw.event::<AppendEvent>(Method::HypercoreOnAppend).await;
    raw.answer::<AppendResponse>(Method::HypercoreAppend, 50).await;
}

#[tokio::test]
async fn a_truncation_is_told_as_what_it_is_or_as_a_length() {
    let fixture = Fixture::start().await;
    let (mut new, mut old) = (fixture.raw().await, fixture.raw().await);
    let opened = open(&mut new, 1, &OpenCoreRequest { id: 0, ..Default::default() }).await;
    assert!(opened.state.writable && opened.state.fork == 0);
    append(&mut new, 0, &["a", "bc", "def"]).await;
    let request = OpenRequest { id: 0, key: Some(opened.key), name: None, weak: None };
    old.send(Method::CorestoreOpen, 1, &request).await;
    while old.next().await.unwrap().0.id != 1 {}

    new.send(Method::LogTruncate, 2, &TruncateRequest { id: 0, length: 2, fork: None }).await;
    let event: TruncateEvent = new.event(Method::LogOnTruncate).await;
    assert_eq!(event, TruncateEvent { id: 0, length: 2, byte_length: 3, fork: 1 });
    let state: LogState = new.answer(Method::LogTruncate, 2).await;
    assert_eq!((state.length, state.byte_length, state.contiguous_length, state.fork), (2, 3, 2, 1));
    let event: AppendEvent = old.event(Method::HypercoreOnAppend).await;
    assert_eq!(event, AppendEvent { id: 0, length: 2, byte_length: 3 });

    new.send(Method::LogTruncate, 3, &TruncateRequest { id: 0, length: 9, fork: None }).await;
    assert_eq!(new.error(3).await.code.as_deref(), Some("EINVAL"));
    new.send(Method::LogTruncate, 4, &TruncateRequest { id: 7, length: 0, fork: None }).await;
    assert_eq!(new.error(4).await.message, "Invalid hypercore: 7");
}

#[tokio::test]
async fn a_truncation_goes_to_the_fork_that_is_asked_for() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    open(&mut raw, 1, &OpenCoreRequest { id: 0, ..Default::default() }).await;
    append(&mut raw, 0, &["a", "b", "c"]).await;
    // One further than before, unless another one is named.
    for (length, fork, expected) in [(2, Some(7), 7), (1, None, 8), (0, Some(100), 100)] {
        raw.send(Method::LogTruncate, 2, &TruncateRequest { id: 0, length, fork }).await;
        let event: TruncateEvent = raw.event(Method::LogOnTruncate).await;
        assert_eq!((event.length, event.fork), (length, expected));
        let state: LogState = raw.answer(Method::LogTruncate, 2).await;
        assert_eq!((state.length, state.fork), (length, expected));
    }
    let too_far = TruncateRequest { id: 0, length: 0, fork: Some(1 << 53) };
    raw.send(Method::LogTruncate, 3, &too_far).await;
    assert_eq!(raw.error(3).await.code.as_deref(), Some("EINVAL"));
    raw.send(Method::LogState, 4, &LogRequest { id: 0 }).await;
    assert_eq!(raw.answer::<LogState>(Method::LogState, 4).await.fork, 100);
}

#[tokio::test]
async fn a_core_is_read_only_for_whoever_opens_it_so_by_name_or_by_key() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    let named = |id, read_only| OpenCoreRequest {
        id,
        name: Some("log".into()),
        read_only: Some(read_only),
        ..OpenCoreRequest::default()
    };
    let reader = open(&mut raw, 1, &named(0, true)).await;
    let writer = open(&mut raw, 2, &named(1, false)).await;
    let by_key = OpenCoreRequest { id: 2, name: None, key: Some(writer.key.clone()), ..named(2, true) };
    let second = open(&mut raw, 3, &by_key).await;
    assert!(reader.key == writer.key && second.key == writer.key);
    assert_eq!([&reader, &writer, &second].map(|opened| opened.state.writable), [false, true, false]);
    for id in [0, 2] {
        raw.send(Method::HypercoreAppend, 4, &AppendRequest { id, blocks: vec!["x".into()] }).await;
        assert_eq!(raw.error(4).await.message, text::NOT_WRITABLE);
        raw.send(Method::LogTruncate, 5, &TruncateRequest { id, length: 0, fork: None }).await;
        assert_eq!(raw.error(5).await.message, text::NOT_WRITABLE);
    }
    raw.send(Method::HypercoreAppend, 6, &AppendRequest { id: 1, blocks: vec!["x".into()] }).await;
    for id in 0..3 {
        let event: AppendEvent = raw.event(Method::HypercoreOnAppend).await;
        assert_eq!(event, AppendEvent { id, length: 1, byte_length: 1 });
    }
    assert_eq!(raw.answer::<AppendResponse>(Method::HypercoreAppend, 6).await.length, 1);
}

#[tokio::test]
async fn blocks_are_cleared_values_are_kept_and_snapshots_stay() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    let opened = open(&mut raw, 1, &OpenCoreRequest { id: 0, ..Default::default() }).await;
    append(&mut raw, 0, &["a", "b", "c", "d"]).await;
    raw.send(Method::LogSnapshot, 2, &SnapshotRequest { id: 0, snapshot_id: 9 }).await;
    assert_eq!(raw.answer::<LogState>(Method::LogSnapshot, 2).await.length, 4);
    append(&mut raw, 0, &["e"]).await;
    raw.send(Method::LogState, 3, &LogRequest { id: 9 }).await;
    let state: LogState = raw.answer(Method::LogState, 3).await;
    assert!(state.length == 4 && !state.writable);
    raw.send(Method::LogSnapshot, 4, &SnapshotRequest { id: 0, snapshot_id: 9 }).await;
    assert_eq!(raw.error(4).await.message, text::SESSION_IN_USE);

    raw.send(Method::LogClear, 5, &ClearRequest { id: 0, start: 1, end: 3 }).await;
    assert_eq!(raw.answer::<ClearResponse>(Method::LogClear, 5).await.blocks, 2);
    raw.send(Method::LogClear, 6, &ClearRequest { id: 0, start: 3, end: 1 }).await;
    assert_eq!(raw.answer::<ClearResponse>(Method::LogClear, 6).await.blocks, 0);
    raw.send(Method::LogState, 7, &LogRequest { id: 0 }).await;
    let state: LogState = raw.answer(Method::LogState, 7).await;
    assert_eq!((state.length, state.contiguous_length), (5, 1));

    let name = || "colour".to_owned();
    let value = Some(Bytes::from_static(b"green"));
    raw.send(Method::LogSetUserData, 8, &SetUserDataRequest { id: 0, name: name(), value: value.clone() })
        .await;
    raw.done(Method::LogSetUserData, 8).await;
    raw.send(Method::LogUserData, 9, &UserDataRequest { id: 0, name: name() }).await;
    assert_eq!(raw.answer::<UserDataResponse>(Method::LogUserData, 9).await.value, value);
    raw.send(Method::LogSetUserData, 10, &SetUserDataRequest { id: 0, name: name(), value: None }).await;
    raw.done(Method::LogSetUserData, 10).await;
    raw.send(Method::LogUserData, 11, &UserDataRequest { id: 0, name: name() }).await;
    assert_eq!(raw.answer::<UserDataResponse>(Method::LogUserData, 11).await.value, None);

    raw.send(Method::LogManifest, 12, &LogRequest { id: 0 }).await;
    let manifest: ManifestResponse = raw.answer(Method::LogManifest, 12).await;
    assert_eq!((manifest.quorum, manifest.signers.len()), (Some(1), 1));
    let decoded = hypercore::Manifest::decode(manifest.manifest.unwrap()).unwrap();
    assert_eq!(decoded.key().as_bytes()[..], opened.key[..]);
}

#[tokio::test]
async fn cores_and_names_are_listed_page_by_page_without_opening_them() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    let namespace = vec![Bytes::from_static(b"app"), Bytes::from_static(b"logs")];
    for i in 0..20u64 {
        let namespace = if i < 15 { namespace.clone() } else { Vec::new() };
        let request =
            OpenCoreRequest { id: i, name: Some(format!("log {i:02}")), namespace, ..Default::default() };
        open(&mut raw, 1, &request).await;
    }
    append(&mut raw, 3, &["hello", "world"]).await;
    for id in 1..20 {
        raw.send(Method::HypercoreClose, 2, &CloseRequest { id }).await;
        raw.done(Method::HypercoreClose, 2).await;
    }
    let (mut after, mut listed) = (None, Vec::new());
    loop {
        raw.send(Method::StoreList, 3, &ListRequest { after, limit: Some(7) }).await;
        let page: ListResponse = raw.answer(Method::StoreList, 3).await;
        assert!(page.cores.len() <= 7);
        after = page.cores.last().map(|core| core.discovery_key.clone());
        listed.extend(page.cores);
        if !page.more {
            break;
        }
    }
    assert_eq!(listed.len(), 20);
    assert!(listed.is_sorted_by(|a, b| a.discovery_key < b.discovery_key));
    assert_eq!(listed.iter().filter(|core| core.open).count(), 1);
    let hello: Vec<_> = listed.iter().filter(|core| core.length > 0).collect();
    assert_eq!((hello.len(), hello[0].byte_length, hello[0].contiguous_length), (1, 10, 2));
    assert!(hello[0].writable && !hello[0].open);

    let (mut after, mut names) = (None, Vec::new());
    loop {
        let request = NamesRequest { namespace: namespace.clone(), after, limit: Some(4) };
        raw.send(Method::StoreNames, 4, &request).await;
        let page: NamesResponse = raw.answer(Method::StoreNames, 4).await;
        after = page.cores.last().map(|core| core.name.clone());
        names.extend(page.cores);
        if !page.more {
            break;
        }
    }
    assert_eq!(
        names.iter().map(|core| core.name.clone()).collect::<Vec<_>>(),
        (0..15).map(|i| format!("log {i:02}")).collect::<Vec<_>>()
    );
    assert_eq!(names[3].discovery_key, hello[0].discovery_key);

    raw.send(Method::StoreStats, 5, &()).await;
    let stats: StatsResponse = raw.answer(Method::StoreStats, 5).await;
    assert_eq!((stats.open_cores, stats.clients, stats.peers), (1, 1, 0));
}

/// Every entry of a store's database.
fn entries(database: &Database) -> BTreeMap<Bytes, Bytes> {
    let mut entries = BTreeMap::new();
    let mut note = |key: &[u8], value: &[u8]| {
        entries.insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(value));
        ControlFlow::Continue(())
    };
    database.storage().scan(&[], &[0xff; 8], false, &mut note).unwrap();
    entries
}

#[tokio::test]
async fn a_core_with_damaged_records_is_missing_in_the_list_and_the_others_are_there() {
    let database = Database::memory();
    let mut before = BTreeMap::new();
    let mut whole = Vec::new();
    for seed in 1..=3 {
        let log = hypercore::Hypercore::builder().seed([seed; 32]).open(&database).unwrap();
        log.append("block").unwrap();
        let discovery_key = log.discovery_key();
        drop(log);
        let after = entries(&database);
        if seed == 2 {
            // All of its records, but not where they are found.
            let found_by = |key: &[u8]| key.windows(32).any(|part| part == discovery_key.as_bytes());
            let mut damage = Batch::new();
            for key in after.keys().filter(|key| !before.contains_key(*key) && !found_by(key)) {
                damage.put(key, &[0xff]);
            }
            database.storage().commit(&damage).unwrap();
        } else {
            whole.push(Bytes::copy_from_slice(discovery_key.as_bytes()));
        }
        before = after;
    }
    whole.sort();
    let store = Some(Corestore::from_database(database).unwrap());
    let fixture = Fixture::with_options(ServerOptions { store, ..ServerOptions::default() }).await;
    let mut raw = fixture.raw().await;
    raw.send(Method::StoreList, 1, &ListRequest { after: None, limit: None }).await;
    let page: ListResponse = raw.answer(Method::StoreList, 1).await;
    assert_eq!(page.cores.iter().map(|core| core.discovery_key.clone()).collect::<Vec<_>>(), whole);
    assert!(page.cores.iter().all(|core| core.length == 1) && !page.more);
}

#[tokio::test]
async fn cores_are_opened_as_exactly_as_asked() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    let own = vec![Bytes::from_static(b"@hyperspace:internal")];
    let name = || Some("x".to_owned());
    raw.send(
        Method::StoreOpen,
        1,
        &OpenCoreRequest { id: 0, name: name(), namespace: own, ..Default::default() },
    )
    .await;
    assert!(raw.error(1).await.message.contains("daemon's own"));
    let missing = OpenCoreRequest {
        id: 0,
        key: Some(Bytes::from(vec![5; 32])),
        create: Some(false),
        ..Default::default()
    };
    raw.send(Method::StoreOpen, 2, &missing).await;
    assert_eq!(raw.error(2).await.code.as_deref(), Some("ENOENT"));
    let opened = open(&mut raw, 3, &OpenCoreRequest { id: 0, name: name(), ..Default::default() }).await;
    let by_discovery_key = OpenCoreRequest {
        id: 1,
        discovery_key: Some(opened.discovery_key.clone()),
        read_only: Some(true),
        ..Default::default()
    };
    let reader = open(&mut raw, 4, &by_discovery_key).await;
    assert!(reader.key == opened.key && !reader.state.writable);
    raw.send(Method::HypercoreAppend, 5, &AppendRequest { id: 1, blocks: vec![Bytes::new()] }).await;
    assert_eq!(raw.error(5).await.message, text::NOT_WRITABLE);
    raw.send(Method::LogOnTruncate, 6, &()).await;
    assert!(raw.error(6).await.message.contains("event"));
}

/// Session 9, five bytes long; session 0 of the same core has a fourth block.
async fn take_snapshot_of_three_blocks(raw: &mut Raw) {
    open(raw, 1, &OpenCoreRequest { id: 0, ..Default::default() }).await;
    append(raw, 0, &["a", "bc", "de"]).await;
    raw.send(Method::LogSnapshot, 2, &SnapshotRequest { id: 0, snapshot_id: 9 }).await;
    raw.answer::<LogState>(Method::LogSnapshot, 2).await;
    append(raw, 0, &["later"]).await;
}

#[tokio::test]
async fn a_seek_on_a_snapshot_finds_only_what_the_snapshot_has() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    take_snapshot_of_three_blocks(&mut raw).await;
    let seek = |byte_offset, wait, if_available| SeekRequest {
        id: 9,
        byte_offset,
        start: None,
        end: None,
        wait: Some(wait),
        if_available: Some(if_available),
    };
    for (wait, if_available) in [(false, true), (true, true), (true, false)] {
        for (byte_offset, (seq, block_offset)) in [(4, (2, 1)), (5, (3, 0))] {
            raw.send(Method::HypercoreSeek, 3, &seek(byte_offset, wait, if_available)).await;
            let found: SeekResponse = raw.answer(Method::HypercoreSeek, 3).await;
            assert_eq!(found, SeekResponse { seq, block_offset });
        }
        // It never becomes longer: there is nothing to wait for.
        raw.send(Method::HypercoreSeek, 4, &seek(7, wait, if_available)).await;
        assert_eq!(raw.error(4).await.message, text::OUT_OF_BOUNDS);
    }
}

#[tokio::test]
async fn a_download_beyond_a_snapshot_is_answered_at_once() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    take_snapshot_of_three_blocks(&mut raw).await;
    let download = |end, blocks| DownloadRequest { id: 9, resource_id: 1, end, blocks, ..Default::default() };
    raw.send(Method::HypercoreDownload, 3, &download(Some(3), vec![])).await;
    raw.done(Method::HypercoreDownload, 3).await;
    for beyond in [download(Some(4), vec![]), download(None, vec![0, 3])] {
        raw.send(Method::HypercoreDownload, 4, &beyond).await;
        assert_eq!(raw.error(4).await.code.as_deref(), Some("EINVAL"));
    }
}

/// A namespace of very many empty parts would take many times its size before it is found to be too deep.
#[tokio::test]
async fn long_namespaces_are_refused_before_they_are_looked_at() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    let namespace = vec![Bytes::new(); 100_000];
    let name = Some("x".to_owned());
    raw.send(
        Method::StoreOpen,
        1,
        &OpenCoreRequest { id: 0, name: name.clone(), namespace: namespace.clone(), ..Default::default() },
    )
    .await;
    let refused = raw.error(1).await;
    assert!(refused.code.as_deref() == Some("ELIMIT") && refused.message.contains("131072"), "{refused:?}");
    raw.send(Method::StoreNames, 2, &NamesRequest { namespace, ..Default::default() }).await;
    let refused = raw.error(2).await;
    assert!(refused.code.as_deref() == Some("ELIMIT") && refused.message.contains("131072"), "{refused:?}");
    // The longest that there can be has room.
    let namespace = vec![Bytes::from(vec![b'n'; 1024]); 16];
    let name = Some("x".repeat(1024));
    let longest = OpenCoreRequest { id: 0, name, namespace: namespace.clone(), ..Default::default() };
    open(&mut raw, 3, &longest).await;
    raw.send(Method::StoreNames, 4, &NamesRequest { namespace, ..Default::default() }).await;
    assert_eq!(raw.answer::<NamesResponse>(Method::StoreNames, 4).await.cores.len(), 1);
}
