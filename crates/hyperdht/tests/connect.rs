//! Nodes of one process connect to each other over loopback.

mod testnet;

use bytes::Bytes;
use hyperdht::{ConnectError, ConnectOptions, KeyPair, ServerOptions};
use testnet::{Testnet, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_connects_by_public_key_and_both_talk() {
    let net = Testnet::new(4).await;
    let (ours, theirs) = (net.node().await, net.node().await);
    let server = theirs.create_server(ServerOptions::default());
    let key_pair = KeyPair::generate();
    within(server.listen(key_pair.clone())).await.unwrap();

    let mut there = within(ours.connect(key_pair.public, ConnectOptions::default())).await.unwrap();
    assert_eq!(there.remote_public_key(), &key_pair.public);
    within(there.send(Bytes::from_static(b"hello"))).await.unwrap();
    let mut here = within(server.accept()).await.unwrap();
    assert_eq!(here.remote_public_key(), &ours.default_key_pair().public);
    assert_eq!(here.handshake_hash(), there.handshake_hash());
    assert_eq!(within(here.recv()).await.unwrap().unwrap(), "hello");
    within(here.send(Bytes::from_static(b"world"))).await.unwrap();
    assert_eq!(within(there.recv()).await.unwrap().unwrap(), "world");

    let unknown = within(ours.connect(KeyPair::generate().public, ConnectOptions::default())).await;
    assert_eq!(unknown.unwrap_err(), ConnectError::PeerNotFound);
    within(server.close()).await;
    assert!(within(server.accept()).await.is_none());
    let late = net.node().await;
    let gone = within(late.connect(key_pair.public, ConnectOptions::default())).await;
    assert_eq!(gone.unwrap_err(), ConnectError::PeerNotFound);
}
