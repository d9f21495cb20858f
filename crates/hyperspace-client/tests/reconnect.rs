//! What is known, held and asked for when the connection is lost and made again.

mod played;

use std::{pin::pin, sync::mpsc};

use futures::{FutureExt, StreamExt, future::poll_immediate};
use hypercore::{CoreEvent, Key, StreamedEvent};
use hyperspace_client::ClientError;
use hyperspace_common::{Method, messages::*};
use played::{Client, Played, lost, peer, restored};

/// A block that is more than what may wait to be written.
fn much() -> Vec<u8> {
    vec![0; 16 << 20]
}

fn until_the_end(client: &mut Client) -> Vec<Option<Method>> {
    std::iter::from_fn(|| client.next()).map(|call| call.header.known_method()).collect()
}

#[tokio::test]
async fn a_lock_is_lost_if_it_was_held_and_only_then() {
    let (end, ended) = mpsc::channel();
    let daemon = Played::start(move |accept| {
        // One that is not asked for yet, ...
        let mut client = accept();
        client.open((1, 0, 0));
        ended.recv().unwrap();
        drop(client);
        // ... and is given out by the next daemon, ...
        let mut client = accept();
        client.open((1, 0, 0));
        let lock = client.expect(Method::HypercoreAcquireLock);
        client.answer(&lock, &());
        client.expect(Method::HypercoreReleaseLock);
        // ... one that is waited for, ...
        client.expect(Method::HypercoreAcquireLock);
        drop(client);
        // ... and one that is held.
        let mut client = accept();
        client.open((1, 0, 0));
        let lock = client.expect(Method::HypercoreAcquireLock);
        client.answer(&lock, &());
        ended.recv().unwrap();
        drop(client);
        let mut client = accept();
        client.open((1, 0, 0));
        assert!(!until_the_end(&mut client).contains(&Some(Method::HypercoreReleaseLock)));
    });
    let client = daemon.lasting().await;
    let mut events = pin!(client.connection_events());
    let log = client.corestore().get_by_name("log").await.unwrap();

    let append = log.append(much()).now_or_never();
    assert!(append.is_none(), "there is no room for more");
    let mut lock = Box::pin(log.lock());
    assert!(poll_immediate(&mut lock).await.is_none());
    // The task that asks for it finds no room.
    tokio::task::yield_now().await;
    end.send(()).unwrap();
    assert_eq!(lost(&mut events).await, []);
    restored(&mut events).await;
    let given = (&mut lock).await.unwrap();
    assert!(!given.is_lost());
    drop((given, lock));

    assert!(matches!(log.lock().await, Err(ClientError::Disconnected(_))));
    assert_eq!(lost(&mut events).await, []);
    restored(&mut events).await;

    let lock = log.lock().await.unwrap();
    end.send(()).unwrap();
    assert_eq!(lost(&mut events).await, [Key::from([1; 32])]);
    assert!(lock.is_lost());
    assert!(matches!(lock.release().await, Err(ClientError::Disconnected(_))));
    restored(&mut events).await;
    drop(log);
    client.close();
    daemon.end().await;
}

