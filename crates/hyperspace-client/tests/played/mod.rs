//! A daemon that a thread of the test plays, frame by frame.

// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::{
    io::{ErrorKind, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    thread::{self, JoinHandle},
};

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use hyperspace_client::{ConnectOptions, ConnectionEvent, HyperspaceClient};
use hyperspace_common::{Decoder, Endpoint, Header, Message, Method, Outbox, messages::*};

use tempfile::TempDir;

/// Where clients connect.
pub struct Played {
    folder: TempDir,
    thread: Option<JoinHandle<()>>,
}

/// A client's connection, as the daemon has it.
pub struct Client {
    io: UnixStream,
    input: BytesMut,
    pub outbox: Outbox,
}

/// A call as it came.
pub struct Call {
    pub header: Header,
    pub payload: Bytes,
}

impl Played {
    /// A daemon that does what `play` says with its clients, in the order in which they connect.
    pub fn start(play: impl FnOnce(&mut dyn FnMut() -> Client) + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        let mut accept = move || Client {
            io: listener.accept().unwrap().0,
            input: BytesMut::new(),
            outbox: Outbox::new(),
        };
        let thread = Some(thread::spawn(move || play(&mut accept)));
        Self { folder, thread }
    }

    pub fn endpoint(&self) -> Endpoint {
        Endpoint::Socket(self.folder.path().join("s"))
    }

    /// A client whose connection is made again.
    pub async fn lasting(&self) -> HyperspaceClient {
        HyperspaceClient::connect_with(&self.endpoint(), ConnectOptions::reconnecting()).await.unwrap()
    }

    /// A client for one connection.
    pub async fn plain(&self) -> HyperspaceClient {
        HyperspaceClient::connect_to(&self.endpoint()).await.unwrap()
    }

    /// Waits until everything was played; what the thread found wrong fails the test.
    pub async fn end(mut self) {
        let thread = self.thread.take().unwrap();
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
    }
}

impl Client {
    /// The next call or notice, apart from Status, which is answered; `None` when the client has closed the connection.
    pub fn next(&mut self) -> Option<Call> {
        loop {
            if let Some(frame) = Decoder::default().next(&self.input).unwrap() {
                let bytes = self.input.split_to(frame.end).freeze();
                let call = Call { header: frame.header, payload: bytes.slice(frame.payload) };
                if call.header.known_method() != Some(Method::HyperspaceStatus) {
                    return Some(call);
                }
                let status = HyperspaceStatusResponse {
                    api_version: "1.15.0".into(),
                    additional: Some(1),
                    ..HyperspaceStatusResponse::default()
                };
                self.answer(&call, &status);
            } else {
                let mut buffer = [0; 65_536];
                match self.io.read(&mut buffer) {
                    Ok(0) => return None,
                    Ok(length) => self.input.extend_from_slice(&buffer[..length]),
                    Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }

    /// The next call, which must be of this method.
    pub fn expect(&mut self, method: Method) -> Call {
        let call = self.next().expect("a call");
        assert_eq!(call.header.known_method(), Some(method));
        call
    }

    /// Answers a call, with all that was put into the outbox before and behind it in one piece.
    pub fn answer(&mut self, call: &Call, answer: &impl Message) {
        self.outbox.response(call.header, answer);
        self.send();
    }

    /// Answers an open with a core of this key's first byte, length, fork and peers.
    pub fn opened(&mut self, call: &Call, (key, length, fork): (u8, u64, u64), peers: Vec<Peer>) {
        let state = LogState {
            length,
            byte_length: length,
            contiguous_length: length,
            fork,
            tree_hash: vec![0; 32].into(),
            writable: true,
            ..LogState::default()
        };
        let (key, discovery_key) = (vec![key; 32].into(), vec![!key; 32].into());
        self.outbox.response(call.header, &OpenCoreResponse { key, discovery_key, state, peers });
    }

    /// The next call, which must be an open, is answered. The session.
    pub fn open(&mut self, core: (u8, u64, u64)) -> u64 {
        let call = self.expect(Method::StoreOpen);
        self.opened(&call, core, Vec::new());
        self.send();
        call.read::<OpenCoreRequest>().id
    }

    pub fn send(&mut self) {
        self.io.write_all(&self.outbox.take()).unwrap();
    }
}

impl Call {
    pub fn read<M: Message + Default>(&self) -> M {
        M::decode(self.payload.clone()).unwrap()
    }

    pub fn is(&self, method: Method) -> bool {
        self.header.known_method() == Some(method)
    }
}

pub fn peer(key: u8) -> Peer {
    Peer {
        remote_public_key: vec![key; 32].into(),
        remote_address: "127.0.0.1:1".into(),
        r#type: "udx".into(),
    }
}

/// Waits until the connection is lost; the keys of locks that were lost with it.
pub async fn lost(events: &mut (impl Stream<Item = ConnectionEvent> + Unpin)) -> Vec<hypercore::Key> {
    match events.next().await {
        Some(ConnectionEvent::Lost { locks, .. }) => locks,
        other => panic!("{other:?}"),
    }
}

/// Waits until everything is restored.
pub async fn restored(events: &mut (impl Stream<Item = ConnectionEvent> + Unpin)) {
    assert_eq!(events.next().await, Some(ConnectionEvent::Restored));
}
