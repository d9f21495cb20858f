use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use futures::executor::block_on;
use futures::{FutureExt, SinkExt, StreamExt};

use super::*;
use crate::core::Seek;
use crate::demand::{DownloadRange, Want, WantOptions};
use crate::events::{CoreEvent, StreamedEvent};
use crate::proof::{ProofRequest, RequestBlock, RequestSeek, RequestUpgrade};
use crate::streams::{ByteStreamOptions, ReadOptions};

fn writer(blocks: u64) -> Hypercore {
    let log = Hypercore::memory().unwrap();
    log.append_batch((0..blocks).map(|i| format!("block {i}"))).unwrap();
    log
}

/// A reader with a replicator "attached", that does nothing by itself.
fn reader_of(log: &Hypercore) -> (Hypercore, Arc<AtomicUsize>) {
    let reader = Hypercore::builder().key(log.key()).memory().unwrap();
    let woken = Arc::new(AtomicUsize::new(0));
    let count = woken.clone();
    reader.set_replication_waker(Some(Arc::new(move || {
        count.fetch_add(1, Ordering::Relaxed);
    })));
    (reader, woken)
}

fn upgrade(from: &Hypercore, to: &Hypercore) {
    let start = to.length();
    let upgrade = Some(RequestUpgrade { start, length: from.length() - start });
    let request = ProofRequest { upgrade, manifest: true, ..ProofRequest::default() };
    let proof = from.lock().core().prove(&request).unwrap();
    for result in to.lock().parts().0.receive(vec![proof]) {
        result.unwrap();
    }
}

fn send(from: &Hypercore, to: &Hypercore, index: u64) {
    let nodes = to.lock().core().missing_nodes(2 * index).unwrap();
    let block = Some(RequestBlock { index, nodes });
    let request = ProofRequest { block, ..ProofRequest::default() };
    let proof = from.lock().core().prove(&request).unwrap();
    for result in to.lock().parts().0.receive(vec![proof]) {
        result.unwrap();
    }
}

#[test]
fn a_get_waits_for_its_block_and_is_taken_back_when_it_is_dropped() {
    let log = writer(5);
    let (reader, woken) = reader_of(&log);
    upgrade(&log, &reader);
    let options = GetOptions { wait: false, ..GetOptions::default() };
    assert_eq!(block_on(reader.get_with(3, options)).unwrap(), None);
    {
        let mut get = Box::pin(reader.get(3));
        assert!(get.as_mut().now_or_never().is_none());
        assert!(reader.lock().parts().1.wants_block(3));
        assert_eq!(woken.load(Ordering::Relaxed), 1);
    }
    assert!(reader.lock().parts().1.is_empty());
    assert_eq!(woken.load(Ordering::Relaxed), 2);

    let mut first = Box::pin(reader.get(3));
    let mut second = Box::pin(reader.get(3));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    send(&log, &reader, 3);
    assert_eq!(first.now_or_never().unwrap().unwrap(), "block 3");
    assert_eq!(second.now_or_never().unwrap().unwrap(), "block 3");
    assert!(reader.lock().parts().1.is_empty());
    assert_eq!(reader.try_get(3).unwrap().unwrap(), "block 3");
}

#[test]
fn blocks_beyond_the_end_are_waited_for_until_somebody_appends_them() {
    let log = writer(1);
    let mut get = Box::pin(log.get(2));
    assert!(get.as_mut().now_or_never().is_none());
    log.append("one").unwrap();
    assert!(get.as_mut().now_or_never().is_none());
    log.append("two").unwrap();
    assert_eq!(get.now_or_never().unwrap().unwrap(), "two");
}

