//! Many cores on one connection, and keys that the other side does not know.

use hypercore::Key;

use crate::pair::{Pair, same};
use crate::side::Make;

const CORES: u64 = 25;

async fn fifty_cores(pair: &Pair) {
    for core in 0..CORES {
        pair.share(&format!("there {core}")).await;
        pair.writer.generate(&format!("there {core}"), core * 4, 50, 0).await;
        let label = format!("back {core}");
        let key = pair.reader.create(&label, &Make::Named).await;
        pair.writer.open(&label, key).await;
        pair.reader.generate(&label, 100 - core * 4, 50, 1).await;
    }
    pair.connect().await;
    for core in 0..CORES {
        pair.reader.follow(&format!("there {core}")).await;
        pair.writer.follow(&format!("back {core}")).await;
    }
    for core in 0..CORES {
        let (there, back) = (format!("there {core}"), format!("back {core}"));
        // Some while they are being sent.
        if core % 5 == 0 {
            pair.writer.generate(&there, 10, 50, 2).await;
            pair.reader.generate(&back, 10, 50, 2).await;
        }
        let length = pair.writer.state(&there).await.length;
        pair.reader.wait_whole(&there, length).await;
        let length = pair.reader.state(&back).await.length;
        pair.writer.wait_whole(&back, length).await;
    }
    for core in 0..CORES {
        pair.compare(&format!("there {core}")).await;
        same(&pair.reader, &pair.writer, &format!("back {core}")).await;
    }

    // More of them, while the connection is up.
    pair.share("late").await;
    pair.writer.generate("late", 20, 50, 0).await;
    pair.reader.download("late", 0, 20, false).await;
    pair.compare("late").await;
}

async fn served_without_being_open(pair: &Pair) {
    let mut keys = Vec::new();
    for core in 0..5 {
        let label = format!("log {core}");
        keys.push((pair.create(&label).await, label.clone()));
        pair.writer.generate(&label, 30, 50, core).await;
        pair.writer.release(&label).await;
    }
    for (key, label) in &keys[..3] {
        pair.reader.open(label, *key).await;
    }
    pair.connect().await;
    for (index, (key, label)) in keys.iter().enumerate() {
        if index >= 3 {
            // Only now, over the connection that is up.
            pair.reader.open(label, *key).await;
        }
        pair.reader.download(label, 0, 30, false).await;
    }
    for (key, label) in &keys {
        pair.writer.open(label, *key).await;
        pair.compare(label).await;
    }
}

async fn a_wrong_key_stays_alone(pair: &Pair) {
    let key = pair.share("log").await;
    pair.writer.generate("log", 50, 50, 0).await;
    let mut wrong = *key.as_bytes();
    wrong[0] ^= 1;
    pair.reader.open("wrong", Key::from(wrong)).await;
    pair.connect().await;
    pair.reader.get("log", 3).await;
    pair.reader.open("wrong too", Key::from([7; 32])).await;
    pair.reader.download("log", 0, 50, false).await;
    for label in ["wrong", "wrong too"] {
        assert!(!pair.reader.update(label, Some(true)).await);
        assert_eq!(pair.reader.peer_count(label).await, 0);
        assert_eq!(pair.reader.state(label).await.length, 0);
    }
    // The connection lives on, for old and for new cores.
    pair.writer.generate("log", 50, 50, 0).await;
    pair.reader.wait_length("log", 100).await;
    pair.reader.download("log", 0, 100, false).await;
    pair.compare("log").await;
    pair.share("other").await;
    pair.writer.generate("other", 5, 50, 0).await;
    pair.reader.download("other", 0, 5, false).await;
    pair.compare("other").await;
}

matrix!(fifty_cores, served_without_being_open, a_wrong_key_stays_alone);
