use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use hypercore::demand::DownloadRange;
use hypercore::events::{CoreEvent, StreamedEvent};
use hypercore::proof::{ProofRequest, RequestBlock};
use hypercore::session::WeakHypercore;
use hypercore::storage::Database;
use hypercore::{DiscoveryKey, Error, Hypercore, Key, UpdateOptions};
use hypercore_protocol::messages::{Extension, Request, Synchronize};
use hypercore_protocol::{
    ChannelId, Connection, ConnectionEvent, ConnectionOptions, HandshakeResult, KeyPair, Message, Pattern,
};
use secret_stream::noise::Handshake;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{CoreSource, ExtensionError, OwnProtocol, ReplicateOptions, Replication, ReplicationHub};

/// A store in memory, with no more than replication needs.
#[derive(Clone)]
struct Store {
    cores: Arc<Cores>,
    hub: Arc<ReplicationHub>,
    identity: KeyPair,
}

struct Cores {
    database: Database,
    loaded: Mutex<HashMap<DiscoveryKey, WeakHypercore>>,
}

impl CoreSource for Cores {
    fn open_stored(&self, discovery_key: &DiscoveryKey) -> Result<Option<Hypercore>, Error> {
        if let Some(core) = self.loaded(discovery_key) {
            return Ok(Some(core));
        }
        if self.database.resume(discovery_key)?.is_none() {
            return Ok(None);
        }
        let core = Hypercore::builder()
            .discovery_key(*discovery_key)
            .create_if_missing(false)
            .open(&self.database)?;
        self.loaded.lock().unwrap().insert(*discovery_key, core.weak());
        Ok(Some(core))
    }

    fn loaded(&self, discovery_key: &DiscoveryKey) -> Option<Hypercore> {
        let weak = self.loaded.lock().unwrap().get(discovery_key).cloned();
        weak?.upgrade()
    }

    fn loaded_keys(&self) -> Vec<DiscoveryKey> {
        self.loaded.lock().unwrap().keys().copied().collect()
    }
}

impl Store {
    fn new(seed: u8) -> Self {
        let cores = Arc::new(Cores { database: Database::memory(), loaded: Mutex::default() });
        Self { cores, hub: Arc::default(), identity: KeyPair::from_seed(&[seed; 32]) }
    }

    fn get(&self, key: Key) -> Hypercore {
        let core = match self.cores.loaded(&key.discovery_key()) {
            Some(core) => core,
            None => Hypercore::builder().key(key).open(&self.cores.database).unwrap(),
        };
        self.adopt(core)
    }

    fn create(&self, seed: u8) -> Hypercore {
        self.adopt(Hypercore::builder().seed([seed; 32]).open(&self.cores.database).unwrap())
    }

    fn adopt(&self, core: Hypercore) -> Hypercore {
        self.cores.loaded.lock().unwrap().insert(core.discovery_key(), core.weak());
        self.hub.core_in_use(&core);
        core
    }

    fn replicate(&self, is_initiator: bool, io: DuplexStream) -> Replication {
        let options =
            ReplicateOptions::new(is_initiator, self.identity.clone()).remote("memory", "somewhere");
        self.hub.replicate(self.cores.clone(), io, options).unwrap()
    }
}

fn connect(a: &Store, b: &Store) -> (Replication, Replication) {
    let (io_a, io_b) = tokio::io::duplex(64 * 1024);
    (a.replicate(true, io_a), b.replicate(false, io_b))
}

fn blocks(range: std::ops::Range<u64>) -> Vec<Bytes> {
    range.map(|i| format!("block {i}").into()).collect()
}

/// Waits for a condition that other tasks of this thread bring about: it is looked at whenever they had their turns.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let came_true = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), came_true)
        .await
        .unwrap_or_else(|_| panic!("never came true: {what}"));
}

async fn download_all(core: &Hypercore, length: u64) {
    core.download(DownloadRange::new(0, length)).unwrap().await.unwrap();
}

