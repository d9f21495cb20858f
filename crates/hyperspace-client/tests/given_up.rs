//! Futures that are dropped in the middle, and calls that wait for ever: nothing stays behind, and nobody else waits.

mod played;

use std::sync::mpsc;

use bytes::Bytes;
use futures::{FutureExt, StreamExt, future::join_all};
use hypercore::{DownloadRange, GetOptions};
use hyperspace_client::{ClientError, RemoteHypercore};
use hyperspace_common::{Method, decode, messages::*};
use played::{Call, Client, Played};

/// So much is more than what may wait to be written.
const MUCH: usize = 16 << 20;

/// Appends that nobody reads yet, so that there is no room for further calls.
fn fill(core: &RemoteHypercore) -> impl Future<Output = ()> + use<> {
    let core = core.clone();
    let mut append = Box::pin(async move { core.append(vec![0; MUCH]).await });
    assert!(append.as_mut().now_or_never().is_none());
    async move { append.await.map(|_| ()).unwrap() }
}

fn appended(client: &mut Client, call: &Call) {
    client.answer(call, &AppendResponse { length: 1, byte_length: 1, seq: 0 });
}

/// Reads on until the client asks whether a block is there, and answers. What came before.
fn until_has(client: &mut Client) -> Vec<Call> {
    let mut calls = Vec::new();
    loop {
        let call = client.next().unwrap();
        match call.header.known_method() {
            Some(Method::HypercoreHas) => {
                client.answer(&call, &HasResponse { has: true });
                return calls;
            }
            Some(Method::HypercoreAppend) => appended(client, &call),
            _ if call.header.id != 0 => client.answer(&call, &()),
            _ => {}
        }
        calls.push(call);
    }
}

fn count(calls: &[Call], method: Method) -> usize {
    calls.iter().filter(|call| call.is(method)).count()
}

#[tokio::test]
async fn a_lock_and_a_session_are_given_back_also_when_that_is_not_waited_for() {
    let (go, wait) = mpsc::channel();
    let daemon = Played::start(move |accept| {
        let mut client = accept();
        client.open((1, 0, 0));
        let other = client.open((2, 0, 0));
        let lock = client.expect(Method::HypercoreAcquireLock);
        client.answer(&lock, &());
        // Nothing is read until then.
        wait.recv().unwrap();
        let calls = until_has(&mut client);
        assert_eq!(count(&calls, Method::HypercoreReleaseLock), 1);
        let closed: Vec<_> = calls.iter().filter(|call| call.is(Method::HypercoreClose)).collect();
        assert_eq!(closed.len(), 1);
        assert_eq!(closed[0].read::<CloseRequest>().id, other);
    });
    let client = daemon.plain().await;
    let log = client.corestore().get_by_name("log").await.unwrap();
    let other = client.corestore().get_by_name("other").await.unwrap();
    let lock = log.lock().await.unwrap();
    let append = fill(&log);
    assert!(lock.release().now_or_never().is_none());
    assert!(other.close().now_or_never().is_none());
    assert!(other.is_closed());
    drop(other);
    go.send(()).unwrap();
    append.await;
    assert!(log.has(0).await.unwrap());
    daemon.end().await;
}

#[tokio::test]
async fn calls_that_wait_for_ever_keep_nobody_from_calling() {
    // More than the calls that may otherwise be under way.
    const WAITING: usize = 20_000;
    let daemon = Played::start(|accept| {
        let mut client = accept();
        client.open((1, 0, 0));
        for _ in 0..WAITING {
            let call = client.next().unwrap();
            assert!(!call.is(Method::HypercoreAppend), "they are sent in order");
        }
        let append = client.expect(Method::HypercoreAppend);
        appended(&mut client, &append);
        let calls = until_has(&mut client);
        let taken_back = [Method::HypercoreCancel, Method::HypercoreUndownload];
        // All but the one that waits for a length.
        assert_eq!(taken_back.map(|method| count(&calls, method)), [WAITING / 2, WAITING / 2 - 1]);
        client.expect(Method::HypercoreClose);
    });
    let client = daemon.plain().await;
    let log = client.corestore().get_by_name("log").await.unwrap();
    let live = DownloadRange::default();
    {
        let waits = (0..WAITING as u64 - 1).map(|index| {
            let (log, live) = (&log, &live);
            async move {
                match index % 2 {
                    0 => drop(log.get_with(index, GetOptions::default()).await),
                    _ => drop(log.download(live).await),
                }
            }
            .boxed()
        });
        let mut waits = join_all(waits);
        assert!((&mut waits).now_or_never().is_none());
        let mut length = Box::pin(log.wait_for_length(1));
        assert!(length.as_mut().now_or_never().is_none());
        assert_eq!(log.append("block").await.unwrap(), 1);
    }
    assert!(log.has(0).await.unwrap());
    drop(log);
    daemon.end().await;
}