#[test]
fn nobody_to_ask_is_an_answer_for_those_who_want_only_what_is_available() {
    let log = writer(1);
    let options = GetOptions { if_available: true, ..GetOptions::default() };
    assert!(matches!(block_on(log.get_with(7, options)), Err(Error::NotAvailable(7))));
    assert!(matches!(block_on(log.seek_if_available(7000)), Ok(None)));
    assert!(matches!(block_on(log.seek_if_available(0)), Ok(Some((0, 0)))));
    let (reader, _) = reader_of(&log);
    let mut get = Box::pin(reader.get_with(0, options));
    assert!(get.as_mut().now_or_never().is_none());
    {
        let mut guard = reader.lock();
        let (_, demand) = guard.parts();
        let (id, entry) = demand.iter().next().unwrap();
        assert!(entry.options.if_available);
        demand.fail(id, Error::NotAvailable(0));
    }
    assert!(matches!(get.now_or_never(), Some(Err(Error::NotAvailable(0)))));
}

#[test]
fn downloads_end_when_all_is_here_and_stop_when_dropped() {
    let log = writer(6);
    let (reader, _) = reader_of(&log);
    upgrade(&log, &reader);
    let mut download = reader.download(DownloadRange::new(1, 4).linear()).unwrap();
    let mut list = reader.download(DownloadRange::list([5, 1, 5])).unwrap();
    let live = reader.download(DownloadRange::live(0)).unwrap();
    assert_eq!(reader.lock().parts().1.len(), 3);
    for index in [3, 1] {
        send(&log, &reader, index);
        assert!(download.done().now_or_never().is_none());
    }
    send(&log, &reader, 2);
    download.done().now_or_never().unwrap().unwrap();
    assert!(list.done().now_or_never().is_none());
    send(&log, &reader, 5);
    list.done().now_or_never().unwrap().unwrap();
    assert_eq!(reader.lock().parts().1.len(), 1);
    live.destroy();
    assert!(reader.lock().parts().1.is_empty());
    let mut again = reader.download(DownloadRange::new(1, 4)).unwrap();
    again.done().now_or_never().unwrap().unwrap();
}

#[test]
fn a_seek_asks_for_the_nodes_that_it_lacks() {
    let log = writer(8);
    let (reader, _) = reader_of(&log);
    upgrade(&log, &reader);
    let mut seek = Box::pin(reader.seek(15));
    assert!(seek.as_mut().now_or_never().is_none());
    assert_eq!(reader.try_seek(15).unwrap(), None);
    let mut steps = 0;
    let found = loop {
        steps += 1;
        assert!(steps < 10);
        let seek = Some(RequestSeek { bytes: 15, padding: 0 });
        let range = reader.lock().core().seek(15, 0).unwrap();
        let Seek::Between { start, .. } = range else { break range };
        let nodes = reader.lock().core().missing_nodes(2 * start).unwrap();
        let hash = Some(RequestBlock { index: 2 * start, nodes });
        let request = ProofRequest { seek, hash, ..ProofRequest::default() };
        let proof = log.lock().core().prove(&request).unwrap();
        reader.lock().parts().0.receive(vec![proof]).pop().unwrap().unwrap();
    };
    assert_eq!(found, Seek::Found { index: 2, offset: 1 });
    assert_eq!(seek.now_or_never().unwrap().unwrap(), (2, 1));
}

#[test]
fn updates_wait_only_for_peers_that_are_there_or_being_looked_for() {
    let log = writer(2);
    assert!(!block_on(log.update()).unwrap());
    let alone = Hypercore::builder().key(log.key()).memory().unwrap();
    assert!(!block_on(alone.update()).unwrap());
    {
        let finding = alone.finding_peers();
        let mut update = Box::pin(alone.update());
        assert!(update.as_mut().now_or_never().is_none());
        drop(finding);
        assert!(!update.now_or_never().unwrap().unwrap());
    }
    let (reader, _) = reader_of(&log);
    assert!(!block_on(reader.update()).unwrap());
    let peer = PeerInfo { remote_public_key: [1; 32], remote_address: "here".into(), kind: "test".into() };
    let ticket = reader.peer_added(peer);
    assert_eq!(reader.peer_count(), 1);
    let mut update = Box::pin(reader.update());
    let min_length = UpdateOptions { min_length: Some(3), ..UpdateOptions::default() };
    let mut longer = Box::pin(reader.update_with(min_length));
    assert!(update.as_mut().now_or_never().is_none());
    assert!(longer.as_mut().now_or_never().is_none());
    upgrade(&log, &reader);
    assert!(update.now_or_never().unwrap().unwrap());
    assert!(longer.as_mut().now_or_never().is_none());
    log.append("more").unwrap();
    upgrade(&log, &reader);
    assert!(longer.now_or_never().unwrap().unwrap());
    drop(ticket);
    assert_eq!(reader.peers(), []);
}

