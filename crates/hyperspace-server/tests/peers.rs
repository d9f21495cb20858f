//! Daemons that replicate with each other, over TCP on this machine.

mod common;

use std::{path::PathBuf, time::Duration};

use corestore::Corestore;
use futures::{StreamExt, stream::BoxStream};
use hypercore::{CoreEvent, DownloadRange, StreamedEvent};
use hyperspace_client::{ClientError, HyperspaceClient};
use hyperspace_common::{Endpoint, text};
use hyperspace_server::{Server, ServerOptions};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

struct Daemon {
    server: Server,
    socket: PathBuf,
    folder: TempDir,
}

impl Daemon {
    async fn start(peer_listen: Option<&str>, connect: &[String]) -> Self {
        Self::with_store(Corestore::memory(), peer_listen, connect).await
    }

    async fn with_store(store: Corestore, peer_listen: Option<&str>, connect: &[String]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s.sock");
        let options = ServerOptions {
            store: Some(store),
            socket: Some(socket.clone()),
            peer_listen: peer_listen.map(Into::into),
            connect: connect.to_vec(),
            ..ServerOptions::default()
        };
        Self { server: Server::start(options).await.unwrap(), socket, folder }
    }

    async fn client(&self) -> HyperspaceClient {
        HyperspaceClient::connect_to(&Endpoint::Socket(self.socket.clone())).await.unwrap()
    }

    fn address(&self) -> String {
        self.server.peer_address().unwrap().to_string()
    }
}

async fn pair() -> (Daemon, Daemon) {
    let one = Daemon::start(Some("127.0.0.1:0"), &[]).await;
    let two = Daemon::start(None, &[one.address()]).await;
    (one, two)
}

#[tokio::test]
async fn what_one_writes_the_other_reads_at_once() {
    let (one, two) = pair().await;
    let writer = one.client().await.corestore().create().await.unwrap();
    for i in 0..100 {
        writer.append(format!("block {i}")).await.unwrap();
    }
    // Without any wait in between: asking includes looking for whoever has it.
    let client = two.client().await;
    let reader = client.corestore().get(&writer.key()).await.unwrap();
    assert!(!reader.writable());
    assert!(reader.update().await.unwrap());
    assert_eq!((reader.length(), reader.byte_length()), (100, writer.byte_length()));
    for i in [0, 99, 50] {
        assert_eq!(reader.get(i).await.unwrap(), format!("block {i}"));
    }
    assert!(
        matches!(reader.get(100).await, Err(ClientError::Rpc(e)) if e.message == text::BLOCK_NOT_AVAILABLE)
    );
    assert!(!reader.update().await.unwrap());
    assert_eq!(reader.seek(7).await.unwrap(), (1, 0));
    assert_eq!(reader.seek(writer.byte_length()).await.unwrap(), (100, 0));
    assert!(matches!(
        reader.seek(writer.byte_length() + 1).await,
        Err(ClientError::Rpc(e)) if e.message == text::SEEK_NOT_AVAILABLE
    ));
    assert_eq!(reader.downloaded(0..100).await.unwrap(), 3);
    reader.download(&DownloadRange::new(0, 100)).await.unwrap();
    assert_eq!(reader.downloaded(0..100).await.unwrap(), 100);
}

/// Somebody has the whole tree's roots and not one block.
#[tokio::test]
async fn a_byte_in_what_nobody_has_is_not_waited_for() {
    let (one, two) = {
        let one = Daemon::start(Some("127.0.0.1:0"), &[]).await;
        let two = Daemon::start(Some("127.0.0.1:0"), &[one.address()]).await;
        (one, two)
    };
    let writer = one.client().await.corestore().create().await.unwrap();
    for _ in 0..8 {
        writer.append(vec![1; 100]).await.unwrap();
    }
    let client = two.client().await;
    let length_only = client.corestore().get(&writer.key()).await.unwrap();
    assert!(length_only.update().await.unwrap());
    one.server.stop().await;
    let three = Daemon::start(None, &[two.address()]).await;
    let client = three.client().await;
    let reader = client.corestore().get(&writer.key()).await.unwrap();
    assert!(reader.update().await.unwrap());
    let not_available = |sought: Result<_, ClientError>| matches!(sought, Err(ClientError::Rpc(error)) if error.message == text::SEEK_NOT_AVAILABLE);
    for core in [&reader, &length_only] {
        assert_eq!((core.length(), core.byte_length()), (8, 800));
        assert!(not_available(core.seek(350).await));
        assert!(not_available(core.seek(5000).await));
        assert_eq!(core.seek(800).await.unwrap(), (8, 0));
    }
}

#[tokio::test]
async fn a_block_that_is_asked_for_first_needs_no_update() {
    let (one, two) = pair().await;
    let writer = one.client().await.corestore().create().await.unwrap();
    writer.append("hello").await.unwrap();
    let reader = two.client().await.corestore().get(&writer.key()).await.unwrap();
    assert_eq!(reader.get(0).await.unwrap(), "hello");
}

