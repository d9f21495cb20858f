//! What the programs of the benchmarks share: a DHT on 127.0.0.1 and swarms in it.
//!
//! Apart from the rest, so that a program that is measured by its memory holds nothing else.

#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Result;
use hyperdht::{DhtOptions, HyperDht};
use hyperswarm::{DhtNode, Hyperswarm, SwarmOptions};
use secret_stream::KeyPair;

const NODES: usize = 10;

/// Runs the nodes of the DHT; prints the port of the first one.
pub async fn run_nodes() -> Result<()> {
    let first = HyperDht::bootstrapper(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
    let port = first.local_address().port();
    let mut nodes = vec![first];
    while nodes.len() < NODES {
        let options = DhtOptions { ephemeral: Some(false), firewalled: Some(false), ..options(port) };
        let node = HyperDht::new(options).await?;
        node.fully_bootstrapped().await?;
        nodes.push(node);
    }
    println!("{}", serde_json::json!({ "port": port }));
    std::future::pending().await
}

/// A swarm that knows the way into the DHT.
pub async fn enter(port: u16) -> Result<Hyperswarm<DhtNode>> {
    let swarm = Hyperswarm::new(options(port), KeyPair::generate(), SwarmOptions::default()).await?;
    swarm.dht().hyperdht().fully_bootstrapped().await?;
    Ok(swarm)
}

fn options(port: u16) -> DhtOptions {
    DhtOptions {
        bootstrap: Some(vec![format!("127.0.0.1:{port}")]),
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 0,
        ..DhtOptions::default()
    }
}
