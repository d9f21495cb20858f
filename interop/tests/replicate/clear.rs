//! Blocks that are let go of, and fetched again.

use crate::pair::Pair;

async fn cleared_and_fetched_again(pair: &Pair) {
    pair.share("log").await;
    pair.writer.generate("log", 500, 100, 0).await;
    pair.connect().await;
    pair.reader.download("log", 0, 500, false).await;
    pair.reader.clear("log", 100, 350).await;
    assert!(!pair.reader.has("log", 100, 101).await);
    assert!(!pair.reader.has("log", 349, 350).await);
    assert!(pair.reader.has("log", 0, 100).await && pair.reader.has("log", 350, 500).await);
    assert_eq!(pair.reader.get_local("log", 200).await, None);
    assert_eq!(pair.reader.contiguous_length("log").await, 100);

    assert_eq!(pair.reader.get("log", 200).await, pair.writer.get("log", 200).await);
    pair.reader.download("log", 0, 500, false).await;
    assert_eq!(pair.reader.downloaded("log").await, 750);
    pair.compare("log").await;
}

/// The writer itself gets back from its reader what it has cleared.
async fn the_writer_gets_its_blocks_back(pair: &Pair) {
    pair.share("log").await;
    pair.writer.generate("log", 200, 100, 0).await;
    pair.connect().await;
    pair.reader.download("log", 0, 200, false).await;
    pair.writer.clear("log", 0, 150).await;
    assert!(!pair.writer.has("log", 0, 1).await);
    assert_eq!(pair.writer.get_local("log", 149).await, None);
    assert_eq!(pair.writer.get("log", 149).await, pair.reader.get("log", 149).await);
    pair.writer.download("log", 0, 200, false).await;
    pair.compare("log").await;
    pair.cut().await;
    crate::pair::same(&pair.reader, &pair.writer, "log").await;

    // Nobody has it any more: what is there is served all the same.
    pair.writer.clear("log", 10, 20).await;
    pair.reader.clear("log", 5, 25).await;
    pair.connect().await;
    pair.reader.download("log", 5, 10, false).await;
    pair.reader.download("log", 20, 25, false).await;
    assert!(!pair.reader.has("log", 10, 11).await && !pair.writer.has("log", 10, 11).await);
    pair.writer.generate("log", 1, 100, 0).await;
    pair.reader.get("log", 200).await;
}

matrix!(cleared_and_fetched_again, the_writer_gets_its_blocks_back);