#[tokio::test]
async fn both_directions_and_live() {
    let (one, two) = pair().await;
    let theirs = two.client().await.corestore().create().await.unwrap();
    let mine = one.client().await.corestore().get(&theirs.key()).await.unwrap();
    let mut events = mine.events();
    let waiting = mine.clone();
    let live = tokio::spawn(async move {
        let mut blocks = Vec::new();
        for i in 0..20 {
            blocks.push(waiting.wait_for_block(i).await.unwrap());
        }
        blocks
    });
    for i in 0..20 {
        theirs.append(i.to_string()).await.unwrap();
    }
    let blocks = live.await.unwrap();
    assert_eq!(blocks, (0..20).map(|i| i.to_string()).collect::<Vec<_>>());
    let mut downloads = 0;
    while downloads < 20 {
        match events.next().await.unwrap() {
            StreamedEvent::Event(CoreEvent::Download { .. }) => downloads += 1,
            StreamedEvent::Event(_) => {}
            StreamedEvent::Lagged(_) => panic!("a reader that keeps up misses nothing"),
        }
    }
}

#[tokio::test]
async fn peers_are_told_of_and_have_a_lasting_identity() {
    let store = Corestore::memory();
    let one = Daemon::with_store(store.clone(), Some("127.0.0.1:0"), &[]).await;
    let two = Daemon::start(None, &[one.address()]).await;
    let writer = one.client().await.corestore().create().await.unwrap();
    writer.append("x").await.unwrap();
    let reader = two.client().await.corestore().get(&writer.key()).await.unwrap();
    reader.get(0).await.unwrap();
    let peers = reader.peers();
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].remote_public_key, one.server.public_key());
    assert_eq!((peers[0].kind.as_str(), peers[0].remote_address.as_str()), ("tcp", one.address().as_str()));
    let network = two.client().await.network().info().await.unwrap();
    assert_eq!((network.public_key, network.peers), (two.server.public_key(), vec![(*peers[0]).clone()]));

    let mut events = reader.events();
    let identity = one.server.public_key();
    one.server.stop().await;
    while !matches!(events.next().await.unwrap(), StreamedEvent::Event(CoreEvent::PeerRemoved(_))) {}
    assert!(reader.peers().is_empty());
    let primary_key = *store.primary_key();
    let database = hypercore::storage::Database::memory();
    let again = Corestore::from_database_with_primary_key(database, primary_key).unwrap();
    assert_eq!(Daemon::with_store(again, None, &[]).await.server.public_key(), identity);
}

#[tokio::test]
async fn a_lost_peer_is_dialled_again() {
    let one = Daemon::start(Some("127.0.0.1:0"), &[]).await;
    let address = one.address();
    let two = Daemon::start(None, std::slice::from_ref(&address)).await;
    let theirs = two.client().await.corestore().create().await.unwrap();
    theirs.append("before").await.unwrap();
    let mine = one.client().await.corestore().get(&theirs.key()).await.unwrap();
    assert_eq!(mine.get(0).await.unwrap(), "before");
    one.server.stop().await;
    drop(one.folder);

    theirs.append("after").await.unwrap();
    let one = Daemon::start(Some(&address), &[]).await;
    let mine = one.client().await.corestore().get(&theirs.key()).await.unwrap();
    // However long the other side takes to dial again.
    assert_eq!(mine.wait_for_block(1).await.unwrap(), "after");
}

/// An address that leads to another one, which need not be known yet.
struct Door {
    listener: TcpListener,
}

impl Door {
    async fn new() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    fn leads_to(self, address: String) {
        tokio::spawn(async move {
            while let Ok((mut near, _)) = self.listener.accept().await {
                let address = address.clone();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(address).await?;
                    tokio::io::copy_bidirectional(&mut near, &mut far).await
                });
            }
        });
    }
}

#[tokio::test]
async fn daemons_that_dial_each_other_keep_one_connection() {
    let door = Door::new().await;
    let door_address = door.address();
    let one = Daemon::start(Some("127.0.0.1:0"), std::slice::from_ref(&door_address)).await;
    let two = Daemon::start(Some("127.0.0.1:0"), &[one.address()]).await;
    let mut at_one = Box::pin(one.server.events());
    let mut at_two = Box::pin(two.server.events());
    door.leads_to(two.address());

    // The one that the side with the greater key dialled, seen from both sides.
    let dials = |daemon: &Daemon, address: &str| match &daemon.server.peers()[..] {
        [peer] => Some(peer.remote_address == address),
        _ => None,
    };
    let greater = one.server.public_key() > two.server.public_key();
    let settled = async {
        while dials(&one, &door_address) != Some(greater) || dials(&two, &one.address()) != Some(!greater) {
            // Something changes at either.
            tokio::select! {
                event = at_one.next() => event.expect("it runs"),
                event = at_two.next() => event.expect("it runs"),
            };
        }
    };
    tokio::time::timeout(Duration::from_secs(120), settled).await.expect("one connection is left");

    for (writes, reads) in [(&one, &two), (&two, &one)] {
        let writer = writes.client().await.corestore().create().await.unwrap();
        writer.append("hello").await.unwrap();
        let reader = reads.client().await.corestore().get(&writer.key()).await.unwrap();
        assert_eq!(reader.wait_for_block(0).await.unwrap(), "hello");
    }
}

