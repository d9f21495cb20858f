//! Clients that do what they should not. The server lives on, and others are served.

mod common;

use std::time::Duration;

use bytes::{Buf, Bytes};
use common::{Fixture, Raw};
use hyperspace_common::{Decoder, Header, Method, Outbox, messages::*, text};
use hyperspace_server::{Gone, Limits};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn is_served(fixture: &Fixture) {
    fixture.client().await.status().await.unwrap();
}

#[tokio::test]
async fn an_oversized_frame_is_answered_before_the_connection_ends() {
    let fixture = Fixture::with_limits(Limits { max_frame: 1000, ..Limits::default() }).await;
    let mut raw = fixture.raw().await;
    let mut head = bytes::BytesMut::new();
    Header::request(Method::HypercoreAppend, 7).write(1001, &mut head);
    raw.stream.write_all(&head).await.unwrap();
    let error = raw.error(7).await;
    assert!(error.message.contains("1001") && error.message.contains("1000"), "{}", error.message);
    assert!(raw.next().await.is_none());
    is_served(&fixture).await;
}

#[tokio::test]
async fn what_precedes_garbage_is_answered() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    let mut outbox = Outbox::new();
    outbox.request(Method::HyperspaceStatus, 1, &());
    let mut bytes = outbox.take().to_vec();
    bytes.extend_from_slice(&[0xff; 64]);
    raw.stream.write_all(&bytes).await.unwrap();
    raw.answer::<HyperspaceStatusResponse>(Method::HyperspaceStatus, 1).await;
    assert!(raw.next().await.is_none());
    is_served(&fixture).await;
}

#[tokio::test]
async fn a_truncated_frame_and_a_sudden_end_free_the_client() {
    let fixture = Fixture::start().await;
    let (near, far) = tokio::io::duplex(1000);
    let gone = tokio::spawn(fixture.server.serve(far));
    let mut near = near;
    near.write_all(&[0x20, 0x0c, 0x01]).await.unwrap();
    drop(near);
    assert!(matches!(gone.await.unwrap(), Gone::Closed));
    is_served(&fixture).await;
}

#[tokio::test]
async fn a_client_that_answers_calls_that_were_not_made_is_let_go() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    raw.stream.write_all(&[3, 0x0d, 1, 1]).await.unwrap();
    assert!(raw.next().await.is_none());
    is_served(&fixture).await;
}

#[tokio::test]
async fn a_client_that_does_not_read_is_let_go_with_a_reason() {
    let limits = Limits { stall: Duration::from_millis(50), ..Limits::default() };
    let fixture = Fixture::with_limits(limits).await;
    let (near, far) = tokio::io::duplex(10_000);
    let gone = tokio::spawn(fixture.server.serve(far));
    let mut raw = near;
    let mut outbox = Outbox::new();
    outbox.request(Method::CorestoreOpen, 1, &OpenRequest { id: 0, key: None, name: None, weak: None });
    let blocks = vec![Bytes::from(vec![7; 100_000])];
    outbox.request(Method::HypercoreAppend, 2, &AppendRequest { id: 0, blocks });
    for i in 0..100 {
        let get =
            GetRequest { id: 0, seq: 0, resource_id: i, wait: None, if_available: None, on_wait_id: None };
        outbox.request(Method::HypercoreGet, 10 + i, &get);
    }
    raw.write_all(&outbox.take()).await.unwrap();
    let gone = gone.await.unwrap();
    assert!(matches!(gone, Gone::DoesNotRead { .. }), "{gone}");
    assert!(gone.to_string().contains("does not read"));
    is_served(&fixture).await;
}

#[tokio::test]
async fn a_slow_reader_gets_everything_and_the_server_holds_little() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    raw.open_new(0).await;
    let block = Bytes::from(vec![7; 100_000]);
    raw.send(Method::HypercoreAppend, 2, &AppendRequest { id: 0, blocks: vec![block] }).await;
    raw.event::<AppendEvent>(Method::HypercoreOnAppend).await;
    raw.answer::<AppendResponse>(Method::HypercoreAppend, 2).await;
    // 200 MB of answers, asked for at once; far more than is kept for a client.
    let mut outbox = Outbox::new();
    for i in 1..=2000 {
        let get =
            GetRequest { id: 0, seq: 0, resource_id: i, wait: None, if_available: None, on_wait_id: None };
        outbox.request(Method::HypercoreGet, i, &get);
    }
    let (mut reader, mut writer) = raw.stream.into_split();
    let requests = outbox.take();
    let write = tokio::spawn(async move {
        writer.write_all(&requests).await.unwrap();
        writer
    });
    let mut total = 0;
    let mut buffer = vec![0; 300_000];
    while total < 2000 * 100_000 {
        total += reader.read(&mut buffer).await.unwrap();
        tokio::task::yield_now().await;
    }
    write.await.unwrap();
    is_served(&fixture).await;
}

