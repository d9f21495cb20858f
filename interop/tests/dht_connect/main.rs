//! Connections by public key against npm `hyperdht` (6.34, and 6.20 where it says so): each side playing each part.

mod blind_relay;
mod both_ways;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use hyperdht::{DhtOptions, HyperDht};
use interop::{Node, Peer, Value, json, within};

/// The npm side, or a loud skip.
async fn js(node: &Node) -> Peer {
    node.run("js/dht-connect.js", [""; 0]).await
}

/// A network on loopback, made of npm or of our nodes.
struct Net {
    bootstrap: Vec<String>,
    ours: Vec<HyperDht>,
    peer: Peer,
}

impl Net {
    async fn of_npm(node: &Node, size: usize, older: bool) -> Self {
        let peer = js(node).await;
        let bootstrap = peer.ask("testnet", json!({ "size": size, "older": older })).await;
        Self { bootstrap: strings(&bootstrap), ours: Vec::new(), peer }
    }

    async fn of_ours(node: &Node, size: usize) -> Self {
        let first = HyperDht::bootstrapper(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await.unwrap();
        let bootstrap = vec![first.local_address().to_string()];
        let mut net = Self { bootstrap, ours: vec![first], peer: js(node).await };
        while net.ours.len() < size {
            let full = DhtOptions { ephemeral: Some(false), firewalled: Some(false), ..net.options() };
            let next = HyperDht::new(full).await.unwrap();
            within("entering our network", next.fully_bootstrapped()).await.unwrap();
            net.ours.push(next);
        }
        net
    }

    fn options(&self) -> DhtOptions {
        DhtOptions {
            bootstrap: Some(self.bootstrap.clone()),
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            ..DhtOptions::default()
        }
    }

    /// One of our nodes, as a user of the network.
    async fn node(&self) -> HyperDht {
        self.node_with(self.options()).await
    }

    /// One of our nodes that does not know yet that everybody reaches it: on loopback everybody does.
    async fn shy_node(&self) -> HyperDht {
        self.node_with(DhtOptions { quick_firewall: false, ..self.options() }).await
    }

    async fn node_with(&self, options: DhtOptions) -> HyperDht {
        let node = HyperDht::new(options).await.unwrap();
        within("entering the network", node.fully_bootstrapped()).await.unwrap();
        node
    }

    /// An npm node that does not find out that everybody can reach it, as on this machine everybody can.
    async fn shy_js_node(&self, label: &str) {
        let options = json!({ "quickFirewall": false });
        let args = json!({ "node": label, "bootstrap": self.bootstrap, "options": options });
        let firewalled = &self.peer.ask("node", args).await["firewalled"];
        assert_eq!(firewalled, true);
    }

    /// An npm node, as a user of the network: its public key.
    async fn js_node(&self, label: &str, older: bool) -> [u8; 32] {
        let args = json!({ "node": label, "bootstrap": self.bootstrap, "older": older });
        key(&self.peer.ask("node", args).await["publicKey"])
    }
}

fn strings(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len() / 2).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap()).collect()
}

fn key(value: &Value) -> [u8; 32] {
    unhex(value).try_into().unwrap()
}
