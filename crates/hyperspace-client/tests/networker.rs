//! The networker against a daemon that says what a test wants: what goes over the wire, and what is told again after
//! a reconnect.

use std::{path::PathBuf, pin::pin};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt};
use hypercore::{DiscoveryKey, Key};
use hyperspace_client::{
    ClientError, ConfigureOptions, ConnectOptions, ConnectionEvent, HyperspaceClient, NetworkEvent,
    RemoteNetworker,
};
use hyperspace_common::{
    Decoder, Endpoint, Header, Kind, Message, Method, Outbox, Required, RpcError, RpcErrorExt, decode,
    messages::*,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

/// The daemon's side of one connection.
struct Script {
    stream: UnixStream,
    input: BytesMut,
}

impl Script {
    async fn accept(listener: &UnixListener) -> Self {
        Self { stream: listener.accept().await.unwrap().0, input: BytesMut::new() }
    }

    async fn next(&mut self) -> (Header, Bytes) {
        loop {
            if let Some(frame) = Decoder::default().next(&self.input).unwrap() {
                let bytes = self.input.split_to(frame.end).freeze();
                return (frame.header, bytes.slice(frame.payload));
            }
            assert_ne!(self.stream.read_buf(&mut self.input).await.unwrap(), 0, "the client is gone");
        }
    }

    /// The next frame, which must be a call of this method.
    async fn call<M: Required>(&mut self, method: Method) -> (Header, M) {
        let (header, payload) = self.next().await;
        assert_eq!((header.known_method(), header.kind), (Some(method), Kind::Request));
        (header, decode(payload).unwrap())
    }

    async fn answer(&mut self, call: Header, message: &impl Message) {
        let mut outbox = Outbox::new();
        outbox.response(call, message);
        self.stream.write_all(&outbox.take()).await.unwrap();
    }

    async fn event(&mut self, method: Method, message: &impl Message) {
        let mut outbox = Outbox::new();
        outbox.event(method, message);
        self.stream.write_all(&outbox.take()).await.unwrap();
    }

    /// Takes a configuration and says that it holds.
    async fn configure(&mut self) -> ConfigureNetworkRequest {
        let (call, request): (_, ConfigureNetworkRequest) = self.call(Method::NetworkConfigure).await;
        let wanted = &request.configuration;
        let joined = wanted.announce == Some(true) || wanted.lookup == Some(true);
        let status = joined.then(|| wanted.clone());
        self.answer(call, &NetworkStatusResponse { status }).await;
        request
    }
}

struct Fixture {
    listener: UnixListener,
    socket: PathBuf,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s.sock");
        Self { listener: UnixListener::bind(&socket).unwrap(), socket, _folder: folder }
    }

    async fn connect(&self) -> (HyperspaceClient, Script) {
        let endpoint = Endpoint::Socket(self.socket.clone());
        let client = HyperspaceClient::connect_with(&endpoint, ConnectOptions::reconnecting());
        let (client, script) = futures::join!(client, Script::accept(&self.listener));
        (client.unwrap(), script)
    }
}

fn topic(byte: u8) -> DiscoveryKey {
    DiscoveryKey::from([byte; 32])
}

fn peer(byte: u8) -> Peer {
    Peer {
        remote_public_key: Bytes::from(vec![byte; 32]),
        remote_address: format!("127.0.0.1:{byte}"),
        r#type: "udx".into(),
    }
}

