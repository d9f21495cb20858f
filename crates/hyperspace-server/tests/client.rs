//! What the Rust client can do beyond a log's trait: locks, extensions, snapshots, lists, values, reconnecting.

mod common;

use std::{path::PathBuf, pin::pin};

use bytes::Bytes;
use common::Fixture;
use corestore::Corestore;
use futures::{FutureExt, StreamExt, TryStreamExt};
use hypercore::{AppendLog, CoreEvent, GetOptions, StreamedEvent, storage::Database};
use hyperspace_client::{
    ClientError, ConnectOptions, ConnectionEvent, HyperspaceClient, Json, RemoteHypercore, SeekOptions, Utf8,
    Values,
};
use hyperspace_common::Endpoint;
use hyperspace_server::{Server, ServerOptions};

#[tokio::test]
async fn locks_are_taken_in_turn() {
    let fixture = Fixture::start().await;
    let (one, two) = (fixture.client().await, fixture.client().await);
    let log = one.corestore().get_by_name("log").await.unwrap();
    let twin = two.corestore().get_by_name("log").await.unwrap();
    let lock = log.lock().await.unwrap();
    let mut waiting = Box::pin(twin.lock());
    assert!((&mut waiting).now_or_never().is_none());
    log.append("x").await.unwrap();
    lock.release().await.unwrap();
    let lock = waiting.await.unwrap();
    assert_eq!(twin.length(), 1, "what was appended under the lock is known");
    // Who gives up waiting holds up nobody.
    assert!(log.lock().now_or_never().is_none());
    drop(lock);
    let lock = twin.lock().await.unwrap();
    assert!(!lock.is_lost());
    twin.close().await.unwrap();
    lock.lost().await;
    log.lock().await.unwrap();
}

#[tokio::test]
async fn history_can_be_cut_and_blocks_removed() {
    let fixture = Fixture::start().await;
    let client = fixture.client().await;
    let log = client.corestore().create().await.unwrap();
    log.append_blocks(&["a".into(), "bc".into(), "def".into()]).await.unwrap();
    let snapshot = log.snapshot().await.unwrap();
    let mut events = log.events();
    let state = log.truncate(2, None).await.unwrap();
    assert_eq!((state.length, state.byte_length, state.fork), (2, 3, 1));
    assert_eq!((log.length(), log.byte_length(), log.fork()), (2, 3, 1));
    assert!(matches!(
        events.next().await,
        Some(StreamedEvent::Event(CoreEvent::Truncate { length: 2, byte_length: 3, fork: 1 }))
    ));
    assert_eq!((snapshot.length(), snapshot.fork(), snapshot.writable()), (3, 0, false));
    assert_eq!(snapshot.get(0).await.unwrap(), "a");

    assert_eq!(log.clear(0..1).await.unwrap(), 1);
    assert!(!log.has(0).await.unwrap());
    assert_eq!(log.contiguous_length().await.unwrap(), 0);
    assert_eq!(log.manifest().await.unwrap().unwrap().key(), log.key());
    log.set_user_data("colour", Some(Bytes::from_static(b"green"))).await.unwrap();
    assert_eq!(log.user_data("colour").await.unwrap().unwrap(), "green");
    log.set_user_data("colour", None).await.unwrap();
    assert_eq!(log.user_data("colour").await.unwrap(), None);
    // The same through the trait.
    AppendLog::truncate(&log, 1).await.unwrap();
    AppendLog::clear(&log, 0..1).await.unwrap();
    assert_eq!(AppendLog::fork(&log), 2);
    let seek = SeekOptions { wait: false, ..SeekOptions::default() };
    assert!(log.seek_with(50, seek).await.unwrap_err().rpc_message() == Some("Out of bounds"));
}

