//! A server in this process, and raw frames to and from it.

// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use hyperspace_client::HyperspaceClient;
use hyperspace_common::{
    Decoder, Endpoint, Header, Kind, Message, Method, Outbox, Required, RpcError, decode,
};
use hyperspace_server::{Limits, Server, ServerOptions};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::UnixStream,
};

/// A server on a socket of its own.
pub struct Fixture {
    pub server: Server,
    pub socket: PathBuf,
    _folder: TempDir,
}

impl Fixture {
    pub async fn start() -> Self {
        Self::with_options(ServerOptions::default()).await
    }

    pub async fn with_limits(limits: Limits) -> Self {
        Self::with_options(ServerOptions { limits, ..ServerOptions::default() }).await
    }

    pub async fn with_options(options: ServerOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s.sock");
        let options = ServerOptions { socket: Some(socket.clone()), ..options };
        Self { server: Server::start(options).await.unwrap(), socket, _folder: folder }
    }

    pub async fn client(&self) -> HyperspaceClient {
        HyperspaceClient::connect_to(&Endpoint::Socket(self.socket.clone())).await.unwrap()
    }

    pub async fn raw(&self) -> Raw {
        Raw { stream: UnixStream::connect(&self.socket).await.unwrap(), input: BytesMut::new() }
    }
}

/// A connection that sends and receives frames as a test says.
pub struct Raw<S = UnixStream> {
    pub stream: S,
    pub input: BytesMut,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub fn over(stream: S) -> Self {
        Self { stream, input: BytesMut::new() }
    }

    pub async fn send(&mut self, method: Method, id: u64, message: &impl Message) {
        let mut outbox = Outbox::new();
        outbox.request(method, id, message);
        self.stream.write_all(&outbox.take()).await.unwrap();
    }

    /// The next frame; `None` when the server has closed the connection.
    pub async fn next(&mut self) -> Option<(Header, Bytes)> {
        loop {
            if let Some(frame) = Decoder::default().next(&self.input).unwrap() {
                let bytes = self.input.split_to(frame.end).freeze();
                return Some((frame.header, bytes.slice(frame.payload)));
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(0) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The next frame, which must be this event.
    pub async fn event<M: Required>(&mut self, method: Method) -> M {
        let (header, payload) = self.next().await.expect("an event");
        assert_eq!(header, Header::request(method, 0));
        decode(payload).unwrap()
    }

    /// The next frame, which must be this answer.
    pub async fn answer<M: Required>(&mut self, method: Method, id: u64) -> M {
        let (header, payload) = self.next().await.expect("an answer");
        if header.kind == Kind::Error {
            panic!("{:?}", decode::<RpcError>(payload));
        }
        assert_eq!(header, Header::response(method, id));
        decode(payload).unwrap()
    }

    pub async fn done(&mut self, method: Method, id: u64) {
        let (header, payload) = self.next().await.expect("an answer");
        assert_eq!(header, Header::response(method, id), "{payload:?}");
        assert!(payload.is_empty());
    }

    /// The next frame, which must be an error for this call.
    pub async fn error(&mut self, id: u64) -> RpcError {
        let (header, payload) = self.next().await.expect("an error");
        assert_eq!((header.kind, header.id), (Kind::Error, id));
        decode(payload).unwrap()
    }

    /// Opens a new core as session `id` and takes the event and the answer.
    pub async fn open_new(&mut self, id: u64) -> hyperspace_common::messages::OpenResponse {
        use hyperspace_common::messages::*;
        self.send(Method::CorestoreOpen, 1, &OpenRequest { id, key: None, name: None, weak: None }).await;
        let feed: FeedEvent = self.event(Method::CorestoreOnFeed).await;
        let open: OpenResponse = self.answer(Method::CorestoreOpen, 1).await;
        assert_eq!(feed.key, open.key);
        open
    }
}
