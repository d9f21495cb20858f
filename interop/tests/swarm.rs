//! Our swarm against npm `hyperswarm` 4.17.2, in a DHT of npm nodes and in one of ours: topics in both directions with
//! reconnects, and logs replicated over what the swarm connects.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use corestore::{Corestore, ReplicateOptions};
use hyperdht::{DhtOptions, HyperDht, KeyPair};
use hyperspace_client::HyperspaceClient;
use hyperspace_server::{NetworkOptions, Server, ServerOptions};
use hyperswarm::{DhtNode, Hyperswarm, JoinOptions, SwarmOptions};
use interop::{Node, Peer, blocks, digest, hex, json, key, pattern, until, within};
use tokio::sync::mpsc;

const TOPIC: [u8; 32] = [0xab; 32];

/// The DHT that everybody meets in.
#[expect(clippy::large_enum_variant, reason = "there are two of them")]
enum Network {
    Npm(Peer),
    Ours(Vec<HyperDht>),
}

/// One that npm nodes make, and one that ours make.
async fn networks(node: &Node) -> [(Network, Vec<String>); 2] {
    let npm = node.run::<&str>("js/swarm.js", []).await;
    let bootstrap = npm.ask("network", json!({ "size": 4 })).await["bootstrap"].clone();
    let npm_bootstrap =
        bootstrap.as_array().unwrap().iter().map(|node| node.as_str().unwrap().to_owned()).collect();

    let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let first = HyperDht::bootstrapper(local).await.unwrap();
    let bootstrap = vec![first.local_address().to_string()];
    let mut nodes = vec![first];
    for _ in 0..3 {
        let options = DhtOptions { ephemeral: Some(false), firewalled: Some(false), ..options(&bootstrap) };
        let node = HyperDht::new(options).await.unwrap();
        within("a node of ours enters our DHT", node.fully_bootstrapped()).await.unwrap();
        nodes.push(node);
    }
    [(Network::Npm(npm), npm_bootstrap), (Network::Ours(nodes), bootstrap)]
}

impl Network {
    async fn close(self) {
        match self {
            Self::Npm(peer) => peer.close().await,
            Self::Ours(nodes) => {
                for node in nodes {
                    node.close().await;
                }
            }
        }
    }
}

/// Nothing here talks to anybody but 127.0.0.1.
fn options(bootstrap: &[String]) -> DhtOptions {
    DhtOptions {
        bootstrap: Some(bootstrap.to_vec()),
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 0,
        ..DhtOptions::default()
    }
}

#[derive(Debug)]
enum Happened {
    Connected(String),
    Data(String, Bytes),
}

/// A swarm of ours whose connections tell what comes in.
struct Ours {
    swarm: Hyperswarm<DhtNode>,
    happened: mpsc::UnboundedReceiver<Happened>,
    send: Arc<Mutex<HashMap<String, mpsc::UnboundedSender<Option<Bytes>>>>>,
}

impl Ours {
    async fn new(bootstrap: &[String], key_pair: KeyPair) -> Self {
        Self::with(bootstrap, key_pair, SwarmOptions::default()).await
    }

    async fn with(bootstrap: &[String], key_pair: KeyPair, swarm_options: SwarmOptions) -> Self {
        let swarm = Hyperswarm::new(options(bootstrap), key_pair, swarm_options).await.unwrap();
        let (tell, happened) = mpsc::unbounded_channel();
        let send = Arc::<Mutex<HashMap<_, mpsc::UnboundedSender<Option<Bytes>>>>>::default();
        let (taking, senders) = (swarm.clone(), send.clone());
        tokio::spawn(async move {
            while let Some((mut connection, peer)) = taking.next_connection().await {
                let remote = hex(peer.public_key);
                let (sender, mut to_send) = mpsc::unbounded_channel();
                senders.lock().unwrap().insert(remote.clone(), sender);
                let tell = tell.clone();
                let _ = tell.send(Happened::Connected(remote.clone()));
                tokio::spawn(async move {
                    loop {
                        tokio::select! {
                            received = connection.recv() => match received {
                                Some(Ok(data)) => drop(tell.send(Happened::Data(remote.clone(), data))),
                                _ => break,
                            },
                            data = to_send.recv() => match data {
                                Some(Some(data)) => connection.send(data).await.unwrap(),
                                // Told to cut it.
                                _ => break,
                            },
                        }
                    }
                });
            }
        });
        Self { swarm, happened, send }
    }