#[test]
fn events_come_in_order_and_end_with_the_log() {
    let log = writer(3);
    let events = log.events();
    let (reader, _) = reader_of(&log);
    let reader_events = reader.events();
    upgrade(&log, &reader);
    send(&log, &reader, 1);
    log.append("x").unwrap();
    log.truncate(1).unwrap();
    drop(log);
    let texts = |events: Vec<StreamedEvent>| events.iter().map(|e| format!("{e:?}")).collect::<Vec<_>>();
    let seen = texts(block_on(events.collect()));
    assert_eq!(
        seen,
        [
            "Event(Append { length: 4, byte_length: 22 })",
            "Event(Truncate { length: 1, byte_length: 7, fork: 1 })",
            "Event(Close)"
        ]
    );
    reader.close();
    let seen = texts(block_on(reader_events.collect()));
    assert_eq!(
        seen,
        [
            "Event(Manifest)",
            "Event(Append { length: 3, byte_length: 21 })",
            "Event(Download { index: 1, bytes: 7 })",
            "Event(Close)"
        ]
    );
}

#[test]
fn sinks_are_told_apart_by_their_tag_until_the_subscription_is_dropped() {
    #[derive(Default)]
    struct Tags(Mutex<Vec<u64>>);
    impl EventSink for Tags {
        fn event(&self, tag: u64, event: &CoreEvent) {
            assert!(matches!(event, CoreEvent::Append { .. }));
            self.0.lock().unwrap().push(tag);
        }
    }
    let (one, two) = (writer(0), writer(0));
    let tags = Arc::new(Tags::default());
    let first = one.subscribe(7, tags.clone());
    let _second = two.subscribe(8, tags.clone());
    one.append("a").unwrap();
    two.append_group(&[vec!["b".into()], vec!["c".into()]]).unwrap();
    drop(first);
    one.append("d").unwrap();
    assert_eq!(*tags.0.lock().unwrap(), [7, 8, 8]);
}

#[test]
fn closing_a_session_ends_what_it_waits_for_and_the_last_one_closes_the_log() {
    let log = writer(1);
    let second = log.session(SessionOptions { read_only: true, ..SessionOptions::default() }).unwrap();
    let weak = log.weak();
    let closed = Arc::new(AtomicUsize::new(0));
    let count = closed.clone();
    log.on_close(Box::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    }));
    assert!(matches!(second.append("no"), Err(Error::NotWritable(_))));
    let mut get = Box::pin(second.get(9));
    let mut other = Box::pin(log.get(9));
    assert!(get.as_mut().now_or_never().is_none());
    assert!(other.as_mut().now_or_never().is_none());
    second.close();
    assert!(matches!(get.now_or_never(), Some(Err(Error::Closed))));
    assert!(matches!(second.try_get(0), Err(Error::Closed)));
    assert!(matches!(second.end_recovery(), Err(Error::Closed)));
    assert!(other.as_mut().now_or_never().is_none());
    assert_eq!(log.session_count(), 1);
    drop(weak.upgrade().unwrap());
    drop(other);
    drop(log);
    assert_eq!(closed.load(Ordering::Relaxed), 1);
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_visit_does_not_keep_the_log_open_and_ends_with_it() {
    let log = writer(1);
    let guest = log.weak().visit().unwrap();
    assert_eq!((log.session_count(), guest.length()), (1, 1));
    let mut get = Box::pin(guest.get(9));
    let mut download = guest.download(DownloadRange::new(3, 5)).unwrap();
    assert!(get.as_mut().now_or_never().is_none());
    // A visit that ends takes nobody with it.
    drop(log.weak().visit());
    assert!(get.as_mut().now_or_never().is_none() && !log.is_closed());
    let weak = log.weak();
    drop(log);
    assert!(matches!(get.now_or_never(), Some(Err(Error::Closed))));
    assert!(matches!(download.done().now_or_never(), Some(Err(Error::Closed))));
    assert!(weak.visit().is_none() && guest.is_closed());
}

