//! Clients and storing nodes on the loopback interface.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use secret_stream::KeyPair;
use udx::Udx;

use super::announcer::announcer;
use super::*;
use crate::messages::error;
use crate::records::signing::hash;
use crate::records::{Store, StoreLimits};
use crate::rpc::{QueryOptions, Requests, Rpc, RpcError, RpcOptions};

const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
const TOPIC: [u8; 32] = [0x22; 32];

/// Ends a test that hangs.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("nothing came")
}

/// Nodes that store, and one that does not.
struct Network {
    udx: Udx,
    bootstrap: SocketAddr,
    nodes: Vec<(Rpc, Arc<Mutex<Store>>)>,
    client: Rpc,
}

impl Network {
    async fn new(count: usize) -> Self {
        let udx = Udx::new();
        let (first, requests, bootstrap) = bootstrapper(&udx).await;
        let mut nodes = vec![store_for(first, requests)];
        while nodes.len() < count {
            let options = RpcOptions { ephemeral: Some(false), firewalled: false, ..options(bootstrap) };
            let (rpc, requests) = Rpc::bind(&udx, options).await.unwrap();
            within(rpc.fully_bootstrapped()).await.unwrap();
            nodes.push(store_for(rpc, requests));
        }
        let client = client(&udx, bootstrap).await;
        Self { udx, bootstrap, nodes, client }
    }

    fn announcements(&self) -> usize {
        self.nodes.iter().map(|(_, store)| store.lock().unwrap().size().announcements).sum()
    }

    /// How many nodes forward to the server with this key.
    fn forwards(&self, key_pair: &KeyPair) -> usize {
        let target = hash(&[&key_pair.public]);
        let now = tokio::time::Instant::now().into_std();
        self.nodes.iter().filter(|(_, store)| store.lock().unwrap().forward(now, &target).is_some()).count()
    }
}

fn options(bootstrap: SocketAddr) -> RpcOptions {
    RpcOptions { bootstrap: vec![bootstrap.into()], host: HOST.into(), ..RpcOptions::default() }
}

async fn client(udx: &Udx, bootstrap: SocketAddr) -> Rpc {
    let (rpc, _) = Rpc::bind(udx, options(bootstrap)).await.unwrap();
    within(rpc.fully_bootstrapped()).await.unwrap();
    rpc
}

async fn bootstrapper(udx: &Udx) -> (Rpc, Requests, SocketAddr) {
    // A port that nobody has at the moment: a bootstrapper has to know its own beforehand.
    for _ in 0..20 {
        let free = std::net::UdpSocket::bind((HOST, 0)).unwrap().local_addr().unwrap().port();
        if let Ok((rpc, requests)) = Rpc::bind(udx, RpcOptions::bootstrapper(HOST, free)).await {
            within(rpc.fully_bootstrapped()).await.unwrap();
            return (rpc, requests, SocketAddr::new(HOST.into(), free));
        }
    }
    panic!("no port is free");
}

fn store_for(rpc: Rpc, mut requests: Requests) -> (Rpc, Arc<Mutex<Store>>) {
    let store = Arc::new(Mutex::new(Store::new(StoreLimits::default(), 1)));
    let (node, kept) = (rpc.clone(), store.clone());
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if !kept.lock().unwrap().serve(node.id().as_ref(), &request) {
                request.unknown_command();
            }
        }
    });
    (rpc, store)
}

fn pair(n: u8) -> KeyPair {
    KeyPair::from_seed(&[n; 32])
}

