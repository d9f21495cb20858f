//! What the services of our own tell of peers, and of the daemon.

mod callers;
mod common;

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use callers::{Client, Pair, blocks};
use common::Fixture;
use hyperspace_common::{Method, messages::*};

/// The peers of each core, as the list has them, by discovery key.
async fn listed_peers(client: &mut Client) -> BTreeMap<Bytes, u64> {
    let page: ListResponse = client.call(Method::StoreList, &ListRequest { after: None, limit: None }).await;
    page.cores.into_iter().map(|core| (core.discovery_key, core.peers)).collect()
}

async fn stats(client: &mut Client) -> StatsResponse {
    client.call(Method::StoreStats, &()).await
}

async fn log_state(client: &mut Client, id: u64) -> LogState {
    client.call(Method::LogState, &LogRequest { id }).await
}

/// The writer has three cores: one that the reader has, too, one of its own, and one that nobody has open.
#[tokio::test]
async fn the_list_counts_the_peers_of_each_core() {
    let mut pair = Pair::start().await;
    pair.core(0, blocks(1)).await;
    let own = pair.writer.open(1, None).await.discovery_key.unwrap();
    let closed = pair.writer.open(2, None).await.discovery_key.unwrap();
    pair.writer.call::<()>(Method::HypercoreClose, &CloseRequest { id: 2 }).await;
    // Whoever has sent a block has a peer that it went to.
    pair.reader.get(0, 0).await.unwrap();
    let at_writer = listed_peers(&mut pair.writer).await;
    let at_reader = listed_peers(&mut pair.reader).await;
    assert_eq!((at_writer.len(), at_writer[&own], at_writer[&closed]), (3, 0, 0));
    assert_eq!(at_reader.len(), 1);
    let (discovery_key, peers) = at_reader.into_iter().next().unwrap();
    assert_eq!((peers, at_writer[&discovery_key]), (1, 1));
}

#[tokio::test]
async fn the_figures_count_the_peers_of_the_daemon() {
    let alone = Fixture::start().await;
    assert_eq!(stats(&mut Client::over(alone.raw().await)).await.peers, 0);
    let mut pair = Pair::start().await;
    // More cores make no more peers.
    for id in 0..2 {
        pair.core(id, blocks(1)).await;
        pair.reader.get(id, 0).await.unwrap();
    }
    assert_eq!((stats(&mut pair.writer).await.peers, stats(&mut pair.reader).await.peers), (1, 1));
}

#[tokio::test]
async fn the_daemon_gets_older() {
    let fixture = Fixture::start().await;
    let mut client = Client::over(fixture.raw().await);
    let before = stats(&mut client).await.uptime_ms;
    // Nothing is waited for here: this is the time that is measured.
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert!(stats(&mut client).await.uptime_ms > before);
}

/// The writer has four blocks less the last one; the reader knows of that, and has none.
#[tokio::test]
async fn a_log_tells_how_much_a_peer_has_without_a_gap() {
    let mut pair = Pair::start().await;
    let Pair { writer, reader, .. } = &mut pair;
    let key = writer.open(0, None).await.key;
    writer.append(0, blocks(4)).await;
    let clear = ClearRequest { id: 0, start: 3, end: 4 };
    assert_eq!(writer.call::<ClearResponse>(Method::LogClear, &clear).await.blocks, 1);
    assert_eq!(log_state(writer, 0).await.remote_contiguous_length, Some(0));
    reader.open(0, Some(key)).await;
    reader.update(0, 4).await;
    let state = log_state(reader, 0).await;
    assert_eq!((state.length, state.contiguous_length, state.remote_contiguous_length), (4, 0, Some(3)));
}
