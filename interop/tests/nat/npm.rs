//! npm peers of one host: `interop/js/dht-connect.js`, run inside its namespace.

use std::time::Instant;

use interop::{Node, Peer, Value, json};

use crate::{Connected, Tried, sites};

/// The process of a host. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Npm(Peer);

impl Npm {
    pub(crate) async fn start(node: &Node, namespace: &str) -> Self {
        let enter = sites::enter(namespace);
        Self(node.run_through(&enter, "js/dht-connect.js", [""; 0]).await)
    }

    /// Another peer, with sockets of its own.
    pub(crate) async fn peer<'a>(&'a self, name: &str, bootstrap: &str) -> NpmPeer<'a> {
        let args = json!({ "node": name, "bootstrap": [bootstrap], "host": "0.0.0.0" });
        let knows = self.0.ask("node", args).await;
        NpmPeer { process: &self.0, name: name.to_owned(), knows }
    }
}

/// One of the peers.
#[derive(Debug)]
pub(crate) struct NpmPeer<'a> {
    process: &'a Peer,
    name: String,
    knows: Value,
}

impl NpmPeer<'_> {
    /// Takes connections and echoes what comes; its public key, and what it knows about itself.
    pub(crate) async fn listen(&self) -> (String, String) {
        let key = self.process.ask("listen", json!({ "node": self.name, "server": self.name })).await;
        (key.as_str().unwrap_or_default().to_owned(), self.knows.to_string())
    }

    pub(crate) async fn call(&self, key: &str, relay: Option<&str>) -> Tried {
        let (peer, name) = (self.process, &self.name);
        let started = Instant::now();
        let args = json!({ "node": name, "socket": name, "publicKey": key, "relayThrough": relay });
        peer.ask("connect", args).await;
        // It is sent when there is a connection.
        peer.ask("send", json!({ "socket": name, "data": "00" })).await;
        let of_this = |event: &Value| event["socket"] == *name;
        tokio::select! {
            _ = peer.event_where("data", of_this) => {}
            closed = peer.event_where("close", of_this) => {
                return Err(closed["error"].as_str().unwrap_or("closed").to_owned());
            }
        }
        let took = started.elapsed().as_secs_f32();
        let at = peer.ask("where", json!({ "socket": name })).await;
        let remote = format!("{}:{}", at["host"].as_str().unwrap_or_default(), at["port"]);
        let punches = &peer.ask("stats", json!({ "node": name })).await["punches"];
        let count = |kind: &str| punches[kind].as_u64().unwrap_or(0);
        let how = sites::how(&remote, count("random"), count("consistent"), count("open"));
        Ok(Connected { how: format!("{how} {took:.1} s"), remote })
    }

    /// What it has open is closed, without a goodbye.
    pub(crate) async fn end(self) {
        self.process.ask("drop", json!({ "node": self.name })).await;
    }
}