/// What a request that is dropped is taken back with.
fn taken_back(client: &mut Client, method: Method, id: u64, resource_id: u64) {
    let notice = client.expect(method);
    assert_eq!(notice.header.id, 0, "nobody waits for an answer");
    assert_eq!(notice.read::<CancelRequest>(), CancelRequest { id, resource_id });
}

#[tokio::test]
async fn a_get_or_a_download_that_is_dropped_is_taken_back() {
    let daemon = Played::start(|accept| {
        let mut client = accept();
        let id = client.open((1, 3, 0));
        for seq in [5, 6, 7] {
            let get: GetRequest = client.expect(Method::HypercoreGet).read();
            assert_eq!((get.id, get.seq), (id, seq));
            taken_back(&mut client, Method::HypercoreCancel, id, get.resource_id);
        }
        let download: DownloadRequest = client.expect(Method::HypercoreDownload).read();
        taken_back(&mut client, Method::HypercoreUndownload, id, download.resource_id);
        // What a stream has asked for goes with it, apart from what was answered.
        let gets = [0, 1, 2].map(|_| client.expect(Method::HypercoreGet));
        client.outbox.block_response(gets[0].header, Bytes::from_static(b"block"));
        client.send();
        let mut asked = [&gets[1], &gets[2]].map(|get| get.read::<GetRequest>().resource_id);
        let mut cancelled =
            [(); 2].map(|()| client.expect(Method::HypercoreCancel).read::<CancelRequest>().resource_id);
        asked.sort_unstable();
        cancelled.sort_unstable();
        assert_eq!(cancelled, asked);
        // The answer to one that was taken back is nobody's.
        client.outbox.block_response(gets[1].header, Bytes::from_static(b"other"));
        assert_eq!(until_has(&mut client).len(), 0);
        client.expect(Method::HypercoreClose);
    });
    let client = daemon.plain().await;
    let log = client.corestore().get_by_name("log").await.unwrap();
    assert!(log.wait_for_block(5).now_or_never().is_none());
    assert!(log.get(6).now_or_never().is_none());
    assert!(log.get_watching(7, GetOptions::default(), |_| {}).now_or_never().is_none());
    assert!(log.download(&DownloadRange::live(0)).now_or_never().is_none());
    let mut stream = log.read_stream(..);
    assert_eq!(stream.next().await.unwrap().unwrap(), "block");
    drop(stream);
    assert!(log.has(0).await.unwrap());
    drop(log);
    daemon.end().await;
}

