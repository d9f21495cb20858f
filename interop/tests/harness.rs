//! The harness proven on itself: two npm peers that replicate with each other, so that what fails against the Rust crates
//! is theirs.

use interop::{Node, Relay, hex, json, pattern};

const COUNT: u64 = 500;
const SIZE: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn two_npm_peers_replicate() {
    let Some(node) = Node::find().await else { return };
    let folders = tempfile::tempdir().unwrap();
    let writer = node.peer(folders.path().join("writer")).await;
    let reader = node.peer(folders.path().join("reader")).await;

    let core = writer.ask("open", json!({ "core": "log", "name": "log" })).await;
    writer.ask("generate", json!({ "core": "log", "count": COUNT, "size": SIZE })).await;
    let opened = reader.ask("open", json!({ "core": "log", "key": core["key"] })).await;
    assert_eq!(opened["discoveryKey"], core["discoveryKey"]);
    assert_eq!(opened["writable"], false);

    let port = writer.ask("listen", json!({})).await["port"].clone();
    reader.ask("connect", json!({ "port": port })).await;
    reader.ask("waitLength", json!({ "core": "log", "length": COUNT })).await;
    let digest = reader.ask("digest", json!({ "core": "log" })).await;
    assert_eq!(digest["digest"], pattern::digest(0, COUNT, SIZE, 0));

    let (written, read) =
        (writer.ask("info", json!({ "core": "log" })), reader.ask("info", json!({ "core": "log" })));
    let (written, read) = tokio::join!(written, read);
    assert_eq!(written["treeHash"], read["treeHash"]);
    assert_eq!(written["signature"], read["signature"]);
    assert_eq!(read["downloaded"], COUNT);

    reader.ask("extension", json!({ "core": "log", "name": "hello" })).await;
    writer.ask("extension", json!({ "core": "log", "name": "hello" })).await;
    writer.ask("extensionSend", json!({ "core": "log", "name": "hello", "message": "c0ffee" })).await;
    assert_eq!(reader.event("extension").await["message"], "c0ffee");

    writer.ask("truncate", json!({ "core": "log", "length": 10 })).await;
    writer.ask("append", json!({ "core": "log", "blocks": ["61", "62"] })).await;
    reader.ask("waitFork", json!({ "core": "log", "fork": 1 })).await;
    reader.ask("waitLength", json!({ "core": "log", "length": 12 })).await;
    assert_eq!(reader.ask("get", json!({ "core": "log", "index": 11 })).await, "62");

    tokio::join!(writer.close(), reader.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_peers_of_hypercore_10_replicate() {
    let Some(node) = Node::find().await else { return };
    let folders = tempfile::tempdir().unwrap();
    let writer = node.peer10(folders.path().join("writer")).await;
    let reader = node.peer(folders.path().join("reader")).await;

    let core = writer.ask("open", json!({ "core": "log", "name": "log" })).await;
    assert_eq!(core["key"], core["publicKey"], "a plain core's key is the public key");
    writer.ask("generate", json!({ "core": "log", "count": COUNT, "size": SIZE })).await;
    reader.ask("open", json!({ "core": "log", "key": core["key"] })).await;

    let port = reader.ask("listen", json!({})).await["port"].clone();
    writer.ask("connect", json!({ "port": port })).await;
    reader.ask("waitLength", json!({ "core": "log", "length": COUNT })).await;
    let digest = reader.ask("digest", json!({ "core": "log" })).await;
    assert_eq!(digest["digest"], pattern::digest(0, COUNT, SIZE, 0));
    tokio::join!(writer.close(), reader.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_cuts_and_a_new_connection_resumes() {
    let Some(node) = Node::find().await else { return };
    let folders = tempfile::tempdir().unwrap();
    let writer = node.peer(folders.path().join("writer")).await;
    let reader = node.peer(folders.path().join("reader")).await;

    let core = writer.ask("open", json!({ "core": "log", "name": "log" })).await;
    writer.ask("generate", json!({ "core": "log", "count": COUNT, "size": 1000 })).await;
    reader.ask("open", json!({ "core": "log", "key": core["key"] })).await;
    let port = writer.ask("listen", json!({})).await["port"].as_u64().unwrap();
    let relay = Relay::new(port.try_into().unwrap(), [100_000]).await;

    reader.ask("connect", json!({ "port": relay.port() })).await;
    reader.ask("waitLength", json!({ "core": "log", "length": COUNT })).await;
    let digest = reader.ask("digest", json!({ "core": "log" }));
    let resumed = async {
        reader.event("disconnect").await;
        reader.ask("connect", json!({ "port": relay.port() })).await;
    };
    let (digest, ()) = tokio::join!(digest, resumed);
    assert_eq!(digest["digest"], pattern::digest(0, COUNT, 1000, 0));
    assert_eq!(relay.cuts(), 1);
    let read = reader.ask("info", json!({ "core": "log" })).await;
    assert_eq!(read["downloaded"], COUNT, "nothing is fetched twice");
    tokio::join!(writer.close(), reader.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_with_several_signers_replicates() {
    let Some(node) = Node::find().await else { return };
    let folders = tempfile::tempdir().unwrap();
    let writer = node.peer(folders.path().join("writer")).await;
    let reader = node.peer(folders.path().join("reader")).await;

    let seeds = ["11".repeat(32), "22".repeat(32)];
    let mut signers = Vec::new();
    for seed in &seeds {
        let core = writer.ask("open", json!({ "core": seed, "seed": seed })).await;
        signers.push(json!({ "publicKey": core["publicKey"] }));
    }
    writer.ask("generate", json!({ "core": seeds[0], "count": 7, "size": SIZE })).await;
    let manifest = json!({ "version": 1, "quorum": 2, "allowPatch": true, "signers": signers });
    let core = writer.ask("open", json!({ "core": "both", "manifest": manifest })).await;

    // The second signer has signed two blocks more: a patch leads from the appended tree to its own.
    let cosigned = writer
        .ask(
            "cosign",
            json!({ "core": "both", "draft": seeds[0], "length": 5, "signers": [
                { "index": 0, "seed": seeds[0] },
                { "index": 1, "seed": seeds[1], "length": 7 },
            ] }),
        )
        .await;
    let blocks: Vec<String> = (0..5).map(|index| hex(pattern::block(index, SIZE, 0))).collect();
    let signature = &cosigned["signature"];
    writer.ask("append", json!({ "core": "both", "blocks": blocks, "signature": signature })).await;

    reader.ask("open", json!({ "core": "both", "key": core["key"] })).await;
    let port = writer.ask("listen", json!({})).await["port"].clone();
    reader.ask("connect", json!({ "port": port })).await;
    reader.ask("waitLength", json!({ "core": "both", "length": 5 })).await;
    let digest = reader.ask("digest", json!({ "core": "both" })).await;
    assert_eq!(digest["digest"], pattern::digest(0, 5, SIZE, 0));
    tokio::join!(writer.close(), reader.close());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_client_works_on_the_node_daemon() {
    let Some(node) = Node::find().await else { return };
    let folder = tempfile::tempdir().unwrap();
    let socket = format!("hyperspace-interop-{}", std::process::id());
    let storage = folder.path().join("storage");
    let server = node.run("js-old/server.js", [storage.to_str().unwrap(), &socket]).await;
    let client = node.run("js-old/client.js", [&socket]).await;

    let core = client.ask("open", json!({ "core": "log", "name": "log" })).await;
    assert_eq!(core["writable"], true);
    client.ask("append", json!({ "core": "log", "blocks": ["6161", "62"] })).await;
    assert_eq!(client.event("append").await["length"], 2);
    assert_eq!(client.ask("get", json!({ "core": "log", "seq": 1 })).await, "62");
    let missing = client.call("get", json!({ "core": "log", "seq": 5, "watch": true })).await.unwrap_err();
    assert_eq!(missing.message, "Block not available from peers");
    assert_eq!(client.event("wait").await["seq"], 5);
    client.close().await;
    server.close().await;
}
