//! Blind relays: npm's for our peers, ours for npm's.

use bytes::Bytes;
use hyperdht::relay::{RelayLimits, RelayService};
use hyperdht::{ConnectOptions, KeyPair, ServerOptions};
use interop::{Node, json, within};

use crate::{Net, hex, key};

/// Options that leave nothing but the relay: no local network, no holes.
fn relayed_client(relay: [u8; 32]) -> ConnectOptions {
    ConnectOptions {
        relay_through: vec![relay],
        local_connection: false,
        holepunch: Some(std::sync::Arc::new(|_| false)),
        ..ConnectOptions::default()
    }
}

fn closed_server() -> ServerOptions {
    ServerOptions { share_local_address: false, never_punch: true, ..ServerOptions::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn our_peers_meet_at_an_npm_relay() {
    let Some(node) = Node::find().await else { return };
    let net = Net::of_ours(&node, 4).await;
    net.js_node("relay", false).await;
    let relay = key(&net.peer.ask("relay", json!({ "node": "relay", "server": "relay" })).await);
    let (here, there) = (net.shy_node().await, net.shy_node().await);
    let key_pair = KeyPair::generate();
    let server = here.create_server(closed_server());
    within("announcing", server.listen(key_pair.clone())).await.unwrap();
    let mut out = within("meeting", there.connect(key_pair.public, relayed_client(relay))).await.unwrap();
    within("sending", out.send(Bytes::from_static(b"through"))).await.unwrap();
    let mut back = within("accepting", server.accept()).await.unwrap();
    assert_eq!(within("a message", back.recv()).await.unwrap().unwrap(), "through");
    within("sending", back.send(Bytes::from_static(b"and back"))).await.unwrap();
    assert_eq!(within("a message", out.recv()).await.unwrap().unwrap(), "and back");
    net.peer.event("pair").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_peers_meet_at_our_relay() {
    let Some(node) = Node::find().await else { return };
    let net = Net::of_ours(&node, 4).await;
    let third = net.node().await;
    let service =
        within("announcing", RelayService::listen(&third, KeyPair::generate(), RelayLimits::default()))
            .await
            .unwrap();
    let relay = hex(&service.public_key().unwrap());
    net.shy_js_node("server").await;
    net.shy_js_node("client").await;
    let options = json!({ "holepunch": false, "shareLocalAddress": false });
    let args = json!({ "node": "server", "server": "s", "options": options, "relayThrough": relay });
    let public_key = net.peer.ask("listen", args).await;
    let options = json!({ "localConnection": false, "fastOpen": false });
    let args = json!({ "node": "client", "socket": "c", "publicKey": public_key, "options": options });
    net.peer.ask("connect", args).await;
    net.peer.ask("send", json!({ "socket": "c", "data": "aabb" })).await;
    assert_eq!(net.peer.event("data").await["data"], "aabb");
    let stats = service.stats();
    assert_eq!((stats.sessions, stats.waiting, stats.pairs), (2, 0, 1));
}