#[tokio::test]
async fn one_question_for_a_longer_core_is_enough_for_all_who_wait() {
    let daemon = Played::start(|accept| {
        let mut client = accept();
        let id = client.open((1, 5, 0));
        for length in [6, 7] {
            let update = client.expect(Method::HypercoreUpdate);
            let request = update.read::<UpdateRequest>();
            assert_eq!((request.min_length, request.if_available), (Some(length), Some(false)));
            let ask = client.expect(Method::HypercoreHas);
            let event = AppendEvent { id, length, byte_length: length };
            client.outbox.event(Method::HypercoreOnAppend, &event);
            client.outbox.response(update.header, &());
            client.answer(&ask, &HasResponse { has: true });
        }
        client.expect(Method::HypercoreClose);
    });
    let client = daemon.plain().await;
    let log = client.corestore().get_by_name("log").await.unwrap();
    log.wait_for_length(5).await.unwrap();
    for _ in 0..1000 {
        assert!(log.wait_for_length(6).now_or_never().is_none());
    }
    let (six, seven) = (log.wait_for_length(6), log.wait_for_length(7));
    let then = async {
        assert!(log.has(0).await.unwrap());
        assert_eq!(log.length(), 6);
        assert!(log.has(0).await.unwrap());
    };
    let (six, seven, ()) = futures::join!(six, seven, then);
    six.and(seven).unwrap();
    assert_eq!(log.length(), 7);
    drop(log);
    daemon.end().await;
}

#[tokio::test]
async fn a_core_that_was_cut_is_asked_for_what_is_next_and_whoever_waits_looks_at_what_is_told() {
    let daemon = Played::start(|accept| {
        let mut client = accept();
        let id = client.open((1, 5, 0));
        // None of these is answered.
        let asked = |client: &mut Client, length| {
            let update = client.expect(Method::HypercoreUpdate);
            assert_eq!(update.read::<UpdateRequest>().min_length, Some(length));
        };
        asked(&mut client, 6);
        let has = client.expect(Method::HypercoreHas);
        let event = TruncateEvent { id, length: 3, byte_length: 3, fork: 1 };
        client.outbox.event(Method::LogOnTruncate, &event);
        client.answer(&has, &HasResponse { has: true });
        asked(&mut client, 4);
        let has = client.expect(Method::HypercoreHas);
        client.outbox.event(Method::HypercoreOnAppend, &AppendEvent { id, length: 4, byte_length: 4 });
        client.answer(&has, &HasResponse { has: true });
        asked(&mut client, 5);
        let event = TruncateEvent { id, length: 3, byte_length: 3, fork: 2 };
        client.outbox.event(Method::LogOnTruncate, &event);
        client.send();
        // The question for 4 is still there.
        let has = client.expect(Method::HypercoreHas);
        client.outbox.event(Method::HypercoreOnAppend, &AppendEvent { id, length: 6, byte_length: 6 });
        client.answer(&has, &HasResponse { has: true });
        client.expect(Method::HypercoreClose);
    });
    let client = daemon.plain().await;
    let log = client.corestore().get_by_name("log").await.unwrap();
    let six = tokio::spawn({
        let log = log.clone();
        async move { log.wait_for_length(6).await }
    });
    tokio::task::yield_now().await;
    assert!(log.has(0).await.unwrap());
    assert_eq!(log.length(), 3);
    let mut four = Box::pin(log.wait_for_length(4));
    assert!(four.as_mut().now_or_never().is_none());
    assert!(log.has(0).await.unwrap());
    assert_eq!(log.length(), 4);
    assert!(matches!(four.as_mut().now_or_never(), Some(Ok(()))), "its length is reached");
    while log.length() == 4 {
        tokio::task::yield_now().await;
    }
    assert!(log.wait_for_length(4).now_or_never().is_none());
    assert!(log.has(0).await.unwrap());
    six.await.unwrap().unwrap();
    drop(four);
    drop(log);
    daemon.end().await;
}

#[tokio::test]
async fn what_panics_while_it_is_told_of_a_wait_does_so_alone() {
    let daemon = Played::start(|accept| {
        let mut client = accept();
        let id = client.open((1, 0, 0));
        let get = client.expect(Method::HypercoreGet);
        let append = client.expect(Method::HypercoreAppend);
        let on_wait_id = get.read::<GetRequest>().on_wait_id.unwrap();
        client.outbox.event(Method::HypercoreOnWait, &WaitEvent { id, on_wait_id, seq: 3 });
        client.outbox.block_response(get.header, Bytes::from_static(b"block"));
        appended(&mut client, &append);
        client.expect(Method::HypercoreClose);
    });
    let client = daemon.plain().await;
    let log = client.corestore().get_by_name("log").await.unwrap();
    let get = log.get_watching(3, GetOptions::default(), |_| panic!("the test wants it so"));
    let (block, length) = futures::join!(get, log.append("other"));
    assert_eq!((block.unwrap().unwrap(), length.unwrap()), (Bytes::from_static(b"block"), 1));
    drop(log);
    daemon.end().await;
}