#[test]
fn what_lies_beyond_a_snapshot_is_not_downloaded() {
    let log = writer(4);
    let snapshot = log.snapshot().unwrap();
    log.append("later").unwrap();
    for range in [DownloadRange::new(0, 5), DownloadRange::new(7, 9), DownloadRange::list([1, 4])] {
        assert!(matches!(snapshot.download(range), Err(Error::OutOfBounds { length: 4, .. })));
    }
    for range in [DownloadRange::new(0, 4), DownloadRange::list([3, 0])] {
        snapshot.download(range).unwrap().done().now_or_never().unwrap().unwrap();
    }
}

#[test]
fn a_snapshot_stays_as_it_is_until_its_blocks_are_cut_away() {
    let log = writer(4);
    let snapshot = log.snapshot().unwrap();
    let hash = snapshot.tree_hash();
    log.append("later").unwrap();
    assert_eq!((snapshot.length(), log.length()), (4, 5));
    assert_eq!((snapshot.tree_hash(), snapshot.writable()), (hash, false));
    assert!(matches!(snapshot.try_get(4), Err(Error::OutOfBounds { .. })));
    assert!(!snapshot.has_range(0..5).unwrap());
    log.truncate(2).unwrap();
    log.append_batch(["other", "history"]).unwrap();
    assert_eq!(snapshot.try_get(1).unwrap().unwrap(), "block 1");
    assert!(matches!(snapshot.try_get(2), Err(Error::SnapshotLost(2))));
    assert!(matches!(block_on(snapshot.get(3)), Err(Error::SnapshotLost(3))));
    // Nor does it say that it has what it does not give.
    assert!(snapshot.has(1).unwrap() && !snapshot.has(2).unwrap());
    assert!(snapshot.has_range(0..2).unwrap() && !snapshot.has_range(0..3).unwrap());
    assert_eq!((snapshot.count_local(0..4).unwrap(), snapshot.contiguous_length()), (2, 2));
    assert_eq!((snapshot.info().contiguous_length, snapshot.length()), (2, 4));
    assert_eq!(snapshot.try_get_run(0, 4, 100).unwrap(), ["block 0", "block 1"]);
    assert_eq!(snapshot.session(SessionOptions::default()).unwrap().length(), 4);
}

/// Others wait for the log while it is changed: what they looked at before does not count any more.
#[test]
fn a_snapshot_never_gives_blocks_of_another_history() {
    type Read = fn(&Hypercore) -> Result<Option<Bytes>, Error>;
    let reads: [Read; 3] = [
        |snapshot| snapshot.try_get(0),
        |snapshot| Ok(snapshot.try_get_run(0, 1, 100)?.pop()),
        |snapshot| block_on(snapshot.get_with(0, GetOptions { wait: false, ..GetOptions::default() })),
    ];
    for read in reads {
        for _ in 0..50 {
            let log = Hypercore::memory().unwrap();
            log.append("before").unwrap();
            let snapshot = log.snapshot().unwrap();
            let began = AtomicBool::new(false);
            let mut guard = log.lock();
            let found = std::thread::scope(|threads| {
                let reader = threads.spawn(|| {
                    began.store(true, Ordering::Release);
                    read(&snapshot)
                });
                while !began.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
                let (core, _) = guard.parts();
                core.truncate(0).unwrap();
                core.append(&["after".into()]).unwrap();
                drop(guard);
                reader.join().unwrap()
            });
            assert!(matches!(found, Err(Error::SnapshotLost(0))), "{found:?}");
        }
    }
}

