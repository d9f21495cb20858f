//! What clients get, frame by frame.

mod common;

use bytes::Bytes;
use common::Fixture;
use hyperspace_common::{Method, Outbox, messages::*, text};
use hyperspace_server::Limits;
use tokio::io::AsyncWriteExt;

fn get(id: u64, seq: u64, resource_id: u64) -> GetRequest {
    GetRequest { id, seq, resource_id, wait: None, if_available: None, on_wait_id: None }
}

fn blocks(texts: &[&'static str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
}

#[tokio::test]
async fn a_new_core_is_told_of_before_the_answer() {
    let fixture = Fixture::start().await;
    let (mut one, mut two) = (fixture.raw().await, fixture.raw().await);
    // Both are known to the server once they were answered.
    two.send(Method::HyperspaceStatus, 1, &()).await;
    let status: HyperspaceStatusResponse = two.answer(Method::HyperspaceStatus, 1).await;
    assert_eq!(status.api_version, "1.15.0");

    let open = one.open_new(0).await;
    assert!(open.writable && open.length == 0 && open.key.len() == 32);
    let feed: FeedEvent = two.event(Method::CorestoreOnFeed).await;
    assert_eq!(feed.key, open.key);

    // The second open of the same core is no news.
    let request = OpenRequest { id: 0, key: Some(open.key.clone()), name: None, weak: None };
    two.send(Method::CorestoreOpen, 2, &request).await;
    let again: OpenResponse = two.answer(Method::CorestoreOpen, 2).await;
    assert_eq!(again, open);
}

#[tokio::test]
async fn the_event_goes_before_the_answer_to_the_append() {
    let fixture = Fixture::start().await;
    let (mut one, mut two) = (fixture.raw().await, fixture.raw().await);
    let open = one.open_new(7).await;
    let request = OpenRequest { id: 300, key: Some(open.key), name: None, weak: None };
    two.send(Method::CorestoreOpen, 2, &request).await;
    let (header, _) = two.next().await.unwrap();
    if header.id == 0 {
        two.next().await.unwrap();
    }

    one.send(Method::HypercoreAppend, 5, &AppendRequest { id: 7, blocks: blocks(&["a", "bc"]) }).await;
    let event: AppendEvent = one.event(Method::HypercoreOnAppend).await;
    assert_eq!(event, AppendEvent { id: 7, length: 2, byte_length: 3 });
    let answer: AppendResponse = one.answer(Method::HypercoreAppend, 5).await;
    assert_eq!(answer, AppendResponse { length: 2, byte_length: 3, seq: 0 });
    let event: AppendEvent = two.event(Method::HypercoreOnAppend).await;
    assert_eq!(event, AppendEvent { id: 300, length: 2, byte_length: 3 });
}

#[tokio::test]
async fn appends_that_arrive_together_keep_their_order_and_their_events() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    raw.open_new(0).await;
    let mut outbox = Outbox::new();
    for i in 0..10u64 {
        let request = AppendRequest { id: 0, blocks: vec![Bytes::from(i.to_string()); 1 + (i % 3) as usize] };
        outbox.request(Method::HypercoreAppend, 100 + i, &request);
    }
    outbox.request(Method::HypercoreGet, 200, &get(0, 0, 1));
    outbox.request(Method::HypercoreAppend, 201, &AppendRequest { id: 0, blocks: blocks(&["last"]) });
    raw.stream.write_all(&outbox.take()).await.unwrap();

    let (mut length, mut answered, mut events) = (0, 0, Vec::new());
    while answered < 10 {
        let (header, payload) = raw.next().await.unwrap();
        if header.id == 0 {
            events.push(hyperspace_common::decode::<AppendEvent>(payload).unwrap().length);
            continue;
        }
        let answer: AppendResponse = hyperspace_common::decode(payload).unwrap();
        assert_eq!((header.id, answer.seq), (100 + answered, length));
        length += 1 + answered % 3;
        assert_eq!(answer.length, length);
        answered += 1;
        assert!(events.len() as u64 >= answered, "one append call, one event, before its answer");
    }
    assert_eq!(events.last(), Some(&length));
    let answer: GetResponse = raw.answer(Method::HypercoreGet, 200).await;
    assert_eq!(answer.block.unwrap(), "0");
    raw.event::<AppendEvent>(Method::HypercoreOnAppend).await;
    raw.answer::<AppendResponse>(Method::HypercoreAppend, 201).await;
}