/// However much one asks at once: on one thread, others are answered in between.
#[tokio::test]
async fn a_long_burst_lets_others_have_their_turn() {
    let fixture = Fixture::with_limits(Limits { turn: Duration::ZERO, ..Limits::default() }).await;
    let (mut one, mut two) = (fixture.raw().await, fixture.raw().await);
    for raw in [&mut one, &mut two] {
        raw.send(Method::HyperspaceStatus, 1, &()).await;
        raw.answer::<HyperspaceStatusResponse>(Method::HyperspaceStatus, 1).await;
    }
    const CALLS: u64 = 1000;
    let mut outbox = Outbox::new();
    (1..=CALLS).for_each(|id| outbox.request(Method::HyperspaceStatus, id, &()));
    one.stream.write_all(&outbox.take()).await.unwrap();
    two.send(Method::HyperspaceStatus, 2, &()).await;
    two.answer::<HyperspaceStatusResponse>(Method::HyperspaceStatus, 2).await;
    one.input.reserve(1 << 20);
    let _ = one.stream.try_read_buf(&mut one.input);
    let mut answered = 0;
    while let Some(frame) = Decoder::default().next(&one.input).unwrap() {
        one.input.advance(frame.end);
        answered += 1;
    }
    assert!(answered < CALLS, "all of them were answered first");
    // None is lost.
    for id in answered + 1..=CALLS {
        one.answer::<HyperspaceStatusResponse>(Method::HyperspaceStatus, id).await;
    }
}

/// A call that only asks is not worked on when nobody wants the answer; one that does something is.
#[tokio::test]
async fn calls_without_an_answer_still_do_what_they_do() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    raw.open_new(0).await;
    let blocks = vec![Bytes::from_static(b"x")];
    raw.send(Method::HyperspaceStatus, 0, &()).await;
    raw.send(Method::HypercoreHas, 0, &HasRequest { id: 7, seq: 0 }).await;
    raw.send(Method::HypercoreAppend, 0, &AppendRequest { id: 0, blocks }).await;
    raw.send(Method::LogState, 0, &LogRequest { id: 0 }).await;
    raw.send(Method::LogState, 3, &LogRequest { id: 0 }).await;
    raw.event::<AppendEvent>(Method::HypercoreOnAppend).await;
    assert_eq!(raw.answer::<LogState>(Method::LogState, 3).await.length, 1);
}

