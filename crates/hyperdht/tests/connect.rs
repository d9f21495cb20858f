//! Nodes of one process connect to each other over loopback.

mod testnet;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use hyperdht::relay::{RelayLimits, RelayService};
use hyperdht::{
    ConnectError, ConnectOptions, Connection, DhtOptions, FirewallRequest, HyperDht, KeyPair, ListenError,
    Server, ServerOptions,
};
use testnet::{Testnet, within};

async fn serve(node: &HyperDht, options: ServerOptions) -> (Server, [u8; 32]) {
    let server = node.create_server(options);
    let key_pair = KeyPair::generate();
    within(server.listen(key_pair.clone())).await.unwrap();
    (server, key_pair.public)
}

async fn dial(node: &HyperDht, public_key: [u8; 32]) -> Result<Connection, ConnectError> {
    within(node.connect(public_key, ConnectOptions::default())).await
}

/// A message there and one back.
async fn talk(there: &mut Connection, here: &mut Connection) {
    within(there.send(Bytes::from_static(b"hello"))).await.unwrap();
    assert_eq!(within(here.recv()).await.unwrap().unwrap(), "hello");
    within(here.send(Bytes::from_static(b"world"))).await.unwrap();
    assert_eq!(within(there.recv()).await.unwrap().unwrap(), "world");
}