/// The Node server appends nothing between two appends, too, and tells of it: no event sets the length back.
#[tokio::test]
async fn an_append_of_nothing_among_others_is_told_of_in_its_place() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    raw.open_new(0).await;
    let mut outbox = Outbox::new();
    let appends = [&["x"][..], &[], &["y", "z"], &[]];
    for (call, texts) in (10..).zip(appends) {
        outbox.request(Method::HypercoreAppend, call, &AppendRequest { id: 0, blocks: blocks(texts) });
    }
    raw.stream.write_all(&outbox.take()).await.unwrap();
    let mut length = 0;
    for (call, texts) in (10..).zip(appends) {
        let seq = length;
        length += texts.len() as u64;
        let event: AppendEvent = raw.event(Method::HypercoreOnAppend).await;
        assert_eq!(event, AppendEvent { id: 0, length, byte_length: length });
        let answer: AppendResponse = raw.answer(Method::HypercoreAppend, call).await;
        assert_eq!(answer, AppendResponse { length, byte_length: length, seq });
    }
}

#[tokio::test]
async fn an_append_of_too_many_blocks_is_refused_in_its_turn() {
    let limits = Limits { max_append_blocks: 3, ..Limits::default() };
    let fixture = Fixture::with_limits(limits).await;
    let mut raw = fixture.raw().await;
    raw.open_new(0).await;
    let mut outbox = Outbox::new();
    for (call, count) in [(10, 3), (11, 4), (12, 3)] {
        let blocks = vec![Bytes::new(); count];
        outbox.request(Method::HypercoreAppend, call, &AppendRequest { id: 0, blocks });
    }
    raw.stream.write_all(&outbox.take()).await.unwrap();
    raw.event::<AppendEvent>(Method::HypercoreOnAppend).await;
    let answer: AppendResponse = raw.answer(Method::HypercoreAppend, 10).await;
    assert_eq!(answer, AppendResponse { length: 3, byte_length: 0, seq: 0 });
    let error = raw.error(11).await;
    assert_eq!(error.code.as_deref(), Some("ELIMIT"));
    assert!(error.message.contains("at most 3 blocks"), "{}", error.message);
    raw.event::<AppendEvent>(Method::HypercoreOnAppend).await;
    let answer: AppendResponse = raw.answer(Method::HypercoreAppend, 12).await;
    assert_eq!(answer, AppendResponse { length: 6, byte_length: 0, seq: 3 });
}

#[tokio::test]
async fn gets_wait_fail_and_are_cancelled_as_asked() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    raw.open_new(0).await;

    raw.send(Method::HypercoreGet, 1, &GetRequest { wait: Some(false), ..get(0, 5, 1) }).await;
    assert_eq!(raw.error(1).await.message, text::BLOCK_NOT_DOWNLOADED);

    // OnWait goes before the failure.
    raw.send(Method::HypercoreGet, 2, &GetRequest { on_wait_id: Some(9), ..get(0, 5, 1) }).await;
    let wait: WaitEvent = raw.event(Method::HypercoreOnWait).await;
    assert_eq!(wait, WaitEvent { id: 0, on_wait_id: 9, seq: 5 });
    assert_eq!(raw.error(2).await.message, text::BLOCK_NOT_AVAILABLE);

    // Waits for ever; its number is taken meanwhile; a local append satisfies it.
    raw.send(Method::HypercoreGet, 3, &GetRequest { if_available: Some(false), ..get(0, 0, 0) }).await;
    raw.send(Method::HypercoreGet, 4, &get(0, 0, 0)).await;
    assert_eq!(raw.error(4).await.message, "Resource already exists: 0");
    raw.send(Method::HypercoreGet, 5, &GetRequest { if_available: Some(false), ..get(0, 8, 1) }).await;
    raw.send(Method::HypercoreCancel, 6, &CancelRequest { id: 0, resource_id: 77 }).await;
    raw.done(Method::HypercoreCancel, 6).await;
    raw.send(Method::HypercoreCancel, 0, &CancelRequest { id: 0, resource_id: 1 }).await;
    assert_eq!(raw.error(5).await.message, text::REQUEST_CANCELLED);
    raw.send(Method::HypercoreAppend, 7, &AppendRequest { id: 0, blocks: blocks(&["x"]) }).await;
    raw.event::<AppendEvent>(Method::HypercoreOnAppend).await;
    raw.answer::<AppendResponse>(Method::HypercoreAppend, 7).await;
    let answer: GetResponse = raw.answer(Method::HypercoreGet, 3).await;
    assert_eq!(answer.block.unwrap(), "x");
}