#[test]
fn a_snapshot_is_sought_in_as_it_is() {
    let log = Hypercore::memory().unwrap();
    log.append_batch(["a", "bc", "de"]).unwrap();
    let snapshot = log.snapshot().unwrap();
    log.append_batch(["", "later"]).unwrap();
    let seek = |bytes| (snapshot.try_seek(bytes), block_on(snapshot.seek(bytes)));
    for (bytes, found) in [(0, (0, 0)), (2, (1, 1)), (4, (2, 1)), (5, (3, 0))] {
        let (now, waiting) = seek(bytes);
        assert_eq!((now.unwrap(), waiting.unwrap()), (Some(found), found), "{bytes}");
    }
    for bytes in [6, 7, 10, 11, u64::MAX] {
        let (now, waiting) = seek(bytes);
        assert!(matches!(now, Err(Error::OutOfBounds { length: 5, .. })), "{bytes}: {now:?}");
        assert!(matches!(waiting, Err(Error::OutOfBounds { length: 5, .. })), "{bytes}: {waiting:?}");
    }
    assert_eq!(log.try_seek(7).unwrap(), Some((4, 2)));

    log.truncate(2).unwrap();
    for history in ["", "another history"] {
        log.append(history).unwrap();
        assert_eq!(seek(2).0.unwrap(), Some((1, 1)));
        let (now, waiting) = seek(4);
        assert!(matches!(now, Err(Error::SnapshotLost(2))), "{now:?}");
        assert!(matches!(waiting, Err(Error::SnapshotLost(2))), "{waiting:?}");
        assert_eq!(seek(5).0.unwrap(), Some((3, 0)));
    }
}

#[test]
fn streams_read_forwards_backwards_and_on() {
    let log = writer(200);
    let all = |stream: crate::streams::ReadStream| -> Vec<String> {
        block_on(stream.map(|block| String::from_utf8(block.unwrap().to_vec()).unwrap()).collect())
    };
    let expected: Vec<String> = (0..200).map(|i| format!("block {i}")).collect();
    assert_eq!(all(log.read_stream(..)), expected);
    assert_eq!(all(log.read_stream(50..=59)), expected[50..60]);
    let options = ReadOptions { start: 190, reverse: true, ..ReadOptions::default() };
    let mut backwards = all(log.read_stream_with(options));
    backwards.reverse();
    assert_eq!(backwards, expected[190..]);
    assert_eq!(all(log.read_stream(300..)), Vec::<String>::new());

    let options = ReadOptions { start: 199, live: true, ..ReadOptions::default() };
    let mut live = log.read_stream_with(options);
    assert_eq!(block_on(live.next()).unwrap().unwrap(), "block 199");
    assert!(live.next().now_or_never().is_none());
    log.append("news").unwrap();
    assert_eq!(live.next().now_or_never().unwrap().unwrap().unwrap(), "news");
    assert!(live.next().now_or_never().is_none());
    log.close();
    assert!(matches!(live.next().now_or_never(), Some(Some(Err(Error::Closed)))));
    assert!(live.next().now_or_never().unwrap().is_none());
}

#[test]
fn a_stream_asks_ahead_for_what_is_not_here() {
    let log = writer(10);
    let (reader, _) = reader_of(&log);
    upgrade(&log, &reader);
    let mut stream = reader.read_stream(2..9);
    assert!(stream.next().now_or_never().is_none());
    let wants: Vec<Want> = reader.lock().parts().1.iter().map(|(_, entry)| entry.want.clone()).collect();
    assert!(wants.contains(&Want::Range(DownloadRange::new(2, 9).linear())), "{wants:?}");
    for index in 2..9 {
        send(&log, &reader, index);
    }
    assert_eq!(block_on(stream.count()), 7);
    assert!(reader.lock().parts().1.is_empty());
}

