//! The Rust client on a real server.

mod common;

use std::{pin::pin, time::Duration};

use bytes::Bytes;
use common::Fixture;
use futures::{StreamExt, future::join_all};
use hypercore::{AppendLog, CoreEvent, DownloadRange, Error, GetOptions, StreamedEvent, UpdateOptions};
use hyperspace_client::{ClientError, HyperspaceClient};
use hyperspace_common::text;
use hyperspace_server::Limits;

/// What runs on a local log runs on a remote one.
async fn exercise(log: &dyn AppendLog) -> Result<(), Error> {
    assert_eq!(log.append(vec!["hello".into(), "world".into()]).await?, 2);
    assert_eq!((log.length(), log.byte_length(), log.fork(), log.writable()), (2, 10, 0, true));
    assert_eq!(log.get(1).await?, "world");
    assert!(log.has(0).await? && !log.has(2).await?);
    assert_eq!(log.seek(7).await?, (1, 2));
    assert_eq!(log.key().discovery_key(), log.discovery_key());
    let nowait = GetOptions { wait: false, ..GetOptions::default() };
    assert_eq!(log.get_with(7, nowait).await?, None);
    let available = GetOptions { if_available: true, ..GetOptions::default() };
    assert!(matches!(log.get_with(7, available).await, Err(Error::NotAvailable(7))));
    assert!(!log.update(UpdateOptions::default()).await?);
    log.download(DownloadRange::new(0, 2)).await?;
    log.download(DownloadRange::list([1])).await?;
    let mut events = log.events();
    log.append(vec![Bytes::from_static(b"!")]).await?;
    let event = events.next().await;
    assert!(
        matches!(event, Some(StreamedEvent::Event(CoreEvent::Append { length: 3, byte_length: 11 }))),
        "{event:?}"
    );
    log.close().await?;
    while let Some(event) = events.next().await {
        assert!(matches!(event, StreamedEvent::Event(CoreEvent::Close)), "{event:?}");
    }
    Ok(())
}

