//! Clients that are told more than they read: what is kept for one is bounded, and others do not notice it.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::Fixture;
use futures::future::join_all;
use hyperspace_client::RemoteHypercore;
use hyperspace_common::{Method, Outbox, messages::*};
use hyperspace_server::{Gone, Limits};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf},
    task::JoinHandle,
};

const MAX_UNREAD: usize = 2 << 20;
/// What fits between the server and a client that does not read.
const PIPE: usize = 1000;

/// Nobody is let go for reading slowly, only for what piles up.
fn limits() -> Limits {
    Limits { max_unread: MAX_UNREAD, stall: Duration::from_secs(3600), ..Limits::default() }
}

fn open(outbox: &mut Outbox, session: u64, name: &str) {
    let request = OpenRequest { id: session, key: None, name: Some(name.into()), weak: None };
    outbox.request(Method::CorestoreOpen, 1 + session, &request);
}

fn gets(outbox: &mut Outbox, session: u64, count: u64) {
    for i in 0..count {
        let get = GetRequest {
            id: session,
            seq: 0,
            resource_id: i,
            wait: None,
            if_available: None,
            on_wait_id: None,
        };
        outbox.request(Method::HypercoreGet, 1000 + i, &get);
    }
}

/// A client that asks for these and does not read, with a stream that holds so many bytes.
fn deaf(fixture: &Fixture, asks: &mut Outbox, pipe: usize) -> (ReadHalf<DuplexStream>, JoinHandle<Gone>) {
    let (near, far) = tokio::io::duplex(pipe);
    let (reader, mut writer) = tokio::io::split(near);
    let asks = asks.take();
    // The server stops reading when it has too much to say.
    tokio::spawn(async move {
        let _ = writer.write_all(&asks).await;
        // Kept open until the server ends it.
        std::future::pending::<()>().await;
    });
    (reader, tokio::spawn(fixture.server.serve(far)))
}

async fn is_let_go(gone: JoinHandle<Gone>, max_unread: usize) {
    let gone = tokio::time::timeout(Duration::from_secs(60), gone).await.expect("it is let go").unwrap();
    assert!(matches!(gone, Gone::TooMuchUnread { .. }), "{gone}");
    if let Gone::TooMuchUnread { bytes, limit } = gone {
        assert!(bytes <= limit && limit == max_unread, "{bytes}");
        assert!(bytes > limit / 2, "{bytes}");
    }
}

/// To one log and the other, so that the server cannot tell of many appends at once. How many appends.
async fn append_in_turn(one: &RemoteHypercore, two: &RemoteHypercore) -> u64 {
    let appends = (0..200).map(|i| if i % 2 == 0 { one.append("first") } else { two.append("second") });
    join_all(appends).await.into_iter().map(|appended| appended.map(|_| 1).unwrap()).sum()
}

#[tokio::test]
async fn who_reads_no_events_is_let_go_once_they_are_too_many() {
    const FEW: usize = 256 << 10;
    let limits = Limits { max_unread: FEW, unsent_high_water: 16 << 10, ..limits() };
    let fixture = Fixture::with_limits(limits).await;
    let writer = fixture.client().await;
    let store = writer.corestore();
    let (one, two) = (store.get_by_name("one").await.unwrap(), store.get_by_name("two").await.unwrap());
    let mut asked = Outbox::new();
    open(&mut asked, 0, "one");
    open(&mut asked, 1, "two");
    let (near, gone) = deaf(&fixture, &mut asked, PIPE);
    let mut told = 0;
    while !gone.is_finished() {
        told += append_in_turn(&one, &two).await;
        assert!(told < 100_000, "events without end");
    }
    is_let_go(gone, FEW).await;
    assert!(told > 1000, "{told}");
    drop(near);
    assert_eq!(one.get(one.length() - 1).await.unwrap(), "first", "others are served");
}

