//! Connections that are cut, and several at once.

use interop::{Relay, pattern};

use crate::pair::Pair;

async fn cut_in_the_middle_and_resumed(pair: &Pair) {
    const COUNT: u64 = 1_500;
    pair.share("log").await;
    pair.writer.generate("log", COUNT, 1_000, 0).await;
    // Counted are the bytes that the side which was dialled sends: blocks or only requests for them.
    let limits = if pair.writer_dials() { [1_000, 2_000, 3_000] } else { [100_000, 200_000, 400_000] };
    let relay = Relay::new(pair.port(), limits).await;
    let (dialer, _) = pair.dialer();
    let reading = pair.reader.digest("log", 0, COUNT);
    let dialing = async {
        while relay.cuts() < limits.len() {
            dialer.dial_until_cut(relay.port()).await;
        }
        dialer.connect(relay.port()).await;
    };
    let (digest, ()) = tokio::join!(reading, dialing);
    assert_eq!(digest, pattern::digest(0, COUNT, 1_000, 0));
    assert_eq!(relay.cuts(), limits.len());
    assert_eq!(pair.reader.downloaded("log").await, COUNT, "nothing is fetched twice");
    pair.compare("log").await;
}

async fn cut_again_and_again(pair: &Pair) {
    pair.share("log").await;
    pair.reader.follow("log").await;
    for round in 0..12 {
        pair.writer.generate("log", 20, 100, 0).await;
        pair.connect().await;
        if round % 3 == 0 {
            pair.reader.wait_whole("log", 20 * (round + 1)).await;
        }
        pair.cut().await;
    }
    pair.connect().await;
    pair.reader.wait_whole("log", 240).await;
    pair.compare("log").await;
}

/// Two connections between the same stores: nothing comes twice, and the end of one does not disturb the other.
async fn two_connections_at_once(pair: &Pair) {
    pair.share("log").await;
    pair.writer.generate("log", 1_000, 500, 0).await;
    pair.connect().await;
    let relay = Relay::new(pair.port(), [30_000]).await;
    let (dialer, _) = pair.dialer();
    tokio::join!(pair.reader.download("log", 0, 1_000, false), dialer.connect(relay.port()));
    pair.writer.generate("log", 10, 500, 0).await;
    pair.reader.wait_length("log", 1_010).await;
    pair.reader.download("log", 0, 1_010, false).await;
    pair.compare("log").await;
}

matrix!(cut_in_the_middle_and_resumed, cut_again_and_again, two_connections_at_once);
