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

/// What a weak session has of a core goes when that is closed, not when the client closes the session, or is gone: it may
/// do so late or never. What it says of it afterwards concerns nobody else.
#[tokio::test]
async fn a_core_that_is_closed_leaves_no_lock_with_its_weak_sessions() {
    let fixture = Fixture::start().await;
    let [mut strong, mut holder, mut waiting] =
        [fixture.raw().await, fixture.raw().await, fixture.raw().await];
    let key = strong.open_new(3).await.key;
    for raw in [&mut holder, &mut waiting] {
        let weak = OpenRequest { id: 3, key: Some(key.clone()), name: None, weak: Some(true) };
        raw.send(Method::CorestoreOpen, 1, &weak).await;
        while raw.next().await.expect("an answer").0.id != 1 {}
    }
    let extension = RegisterExtensionRequest { id: 3, resource_id: 9, name: "chat".into() };
    holder.send(Method::HypercoreRegisterExtension, 2, &extension).await;
    holder.done(Method::HypercoreRegisterExtension, 2).await;
    acquire(&mut holder, 5).await;
    seen_after_lock(&mut holder).await;
    acquire(&mut waiting, 5).await;
    seen(&mut waiting).await;

    strong.send(Method::HypercoreClose, 2, &CloseRequest { id: 3 }).await;
    strong.done(Method::HypercoreClose, 2).await;
    assert_eq!(holder.event::<CloseEvent>(Method::HypercoreOnClose).await.id, 3);
    assert_eq!(waiting.event::<CloseEvent>(Method::HypercoreOnClose).await.id, 3);
    assert_eq!(waiting.error(5).await.message, "Feed is closed");
    open(&mut strong, 3, &key).await;
    strong.send(Method::HypercoreAcquireLock, 5, &LockRequest { id: 3 }).await;
    strong.done(Method::HypercoreAcquireLock, 5).await;

    // The Node client gives its lock back and closes the session, and goes on with another one.
    holder.send(Method::HypercoreReleaseLock, 0, &LockRequest { id: 3 }).await;
    open(&mut holder, 4, &key).await;
    holder.send(Method::HypercoreReleaseLock, 6, &LockRequest { id: 3 }).await;
    assert_eq!(holder.error(6).await.message, "Feed is closed");
    holder.send(Method::HypercoreReleaseLock, 6, &LockRequest { id: 4 }).await;
    assert_eq!(holder.error(6).await.message, "Core is not locked by you");
    let extension = UnregisterExtensionRequest { id: 3, resource_id: 9 };
    holder.send(Method::HypercoreUnregisterExtension, 7, &extension).await;
    assert_eq!(holder.error(7).await.message, "Invalid resource: 9");
    holder.send(Method::HypercoreAcquireLock, 8, &LockRequest { id: 4 }).await;
    strong.send(Method::HypercoreReleaseLock, 6, &LockRequest { id: 3 }).await;
    strong.done(Method::HypercoreReleaseLock, 6).await;
    holder.done(Method::HypercoreAcquireLock, 8).await;
    // What is left of the closed session is not what holds it.
    holder.send(Method::HypercoreReleaseLock, 0, &LockRequest { id: 3 }).await;
    holder.send(Method::HypercoreClose, 9, &CloseRequest { id: 3 }).await;
    holder.done(Method::HypercoreClose, 9).await;
    strong.send(Method::HypercoreReleaseLock, 7, &LockRequest { id: 3 }).await;
    assert_eq!(strong.error(7).await.message, "Core is not locked by you");
    // Its number is free again.
    open(&mut holder, 3, &key).await;
}
