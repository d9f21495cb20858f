//! Records of the DHT with npm `hyperdht` (6.34, and 6.20 as the older one), on 127.0.0.1: topics, servers, mutable and
//! immutable values, put by the one and got by the other, in their network, in ours and in a mixed one.

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use futures::StreamExt;
use hyperdht::client::{AnnounceOptions, BatchOptions, MutableGetOptions};
use hyperdht::messages::{Command, Message, error};
use hyperdht::records::signing::{AnnounceContext, Signer, hash};
use hyperdht::rpc::{QueryOptions, RequestBody, RequestOptions, RpcError};
use hyperdht::{DhtOptions, HyperDht, KeyPair, ServerOptions};
use interop::{Node, Peer, Value, json, within};

const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// The npm package of today, and an older one, as `interop/js/dht-nodes.js` names them.
const TODAY: &str = "hyperdht";
const OLDER: &str = "older";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|n| u8::from_str_radix(&text[n..n + 2], 16).unwrap()).collect()
}

fn pair(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}

/// A node of ours.
async fn ours(bootstrap: SocketAddr, storing: bool) -> HyperDht {
    let options = DhtOptions {
        bootstrap: Some(vec![bootstrap.to_string()]),
        host: HOST.into(),
        port: 0,
        ephemeral: storing.then_some(false),
        firewalled: storing.then_some(false),
        ..DhtOptions::default()
    };
    let dht = HyperDht::new(options).await.unwrap();
    within("our bootstrap", dht.fully_bootstrapped()).await.unwrap();
    dht
}

async fn our_bootstrapper() -> (HyperDht, SocketAddr) {
    for _ in 0..20 {
        // A port that nobody has at the moment: bootstrappers have to know theirs beforehand.
        let free = std::net::UdpSocket::bind((HOST, 0)).unwrap().local_addr().unwrap();
        if let Ok(dht) = HyperDht::bootstrapper(free).await {
            within("our bootstrap", dht.fully_bootstrapped()).await.unwrap();
            return (dht, free);
        }
    }
    panic!("no port is free");
}

fn there(address: SocketAddr) -> Value {
    json!({ "host": address.ip().to_string(), "port": address.port() })
}

/// Nodes that store: so many of theirs, and of ours.
struct Network {
    npm: Peer,
    bootstrap: SocketAddr,
    kept: Vec<HyperDht>,
    size: usize,
}

impl Network {
    async fn new(node: &Node, kind: &str, of_theirs: usize, of_ours: usize) -> Self {
        let npm = node.run("js/dht-records.js", [""; 0]).await;
        let mut kept = Vec::new();
        let bootstrap = if of_theirs > 0 {
            let first = json!({ "name": "first", "kind": kind, "bootstrapper": true });
            let port = npm.ask("start", first).await["localPort"].as_u64().unwrap();
            SocketAddr::from((HOST, u16::try_from(port).unwrap()))
        } else {
            let (first, address) = our_bootstrapper().await;
            kept.push(first);
            address
        };
        let more = json!({ "name": "store", "count": of_theirs.saturating_sub(1), "kind": kind, "port": 0,
            "bootstrap": [there(bootstrap)], "ephemeral": false, "firewalled": false });
        npm.ask("startMany", more).await;
        while kept.len() < of_ours {
            kept.push(ours(bootstrap, true).await);
        }
        Self { npm, bootstrap, kept, size: of_theirs + of_ours }
    }

    async fn client(&self) -> Client<'_> {
        Client::Ours(ours(self.bootstrap, false).await)
    }

    async fn their_client(&self, name: &str, kind: &str) -> Client<'_> {
        let options = json!({ "name": name, "kind": kind, "port": 0, "bootstrap": [there(self.bootstrap)] });
        self.npm.ask("start", options).await;
        Client::Theirs { npm: &self.npm, name: name.to_owned() }
    }

    async fn close(self) {
        for dht in self.kept {
            dht.destroy().await;
        }
        self.npm.close().await;
    }
}

/// Who asks.
enum Client<'a> {
    Ours(HyperDht),
    Theirs { npm: &'a Peer, name: String },
}

/// A mutable record as a test looks at it.
type Record = Option<(u64, Vec<u8>)>;

