//! A DHT on loopback.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use hyperdht::{DhtOptions, HyperDht};

/// Nodes that know each other.
pub(crate) struct Testnet {
    pub(crate) bootstrap: Vec<String>,
    pub(crate) nodes: Vec<HyperDht>,
}

impl Testnet {
    /// A network of this many full nodes.
    pub(crate) async fn new(size: usize) -> Self {
        let first = HyperDht::bootstrapper(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let mut net = Self { bootstrap: vec![first.local_address().to_string()], nodes: vec![first] };
        for _ in 1..size {
            let options = DhtOptions { ephemeral: Some(false), firewalled: Some(false), ..net.options() };
            let node = HyperDht::new(options).await.unwrap();
            within(node.fully_bootstrapped()).await.unwrap();
            net.nodes.push(node);
        }
        net
    }

    /// How a user of the network starts.
    pub(crate) fn options(&self) -> DhtOptions {
        DhtOptions {
            bootstrap: Some(self.bootstrap.clone()),
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            ..DhtOptions::default()
        }
    }

    /// A user of the network.
    pub(crate) async fn node(&self) -> HyperDht {
        self.node_with(self.options()).await
    }

    /// A user that does not know yet that everybody reaches it: on loopback everybody does.
    pub(crate) async fn shy_node(&self) -> HyperDht {
        self.node_with(DhtOptions { quick_firewall: false, ..self.options() }).await
    }

    /// A user that knows that everybody reaches it.
    pub(crate) async fn open_node(&self) -> HyperDht {
        self.node_with(DhtOptions { firewalled: Some(false), ..self.options() }).await
    }

    pub(crate) async fn node_with(&self, options: DhtOptions) -> HyperDht {
        let node = HyperDht::new(options).await.unwrap();
        within(node.fully_bootstrapped()).await.unwrap();
        node
    }
}

/// A test that waits for longer has failed.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("takes too long")
}
