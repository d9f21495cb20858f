//! The unmodified Node client (npm `@hyperspace/client` 1.18) on our daemon.

use std::path::Path;

use hyperspace_client::HyperspaceClient;
use hyperspace_common::Endpoint;
use hyperspace_server::{Server, ServerOptions};
use interop::{Node, Peer, hex, json, key, pattern, within};
use tokio::io::AsyncBufReadExt;

/// A daemon on the socket that clients with this folder for their temporary files call `test`.
async fn daemon(folder: &Path) -> Server {
    let options = ServerOptions {
        socket: Some(folder.join("test.sock")),
        rpc_listen: Some("127.0.0.1:0".into()),
        peer_listen: Some("127.0.0.1:0".into()),
        ..ServerOptions::default()
    };
    Server::start(options).await.unwrap()
}

async fn over_tcp(node: &Node, server: &Server) -> Peer {
    let address = server.rpc_address().unwrap();
    node.run("js-old/client.js", [address.ip().to_string(), address.port().to_string()]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_programs_rely_on_holds() {
    let Some(node) = Node::find().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = daemon(folder.path()).await;
    let mut command = tokio::process::Command::from(node.command("js-old/session.js", ["test"]));
    let output = within("the session", command.env("TMPDIR", folder.path()).output()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.trim_end().ends_with("checks"), "{said}");
    server.stop().await;
}

/// Where a token is wanted, a program hands the client a stream that has shown one: the rest is the same.
#[tokio::test(flavor = "multi_thread")]
async fn what_programs_rely_on_holds_over_tcp_and_websocket_with_a_token() {
    let Some(node) = Node::find().await else { return };
    let token = "0123456789abcdef0123456789abcdef";
    let options = ServerOptions {
        rpc_listen: Some("127.0.0.1:0".into()),
        ws_listen: Some("127.0.0.1:0".into()),
        tokens: vec![token.parse().unwrap()],
        ..ServerOptions::default()
    };
    let server = Server::start(options).await.unwrap();
    for url in
        [format!("tcp://{}", server.rpc_address().unwrap()), format!("ws://{}", server.ws_address().unwrap())]
    {
        let mut command = tokio::process::Command::from(node.command("js-old/session.js", [&url[..], token]));
        // Node 22 has WebSocket without that.
        let command = command.env("NODE_OPTIONS", "--experimental-websocket");
        let output = within("the session", command.output()).await.unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{url}: {said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.trim_end().ends_with("checks"), "{url}: {said}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_opens_appends_reads_and_sees_events() {
    let Some(node) = Node::find().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = daemon(folder.path()).await;
    let (client, other) = (over_tcp(&node, &server).await, over_tcp(&node, &server).await);

    let opened = client.ask("open", json!({ "core": "log", "name": "log" })).await;
    assert_eq!((&opened["writable"], &opened["length"]), (&json!(true), &json!(0)));
    other.ask("open", json!({ "core": "log", "key": opened["key"] })).await;
    let appended = client.ask("append", json!({ "core": "log", "blocks": ["6161", "62", ""] })).await;
    assert_eq!(appended["seq"], 0);
    for client in [&client, &other] {
        let event = client.event("append").await;
        assert_eq!((&event["length"], &event["byteLength"]), (&json!(3), &json!(3)));
        assert_eq!(client.ask("get", json!({ "core": "log", "seq": 0 })).await, "6161");
    }
    assert_eq!(other.ask("seek", json!({ "core": "log", "byteOffset": 2 })).await["seq"], 1);
    assert_eq!(other.ask("has", json!({ "core": "log", "seq": 3 })).await, false);

    let missing = client.call("get", json!({ "core": "log", "seq": 9, "watch": true })).await.unwrap_err();
    assert_eq!(missing.message, "Block not available from peers");
    assert_eq!(client.event("wait").await["seq"], 9);
    let large = "00".repeat(8_388_609);
    let refused = client.call("append", json!({ "core": "log", "blocks": [large] })).await.unwrap_err();
    assert_eq!(refused.message, "Individual blocks has be less than 8MB");

    client.ask("closeCore", json!({ "core": "log" })).await;
    client.close().await;
    other.close().await;
    server.stop().await;
}

/// Our client with the Node daemon: what its RPC can say works, the rest is refused here.
#[tokio::test(flavor = "multi_thread")]
async fn the_rust_client_works_with_the_node_daemon() {
    let Some(node) = Node::find().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let storage = folder.path().join("store").display().to_string();
    let mut command = node.command("js-old/server.js", [storage, "rust".into()]);
    command.env("TMPDIR", folder.path()).stdin(std::process::Stdio::piped());
    let mut daemon = tokio::process::Command::from(command)
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = tokio::io::BufReader::new(daemon.stdout.take().unwrap()).lines();
    assert!(within("the daemon", lines.next_line()).await.unwrap().unwrap().contains("ready"));
    let socket = Endpoint::Socket(folder.path().join("rust.sock"));
    let client = HyperspaceClient::connect_to(&socket).await.unwrap();
    let log = client.corestore().get_by_name("log").await.unwrap();
    log.append_blocks(&["hello".into(), "world".into()]).await.unwrap();
    assert_eq!((log.length(), log.byte_length(), log.fork()), (2, 10, 0));
    assert_eq!(log.get(1).await.unwrap(), "world");
    assert_eq!(log.seek(7).await.unwrap(), (1, 2));
    let lock = log.lock().await.unwrap();
    lock.release().await.unwrap();
    let error = log.truncate(1, None).await.unwrap_err();
    assert!(error.to_string().contains("no words"), "{error}");
    assert!(client.corestore().namespace("x").get_by_name("y").await.is_err());
    assert!(client.status().await.unwrap().api_version.starts_with("1.15"));
    daemon.kill().await.unwrap();
}

/// An npm peer of today writes, and a program of then reads it through our daemon.
#[tokio::test(flavor = "multi_thread")]
async fn it_reads_what_an_npm_peer_writes() {
    let Some(node) = Node::find().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = daemon(folder.path()).await;
    let writer = node.peer(folder.path().join("writer")).await;
    let client = over_tcp(&node, &server).await;

    let log = writer.ask("open", json!({ "core": "log", "name": "log" })).await;
    writer.ask("generate", json!({ "core": "log", "count": 50, "size": 40 })).await;
    let opened = client.ask("open", json!({ "core": "log", "key": log["key"] })).await;
    assert_eq!(key(&opened), key(&log));
    assert_eq!(opened["writable"], false);

    let port = server.peer_address().unwrap().port();
    writer.ask("connect", json!({ "port": port })).await;
    let peer = client.event("peer-open").await["peer"].clone();
    assert_eq!(peer["remotePublicKey"].as_str().map(str::len), Some(64));
    client.ask("waitLength", json!({ "core": "log", "length": 50 })).await;
    let block = client.ask("get", json!({ "core": "log", "seq": 49 })).await;
    assert_eq!(block, hex(pattern::block(49, 40, 0)));

    writer.ask("generate", json!({ "core": "log", "count": 1, "size": 40 })).await;
    client.ask("waitLength", json!({ "core": "log", "length": 51 })).await;
    let block = client.ask("get", json!({ "core": "log", "seq": 50 })).await;
    assert_eq!(block, hex(pattern::block(50, 40, 0)));

    // And the other way: what the program writes, the npm peer reads.
    let written = client.ask("open", json!({ "core": "mine", "name": "mine" })).await;
    client.ask("append", json!({ "core": "mine", "blocks": ["68656c6c6f"] })).await;
    writer.ask("open", json!({ "core": "mine", "key": written["key"] })).await;
    assert_eq!(writer.ask("get", json!({ "core": "mine", "index": 0 })).await, "68656c6c6f");

    writer.ask("cut", json!({})).await;
    assert_eq!(client.event("peer-remove").await["peer"], peer);
    client.close().await;
    writer.close().await;
    server.stop().await;
}

/// Three programs of the Node daemon's day take turns, one of them dies with the lock.
#[tokio::test(flavor = "multi_thread")]
async fn locks_go_round_and_survive_a_death() {
    let Some(node) = Node::find().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = daemon(folder.path()).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = over_tcp(&node, &server).await;
        client.ask("open", json!({ "core": "log", "name": "log" })).await;
        clients.push(client);
    }
    let (one, two) = (&clients[0], &clients[1]);
    one.ask("lock", json!({ "core": "log" })).await;
    one.ask("append", json!({ "core": "log", "blocks": ["61"] })).await;
    let (_, described) = tokio::join!(one.ask("unlock", json!({ "core": "log" })), async {
        two.ask("lock", json!({ "core": "log" })).await;
        two.ask("describe", json!({ "core": "log" })).await
    });
    assert_eq!(described["length"], 1, "what was appended under the lock is known to the next");
    let dying = clients.remove(1);
    gets_it_when_the_holder_dies(&clients[1], dying).await;
    clients[1].ask("unlock", json!({ "core": "log" })).await;
    clients[0].ask("lock", json!({ "core": "log" })).await;
    for client in clients {
        client.close().await;
    }
    server.stop().await;
}

async fn gets_it_when_the_holder_dies(waiting: &Peer, dying: Peer) {
    tokio::join!(waiting.ask("lock", json!({ "core": "log" })), dying.kill());
}

/// Messages of an extension between programs of two daemons and an npm peer of today.
#[tokio::test(flavor = "multi_thread")]
async fn extension_messages_go_both_ways() {
    let Some(node) = Node::find().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let server = daemon(folder.path()).await;
    let peer = node.peer(folder.path().join("peer")).await;
    let (one, two) = (over_tcp(&node, &server).await, over_tcp(&node, &server).await);
    let opened = one.ask("open", json!({ "core": "log", "name": "log" })).await;
    for other in [&two, &peer] {
        other.ask("open", json!({ "core": "log", "key": opened["key"] })).await;
    }
    for all in [&one, &two, &peer] {
        all.ask("extension", json!({ "core": "log", "name": "chat" })).await;
    }
    peer.ask("connect", json!({ "port": server.peer_address().unwrap().port() })).await;
    let who = one.event("peer-open").await["peer"].clone();
    two.event("peer-open").await;
    peer.event("peer-add").await;

    peer.ask("extensionSend", json!({ "core": "log", "name": "chat", "message": "6869" })).await;
    for client in [&one, &two] {
        let heard = client.event("extension").await;
        assert_eq!((&heard["message"], &heard["peer"]), (&json!("6869"), &who), "every client hears it");
    }
    one.ask("extensionSend", json!({ "core": "log", "name": "chat", "message": "61" })).await;
    let to = who["remotePublicKey"].clone();
    two.ask("extensionSend", json!({ "core": "log", "name": "chat", "message": "62", "to": to })).await;
    let mut heard = [peer.event("extension").await, peer.event("extension").await];
    heard.sort_by_key(|event| event["message"].to_string());
    assert_eq!((&heard[0]["message"], &heard[1]["message"]), (&json!("61"), &json!("62")));

    two.ask("extensionDestroy", json!({ "core": "log", "name": "chat" })).await;
    two.ask("describe", json!({ "core": "log" })).await;
    peer.ask("extensionSend", json!({ "core": "log", "name": "chat", "message": "63" })).await;
    assert_eq!(one.event("extension").await["message"], "63");
    assert!(two.events("extension").is_empty());
    for all in [one, two, peer] {
        all.close().await;
    }
    server.stop().await;
}