#[tokio::test]
async fn what_is_begun_or_ended_without_a_connection_is_once_there_is_one() {
    let (go, wait) = mpsc::channel();
    let daemon = Played::start(move |accept| {
        let mut client = accept();
        client.open((1, 0, 0));
        client.open((2, 0, 0));
        wait.recv().unwrap();
        drop(client);
        wait.recv().unwrap();
        let mut client = accept();
        // Of the one that was closed meanwhile nothing is heard any more.
        let id = client.open((1, 0, 0));
        for _ in 0..2 {
            let call = client.next().unwrap();
            assert!(call.is(Method::HypercoreRegisterExtension) || call.is(Method::NetworkRegisterExtension));
            if call.is(Method::HypercoreRegisterExtension) {
                assert_eq!(call.read::<RegisterExtensionRequest>().id, id);
            }
            client.answer(&call, &());
        }
        let rest = until_the_end(&mut client);
        assert!(!rest.contains(&Some(Method::HypercoreRegisterExtension)), "{rest:?}");
    });
    let client = daemon.lasting().await;
    let mut events = pin!(client.connection_events());
    let log = client.corestore().get_by_name("log").await.unwrap();
    let other = client.corestore().get_by_name("other").await.unwrap();
    go.send(()).unwrap();
    lost(&mut events).await;
    other.close().await.unwrap();
    let network = client.network();
    let mut of_log = Box::pin(log.register_extension("extension"));
    let mut of_network = Box::pin(network.register_extension("extension"));
    assert!(poll_immediate(&mut of_log).await.is_none());
    assert!(poll_immediate(&mut of_network).await.is_none());
    go.send(()).unwrap();
    let extensions = ((&mut of_log).await.unwrap(), (&mut of_network).await.unwrap());
    restored(&mut events).await;
    drop((extensions, of_log, of_network));
    drop((log, other));
    client.close();
    daemon.end().await;
}

#[tokio::test]
async fn what_a_connection_told_that_was_lost_at_once_is_void() {
    let (end, ended) = mpsc::channel();
    let daemon = Played::start(move |accept| {
        let mut client = accept();
        client.open((1, 5, 0));
        client.open((2, 5, 0));
        ended.recv().unwrap();
        drop(client);
        // One of them is opened again, has a peer and grows; then this connection is lost, too.
        let mut client = accept();
        let open = client.expect(Method::StoreOpen);
        let request = open.read::<OpenCoreRequest>();
        client.opened(&open, (request.key.unwrap()[0], 5, 0), vec![peer(7)]);
        let event = AppendEvent { id: request.id, length: 6, byte_length: 6 };
        client.outbox.event(Method::HypercoreOnAppend, &event);
        client.send();
        client.expect(Method::StoreOpen);
        drop(client);
        let mut client = accept();
        for _ in 0..2 {
            let open = client.expect(Method::StoreOpen);
            let key = open.read::<OpenCoreRequest>().key.unwrap();
            client.opened(&open, (key[0], 9, 0), Vec::new());
            client.send();
        }
        until_the_end(&mut client);
    });
    let client = daemon.lasting().await;
    let mut events = pin!(client.connection_events());
    let log = client.corestore().get_by_name("log").await.unwrap();
    let other = client.corestore().get_by_name("other").await.unwrap();
    end.send(()).unwrap();
    lost(&mut events).await;
    restored(&mut events).await;
    for core in [&log, &other] {
        assert_eq!((core.length(), core.peers().len()), (9, 0));
    }
    drop((log, other));
    client.close();
    daemon.end().await;
}