#[tokio::test]
async fn the_store_is_listed() {
    let fixture = Fixture::start().await;
    let client = fixture.client().await;
    let app = client.corestore().namespace("app");
    let mut keys = Vec::new();
    for i in 0..600 {
        let log = app.get_by_name(&format!("log {i:03}")).await.unwrap();
        keys.push(log.key());
    }
    let plain = client.corestore().get_by_name("log 000").await.unwrap();
    assert_ne!(plain.key(), keys[0]);
    plain.append("hello").await.unwrap();
    let listed: Vec<_> = client.corestore().list().try_collect().await.unwrap();
    assert_eq!(listed.len(), 601);
    let own: Vec<_> = listed.iter().filter(|core| core.length > 0).collect();
    assert!(own.len() == 1 && own[0].key == plain.key() && own[0].byte_length == 5 && own[0].open);
    let names: Vec<_> = app.names().try_collect().await.unwrap();
    assert_eq!(names.len(), 600);
    assert_eq!(names[599], ("log 599".to_owned(), keys[599].discovery_key()));
    let again = client.corestore().get_by_discovery_key(&keys[7].discovery_key()).await.unwrap();
    assert_eq!(again.key(), keys[7]);
    let nobody = client.corestore().get_stored(&[9; 32].into()).await.unwrap_err();
    assert!(matches!(nobody, ClientError::Rpc(error) if error.code.as_deref() == Some("ENOENT")));
    let stats = client.stats().await.unwrap();
    assert_eq!((stats.clients, stats.peers), (1, 0));
}

#[tokio::test]
async fn values_have_encodings() {
    let fixture = Fixture::start().await;
    let client = fixture.client().await;
    let log = client.corestore().create().await.unwrap();
    let lines = Values::new(log.clone(), Utf8);
    lines.append_batch(&["one".to_owned(), "two".to_owned()]).await.unwrap();
    assert_eq!(lines.stream(0..2).try_collect::<Vec<_>>().await.unwrap(), ["one", "two"]);
    let json = Values::new(log, Json::<(String, u32)>::new());
    json.append(&("three".to_owned(), 3)).await.unwrap();
    assert_eq!(json.get(2).await.unwrap(), ("three".to_owned(), 3));
    assert!(json.get(0).await.unwrap_err().to_string().contains("JSON"));
}

#[tokio::test]
async fn gets_tell_that_they_wait() {
    let fixture = Fixture::start().await;
    let log = fixture.client().await.corestore().create().await.unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let options = GetOptions { if_available: true, ..GetOptions::default() };
    let missing = log.get_watching(7, options, move |seq| sender.send(seq).unwrap()).await;
    assert!(missing.is_err());
    assert_eq!(receiver.try_recv(), Ok(7));
}

#[tokio::test]
async fn extension_messages_go_both_ways() {
    let listen = ServerOptions { peer_listen: Some("127.0.0.1:0".into()), ..ServerOptions::default() };
    let far = Server::start(listen).await.unwrap();
    let connect = vec![far.peer_address().unwrap().to_string()];
    let dialling = Server::start(ServerOptions { connect, ..ServerOptions::default() }).await.unwrap();
    let (one, two) = (client_of(&dialling), client_of(&far));
    let log = one.corestore().create().await.unwrap();
    let copy = two.corestore().get(&log.key()).await.unwrap();
    let other = client_of(&far).corestore().get(&log.key()).await.unwrap();
    let chat = log.register_extension("chat").await.unwrap();
    let (mut heard, mut heard_too) =
        (copy.register_extension("chat").await.unwrap(), other.register_extension("chat").await.unwrap());
    let mut events = log.events();
    while log.peers().is_empty() || copy.peers().is_empty() {
        if log.peers().is_empty() {
            events.next().await;
        } else {
            tokio::task::yield_now().await;
        }
    }
    chat.broadcast("hello").await.unwrap();
    for heard in [&mut heard, &mut heard_too] {
        let message = heard.next().await.unwrap();
        assert_eq!(
            (message.data.as_ref(), message.remote_public_key),
            (&b"hello"[..], dialling.public_key())
        );
    }
    let mut chat = chat;
    heard.send(&dialling.public_key(), "back").await.unwrap();
    assert_eq!(chat.next().await.unwrap().data, "back");
    assert!(chat.broadcast(vec![0; 20 << 20]).await.is_err());
    copy.close().await.unwrap();
    assert!(heard.next().await.is_none());
}

fn client_of(server: &Server) -> HyperspaceClient {
    let (near, far) = tokio::io::duplex(65_536);
    tokio::spawn(server.serve(far));
    HyperspaceClient::from_stream(near)
}

