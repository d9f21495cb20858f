//! A Rust store with a TCP port, under the same commands as an npm peer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use corestore::{Corestore, Query, ReplicateOptions, Replication};
use futures::StreamExt;
use hypercore::demand::DownloadRange;
use hypercore::events::{CoreEvent, EventSink};
use hypercore::session::{Download, Subscription};
use hypercore::{DiscoveryKey, Hypercore};
use secret_stream::KeyPair;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

/// An extension message as it came: discovery key, name, message.
pub(crate) type Heard = (DiscoveryKey, String, Bytes);

/// The store, its open cores by label, and its connections.
pub(crate) struct RustSide {
    store: Corestore,
    cores: Mutex<HashMap<String, Opened>>,
    connections: Arc<watch::Sender<Vec<Replication>>>,
    heard: tokio::sync::Mutex<mpsc::UnboundedReceiver<Heard>>,
}

struct Opened {
    core: Hypercore,
    downloaded: Arc<Downloaded>,
    _subscription: Subscription,
    follows: Option<Download>,
}

/// Counts blocks that came from peers.
#[derive(Default)]
struct Downloaded(AtomicU64);

impl EventSink for Downloaded {
    fn event(&self, _tag: u64, event: &CoreEvent) {
        if matches!(event, CoreEvent::Download { .. }) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl RustSide {
    /// In a folder, or in memory.
    pub(crate) fn new(folder: Option<&Path>) -> Self {
        let store = match folder {
            Some(folder) => Corestore::open(folder).unwrap(),
            None => Corestore::memory(),
        };
        let (hear, heard) = mpsc::unbounded_channel();
        store.hub().set_extension_sink(Some(Arc::new(move |discovery_key, _, name, message| {
            let _ = hear.send((*discovery_key, name.to_owned(), message));
        })));
        Self {
            store,
            cores: Mutex::default(),
            connections: Arc::new(watch::Sender::new(Vec::new())),
            heard: tokio::sync::Mutex::new(heard),
        }
    }

    pub(crate) fn open(&self, label: &str, query: impl Into<Query>) -> Hypercore {
        let core = self.store.get(query).unwrap();
        let downloaded = Arc::new(Downloaded::default());
        let subscription = core.subscribe(0, downloaded.clone());
        let opened = Opened { core: core.clone(), downloaded, _subscription: subscription, follows: None };
        self.cores().insert(label.to_owned(), opened);
        core
    }

    pub(crate) fn core(&self, label: &str) -> Hypercore {
        self.cores()
            .get(label)
            .unwrap_or_else(|| panic!("no core is open under the label {label}"))
            .core
            .clone()
    }

    pub(crate) fn downloaded(&self, label: &str) -> u64 {
        // Gets are answered before events are sent, under one lock.
        drop(self.core(label).lock());
        self.cores()[label].downloaded.0.load(Ordering::Acquire)
    }

    /// Downloads all there is and all that comes.
    pub(crate) fn follow(&self, label: &str) {
        let download = self.core(label).download(DownloadRange::live(0)).unwrap();
        self.cores().get_mut(label).unwrap().follows = Some(download);
    }

    pub(crate) fn release(&self, label: &str) {
        self.cores().remove(label);
    }

    pub(crate) async fn listen(&self) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (store, connections) = (self.store.clone(), Arc::clone(&self.connections));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(connection) = replicate(&store, stream, false) else { return };
                connections.send_modify(|connections| connections.push(connection));
            }
        });
        port
    }

    pub(crate) async fn connect(&self, port: u16) {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let connection = replicate(&self.store, stream, true).unwrap();
        self.connections.send_modify(|connections| connections.push(connection.clone()));
        connection.opened().await.unwrap();
    }

    /// Waits for a connection and its handshake.
    pub(crate) async fn connected(&self) {
        let mut connections = self.connections.subscribe();
        let last = connections.wait_for(|all| !all.is_empty()).await.unwrap().last().cloned().unwrap();
        last.opened().await.unwrap();
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        for connection in &*self.connections.borrow() {
            connection.close();
        }
    }

    /// Waits until all connections there were have ended. Nothing is lost when it is given up.
    pub(crate) async fn disconnected(&self) {
        let all = self.connections.borrow().clone();
        for connection in &all {
            // However it ended: whoever cuts it says no goodbye.
            let _ = connection.closed().await;
        }
        self.connections.send_modify(|connections| connections.retain(|connection| !connection.is_closed()));
    }

    pub(crate) async fn next_extension(&self) -> Heard {
        self.heard.lock().await.recv().await.expect("the store lives")
    }

    pub(crate) fn send_extension(&self, label: &str, name: &str, message: &Bytes) {
        let core = self.core(label).discovery_key();
        self.store.hub().broadcast_extension(&core, name, message).expect("the message can be sent");
    }

    pub(crate) fn close(&self) {
        self.store.close().unwrap();
    }

    fn cores(&self) -> MutexGuard<'_, HashMap<String, Opened>> {
        self.cores.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn replicate(
    store: &Corestore,
    stream: TcpStream,
    is_initiator: bool,
) -> Result<Replication, corestore::ReplicateError> {
    stream.set_nodelay(true).unwrap();
    let address = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
    let options = ReplicateOptions::new(is_initiator, KeyPair::generate()).remote("tcp", address);
    store.replicate(stream, options)
}

/// Waits, by the events of the core, until `reached`.
pub(crate) async fn until(core: &Hypercore, reached: impl Fn(&Hypercore) -> bool) {
    let mut events = core.events();
    while !reached(core) {
        assert!(events.next().await.is_some(), "the core was closed");
    }
}
