//! secret-stream and protomux against npm `@hyperswarm/secret-stream` 6 and `protomux` 3 over TCP, each side dialling
//! and each side opening.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use interop::{Node, Peer, Value, json, within};
use protomux::{ChannelId, OpenOptions, Protomux};
use secret_stream::{Config, KeyPair, Pattern, SecretStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const OUR_SEED: [u8; 32] = [1; 32];
const THEIR_SEED: [u8; 32] = [2; 32];

/// Our side: a socket, a stream and, unless the test wants plain messages, a protomux.
struct Ours {
    socket: TcpStream,
    stream: SecretStream,
    mux: Protomux,
    plain: VecDeque<Bytes>,
    connected: Option<secret_stream::Event>,
    ended: bool,
}

impl Ours {
    fn new(socket: TcpStream, config: Config) -> Self {
        socket.set_nodelay(true).unwrap();
        let stream = SecretStream::new(config, Instant::now()).unwrap();
        let (plain, mux) = (VecDeque::new(), Protomux::new());
        Self { socket, stream, mux, plain, connected: None, ended: false }
    }

    /// Writes what waits.
    async fn flush(&mut self) {
        while let Some(transmit) = self.mux.poll_transmit() {
            self.stream.send_parts(transmit.parts()).unwrap();
        }
        while let Some(piece) = self.stream.poll_transmit() {
            self.socket.write_all(&piece).await.unwrap();
        }
    }

    /// Reads once; with `plain`, messages are kept, otherwise they go to protomux.
    async fn read(&mut self, plain: bool) {
        self.flush().await;
        let mut buffer = vec![0; 64 * 1024];
        let n = within("bytes of the npm peer", self.socket.read(&mut buffer)).await.unwrap();
        if n == 0 {
            self.stream.receive_end().unwrap();
        } else {
            self.stream.receive(&buffer[..n], Instant::now()).unwrap();
        }
        while let Some(event) = self.stream.poll_event() {
            match event {
                secret_stream::Event::Message(message) if plain => self.plain.push_back(message),
                secret_stream::Event::Message(message) => self.mux.receive(message).unwrap(),
                secret_stream::Event::Closed => self.ended = true,
                connected => self.connected = Some(connected),
            }
        }
        self.flush().await;
    }

    async fn message(&mut self) -> Bytes {
        while self.plain.is_empty() {
            assert!(!self.ended, "the npm peer ended the stream");
            self.read(true).await;
        }
        self.plain.pop_front().unwrap()
    }

    async fn event(&mut self) -> protomux::Event {
        self.flush().await;
        loop {
            if let Some(event) = self.mux.poll_event().unwrap() {
                return event;
            }
            assert!(!self.ended, "the npm peer ended the stream");
            self.read(false).await;
        }
    }

    async fn connected(&mut self) -> ([u8; 32], [u8; 64], [u8; 32]) {
        while self.connected.is_none() {
            self.read(false).await;
        }
        match self.connected {
            Some(secret_stream::Event::Connected {
                remote_public_key,
                handshake_hash,
                remote_stream_id,
                ..
            }) => (remote_public_key, handshake_hash, remote_stream_id),
            _ => unreachable!(),
        }
    }
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Connects the two; `options` are those of the npm side.
async fn connect(peer: &Peer, we_dial: bool, pattern: &str, mut options: Value) -> Ours {
    options["pattern"] = json!(pattern);
    options["seed"] = json!(hex(THEIR_SEED));
    let mut config = Config::new(we_dial, KeyPair::from_seed(&OUR_SEED));
    if pattern == "IK" {
        let theirs = KeyPair::from_seed(&THEIR_SEED).public;
        config.pattern = Pattern::IK { remote_public_key: we_dial.then_some(theirs) };
        if !we_dial {
            options["remotePublicKey"] = json!(hex(config.key_pair.public));
        }
    }
    connect_with(peer, config, options).await
}

async fn connect_with(peer: &Peer, config: Config, mut options: Value) -> Ours {
    if config.is_initiator {
        let port = peer.ask("listen", options).await["port"].as_u64().unwrap();
        let port = u16::try_from(port).unwrap();
        return Ours::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap(), config);
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    options["port"] = json!(listener.local_addr().unwrap().port());
    peer.ask("connect", options).await;
    Ours::new(listener.accept().await.unwrap().0, config)
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_and_messages() {
    let Some(node) = Node::find().await else { return };
    for pattern in ["XX", "IK"] {
        for we_dial in [true, false] {
            let peer = node.run("js/mux.js", [""; 0]).await;
            let mut ours = connect(&peer, we_dial, pattern, json!({ "plain": true })).await;
            ours.stream.send(b"before the handshake").unwrap();
            let (remote, hash, remote_id) = ours.connected().await;
            let told = peer.event("connected").await;
            assert_eq!(told["publicKey"], hex(remote), "{pattern} {we_dial}");
            assert_eq!(told["remotePublicKey"], hex(KeyPair::from_seed(&OUR_SEED).public));
            assert_eq!(told["handshakeHash"], hex(hash));
            assert_eq!(told["id"], hex(remote_id));
            ours.flush().await;
            assert_eq!(peer.event("data").await["data"], hex("before the handshake"));

            // Of any size, both ways; the npm peer cuts nothing.
            for len in [0, 1, 63, 64, 65, 1200, 65_536, 300_000] {
                let text: Vec<u8> = (0..len).map(|n| (n % 251) as u8).collect();
                let (head, tail) = text.split_at(len / 3);
                ours.stream.send_parts(&[head, tail]).unwrap();
                ours.flush().await;
                assert_eq!(peer.event("data").await["data"], hex(&text));
                peer.ask("write", json!({ "data": hex(&text) })).await;
                assert_eq!(ours.message().await, text);
            }
            peer.ask("fill", json!({ "count": 200, "size": 5000 })).await;
            for n in 0..200 {
                assert_eq!(ours.message().await, vec![n; 5000]);
            }
            peer.ask("end", json!({})).await;
            while !ours.ended {
                ours.read(true).await;
            }
            peer.close().await;
        }
    }
}

/// The longest frame there is, in both directions.
#[tokio::test(flavor = "multi_thread")]
async fn the_longest_message() {
    let Some(node) = Node::find().await else { return };
    let peer = node.run("js/mux.js", [""; 0]).await;
    let mut ours = connect(&peer, true, "XX", json!({ "plain": true })).await;
    ours.connected().await;
    peer.ask("fill", json!({ "count": 1, "size": secret_stream::MAX_MESSAGE })).await;
    assert_eq!(ours.message().await.len(), secret_stream::MAX_MESSAGE);
    ours.stream.send(&vec![3; secret_stream::MAX_MESSAGE]).unwrap();
    ours.flush().await;
    let data = peer.event("data").await;
    assert_eq!(data["data"].as_str().unwrap().len(), 2 * secret_stream::MAX_MESSAGE);
    peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_found_out() {
    let Some(node) = Node::find().await else { return };
    let peer = node.run("js/mux.js", [""; 0]).await;
    let mut config = Config::new(true, KeyPair::from_seed(&OUR_SEED));
    config.pattern = Pattern::IK { remote_public_key: Some(KeyPair::from_seed(&[9; 32]).public) };
    let options = json!({ "pattern": "IK", "seed": hex(THEIR_SEED), "plain": true });
    let mut ours = connect_with(&peer, config, options).await;
    ours.flush().await;
    let told = peer.event("disconnect").await;
    assert_eq!(told["error"], "Noise handshake failed");
    peer.close().await;
}

/// The npm peer sends keep-alives, which we drop; ours are dropped there.
#[tokio::test(flavor = "multi_thread")]
async fn keep_alives_are_not_messages() {
    let Some(node) = Node::find().await else { return };
    let peer = node.run("js/mux.js", [""; 0]).await;
    let mut config = Config::new(false, KeyPair::from_seed(&OUR_SEED));
    config.keep_alive = Some(Duration::from_secs(5));
    let options = json!({ "plain": true, "keepAlive": 10 });
    let mut ours = connect_with(&peer, config, options).await;
    ours.connected().await;
    // Any number of frames arrives, none of them a message.
    for _ in 0..3 {
        ours.read(true).await;
    }
    assert!(ours.plain.is_empty());
    let due = ours.stream.next_deadline().unwrap();
    ours.stream.handle_timeout(due).unwrap();
    ours.stream.handle_timeout(due + Duration::from_secs(5)).unwrap();
    assert!(ours.stream.pending_transmit() > 0);
    ours.stream.send(b"after").unwrap();
    ours.flush().await;
    assert_eq!(peer.event("data").await["data"], hex("after"));
    peer.close().await;
}

fn options(protocol: &str, id: &'static [u8], handshake: &'static [u8]) -> OpenOptions {
    // The npm side's handshake is a length-prefixed buffer.
    let mut encoded = vec![u8::try_from(handshake.len()).unwrap()];
    encoded.extend_from_slice(handshake);
    OpenOptions {
        id: Some(Bytes::from_static(id)),
        handshake: Some(encoded.into()),
        messages: 3,
        ..OpenOptions::new(protocol)
    }
}

fn message(channel: ChannelId, kind: u32, payload: &'static [u8]) -> protomux::Event {
    protomux::Event::Message { channel, kind, payload: Bytes::from_static(payload) }
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_that_we_open() {
    let Some(node) = Node::find().await else { return };
    let peer = node.run("js/mux.js", [""; 0]).await;
    let mut ours = connect(&peer, true, "XX", json!({})).await;
    ours.connected().await;
    let pair = json!({ "protocol": "log", "channel": "theirs", "delay": 3, "handshake": hex("there") });
    peer.ask("pair", pair).await;

    let channel = ours.mux.open(options("log", b"one", b"here")).unwrap();
    // Sent before the npm peer has answered: it keeps this for the channel.
    ours.mux.send(channel, 1, b"early").unwrap();
    ours.mux.send(channel, 7, b"of a kind that it does not know").unwrap();
    assert_eq!(ours.event().await, protomux::Event::Opened { channel, handshake: "\x05there".into() });
    assert_eq!(peer.event("paired").await["topic"], hex("one"));
    assert_eq!(peer.event("opened").await["handshake"], hex("here"));
    let told = peer.event("message").await;
    assert_eq!((&told["kind"], &told["data"]), (&json!(1), &json!(hex("early"))));

    // A batch of ours, with a payload that is kept by reference, and one of theirs.
    let block = Bytes::from(vec![5; 70_000]);
    ours.mux.cork();
    ours.mux.send(channel, 0, b"first").unwrap();
    ours.mux
        .send_parts(channel, 2, &[Bytes::from_static(b"head"), block.clone(), Bytes::from_static(b"tail")])
        .unwrap();
    ours.mux.send(channel, 0, b"").unwrap();
    ours.mux.uncork();
    ours.flush().await;
    assert_eq!(peer.event("message").await["data"], hex("first"));
    let told = peer.event("message").await;
    assert_eq!(told["data"], format!("{}{}{}", hex("head"), hex(&block), hex("tail")));
    assert_eq!(peer.event("message").await["data"], "");

    peer.ask("cork", json!({})).await;
    for (kind, data) in [(0, "6161"), (1, ""), (2, "6363")] {
        peer.ask("send", json!({ "channel": "theirs", "kind": kind, "data": data })).await;
    }
    peer.ask("uncork", json!({})).await;
    assert_eq!(ours.event().await, message(channel, 0, b"aa"));
    assert_eq!(ours.event().await, message(channel, 1, b""));
    assert_eq!(ours.event().await, message(channel, 2, b"cc"));

    ours.mux.close(channel).unwrap();
    ours.flush().await;
    assert_eq!(peer.event("closed").await["isRemote"], true);
    assert_eq!(ours.event().await, protomux::Event::Closed { channel, is_remote: false });

    // The ids on the wire are used again; a protocol that nobody has is rejected.
    let again = ours.mux.open(options("log", b"two", b"")).unwrap();
    assert!(matches!(ours.event().await, protomux::Event::Opened { channel, .. } if channel == again));
    let refused = ours.mux.open(options("unknown", b"two", b"")).unwrap();
    assert_eq!(ours.event().await, protomux::Event::Closed { channel: refused, is_remote: true });
    peer.ask("closeChannel", json!({ "channel": "theirs" })).await;
    assert_eq!(ours.event().await, protomux::Event::Closed { channel: again, is_remote: true });
    assert_eq!(peer.ask("state", json!({})).await, json!({ "channels": 0, "idle": true }));
    peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn channels_that_the_npm_peer_opens() {
    let Some(node) = Node::find().await else { return };
    let peer = node.run("js/mux.js", [""; 0]).await;
    let mut ours = connect(&peer, false, "XX", json!({})).await;
    ours.connected().await;

    // Opened in a batch: one that we accept, one that we refuse and one that is closed before we answer.
    peer.ask("cork", json!({})).await;
    for (channel, protocol) in [("yes", "log"), ("no", "other"), ("gone", "third")] {
        let open =
            json!({ "channel": channel, "protocol": protocol, "topic": hex("one"), "handshake": hex("hi") });
        assert_eq!(peer.ask("open", open).await, true);
        peer.ask("send", json!({ "channel": channel, "kind": 0, "data": "6161" })).await;
    }
    peer.ask("closeChannel", json!({ "channel": "gone" })).await;
    peer.ask("uncork", json!({})).await;

    let open = ours.event().await;
    let (id, handshake) = (Some(Bytes::from("one")), Bytes::from("\x02hi"));
    assert_eq!(open, protomux::Event::RemoteOpen { protocol: "log".into(), id, handshake });
    let channel = ours.mux.open(options("log", b"one", b"hello")).unwrap();
    assert!(
        matches!(ours.event().await, protomux::Event::RemoteOpen { protocol, .. } if protocol == "other")
    );
    ours.mux.reject("other", Some(b"one")).unwrap();
    assert_eq!(ours.event().await, protomux::Event::Opened { channel, handshake: "\x02hi".into() });
    assert_eq!(ours.event().await, message(channel, 0, b"aa"));

    let told = peer.event("closed").await;
    assert_eq!((&told["channel"], &told["isRemote"]), (&json!("gone"), &json!(false)));
    let told = peer.event("opened").await;
    assert_eq!((&told["channel"], &told["handshake"]), (&json!("yes"), &json!(hex("hello"))));
    let told = peer.event("closed").await;
    assert_eq!((&told["channel"], &told["isRemote"]), (&json!("no"), &json!(true)));

    // All three ids are free there again but the one in use.
    for (channel, id) in [("a", "x"), ("b", "y")] {
        peer.ask("open", json!({ "channel": channel, "protocol": "log", "topic": hex(id) })).await;
        let expected = Bytes::copy_from_slice(id.as_bytes());
        match ours.event().await {
            protomux::Event::RemoteOpen { id, .. } => assert_eq!(id, Some(expected.clone())),
            other => panic!("{other:?}"),
        }
        let opened = ours.mux.open(OpenOptions { id: Some(expected), ..options("log", b"", b"") }).unwrap();
        assert!(matches!(ours.event().await, protomux::Event::Opened { channel, .. } if channel == opened));
        ours.mux.send(opened, 2, id.as_bytes()).unwrap();
        ours.flush().await;
        let told = peer.event("message").await;
        assert_eq!((&told["channel"], &told["data"]), (&json!(channel), &json!(hex(id))));
    }
    assert_eq!(peer.ask("state", json!({})).await["channels"], 3);
    peer.close().await;
}

/// Both open at the same time, and several channels of one topic are joined in order.
#[tokio::test(flavor = "multi_thread")]
async fn channels_that_both_open() {
    let Some(node) = Node::find().await else { return };
    let peer = node.run("js/mux.js", [""; 0]).await;
    let mut ours = connect(&peer, true, "XX", json!({})).await;
    ours.connected().await;
    let open = |unique| OpenOptions { unique, ..options("log", b"one", b"") };
    let first = ours.mux.open(open(true)).unwrap();
    let second = ours.mux.open(open(false)).unwrap();
    for channel in ["1", "2"] {
        let open = json!({ "channel": channel, "protocol": "log", "topic": hex("one"), "unique": false });
        assert_eq!(peer.ask("open", open).await, true);
        peer.ask("send", json!({ "channel": channel, "kind": 0, "data": hex(channel) })).await;
    }
    ours.flush().await;
    let events = [ours.event().await, ours.event().await, ours.event().await, ours.event().await];
    let opened = |channel| protomux::Event::Opened { channel, handshake: "\0".into() };
    let (one, two) = (message(first, 0, b"1"), message(second, 0, b"2"));
    assert_eq!(events, [opened(first), one, opened(second), two]);
    for channel in ["1", "2"] {
        assert_eq!(peer.event("opened").await["channel"], channel);
    }
    peer.close().await;
}

/// The npm peer overlooks a close that arrives while it decides whether to open. Ours repeats it, so that the id can be
/// used again: without, the npm peer would end the connection at the third channel.
#[tokio::test(flavor = "multi_thread")]
async fn a_channel_closed_while_the_npm_peer_decides() {
    let Some(node) = Node::find().await else { return };
    let peer = node.run("js/mux.js", [""; 0]).await;
    let mut ours = connect(&peer, true, "XX", json!({})).await;
    ours.connected().await;
    peer.ask("pair", json!({ "protocol": "log", "channel": "theirs", "delay": 10 })).await;
    for _ in 0..5 {
        let hasty = ours.mux.open(options("log", b"one", b"")).unwrap();
        ours.flush().await;
        ours.mux.close(hasty).unwrap();
        assert_eq!(ours.event().await, protomux::Event::Closed { channel: hasty, is_remote: false });
        let calm = ours.mux.open(options("log", b"two", b"")).unwrap();
        assert!(matches!(ours.event().await, protomux::Event::Opened { channel, .. } if channel == calm));
        ours.mux.close(calm).unwrap();
        assert_eq!(ours.event().await, protomux::Event::Closed { channel: calm, is_remote: false });
        for _ in 0..2 {
            assert_eq!(peer.event("closed").await["isRemote"], true);
        }
    }
    assert_eq!(peer.ask("state", json!({})).await, json!({ "channels": 0, "idle": true }));
    peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_channels_in_one_batch() {
    const CHANNELS: usize = 5000;
    let Some(node) = Node::find().await else { return };
    let peer = node.run("js/mux.js", [""; 0]).await;
    let mut ours = connect(&peer, true, "XX", json!({})).await;
    ours.connected().await;
    peer.ask("pair", json!({ "protocol": "log", "channel": "theirs" })).await;
    ours.mux.cork();
    for n in 0..CHANNELS {
        let id = Bytes::from((n as u32).to_be_bytes().repeat(8));
        let channel = ours.mux.open(OpenOptions { id: Some(id), ..options("log", b"", b"") }).unwrap();
        ours.mux.send(channel, 0, b"hello").unwrap();
    }
    ours.mux.uncork();
    for _ in 0..CHANNELS {
        assert!(matches!(ours.event().await, protomux::Event::Opened { .. }));
    }
    assert_eq!(peer.ask("state", json!({})).await["channels"], CHANNELS);
    for _ in 0..CHANNELS {
        assert_eq!(peer.event("message").await["data"], hex("hello"));
    }
    peer.close().await;
}