async fn announcers(rpc: &Rpc, topic: [u8; 32]) -> Vec<[u8; 32]> {
    let found: Vec<_> = within(lookup(rpc, topic, QueryOptions::default()).unwrap().collect()).await;
    let mut keys: Vec<_> = found.iter().flat_map(|found| &found.peers).map(|peer| peer.public_key).collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

#[tokio::test]
async fn topics_are_announced_looked_up_and_taken_back() {
    let network = Network::new(8).await;
    let (rpc, other) = (&network.client, client(&network.udx, network.bootstrap).await);
    assert!(announcers(&other, TOPIC).await.is_empty());

    let relays =
        ["10.0.0.1:1".parse().unwrap(), "[2001:db8::1]:2".parse().unwrap(), "10.0.0.2:2".parse().unwrap()];
    let options = AnnounceOptions { bump: 5, ..AnnounceOptions::default() };
    let stored = within(announce(rpc, TOPIC, &pair(1), &relays, options).unwrap().finished()).await.unwrap();
    assert_eq!((stored.stored, stored.refused, stored.closest_nodes.len()), (8, None, 8));
    within(announce(rpc, TOPIC, &pair(2), &[], AnnounceOptions::default()).unwrap().finished())
        .await
        .unwrap();

    let mut query = lookup(&other, TOPIC, QueryOptions::default()).unwrap();
    let found = within(query.next()).await.unwrap();
    assert_eq!((found.peers.len(), found.bump), (2, 5));
    let first = found.peers.iter().find(|peer| peer.public_key == pair(1).public).unwrap();
    assert_eq!(crate::messages::socket_addrs(&first.relay_addresses), [relays[0], relays[2]], "IPv4 only");
    drop(query);
    assert_eq!(announcers(&other, TOPIC).await.len(), 2);

    within(unannounce(rpc, TOPIC, &pair(1), QueryOptions::default())).await.unwrap();
    assert_eq!(announcers(&other, TOPIC).await, [pair(2).public]);
    assert_eq!(network.announcements(), 8);

    let clear = AnnounceOptions { clear: true, ..AnnounceOptions::default() };
    within(announce(rpc, TOPIC, &pair(2), &relays, clear).unwrap().finished()).await.unwrap();
    let mut query = lookup(&other, TOPIC, QueryOptions::default()).unwrap();
    assert_eq!(within(query.next()).await.unwrap().peers[0].relay_addresses.len(), 2);
}

#[tokio::test]
async fn many_topics_are_announced_in_a_batch() {
    let network = Network::new(5).await;
    let topics: Vec<[u8; 32]> = (0..200u8).map(|n| hash(&[&[n]])).collect();
    let done: Vec<_> = within(
        announce_many(&network.client, topics.clone(), &pair(1), &[], BatchOptions::default()).collect(),
    )
    .await;
    assert_eq!(done.len(), 200);
    assert!(done.iter().all(|done| done.outcome.as_ref().is_ok_and(|stored| stored.stored == 5)));
    assert_eq!(network.announcements(), 1000);
    assert_eq!(announcers(&network.client, topics[77]).await, [pair(1).public]);
}

#[tokio::test]
async fn immutable_values_are_put_and_got() {
    let network = Network::new(6).await;
    let value = Bytes::from(vec![7; 900]);
    let (target, stored) =
        within(immutable_put(&network.client, value.clone(), QueryOptions::default())).await.unwrap();
    assert_eq!((target, stored.stored), (hash(&[&value]), 6));
    let other = client(&network.udx, network.bootstrap).await;
    let found = within(immutable_get(&other, target, QueryOptions::default())).await.unwrap().unwrap();
    assert_eq!(found.value, value);
    assert_eq!(within(immutable_get(&other, [1; 32], QueryOptions::default())).await.unwrap(), None);
    // What one node would take and what none would, to the byte.
    let longest = Bytes::from(vec![1; 1_970]);
    let (_, stored) = within(immutable_put(&other, longest, QueryOptions::default())).await.unwrap();
    assert_eq!(stored.stored, 6);
    for len in [1_971, 16 << 10, 70_000] {
        let long = within(immutable_put(&other, vec![0; len].into(), QueryOptions::default())).await;
        assert!(matches!(long, Err(RpcError::TooLarge { .. })), "{long:?}");
    }
    let value = Bytes::from(vec![2; 1_870]);
    let (record, stored) =
        within(mutable_put(&other, &pair(7), 0, value, QueryOptions::default())).await.unwrap();
    assert_eq!((record.value.len(), stored.stored), (1_870, 6));
    let long = within(mutable_put(&other, &pair(8), 0, vec![2; 1_871].into(), QueryOptions::default())).await;
    assert!(matches!(long, Err(RpcError::TooLarge { .. })), "{long:?}");
}

#[tokio::test]
async fn mutable_records_are_put_got_and_refreshed() {
    let network = Network::new(6).await;
    let rpc = &network.client;
    let put = async |seq, value: &'static str| {
        within(mutable_put(rpc, &pair(1), seq, value.into(), QueryOptions::default())).await.unwrap().1
    };
    let get = async |options| within(mutable_get(rpc, pair(1).public, options)).await.unwrap();
    assert_eq!(get(MutableGetOptions::default()).await, None);
    assert_eq!(put(2, "two").await.stored, 6);
    assert_eq!(get(MutableGetOptions::default()).await.unwrap().record.value, "two");
    assert_eq!(get(MutableGetOptions { seq: 3, ..MutableGetOptions::default() }).await, None);
    assert_eq!(put(1, "one").await.refused, Some(error::SEQ_TOO_LOW));
    assert_eq!(put(2, "other").await.refused, Some(error::SEQ_REUSED));
    assert_eq!(put(3, "three").await.stored, 6);
    let first = get(MutableGetOptions { first: true, seq: 3, ..MutableGetOptions::default() }).await.unwrap();
    assert_eq!((first.record.seq, &first.record.value[..]), (3, &b"three"[..]));

    // One node forgot; whoever reads can have the record stored again.
    *network.nodes[3].1.lock().unwrap() = Store::new(StoreLimits::default(), 1);
    let refresh: mutable::Refresh = Box::new(|record| record.seq == 3);
    get(MutableGetOptions { refresh: Some(refresh), ..MutableGetOptions::default() }).await.unwrap();
    assert!(network.nodes.iter().all(|(_, store)| store.lock().unwrap().size().mutables == 1));
}