    async fn connected(&mut self, remote: &str) {
        let connected = async {
            loop {
                match self.happened.recv().await.expect("the swarm lives") {
                    Happened::Connected(who) if who == remote => return,
                    _ => {}
                }
            }
        };
        within("our swarm connects", connected).await;
    }

    async fn data(&mut self, remote: &str) -> Bytes {
        let data = async {
            loop {
                match self.happened.recv().await.expect("the swarm lives") {
                    Happened::Data(who, data) if who == remote => return data,
                    _ => {}
                }
            }
        };
        within("a message reaches us", data).await
    }

    fn send(&self, remote: &str, data: Option<&'static str>) {
        let data = data.map(|data| Bytes::from_static(data.as_bytes()));
        self.send.lock().unwrap()[remote].send(data).unwrap();
    }
}

/// A connection on both sides, and a message in each direction.
async fn meet(ours: &mut Ours, peer: &Peer, theirs: &str) {
    let us = hex(ours.swarm.public_key());
    ours.connected(theirs).await;
    peer.event_where("connection", |event| event["remote"] == us).await;
    ours.send(theirs, Some("from us"));
    let heard = peer.event_where("data", |event| event["remote"] == us).await;
    assert_eq!(heard["data"], "from us");
    peer.ask("send", json!({ "remote": us, "data": "from them" })).await;
    assert_eq!(ours.data(theirs).await, "from them");
}

fn roles(server: bool, client: bool) -> JoinOptions {
    JoinOptions { server, client, limit: None }
}

/// Who is a server, and who is a client: they, or we, or both.
type Roles = (bool, bool);

/// How long either side waits until it calls again, in milliseconds. By default that is up to half a minute, after three
/// losses.
const BACKOFF: u64 = 250;

