//! npm clients and our servers, our clients and npm servers.

use bytes::Bytes;
use hyperdht::{
    ConnectError, ConnectOptions, Connection, FirewallRequest, HyperDht, KeyPair, Server, ServerOptions,
};
use interop::{Node, json, within};

use crate::{Net, hex, key};

async fn serve(node: &HyperDht, options: ServerOptions) -> (Server, [u8; 32]) {
    let server = node.create_server(options);
    let key_pair = KeyPair::generate();
    within("our server announces", server.listen(key_pair.clone())).await.unwrap();
    (server, key_pair.public)
}

async fn dial(node: &HyperDht, key: [u8; 32]) -> Result<Connection, ConnectError> {
    within("our client connects", node.connect(key, ConnectOptions::default())).await
}

async fn recv(connection: &mut Connection) -> Bytes {
    within("a message", connection.recv()).await.unwrap().unwrap()
}

async fn js_client_to_our_server(net: &Net, older: bool) {
    let node = net.node().await;
    let (server, public_key) = serve(&node, ServerOptions::default()).await;
    let client = net.js_node("client", older).await;
    // Several, one after the other: also the second finds the server.
    for round in 0..3 {
        let name = format!("c{round}");
        net.peer
            .ask("connect", json!({ "node": "client", "socket": name, "publicKey": hex(&public_key) }))
            .await;
        net.peer.ask("send", json!({ "socket": name, "data": "01020304" })).await;
        let mut here = within("an npm client", server.accept()).await.unwrap();
        assert_eq!(here.remote_public_key(), &client);
        assert!(!here.is_initiator());
        assert_eq!(recv(&mut here).await, [1, 2, 3, 4][..]);
        within("sending", here.send(Bytes::from_static(b"answer"))).await.unwrap();
        let opened = net.peer.event("open").await;
        assert_eq!(key(&opened["remotePublicKey"]), public_key);
        assert_eq!(opened["hash"], hex(here.handshake_hash()));
        assert_eq!(net.peer.event("data").await["data"], hex(b"answer"));
        net.peer.ask("end", json!({ "socket": name })).await;
        assert!(within("the end", here.recv()).await.is_none());
        within("our end", futures::SinkExt::close(&mut here)).await.unwrap();
        let closed = net.peer.event("close").await;
        assert!(closed["error"].is_null(), "{closed}");
    }
    within("our server unannounces", server.close()).await;
    net.peer
        .ask("connect", json!({ "node": "client", "socket": "late", "publicKey": hex(&public_key) }))
        .await;
    let closed = net.peer.event_where("close", |event| event["socket"] == "late").await;
    assert_eq!(closed["error"], "PEER_NOT_FOUND");
}

async fn our_client_to_js_server(net: &Net, older: bool) {
    net.js_node("server", older).await;
    let public_key = key(&net.peer.ask("listen", json!({ "node": "server", "server": "s" })).await);
    let node = net.node().await;
    for round in 0..3u8 {
        let mut there = dial(&node, public_key).await.unwrap();
        assert_eq!(there.remote_public_key(), &public_key);
        for message in [vec![round; 5], vec![7; 100_000]] {
            within("sending", there.send(Bytes::from(message.clone()))).await.unwrap();
            assert_eq!(recv(&mut there).await, message);
        }
        within("our end", futures::SinkExt::close(&mut there)).await.unwrap();
        assert!(within("the end", there.recv()).await.is_none());
        let closed = net.peer.event("close").await;
        assert!(closed["error"].is_null(), "{closed}");
    }
    net.peer.ask("unlisten", json!({ "server": "s" })).await;
    let gone = dial(&net.node().await, public_key).await;
    assert_eq!(gone.unwrap_err(), ConnectError::PeerNotFound);
}

async fn firewalls(net: &Net) {
    // Ours turns an npm client away, another gets through.
    let (denied, welcome) = (net.js_node("denied", false).await, net.js_node("welcome", false).await);
    let node = net.node().await;
    let firewall = move |request: FirewallRequest| {
        let deny = request.remote_public_key == denied;
        Box::pin(async move { deny }) as futures::future::BoxFuture<'static, bool>
    };
    let options = ServerOptions { firewall: Some(std::sync::Arc::new(firewall)), ..ServerOptions::default() };
    let (server, public_key) = serve(&node, options).await;
    for name in ["denied", "welcome"] {
        net.peer.ask("connect", json!({ "node": name, "socket": name, "publicKey": hex(&public_key) })).await;
    }
    let here = within("the welcome client", server.accept()).await.unwrap();
    assert_eq!(here.remote_public_key(), &welcome);
    let refused = net.peer.event_where("close", |event| event["socket"] == "denied").await;
    assert_eq!(refused["error"], "PEER_CONNECTION_FAILED");
    drop(here);

    // npm's turns our client away.
    let (bad, good) = (KeyPair::generate(), KeyPair::generate());
    let args = json!({ "node": "welcome", "server": "picky", "deny": [hex(&bad.public)] });
    let public_key = key(&net.peer.ask("listen", args).await);
    let options =
        |pair: &KeyPair| ConnectOptions { key_pair: Some(pair.clone()), ..ConnectOptions::default() };
    let refused = within("a refusal", node.connect(public_key, options(&bad))).await;
    assert_eq!(refused.unwrap_err(), ConnectError::PeerConnectionFailed);
    let there = within("a welcome", node.connect(public_key, options(&good))).await.unwrap();
    assert_eq!(there.public_key(), &good.public);
}

#[tokio::test(flavor = "multi_thread")]
async fn js_client_connects_to_our_server_in_a_js_network() {
    let Some(node) = Node::find().await else { return };
    js_client_to_our_server(&Net::of_npm(&node, 4, false).await, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_connects_to_a_js_server_in_a_js_network() {
    let Some(node) = Node::find().await else { return };
    our_client_to_js_server(&Net::of_npm(&node, 4, false).await, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn js_client_connects_to_our_server_in_our_network() {
    let Some(node) = Node::find().await else { return };
    js_client_to_our_server(&Net::of_ours(&node, 4).await, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn our_client_connects_to_a_js_server_in_our_network() {
    let Some(node) = Node::find().await else { return };
    our_client_to_js_server(&Net::of_ours(&node, 4).await, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn older_js_peers_in_older_and_our_networks() {
    let Some(node) = Node::find().await else { return };
    js_client_to_our_server(&Net::of_npm(&node, 4, true).await, true).await;
    our_client_to_js_server(&Net::of_npm(&node, 4, true).await, true).await;
    js_client_to_our_server(&Net::of_ours(&node, 4).await, true).await;
    our_client_to_js_server(&Net::of_ours(&node, 4).await, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_js_peers_meet_through_our_nodes() {
    let Some(node) = Node::find().await else { return };
    let net = Net::of_ours(&node, 4).await;
    net.js_node("server", false).await;
    net.js_node("client", true).await;
    let public_key = net.peer.ask("listen", json!({ "node": "server", "server": "s" })).await;
    net.peer.ask("connect", json!({ "node": "client", "socket": "c", "publicKey": public_key })).await;
    net.peer.ask("send", json!({ "socket": "c", "data": "0a0b" })).await;
    assert_eq!(net.peer.event("data").await["data"], "0a0b");
}

#[tokio::test(flavor = "multi_thread")]
async fn firewalls_turn_callers_away() {
    let Some(node) = Node::find().await else { return };
    firewalls(&Net::of_ours(&node, 4).await).await;
}