#[tokio::test]
async fn large_answers_and_events_share_the_bound() {
    let fixture = Fixture::with_limits(limits()).await;
    let writer = fixture.client().await;
    let store = writer.corestore();
    let (one, two) = (store.get_by_name("one").await.unwrap(), store.get_by_name("two").await.unwrap());
    one.append(Bytes::from(vec![7; 700_000])).await.unwrap();
    let mut asked = Outbox::new();
    open(&mut asked, 0, "one");
    open(&mut asked, 1, "two");
    gets(&mut asked, 0, 10_000);
    let (mut near, gone) = deaf(&fixture, &mut asked, PIPE);
    for _ in 0..10 {
        append_in_turn(&one, &two).await;
    }
    assert!(!gone.is_finished(), "two of the answers and two thousand events are within the bound");
    while !gone.is_finished() {
        append_in_turn(&one, &two).await;
    }
    is_let_go(gone, MAX_UNREAD).await;
    // What the pipe had taken can still be read, and then it ends.
    let mut raw = Vec::new();
    near.read_to_end(&mut raw).await.unwrap();
    assert!(raw.len() <= PIPE);
}

/// However much it asked for: what is kept for it stays small, so it may take its time.
#[tokio::test]
async fn who_reads_late_and_slowly_gets_everything() {
    const GETS: usize = 100;
    let fixture = Fixture::with_limits(limits()).await;
    let writer = fixture.client().await;
    let log = writer.corestore().get_by_name("one").await.unwrap();
    log.append(Bytes::from(vec![7; 700_000])).await.unwrap();
    let mut asked = Outbox::new();
    open(&mut asked, 0, "one");
    gets(&mut asked, 0, GETS as u64);
    let (mut near, gone) = deaf(&fixture, &mut asked, 64 << 10);
    let mut left = GETS * 700_000;
    let mut buffer = vec![0; 10_000];
    while left > 0 {
        let read = near.read(&mut buffer).await.unwrap();
        assert!(read > 0, "{left} bytes are missing");
        left = left.saturating_sub(read);
    }
    assert!(!gone.is_finished());
}

/// Whoever wants a lock waits until all others know what was appended under it. Not for one that does not read.
#[tokio::test]
async fn nobody_waits_for_a_client_that_does_not_read() {
    let fixture = Fixture::with_limits(limits()).await;
    let writer = fixture.client().await;
    let log = writer.corestore().get_by_name("one").await.unwrap();
    log.append(Bytes::from(vec![7; 700_000])).await.unwrap();
    let mut asked = Outbox::new();
    open(&mut asked, 0, "one");
    gets(&mut asked, 0, 100);
    let (_near, gone) = deaf(&fixture, &mut asked, PIPE);
    for _ in 0..100 {
        let lock = log.lock().await.unwrap();
        log.append("under the lock").await.unwrap();
        lock.release().await.unwrap();
    }
    assert!(!gone.is_finished());
}

#[tokio::test]
async fn whoever_asks_for_much_and_closes_its_side_gets_all_of_it() {
    const GETS: u64 = 40;
    let fixture = Fixture::start().await;
    let mut asks = Outbox::new();
    open(&mut asks, 0, "log");
    let block = Bytes::from(vec![7; 100 << 10]);
    asks.request(Method::HypercoreAppend, 2, &AppendRequest { id: 0, blocks: vec![block.clone()] });
    gets(&mut asks, 0, GETS);
    // All of it is there, and so is its end, when the server looks for the first time.
    let (near, far) = tokio::io::duplex(16 << 20);
    let (reader, mut writer) = tokio::io::split(near);
    writer.write_all(&asks.take()).await.unwrap();
    writer.shutdown().await.unwrap();
    let served = tokio::spawn(fixture.server.serve(far));
    let mut raw = common::Raw::over(tokio::io::join(reader, tokio::io::empty()));
    let mut blocks = 0;
    while let Some((header, payload)) = raw.next().await {
        if header.known_method() == Some(Method::HypercoreGet) {
            let answer: GetResponse = hyperspace_common::decode(payload).unwrap();
            assert_eq!(answer.block.unwrap(), block);
            blocks += 1;
        }
    }
    assert_eq!(blocks, GETS);
    assert!(matches!(served.await.unwrap(), Gone::Closed));
}
