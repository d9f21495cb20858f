//! Our side of a test: a store that peers reach over TCP.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use corestore::{Corestore, ReplicateOptions, Replication};
use futures::StreamExt;
use hypercore::Hypercore;
use secret_stream::KeyPair;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};

use crate::{Peer, pattern, within};

/// Who dials.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// Our side is the initiator.
    Ours,
    /// The npm peer is.
    Theirs,
}

/// A store of ours with its connections.
#[derive(Debug, Clone)]
pub struct Ours {
    /// The store.
    pub store: Corestore,
    connections: Arc<Mutex<Vec<Replication>>>,
}

impl Ours {
    /// Replicates this store.
    pub fn new(store: Corestore) -> Self {
        Self { store, connections: Arc::default() }
    }

    /// An empty store in memory.
    pub fn memory() -> Self {
        Self::new(Corestore::memory())
    }

    /// Accepts peers; answers the port on 127.0.0.1.
    pub async fn listen(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let ours = self.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                ours.run(false, socket);
            }
        });
        port
    }

    /// Dials a peer on 127.0.0.1 and awaits the handshake.
    pub async fn dial(&self, port: u16) -> Replication {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.expect("the peer listens");
        let connection = self.run(true, socket);
        within("the handshake", connection.opened()).await.expect("the handshake succeeds");
        connection
    }

    fn run(&self, is_initiator: bool, socket: TcpStream) -> Replication {
        socket.set_nodelay(true).expect("a TCP socket");
        let options = ReplicateOptions::new(is_initiator, KeyPair::generate());
        let connection = self.store.replicate(socket, options).expect("a connection starts");
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(connection.clone());
        connection
    }

    /// Connects with an npm peer.
    pub async fn connect(&self, peer: &Peer, dial: Dial) {
        match dial {
            Dial::Theirs => {
                let port = self.listen().await;
                peer.ask("connect", json!({ "port": port })).await;
            }
            Dial::Ours => {
                let port = peer.ask("listen", json!({})).await["port"]
                    .as_u64()
                    .and_then(|port| port.try_into().ok());
                self.dial(port.expect("a port")).await;
            }
        }
    }

    /// Ends every connection, in order.
    pub fn disconnect(&self) {
        for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            connection.close();
        }
    }
}

/// Waits until `reached` holds, looking whenever something happens to the log.
pub async fn until(core: &Hypercore, what: &str, reached: impl Fn(&Hypercore) -> bool) {
    let mut events = core.events();
    within(what, async {
        while !reached(core) {
            if events.next().await.is_none() {
                panic!("{what}: the log was closed");
            }
        }
    })
    .await;
}

/// Waits for this length.
pub async fn until_length(core: &Hypercore, length: u64) {
    until(core, &format!("length {length}"), |core| core.length() >= length).await;
}

/// The digest of all blocks, fetched from peers where they are missing.
pub async fn digest(core: &Hypercore) -> String {
    const WINDOW: u64 = 256;
    let mut digest = pattern::Digest::default();
    let length = core.length();
    for start in (0..length).step_by(WINDOW as usize) {
        let gets = (start..length.min(start + WINDOW)).map(|index| core.get(index));
        for block in within("blocks", futures::future::join_all(gets)).await {
            digest.add(&block.expect("a peer has the block"));
        }
    }
    digest.finish()
}

/// Pattern blocks `start..end`.
pub fn blocks(start: u64, end: u64, size: usize, salt: u32) -> Vec<Bytes> {
    (start..end).map(|index| pattern::block(index, size, salt).into()).collect()
}
