use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::handshake::PeerHandshake;
use crate::messages::{Command, Handshake, Message, NoisePayload, RelayMode, UdxInfo, error};
use crate::rpc::{RequestBody, RequestOptions};
use crate::{ConnectError, ConnectOptions, DhtOptions};

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future).await.expect("takes too long")
}

async fn node(options: DhtOptions) -> HyperDht {
    let node = HyperDht::new(options).await.unwrap();
    within(node.fully_bootstrapped()).await.unwrap();
    node
}

/// A first message of somebody new, as if a node passed it on for a client of another host each time: there is a bound for
/// those of one.
fn first_message(server: [u8; 32], host: u8) -> RequestBody {
    let mut handshake = PeerHandshake::client(&KeyPair::generate(), server).unwrap();
    let udx = UdxInfo { version: 1, reusable_socket: false, id: host.into(), seq: 0 };
    let noise = handshake.send(&NoisePayload { udx: Some(udx), ..NoisePayload::default() }).unwrap();
    let client = SocketAddrV4::new(Ipv4Addr::new(127, 0, 1, host), 1);
    let message =
        Handshake { mode: RelayMode::FromRelay, noise, peer_address: Some(client), relay_address: None };
    RequestBody {
        command: Command::PeerHandshake.to_wire(),
        target: Some(target_of(&server)),
        value: Some(message.encode()),
        token: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_only_calls_takes_a_part_of_the_sockets_and_others_get_through() {
    let first = HyperDht::bootstrapper((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap();
    let bootstrap = Some(vec![first.local_address().to_string()]);
    let options = || DhtOptions {
        bootstrap: bootstrap.clone(),
        host: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        ..DhtOptions::default()
    };
    let mut nodes = vec![first];
    for _ in 0..5 {
        nodes.push(node(DhtOptions { ephemeral: Some(false), firewalled: Some(false), ..options() }).await);
    }
    // On loopback everybody is reached, but these two do not know.
    let shy = || DhtOptions { quick_firewall: false, ..options() };
    let (theirs, ours) = (node(shy()).await, node(shy()).await);
    // In time for nobody here.
    let half_open_timeout = Duration::from_secs(3600);
    let server = theirs.create_server(ServerOptions {
        share_local_address: false,
        half_open_timeout,
        ..ServerOptions::default()
    });
    let key_pair = KeyPair::generate();
    within(server.listen(key_pair.clone())).await.unwrap();

    let most = crate::punching::MAX_SLOTS / 2;
    let (slots, later) = (&theirs.core().slots, || theirs.status().punches.later);
    let to = theirs.rpc().client_socket().local_addr();
    let mut calls = tokio::task::JoinSet::new();
    for host in 1..=2 * u8::try_from(most).unwrap() {
        // A node has only so many requests without answers under way.
        let (flood, call) = (nodes[1 + usize::from(host % 5)].clone(), first_message(key_pair.public, host));
        let options = RequestOptions { retries: Some(0), ..RequestOptions::default() };
        calls.spawn(async move { flood.rpc().request(to, call, options).await });
    }
    // None is answered to where it came from.
    within(async { while calls.join_next().await.is_some() {} }).await;
    assert!(later() > 0);
    assert_eq!(slots.held(), most);

    let mut there = within(async {
        loop {
            let options = ConnectOptions { local_connection: false, ..ConnectOptions::default() };
            match ours.connect(key_pair.public, options).await {
                Ok(connection) => break connection,
                // It comes again, as a swarm does.
                Err(ConnectError::ServerError { code: error::TRY_LATER }) => {}
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    within(there.send(Bytes::from_static(b"knock"))).await.unwrap();
    let mut here = within(server.accept()).await.unwrap();
    assert_eq!(within(here.recv()).await.unwrap().unwrap(), "knock");
    assert!(slots.held() <= most);
}