#[tokio::test]
async fn a_server_is_kept_announced_until_it_stops() {
    let network = Network::new(8).await;
    let key_pair = pair(9);
    let (handle, task) = announcer(&network.client, &key_pair);
    let task = tokio::spawn(task);
    within(handle.started()).await;
    assert_eq!((handle.relays().len(), handle.relay_addresses().len()), (3, 3));
    assert!(handle.is_relay(handle.relays()[0].node.addr) && !handle.is_relay(([127, 0, 0, 1], 1).into()));
    assert_eq!(network.forwards(&key_pair), 3);

    let found: Vec<_> =
        within(find_peer(&network.client, &key_pair.public, QueryOptions::default()).unwrap().collect())
            .await;
    assert!(!found.is_empty() && found.iter().all(|found| found.peer.public_key == key_pair.public));

    within(handle.suspend()).await;
    assert_eq!(network.forwards(&key_pair), 0);
    handle.resume();
    within(handle.changed(|relays| relays.len() == 3)).await;
    assert_eq!(network.forwards(&key_pair), 3);
    within(handle.stop()).await;
    assert_eq!(network.forwards(&key_pair), 0);
    within(task).await.unwrap();
}

#[tokio::test]
async fn a_relay_that_dies_is_replaced() {
    let network = Network::new(8).await;
    let key_pair = pair(9);
    let (handle, task) = announcer(&network.client, &key_pair);
    tokio::spawn(task);
    within(handle.started()).await;
    let gone = handle.relays()[0].node.addr;
    let (node, _) = network.nodes.iter().find(|(rpc, _)| rpc.server_socket().local_addr() == gone).unwrap();
    node.close().await;
    // Taken, so that no node of another test comes to be where this one was.
    let _grave = std::net::UdpSocket::bind(gone).unwrap();
    within(handle.changed(|relays| relays.len() == 3 && relays.iter().all(|relay| relay.node.addr != gone)))
        .await;
    within(handle.stop()).await;
}

#[tokio::test]
async fn without_a_network_there_is_an_error_and_no_hang() {
    let udx = Udx::new();
    let (rpc, _requests, _) = bootstrapper(&udx).await;
    let alone =
        within(announce(&rpc, TOPIC, &pair(1), &[], AnnounceOptions::default()).unwrap().finished()).await;
    assert_eq!(alone, Err(RpcError::TooFewNodes));
    assert_eq!(within(immutable_get(&rpc, TOPIC, QueryOptions::default())).await.unwrap(), None);
    let (handle, task) = announcer(&rpc, &pair(1));
    let task = tokio::spawn(task);
    within(handle.started()).await;
    assert!(handle.relays().is_empty());
    rpc.close().await;
    within(task).await.unwrap();
    within(handle.stop()).await;
    assert!(lookup(&rpc, TOPIC, QueryOptions::default()).is_err());
}
