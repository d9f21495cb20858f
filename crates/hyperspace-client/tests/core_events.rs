//! What the daemon tells of a core, as the program hears it.

mod played;

use futures::StreamExt;
use hypercore::{CoreEvent, StreamedEvent};
use hyperspace_client::Transferred;
use hyperspace_common::{Method, messages::*};
use played::Played;

#[tokio::test]
async fn blocks_that_come_and_go_are_told_and_counted() {
    let daemon = Played::start(|accept| {
        let mut client = accept();
        let id = client.open((1, 9, 0));
        let other = client.open((2, 9, 0));
        for watch in [Method::HypercoreWatchDownloads, Method::HypercoreWatchUploads] {
            assert_eq!(client.expect(watch).read::<WatchRequest>().id, id);
        }
        let has = client.expect(Method::HypercoreHas);
        let outbox = &mut client.outbox;
        let download = |id, seq, byte_length| DownloadEvent { id, seq, byte_length };
        outbox.event(Method::HypercoreOnUpload, &UploadEvent { id, seq: 3, byte_length: 10 });
        outbox.event(Method::HypercoreOnDownload, &download(id, 4, Some(100)));
        outbox.event(Method::HypercoreOnUpload, &UploadEvent { id: other, seq: 5, byte_length: 1000 });
        outbox.event(Method::HypercoreOnUpload, &UploadEvent { id, seq: 6, byte_length: 20 });
        // The Node daemon leaves the size out.
        outbox.event(Method::HypercoreOnDownload, &download(id, 7, None));
        client.answer(&has, &HasResponse { has: true });
        for _ in [id, other] {
            client.expect(Method::HypercoreClose);
        }
    });
    let client = daemon.plain().await;
    let log = client.corestore().get_by_name("log").await.unwrap();
    let other = client.corestore().get_by_name("other").await.unwrap();
    let mut events = log.events();
    assert!(log.has(0).await.unwrap());
    let (downloaded, uploaded) = ((2, 100), (2, 30));
    assert_eq!(log.transferred(), transferred(downloaded, uploaded));
    assert_eq!(other.transferred(), transferred((0, 0), (1, 1000)));
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(match events.next().await {
            Some(StreamedEvent::Event(CoreEvent::Upload { index, bytes })) => ("up", index, bytes),
            Some(StreamedEvent::Event(CoreEvent::Download { index, bytes })) => ("down", index, bytes),
            other => panic!("{other:?}"),
        });
    }
    assert_eq!(told, [("up", 3, 10), ("down", 4, 100), ("up", 6, 20), ("down", 7, 0)]);
    drop((log, other));
    daemon.end().await;
}

fn transferred(downloaded: (u64, u64), uploaded: (u64, u64)) -> Transferred {
    Transferred {
        downloaded_blocks: downloaded.0,
        downloaded_bytes: downloaded.1,
        uploaded_blocks: uploaded.0,
        uploaded_bytes: uploaded.1,
    }
}