#[tokio::test]
async fn sessions_are_checked() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    raw.open_new(0).await;
    let open = |id, key| OpenRequest { id, key, name: None, weak: None };
    raw.send(Method::CorestoreOpen, 1, &open(0, None)).await;
    assert_eq!(raw.error(1).await.message, text::SESSION_IN_USE);
    // A key that is empty is none either: what is meant is not a new core.
    for key in ["short", ""] {
        raw.send(Method::CorestoreOpen, 2, &open(1, Some(Bytes::from_static(key.as_bytes())))).await;
        assert!(raw.error(2).await.message.contains("32 bytes"));
    }
    raw.send(Method::HypercoreHas, 3, &HasRequest { id: 9, seq: 0 }).await;
    assert_eq!(raw.error(3).await.message, "Invalid hypercore: 9");
    raw.send(Method::HypercoreClose, 4, &CloseRequest { id: 0 }).await;
    raw.done(Method::HypercoreClose, 4).await;
    raw.send(Method::HypercoreClose, 5, &CloseRequest { id: 0 }).await;
    assert_eq!(raw.error(5).await.message, "Invalid hypercore: 0");
    // The number is free again.
    raw.open_new(0).await;
}

#[tokio::test]
async fn a_core_of_somebody_else_is_read_only() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    let key = Some(Bytes::from(vec![5; 32]));
    raw.send(Method::CorestoreOpen, 1, &OpenRequest { id: 0, key, name: None, weak: None }).await;
    raw.event::<FeedEvent>(Method::CorestoreOnFeed).await;
    let open: OpenResponse = raw.answer(Method::CorestoreOpen, 1).await;
    assert!(!open.writable);
    for texts in [&["x"][..], &[]] {
        raw.send(Method::HypercoreAppend, 2, &AppendRequest { id: 0, blocks: blocks(texts) }).await;
        assert_eq!(raw.error(2).await.message, text::NOT_WRITABLE);
    }
    let update = |min_length| UpdateRequest { id: 0, min_length, if_available: None, hash: None };
    raw.send(Method::HypercoreUpdate, 3, &update(Some(1))).await;
    assert_eq!(raw.error(3).await.message, text::NO_UPDATE_AVAILABLE);
    raw.send(Method::HypercoreUpdate, 4, &update(None)).await;
    raw.done(Method::HypercoreUpdate, 4).await;
    let seek = SeekRequest { id: 0, byte_offset: 5, start: None, end: None, wait: None, if_available: None };
    raw.send(Method::HypercoreSeek, 5, &seek).await;
    assert_eq!(raw.error(5).await.message, text::SEEK_NOT_AVAILABLE);
    // The same without waiting, for a range in which nothing is.
    let nowhere = SeekRequest { start: Some(2), end: Some(1), ..seek };
    raw.send(Method::HypercoreSeek, 7, &nowhere).await;
    assert_eq!(raw.error(7).await.message, text::UNABLE_TO_SEEK);
    raw.send(Method::HypercoreSeek, 8, &SeekRequest { wait: Some(false), ..seek }).await;
    assert_eq!(raw.error(8).await.message, text::OUT_OF_BOUNDS);
    raw.send(Method::HypercoreSeek, 6, &SeekRequest { byte_offset: 0, ..seek }).await;
    assert_eq!(
        raw.answer::<SeekResponse>(Method::HypercoreSeek, 6).await,
        SeekResponse { seq: 0, block_offset: 0 }
    );
}

