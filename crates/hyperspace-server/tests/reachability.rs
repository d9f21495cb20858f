//! What `Hyperspace.Status` says of the way to this daemon: what the nodes of the DHT see of it.

mod callers;
mod common;

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use callers::Client;
use common::Fixture;
use hyperdht::HyperDht;
use hyperspace_common::{Method, messages::*};
use hyperspace_server::{NetworkOptions, ServerOptions};
use tokio::net::UdpSocket;

/// Network address translation on the way to one node.
struct Nat {
    /// Where the node is found from within.
    inside: SocketAddr,
    /// Where the node sees whoever writes to it through this.
    outside: SocketAddr,
}

impl Nat {
    async fn before(node: SocketAddr) -> Self {
        let [near, far] = [bound().await, bound().await];
        let nat = Self { inside: near.local_addr().unwrap(), outside: far.local_addr().unwrap() };
        far.connect(node).await.unwrap();
        tokio::spawn(async move {
            let (mut out, mut back) = ([0; 2048], [0; 2048]);
            let mut inmate = None;
            // Ends with the test's runtime.
            loop {
                tokio::select! {
                    Ok((length, from)) = near.recv_from(&mut out) => {
                        inmate = Some(from);
                        let _ = far.send(&out[..length]).await;
                    }
                    Ok(length) = far.recv(&mut back) => {
                        if let Some(inmate) = inmate {
                            let _ = near.send_to(&back[..length], inmate).await;
                        }
                    }
                }
            }
        });
        nat
    }
}

async fn bound() -> UdpSocket {
    UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap()
}

/// What a daemon says of itself that enters the DHT through these nodes, once it has asked them for something.
async fn status(bootstrap: &[SocketAddr]) -> (Option<bool>, Option<String>) {
    let network = NetworkOptions {
        address: Some((Ipv4Addr::LOCALHOST, 0).into()),
        bootstrap: Some(bootstrap.iter().map(SocketAddr::to_string).collect()),
        ..NetworkOptions::default()
    };
    let options = ServerOptions { network: Some(network), ..ServerOptions::default() };
    let daemon = Fixture::with_options(options).await;
    let mut client = Client::over(daemon.raw().await);
    let configuration = NetworkStatus {
        discovery_key: Bytes::from_static(&[7; 32]),
        announce: Some(false),
        lookup: Some(true),
        remember: None,
    };
    let look = ConfigureNetworkRequest { configuration, flush: Some(true), copy_from: None, overwrite: None };
    client.call::<NetworkStatusResponse>(Method::NetworkConfigure, &look).await;
    let status: HyperspaceStatusResponse = client.call(Method::HyperspaceStatus, &()).await;
    daemon.server.stop().await;
    (status.holepunchable, status.remote_address)
}

async fn node() -> HyperDht {
    HyperDht::bootstrapper((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap()
}

#[tokio::test]
async fn who_is_seen_at_one_address_says_which() {
    let node = node().await;
    let nat = Nat::before(node.local_address()).await;
    assert_eq!(status(&[nat.inside]).await, (Some(true), Some(nat.outside.to_string())));
    node.close().await;
}

#[tokio::test]
async fn who_is_seen_at_another_port_by_everybody_is_not_reached() {
    let node = node().await;
    let nats = [Nat::before(node.local_address()).await, Nat::before(node.local_address()).await];
    assert_eq!(status(&nats.map(|nat| nat.inside)).await, (Some(false), Some(String::new())));
    node.close().await;
}

#[tokio::test]
async fn who_is_in_no_swarm_is_not_reached() {
    let daemon = Fixture::start().await;
    let mut client = Client::over(daemon.raw().await);
    let status: HyperspaceStatusResponse = client.call(Method::HyperspaceStatus, &()).await;
    assert_eq!((status.holepunchable, status.remote_address), (Some(false), Some(String::new())));
}
