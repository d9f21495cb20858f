//! Clients that are told more than they read: what is kept for one is bounded, and others do not notice it.

mod common;

use std::{
    collections::{BTreeSet, VecDeque},
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use common::Fixture;
use futures::future::join_all;
use hyperspace_client::RemoteHypercore;
use hyperspace_common::{Method, Outbox, messages::*};
use hyperspace_server::{Gone, Limits};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf},
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

/// Waits for blocks that are not there.
fn waiting_gets(outbox: &mut Outbox, session: u64, count: u64) {
    for seq in 0..count {
        let get = GetRequest {
            id: session,
            seq,
            resource_id: seq,
            wait: None,
            if_available: Some(false),
            on_wait_id: None,
        };
        outbox.request(Method::HypercoreGet, 1000 + seq, &get);
    }
}

/// Reads until each of these calls was answered.
async fn answers<S: AsyncRead + AsyncWrite + Unpin>(
    raw: &mut common::Raw<S>,
    calls: impl Iterator<Item = u64>,
) {
    let mut missing: BTreeSet<u64> = calls.collect();
    let all = async {
        while !missing.is_empty() {
            let (header, _) = raw.next().await.expect("all answers before the end");
            missing.remove(&header.id);
        }
    };
    if tokio::time::timeout(Duration::from_secs(60), all).await.is_err() {
        panic!("{} answers never came, the first of them is {:?}", missing.len(), missing.first());
    }
}

/// Larger than everything that is said to it: no write has to wait, so none wakes the connection.
const WIDE: usize = 64 << 20;
const LARGE: usize = 64 << 10;

#[tokio::test]
async fn what_was_put_off_is_done_though_the_stream_takes_everything_at_once() {
    const GETS: u64 = 64;
    // More than the server looks at together.
    const MORE: u64 = 5000;
    let fixture = Fixture::start().await;
    let (near, far) = tokio::io::duplex(WIDE);
    tokio::spawn(fixture.server.serve(far));
    let mut raw = common::Raw::over(near);
    let mut asks = Outbox::new();
    open(&mut asks, 0, "log");
    waiting_gets(&mut asks, 0, GETS);
    let blocks = vec![Bytes::from(vec![7; LARGE]); GETS as usize];
    asks.request(Method::HypercoreAppend, 2, &AppendRequest { id: 0, blocks });
    for call in 10_000..10_000 + MORE {
        asks.request(Method::HypercoreHas, call, &HasRequest { id: 0, seq: 0 });
    }
    raw.stream.write_all(&asks.take()).await.unwrap();
    answers(&mut raw, (1..=2).chain(1000..1000 + GETS).chain(10_000..10_000 + MORE)).await;
}

#[tokio::test]
async fn all_who_wait_are_answered_though_the_stream_takes_everything_at_once() {
    const GETS: u64 = 200;
    let fixture = Fixture::start().await;
    let (near, far) = tokio::io::duplex(WIDE);
    tokio::spawn(fixture.server.serve(far));
    let mut raw = common::Raw::over(near);
    let mut asks = Outbox::new();
    open(&mut asks, 0, "log");
    waiting_gets(&mut asks, 0, GETS);
    asks.request(Method::HyperspaceStatus, 2, &());
    raw.stream.write_all(&asks.take()).await.unwrap();
    answers(&mut raw, 1..=2).await;
    let writer = fixture.client().await;
    let log = writer.corestore().get_by_name("log").await.unwrap();
    log.append_blocks(&vec![Bytes::from(vec![7; LARGE]); GETS as usize]).await.unwrap();
    answers(&mut raw, 1000..1000 + GETS).await;
}

/// Brings some requests and their end, and takes whatever is written to it.
struct Sponge {
    /// What each read brings.
    asks: VecDeque<Bytes>,
    taken: Arc<AtomicU64>,
    /// Whether it first has each answer wait, and then takes all that has come together.
    is_slow: bool,
    is_busy: bool,
}

impl Sponge {
    fn new<const N: usize>(asks: [Outbox; N], is_slow: bool) -> Self {
        Self {
            asks: asks.map(|mut asks| asks.take()).into(),
            taken: Arc::default(),
            is_slow,
            is_busy: is_slow,
        }
    }
}

impl AsyncRead for Sponge {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(asks) = self.asks.front_mut() {
            let length = asks.len().min(buffer.remaining());
            buffer.put_slice(&asks.split_to(length));
            if asks.is_empty() {
                self.asks.pop_front();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Sponge {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.is_busy) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.taken.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.is_busy = self.is_slow;
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn what_came_before_a_client_closed_its_side_is_done_and_answered() {
    const GETS: u64 = 12;
    const BLOCK: u64 = 3 << 20;
    for is_slow in [false, true] {
        let fixture = Fixture::start().await;
        let (mut opens, mut asks) = (Outbox::new(), Outbox::new());
        open(&mut opens, 0, "log");
        let log = fixture.client().await.corestore().get_by_name("log").await.unwrap();
        log.append(Bytes::from(vec![7; BLOCK as usize])).await.unwrap();
        // As it is large, more is read before it is looked at, and that is the end.
        let large = vec![Bytes::from(vec![7; 20_000])];
        asks.request(Method::HypercoreAppend, 2, &AppendRequest { id: 0, blocks: large });
        gets(&mut asks, 0, GETS);
        asks.request(Method::HypercoreAppend, 3, &AppendRequest { id: 0, blocks: vec![Bytes::from("last")] });
        let sponge = Sponge::new([opens, asks], is_slow);
        let taken = sponge.taken.clone();
        let gone = fixture.server.serve(sponge).await;
        assert!(matches!(gone, Gone::Closed), "{gone}");
        let taken = taken.load(Ordering::Relaxed);
        assert!(taken > GETS * BLOCK, "{} answers", taken / BLOCK);
        assert_eq!(log.get(2).await.unwrap(), "last");
    }
}

/// On a runtime of one thread.
#[tokio::test]
async fn others_have_their_turn_while_a_stream_takes_everything_at_once() {
    const GETS: u64 = 500;
    const BLOCK: u64 = 2 << 20;
    let fixture = Fixture::start().await;
    let mut asks = Outbox::new();
    open(&mut asks, 0, "log");
    let blocks = vec![Bytes::from(vec![7; BLOCK as usize])];
    asks.request(Method::HypercoreAppend, 2, &AppendRequest { id: 0, blocks });
    gets(&mut asks, 0, GETS);
    let sponge = Sponge::new([asks], false);
    let taken = sponge.taken.clone();
    let served = tokio::spawn(fixture.server.serve(sponge));
    let (mut last, mut most) = (0, 0);
    while !served.is_finished() {
        tokio::task::yield_now().await;
        let now = taken.load(Ordering::Relaxed);
        most = most.max(now - last);
        last = now;
    }
    assert!(last >= GETS * BLOCK, "{last}");
    assert!(most < GETS * BLOCK / 2, "{most} bytes in one turn");
}
