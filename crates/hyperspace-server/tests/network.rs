//! The Network service: topics, peers and extensions, over raw frames.

mod callers;
mod common;

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use callers::{Client, DEADLINE, get};
use common::Raw;
use corestore::Corestore;
use futures::{StreamExt, stream::BoxStream};
use hypercore::storage::{Batch, Database, MemoryStorage, Read, Storage, StorageError, Visitor};
use hyperdht::HyperDht;
use hyperspace_client::HyperspaceClient;
use hyperspace_common::{Endpoint, Kind, Method, code, messages::*, text};
use hyperspace_server::{NetworkOptions, Server, ServerEvent, ServerOptions};
use tempfile::TempDir;
use tokio::{net::UnixStream, time::timeout};

struct Daemon {
    server: Server,
    events: BoxStream<'static, ServerEvent>,
    folder: TempDir,
}

impl Daemon {
    async fn start(options: ServerOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = Some(folder.path().join("s.sock"));
        let server = Server::start(ServerOptions { socket, ..options }).await.unwrap();
        Self { events: server.events().boxed(), server, folder }
    }

    /// Waits until so many more clients are gone, and with them what they held.
    async fn clients_gone(&mut self, count: usize) {
        for _ in 0..count {
            let gone = async {
                while !matches!(self.events.next().await.unwrap(), ServerEvent::ClientClose { .. }) {}
            };
            timeout(DEADLINE, gone).await.expect("a client is gone");
        }
    }

    /// Without peers.
    async fn offline() -> Self {
        Self::start(ServerOptions::default()).await
    }

    /// In the DHT of this node.
    async fn online(node: &HyperDht) -> Self {
        Self::start(ServerOptions { network: Some(network(node)), ..ServerOptions::default() }).await
    }

    async fn client(&self) -> Client {
        Client::over(Raw::over(UnixStream::connect(self.folder.path().join("s.sock")).await.unwrap()))
    }

    async fn rust_client(&self) -> HyperspaceClient {
        HyperspaceClient::connect_to(&Endpoint::Socket(self.folder.path().join("s.sock"))).await.unwrap()
    }
}

fn network(node: &HyperDht) -> NetworkOptions {
    NetworkOptions {
        address: Some((Ipv4Addr::LOCALHOST, 0).into()),
        bootstrap: Some(vec![node.local_address().to_string()]),
        ..NetworkOptions::default()
    }
}

