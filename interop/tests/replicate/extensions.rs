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
    for (from, to, unheard) in
        [(&pair.writer, &pair.reader, "nobody there"), (&pair.reader, &pair.writer, "nobody here")]
    {
        let messages: Vec<(&str, Bytes)> = vec![
            ("chat", "hello".into()),
            ("the other", Bytes::new()),
            (unheard, "lost on npm".into()),
            ("chat", pattern::block(0, 100_000, 0).into()),
            ("chat", "bye".into()),
        ];
        from.extension("log", unheard).await;
        for (name, message) in &messages {
            from.send_extension("log", name, message).await;
        }
        for (name, message) in &messages {
            if *name == unheard && matches!(to, crate::side::Side::Npm(_)) {
                continue;
            }
            let (heard_name, heard) = to.next_extension("log").await;
            assert_eq!(heard_name, *name);
            assert!(heard == hex(message), "{name}: another message came, {} hex digits", heard.len());
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
