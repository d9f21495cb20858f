//! What Node programs build on the daemon: npm hyperdrive 10, hypertrie 5 and hyperbee 1 on the unmodified Node client.
//! One program writes at one daemon, another one reads at a second, and the daemons find each other in a DHT of ours.

use std::net::Ipv4Addr;

use hyperdht::HyperDht;
use hyperspace_server::{NetworkOptions, Server, ServerOptions};
use interop::{Node, Peer, Value, json, within};

/// Two daemons in a network of their own, with a program at each.
struct Pair {
    dht: HyperDht,
    servers: [Server; 2],
    writer: Peer,
    reader: Peer,
}

impl Pair {
    async fn start(node: &Node) -> Self {
        let dht = HyperDht::bootstrapper((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
        let bootstrap = vec![dht.local_address().to_string()];
        let servers = [daemon(&bootstrap).await, daemon(&bootstrap).await];
        let (writer, reader) = tokio::join!(program(node, &servers[0]), program(node, &servers[1]));
        Self { dht, servers, writer, reader }
    }

    async fn stop(self) {
        self.writer.close().await;
        self.reader.close().await;
        for server in self.servers {
            within("a daemon ends", server.stop()).await;
        }
        self.dht.close().await;
    }
}

async fn daemon(bootstrap: &[String]) -> Server {
    let network = NetworkOptions {
        address: Some((Ipv4Addr::LOCALHOST, 0).into()),
        bootstrap: Some(bootstrap.to_vec()),
        ..NetworkOptions::default()
    };
    let options = ServerOptions {
        rpc_listen: Some("127.0.0.1:0".into()),
        network: Some(network),
        ..ServerOptions::default()
    };
    Server::start(options).await.unwrap()
}

async fn program(node: &Node, server: &Server) -> Peer {
    let address = server.rpc_address().unwrap();
    node.run("js-hyperspace/programs.js", [address.ip().to_string(), address.port().to_string()]).await
}

const FILES: u64 = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_a_thousand_files_goes_from_drive_to_drive() {
    let Some(node) = Node::find().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::start(&node).await;

    let generate = json!({ "folder": folder.path(), "count": FILES });
    let written = pair.writer.ask("generate", generate).await;
    assert_eq!(written["files"], FILES);
    let drive = pair.writer.ask("importDrive", json!({ "folder": folder.path() })).await;

    let read = pair.reader.ask("readDrive", json!({ "key": drive["key"] })).await;
    for what in ["files", "bytes", "digest"] {
        assert_eq!(read[what], written[what], "{what}");
    }
    assert_eq!(read["version"], drive["version"]);

    // File 7 has more than a MiB; the part lies across its blocks.
    let part = json!({ "key": drive["key"], "index": 7, "start": 60_000, "end": 600_001 });
    let part = pair.reader.ask("readPart", part).await;
    assert_eq!(part, json!({ "length": 540_001, "size": (1 << 20) + 97 * 7, "same": true }));

    let changed = pair.writer.ask("changeDrive", json!({ "key": drive["key"] })).await;
    assert_eq!(changed["before"], drive["version"]);
    let since = json!({ "key": drive["key"], "version": drive["version"] });
    let at_writer = pair.writer.ask("diffDrive", since.clone()).await;
    let reached = json!({ "key": drive["key"], "version": changed["after"] });
    pair.reader.ask("waitVersion", reached).await;
    let at_reader = pair.reader.ask("diffDrive", since).await;
    assert_eq!(at_writer, at_reader);
    assert_eq!(at_reader["link"], "written later");
    assert_eq!(at_reader["oldWasRight"], true);
    pair.stop().await;
}

const ENTRIES: u64 = 2000;

/// Writes at one daemon, and compares what a program there sees with what one at the other daemon does.
async fn written_and_read(kind: &str) -> Option<(Value, Value)> {
    let node = Node::find().await?;
    let pair = Pair::start(&node).await;
    let written = pair.writer.ask(&format!("write{kind}"), json!({ "count": ENTRIES })).await;
    let read = format!("read{kind}");
    let at_writer = pair.writer.ask(&read, written.clone()).await;
    let at_reader = pair.reader.ask(&read, written.clone()).await;
    assert_eq!(at_writer, at_reader);
    pair.stop().await;
    Some((written, at_reader))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trie_is_read_through_another_daemon() {
    let Some((_, trie)) = written_and_read("Trie").await else { return };
    assert_eq!((&trie["count"], &trie["under"]), (&json!(ENTRIES * 4 / 5), &json!(ENTRIES / 10)));
    assert_eq!((&trie["got"], &trie["gone"]), (&json!({ "value": 13 }), &json!(null)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_is_read_through_another_daemon() {
    let Some((_, bee)) = written_and_read("Bee").await else { return };
    assert_eq!((&bee["count"], &bee["deleted"]), (&json!(ENTRIES * 9 / 10), &json!(ENTRIES / 10)));
    assert_eq!(bee["range"].as_array().unwrap().len(), 90);
    assert_eq!((&bee["got"], &bee["gone"]), (&json!({ "value": 12 }), &json!(null)));
}