/// What a weak session waits for keeps nothing open, and ends with the core.
#[tokio::test]
async fn what_a_weak_session_waits_for_ends_with_the_core() {
    let fixture = Fixture::start().await;
    let (mut strong, mut weak) = (fixture.raw().await, fixture.raw().await);
    weak.send(Method::HyperspaceStatus, 1, &()).await;
    weak.answer::<HyperspaceStatusResponse>(Method::HyperspaceStatus, 1).await;
    let key = Some(Bytes::from(vec![9; 32]));
    let open = |weak| OpenRequest { id: 4, key: key.clone(), name: None, weak };
    strong.send(Method::CorestoreOpen, 1, &open(None)).await;
    strong.event::<FeedEvent>(Method::CorestoreOnFeed).await;
    strong.answer::<OpenResponse>(Method::CorestoreOpen, 1).await;
    weak.event::<FeedEvent>(Method::CorestoreOnFeed).await;
    weak.send(Method::CorestoreOpen, 2, &open(Some(true))).await;
    weak.answer::<OpenResponse>(Method::CorestoreOpen, 2).await;
    let if_available = Some(false);
    let get = GetRequest { id: 4, seq: 3, resource_id: 1, wait: None, if_available, on_wait_id: None };
    weak.send(Method::HypercoreGet, 10, &get).await;
    let update = UpdateRequest { id: 4, min_length: Some(5), if_available, hash: None };
    weak.send(Method::HypercoreUpdate, 11, &update).await;
    let seek = SeekRequest { id: 4, byte_offset: 9, start: None, end: None, wait: None, if_available };
    weak.send(Method::HypercoreSeek, 12, &seek).await;
    let download = DownloadRequest { id: 4, resource_id: 2, end: Some(10), ..Default::default() };
    weak.send(Method::HypercoreDownload, 13, &download).await;
    // It waits for all of them now.
    weak.send(Method::HypercoreHas, 14, &HasRequest { id: 4, seq: 0 }).await;
    assert!(!weak.answer::<HasResponse>(Method::HypercoreHas, 14).await.has);
    strong.send(Method::HypercoreClose, 2, &CloseRequest { id: 4 }).await;
    strong.done(Method::HypercoreClose, 2).await;
    let mut ended = std::collections::BTreeSet::new();
    assert_eq!(weak.event::<CloseEvent>(Method::HypercoreOnClose).await.id, 4);
    for _ in 0..4 {
        let (header, payload) = weak.next().await.unwrap();
        let error: hyperspace_common::RpcError = hyperspace_common::decode(payload).unwrap();
        assert_eq!(error.message, text::FEED_CLOSED);
        ended.insert(header.id);
    }
    assert_eq!(ended.into_iter().collect::<Vec<_>>(), [10, 11, 12, 13]);
    weak.send(Method::StoreStats, 15, &()).await;
    assert_eq!(weak.answer::<StatsResponse>(Method::StoreStats, 15).await.open_cores, 0);
}

#[tokio::test]
async fn ten_thousand_requests_wait_at_once() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    raw.open_new(0).await;
    let mut outbox = Outbox::new();
    let n = 10_000u64;
    for i in 0..n {
        let if_available = Some(false);
        let get = GetRequest { id: 0, seq: i, resource_id: i, wait: None, if_available, on_wait_id: None };
        outbox.request(Method::HypercoreGet, 10 + i, &get);
    }
    let blocks = (0..n).map(|i| Bytes::from(i.to_string())).collect();
    outbox.request(Method::HypercoreAppend, 5, &AppendRequest { id: 0, blocks });
    raw.stream.write_all(&outbox.take()).await.unwrap();
    raw.event::<AppendEvent>(Method::HypercoreOnAppend).await;
    raw.answer::<AppendResponse>(Method::HypercoreAppend, 5).await;
    let mut seen = vec![false; n as usize];
    for _ in 0..n {
        let (header, payload) = raw.next().await.unwrap();
        let answer: GetResponse = hyperspace_common::decode(payload).unwrap();
        let seq = header.id - 10;
        assert_eq!(answer.block.unwrap(), seq.to_string());
        assert!(!std::mem::replace(&mut seen[seq as usize], true));
    }
}

#[tokio::test]
async fn waiting_requests_are_bounded() {
    let fixture = Fixture::with_limits(Limits { max_waiting: 3, ..Limits::default() }).await;
    let mut raw = fixture.raw().await;
    raw.open_new(0).await;
    for i in 1..=4 {
        let if_available = Some(false);
        let get = GetRequest { id: 0, seq: i, resource_id: i, wait: None, if_available, on_wait_id: None };
        raw.send(Method::HypercoreGet, i, &get).await;
    }
    let error = raw.error(4).await;
    assert_eq!(error.code.as_deref(), Some("ELIMIT"));
    assert!(error.message.contains('3'));
}

#[tokio::test]
async fn sessions_and_clients_are_bounded() {
    let fixture = Fixture::with_limits(Limits { max_sessions: 2, max_clients: 2, ..Limits::default() }).await;
    let (mut one, mut two) = (fixture.raw().await, fixture.raw().await);
    one.open_new(0).await;
    one.open_new(1).await;
    one.send(Method::CorestoreOpen, 9, &OpenRequest { id: 2, key: None, name: None, weak: None }).await;
    assert_eq!(one.error(9).await.code.as_deref(), Some("ELIMIT"));
    two.send(Method::HyperspaceStatus, 1, &()).await;
    while two.next().await.unwrap().0.id != 1 {}
    let mut three = fixture.raw().await;
    assert!(three.next().await.is_none());
    drop(two);
}

