//! Blocks that a peer has: what a download fetches, and who is told of them.

mod callers;
mod common;

use callers::{Client, Pair, blocks};
use hyperspace_common::{Method, code, messages::*};

async fn uploaded(client: &mut Client) -> (u64, u64) {
    let event: UploadEvent = client.event(Method::HypercoreOnUpload).await;
    (event.id, event.seq)
}

async fn downloaded(client: &mut Client) -> (u64, u64) {
    let event: DownloadEvent = client.event(Method::HypercoreOnDownload).await;
    (event.id, event.seq)
}

/// Session 1 watches all the time: what session 0 is told of a block comes before what session 1 is told of the next.
#[tokio::test]
async fn who_no_longer_watches_is_told_of_no_block() {
    let mut pair = Pair::start().await;
    let key = pair.core(0, blocks(3)).await;
    let Pair { writer, reader, .. } = &mut pair;
    writer.open(1, Some(key.clone())).await;
    reader.open(1, Some(key)).await;
    writer.call::<()>(Method::HypercoreWatchUploads, &WatchRequest { id: 1 }).await;
    reader.call::<()>(Method::HypercoreWatchDownloads, &WatchRequest { id: 1 }).await;
    let (mut uploads, mut downloads) = (Vec::new(), Vec::new());
    for seq in 0..3 {
        let (at_writer, at_reader) = match seq {
            1 => (Method::HypercoreUnwatchUploads, Method::HypercoreUnwatchDownloads),
            _ => (Method::HypercoreWatchUploads, Method::HypercoreWatchDownloads),
        };
        writer.call::<()>(at_writer, &WatchRequest { id: 0 }).await;
        reader.call::<()>(at_reader, &WatchRequest { id: 0 }).await;
        reader.get(1, seq).await.unwrap();
        while !uploads.contains(&(1, seq)) {
            uploads.push(uploaded(writer).await);
        }
        while !downloads.contains(&(1, seq)) {
            downloads.push(downloaded(reader).await);
        }
    }
    while !uploads.contains(&(0, 2)) {
        uploads.push(uploaded(writer).await);
    }
    while !downloads.contains(&(0, 2)) {
        downloads.push(downloaded(reader).await);
    }
    for mut told in [uploads, downloads] {
        told.sort_by_key(|(id, seq)| (*seq, *id));
        assert_eq!(told, [(0, 0), (1, 0), (1, 1), (0, 2), (1, 2)]);
    }
}

/// Events of what a call brought come before its answer.
#[tokio::test]
async fn a_get_brings_its_events_along_and_none_after_unwatching() {
    let mut pair = Pair::start().await;
    pair.core(0, blocks(2)).await;
    let reader = &mut pair.reader;
    for (seq, method) in [(0, Method::HypercoreWatchDownloads), (1, Method::HypercoreUnwatchDownloads)] {
        reader.call::<()>(method, &WatchRequest { id: 0 }).await;
        reader.get(0, seq).await.unwrap();
        let told: Vec<DownloadEvent> = reader.come(Method::HypercoreOnDownload);
        let expected = [DownloadEvent { id: 0, seq: 0, byte_length: Some(7) }];
        assert_eq!(told, expected[seq as usize..]);
    }
}

/// The order in which the blocks of a new core come. They are fetched in parts of 32 blocks: that so many parts come in
/// order by chance happens to nobody.
async fn order(pair: &mut Pair, id: u64, linear: Option<bool>) -> Vec<u64> {
    const LENGTH: u64 = 640;
    pair.core(id, blocks(LENGTH)).await;
    let reader = &mut pair.reader;
    reader.call::<()>(Method::HypercoreWatchDownloads, &WatchRequest { id }).await;
    let request =
        DownloadRequest { id, resource_id: 1, end: Some(LENGTH), linear, ..DownloadRequest::default() };
    reader.call::<()>(Method::HypercoreDownload, &request).await;
    let order: Vec<_> =
        reader.come::<DownloadEvent>(Method::HypercoreOnDownload).iter().map(|event| event.seq).collect();
    assert_eq!(order.len() as u64, LENGTH);
    order
}

#[tokio::test]
async fn blocks_come_in_order_only_when_that_is_asked_for() {
    let mut pair = Pair::start().await;
    assert!(order(&mut pair, 0, Some(true)).await.is_sorted());
    assert!(!order(&mut pair, 1, Some(false)).await.is_sorted());
    assert!(!order(&mut pair, 2, None).await.is_sorted());
}

#[tokio::test]
async fn of_a_list_only_what_lies_in_the_range_is_fetched() {
    let mut pair = Pair::start().await;
    pair.core(0, blocks(10)).await;
    let reader = &mut pair.reader;
    let mut here = Vec::new();
    for (start, end, list, fetched) in [
        (Some(2), Some(6), vec![1, 2, 5, 6], &[2, 5][..]),
        (Some(7), None, vec![0, 7], &[7]),
        (None, Some(4), vec![3, 4], &[3]),
        // An end of 0 is none.
        (Some(8), Some(0), vec![0, 9], &[9]),
        (Some(6), Some(6), vec![6], &[]),
        (None, None, vec![0], &[0]),
    ] {
        let request =
            DownloadRequest { id: 0, resource_id: 1, start, end, blocks: list, linear: None, live: None };
        reader.call::<()>(Method::HypercoreDownload, &request).await;
        here.extend_from_slice(fetched);
        here.sort_unstable();
        let mut found = Vec::new();
        for seq in 0..10 {
            let has: HasResponse = reader.call(Method::HypercoreHas, &HasRequest { id: 0, seq }).await;
            found.extend(has.has.then_some(seq));
        }
        assert_eq!(found, here, "of {request:?}");
    }
}

/// A download that ended would be answered in the midst of the events.
#[tokio::test]
async fn a_live_download_and_one_without_end_fetch_what_is_appended_later() {
    let mut pair = Pair::start().await;
    for (id, (end, live)) in
        (0..).zip([(Some(2), Some(true)), (None, Some(true)), (Some(0), None), (None, Some(false))])
    {
        pair.core(id, blocks(3)).await;
        let Pair { writer, reader, .. } = &mut pair;
        reader.call::<()>(Method::HypercoreWatchDownloads, &WatchRequest { id }).await;
        let request = DownloadRequest { id, resource_id: 1, end, live, ..DownloadRequest::default() };
        let download = reader.send(Method::HypercoreDownload, &request).await;
        let mut told = Vec::new();
        for length in 3..6 {
            if length > 3 {
                writer.append(id, blocks(1)).await;
            }
            while told.len() < length {
                told.push(downloaded(reader).await);
            }
            told.sort_unstable();
            assert_eq!(told, (0..length as u64).map(|seq| (id, seq)).collect::<Vec<_>>(), "{request:?}");
        }
        let undownload =
            reader.send(Method::HypercoreUndownload, &UndownloadRequest { id, resource_id: 1 }).await;
        let ended = reader.result::<()>(download).await.unwrap_err();
        assert_eq!(ended.code.as_deref(), Some(code::CANCELLED), "{request:?}");
        reader.result::<()>(undownload).await.unwrap();
    }
}