#[test]
fn when_its_runtime_ends_whoever_uses_the_connection_from_another_hears_of_it() {
    let daemon = Played::start(|accept| {
        let mut client = accept();
        client.open((1, 0, 0));
        while client.next().is_some() {}
    });
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (client, log) = first.block_on(async {
        let client = daemon.plain().await;
        let log = client.corestore().get_by_name("log").await.unwrap();
        (client, log)
    });
    let mut waiting = Box::pin(log.wait_for_block(0));
    assert!(first.block_on(async { waiting.as_mut().now_or_never().is_none() }));
    let (mut events, mut feeds) = (log.events(), Box::pin(client.corestore().feeds()));
    drop(first);
    runtime().block_on(async {
        assert!(matches!(waiting.await, Err(ClientError::Disconnected(_))));
        assert!(matches!(log.append("block").await, Err(ClientError::Disconnected(_))));
        assert!(client.closed().is_some() && log.is_closed());
        while events.next().await.is_some() {}
        assert_eq!(feeds.next().await, None);
        daemon.end().await;
    });
}

#[tokio::test]
async fn what_is_more_than_a_frame_may_have_is_refused_and_takes_nothing_with_it() {
    let daemon = Played::start(|accept| {
        let mut client = accept();
        client.open((1, 0, 0));
        let append = client.expect(Method::HypercoreAppend);
        appended(&mut client, &append);
        client.expect(Method::HypercoreClose);
    });
    let client = daemon.plain().await;
    let log = client.corestore().get_by_name("log").await.unwrap();
    let blocks = vec![Bytes::from(vec![0; 1 << 20]); 256];
    let refused = [
        log.append_blocks(&blocks).await.map(|_| ()).unwrap_err(),
        log.set_user_data("name", Some(Bytes::from(vec![0; 256 << 20]))).await.unwrap_err(),
    ];
    for error in refused {
        let ClientError::Rpc(error) = error else { panic!("{error:?}") };
        assert_eq!(error.code.as_deref(), Some("ELIMIT"));
        assert!(error.message.contains("larger than the limit of 268435456 bytes"), "{}", error.message);
    }
    assert_eq!(log.append("block").await.unwrap(), 1);
    drop(log);
    daemon.end().await;
}

#[tokio::test]
async fn streams_end_with_what_they_belong_to() {
    let daemon = Played::start(|accept| {
        let mut client = accept();
        let id = client.open((1, 0, 0));
        client.expect(Method::HypercoreWatchDownloads);
        client.expect(Method::HypercoreWatchUploads);
        let extension = client.expect(Method::HypercoreRegisterExtension);
        client.answer(&extension, &());
        client.outbox.event(Method::HypercoreOnClose, &CloseEvent { id });
        client.outbox.event(Method::CorestoreOnFeed, &FeedEvent { key: vec![7; 32].into() });
        client.send();
        client.expect(Method::HypercoreUnregisterExtension);
        // It may have the number back.
        let closed = client.expect(Method::HypercoreClose);
        assert_eq!(decode::<CloseRequest>(closed.payload).unwrap().id, id);
    });
    let client = daemon.plain().await;
    let mut feeds = Box::pin(client.corestore().feeds());
    let key = hypercore::Key::from([1; 32]);
    let weak = client.corestore().get_weak(&key).await.unwrap();
    let mut events = weak.events();
    let mut extension = weak.register_extension("extension").await.unwrap();
    assert_eq!(extension.next().await, None);
    while events.next().await.is_some() {}
    assert!(weak.is_closed());
    drop((weak, extension));
    assert_eq!(feeds.next().await, Some(hypercore::Key::from([7; 32])));
    assert_eq!(feeds.next().await, None);
    daemon.end().await;
}