/// The server's half of a connection whose client has spoken.
async fn meet(there: &mut Connection, server: &Server) -> Connection {
    within(there.send(Bytes::from_static(b"knock"))).await.unwrap();
    let mut here = within(server.accept()).await.unwrap();
    assert_eq!(within(here.recv()).await.unwrap().unwrap(), "knock");
    here
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_connects_by_public_key_and_both_talk() {
    let net = Testnet::new(4).await;
    let (ours, theirs) = (net.node().await, net.node().await);
    let (server, public_key) = serve(&theirs, ServerOptions::default()).await;

    let mut there = dial(&ours, public_key).await.unwrap();
    assert_eq!(there.remote_public_key(), &public_key);
    let mut here = meet(&mut there, &server).await;
    assert_eq!(here.remote_public_key(), &ours.default_key_pair().public);
    assert_eq!(here.handshake_hash(), there.handshake_hash());
    talk(&mut there, &mut here).await;
    within(there.close()).await.unwrap();
    assert!(within(here.recv()).await.is_none());

    let unknown = dial(&ours, KeyPair::generate().public).await;
    assert_eq!(unknown.unwrap_err(), ConnectError::PeerNotFound);
    within(server.close()).await;
    assert!(within(server.accept()).await.is_none());
    assert_eq!(dial(&net.node().await, public_key).await.unwrap_err(), ConnectError::PeerNotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_messages_and_many_connections_at_once() {
    let net = Testnet::new(4).await;
    let theirs = net.node().await;
    let (server, public_key) = serve(&theirs, ServerOptions::default()).await;
    let echo = tokio::spawn(async move {
        while let Some(mut here) = server.accept().await {
            tokio::spawn(async move {
                while let Some(Ok(message)) = here.recv().await {
                    here.send(message).await.unwrap();
                }
            });
        }
    });
    let ours = net.node().await;
    let clients = (0..20u8).map(|n| {
        let ours = ours.clone();
        tokio::spawn(async move {
            let mut there = dial(&ours, public_key).await.unwrap();
            let message = Bytes::from(vec![n; 1_000_000]);
            within(there.send(message.clone())).await.unwrap();
            assert_eq!(within(there.recv()).await.unwrap().unwrap(), message);
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    echo.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_turns_callers_away() {
    let net = Testnet::new(3).await;
    let (bad, good) = (KeyPair::generate(), KeyPair::generate());
    let (asked, denied) = (Arc::new(AtomicUsize::new(0)), bad.public);
    let count = Arc::clone(&asked);
    let firewall = move |request: FirewallRequest| {
        count.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move { request.remote_public_key == denied })
            as futures::future::BoxFuture<'static, bool>
    };
    let options = ServerOptions { firewall: Some(Arc::new(firewall)), ..ServerOptions::default() };
    let (server, public_key) = serve(&net.node().await, options).await;
    let ours = net.node().await;
    let connect = |pair: KeyPair| {
        let options = ConnectOptions { key_pair: Some(pair), ..ConnectOptions::default() };
        within(ours.connect(public_key, options))
    };
    let (refused, welcome) = tokio::join!(connect(bad), connect(good.clone()));
    assert_eq!(refused.unwrap_err(), ConnectError::PeerConnectionFailed);
    let mut there = welcome.unwrap();
    assert_eq!(meet(&mut there, &server).await.remote_public_key(), &good.public);
    // Through however many nodes a handshake comes, the firewall is asked once for it.
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

/// Whether the node that relays is at the other end of the stream, with either of its sockets.
fn goes_through(relay: &HyperDht, connection: &Connection) -> bool {
    let sockets = [relay.rpc().client_socket(), relay.rpc().server_socket()];
    let ports = sockets.map(|socket| socket.local_addr().port());
    connection.remote_addr().is_some_and(|address| ports.contains(&address.port()))
}

#[tokio::test(flavor = "multi_thread")]
async fn two_meet_at_a_blind_relay() {
    let net = Testnet::new(4).await;
    let third = net.node().await;
    let service =
        within(RelayService::listen(&third, KeyPair::generate(), RelayLimits::default())).await.unwrap();
    let (ours, theirs) = (net.shy_node().await, net.shy_node().await);
    let options = ServerOptions { share_local_address: false, never_punch: true, ..ServerOptions::default() };
    let (server, public_key) = serve(&theirs, options).await;
    let options = ConnectOptions {
        relay_through: vec![service.public_key().unwrap()],
        local_connection: false,
        ..ConnectOptions::default()
    };
    let mut there = within(ours.connect(public_key, options)).await.unwrap();
    let mut here = meet(&mut there, &server).await;
    talk(&mut there, &mut here).await;
    let message = Bytes::from(vec![5; 2_000_000]);
    let (sent, got) = tokio::join!(there.send(message.clone()), within(here.recv()));
    sent.unwrap();
    assert_eq!(got.unwrap().unwrap(), message);
    let stats = service.stats();
    assert_eq!((stats.sessions, stats.waiting, stats.pairs), (2, 0, 1));
    assert!(goes_through(&third, &there));
    assert_eq!(theirs.status().relayed, [1, 1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_leaves_the_relay_when_a_hole_is_open() {
    let net = Testnet::new(4).await;
    let third = net.node().await;
    let service =
        within(RelayService::listen(&third, KeyPair::generate(), RelayLimits::default())).await.unwrap();
    // The way through the relay is kept for as long as anything may come there, which would be ten seconds.
    let relay_linger = Duration::from_millis(300);
    let options = || DhtOptions { quick_firewall: false, relay_linger, ..net.options() };
    let (ours, theirs) = (net.node_with(options()).await, net.node_with(options()).await);
    // The server says nothing about punching until the relay has joined the two.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let options = ServerOptions {
        share_local_address: false,
        holepunch: Some(Arc::new(move |_| {
            tokio::task::block_in_place(|| wait.lock().unwrap().recv().is_ok())
        })),
        ..ServerOptions::default()
    };
    let (server, public_key) = serve(&theirs, options).await;
    let options = ConnectOptions {
        relay_through: vec![service.public_key().unwrap()],
        local_connection: false,
        fast_open: false,
        ..ConnectOptions::default()
    };
    let mut there = within(ours.connect(public_key, options)).await.unwrap();
    let mut here = meet(&mut there, &server).await;
    assert!(goes_through(&third, &there));
    (0..8).for_each(|_| go.send(()).unwrap());
    // Without a word from either user.
    for side in [&there, &here] {
        while goes_through(&third, side) {
            within(side.remote_addr_other_than(side.remote_addr())).await.unwrap();
        }
    }
    talk(&mut there, &mut here).await;
    assert!(ours.status().punches.consistent > 0);
    // The relay is let go of in the end.
    within(service.watch().wait_for(|stats| stats.pairs == 0)).await.unwrap();
    talk(&mut there, &mut here).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_are_punched_when_nobody_is_known_to_be_reachable() {
    let net = Testnet::new(6).await;
    let (ours, theirs) = (net.shy_node().await, net.shy_node().await);
    let options = ServerOptions { share_local_address: false, ..ServerOptions::default() };
    let (server, public_key) = serve(&theirs, options).await;
    let options = ConnectOptions { local_connection: false, ..ConnectOptions::default() };
    let mut there = within(ours.connect(public_key, options)).await.unwrap();
    let mut here = meet(&mut there, &server).await;
    talk(&mut there, &mut here).await;
    // Neither of the node's own sockets.
    assert_ne!(there.remote_addr().unwrap().port(), theirs.local_address().port());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sleeps_is_found_again_when_awake() {
    let net = Testnet::new(4).await;
    let (ours, theirs) = (net.node().await, net.node().await);
    let (server, public_key) = serve(&theirs, ServerOptions::default()).await;
    let mut there = dial(&ours, public_key).await.unwrap();
    let mut here = meet(&mut there, &server).await;
    within(theirs.suspend()).await;
    // The connection is cut, the server is gone from the network.
    assert!(!matches!(within(here.recv()).await, Some(Ok(_))));
    assert!(!matches!(within(there.recv()).await, Some(Ok(_))));
    assert_eq!(dial(&net.node().await, public_key).await.unwrap_err(), ConnectError::PeerNotFound);
    assert_eq!(dial(&theirs, public_key).await.unwrap_err(), ConnectError::Closed);

    within(theirs.resume()).await.unwrap();
    assert!(within(server.announced()).await);
    let mut there = dial(&ours, public_key).await.unwrap();
    let mut here = meet(&mut there, &server).await;
    talk(&mut there, &mut here).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_closed_unannounces_its_servers() {
    let net = Testnet::new(4).await;
    let theirs = net.node().await;
    let (server, public_key) = serve(&theirs, ServerOptions::default()).await;
    within(theirs.close()).await;
    assert!(within(server.accept()).await.is_none());
    assert_eq!(server.listen(KeyPair::generate()).await, Err(ListenError::Closed));
    assert_eq!(dial(&net.node().await, public_key).await.unwrap_err(), ConnectError::PeerNotFound);
    assert_eq!(dial(&theirs, public_key).await.unwrap_err(), ConnectError::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_pair_has_one_server_and_a_server_one_key_pair() {
    let net = Testnet::new(2).await;
    let node = net.node().await;
    let key_pair = KeyPair::generate();
    let (one, two) =
        (node.create_server(ServerOptions::default()), node.create_server(ServerOptions::default()));
    within(one.listen(key_pair.clone())).await.unwrap();
    assert_eq!(within(two.listen(key_pair.clone())).await, Err(ListenError::KeyPairInUse));
    assert_eq!(within(one.listen(KeyPair::generate())).await, Err(ListenError::AlreadyListening));
    within(one.close()).await;
    within(two.listen(key_pair.clone())).await.unwrap();
    assert_eq!(two.address().unwrap().public_key, key_pair.public);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_handshakes_are_bounded_and_others_get_through() {
    let net = Testnet::new(3).await;
    let theirs = net.shy_node().await;
    let options = ServerOptions {
        share_local_address: false,
        never_punch: true,
        half_open_timeout: Duration::from_secs(5),
        ..ServerOptions::default()
    };
    let (server, public_key) = serve(&theirs, options).await;
    // Clients that never send a packet: each leaves the server waiting.
    let lost = net.shy_node().await;
    let relay = server.relay_addresses();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..300 {
        let (lost, relay) = (lost.clone(), relay.clone());
        let options = ConnectOptions {
            relay_addresses: relay,
            key_pair: Some(KeyPair::generate()),
            local_connection: false,
            holepunch: Some(Arc::new(|_| false)),
            fast_open: false,
            ..ConnectOptions::default()
        };
        calls.spawn(async move { lost.connect(public_key, options).await.map(drop) });
    }
    let mut half_open = server.watch_half_open();
    within(half_open.wait_for(|open| *open >= 20)).await.unwrap();
    // Somebody whom the server can reach.
    let ours = net.open_node().await;
    let mut there = dial(&ours, public_key).await.unwrap();
    let mut here = loop {
        let mut here = within(server.accept()).await.unwrap();
        if here.remote_public_key() == &ours.default_key_pair().public {
            within(there.send(Bytes::from_static(b"knock"))).await.unwrap();
            assert_eq!(within(here.recv()).await.unwrap().unwrap(), "knock");
            break here;
        }
    };
    talk(&mut there, &mut here).await;
    calls.abort_all();
    while calls.join_next().await.is_some() {}
    within(half_open.wait_for(|open| *open == 0)).await.unwrap();
}