impl Client<'_> {
    async fn ask(&self, what: &str, mut args: Value) -> Value {
        let Client::Theirs { npm, name } = self else { panic!("{what} is for theirs") };
        args["name"] = json!(name);
        npm.ask(what, args).await
    }

    /// Hash and number of nodes.
    async fn immutable_put(&self, value: &[u8]) -> (Vec<u8>, usize) {
        match self {
            Client::Ours(dht) => {
                let value = Bytes::copy_from_slice(value);
                let put = dht.immutable_put(value, QueryOptions::default());
                let (hash, stored) = within("our put", put).await.unwrap();
                (hash.to_vec(), stored.stored)
            }
            Client::Theirs { .. } => {
                let put = self.ask("immutablePut", json!({ "value": hex(value) })).await;
                (unhex(put["hash"].as_str().unwrap()), put["nodes"].as_u64().unwrap() as usize)
            }
        }
    }

    async fn immutable_get(&self, hash: &[u8]) -> Option<Vec<u8>> {
        match self {
            Client::Ours(dht) => {
                let get = dht.immutable_get(hash.try_into().unwrap(), QueryOptions::default());
                within("our get", get).await.unwrap().map(|found| found.value.to_vec())
            }
            Client::Theirs { .. } => {
                self.ask("immutableGet", json!({ "hash": hex(hash) })).await.as_str().map(unhex)
            }
        }
    }

    async fn mutable_put(&self, seed: u8, seq: u64, value: &[u8]) {
        match self {
            Client::Ours(dht) => {
                let (key_pair, value) = (pair(seed), Bytes::copy_from_slice(value));
                let put = dht.mutable_put(&key_pair, seq, value, QueryOptions::default());
                within("our put", put).await.unwrap();
            }
            Client::Theirs { .. } => {
                let put = json!({ "seed": hex(&[seed; 32]), "seq": seq, "value": hex(value) });
                self.ask("mutablePut", put).await;
            }
        }
    }

    async fn mutable_get(&self, seed: u8, seq: u64, latest: bool) -> Record {
        match self {
            Client::Ours(dht) => {
                let options = MutableGetOptions { seq, first: !latest, ..MutableGetOptions::default() };
                let found = within("our get", dht.mutable_get(pair(seed).public, options)).await.unwrap();
                found.map(|found| (found.record.seq, found.record.value.to_vec()))
            }
            Client::Theirs { .. } => {
                let get = json!({ "publicKey": hex(&pair(seed).public), "seq": seq, "latest": latest });
                let found = self.ask("mutableGet", get).await;
                let value = unhex(found["value"].as_str()?);
                Some((found["seq"].as_u64().unwrap(), value))
            }
        }
    }

    async fn announce(&self, topic: [u8; 32], seed: u8, relays: &[&str], bump: u64) {
        match self {
            Client::Ours(dht) => {
                let relays: Vec<_> = relays.iter().map(|relay| relay.parse().unwrap()).collect();
                let options = AnnounceOptions { bump, ..AnnounceOptions::default() };
                let mut query = dht.announce(topic, &pair(seed), &relays, options).unwrap();
                within("our announcement", query.finished()).await.unwrap();
            }
            Client::Theirs { .. } => {
                let announce = json!({ "topic": hex(&topic), "seed": hex(&[seed; 32]), "relayAddresses": relays, "bump": bump });
                self.ask("announce", announce).await;
            }
        }
    }

    async fn unannounce(&self, topic: [u8; 32], seed: u8) {
        match self {
            Client::Ours(dht) => {
                let key_pair = pair(seed);
                within("taking it back", dht.unannounce(topic, &key_pair, QueryOptions::default()))
                    .await
                    .unwrap();
            }
            Client::Theirs { .. } => {
                self.ask("unannounce", json!({ "topic": hex(&topic), "seed": hex(&[seed; 32]) })).await;
            }
        }
    }

    /// Public keys and relay addresses, each once, in order, and how many nodes know them; and the highest bump.
    async fn lookup(&self, topic: [u8; 32]) -> (Vec<(String, Vec<String>)>, usize, u64) {
        let (mut peers, mut nodes, mut highest) = (Vec::new(), 0, 0);
        match self {
            Client::Ours(dht) => {
                let mut query = dht.lookup(topic, QueryOptions::default()).unwrap();
                while let Some(found) = within("our lookup", query.next()).await {
                    (nodes, highest) = (nodes + 1, highest.max(found.bump));
                    for peer in found.peers {
                        let relays = peer.relay_addresses.iter().map(ToString::to_string).collect();
                        peers.push((hex(&peer.public_key), relays));
                    }
                }
            }
            Client::Theirs { .. } => {
                let all = self.ask("lookup", json!({ "topic": hex(&topic) })).await;
                for found in all.as_array().unwrap() {
                    (nodes, highest) = (nodes + 1, highest.max(found["bump"].as_u64().unwrap()));
                    for peer in found["peers"].as_array().unwrap() {
                        let relays = peer["relayAddresses"].as_array().unwrap().iter();
                        let relays = relays.map(|relay| relay.as_str().unwrap().to_owned()).collect();
                        peers.push((peer["publicKey"].as_str().unwrap().to_owned(), relays));
                    }
                }
            }
        }
        peers.sort();
        peers.dedup();
        (peers, nodes, highest)
    }

    /// How many nodes know the server.
    async fn find_peer(&self, seed: u8) -> usize {
        let public_key = pair(seed).public;
        match self {
            Client::Ours(dht) => {
                let mut query = dht.find_peer(&public_key, QueryOptions::default()).unwrap();
                let mut nodes = 0;
                while let Some(found) = within("our search", query.next()).await {
                    assert_eq!(found.peer.public_key, public_key);
                    nodes += 1;
                }
                nodes
            }
            Client::Theirs { .. } => {
                let found = self.ask("findPeer", json!({ "publicKey": hex(&public_key) })).await;
                let found = found.as_array().unwrap();
                assert!(found.iter().all(|found| found["peer"]["publicKey"] == hex(&public_key)));
                found.len()
            }
        }
    }
}