async fn dht() -> HyperDht {
    HyperDht::bootstrapper((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap()
}

impl Client {
    async fn network(&mut self) -> OpenNetworkResponse {
        self.call(Method::NetworkOpen, &()).await
    }

    async fn configure(&mut self, request: ConfigureNetworkRequest) -> Option<NetworkStatus> {
        self.call::<NetworkStatusResponse>(Method::NetworkConfigure, &request).await.status
    }

    async fn status(&mut self, topic: [u8; 32]) -> Option<NetworkStatus> {
        let discovery_key = Bytes::copy_from_slice(&topic);
        let request = NetworkStatusRequest { discovery_key };
        self.call::<NetworkStatusResponse>(Method::NetworkStatus, &request).await.status
    }

    async fn statuses(&mut self) -> Vec<NetworkStatus> {
        self.call::<AllNetworkStatusesResponse>(Method::NetworkAllStatuses, &()).await.statuses
    }

    async fn extension(&mut self, resource_id: u64, name: &str) {
        let request = RegisterExtensionRequest { id: 0, resource_id, name: name.into() };
        self.call::<()>(Method::NetworkRegisterExtension, &request).await;
    }

    async fn say(&mut self, resource_id: u64, to: Option<&[u8]>, data: &'static str) {
        let remote_public_key = to.map(Bytes::copy_from_slice);
        let request = ExtensionMessage { id: 0, resource_id, remote_public_key, data: data.into() };
        self.call::<()>(Method::NetworkSendExtension, &request).await;
    }
}

/// Absent fields are as clients of npm leave them.
fn setting(topic: impl AsRef<[u8]>, announce: bool, lookup: bool) -> ConfigureNetworkRequest {
    ConfigureNetworkRequest {
        configuration: NetworkStatus {
            discovery_key: Bytes::copy_from_slice(topic.as_ref()),
            announce: Some(announce),
            lookup: Some(lookup),
            remember: None,
        },
        flush: None,
        copy_from: None,
        overwrite: None,
    }
}

fn remembered(topic: impl AsRef<[u8]>, announce: bool, lookup: bool) -> ConfigureNetworkRequest {
    let mut request = setting(topic, announce, lookup);
    request.configuration.remember = Some(true);
    request
}

fn flushed(request: ConfigureNetworkRequest) -> ConfigureNetworkRequest {
    ConfigureNetworkRequest { flush: Some(true), ..request }
}

fn status(topic: [u8; 32], announce: bool, lookup: bool, remember: bool) -> Option<NetworkStatus> {
    let discovery_key = Bytes::copy_from_slice(&topic);
    Some(NetworkStatus {
        discovery_key,
        announce: Some(announce),
        lookup: Some(lookup),
        remember: Some(remember),
    })
}

#[tokio::test]
async fn wishes_of_clients_add_up_and_go_with_them() {
    let mut daemon = Daemon::offline().await;
    let (mut one, mut two) = (daemon.client().await, daemon.client().await);
    let topic = [7; 32];
    assert_eq!(one.status(topic).await, None);
    assert_eq!(one.configure(setting(topic, false, true)).await, status(topic, false, true, false));
    assert_eq!(two.configure(flushed(setting(topic, true, false))).await, status(topic, true, true, false));
    assert_eq!(one.statuses().await, [status(topic, true, true, false).unwrap()]);
    drop(two);
    daemon.clients_gone(1).await;
    assert_eq!(one.status(topic).await, status(topic, false, true, false));
    // What is there already is left alone on request.
    let kept = ConfigureNetworkRequest { overwrite: Some(false), ..setting(topic, true, true) };
    assert_eq!(one.configure(kept).await, status(topic, false, true, false));
    assert_eq!(one.configure(setting(topic, false, false)).await, None);
    assert_eq!((one.status(topic).await, one.statuses().await), (None, vec![]));
    // What is absent is taken from another topic, if one is named, and else is no.
    one.configure(setting([8; 32], false, true)).await;
    let mut copy = setting(topic, false, false);
    (copy.configuration.announce, copy.configuration.lookup) = (Some(true), None);
    copy.copy_from = Some(Bytes::copy_from_slice(&[8; 32]));
    assert_eq!(one.configure(copy.clone()).await, status(topic, true, true, false));
    copy.copy_from = None;
    assert_eq!(one.configure(copy).await, status(topic, true, false, false));
    // A core that is opened is a topic only when somebody says so.
    one.open(0, None).await;
    assert_eq!(one.statuses().await.len(), 2);
    daemon.server.stop().await;
}

#[tokio::test]
async fn what_is_no_topic_is_refused() {
    let daemon = Daemon::offline().await;
    let mut client = daemon.client().await;
    let short = setting([7; 31], true, true);
    let error = client.try_call::<NetworkStatusResponse>(Method::NetworkConfigure, &short).await.unwrap_err();
    assert_eq!(error.message, text::INVALID_DISCOVERY_KEY);
    let copy_from = Some(Bytes::from_static(b"short"));
    let wrong = ConfigureNetworkRequest { copy_from, ..setting([7; 32], true, true) };
    let error = client.try_call::<NetworkStatusResponse>(Method::NetworkConfigure, &wrong).await.unwrap_err();
    assert_eq!(error.message, "Must copy from a valid discovery key.");
    let request = NetworkStatusRequest { discovery_key: Bytes::from_static(b"short") };
    assert_eq!(client.call::<NetworkStatusResponse>(Method::NetworkStatus, &request).await.status, None);

    client.extension(5, "chat").await;
    let again = RegisterExtensionRequest { id: 0, resource_id: 5, name: "other".into() };
    let error = client.try_call::<()>(Method::NetworkRegisterExtension, &again).await.unwrap_err();
    assert_eq!(error.message, "Resource already exists: 5");
    let long = RegisterExtensionRequest { id: 0, resource_id: 6, name: "x".repeat(1025) };
    let error = client.try_call::<()>(Method::NetworkRegisterExtension, &long).await.unwrap_err();
    assert_eq!(error.code.as_deref(), Some(code::INVALID));
    client.say(5, None, "anybody?").await;
    client.say(5, Some(&[1; 32]), "anybody?").await;
    client.say(5, Some(b"short"), "anybody?").await;
    let unknown = UnregisterExtensionRequest { id: 0, resource_id: 9 };
    let error = client.try_call::<()>(Method::NetworkUnregisterExtension, &unknown).await.unwrap_err();
    assert_eq!(error.message, "Invalid resource: 9");
    daemon.server.stop().await;
}

#[tokio::test]
async fn what_is_remembered_outlasts_the_client_that_asked_for_it() {
    let mut daemon = Daemon::offline().await;
    let (mut one, mut two) = (daemon.client().await, daemon.client().await);
    let topic = [7; 32];
    one.configure(remembered(topic, true, false)).await;
    two.configure(setting(topic, false, true)).await;
    drop(one);
    assert_eq!(two.configure(setting([8; 32], false, true)).await, status([8; 32], false, true, false));
    assert_eq!(two.status(topic).await, status(topic, true, true, true));
    drop(two);
    daemon.clients_gone(2).await;
    let mut three = daemon.client().await;
    assert_eq!(three.status(topic).await, status(topic, true, false, true));
    assert_eq!(three.status([8; 32]).await, None);
    // The daemon keeps it in a core that nobody sees.
    let client = daemon.rust_client().await;
    assert!(Box::pin(client.corestore().list()).next().await.is_none());
    assert_eq!(three.configure(setting(topic, false, false)).await, None);
    drop(three);
    let mut four = daemon.client().await;
    assert_eq!(four.statuses().await, []);
    daemon.server.stop().await;
}

#[tokio::test]
async fn only_what_was_announced_is_joined_again() {
    let store = Corestore::memory();
    let database = store.database().clone();
    let primary_key = *store.primary_key();
    let again = || Corestore::from_database_with_primary_key(database.clone(), primary_key).unwrap();
    let with = |store| ServerOptions { store: Some(store), ..ServerOptions::default() };
    let daemon = Daemon::start(with(store)).await;
    let mut client = daemon.client().await;
    client.configure(remembered([1; 32], true, true)).await;
    client.configure(remembered([2; 32], false, true)).await;
    client.configure(setting([3; 32], true, true)).await;
    client.configure(remembered([4; 32], true, true)).await;
    client.configure(setting([4; 32], false, false)).await;
    let key = daemon.server.public_key();
    daemon.server.stop().await;

    let daemon = Daemon::start(with(again())).await;
    assert_eq!(daemon.server.public_key(), key);
    let mut client = daemon.client().await;
    assert_eq!(client.statuses().await, [status([1; 32], true, true, true).unwrap()]);
    // The other one is not forgotten, for those who do not want to overwrite.
    let kept = ConfigureNetworkRequest { overwrite: Some(false), ..setting([2; 32], true, true) };
    assert_eq!(client.configure(kept).await, status([2; 32], false, true, true));
    let mut forgetting = setting([1; 32], true, true);
    forgetting.configuration.remember = Some(false);
    assert_eq!(client.configure(forgetting).await, status([1; 32], true, true, false));
    daemon.server.stop().await;

    let daemon = Daemon::start(with(again())).await;
    assert_eq!(daemon.client().await.statuses().await, []);
    daemon.server.stop().await;
}

/// Storage that takes nothing while the disk is full.
#[derive(Debug, Default)]
struct Disk {
    inner: MemoryStorage,
    full: AtomicBool,
}

impl Read for Disk {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StorageError> {
        self.inner.get(key)
    }

    fn scan(
        &self,
        start: &[u8],
        end: &[u8],
        reverse: bool,
        visit: &mut Visitor<'_>,
    ) -> Result<(), StorageError> {
        self.inner.scan(start, end, reverse, visit)
    }
}

impl Storage for Disk {
    fn commit(&self, batch: &Batch) -> Result<(), StorageError> {
        match self.full.load(Ordering::Relaxed) {
            true => Err(StorageError::Io { operation: "commit", reason: "no space left on device".into() }),
            false => self.inner.commit(batch),
        }
    }

    fn with_snapshot(&self, read: &mut dyn FnMut(&dyn Read)) -> Result<(), StorageError> {
        self.inner.with_snapshot(read)
    }
}

#[tokio::test]
async fn what_cannot_be_remembered_changes_nothing() {
    let disk = Arc::new(Disk::default());
    let store = || Some(Corestore::from_database(Database::open(disk.clone()).unwrap()).unwrap());
    let daemon = Daemon::start(ServerOptions { store: store(), ..ServerOptions::default() }).await;
    let mut client = daemon.client().await;
    let (kept, other) = ([1; 32], [2; 32]);
    client.configure(remembered(kept, true, false)).await;
    disk.full.store(true, Ordering::Relaxed);
    let mut forgetting = setting(kept, false, true);
    forgetting.configuration.remember = Some(false);
    for request in [
        remembered(kept, true, true),
        forgetting,
        // Leaving is forgetting.
        setting(kept, false, false),
        remembered(other, true, true),
    ] {
        let refused = client.try_call::<NetworkStatusResponse>(Method::NetworkConfigure, &request).await;
        assert_eq!(refused.unwrap_err().code.as_deref(), Some(code::IO), "{request:?}");
        assert_eq!(client.statuses().await, [status(kept, true, false, true).unwrap()], "{request:?}");
    }
    // What need not be stored is done.
    assert_eq!(client.configure(setting(other, false, true)).await, status(other, false, true, false));
    disk.full.store(false, Ordering::Relaxed);
    daemon.server.stop().await;

    let daemon = Daemon::start(ServerOptions { store: store(), ..ServerOptions::default() }).await;
    let mut client = daemon.client().await;
    assert_eq!(client.statuses().await, [status(kept, true, false, true).unwrap()]);
    assert_eq!(client.configure(remembered(kept, true, true)).await, status(kept, true, true, true));
    daemon.server.stop().await;
}

/// Thousands of topics are announced again after a restart, and whoever asks for something is not behind them in a line.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_does_not_wait_for_thousands_of_remembered_topics() {
    const TOPICS: u16 = 3000;
    let topic = |number: u16| [number.to_le_bytes(); 16].concat();
    let store = Corestore::memory();
    let database = store.database().clone();
    let primary_key = *store.primary_key();
    let daemon = Daemon::start(ServerOptions { store: Some(store), ..ServerOptions::default() }).await;
    let mut client = daemon.client().await;
    for number in 0..TOPICS {
        client.configure(remembered(topic(number), true, false)).await;
    }
    assert_eq!(client.statuses().await.len(), usize::from(TOPICS));
    daemon.server.stop().await;

    let node = dht().await;
    let other = Daemon::online(&node).await;
    let mut writer = other.client().await;
    let log = writer.open(0, None).await;
    writer.append(0, vec!["hello".into()]).await;
    let wanted = log.discovery_key.clone().unwrap();
    writer.configure(flushed(setting(&wanted, true, false))).await;

    let store = Corestore::from_database_with_primary_key(database, primary_key).unwrap();
    let options =
        ServerOptions { store: Some(store), network: Some(network(&node)), ..ServerOptions::default() };
    let daemon = Daemon::start(options).await;
    let mut client = daemon.client().await;
    assert_eq!(client.statuses().await.len(), usize::from(TOPICS));
    // In no topic of its own: this waits until all that is joined has had its round.
    client.open(0, None).await;
    let all = client.send(Method::HypercoreGet, &get(0, 7)).await;
    client.open(1, Some(log.key.clone())).await;
    let looked_up = client.send(Method::NetworkConfigure, &flushed(setting(&wanted, false, true))).await;
    let got = client.send(Method::HypercoreGet, &GetRequest { resource_id: 1, ..get(1, 0) }).await;
    let mut answers = Vec::new();
    while answers.len() < 3 {
        let (header, _) = timeout(DEADLINE, client.next()).await.expect("an answer");
        if header.kind != Kind::Request {
            answers.push((header.id, header.kind));
        }
    }
    assert_eq!(answers[2], (all, Kind::Error), "the others are answered long before: {answers:?}");
    assert!(answers.contains(&(looked_up, Kind::Response)) && answers.contains(&(got, Kind::Response)));

    // And by now, all of them are announced.
    let third = Daemon::online(&node).await;
    let mut finder = third.client().await;
    finder.configure(flushed(setting(topic(TOPICS - 1), false, true))).await;
    let found: Vec<_> =
        finder.network().await.peers.iter().map(|peer| peer.remote_public_key.clone()).collect();
    assert_eq!(found, [&daemon.server.public_key()[..]]);
    third.server.stop().await;
    other.server.stop().await;
    daemon.server.stop().await;
    node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_comes_as_soon_as_its_topic_is_looked_up() {
    let node = dht().await;
    let (one, two) = (Daemon::online(&node).await, Daemon::online(&node).await);
    let (mut writer, mut reader) = (one.client().await, two.client().await);
    let log = writer.open(0, None).await;
    writer.append(0, vec!["hello".into()]).await;
    writer.network().await;
    let topic = log.discovery_key.clone().unwrap();
    reader.open(0, Some(log.key.clone())).await;
    // Nobody has it, as far as anybody knows: to be told so takes no longer than asking.
    assert_eq!(reader.get(0, 0).await.unwrap_err().message, text::BLOCK_NOT_AVAILABLE);
    assert!(reader.configure(flushed(setting(&topic, false, true))).await.is_some());
    assert_eq!(reader.get(0, 0).await.unwrap_err().message, text::BLOCK_NOT_AVAILABLE);
    let update = UpdateRequest { id: 0, min_length: Some(1), if_available: None, hash: None };
    let error = reader.try_call::<()>(Method::HypercoreUpdate, &update).await.unwrap_err();
    assert_eq!(error.message, text::NO_UPDATE_AVAILABLE);

    writer.configure(flushed(setting(&topic, true, false))).await;
    // A connection takes its time, and the get is answered when it is there.
    let configuring = reader.send(Method::NetworkConfigure, &setting(&topic, false, true)).await;
    let getting = reader.send(Method::HypercoreGet, &get(0, 0)).await;
    assert!(reader.result::<NetworkStatusResponse>(configuring).await.unwrap().status.is_some());
    let got: GetResponse = reader.result(getting).await.unwrap();
    assert_eq!(got.block.unwrap(), "hello");
    // And nobody has the next one.
    assert_eq!(reader.get(0, 1).await.unwrap_err().message, text::BLOCK_NOT_AVAILABLE);

    // Both know of each other.
    let keys = [one.server.public_key(), two.server.public_key()];
    let added: PeerEvent = writer.event(Method::NetworkOnPeerAdd).await;
    assert_eq!((added.id, &*added.peer.remote_public_key), (0, &keys[1][..]));
    let peers = reader.network().await.peers;
    assert_eq!((peers.len(), &*peers[0].remote_public_key), (1, &keys[0][..]));
    two.server.stop().await;
    let removed: PeerEvent = writer.event(Method::NetworkOnPeerRemove).await;
    assert_eq!(removed.peer, added.peer);
    one.server.stop().await;
    node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_is_open_but_not_configured_is_found_over_any_connection() {
    let node = dht().await;
    let (one, two) = (Daemon::online(&node).await, Daemon::online(&node).await);
    let (mut writer, mut reader) = (one.client().await, two.client().await);
    let log = writer.open(0, None).await;
    writer.append(0, vec!["hello".into()]).await;
    // They meet at something else, and the core is asked for while that is looked up.
    let topic = [7; 32];
    writer.configure(flushed(setting(topic, true, false))).await;
    reader.open(0, Some(log.key)).await;
    reader.configure(setting(topic, false, true)).await;
    assert_eq!(reader.get(0, 0).await.unwrap(), "hello");
    // The one who announced leaves, and the other one finds nobody any more.
    writer.configure(flushed(setting(topic, false, false))).await;
    let late = Daemon::online(&node).await;
    let mut latecomer = late.client().await;
    latecomer.configure(flushed(setting(topic, false, true))).await;
    assert_eq!(latecomer.network().await.peers, []);
    for daemon in [one, two, late] {
        daemon.server.stop().await;
    }
    node.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cores_that_store_open_opens_are_in_the_swarm_until_their_client_says_otherwise() {
    let node = dht().await;
    let mut daemon = Daemon::online(&node).await;
    let client = daemon.rust_client().await;
    let log = client.corestore().create().await.unwrap();
    let topic = *log.discovery_key().as_bytes();
    let mut other = daemon.client().await;
    assert_eq!(other.statuses().await, [status(topic, true, true, false).unwrap()]);
    drop(log);
    client.close();
    // Others still find what was written.
    daemon.clients_gone(1).await;
    assert_eq!(other.status(topic).await, status(topic, true, false, false));
    assert_eq!(other.configure(flushed(setting(topic, false, false))).await, None);

    let client = daemon.rust_client().await;
    let log = client.corestore().create().await.unwrap();
    let topic = *log.discovery_key().as_bytes();
    other.configure(setting(topic, false, false)).await;
    assert_eq!(other.status(topic).await, status(topic, true, true, false), "it has it open still");
    drop(log);
    client.close();
    daemon.clients_gone(1).await;
    assert_eq!(other.status(topic).await, None);
    daemon.server.stop().await;
    node.close().await;
}

/// Two daemons, connected by address.
async fn pair() -> (Daemon, Daemon) {
    let listening = ServerOptions { peer_listen: Some("127.0.0.1:0".into()), ..ServerOptions::default() };
    let one = Daemon::start(listening).await;
    let connect = vec![one.server.peer_address().unwrap().to_string()];
    let two = Daemon::start(ServerOptions { connect, ..ServerOptions::default() }).await;
    (one, two)
}

#[tokio::test]
async fn messages_go_over_the_connection_as_a_whole() {
    let (one, two) = pair().await;
    let (mut a, mut b, mut c) = (one.client().await, two.client().await, two.client().await);
    let (key_a, key_b) = (one.server.public_key(), two.server.public_key());
    a.extension(1, "chat").await;
    b.extension(2, "chat").await;
    c.extension(3, "chat").await;
    c.extension(4, "else").await;
    for client in [&mut b, &mut c] {
        if client.network().await.peers.is_empty() {
            client.event::<PeerEvent>(Method::NetworkOnPeerAdd).await;
        }
    }
    let peer = match a.network().await.peers.pop() {
        Some(peer) => peer,
        None => a.event::<PeerEvent>(Method::NetworkOnPeerAdd).await.peer,
    };
    assert_eq!(&*peer.remote_public_key, &key_b);

    // As soon as somebody is there, he can be told something.
    a.say(1, None, "to all").await;
    a.say(1, Some(&key_b), "to one").await;
    a.say(1, Some(&[9; 32]), "to nobody").await;
    for (client, resource_id) in [(&mut b, 2), (&mut c, 3)] {
        for data in ["to all", "to one"] {
            let message: ExtensionMessage = client.event(Method::NetworkOnExtension).await;
            let remote_public_key = Some(Bytes::copy_from_slice(&key_a));
            let expected = ExtensionMessage { id: 0, resource_id, remote_public_key, data: data.into() };
            assert_eq!(message, expected);
        }
    }
    let gone = UnregisterExtensionRequest { id: 0, resource_id: 2 };
    b.call::<()>(Method::NetworkUnregisterExtension, &gone).await;
    a.say(1, None, "once more").await;
    let message: ExtensionMessage = c.event(Method::NetworkOnExtension).await;
    assert_eq!(message.data, "once more");
    c.say(3, Some(&key_a), "back").await;
    let message: ExtensionMessage = a.event(Method::NetworkOnExtension).await;
    assert_eq!((message.resource_id, &message.data[..]), (1, &b"back"[..]));
    b.network().await;
    assert!(b.events.is_empty(), "{:?}", b.events);

    two.server.stop().await;
    let removed: PeerEvent = a.event(Method::NetworkOnPeerRemove).await;
    assert_eq!(removed.peer, peer);
    one.server.stop().await;
}