#[tokio::test]
async fn a_log_is_read_from_another_store_and_followed() {
    let (writer, reader) = (Store::new(1), Store::new(2));
    let log = writer.create(9);
    log.append_batch(blocks(0..500)).unwrap();
    let copy = reader.get(log.key());
    let (a, b) = connect(&writer, &reader);
    assert_eq!(a.opened().await.unwrap(), reader.identity.public);
    assert_eq!(b.opened().await.unwrap(), writer.identity.public);
    assert_eq!(copy.get(499).await.unwrap(), "block 499");
    download_all(&copy, 500).await;
    assert_eq!(copy.tree_hash(), log.tree_hash());
    assert_eq!(copy.peer_count(), 1);
    assert_eq!(copy.peers()[0].remote_address, "somewhere");

    for i in 500..510 {
        log.append(format!("block {i}")).unwrap();
        assert_eq!(copy.get(i).await.unwrap(), format!("block {i}"));
    }
    a.close();
    a.closed().await.unwrap();
    b.closed().await.unwrap();
    assert!(b.is_closed());
    eventually("peers are gone", || copy.peer_count() == 0 && log.peer_count() == 0).await;
    assert_eq!((writer.hub.connection_count(), writer.hub.core_count()), (0, 0));
}

#[tokio::test]
async fn cores_that_nobody_has_open_are_served_and_let_go_of() {
    let (writer, reader) = (Store::new(1), Store::new(2));
    let log = writer.create(9);
    log.append_batch(blocks(0..10)).unwrap();
    let (key, discovery_key) = (log.key(), log.discovery_key());
    drop(log);
    assert!(writer.cores.loaded(&discovery_key).is_none());
    let connections = connect(&writer, &reader);
    let copy = reader.get(key);
    assert_eq!(copy.get(3).await.unwrap(), "block 3");
    assert!(writer.cores.loaded(&discovery_key).is_some());
    connections.1.close();
    connections.0.closed().await.unwrap();
    eventually("the core is closed", || writer.cores.loaded(&discovery_key).is_none()).await;
    assert_eq!(writer.hub.core_count(), 0);
}

#[tokio::test]
async fn cores_that_come_into_use_later_get_their_channels() {
    let (writer, reader) = (Store::new(1), Store::new(2));
    let _connections = connect(&writer, &reader);
    let log = writer.create(9);
    log.append("first").unwrap();
    // The reader does not know it yet and said so.
    eventually("the channel was refused", || writer.hub.core_count() == 0).await;
    let copy = reader.get(log.key());
    assert_eq!(copy.get(0).await.unwrap(), "first");
    let unknown = reader.get(Key::from([77; 32]));
    eventually("nobody has it", || unknown.peer_count() == 0).await;
    assert!(!unknown.update().await.unwrap());
}

#[tokio::test]
async fn blocks_travel_through_a_store_in_between() {
    let stores = [Store::new(1), Store::new(2), Store::new(3)];
    let log = stores[0].create(9);
    log.append_batch(blocks(0..300)).unwrap();
    let _between = stores[1].get(log.key());
    let copy = stores[2].get(log.key());
    let _connections = (connect(&stores[0], &stores[1]), connect(&stores[1], &stores[2]));
    let _whole = _between.download(DownloadRange::live(0)).unwrap();
    download_all(&copy, 300).await;
    log.append("news").unwrap();
    assert_eq!(copy.get(300).await.unwrap(), "news");
    assert_eq!(copy.peer_count(), 1);
}

#[tokio::test]
async fn many_readers_of_one_log() {
    let writer = Store::new(1);
    let log = writer.create(9);
    log.append_batch(blocks(0..200)).unwrap();
    let readers: Vec<Store> = (10..18).map(Store::new).collect();
    let _connections: Vec<_> = readers.iter().map(|reader| connect(reader, &writer)).collect();
    let copies: Vec<_> = readers.iter().map(|reader| reader.get(log.key())).collect();
    for copy in &copies {
        download_all(copy, 200).await;
    }
    assert_eq!(log.peer_count(), 8);
    log.append("live").unwrap();
    for copy in &copies {
        assert_eq!(copy.get(200).await.unwrap(), "live");
    }
}