#[tokio::test]
async fn blocks_are_limited_and_nothing_of_a_refused_append_stays() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    raw.open_new(0).await;
    let largest = Bytes::from(vec![1; 8 << 20]);
    let larger = Bytes::from(vec![1; (8 << 20) + 1]);
    let request = AppendRequest { id: 0, blocks: vec![Bytes::from_static(b"a"), larger] };
    raw.send(Method::HypercoreAppend, 1, &request).await;
    assert_eq!(raw.error(1).await.message, text::BLOCK_TOO_LARGE);
    raw.send(Method::HypercoreAppend, 2, &AppendRequest { id: 0, blocks: vec![largest] }).await;
    raw.event::<AppendEvent>(Method::HypercoreOnAppend).await;
    assert_eq!(raw.answer::<AppendResponse>(Method::HypercoreAppend, 2).await.length, 1);
    raw.send(Method::HypercoreGet, 3, &get(0, 0, 0)).await;
    assert_eq!(raw.answer::<GetResponse>(Method::HypercoreGet, 3).await.block.unwrap().len(), 8 << 20);
}

#[tokio::test]
async fn a_list_of_blocks_to_download_is_bounded() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    raw.open_new(0).await;
    let list =
        |count| DownloadRequest { id: 0, resource_id: 1, blocks: vec![0; count], ..Default::default() };
    raw.send(Method::HypercoreDownload, 1, &list(8 << 20)).await;
    assert_eq!(raw.error(1).await.code.as_deref(), Some("ELIMIT"));
    // In its stead: nothing of the refused one stays.
    raw.send(Method::HypercoreDownload, 2, &list(1000)).await;
    raw.send(Method::HypercoreAppend, 3, &AppendRequest { id: 0, blocks: blocks(&["x"]) }).await;
    raw.event::<AppendEvent>(Method::HypercoreOnAppend).await;
    raw.answer::<AppendResponse>(Method::HypercoreAppend, 3).await;
    raw.done(Method::HypercoreDownload, 2).await;
}

#[tokio::test]
async fn downloads_end_when_all_is_here_or_when_they_are_cancelled() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    raw.open_new(0).await;
    let range = DownloadRequest { id: 0, resource_id: 1, start: Some(0), end: Some(2), ..Default::default() };
    raw.send(Method::HypercoreDownload, 1, &range).await;
    raw.send(Method::HypercoreDownload, 2, &DownloadRequest { resource_id: 2, end: None, ..range.clone() })
        .await;
    raw.send(Method::HypercoreAppend, 3, &AppendRequest { id: 0, blocks: blocks(&["x", "y", "z"]) }).await;
    raw.event::<AppendEvent>(Method::HypercoreOnAppend).await;
    raw.answer::<AppendResponse>(Method::HypercoreAppend, 3).await;
    raw.done(Method::HypercoreDownload, 1).await;
    raw.send(Method::HypercoreUndownload, 0, &UndownloadRequest { id: 0, resource_id: 2 }).await;
    let error = raw.error(2).await;
    assert_eq!(
        (error.message.as_str(), error.code.as_deref()),
        (text::DOWNLOAD_CANCELLED, Some("ECANCELED"))
    );
    let downloaded = |start, end| DownloadedRequest { id: 0, start, end };
    for (range, expected) in
        [(downloaded(None, None), 3), (downloaded(Some(1), Some(0)), 2), (downloaded(Some(3), Some(1)), 0)]
    {
        raw.send(Method::HypercoreDownloaded, 4, &range).await;
        assert_eq!(raw.answer::<DownloadedResponse>(Method::HypercoreDownloaded, 4).await.bytes, expected);
    }
}

