//! The Network service with the unmodified Node client (npm `@hyperspace/client` 1.18): topics, what is remembered of them,
//! peers, and extensions of the connection.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Stdio;

use corestore::Corestore;
use futures::StreamExt;
use hyperdht::HyperDht;
use hyperspace_server::{NetworkOptions, Server, ServerEvent, ServerOptions};
use interop::{Node, Peer, Value, json, within};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

/// Names the folder of the daemon that [`a_daemon_that_can_be_killed`] is to be, and the DHT.
const FOLDER: &str = "INTEROP_DAEMON_FOLDER";
const BOOTSTRAP: &str = "INTEROP_DAEMON_BOOTSTRAP";
/// What precedes its address on standard output.
const LISTENING: &str = "clients: ";
/// What it says whenever a client is gone, and what that held.
const GONE: &str = "a client is gone";

fn options(store: Corestore, bootstrap: &str) -> ServerOptions {
    ServerOptions {
        store: Some(store),
        rpc_listen: Some("127.0.0.1:0".into()),
        network: Some(NetworkOptions {
            address: Some((Ipv4Addr::LOCALHOST, 0).into()),
            bootstrap: Some(vec![bootstrap.to_owned()]),
            ..NetworkOptions::default()
        }),
        ..ServerOptions::default()
    }
}

/// No test: the process of a daemon, when [`Killable::start`] starts it.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_can_be_killed() {
    let (Ok(folder), Ok(bootstrap)) = (std::env::var(FOLDER), std::env::var(BOOTSTRAP)) else { return };
    let store = Corestore::open(folder).unwrap();
    let server = Server::start(options(store, &bootstrap)).await.unwrap();
    let mut events = Box::pin(server.events());
    println!("\n{LISTENING}{}", server.rpc_address().unwrap());
    loop {
        tokio::select! {
            () = server.stopped() => return,
            event = events.next() => if matches!(event, Some(ServerEvent::ClientClose { .. })) {
                println!("{GONE}");
            },
        }
    }
}