#[tokio::test]
async fn many_cores_over_one_connection() {
    let (writer, reader) = (Store::new(1), Store::new(2));
    let logs: Vec<_> = (0..100u8).map(|seed| writer.create(seed)).collect();
    for log in &logs {
        log.append_batch(blocks(0..5)).unwrap();
    }
    let copies: Vec<_> = logs.iter().map(|log| reader.get(log.key())).collect();
    let _connections = connect(&writer, &reader);
    for copy in &copies {
        download_all(copy, 5).await;
    }
    assert_eq!(reader.hub.core_count(), 100);
    // Out of use, a core is let go of while the connection goes on.
    let (kept, dropped) = copies.split_at(1);
    assert_eq!(kept[0].get(4).await.unwrap(), "block 4");
    let _ = dropped;
}

#[tokio::test]
async fn large_blocks_both_ways_at_once() {
    let (a, b) = (Store::new(1), Store::new(2));
    let (log_a, log_b) = (a.create(8), b.create(9));
    let block = |byte: u8| Bytes::from(vec![byte; 100_000]);
    log_a.append_batch((0..30).map(block)).unwrap();
    log_b.append_batch((100..130).map(block)).unwrap();
    let (copy_a, copy_b) = (b.get(log_a.key()), a.get(log_b.key()));
    let _connections = connect(&a, &b);
    tokio::join!(download_all(&copy_a, 30), download_all(&copy_b, 30));
    assert_eq!(copy_a.try_get(29).unwrap().unwrap(), block(29));
    assert_eq!(copy_b.try_get(29).unwrap().unwrap(), block(129));
}

#[tokio::test]
async fn a_cut_connection_is_resumed_by_the_next_one() {
    let (writer, reader) = (Store::new(1), Store::new(2));
    let log = writer.create(9);
    log.append_batch((0..400u32).map(|i| Bytes::from(vec![i as u8; 4_000]))).unwrap();
    let copy = reader.get(log.key());
    let whole = copy.download(DownloadRange::new(0, 400)).unwrap();
    let mut attempts = 0;
    let cutting = async {
        loop {
            // Cut after so many bytes, in the middle of whatever is on its way.
            let (near, far) = tokio::io::duplex(16 * 1024);
            let (far_reader, near_reader) = tokio::io::duplex(16 * 1024);
            attempts += 1;
            let (a, b) = (writer.replicate(false, near), reader.replicate(true, near_reader));
            let budget = 120_000 * attempts;
            let relay = tokio::spawn(relay(far, far_reader, budget));
            let _ = tokio::join!(a.closed(), b.closed(), relay);
        }
    };
    tokio::select! {
        () = cutting => {}
        done = whole => done.unwrap(),
    }
    assert_eq!(copy.tree_hash(), log.tree_hash());
    assert!(attempts > 2, "{attempts}");
}

async fn relay(mut a: DuplexStream, mut b: DuplexStream, mut budget: usize) {
    let (mut from_a, mut from_b) = (vec![0; 4096], vec![0; 4096]);
    while budget > 0 {
        let moved = tokio::select! {
            read = a.read(&mut from_a) => {
                let n = read.unwrap_or(0);
                if b.write_all(&from_a[..n]).await.is_err() { 0 } else { n }
            }
            read = b.read(&mut from_b) => {
                let n = read.unwrap_or(0);
                if a.write_all(&from_b[..n]).await.is_err() { 0 } else { n }
            }
        };
        if moved == 0 {
            return;
        }
        budget = budget.saturating_sub(moved);
    }
}

#[tokio::test]
async fn garbage_fails_the_connection_and_nothing_else() {
    let (writer, reader) = (Store::new(1), Store::new(2));
    let log = writer.create(9);
    log.append("x").unwrap();
    let (io, mut garbage) = tokio::io::duplex(4096);
    let connection = writer.replicate(false, io);
    garbage.write_all(b"\xff\xff\xff not a handshake").await.unwrap();
    let error = connection.closed().await.unwrap_err();
    assert!(error.to_string().contains("somewhere"), "{error}");
    assert!(connection.opened().await.is_err());
    let copy = reader.get(log.key());
    let _connections = connect(&writer, &reader);
    assert_eq!(copy.get(0).await.unwrap(), "x");
}