#[tokio::test]
async fn closing_a_session_ends_what_waits_in_it() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    raw.open_new(0).await;
    raw.send(Method::HypercoreGet, 1, &GetRequest { if_available: Some(false), ..get(0, 9, 1) }).await;
    let live = DownloadRequest { id: 0, resource_id: 2, live: Some(true), ..Default::default() };
    raw.send(Method::HypercoreDownload, 2, &live).await;
    raw.send(Method::HypercoreClose, 3, &CloseRequest { id: 0 }).await;
    assert_eq!(raw.error(1).await.message, text::FEED_CLOSED);
    assert_eq!(raw.error(2).await.code.as_deref(), Some("ECANCELED"));
    raw.done(Method::HypercoreClose, 3).await;
}

#[tokio::test]
async fn a_weak_session_is_told_when_the_core_closes() {
    let fixture = Fixture::start().await;
    let (mut strong, mut weak) = (fixture.raw().await, fixture.raw().await);
    let open = strong.open_new(0).await;
    weak.send(
        Method::CorestoreOpen,
        1,
        &OpenRequest { id: 4, key: Some(open.key), name: None, weak: Some(true) },
    )
    .await;
    loop {
        let (header, _) = weak.next().await.unwrap();
        if header.id == 1 {
            break;
        }
    }
    strong.send(Method::HypercoreClose, 2, &CloseRequest { id: 0 }).await;
    strong.done(Method::HypercoreClose, 2).await;
    let event: CloseEvent = weak.event(Method::HypercoreOnClose).await;
    assert_eq!(event.id, 4);
    weak.send(Method::HypercoreHas, 3, &HasRequest { id: 4, seq: 0 }).await;
    assert_eq!(weak.error(3).await.message, text::FEED_CLOSED);
    weak.send(Method::HypercoreClose, 4, &CloseRequest { id: 4 }).await;
    weak.done(Method::HypercoreClose, 4).await;
}

#[tokio::test]
async fn what_is_no_method_is_said_and_the_connection_lives_on() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    raw.send(Method::HypercoreOnAppend, 2, &()).await;
    assert!(raw.error(2).await.message.contains("event"));
    // Unknown numbers, and a message that is none.
    raw.stream.write_all(&[3, 0x0c, 99, 3, 3, 0x24, 1, 4, 5, 0x0c, 1, 5, 0x08, 0x00]).await.unwrap();
    assert_eq!(raw.error(3).await.message, "Unknown method (99) on service (3)");
    assert_eq!(raw.error(4).await.message, "Unknown method (1) on service (9)");
    assert_eq!(raw.error(5).await.message, "Hypercore.Get: the message lacks its field `seq`");
    // Id 0 wants no answer, not even an error.
    raw.send(Method::NetworkUnregisterExtension, 0, &UnregisterExtensionRequest { id: 0, resource_id: 9 })
        .await;
    raw.send(Method::HyperspaceStatus, 6, &()).await;
    raw.answer::<HyperspaceStatusResponse>(Method::HyperspaceStatus, 6).await;
}

#[tokio::test]
async fn stop_is_answered_and_ends_the_server() {
    let fixture = Fixture::start().await;
    let mut raw = fixture.raw().await;
    raw.send(Method::HyperspaceStop, 1, &()).await;
    raw.done(Method::HyperspaceStop, 1).await;
    assert!(raw.next().await.is_none());
    fixture.server.stopped().await;
    fixture.server.stop().await;
    assert!(!fixture.socket.exists());
}

/// Nobody is told that his cores are closed with it: what a client waits for may be there at the next connection.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_dropped_is_a_lost_connection_for_its_clients() {
    // Once, it may go well by chance.
    for _ in 0..30 {
        let fixture = Fixture::start().await;
        let mut raw = fixture.raw().await;
        raw.open_new(3).await;
        let if_available = Some(false);
        let get = GetRequest { id: 3, seq: 7, resource_id: 1, wait: None, if_available, on_wait_id: None };
        raw.send(Method::HypercoreGet, 5, &get).await;
        // It waits.
        raw.send(Method::HypercoreHas, 6, &HasRequest { id: 3, seq: 7 }).await;
        raw.answer::<HasResponse>(Method::HypercoreHas, 6).await;
        drop(fixture);
        assert_eq!(raw.next().await, None);
    }
}