/// They and we meet for one topic, lose each other and meet again. The number keeps this case apart from others in the same
/// network.
async fn meet_again_and_again(node: &Node, bootstrap: &[String], number: u8, they: Roles, we: Roles) {
    let wait = Duration::from_millis(BACKOFF);
    let patience = SwarmOptions { backoffs: [wait; 4], jitter: wait, ..SwarmOptions::default() };
    let mut ours = Ours::with(bootstrap, KeyPair::generate(), patience).await;
    let us = hex(ours.swarm.public_key());
    let peer = node.run::<&str>("js/swarm.js", []).await;
    let swarm = json!({
        "bootstrap": bootstrap, "seed": hex([number; 32]), "backoffs": vec![BACKOFF; 4], "jitter": BACKOFF,
    });
    let theirs = peer.ask("swarm", swarm.clone()).await["publicKey"].as_str().unwrap().to_owned();
    let topic = [0xa0 + number; 32];
    let join = json!({ "topic": hex(topic), "server": they.0, "client": they.1 });
    // The server first, so that whoever looks finds it.
    if they.0 {
        peer.ask("join", join.clone()).await;
    }
    let joined = ours.swarm.join(topic, roles(we.0, we.1)).unwrap();
    assert!(within("our first round", joined.flushed()).await);
    if !they.0 {
        peer.ask("join", join.clone()).await;
    }
    meet(&mut ours, &peer, &theirs).await;
    // Cut from their side, then from ours: whoever dialled dials again.
    peer.ask("cut", json!({ "remote": us })).await;
    meet(&mut ours, &peer, &theirs).await;
    ours.send(&theirs, None);
    peer.event_where("disconnect", |event| event["remote"] == us).await;
    meet(&mut ours, &peer, &theirs).await;
    if they == we {
        // Their process dies, and comes back as the same peer.
        peer.kill().await;
        let peer = node.run::<&str>("js/swarm.js", []).await;
        peer.ask("swarm", swarm).await;
        peer.ask("join", join).await;
        meet(&mut ours, &peer, &theirs).await;
        assert_eq!(ours.swarm.connection_count(), 1);
        peer.close().await;
    } else {
        peer.close().await;
    }
    ours.swarm.destroy().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_in_both_directions_with_reconnects() {
    let Some(node) = Node::find().await else { return };
    for (network, bootstrap) in networks(&node).await {
        let (client, server, both) = ((false, true), (true, false), (true, true));
        tokio::join!(
            meet_again_and_again(&node, &bootstrap, 1, server, client),
            meet_again_and_again(&node, &bootstrap, 2, client, server),
            meet_again_and_again(&node, &bootstrap, 3, both, both),
        );
        network.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_we_announce_is_found_until_it_is_taken_back() {
    let Some(node) = Node::find().await else { return };
    for (network, bootstrap) in networks(&node).await {
        let peer = node.run::<&str>("js/swarm.js", []).await;
        peer.ask("swarm", json!({ "bootstrap": bootstrap })).await;
        let ours = Ours::new(&bootstrap, KeyPair::generate()).await;
        let topics: Vec<[u8; 32]> = (1..=20).map(|number| [number; 32]).collect();
        for topic in &topics {
            ours.swarm.join(*topic, JoinOptions::SERVER).unwrap();
        }
        assert!(within("twenty topics are announced", ours.swarm.flush()).await);
        let us = json!([hex(ours.swarm.public_key())]);
        for topic in &topics {
            assert_eq!(peer.ask("lookup", json!({ "topic": hex(topic) })).await["peers"], us);
        }
        within("a topic is left", ours.swarm.leave(&topics[0])).await;
        assert_eq!(peer.ask("lookup", json!({ "topic": hex(topics[0]) })).await["peers"], json!([]));
        within("the swarm ends", ours.swarm.destroy()).await;
        for topic in &topics {
            assert_eq!(peer.ask("lookup", json!({ "topic": hex(topic) })).await["peers"], json!([]));
        }
        peer.close().await;
        network.close().await;
    }
}

/// A store of ours that replicates over every connection of its swarm.
async fn store_in_swarm(bootstrap: &[String]) -> (Corestore, Hyperswarm<DhtNode>) {
    let store = Corestore::memory();
    let swarm =
        Hyperswarm::new(options(bootstrap), KeyPair::generate(), SwarmOptions::default()).await.unwrap();
    let (replicated, taking) = (store.clone(), swarm.clone());
    tokio::spawn(async move {
        while let Some((connection, _)) = taking.next_connection().await {
            let parts = connection.into_parts();
            let options = ReplicateOptions::handshaken(parts.is_initiator, parts.handshake);
            replicated.replicate(parts.stream, options).unwrap();
        }
    });
    (store, swarm)
}

const COUNT: u64 = 10_000;
const SIZE: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_ten_thousand_blocks_replicate_over_the_swarm_both_ways() {
    let Some(node) = Node::find().await else { return };
    for (network, bootstrap) in networks(&node).await {
        let folder = tempfile::tempdir().unwrap();
        let (store, swarm) = store_in_swarm(&bootstrap).await;
        let peer = node.run("js/swarm.js", [folder.path()]).await;
        peer.ask("swarm", json!({ "bootstrap": bootstrap })).await;

        // They write, we read.
        let theirs = peer.ask("open", json!({ "core": "theirs", "name": "log" })).await;
        peer.ask("generate", json!({ "core": "theirs", "count": COUNT, "size": SIZE })).await;
        let topic = theirs["discoveryKey"].clone();
        peer.ask("join", json!({ "topic": topic, "server": true, "client": false })).await;
        let copy = store.get(key(&theirs)).unwrap();
        swarm.join(*copy.discovery_key().as_bytes(), JoinOptions::CLIENT).unwrap();
        until(&copy, "their length", |core| core.length() == COUNT).await;
        assert_eq!(digest(&copy).await, pattern::digest(0, COUNT, SIZE, 0));

        // We write, they read.
        let log = store.get("log").unwrap();
        for start in (0..COUNT).step_by(1000) {
            log.append_batch(blocks(start, start + 1000, SIZE, 7)).unwrap();
        }
        let joined = swarm.join(*log.discovery_key().as_bytes(), JoinOptions::SERVER).unwrap();
        assert!(within("our log is announced", joined.flushed()).await);
        peer.ask("open", json!({ "core": "ours", "key": log.key().to_hex() })).await;
        let topic = hex(log.discovery_key().as_bytes());
        peer.ask("join", json!({ "topic": topic, "server": false, "client": true })).await;
        peer.ask("waitLength", json!({ "core": "ours", "length": COUNT })).await;
        let read = peer.ask("digest", json!({ "core": "ours" })).await;
        assert_eq!(read["digest"], pattern::digest(0, COUNT, SIZE, 7));

        assert_eq!(swarm.connection_count(), 1, "two topics, one connection");
        peer.close().await;
        swarm.destroy().await;
        network.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_and_an_npm_program_find_each_other() {
    let Some(node) = Node::find().await else { return };
    for (network, bootstrap) in networks(&node).await {
        let folder = tempfile::tempdir().unwrap();
        let peer = node.run("js/swarm.js", [folder.path()]).await;
        peer.ask("swarm", json!({ "bootstrap": bootstrap })).await;
        let server = Server::start(ServerOptions {
            network: Some(NetworkOptions {
                address: Some((Ipv4Addr::LOCALHOST, 0).into()),
                bootstrap: Some(bootstrap.clone()),
                ..NetworkOptions::default()
            }),
            ..ServerOptions::default()
        })
        .await
        .unwrap();
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::spawn(server.serve(far));
        let client = HyperspaceClient::from_stream(near);

        // The program reads what is written at the daemon.
        let log = client.corestore().get_by_name("log").await.unwrap();
        for start in (0..COUNT).step_by(1000) {
            log.append_blocks(&blocks(start, start + 1000, SIZE, 3)).await.unwrap();
        }
        peer.ask("open", json!({ "core": "ours", "key": log.key().to_hex() })).await;
        let topic = hex(log.discovery_key().as_bytes());
        peer.ask("join", json!({ "topic": topic, "server": false, "client": true })).await;
        peer.ask("waitLength", json!({ "core": "ours", "length": COUNT })).await;
        let read = peer.ask("digest", json!({ "core": "ours" })).await;
        assert_eq!(read["digest"], pattern::digest(0, COUNT, SIZE, 3));

        // And the daemon what is written by the program. Asking includes looking for whoever has it.
        let theirs = peer.ask("open", json!({ "core": "theirs", "name": "log" })).await;
        peer.ask("generate", json!({ "core": "theirs", "count": COUNT, "size": SIZE })).await;
        let topic = theirs["discoveryKey"].clone();
        peer.ask("join", json!({ "topic": topic, "server": true, "client": false })).await;
        let copy = client.corestore().get(&key(&theirs)).await.unwrap();
        assert!(within("an update", copy.update()).await.unwrap());
        assert_eq!(copy.length(), COUNT);
        let last = within("a block", copy.get(COUNT - 1)).await.unwrap();
        assert_eq!(last, pattern::block(COUNT - 1, SIZE, 0));
        copy.download(&hypercore::DownloadRange::new(0, COUNT)).await.unwrap();
        assert_eq!(copy.downloaded(0..COUNT).await.unwrap(), COUNT);

        let status = client.status().await.unwrap();
        assert!(status.remote_address.starts_with("127.0.0.1:"), "{status:?}");
        server.stop().await;
        peer.close().await;
        network.close().await;
    }
}

/// A swarm that ends while it is busy leaves nobody waiting.
#[tokio::test(flavor = "multi_thread")]
async fn a_swarm_without_a_network_ends_all_the_same() {
    let nobody = ["127.0.0.1:1".to_owned()];
    let swarm =
        Hyperswarm::new(options(&nobody), KeyPair::generate(), SwarmOptions::default()).await.unwrap();
    let joined = swarm.join(TOPIC, JoinOptions::default()).unwrap();
    let flushed = joined.flushed();
    tokio::time::timeout(Duration::from_millis(50), swarm.flush()).await.unwrap_err();
    within("the end", swarm.destroy()).await;
    assert!(!flushed.await);
    assert!(swarm.next_connection().await.is_none());
}
