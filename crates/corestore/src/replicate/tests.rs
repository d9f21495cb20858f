mod beside;
mod rogue;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use hypercore::demand::DownloadRange;
use hypercore::session::WeakHypercore;
use hypercore::storage::Database;
use hypercore::{DiscoveryKey, Error, Hypercore, Key, UpdateOptions};
use hypercore_protocol::{HandshakeResult, KeyPair, Pattern};
use secret_stream::noise::Handshake;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{CoreSource, ReplicateOptions, Replication, ReplicationHub};

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