/// What `a` stores, `b` finds, as it should be. `n` keeps the runs in one network apart.
async fn share(network: &Network, a: &Client<'_>, b: &Client<'_>, n: u8) {
    let value = vec![n; 900];
    let (target, nodes) = a.immutable_put(&value).await;
    assert_eq!((&target[..], nodes), (&hash(&[&value])[..], network.size));
    assert_eq!(b.immutable_get(&target).await, Some(value));
    assert_eq!(b.immutable_get(&[n; 32]).await, None);

    assert_eq!(b.mutable_get(n, 0, true).await, None);
    a.mutable_put(n, 2, b"two").await;
    assert_eq!(b.mutable_get(n, 0, true).await, Some((2, b"two".to_vec())));
    assert_eq!(b.mutable_get(n, 2, false).await, Some((2, b"two".to_vec())));
    assert_eq!(b.mutable_get(n, 3, true).await, None);
    a.mutable_put(n, 1, b"one, too late").await;
    a.mutable_put(n, 2, b"another two").await;
    assert_eq!(b.mutable_get(n, 0, true).await, Some((2, b"two".to_vec())));
    b.mutable_put(n, 300, b"three hundred").await;
    assert_eq!(a.mutable_get(n, 0, true).await, Some((300, b"three hundred".to_vec())));

    let topic = hash(&[b"topic", &[n]]);
    let relays = ["10.1.2.3:4567", "10.1.2.4:5678"];
    let entry = |seed: u8, relays: &[&str]| {
        (hex(&pair(seed).public), relays.iter().map(|relay| (*relay).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(b.lookup(topic).await, (vec![], 0, 0));
    a.announce(topic, n, &relays, 0).await;
    assert_eq!(b.lookup(topic).await, (vec![entry(n, &relays)], network.size, 0));
    b.announce(topic, n + 1, &[], 0).await;
    let mut both = vec![entry(n, &relays), entry(n + 1, &[])];
    both.sort();
    assert_eq!(a.lookup(topic).await.0, both);
    a.unannounce(topic, n).await;
    assert_eq!(b.lookup(topic).await, (vec![entry(n + 1, &[])], network.size, 0));
    b.unannounce(topic, n + 1).await;
    assert_eq!(a.lookup(topic).await, (vec![], 0, 0));
}

/// Both ways between one of ours and one of theirs.
async fn both_ways(network: &Network, kind: &str) {
    let (ours, theirs) = (network.client().await, network.their_client("client", kind).await);
    share(network, &ours, &theirs, 10).await;
    share(network, &theirs, &ours, 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_npm_store_for_us() {
    let Some(node) = Node::find().await else { return };
    for kind in [TODAY, OLDER] {
        let network = Network::new(&node, kind, 6, 0).await;
        both_ways(&network, kind).await;
        network.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_nodes_store_for_npm() {
    let Some(node) = Node::find().await else { return };
    for kind in [TODAY, OLDER] {
        let network = Network::new(&node, kind, 0, 6).await;
        both_ways(&network, kind).await;
        network.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_of_both_store_for_both() {
    let Some(node) = Node::find().await else { return };
    let network = Network::new(&node, TODAY, 4, 4).await;
    both_ways(&network, TODAY).await;
    // More nodes than one target has: whoever looks has to come to the same twenty.
    let more = json!({ "name": "more", "count": 8, "kind": OLDER, "port": 0,
        "bootstrap": [there(network.bootstrap)], "ephemeral": false, "firewalled": false });
    network.npm.ask("startMany", more).await;
    let mut ours_too = Vec::new();
    for _ in 0..8 {
        ours_too.push(ours(network.bootstrap, true).await);
    }
    let (ours, theirs) = (network.client().await, network.their_client("late", TODAY).await);
    for n in 40..44 {
        let value = [n; 40];
        let (target, nodes) = ours.immutable_put(&value).await;
        assert_eq!(nodes, 20);
        assert_eq!(theirs.immutable_get(&target).await, Some(value.to_vec()));
        theirs.announce([n; 32], n, &[], 0).await;
        let (peers, nodes, _) = ours.lookup([n; 32]).await;
        assert_eq!(peers.len(), 1);
        assert!(nodes >= 18, "{nodes} of 20 nodes near the topic were found to know it");
    }
    for dht in ours_too {
        dht.destroy().await;
    }
    network.close().await;
}

/// Only today's nodes know bumps.
#[tokio::test(flavor = "multi_thread")]
async fn bumps_reach_the_other_side() {
    let Some(node) = Node::find().await else { return };
    let network = Network::new(&node, TODAY, 3, 3).await;
    let (ours, theirs) = (network.client().await, network.their_client("client", TODAY).await);
    ours.announce([1; 32], 1, &[], 1_700_000_000_001).await;
    assert_eq!(theirs.lookup([1; 32]).await.2, 1_700_000_000_001);
    theirs.announce([1; 32], 2, &[], 1_700_000_000_002).await;
    assert_eq!(ours.lookup([1; 32]).await.2, 1_700_000_000_002);
    ours.announce([1; 32], 1, &[], 9_000_000_000_000).await;
    assert_eq!(ours.lookup([1; 32]).await.2, 1_700_000_000_002, "nobody believes a far future");
    network.close().await;
}

/// What npm signs wrongly, our nodes do not keep; what we would sign wrongly, npm's nodes do not keep.
#[tokio::test(flavor = "multi_thread")]
async fn wrong_signatures_are_refused() {
    let Some(node) = Node::find().await else { return };
    let network = Network::new(&node, TODAY, 0, 2).await;
    let (ours, theirs) = (network.client().await, network.their_client("client", TODAY).await);
    ours.announce([1; 32], 1, &[], 0).await;
    let seed = hex(&[1; 32]);
    // Nodes answer nothing to such requests, so that npm's calls end with their timeouts, as errors.
    let Client::Theirs { npm, .. } = &theirs else { unreachable!() };
    let forged = [
        ("mutablePut", json!({ "name": "client", "seed": seed, "seq": 1, "value": "aa", "forge": true })),
        (
            "announce",
            json!({ "name": "client", "seed": hex(&[2; 32]), "topic": hex(&[1; 32]), "forge": true }),
        ),
        ("unannounce", json!({ "name": "client", "seed": seed, "topic": hex(&[1; 32]), "forge": true })),
    ];
    let calls = forged.into_iter().map(|(what, args)| npm.call(what, args));
    let outcomes = futures::future::join_all(calls).await;
    assert!(outcomes[0].is_err() && outcomes[1].is_err());
    assert_eq!(ours.mutable_get(1, 0, true).await, None);
    let (peers, ..) = ours.lookup([1; 32]).await;
    assert_eq!(peers.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>(), [hex(&pair(1).public)]);
    network.close().await;

    let network = Network::new(&node, TODAY, 3, 0).await;
    let Client::Ours(dht) = network.client().await else { unreachable!() };
    let target = hash(&[&pair(1).public]);
    let mut query = dht.lookup(target, QueryOptions::default()).unwrap();
    within("our lookup", query.finished()).await.unwrap();
    let at = query.closest_nodes()[0].addr;
    let token = async || {
        let body = RequestBody {
            command: Command::Lookup.to_wire(),
            target: Some(target),
            ..RequestBody::default()
        };
        let reply = dht.rpc().request(at, body, RequestOptions::default()).await.unwrap();
        (reply.token.unwrap(), reply.from.id.unwrap())
    };
    let send = async |command: Command, value: Bytes, token| {
        let body = RequestBody {
            command: command.to_wire(),
            target: Some(target),
            value: Some(value),
            token: Some(token),
        };
        let options = RequestOptions { retries: Some(0), ..RequestOptions::default() };
        dht.rpc().request(at, body, options).await
    };
    let signer = Signer::new(&pair(1));
    let (now, node_id) = token().await;
    let mut put = signer.mutable(1, "value".into());
    put.record.seq = 2;
    assert_eq!(send(Command::MutablePut, put.encode(), now).await, Err(RpcError::Timeout(at)));
    let other = AnnounceContext { target: &[9; 32], node_id: &node_id, token: &now };
    let announce = signer.announce(other, Vec::new(), None, 0).encode();
    assert_eq!(send(Command::Announce, announce, now).await, Err(RpcError::Timeout(at)));
    // And right ones are taken, so that it was the signature.
    let right = AnnounceContext { target: &target, node_id: &node_id, token: &now };
    let announce = signer.announce(right, Vec::new(), None, 0).encode();
    assert_eq!(send(Command::Announce, announce, now).await.unwrap().error, error::NONE);
    let put = signer.mutable(2, "value".into());
    assert_eq!(send(Command::MutablePut, put.encode(), now).await.unwrap().error, error::NONE);
    let put = signer.mutable(1, "value".into());
    assert_eq!(send(Command::MutablePut, put.encode(), now).await.unwrap().error, error::SEQ_TOO_LOW);
    network.close().await;
}

/// Servers announce themselves at three nodes, are found, and gone once they are closed.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_found_until_they_close() {
    let Some(node) = Node::find().await else { return };
    for (of_theirs, of_ours) in [(6, 0), (0, 6)] {
        let network = Network::new(&node, TODAY, of_theirs, of_ours).await;
        let (ours, theirs) = (network.client().await, network.their_client("client", TODAY).await);
        let Client::Ours(dht) = &ours else { unreachable!() };

        let server = dht.create_server(ServerOptions::default());
        within("our announcement", server.listen(pair(1))).await.unwrap();
        assert_eq!(theirs.find_peer(1).await, 3);
        assert_eq!(theirs.find_peer(2).await, 0);
        let theirs_listens = theirs.ask("listen", json!({ "seed": hex(&[2; 32]) })).await;
        assert_eq!(theirs_listens["publicKey"], hex(&pair(2).public));
        assert_eq!(ours.find_peer(2).await, 3);

        within("our goodbye", server.close()).await;
        assert_eq!(theirs.find_peer(1).await, 0);
        theirs.ask("unlisten", json!({ "seed": hex(&[2; 32]) })).await;
        assert_eq!(ours.find_peer(2).await, 0);
        network.close().await;
    }
}

/// A thousand topics at nodes of npm: as fast as they take it. How long it took is printed, not judged.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_topics_are_announced_in_a_batch() {
    let Some(node) = Node::find().await else { return };
    let network = Network::new(&node, TODAY, 10, 0).await;
    let (ours, theirs) = (network.client().await, network.their_client("client", TODAY).await);
    let Client::Ours(dht) = &ours else { unreachable!() };
    let topics: Vec<[u8; 32]> = (0..1000u16).map(|n| hash(&[&n.to_le_bytes()])).collect();
    let begun = std::time::Instant::now();
    let mut done = dht.announce_many(topics.clone(), &pair(1), &[], BatchOptions::default());
    let (mut count, mut stored) = (0, 0);
    while let Some(announced) = within("a batch of announcements", done.next()).await {
        count += 1;
        stored += announced.outcome.unwrap().stored;
    }
    eprintln!("1000 topics announced at 10 nodes of npm in {:.1} s", begun.elapsed().as_secs_f64());
    assert_eq!(count, 1000);
    assert!(stored >= 9_900, "{stored} of 10,000 announcements were taken");
    for topic in [topics[0], topics[500], topics[999]] {
        assert_eq!(theirs.lookup(topic).await.0, [(hex(&pair(1).public), vec![])]);
    }
    network.close().await;
}

/// A node that went without a word delays what is stored, and does no more.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_gone_is_no_reason_to_hang() {
    let Some(node) = Node::find().await else { return };
    let network = Network::new(&node, TODAY, 3, 0).await;
    let Client::Ours(dht) = network.client().await else { unreachable!() };
    let port = network.npm.ask("status", json!({ "name": "store0" })).await["localPort"].as_u64().unwrap();
    network.npm.ask("destroy", json!({ "name": "store0" })).await;
    // Taken, so that no node of another test comes to be where this one was.
    let _grave = std::net::UdpSocket::bind((HOST, u16::try_from(port).unwrap())).unwrap();
    let put = dht.immutable_put("value".into(), QueryOptions::default());
    let (target, stored) = within("our put", put).await.unwrap();
    assert_eq!(stored.stored, 2);
    assert!(dht.immutable_get(target, QueryOptions::default()).await.unwrap().is_some());
    network.close().await;
}