#[tokio::test]
async fn near_and_far_logs_do_the_same() {
    exercise(&hypercore::Hypercore::memory().unwrap()).await.unwrap();
    let fixture = Fixture::start().await;
    exercise(&fixture.client().await.corestore().create().await.unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_name_leads_to_the_same_core_and_a_key_does_too() {
    let fixture = Fixture::start().await;
    let (one, two) = (fixture.client().await, fixture.client().await);
    let core = one.corestore().get_by_name("diary").await.unwrap();
    assert_eq!(core.append("a").await.unwrap(), 1);
    let same = two.corestore().get_by_name("diary").await.unwrap();
    assert_eq!((same.key(), same.length()), (core.key(), 1));
    let by_key = two.corestore().get(&core.key()).await.unwrap();
    assert!(by_key.writable());
    by_key.append("b").await.unwrap();
    assert_eq!(by_key.length(), 2);
    // Others learn of it as soon as their own connection brings it.
    core.wait_for_length(2).await.unwrap();
    assert_eq!(core.length(), 2);
    let other = one.corestore().get_by_name("other").await.unwrap();
    assert_ne!(other.key(), core.key());
}

#[tokio::test]
async fn dropping_a_future_cancels_its_request() {
    // While a request waits, there is no room for another one.
    let fixture = Fixture::with_limits(Limits { max_waiting: 1, ..Limits::default() }).await;
    let client = fixture.client().await;
    let core = client.corestore().create().await.unwrap();
    let refusal = async || core.get(7).await.unwrap_err().rpc_message().unwrap().to_owned();
    {
        let mut get = pin!(core.wait_for_block(5));
        assert!(futures::poll!(get.as_mut()).is_pending());
        assert!(refusal().await.contains("are waiting already"));
    }
    assert_eq!(refusal().await, text::BLOCK_NOT_AVAILABLE);
    {
        let range = DownloadRange::live(0);
        let mut download = pin!(core.download(&range));
        assert!(futures::poll!(download.as_mut()).is_pending());
        assert!(refusal().await.contains("are waiting already"));
    }
    assert_eq!(refusal().await, text::BLOCK_NOT_AVAILABLE);
    core.close().await.unwrap();
    assert!(
        matches!(core.get(0).await, Err(ClientError::Rpc(e)) if e.message.starts_with("Invalid hypercore"))
    );
}

#[tokio::test]
async fn many_requests_are_in_flight_at_once() {
    let fixture = Fixture::start().await;
    let client = fixture.client().await;
    let core = client.corestore().create().await.unwrap();
    let appended = join_all((0..5000u64).map(|i| core.append(i.to_string()))).await;
    for (i, length) in appended.into_iter().enumerate() {
        assert_eq!(length.unwrap(), i as u64 + 1);
    }
    let blocks = join_all((0..5000).map(|i| core.get(i))).await;
    for (i, block) in blocks.into_iter().enumerate() {
        assert_eq!(block.unwrap(), i.to_string());
    }
}

#[tokio::test]
async fn feeds_are_told_of() {
    let fixture = Fixture::start().await;
    let client = fixture.client().await;
    let mut feeds = Box::pin(client.corestore().feeds());
    let core = client.corestore().create().await.unwrap();
    assert_eq!(feeds.next().await, Some(core.key()));
}

#[tokio::test]
async fn errors_have_their_words() {
    let fixture = Fixture::start().await;
    let client = fixture.client().await;
    let theirs = client.corestore().get(&[5; 32].into()).await.unwrap();
    assert_eq!(theirs.append("x").await.unwrap_err().rpc_message(), Some(text::NOT_WRITABLE));
    let error = AppendLog::append(&theirs, vec!["x".into()]).await.unwrap_err();
    assert!(matches!(error, Error::NotWritable(key) if key == theirs.key()));
    assert!(matches!(AppendLog::truncate(&theirs, 5).await, Err(Error::Remote(_))));
    let folder = tempfile::tempdir().unwrap();
    let nobody = hyperspace_common::Endpoint::Socket(folder.path().join("nobody.sock"));
    let error = HyperspaceClient::connect_to(&nobody).await.unwrap_err();
    assert!(error.to_string().contains("no daemon answers"), "{error}");
}

#[tokio::test]
async fn the_end_of_the_server_is_noticed_by_all_who_wait() {
    let fixture = Fixture::start().await;
    let client = fixture.client().await;
    let core = client.corestore().create().await.unwrap();
    let mut events = core.events();
    let waiting = tokio::spawn({
        let core = core.clone();
        async move { core.wait_for_block(9).await }
    });
    let pending = tokio::time::timeout(Duration::from_millis(1), core.wait_for_length(5)).await;
    assert!(pending.is_err());
    client.stop().await.unwrap();
    fixture.server.stop().await;
    assert!(matches!(waiting.await.unwrap(), Err(ClientError::Disconnected(_))));
    assert!(matches!(events.next().await, Some(StreamedEvent::Event(CoreEvent::Close))));
    assert!(client.status().await.is_err());
    assert!(core.is_closed());
}

#[tokio::test]
async fn any_stream_will_do() {
    let fixture = Fixture::start().await;
    let (near, far) = tokio::io::duplex(64);
    tokio::spawn(fixture.server.serve(far));
    let client = HyperspaceClient::from_stream(near);
    let core = client.corestore().create().await.unwrap();
    core.append(vec![7; 10_000]).await.unwrap();
    assert_eq!(core.get(0).await.unwrap().len(), 10_000);
}

#[tokio::test]
async fn weak_sessions_end_with_the_core() {
    let fixture = Fixture::start().await;
    let (one, two) = (fixture.client().await, fixture.client().await);
    let strong = one.corestore().create().await.unwrap();
    let weak = two.corestore().get_weak(&strong.key()).await.unwrap();
    let mut events = weak.events();
    strong.append("x").await.unwrap();
    assert!(matches!(events.next().await, Some(StreamedEvent::Event(CoreEvent::Append { .. }))));
    drop(strong);
    assert!(matches!(events.next().await, Some(StreamedEvent::Event(CoreEvent::Close))));
    assert!(weak.is_closed());
}
