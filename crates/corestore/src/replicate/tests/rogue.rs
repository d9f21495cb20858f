//! Peers that keep to no rule.

use std::time::Instant;

use futures::StreamExt;
use hypercore::events::{CoreEvent, StreamedEvent};
use hypercore::proof::{ProofRequest, RequestBlock};
use hypercore_protocol::messages::{Extension, Request, Synchronize};
use hypercore_protocol::{ChannelId, Connection, ConnectionEvent, ConnectionOptions, Message};

use super::*;

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
