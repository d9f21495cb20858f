//! Messages that users define.

use bytes::Bytes;
use interop::{hex, pattern};

use crate::pair::Pair;

async fn extension_messages_go_both_ways(pair: &Pair) {
    pair.share("log").await;
    for side in [&pair.writer, &pair.reader] {
        side.extension("log", "chat").await;
        side.extension("log", "the other").await;
    }
    pair.connect().await;
    tokio::join!(pair.writer.wait_peers("log", 1), pair.reader.wait_peers("log", 1));
    for (from, to) in [(&pair.writer, &pair.reader), (&pair.reader, &pair.writer)] {
        let messages: Vec<(&str, Bytes)> = vec![
            ("chat", "hello".into()),
            ("the other", Bytes::new()),
            ("nobody listens", "lost on npm".into()),
            ("chat", pattern::block(0, 100_000, 0).into()),
            ("chat", "bye".into()),
        ];
        from.extension("log", "nobody listens").await;
        for (name, message) in &messages {
            from.send_extension("log", name, message).await;
        }
        for (name, message) in &messages {
            if *name == "nobody listens" && matches!(to, crate::side::Side::Npm(_)) {
                continue;
            }
            assert_eq!(to.next_extension("log").await, ((*name).to_owned(), hex(message)));
        }
    }
    pair.writer.generate("log", 10, 10, 0).await;
    pair.reader.download("log", 0, 10, false).await;
    pair.compare("log").await;
}

matrix!(extension_messages_go_both_ways);
matrix_10!(plain_extension_messages);

async fn plain_extension_messages(pair: &Pair) {
    extension_messages_go_both_ways(pair).await;
}