struct Restarting {
    database: Database,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Restarting {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { database: Database::memory(), socket: folder.path().join("s.sock"), _folder: folder }
    }

    async fn start(&self) -> Server {
        let store = Corestore::from_database(self.database.clone()).unwrap();
        let options = ServerOptions {
            store: Some(store),
            socket: Some(self.socket.clone()),
            ..ServerOptions::default()
        };
        Server::start(options).await.unwrap()
    }

    async fn client(&self) -> HyperspaceClient {
        let endpoint = Endpoint::Socket(self.socket.clone());
        HyperspaceClient::connect_with(&endpoint, ConnectOptions::reconnecting()).await.unwrap()
    }
}

async fn event(events: &mut (impl futures::Stream<Item = ConnectionEvent> + Unpin)) -> ConnectionEvent {
    events.next().await.unwrap()
}

#[tokio::test]
async fn a_client_survives_the_daemons_restart() {
    let daemon = Restarting::new();
    let server = daemon.start().await;
    let client = daemon.client().await;
    let mut connection = pin!(client.connection_events());
    let log = client.corestore().get_by_name("log").await.unwrap();
    log.append("before").await.unwrap();
    let dropped = client.corestore().get_by_name("dropped").await.unwrap();
    let snapshot = log.snapshot().await.unwrap();
    let mut events = log.events();
    let lock = log.lock().await.unwrap();
    let waiting = |log: RemoteHypercore, index| tokio::spawn(async move { log.wait_for_block(index).await });
    let get = waiting(log.clone(), 1);
    // The get is on its way.
    client.status().await.unwrap();
    server.stop().await;
    let ConnectionEvent::Lost { locks, .. } = event(&mut connection).await else { panic!("it is lost") };
    assert_eq!(locks, [log.key()]);
    assert!(lock.is_lost() && lock.release().await.is_err());
    drop(dropped);
    // Asked for while there is no daemon.
    let status = tokio::spawn({
        let client = client.clone();
        async move { client.status().await }
    });
    let server = daemon.start().await;
    assert_eq!(event(&mut connection).await, ConnectionEvent::Restored);
    assert!(status.await.unwrap().is_ok());
    assert!(!log.is_closed() && snapshot.is_closed());
    assert_eq!(server.store().loaded_count(), 1, "what is not in use any more is not opened again");
    assert_eq!(log.get(0).await.unwrap(), "before");
    log.append("after").await.unwrap();
    assert_eq!(get.await.unwrap().unwrap(), "after", "what waits goes on waiting");
    assert!(matches!(events.next().await, Some(StreamedEvent::Event(CoreEvent::Append { length: 2, .. }))));
    log.lock().await.unwrap();
    server.stop().await;
    assert!(matches!(event(&mut connection).await, ConnectionEvent::Lost { .. }));
    client.close();
    assert!(matches!(event(&mut connection).await, ConnectionEvent::Ended { .. }));
    assert!(log.is_closed() && matches!(log.get(0).await, Err(ClientError::Closed)));
}

#[tokio::test]
async fn what_others_did_meanwhile_is_told() {
    let daemon = Restarting::new();
    let server = daemon.start().await;
    let client = daemon.client().await;
    let log = client.corestore().get_by_name("log").await.unwrap();
    log.append_blocks(&["a".into(), "b".into()]).await.unwrap();
    let mut events = log.events();
    server.stop().await;
    {
        let store = Corestore::from_database(daemon.database.clone()).unwrap();
        let log = store.get("log").unwrap();
        log.truncate(1).unwrap();
        log.append_batch(["c", "d"]).unwrap();
        drop(log);
        store.close().unwrap();
    }
    let server = daemon.start().await;
    assert!(matches!(
        events.next().await,
        Some(StreamedEvent::Event(CoreEvent::Truncate { length: 0, fork: 1, .. }))
    ));
    assert!(matches!(
        events.next().await,
        Some(StreamedEvent::Event(CoreEvent::Append { length: 3, byte_length: 3 }))
    ));
    assert_eq!((log.length(), log.fork()), (3, 1));
    assert_eq!(log.get(2).await.unwrap(), "d");
    server.stop().await;
}