#[tokio::test]
async fn events_right_behind_the_answer_to_an_open_count() {
    let daemon = Played::start(|accept| {
        let mut client = accept();
        let open = client.expect(Method::StoreOpen);
        let id = open.read::<OpenCoreRequest>().id;
        // In one piece: the events are looked at before the answer is.
        client.opened(&open, (1, 5, 2), vec![peer(7), peer(8)]);
        client.outbox.event(Method::HypercoreOnAppend, &AppendEvent { id, length: 6, byte_length: 6 });
        client.outbox.event(Method::HypercoreOnPeerRemove, &PeerEvent { id, peer: peer(7) });
        client.send();
        client.expect(Method::HypercoreWatchDownloads);
        client.expect(Method::HypercoreWatchUploads);
        drop(client);

        let mut client = accept();
        let open = client.expect(Method::StoreOpen);
        client.opened(&open, (1, 3, 4), vec![peer(7), peer(9)]);
        client.outbox.event(Method::HypercoreOnAppend, &AppendEvent { id, length: 4, byte_length: 4 });
        client.outbox.event(Method::HypercoreOnPeerRemove, &PeerEvent { id, peer: peer(7) });
        client.send();
        until_the_end(&mut client);
    });
    let client = daemon.lasting().await;
    let mut events = pin!(client.connection_events());
    let log = client.corestore().get_by_name("log").await.unwrap();
    let keys = || log.peers().iter().map(|peer| peer.remote_public_key[0]).collect::<Vec<_>>();
    assert_eq!((log.length(), log.fork(), keys()), (6, 2, vec![8]));
    let mut changes = log.events();
    lost(&mut events).await;
    restored(&mut events).await;
    assert_eq!((log.length(), log.fork(), keys()), (4, 4, vec![9]));
    let mut told = Vec::new();
    while let Some(Some(StreamedEvent::Event(event))) = changes.next().now_or_never() {
        if !matches!(event, CoreEvent::PeerAdded(_) | CoreEvent::PeerRemoved(_)) {
            told.push(event);
        }
    }
    let told: Vec<_> = told.iter().map(|event| format!("{event:?}")).collect();
    let again = "Append { length: 4, byte_length: 4 }";
    assert_eq!(told, [again, "Truncate { length: 0, byte_length: 4, fork: 4 }", again]);
    drop((changes, log));
    client.close();
    daemon.end().await;
}

#[tokio::test]
async fn what_is_waited_for_or_closed_while_everything_is_restored_does_not_come_before_its_session() {
    let (go, wait) = mpsc::channel();
    let (asked, mut is_asked) = tokio::sync::mpsc::unbounded_channel();
    let daemon = Played::start(move |accept| {
        let mut client = accept();
        client.open((1, 5, 0));
        client.open((2, 5, 0));
        wait.recv().unwrap();
        drop(client);
        let mut client = accept();
        let opens = [client.expect(Method::StoreOpen), client.expect(Method::StoreOpen)];
        asked.send(()).unwrap();
        wait.recv().unwrap();
        for open in &opens {
            let key = open.read::<OpenCoreRequest>().key.unwrap();
            client.opened(open, (key[0], 5, 0), Vec::new());
        }
        client.send();
        let other = opens.iter().map(|open| open.read::<OpenCoreRequest>());
        let other = other.filter(|open| open.key.as_ref().is_some_and(|key| key[0] == 2)).map(|open| open.id);
        let mut closed = Vec::new();
        let has = loop {
            let call = client.next().unwrap();
            if !call.is(Method::HypercoreClose) {
                break call;
            }
            closed.push(call.read::<CloseRequest>().id);
        };
        // The daemon may not have known the session the first time.
        assert_eq!(closed, [closed[0]; 2]);
        assert_eq!(other.collect::<Vec<_>>(), closed[..1]);
        assert_eq!(has.header.known_method(), Some(Method::HypercoreHas));
        client.answer(&has, &HasResponse { has: true });
        let update = client.expect(Method::HypercoreUpdate);
        let UpdateRequest { id, min_length, .. } = update.read();
        assert_eq!(min_length, Some(6));
        client.outbox.event(Method::HypercoreOnAppend, &AppendEvent { id, length: 6, byte_length: 6 });
        client.answer(&update, &());
        until_the_end(&mut client);
    });
    let client = daemon.lasting().await;
    let mut events = pin!(client.connection_events());
    let log = client.corestore().get_by_name("log").await.unwrap();
    let other = client.corestore().get_by_name("other").await.unwrap();
    go.send(()).unwrap();
    lost(&mut events).await;
    is_asked.recv().await.unwrap();
    let mut longer = Box::pin(log.wait_for_length(6));
    assert!(poll_immediate(&mut longer).await.is_none());
    assert!(matches!(other.close().now_or_never(), Some(Ok(()))), "it ends with the old connection");
    go.send(()).unwrap();
    restored(&mut events).await;
    assert!(log.has(0).await.unwrap());
    longer.await.unwrap();
    assert_eq!(log.length(), 6);
    drop((log, other));
    client.close();
    daemon.end().await;
}