#[test]
fn bytes_are_read_wherever_blocks_begin() {
    let log = Hypercore::memory().unwrap();
    log.append_batch(["hello ", "", "wide ", "world"]).unwrap();
    let read = |byte_offset, byte_length| {
        let stream = log.byte_stream(ByteStreamOptions { byte_offset, byte_length });
        block_on(stream.fold(String::new(), |mut text, part| async move {
            text.push_str(std::str::from_utf8(&part.unwrap()).unwrap());
            text
        }))
    };
    assert_eq!(read(0, None), "hello wide world");
    assert_eq!(read(4, Some(5)), "o wid");
    assert_eq!(read(6, Some(4)), "wide");
    assert_eq!(read(12, None), "orld");
    assert_eq!(read(16, None), "");
    assert_eq!(read(3, Some(0)), "");
}

#[test]
fn a_sink_appends_what_was_sent_without_pause_in_one_commit() {
    let log = writer(0);
    let events = log.events();
    let mut sink = log.write_sink();
    block_on(async {
        for word in ["a", "b", "c"] {
            sink.feed(word.into()).await.unwrap();
        }
        assert_eq!(log.length(), 0);
        sink.flush().await.unwrap();
        sink.send("d".into()).await.unwrap();
        sink.close().await.unwrap();
    });
    assert_eq!(log.length(), 4);
    drop((log, sink));
    assert_eq!(block_on(events.collect::<Vec<_>>()).len(), 3);
}

#[test]
fn requests_are_bounded() {
    let log = writer(0);
    let mut guard = log.lock();
    let (_, demand) = guard.parts();
    let replies: Vec<_> = (0..crate::demand::MAX_WANTS as u64)
        .map(|index| demand.add(Want::Block { index }, WantOptions::default()).unwrap())
        .collect();
    let refused = demand.add(Want::Block { index: 0 }, WantOptions::default());
    assert!(matches!(refused, Err(Error::TooManyRequests(_))));
    drop(replies);
}

#[test]
fn user_data_stays_beside_the_log() {
    let database = Database::memory();
    let log = Hypercore::builder().user_data("made", "with it").open(&database).unwrap();
    log.set_user_data("name", Some(b"value")).unwrap();
    let key = log.key();
    drop(log);
    let log = Hypercore::builder().key(key).open(&database).unwrap();
    assert_eq!(log.user_data("name").unwrap().unwrap(), "value");
    assert_eq!(log.user_data("made").unwrap().unwrap(), "with it");
    log.set_user_data("name", None).unwrap();
    assert_eq!(log.user_data("name").unwrap(), None);
}

#[test]
fn whoever_waits_for_a_log_that_freezes_is_told() {
    let log = Hypercore::builder().seed([1; 32]).memory().unwrap();
    let twin = Hypercore::builder().seed([1; 32]).memory().unwrap();
    log.append_batch(["a", "b"]).unwrap();
    twin.append_batch(["c", "d"]).unwrap();
    let (reader, _) = reader_of(&log);
    upgrade(&log, &reader);
    let mut get = Box::pin(reader.get(0));
    assert!(get.as_mut().now_or_never().is_none());
    let upgrade = Some(RequestUpgrade { start: 0, length: 2 });
    let proof = twin.lock().core().prove(&ProofRequest { upgrade, ..ProofRequest::default() }).unwrap();
    assert!(reader.lock().parts().0.check_conflict(&proof).unwrap().is_some());
    assert!(matches!(get.now_or_never(), Some(Err(Error::Frozen(_)))));
    assert!(matches!(block_on(reader.get(1)), Err(Error::Frozen(_))));
    assert!(reader.info().frozen);
}

#[test]
fn snapshots_that_are_dropped_leave_no_memory_behind() {
    let log = writer(3);
    let kept = log.snapshot().unwrap();
    for _ in 0..10_000 {
        drop(log.snapshot().unwrap());
    }
    let known = log.shared().lock().state().snapshots.capacity();
    assert!(known < 100, "{known}");
    log.truncate(1).unwrap();
    assert!(matches!(kept.try_get(2), Err(Error::SnapshotLost(_))));
}