/// What both sides have after a Noise IK handshake, as the DHT runs it before there is a stream.
fn handshaken(a: &KeyPair, b: &KeyPair) -> (HandshakeResult, HandshakeResult) {
    let pattern = |remote_public_key| Pattern::IK { remote_public_key };
    let mut dialler = Handshake::new(true, a, pattern(Some(b.public)), &[]).unwrap();
    let mut listener = Handshake::new(false, b, pattern(None), &[]).unwrap();
    listener.read(&dialler.write(&[]).unwrap()).unwrap();
    dialler.read(&listener.write(&[]).unwrap()).unwrap();
    (dialler.finish().unwrap(), listener.finish().unwrap())
}

#[tokio::test]
async fn stores_replicate_after_a_handshake_that_was_run_elsewhere() {
    let (writer, reader) = (Store::new(1), Store::new(2));
    let log = writer.create(9);
    log.append_batch(blocks(0..300)).unwrap();
    let (near, far) = handshaken(&reader.identity, &writer.identity);
    let (io_near, io_far) = tokio::io::duplex(64 * 1024);
    let dialled = ReplicateOptions::handshaken(true, near).remote("memory", "writer");
    let listened = ReplicateOptions::handshaken(false, far).remote("memory", "reader");
    let connection = reader.hub.replicate(reader.cores.clone(), io_near, dialled).unwrap();
    let _other = writer.hub.replicate(writer.cores.clone(), io_far, listened).unwrap();
    assert_eq!(connection.opened().await.unwrap(), writer.identity.public);
    let copy = reader.get(log.key());
    assert!(copy.update().await.unwrap());
    for index in [0, 299, 150] {
        assert_eq!(copy.get(index).await.unwrap(), format!("block {index}"));
    }
    // Other keys: what arrives cannot be decrypted, and the connection fails.
    let (io_near, io_far) = tokio::io::duplex(64 * 1024);
    let (near, _) = handshaken(&reader.identity, &writer.identity);
    let (_, far) = handshaken(&reader.identity, &writer.identity);
    let one = reader
        .hub
        .replicate(reader.cores.clone(), io_near, ReplicateOptions::handshaken(true, near))
        .unwrap();
    let _two =
        writer.hub.replicate(writer.cores.clone(), io_far, ReplicateOptions::handshaken(false, far)).unwrap();
    assert!(one.closed().await.is_err());
}