#[tokio::test]
async fn an_open_whose_answer_is_looked_at_too_late_fails() {
    let (go, wait) = mpsc::channel();
    let daemon = Played::start(move |accept| {
        let mut client = accept();
        client.open((1, 0, 0));
        let open = client.expect(Method::StoreOpen);
        wait.recv().unwrap();
        client.opened(&open, (2, 0, 0), Vec::new());
        client.send();
        let snapshot = client.expect(Method::LogSnapshot);
        wait.recv().unwrap();
        client.answer(&snapshot, &LogState { tree_hash: vec![0; 32].into(), ..LogState::default() });
        drop(client);
        let mut client = accept();
        client.open((1, 0, 0));
        assert!(!until_the_end(&mut client).contains(&Some(Method::StoreOpen)));
    });
    let client = daemon.lasting().await;
    let mut events = pin!(client.connection_events());
    let store = client.corestore();
    let log = store.get_by_name("log").await.unwrap();
    let mut open = Box::pin(store.get_by_name("other"));
    assert!(poll_immediate(&mut open).await.is_none());
    go.send(()).unwrap();
    let mut snapshot = Box::pin(log.snapshot());
    assert!(poll_immediate(&mut snapshot).await.is_none());
    go.send(()).unwrap();
    lost(&mut events).await;
    restored(&mut events).await;
    let (open, snapshot) = (open.await, snapshot.await);
    assert!(matches!(open, Err(ClientError::Disconnected(_))), "{open:?}");
    assert!(matches!(snapshot, Err(ClientError::Disconnected(_))), "{snapshot:?}");
    drop(log);
    client.close();
    daemon.end().await;
}

#[tokio::test]
async fn weak_sessions_are_opened_again_once_the_others_are() {
    const EACH: u8 = 8;
    let (go, wait) = mpsc::channel();
    let (asked, mut is_asked) = tokio::sync::mpsc::unbounded_channel();
    let daemon = Played::start(move |accept| {
        let mut client = accept();
        for key in 0..EACH {
            client.open((key, 0, 0));
            client.open((key, 0, 0));
        }
        client.open((EACH, 0, 0));
        wait.recv().unwrap();
        drop(client);
        let mut client = accept();
        let opens: Vec<_> = (0..=EACH).map(|_| client.expect(Method::StoreOpen)).collect();
        assert!(opens.iter().all(|open| !open.read::<OpenCoreRequest>().weak()));
        asked.send(()).unwrap();
        wait.recv().unwrap();
        // None of the others was sent with these.
        client.expect(Method::HypercoreClose);
        for open in &opens {
            let key = open.read::<OpenCoreRequest>().key.unwrap();
            client.opened(open, (key[0], 0, 0), Vec::new());
        }
        client.send();
        client.expect(Method::HypercoreClose);
        for _ in 0..EACH {
            let open = client.expect(Method::StoreOpen);
            let request = open.read::<OpenCoreRequest>();
            assert!(request.weak());
            client.opened(&open, (request.key.unwrap()[0], 0, 0), Vec::new());
            client.send();
        }
        until_the_end(&mut client);
    });
    let client = daemon.lasting().await;
    let mut events = pin!(client.connection_events());
    let (store, mut cores) = (client.corestore(), Vec::new());
    for key in 0..EACH {
        let key = Key::from([key; 32]);
        cores.push(store.get_weak(&key).await.unwrap());
        cores.push(store.get(&key).await.unwrap());
    }
    let marker = store.create().await.unwrap();
    go.send(()).unwrap();
    lost(&mut events).await;
    is_asked.recv().await.unwrap();
    marker.close().await.unwrap();
    go.send(()).unwrap();
    restored(&mut events).await;
    assert!(cores.iter().all(|core| !core.is_closed()));
    drop((cores, marker));
    client.close();
    daemon.end().await;
}
