//! Locks of cores, held across clients.

mod common;

use bytes::Bytes;
use common::{Fixture, Raw};
use hyperspace_common::{Method, Outbox, messages::*};
use tokio::io::AsyncWriteExt;

/// Opens the core, whatever events come in between.
async fn open(raw: &mut Raw, id: u64, key: &Bytes) {
    let request = OpenRequest { id, key: Some(key.clone()), name: None, weak: None };
    raw.send(Method::CorestoreOpen, 1, &request).await;
    while raw.next().await.expect("an answer").0.id != 1 {}
}

/// Three clients, each with the core open as session 3.
async fn three(fixture: &Fixture) -> [Raw; 3] {
    let mut clients = [fixture.raw().await, fixture.raw().await, fixture.raw().await];
    let key = clients[0].open_new(3).await.key;
    for raw in &mut clients[1..] {
        open(raw, 3, &key).await;
    }
    clients
}

async fn acquire(raw: &mut Raw, id: u64) {
    raw.send(Method::HypercoreAcquireLock, id, &LockRequest { id: 3 }).await;
    // The server has seen it.
    raw.send(Method::HypercoreHas, 99, &HasRequest { id: 3, seq: 0 }).await;
}

async fn seen(raw: &mut Raw) {
    raw.answer::<HasResponse>(Method::HypercoreHas, 99).await;
}

async fn append(raw: &mut Raw, id: u64) {
    let blocks = vec![Bytes::from_static(b"x")];
    raw.send(Method::HypercoreAppend, id, &AppendRequest { id: 3, blocks }).await;
}

#[tokio::test]
async fn first_come_first_served_and_every_append_is_told_before() {
    let fixture = Fixture::start().await;
    let [mut one, mut two, mut three] = three(&fixture).await;
    acquire(&mut one, 5).await;
    one.done(Method::HypercoreAcquireLock, 5).await;
    seen(&mut one).await;
    for raw in [&mut two, &mut three] {
        acquire(raw, 5).await;
        seen(raw).await;
    }
    append(&mut one, 6).await;
    one.send(Method::HypercoreReleaseLock, 7, &LockRequest { id: 3 }).await;
    let told: AppendEvent = two.event(Method::HypercoreOnAppend).await;
    assert_eq!(told.length, 1);
    two.done(Method::HypercoreAcquireLock, 5).await;
    append(&mut two, 6).await;
    two.send(Method::HypercoreReleaseLock, 0, &LockRequest { id: 3 }).await;
    for length in 1..3 {
        let told: AppendEvent = three.event(Method::HypercoreOnAppend).await;
        assert_eq!(told.length, length);
    }
    three.done(Method::HypercoreAcquireLock, 5).await;
}

#[tokio::test]
async fn a_lock_goes_with_its_holder() {
    let fixture = Fixture::start().await;
    let [mut one, mut two, mut three] = three(&fixture).await;
    acquire(&mut one, 5).await;
    seen_after_lock(&mut one).await;
    for raw in [&mut two, &mut three] {
        acquire(raw, 5).await;
        seen(raw).await;
    }
    // The second dies waiting, the first dies holding.
    drop(two);
    drop(one);
    three.done(Method::HypercoreAcquireLock, 5).await;
    // A session that is closed holds nothing either.
    three.send(Method::HypercoreClose, 6, &CloseRequest { id: 3 }).await;
    three.done(Method::HypercoreClose, 6).await;
}

async fn seen_after_lock(raw: &mut Raw) {
    raw.done(Method::HypercoreAcquireLock, 5).await;
    seen(raw).await;
}

#[tokio::test]
async fn a_closed_session_frees_its_lock() {
    let fixture = Fixture::start().await;
    let [mut one, mut two, _three] = three(&fixture).await;
    acquire(&mut one, 5).await;
    seen_after_lock(&mut one).await;
    acquire(&mut two, 5).await;
    seen(&mut two).await;
    one.send(Method::HypercoreClose, 0, &CloseRequest { id: 3 }).await;
    two.done(Method::HypercoreAcquireLock, 5).await;
    // One that still waits is told why it ends.
    acquire(&mut two, 6).await;
    seen(&mut two).await;
    two.send(Method::HypercoreClose, 7, &CloseRequest { id: 3 }).await;
    assert_eq!(two.error(6).await.message, "Feed is closed");
    two.done(Method::HypercoreClose, 7).await;
}

#[tokio::test]
async fn only_the_holder_releases() {
    let fixture = Fixture::start().await;
    let [mut one, mut two, _three] = three(&fixture).await;
    one.send(Method::HypercoreReleaseLock, 5, &LockRequest { id: 3 }).await;
    assert_eq!(one.error(5).await.message, "Core is not locked");
    // Taken, worked under and given back without waiting for answers.
    let mut outbox = Outbox::new();
    outbox.request(Method::HypercoreAcquireLock, 6, &LockRequest { id: 3 });
    outbox.request(Method::HypercoreReleaseLock, 7, &LockRequest { id: 3 });
    outbox.request(Method::HypercoreAcquireLock, 8, &LockRequest { id: 3 });
    one.stream.write_all(&outbox.take()).await.unwrap();
    let mut answered: Vec<u64> = Vec::new();
    for _ in 0..3 {
        answered.push(one.next().await.unwrap().0.id);
    }
    answered.sort_unstable();
    assert_eq!(answered, [6, 7, 8]);
    two.send(Method::HypercoreReleaseLock, 5, &LockRequest { id: 3 }).await;
    assert_eq!(two.error(5).await.message, "Core is not locked by you");
    two.send(Method::HypercoreAcquireLock, 6, &LockRequest { id: 77 }).await;
    assert_eq!(two.error(6).await.message, "Invalid hypercore: 77");
}