#[tokio::test]
async fn a_silent_peer_is_given_up() {
    let store = Store::new(1);
    let (io, _silent) = tokio::io::duplex(4096);
    let options = ReplicateOptions::new(true, store.identity.clone())
        .timeout(Some(Duration::from_millis(20)))
        .remote("memory", "nowhere");
    let connection = store.hub.replicate(store.cores.clone(), io, options).unwrap();
    let error = connection.closed().await.unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[tokio::test]
async fn extension_messages_reach_the_sink() {
    let (a, b) = (Store::new(1), Store::new(2));
    let log = a.create(9);
    let copy = b.get(log.key());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = heard.clone();
    b.hub.set_extension_sink(Some(Arc::new(move |discovery_key, remote, name, message| {
        sink.lock().unwrap().push((*discovery_key, *remote, name.to_owned(), message));
    })));
    let _connections = connect(&a, &b);
    eventually("they are peers", || log.peer_count() == 1 && copy.peer_count() == 1).await;
    let (core, hello) = (log.discovery_key(), Bytes::from_static(b"hello"));
    assert_eq!(a.hub.broadcast_extension(&core, "chat", &hello), Ok(1));
    eventually("it is heard", || !heard.lock().unwrap().is_empty()).await;
    // To one peer, and to one who is none.
    assert_eq!(a.hub.send_extension(&core, &[7; 32], "chat", &hello), Ok(0));
    assert_eq!(a.hub.send_extension(&core, &b.identity.public, "chat", &hello), Ok(1));
    eventually("it is heard again", || heard.lock().unwrap().len() > 1).await;
    let expected = (core, a.identity.public, "chat".to_owned(), hello.clone());
    assert_eq!(*heard.lock().unwrap(), [expected.clone(), expected]);
    // What no message can carry is refused, and the connection lives on.
    let large = Bytes::from(vec![0; ExtensionError::MAX_MESSAGE + 1]);
    assert!(a.hub.broadcast_extension(&core, "chat", &large).is_err());
    assert!(a.hub.broadcast_extension(&core, &"x".repeat(1025), &hello).is_err());
    assert_eq!(a.hub.broadcast_extension(&core, "chat", &large.slice(1..)), Ok(1));
    eventually("the largest is heard", || heard.lock().unwrap().len() > 2).await;
    assert_eq!(heard.lock().unwrap()[2].3.len(), ExtensionError::MAX_MESSAGE);
}

#[tokio::test]
async fn of_a_frame_full_of_tiny_messages_none_is_lost() {
    let store = Store::new(1);
    let log = store.create(9);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = heard.clone();
    store.hub.set_extension_sink(Some(Arc::new(move |_: &_, _: &_, _: &_, message: Bytes| {
        sink.lock().unwrap().push(message);
    })));
    let (io, far) = tokio::io::duplex(64 * 1024);
    let _connection = store.replicate(false, io);
    let mut rogue = Rogue::new(far);
    let channel = rogue.open(&log.key()).await;
    rogue.connection.cork();
    for i in 0..20_000u32 {
        let message = Bytes::copy_from_slice(&i.to_le_bytes());
        let message = Message::Extension(Extension { name: "chat".into(), message });
        rogue.connection.send(channel, message).unwrap();
    }
    rogue.connection.uncork();
    rogue.write().await;
    eventually("all are heard", || heard.lock().unwrap().len() == 20_000).await;
    assert!(
        (0..20_000u32).zip(heard.lock().unwrap().iter()).all(|(i, message)| message[..] == i.to_le_bytes())
    );
}

/// Messages, and the public keys of those who sent them.
type Heard = Arc<Mutex<Vec<([u8; 32], Bytes)>>>;

/// What a store hears in the protocol `test`.
fn listen(store: &Store) -> Heard {
    let heard = Heard::default();
    let told = heard.clone();
    let sink = Arc::new(move |remote: &[u8; 32], message| told.lock().unwrap().push((*remote, message)));
    store.hub.set_own_protocol(Some(OwnProtocol { name: "test".into(), sink }));
    heard
}

#[tokio::test]
async fn a_protocol_of_the_owners_goes_beside_the_cores() {
    let (a, b) = (Store::new(1), Store::new(2));
    let (at_a, at_b) = (listen(&a), listen(&b));
    let (to_b, to_a) = connect(&a, &b);
    // It waits until the other side wants it, too, also through the handshake.
    assert!(to_b.send_protocol("early".into()));
    to_a.opened().await.unwrap();
    assert!(at_b.lock().unwrap().is_empty());
    to_a.offer_protocol();
    eventually("it is heard", || !at_b.lock().unwrap().is_empty()).await;
    assert!(to_a.send_protocol("late".into()));
    eventually("the answer is heard", || !at_a.lock().unwrap().is_empty()).await;
    assert_eq!(*at_b.lock().unwrap(), [(a.identity.public, "early".into())]);
    assert_eq!(*at_a.lock().unwrap(), [(b.identity.public, "late".into())]);
    // Many large ones, in order.
    for i in 0..100u8 {
        while !to_b.send_protocol(vec![i; 1 << 20].into()) {
            tokio::task::yield_now().await;
        }
    }
    eventually("all are heard", || at_b.lock().unwrap().len() == 101).await;
    assert!((0..100u8).zip(&at_b.lock().unwrap()[1..]).all(|(i, (_, message))| message[0] == i));
    to_b.close();
    eventually("nothing can be said any more", || !to_b.send_protocol("x".into())).await;
}

#[tokio::test]
async fn a_held_connection_waits_behind_the_handshake() {
    let (writer, reader) = (Store::new(1), Store::new(2));
    let log = writer.create(9);
    log.append("x").unwrap();
    let copy = reader.get(log.key());
    let other = reader.create(8);
    let held = || {
        let (near, far) = tokio::io::duplex(1 << 20);
        let options = ReplicateOptions::new(true, writer.identity.clone()).held();
        let to_reader = writer.hub.replicate(writer.cores.clone(), near, options).unwrap();
        (to_reader, reader.replicate(false, far))
    };
    let (to_reader, to_writer) = held();
    assert_eq!(to_reader.opened().await.unwrap(), reader.identity.public);
    assert_eq!(to_writer.opened().await.unwrap(), writer.identity.public);
    // The other side offers its cores; whatever has its turn meanwhile, nothing comes of it.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!((writer.hub.core_count(), log.info().peers), (0, 0));
    to_reader.proceed();
    assert_eq!(copy.get(0).await.unwrap(), "x");
    drop(other);

    // It can be closed meanwhile.
    let (to_reader, to_writer) = held();
    to_reader.opened().await.unwrap();
    to_reader.close();
    to_reader.closed().await.unwrap();
    to_writer.closed().await.unwrap();
}

#[tokio::test]
async fn who_does_not_speak_the_protocol_rejects_it_and_replicates() {
    let (a, b) = (Store::new(1), Store::new(2));
    let heard = listen(&a);
    let (to_b, to_a) = connect(&a, &b);
    to_b.offer_protocol();
    assert!(to_a.send_protocol("it has no name for it".into()));
    eventually("it is rejected", || !to_b.send_protocol("x".into())).await;
    let log = a.create(9);
    log.append("x").unwrap();
    assert_eq!(b.get(log.key()).get(0).await.unwrap(), "x");
    assert!(heard.lock().unwrap().is_empty());
}

#[tokio::test]
async fn closing_a_core_by_force_closes_its_channels() {
    let (writer, reader) = (Store::new(1), Store::new(2));
    let log = writer.create(9);
    log.append("x").unwrap();
    let copy = reader.get(log.key());
    let connections = connect(&writer, &reader);
    assert_eq!(copy.get(0).await.unwrap(), "x");
    log.close_all();
    eventually("the peer is gone", || copy.peer_count() == 0).await;
    assert!(!connections.0.is_closed());
    // It is opened again on demand when the other side asks.
    drop(copy);
    drop(log);
    let again = reader.get(Key::from([1; 32]));
    assert_eq!(again.length(), 0);
}

/// Sends by hand what an honest peer would not.
struct Rogue {
    connection: Connection,
    io: DuplexStream,
}

impl Rogue {
    fn new(io: DuplexStream) -> Self {
        let options = ConnectionOptions::new(true, KeyPair::from_seed(&[66; 32]));
        Self { connection: Connection::new(options, Instant::now()).unwrap(), io }
    }

    /// Writes what is pending; reads only when told so.
    async fn write(&mut self) {
        while let Some(bytes) = self.connection.poll_transmit().unwrap() {
            self.io.write_all(&bytes).await.unwrap();
        }
    }

    async fn next(&mut self) -> ConnectionEvent {
        let mut buffer = vec![0; 4096];
        loop {
            if let Some(event) = self.connection.poll_event().unwrap() {
                return event;
            }
            self.write().await;
            let n = self.io.read(&mut buffer).await.unwrap();
            self.connection.receive(&buffer[..n], Instant::now()).unwrap();
        }
    }

    async fn open(&mut self, key: &Key) -> ChannelId {
        self.connection.open(key).unwrap();
        loop {
            if let ConnectionEvent::Opened { channel, .. } = self.next().await {
                return channel;
            }
        }
    }
}

fn request(id: u64, index: u64) -> Message {
    let proof = ProofRequest { block: Some(RequestBlock { index, nodes: 0 }), ..ProofRequest::default() };
    Message::Request(Request { id, fork: 0, proof, priority: 0 })
}

#[tokio::test]
async fn a_peer_that_asks_for_everything_and_never_reads_is_answered_no_more_than_it_takes() {
    let store = Store::new(1);
    let log = store.create(9);
    log.append_batch((0..1000u32).map(|i| Bytes::from(vec![i as u8; 20_000]))).unwrap();
    let uploads = log.events();
    let (io, far) = tokio::io::duplex(64 * 1024);
    let connection = store.replicate(false, io);
    let mut rogue = Rogue::new(far);
    let channel = rogue.open(&log.key()).await;
    for i in 0..1000 {
        rogue.connection.send(channel, request(i + 1, i)).unwrap();
    }
    rogue.write().await;
    // Others are served all the same.
    let reader = Store::new(2);
    let copy = reader.get(log.key());
    let _connections = connect(&store, &reader);
    assert_eq!(copy.get(999).await.unwrap().len(), 20_000);
    assert!(!connection.is_closed());
    log.close_all();
    let uploaded = uploads
        .filter(|event| std::future::ready(matches!(event, StreamedEvent::Event(CoreEvent::Upload { .. }))))
        .count()
        .await;
    assert!((1..100).contains(&uploaded), "{uploaded} blocks were read for a peer that takes none");
}

#[tokio::test]
async fn a_flood_of_unknown_cores_is_refused_one_by_one() {
    let store = Store::new(1);
    let (io, far) = tokio::io::duplex(64 * 1024);
    let connection = store.replicate(false, io);
    let mut rogue = Rogue::new(far);
    for i in 0..3_000u32 {
        let mut key = [7; 32];
        key[..4].copy_from_slice(&i.to_le_bytes());
        rogue.connection.open(&Key::from(key)).unwrap();
    }
    let mut refused = 0;
    while refused < 3_000 {
        refused += u32::from(matches!(rogue.next().await, ConnectionEvent::Closed { .. }));
    }
    assert_eq!(store.hub.core_count(), 0);
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn nonsense_on_a_channel_does_not_reach_the_others() {
    let (writer, reader) = (Store::new(1), Store::new(2));
    let log = writer.create(9);
    log.append_batch(blocks(0..50)).unwrap();
    let (io, far) = tokio::io::duplex(64 * 1024);
    let _connection = writer.replicate(false, io);
    let mut rogue = Rogue::new(far);
    let channel = rogue.open(&log.key()).await;
    let huge = u64::MAX >> 11;
    for message in [
        Message::Synchronize(Synchronize {
            fork: huge,
            length: huge,
            remote_length: huge,
            ..Default::default()
        }),
        Message::Range(hypercore_protocol::messages::Range { drop: false, start: 0, length: huge }),
        Message::Want(hypercore_protocol::messages::Want { start: huge, length: huge, any: true }),
        Message::Unwant(hypercore_protocol::messages::Unwant { start: 3, length: huge, any: false }),
        Message::Bitfield(hypercore_protocol::messages::Bitfield::from_words(huge, &[u32::MAX; 100])),
        Message::Cancel(hypercore_protocol::messages::Cancel { request: huge }),
        Message::NoData(hypercore_protocol::messages::NoData { request: huge, reason: 77 }),
        request(huge, huge),
        request(0, 0),
    ] {
        rogue.connection.send(channel, message).unwrap();
    }
    rogue.write().await;
    let copy = reader.get(log.key());
    let _connections = connect(&writer, &reader);
    download_all(&copy, 50).await;
}

#[tokio::test]
async fn a_small_core_is_not_starved_by_a_large_one() {
    let (writer, reader) = (Store::new(1), Store::new(2));
    let (large, small) = (writer.create(8), writer.create(9));
    large.append_batch((0..400u32).map(|i| Bytes::from(vec![i as u8; 20_000]))).unwrap();
    small.append("small").unwrap();
    let copies = (reader.get(large.key()), reader.get(small.key()));
    let _connections = connect(&writer, &reader);
    assert_eq!(copies.0.get(0).await.unwrap().len(), 20_000);
    let mut whole = copies.0.download(DownloadRange::new(0, 400)).unwrap();
    tokio::select! {
        biased;
        _ = whole.done() => panic!("the large one came first"),
        got = copies.1.get(0) => assert_eq!(got.unwrap(), "small"),
    }
    whole.done().await.unwrap();
}

#[tokio::test]
async fn an_update_asked_before_the_handshake_waits_for_it() {
    let (writer, reader) = (Store::new(1), Store::new(2));
    let log = writer.create(9);
    log.append("x").unwrap();
    let copy = reader.get(log.key());
    let _connections = connect(&writer, &reader);
    let options = UpdateOptions { wait: Some(true), ..UpdateOptions::default() };
    assert!(copy.update_with(options).await.unwrap());
    assert_eq!(copy.length(), 1);

    // With a peer that says nothing it ends when the connection does.
    let (lonely, (io, silent)) = (Store::new(3), tokio::io::duplex(4096));
    let copy = lonely.get(log.key());
    let connection = lonely.replicate(true, io);
    let ending = async {
        drop(silent);
        connection.closed().await.unwrap_err()
    };
    let (updated, _) = tokio::join!(copy.update_with(options), ending);
    assert!(!updated.unwrap());
}