struct Killable {
    process: Child,
    address: SocketAddr,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Killable {
    async fn start(folder: &Path, bootstrap: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_daemon_that_can_be_killed", "--nocapture"])
            .env(FOLDER, folder)
            .env(BOOTSTRAP, bootstrap)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let address = loop {
            let line = within("the daemon's address", lines.next_line()).await.unwrap().expect("it listens");
            if let Some(address) = line.strip_prefix(LISTENING) {
                break address.parse().unwrap();
            }
        };
        Self { process, address, lines }
    }

    /// Waits until one more client is gone.
    async fn client_gone(&mut self) {
        while within("a client that goes", self.lines.next_line()).await.unwrap().expect("it runs") != GONE {}
    }

    /// `kill -9`.
    async fn kill(mut self) {
        self.process.kill().await.unwrap();
    }
}

async fn client(node: &Node, address: SocketAddr) -> Peer {
    node.run("js-old/client.js", [address.ip().to_string(), address.port().to_string()]).await
}

fn status(topic: &Value, announce: bool, lookup: bool, remember: bool) -> Value {
    json!({ "discoveryKey": topic, "announce": announce, "lookup": lookup, "remember": remember })
}

/// The peer that a client knows, or hears of next.
async fn peer(client: &Peer) -> Value {
    match client.ask("network", json!({})).await["peers"].get(0) {
        Some(peer) => peer.clone(),
        None => client.event("network-peer-add").await["peer"].clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_survives_a_killed_daemon() {
    let Some(node) = Node::find().await else { return };
    let dht = HyperDht::bootstrapper((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let bootstrap = dht.local_address().to_string();
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Killable::start(folder.path(), &bootstrap).await;
    let (one, two) = (client(&node, daemon.address).await, client(&node, daemon.address).await);

    // Two programs with different wishes.
    let log = one.ask("open", json!({ "core": "log", "name": "log" })).await;
    one.ask("append", json!({ "core": "log", "blocks": ["68656c6c6f"] })).await;
    let topic = &log["discoveryKey"];
    assert_eq!(one.ask("networkStatus", json!({ "topic": topic })).await, Value::Null, "opening is no wish");
    let wish = json!({ "topic": topic, "announce": true, "lookup": false, "remember": true, "flush": true });
    assert_eq!(one.ask("configure", wish).await, status(topic, true, false, true));
    let wish = json!({ "topic": topic, "announce": false, "lookup": true, "flush": true });
    assert_eq!(two.ask("configure", wish).await, status(topic, true, true, true));
    let wish = json!({ "topic": "07".repeat(32), "announce": true, "lookup": true });
    two.ask("configure", wish).await;
    assert_eq!(one.ask("allStatuses", json!({})).await.as_array().unwrap().len(), 2);
    two.kill().await;
    daemon.client_gone().await;
    assert_eq!(one.ask("networkStatus", json!({ "topic": topic })).await, status(topic, true, false, true));
    assert_eq!(one.ask("networkStatus", json!({ "topic": "07".repeat(32) })).await, Value::Null);
    let identity = one.ask("network", json!({})).await["publicKey"].clone();
    daemon.kill().await;
    one.kill().await;

    let daemon = Killable::start(folder.path(), &bootstrap).await;
    let three = client(&node, daemon.address).await;
    assert_eq!(three.ask("network", json!({})).await["publicKey"], identity);
    let statuses = three.ask("allStatuses", json!({})).await;
    assert_eq!(statuses, json!([status(topic, true, false, true)]));

    // A program at another daemon reads what is announced again.
    let reading = Server::start(options(Corestore::memory(), &bootstrap)).await.unwrap();
    let reader = client(&node, reading.rpc_address().unwrap()).await;
    reader.ask("open", json!({ "core": "log", "key": log["key"] })).await;
    let read = async {
        loop {
            reader.ask("configure", json!({ "topic": topic, "announce": false, "lookup": true })).await;
            // Announcing may take longer than being here.
            match reader.call("get", json!({ "core": "log", "seq": 0 })).await {
                Ok(block) => break assert_eq!(block, "68656c6c6f"),
                Err(error) => assert_eq!(error.message, "Block not available from peers"),
            }
        }
    };
    within("the block", read).await;
    let seen = peer(&reader).await;
    assert_eq!(seen["remotePublicKey"], identity);
    let seer = peer(&three).await;
    assert_eq!(seer["remotePublicKey"], reader.ask("network", json!({})).await["publicKey"]);

    // The two talk over the connection as a whole.
    for client in [&three, &reader] {
        client.ask("networkExtension", json!({ "name": "chat" })).await;
        client.ask("allStatuses", json!({})).await;
    }
    three.ask("networkExtensionSend", json!({ "name": "chat", "message": "6869" })).await;
    let heard = reader.event("network-extension").await;
    assert_eq!((&heard["message"], &heard["peer"]), (&json!("6869"), &seen));
    let to = &identity;
    reader.ask("networkExtensionSend", json!({ "name": "chat", "message": "796f", "to": to })).await;
    let heard = three.event("network-extension").await;
    assert_eq!((&heard["message"], &heard["peer"]), (&json!("796f"), &seer));
    three.ask("networkExtensionDestroy", json!({ "name": "chat" })).await;
    three.ask("allStatuses", json!({})).await;
    let message = json!({ "name": "chat", "message": "6e6f626f6479" });
    reader.ask("networkExtensionSend", message).await;

    reader.close().await;
    reading.stop().await;
    assert_eq!(three.event("network-peer-remove").await["peer"], seer);
    assert!(three.events("network-extension").is_empty());
    // Forgotten, also by the daemon after this one.
    let leave = json!({ "topic": topic, "announce": false, "lookup": false, "flush": true });
    assert_eq!(three.ask("configure", leave).await, Value::Null);
    daemon.kill().await;
    three.kill().await;
    let daemon = Killable::start(folder.path(), &bootstrap).await;
    let four = client(&node, daemon.address).await;
    assert_eq!(four.ask("allStatuses", json!({})).await, json!([]));
    four.close().await;
    daemon.kill().await;
    dht.close().await;
}

/// A program with npm packages of today has no such extensions, and replicates all the same.
#[tokio::test(flavor = "multi_thread")]
async fn npm_peers_of_today_reject_the_extensions_and_replicate() {
    let Some(node) = Node::find().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(ServerOptions {
        rpc_listen: Some("127.0.0.1:0".into()),
        peer_listen: Some("127.0.0.1:0".into()),
        ..ServerOptions::default()
    })
    .await
    .unwrap();
    let old = client(&node, server.rpc_address().unwrap()).await;
    let npm = node.peer(folder.path().join("peer")).await;
    old.ask("networkExtension", json!({ "name": "chat" })).await;
    let log = npm.ask("open", json!({ "core": "log", "name": "log" })).await;
    npm.ask("generate", json!({ "core": "log", "count": 50, "size": 40 })).await;
    npm.ask("connect", json!({ "port": server.peer_address().unwrap().port() })).await;
    let seen = peer(&old).await;
    old.ask("networkExtensionSend", json!({ "name": "chat", "message": "6869" })).await;
    old.ask("open", json!({ "core": "log", "key": log["key"] })).await;
    old.ask("waitLength", json!({ "core": "log", "length": 50 })).await;
    old.ask("networkExtensionSend", json!({ "name": "chat", "message": "6869" })).await;
    old.ask("get", json!({ "core": "log", "seq": 49 })).await;
    npm.ask("cut", json!({})).await;
    assert_eq!(old.event("network-peer-remove").await["peer"], seen);
    old.close().await;
    npm.close().await;
    server.stop().await;
}