#[tokio::test]
async fn nobody_has_it_is_said_once_the_dialling_has_failed() {
    // Nobody listens there: the address was given back.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let alone = Daemon::start(None, &[gone.to_string()]).await;
    let reader = alone.client().await.corestore().get(&[9; 32].into()).await.unwrap();
    assert!(
        matches!(reader.get(0).await, Err(ClientError::Rpc(e)) if e.message == text::BLOCK_NOT_AVAILABLE)
    );
    assert!(!reader.update().await.unwrap());
}

#[tokio::test]
async fn garbage_on_the_peer_port_hurts_nobody() {
    let (one, two) = pair().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 5000], &[0; 100], b""] {
        let mut stream = TcpStream::connect(one.address()).await.unwrap();
        let _ = stream.write_all(garbage).await;
        let _ = stream.shutdown().await;
        let mut rest = Vec::new();
        let end = tokio::time::timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "the connection is closed");
    }
    let writer = one.client().await.corestore().create().await.unwrap();
    writer.append("still here").await.unwrap();
    let reader = two.client().await.corestore().get(&writer.key()).await.unwrap();
    assert_eq!(reader.get(0).await.unwrap(), "still here");
}

#[tokio::test]
async fn a_daemon_that_dials_itself_notices() {
    let one = Daemon::start(Some("127.0.0.1:0"), &[]).await;
    let address = one.address();
    let store = one.server.store().clone();
    // The same identity on both ends.
    let two = Daemon::with_store(store, None, &[address]).await;
    let reader = two.client().await.corestore().get(&[9; 32].into()).await.unwrap();
    // Answered only after the first round of dialling.
    assert!(!reader.update().await.unwrap());
    assert!(two.server.peers().is_empty());
}

/// The lengths that a session's events tell of, up to this one.
async fn lengths(events: &mut BoxStream<'static, StreamedEvent>, length: u64) -> Vec<u64> {
    let mut told = Vec::new();
    while told.last().is_none_or(|last| *last < length) {
        match events.next().await.unwrap() {
            StreamedEvent::Event(CoreEvent::Append { length, .. }) => told.push(length),
            StreamedEvent::Event(_) => {}
            StreamedEvent::Lagged(_) => panic!("events were lost"),
        }
    }
    told
}

#[tokio::test]
async fn an_update_is_told_once_however_many_blocks_it_brings() {
    let (one, two) = pair().await;
    let writer = one.client().await.corestore().create().await.unwrap();
    let blocks: Vec<_> = (0..500u32).map(|i| i.to_string().into()).collect();
    writer.append_blocks(&blocks).await.unwrap();
    let reader = two.client().await.corestore().get(&writer.key()).await.unwrap();
    let mut events = reader.events();
    assert!(reader.update().await.unwrap());
    assert_eq!(lengths(&mut events, 500).await, [500]);
    // Fetching the blocks makes it no longer.
    reader.download(&DownloadRange::new(0, 500)).await.unwrap();
    // An append call is one event where it is made, and one update where it is read.
    let mut own = writer.events();
    for length in 501..=503u64 {
        writer.append_blocks(&blocks[..2]).await.unwrap();
        reader.wait_for_length(2 * length - 500).await.unwrap();
    }
    assert_eq!(lengths(&mut own, 506).await, [502, 504, 506]);
    assert_eq!(lengths(&mut events, 506).await, [502, 504, 506]);
}

#[cfg(feature = "rocksdb")]
#[tokio::test]
async fn a_server_that_is_dropped_leaves_its_peers_and_its_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let one = Daemon::with_store(Corestore::open(&store).unwrap(), Some("127.0.0.1:0"), &[]).await;
    let two = Daemon::start(None, &[one.address()]).await;
    let writer = one.client().await.corestore().create().await.unwrap();
    writer.append("x").await.unwrap();
    let client = two.client().await;
    let reader = client.corestore().get(&writer.key()).await.unwrap();
    assert_eq!(reader.get(0).await.unwrap(), "x");
    let mut events = reader.events();
    drop(one);
    let again = async {
        while !matches!(events.next().await.unwrap(), StreamedEvent::Event(CoreEvent::PeerRemoved(_))) {}
        // Its tasks let go of the store one after the other.
        loop {
            match Corestore::open(&store) {
                Ok(store) => return store,
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(120), again).await.expect("the peer sees its end");
    let log = again.get(corestore::Query::key(writer.key())).unwrap();
    assert_eq!(log.try_get(0).unwrap().unwrap(), "x");
}