#[tokio::test]
async fn a_dead_client_leaves_its_cores() {
    let fixture = Fixture::start().await;
    let mut weak = fixture.raw().await;
    let mut strong = fixture.raw().await;
    weak.send(Method::HyperspaceStatus, 1, &()).await;
    weak.answer::<HyperspaceStatusResponse>(Method::HyperspaceStatus, 1).await;
    let open = strong.open_new(0).await;
    weak.event::<FeedEvent>(Method::CorestoreOnFeed).await;
    weak.send(
        Method::CorestoreOpen,
        2,
        &OpenRequest { id: 4, key: Some(open.key), name: None, weak: Some(true) },
    )
    .await;
    weak.answer::<OpenResponse>(Method::CorestoreOpen, 2).await;
    let get =
        GetRequest { id: 0, seq: 3, resource_id: 1, wait: None, if_available: Some(false), on_wait_id: None };
    strong.send(Method::HypercoreGet, 5, &get).await;
    drop(strong);
    assert_eq!(weak.event::<CloseEvent>(Method::HypercoreOnClose).await.id, 4);
}

/// Frames that are nearly right reach further than noise.
fn mischief() -> impl Strategy<Value = Vec<u8>> {
    let noise = proptest::collection::vec(any::<u8>(), 0..200);
    let framed = (0u64..6, 0u64..30, 0u64..3, proptest::collection::vec(any::<u8>(), 0..40)).prop_map(
        |(service, method, id, payload)| {
            let mut out = bytes::BytesMut::new();
            Header { kind: hyperspace_common::Kind::Request, service, method, id }
                .write(payload.len(), &mut out);
            out.extend_from_slice(&payload);
            out.to_vec()
        },
    );
    let valid = (0u64..3, any::<u64>(), any::<u64>(), proptest::collection::vec(any::<u64>(), 0..5))
        .prop_map(|(id, a, b, blocks)| {
            let mut outbox = Outbox::new();
            outbox.request(
                Method::CorestoreOpen,
                1,
                &OpenRequest { id, key: None, name: None, weak: Some(a % 2 == 0) },
            );
            let wait = Some(a % 3 == 0);
            let get = GetRequest {
                id,
                seq: a,
                resource_id: b,
                wait,
                if_available: Some(b % 2 == 0),
                on_wait_id: Some(b),
            };
            outbox.request(Method::HypercoreGet, 2, &get);
            let append =
                AppendRequest { id, blocks: blocks.iter().map(|b| Bytes::from(b.to_string())).collect() };
            outbox.request(Method::HypercoreAppend, 3, &append);
            let (start, end) = (Some(a), Some(b));
            let seek = SeekRequest { id, byte_offset: b, start, end, wait, if_available: None };
            outbox.request(Method::HypercoreSeek, 4, &seek);
            outbox.request(Method::HypercoreDownloaded, 5, &DownloadedRequest { id, start, end });
            let resource_id = a;
            let download =
                DownloadRequest { id, resource_id, start, end, blocks, linear: wait, live: Some(false) };
            outbox.request(Method::HypercoreDownload, 6, &download);
            outbox.request(
                Method::HypercoreUpdate,
                7,
                &UpdateRequest { id, min_length: Some(b), if_available: wait, hash: None },
            );
            outbox.request(Method::HypercoreHas, 8, &HasRequest { id, seq: a });
            outbox.request(Method::HypercoreUndownload, 9, &UndownloadRequest { id, resource_id });
            outbox.take().to_vec()
        });
    // Stop would end the server, rightly.
    let harmless = |bytes: &Vec<u8>| !bytes.windows(2).any(|pair| pair == [0x04, 0x02]);
    proptest::collection::vec(prop_oneof![noise, framed, valid], 1..6)
        .prop_map(|parts| parts.concat())
        .prop_filter("stop", harmless)
}

#[test]
fn any_bytes_are_survived() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let fixture = runtime.block_on(Fixture::start());
    proptest!(ProptestConfig::with_cases(300), |(bytes in mischief())| {
        runtime.block_on(async {
            let mut raw: Raw = fixture.raw().await;
            // The server may end the connection in the middle.
            let _ = raw.stream.write_all(&bytes).await;
            let _ = raw.stream.shutdown().await;
            let _ = tokio::io::copy(&mut raw.stream, &mut tokio::io::sink()).await;
            is_served(&fixture).await;
        });
    });
}
