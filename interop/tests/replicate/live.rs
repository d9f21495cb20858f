//! Logs that grow while peers look.

use bytes::Bytes;
use interop::{hex, pattern};

use crate::pair::Pair;
use crate::side::Make;

async fn blocks_are_awaited_before_they_exist(pair: &Pair) {
    pair.share("log").await;
    pair.connect().await;
    for index in 0..60 {
        let block = pattern::block(index, 50, 0);
        let append = [Bytes::from(block.clone())];
        // The same, after the append, for every other one.
        let read = if index % 2 == 0 {
            tokio::join!(pair.reader.get("log", index), pair.writer.append("log", &append)).0
        } else {
            pair.writer.append("log", &append).await;
            pair.reader.get("log", index).await
        };
        assert_eq!(read, hex(block));
    }
    pair.compare("log").await;
}

async fn appends_are_followed(pair: &Pair) {
    pair.share("log").await;
    pair.reader.follow("log").await;
    pair.connect().await;
    for (count, size) in [(1, 10), (1, 0), (300, 20), (1, 100_000), (7, 1), (500, 30), (1, 10)] {
        pair.writer.generate("log", count, size, 0).await;
        let length = pair.writer.state("log").await.length;
        pair.reader.wait_whole("log", length).await;
    }
    pair.compare("log").await;
    assert_eq!(pair.reader.downloaded("log").await, 811, "no block comes twice");
}

async fn updates_tell_whether_there_is_more(pair: &Pair) {
    let key = pair.create("log").await;
    pair.reader.open("log", key).await;
    pair.writer.generate("log", 10, 10, 0).await;

    // Nobody to ask.
    assert!(!pair.reader.update("log", None).await);
    assert!(!pair.reader.update("log", Some(false)).await);
    assert_eq!(pair.reader.state("log").await.length, 0);
    // A writer has nobody to ask either.
    assert!(!pair.writer.update("log", Some(true)).await);

    pair.connect().await;
    pair.reader.wait_peers("log", 1).await;
    pair.reader.update("log", Some(true)).await;
    assert_eq!(pair.reader.state("log").await.length, 10, "an update that waits is one round trip at least");
    assert!(!pair.reader.update("log", Some(true)).await, "there is no more");

    pair.writer.generate("log", 1, 10, 0).await;
    pair.reader.wait_length("log", 11).await;
    pair.cut().await;
    pair.reader.wait_peers("log", 0).await;
    pair.writer.generate("log", 5, 10, 0).await;
    assert!(!pair.reader.update("log", None).await);
    assert_eq!(pair.reader.state("log").await.length, 11);

    pair.connect().await;
    pair.reader.wait_length("log", 16).await;
    pair.reader.download("log", 0, 16, false).await;
    pair.compare("log").await;
}

async fn both_write_at_once(pair: &Pair) {
    pair.share("there").await;
    let key = pair.reader.create("back", &Make::Named).await;
    pair.writer.open("back", key).await;
    pair.connect().await;
    let (there, back) = (pair.reader.follow("there"), pair.writer.follow("back"));
    tokio::join!(there, back);
    for _ in 0..10 {
        tokio::join!(
            pair.writer.generate("there", 100, 1_000, 1),
            pair.reader.generate("back", 100, 1_000, 2),
        );
    }
    tokio::join!(pair.reader.wait_whole("there", 1_000), pair.writer.wait_whole("back", 1_000));
    pair.compare("there").await;
    crate::pair::same(&pair.reader, &pair.writer, "back").await;
}

matrix!(
    blocks_are_awaited_before_they_exist,
    appends_are_followed,
    updates_tell_whether_there_is_more,
    both_write_at_once,
);

matrix_10!(plain_appends);

async fn plain_appends(pair: &Pair) {
    pair.share("log").await;
    pair.connect().await;
    pair.reader.follow("log").await;
    for index in 0..20 {
        let block = pattern::block(index, 50, 0);
        let append = [Bytes::from(block.clone())];
        let read = tokio::join!(pair.reader.get("log", index), pair.writer.append("log", &append)).0;
        assert_eq!(read, hex(block));
    }
    pair.writer.generate("log", 500, 20, 0).await;
    pair.reader.wait_whole("log", 520).await;
    pair.compare("log").await;
}