fn named(event: Option<NetworkEvent>) -> (bool, u8) {
    match event {
        Some(NetworkEvent::PeerAdded(peer)) => (true, peer.remote_public_key[0]),
        Some(NetworkEvent::PeerRemoved(peer)) => (false, peer.remote_public_key[0]),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn wishes_and_answers_are_those_of_the_schema() {
    let fixture = Fixture::new();
    let (client, mut daemon) = fixture.connect().await;
    let network = client.network();
    let wish = ConfigureOptions {
        lookup: Some(true),
        copy_from: Some(topic(2)),
        overwrite: false,
        ..ConfigureOptions::default().remembered().flushed()
    };
    let wanted_topic = topic(1);
    let configured = network.configure(&wanted_topic, wish);
    let (status, request) = futures::join!(configured, daemon.configure());
    let status = status.unwrap().unwrap();
    assert_eq!((status.announce, status.lookup, status.remember), (false, true, true));
    assert_eq!((status.discovery_key, request.copy_from()), (topic(1), &[2; 32][..]));
    let configuration = &request.configuration;
    assert_eq!((configuration.announce, configuration.lookup), (None, Some(true)));
    assert!(request.flush() && !request.overwrite());

    let (status, request) = futures::join!(network.leave(&wanted_topic), daemon.configure());
    assert_eq!(status.unwrap(), None);
    assert!(request.overwrite() && request.flush.is_none() && request.configuration.remember.is_none());

    let all = async {
        let (call, payload) = daemon.next().await;
        assert_eq!((call.known_method(), payload.len()), (Some(Method::NetworkAllStatuses), 0));
        let status = |byte: u8, announce| NetworkStatus {
            discovery_key: Bytes::from(vec![byte; 32]),
            announce: Some(announce),
            lookup: None,
            remember: None,
        };
        let statuses = vec![status(1, true), status(2, false)];
        daemon.answer(call, &AllNetworkStatusesResponse { statuses }).await;
    };
    let (statuses, ()) = futures::join!(network.all_statuses(), all);
    let statuses: Vec<_> =
        statuses.unwrap().iter().map(|status| (status.discovery_key, status.announce)).collect();
    assert_eq!(statuses, [(topic(1), true), (topic(2), false)]);

    let odd = async {
        let (call, _): (_, NetworkStatusRequest) = daemon.call(Method::NetworkStatus).await;
        let status =
            NetworkStatus { discovery_key: Bytes::from_static(b"short"), ..NetworkStatus::default() };
        daemon.answer(call, &NetworkStatusResponse { status: Some(status) }).await;
    };
    let (status, ()) = futures::join!(network.status(&wanted_topic), odd);
    assert!(matches!(status, Err(ClientError::Protocol(_))), "{status:?}");
}

#[tokio::test]
async fn a_refused_wish_is_not_kept() {
    let fixture = Fixture::new();
    let (client, mut daemon) = fixture.connect().await;
    let network = client.network();
    let refusing = async {
        let (call, _): (_, ConfigureNetworkRequest) = daemon.call(Method::NetworkConfigure).await;
        let mut outbox = Outbox::new();
        outbox.error(call, &RpcError::sentence("no"));
        daemon.stream.write_all(&outbox.take()).await.unwrap();
    };
    let wanted = topic(1);
    let (status, ()) = futures::join!(network.configure(&wanted, ConfigureOptions::JOIN), refusing);
    assert_eq!(status.unwrap_err().rpc_message(), Some("no"));
    drop(daemon);
    let mut daemon = Script::accept(&fixture.listener).await;
    let wanted = topic(2);
    let (status, request) =
        futures::join!(network.configure(&wanted, ConfigureOptions::ANNOUNCE), daemon.configure());
    assert!(status.unwrap().unwrap().announce);
    assert_eq!(request.configuration.discovery_key, [2; 32][..], "the first that the new connection hears");
}

#[tokio::test]
async fn what_was_wanted_is_told_to_the_next_daemon() {
    let fixture = Fixture::new();
    let (client, mut daemon) = fixture.connect().await;
    let mut connection = pin!(client.connection_events());
    let network = client.network();
    let (one, two) = (topic(1), topic(2));
    for (topic, wish) in [
        (&one, ConfigureOptions::JOIN.remembered().flushed()),
        (&two, ConfigureOptions::JOIN),
        (&two, ConfigureOptions::ANNOUNCE),
    ] {
        let (status, _) = futures::join!(network.configure(topic, wish), daemon.configure());
        assert!(status.unwrap().is_some());
    }
    let registering = async {
        let (call, request): (_, RegisterExtensionRequest) =
            daemon.call(Method::NetworkRegisterExtension).await;
        daemon.answer(call, &()).await;
        request
    };
    let (chat, registered) = futures::join!(network.register_extension("chat"), registering);
    let mut chat = chat.unwrap();
    assert_eq!((registered.id, registered.name.as_str()), (0, "chat"));

    let mut events = pin!(network.events());
    daemon.event(Method::NetworkOnPeerAdd, &PeerEvent { id: 0, peer: peer(1) }).await;
    assert_eq!(named(events.next().await), (true, 1));
    drop(daemon);
    assert!(matches!(connection.next().await, Some(ConnectionEvent::Lost { .. })));
    assert_eq!(named(events.next().await), (false, 1));
    // Asked for while there is no daemon.
    let meanwhile = network.configure(&two, ConfigureOptions::LEAVE);
    let restoring = async {
        let mut daemon = Script::accept(&fixture.listener).await;
        let mut told = [daemon.configure().await, daemon.configure().await];
        told.sort_by_key(|request| request.configuration.discovery_key.clone());
        let said = told.map(|request| {
            let NetworkStatus { announce, lookup, remember, .. } = request.configuration;
            assert!(request.flush.is_none(), "nobody waits for it");
            (announce, lookup, remember)
        });
        assert_eq!(said[0], (Some(true), Some(true), Some(true)));
        assert_eq!(
            said[1],
            (Some(true), Some(false), None),
            "the last wish for a topic is the one that holds"
        );
        let (call, again): (_, RegisterExtensionRequest) =
            daemon.call(Method::NetworkRegisterExtension).await;
        assert_eq!(again, registered);
        daemon.answer(call, &()).await;
        let (open, payload) = daemon.next().await;
        assert_eq!((open.known_method(), payload.len()), (Some(Method::NetworkOpen), 0));
        let peers = vec![peer(2)];
        daemon.answer(open, &OpenNetworkResponse { public_key: Bytes::from(vec![9; 32]), peers }).await;
        let left = daemon.configure().await;
        assert_eq!(left.configuration.discovery_key, [2; 32][..]);
        daemon
    };
    let (left, mut daemon) = futures::join!(meanwhile, restoring);
    assert_eq!(left.unwrap(), None);
    assert_eq!(connection.next().await, Some(ConnectionEvent::Restored));
    assert_eq!(named(events.next().await), (true, 2));

    let (resource_id, data) = (registered.resource_id, Bytes::from_static(b"hello"));
    let remote_public_key = Some(Bytes::from(vec![2; 32]));
    let message = ExtensionMessage { id: 0, resource_id, remote_public_key, data };
    daemon.event(Method::NetworkOnExtension, &message).await;
    let heard = chat.next().await.unwrap();
    assert_eq!((heard.remote_public_key, heard.data.as_ref()), ([2; 32], &b"hello"[..]));
    let sending = async {
        let (call, sent): (_, ExtensionMessage) = daemon.call(Method::NetworkSendExtension).await;
        daemon.answer(call, &()).await;
        sent
    };
    let (sent, message) = futures::join!(chat.broadcast("all"), sending);
    sent.unwrap();
    assert_eq!((message.id, message.remote_public_key, message.data.as_ref()), (0, None, &b"all"[..]));
    drop(chat);
    let (call, end): (_, UnregisterExtensionRequest) = daemon.call(Method::NetworkUnregisterExtension).await;
    assert_eq!((call.id, end.id, end.resource_id), (0, 0, resource_id));
    client.close();
    assert_eq!(named(events.next().await), (false, 2));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_wish_holds_though_nobody_waited_for_its_answer() {
    let fixture = Fixture::new();
    let (client, mut daemon) = fixture.connect().await;
    let network = client.network();
    let [joined, left, copied] = [1, 2, 3].map(topic);
    let (status, _) = futures::join!(network.configure(&left, ConfigureOptions::JOIN), daemon.configure());
    assert!(status.unwrap().is_some());
    let copy = ConfigureOptions { copy_from: Some(left), ..ConfigureOptions::default() };
    for (topic, wish) in [
        (&joined, ConfigureOptions::JOIN.flushed()),
        (&left, ConfigureOptions::LEAVE.flushed()),
        (&copied, copy.flushed()),
    ] {
        assert!(network.configure(topic, wish).now_or_never().is_none(), "it is not answered");
        let (_, request): (_, ConfigureNetworkRequest) = daemon.call(Method::NetworkConfigure).await;
        assert_eq!(request.configuration.discovery_key, topic.as_bytes()[..]);
    }
    drop(daemon);
    let mut told: Vec<_> = told_again(&fixture, &network)
        .await
        .iter()
        .map(|request| {
            let NetworkStatus { discovery_key, announce, lookup, .. } = &request.configuration;
            (discovery_key[0], *announce, *lookup, request.copy_from.is_some())
        })
        .collect();
    told.sort_unstable();
    let (yes, no) = (Some(true), Some(false));
    assert_eq!(told, [(1, yes, yes, false), (2, no, no, false), (3, None, None, true)]);
}

#[tokio::test]
async fn topics_that_were_left_keep_out_none_that_is_wanted() {
    const MANY: u32 = 70_000;
    let fixture = Fixture::new();
    let (client, mut daemon) = fixture.connect().await;
    let network = client.network();
    let left = |number: u32| {
        let mut topic = [0; 32];
        topic[..4].copy_from_slice(&number.to_le_bytes());
        DiscoveryKey::from(topic)
    };
    let wanted = topic(9);
    let wishing = async {
        let mut done = futures::stream::iter(0..MANY)
            .map(|number| {
                let network = network.clone();
                async move {
                    network.configure(&left(number), ConfigureOptions::JOIN).await?;
                    network.leave(&left(number)).await
                }
            })
            .buffer_unordered(500);
        while let Some(status) = done.next().await {
            assert_eq!(status.unwrap(), None);
        }
        network.configure(&wanted, ConfigureOptions::JOIN).await.unwrap();
    };
    let answering = async {
        for _ in 0..2 * MANY + 1 {
            daemon.configure().await;
        }
    };
    futures::join!(wishing, answering);
    drop(daemon);
    let told = told_again(&fixture, &network).await;
    assert!(told.iter().any(|request| request.configuration.discovery_key == wanted.as_bytes()[..]));
    assert!(told.len() < 10_000, "{} were left and are of no interest any more", told.len());
}

/// What the next daemon hears before anything that is asked from now on.
async fn told_again(fixture: &Fixture, network: &RemoteNetworker) -> Vec<ConfigureNetworkRequest> {
    let mut daemon = Script::accept(&fixture.listener).await;
    let last = topic(99);
    let hearing = async {
        let mut told = Vec::new();
        loop {
            let request = daemon.configure().await;
            if request.configuration.discovery_key == last.as_bytes()[..] {
                return told;
            }
            told.push(request);
        }
    };
    let (asked, told) = futures::join!(network.configure(&last, ConfigureOptions::LOOKUP), hearing);
    asked.unwrap();
    told
}

#[tokio::test]
async fn to_replicate_is_to_join_and_to_ask() {
    let fixture = Fixture::new();
    let (client, mut daemon) = fixture.connect().await;
    let key = Key::from([7; 32]);
    let opening = async {
        // The Node daemon has no services of our own.
        let (call, _) = daemon.next().await;
        let status =
            HyperspaceStatusResponse { api_version: "1.15.0".into(), ..HyperspaceStatusResponse::default() };
        daemon.answer(call, &status).await;
        let (call, request): (_, OpenRequest) = daemon.call(Method::CorestoreOpen).await;
        let key = request.key.unwrap();
        daemon.answer(call, &OpenResponse { key, writable: false, ..OpenResponse::default() }).await;
    };
    let store = client.corestore();
    let (core, ()) = futures::join!(store.get(&key), opening);
    let core = core.unwrap();
    let daemon_side = async {
        let request = daemon.configure().await;
        let configuration = &request.configuration;
        assert_eq!((configuration.announce, configuration.lookup), (Some(true), Some(true)));
        assert_eq!(configuration.discovery_key, key.discovery_key().as_bytes()[..]);
        let (call, update): (_, UpdateRequest) = daemon.call(Method::HypercoreUpdate).await;
        assert!(update.if_available());
        let mut outbox = Outbox::new();
        outbox.error(call, &RpcError::sentence("No update available from peers"));
        daemon.stream.write_all(&outbox.take()).await.unwrap();
    };
    let (replicated, ()) = futures::join!(client.replicate(&core), daemon_side);
    replicated.unwrap();
    client.close();
    assert!(client.replicate(&core).now_or_never().unwrap().is_err());
}
