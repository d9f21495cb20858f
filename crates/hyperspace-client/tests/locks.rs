//! Turns at a lock that are given up: none is asked for twice, and none takes the lock from those who hold it.

mod played;

use std::pin::pin;

use futures::future::poll_immediate;
use hyperspace_client::{ClientError, RemoteHypercore};
use hyperspace_common::{Method, RpcError, RpcErrorExt, code, messages::*};
use played::{Client, Played, lost, restored};
use tokio::sync::mpsc;

/// Gives up as soon as the daemon may have been asked.
async fn give_up(core: &RemoteHypercore) {
    let mut lock = pin!(core.lock());
    assert!(poll_immediate(&mut lock).await.is_none());
    tokio::task::yield_now().await;
    assert!(poll_immediate(&mut lock).await.is_none());
}

fn has(client: &mut Client) {
    let call = client.expect(Method::HypercoreHas);
    client.answer(&call, &HasResponse { has: true });
}

/// The next call gives the lock back.
fn released(client: &mut Client) {
    let call = client.expect(Method::HypercoreReleaseLock);
    if call.header.id != 0 {
        client.answer(&call, &());
    }
}

#[tokio::test]
async fn a_turn_that_ends_with_its_runtime_leaves_the_lock_of_others_and_keeps_none() {
    let (pass_on, mut is_passed_on) = mpsc::unbounded_channel();
    let daemon = Played::start(move |accept| {
        let mut client = accept();
        client.open((1, 0, 0));
        let first = client.expect(Method::HypercoreAcquireLock);
        client.answer(&first, &());
        let second = client.expect(Method::HypercoreAcquireLock);
        has(&mut client);
        // The first is given back, not before.
        released(&mut client);
        client.answer(&second, &());
        released(&mut client);
        pass_on.send(()).unwrap();
        client.expect(Method::HypercoreClose);
    });
    let client = daemon.plain().await;
    let log = client.corestore().get_by_name("log").await.unwrap();
    let lock = log.lock().await.unwrap();
    let there = log.clone();
    let other_runtime = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(give_up(&there));
    };
    tokio::task::spawn_blocking(other_runtime).await.unwrap();
    assert!(log.has(0).await.unwrap());
    assert!(!lock.is_lost());
    lock.release().await.unwrap();
    is_passed_on.recv().await.unwrap();
    drop(log);
    daemon.end().await;
}

#[tokio::test]
async fn a_turn_that_was_given_up_is_the_next_ones_and_not_asked_for_again() {
    let (pass_on, mut is_passed_on) = mpsc::unbounded_channel();
    let daemon = Played::start(move |accept| {
        let mut client = accept();
        client.open((1, 0, 0));
        let turn = client.expect(Method::HypercoreAcquireLock);
        has(&mut client);
        // Two wait, for one of whom there is a turn.
        let other_turn = client.expect(Method::HypercoreAcquireLock);
        has(&mut client);
        client.answer(&turn, &());
        // The first of them has it, and the turn of the second is the third one's.
        has(&mut client);
        released(&mut client);
        client.answer(&other_turn, &());
        released(&mut client);
        // Nobody wants this one.
        let turn = client.expect(Method::HypercoreAcquireLock);
        has(&mut client);
        client.answer(&turn, &());
        released(&mut client);
        pass_on.send(()).unwrap();
        // There is none left to take over.
        let turn = client.expect(Method::HypercoreAcquireLock);
        client.answer(&turn, &());
        released(&mut client);
        client.expect(Method::HypercoreClose);
    });
    let client = daemon.plain().await;
    let log = client.corestore().get_by_name("log").await.unwrap();
    for _ in 0..1000 {
        give_up(&log).await;
    }
    assert!(log.has(0).await.unwrap());
    let (mut first, mut second) = (Box::pin(log.lock()), Box::pin(log.lock()));
    assert!(poll_immediate(&mut first).await.is_none());
    assert!(poll_immediate(&mut second).await.is_none());
    tokio::task::yield_now().await;
    assert!(log.has(0).await.unwrap());
    let lock = first.await.unwrap();
    drop(second);
    let mut third = Box::pin(log.lock());
    assert!(poll_immediate(&mut third).await.is_none());
    assert!(log.has(0).await.unwrap());
    lock.release().await.unwrap();
    third.await.unwrap().release().await.unwrap();
    give_up(&log).await;
    assert!(log.has(0).await.unwrap());
    is_passed_on.recv().await.unwrap();
    log.lock().await.unwrap().release().await.unwrap();
    drop(log);
    daemon.end().await;
}

#[tokio::test]
async fn what_the_daemon_refuses_is_told_to_the_last_who_asked() {
    let daemon = Played::start(|accept| {
        let mut client = accept();
        client.open((1, 0, 0));
        let turn = client.expect(Method::HypercoreAcquireLock);
        let refused = client.expect(Method::HypercoreAcquireLock);
        client.outbox.error(refused.header, &RpcError::coded(code::LIMIT, "too many"));
        has(&mut client);
        client.answer(&turn, &());
        released(&mut client);
        client.expect(Method::HypercoreClose);
    });
    let client = daemon.plain().await;
    let log = client.corestore().get_by_name("log").await.unwrap();
    let (mut first, mut last) = (Box::pin(log.lock()), Box::pin(log.lock()));
    assert!(poll_immediate(&mut first).await.is_none());
    assert!(poll_immediate(&mut last).await.is_none());
    tokio::task::yield_now().await;
    assert!(log.has(0).await.unwrap());
    let error = last.await.unwrap_err();
    assert_eq!(error.rpc_message(), Some("too many"));
    first.await.unwrap().release().await.unwrap();
    drop(log);
    daemon.end().await;
}

#[tokio::test]
async fn turns_that_were_given_up_go_with_the_connection() {
    let daemon = Played::start(|accept| {
        let mut client = accept();
        client.open((1, 0, 0));
        client.expect(Method::HypercoreAcquireLock);
        client.expect(Method::HypercoreAcquireLock);
        has(&mut client);
        drop(client);
        let mut client = accept();
        client.open((1, 0, 0));
        let turn = client.expect(Method::HypercoreAcquireLock);
        client.answer(&turn, &());
        released(&mut client);
        while client.next().is_some() {}
    });
    let client = daemon.lasting().await;
    let mut events = pin!(client.connection_events());
    let log = client.corestore().get_by_name("log").await.unwrap();
    let mut waiting = Box::pin(log.lock());
    assert!(poll_immediate(&mut waiting).await.is_none());
    give_up(&log).await;
    assert!(log.has(0).await.unwrap());
    assert_eq!(lost(&mut events).await, []);
    assert!(matches!(waiting.await, Err(ClientError::Disconnected(_))));
    restored(&mut events).await;
    log.lock().await.unwrap().release().await.unwrap();
    drop(log);
    client.close();
    daemon.end().await;
}
