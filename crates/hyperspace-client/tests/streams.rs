//! Streams of remote cores: what a simulator's daemon has comes out as it went in.

use std::pin::pin;

use bytes::Bytes;
use futures::{FutureExt, SinkExt, StreamExt, TryStreamExt};
use hypercore::streams::{ByteStreamOptions, ReadOptions};
use hyperspace_client::RemoteHypercore;
use hyperspace_server::Simulator;

async fn log(simulator: &Simulator, blocks: impl IntoIterator<Item = String>) -> RemoteHypercore {
    let log = simulator.corestore().create().await.unwrap();
    let mut sink = log.write_sink();
    for block in blocks {
        sink.feed(Bytes::from(block)).await.unwrap();
    }
    sink.close().await.unwrap();
    log
}

#[tokio::test]
async fn ranges_are_read_forwards_and_backwards() {
    let simulator = Simulator::start().await.unwrap();
    let log = log(&simulator, (0..5000).map(|i| format!("block {i}"))).await;
    assert_eq!(log.length(), 5000);
    let all: Vec<Bytes> = log.read_stream(..).try_collect().await.unwrap();
    assert!(all.len() == 5000 && all.iter().enumerate().all(|(i, block)| *block == format!("block {i}")));
    let part: Vec<Bytes> = log.read_stream(10..=12).try_collect().await.unwrap();
    assert_eq!(part, ["block 10", "block 11", "block 12"]);
    let back = ReadOptions { start: 4998, reverse: true, ..ReadOptions::default() };
    let back: Vec<Bytes> = log.read_stream_with(back).try_collect().await.unwrap();
    assert_eq!(back, ["block 4999", "block 4998"]);
    assert_eq!(log.read_stream(7..7).count().await, 0);
    let beyond: Vec<_> = log.read_stream(4999..5001).collect().await;
    assert!(beyond.len() == 2 && beyond[0].is_ok() && beyond[1].is_err(), "{beyond:?}");
    simulator.stop().await;
}

#[tokio::test]
async fn a_live_stream_follows_and_another_ends_where_it_began() {
    let simulator = Simulator::start().await.unwrap();
    let log = log(&simulator, ["a".into(), "b".into()]).await;
    let copy = simulator.client().corestore().get(&log.key()).await.unwrap();
    let mut live = copy.read_stream_with(ReadOptions { start: 1, live: true, ..ReadOptions::default() });
    assert_eq!(live.next().await.unwrap().unwrap(), "b");
    let mut still = copy.read_stream(..);
    assert_eq!(still.next().await.unwrap().unwrap(), "a");
    assert!(live.next().now_or_never().is_none());
    log.append("c").await.unwrap();
    assert_eq!(live.next().await.unwrap().unwrap(), "c");
    assert_eq!(still.try_collect::<Vec<_>>().await.unwrap(), ["b"]);
    simulator.stop().await;
    assert!(live.next().await.unwrap().is_err());
    assert!(live.next().await.is_none());
}

#[tokio::test]
async fn bytes_are_read_wherever_blocks_end() {
    let simulator = Simulator::start().await.unwrap();
    let blocks = ["", "abc", "defgh", "", "i", "jklmnop"].map(String::from);
    let whole = blocks.concat();
    let log = log(&simulator, blocks).await;
    for from in 0..=whole.len() {
        for to in from..=whole.len() {
            let options =
                ByteStreamOptions { byte_offset: from as u64, byte_length: Some((to - from) as u64) };
            let read: Vec<Bytes> = log.byte_stream(options).try_collect().await.unwrap();
            assert_eq!(read.concat(), whole.as_bytes()[from..to], "{from}..{to}");
        }
    }
    let rest = ByteStreamOptions { byte_offset: 9, byte_length: None };
    let read: Vec<Bytes> = log.byte_stream(rest).try_collect().await.unwrap();
    assert_eq!(read.concat(), whole.as_bytes()[9..]);
    simulator.stop().await;
}

#[tokio::test]
async fn a_sink_keeps_the_order_and_tells_of_errors() {
    let simulator = Simulator::start().await.unwrap();
    let log = log(&simulator, []).await;
    let blocks: Vec<Bytes> = (0..20_000u32).map(|i| Bytes::copy_from_slice(&i.to_le_bytes())).collect();
    let mut source = futures::stream::iter(blocks.clone().into_iter().map(Ok));
    let mut sink = log.write_sink();
    sink.send_all(&mut source).await.unwrap();
    assert_eq!(log.length(), 20_000, "send_all flushes");
    let read: Vec<Bytes> = log.read_stream(..).try_collect().await.unwrap();
    assert!(read == blocks);

    let other = simulator.client().corestore().get(&hypercore::Key::from([3; 32])).await.unwrap();
    let mut sink = pin!(other.write_sink());
    sink.feed(Bytes::from_static(b"x")).await.unwrap();
    let error = sink.flush().await.unwrap_err();
    assert!(error.to_string().contains("not writable"), "{error}");
    simulator.stop().await;
}
