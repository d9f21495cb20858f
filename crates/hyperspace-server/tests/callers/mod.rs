//! Clients that keep events apart from answers, and two daemons that are connected.

// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::{collections::VecDeque, time::Duration};

use bytes::Bytes;
use hyperspace_common::{Header, Kind, Message, Method, Required, RpcError, decode, messages::*};
use hyperspace_server::ServerOptions;
use tokio::time::timeout;

use crate::common::{Fixture, Raw};

/// Only to end a test that hangs.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// A client that keeps events apart from answers.
pub struct Client {
    pub raw: Raw,
    pub events: VecDeque<(Method, Bytes)>,
    pub calls: u64,
}

impl Client {
    pub fn over(raw: Raw) -> Self {
        Self { raw, events: VecDeque::new(), calls: 0 }
    }

    pub async fn next(&mut self) -> (Header, Bytes) {
        timeout(DEADLINE, self.raw.next()).await.expect("something comes").expect("the connection stands")
    }

    pub async fn send(&mut self, method: Method, request: &impl Message) -> u64 {
        self.calls += 1;
        self.raw.send(method, self.calls, request).await;
        self.calls
    }

    pub async fn result<R: Message + Default>(&mut self, call: u64) -> Result<R, RpcError> {
        loop {
            let (header, payload) = self.next().await;
            match header.kind {
                Kind::Request => self.events.push_back((header.known_method().unwrap(), payload)),
                Kind::Response if header.id == call => return Ok(R::decode(payload).unwrap()),
                Kind::Error if header.id == call => return Err(decode(payload).unwrap()),
                _ => panic!("nobody asked for {header:?}"),
            }
        }
    }

    pub async fn try_call<R: Message + Default>(
        &mut self,
        method: Method,
        request: &impl Message,
    ) -> Result<R, RpcError> {
        let call = self.send(method, request).await;
        self.result(call).await
    }

    pub async fn call<R: Message + Default>(&mut self, method: Method, request: &impl Message) -> R {
        self.try_call(method, request).await.unwrap()
    }

    /// The next event of this method; others stay.
    pub async fn event<M: Required>(&mut self, method: Method) -> M {
        loop {
            if let Some(at) = self.events.iter().position(|(event, _)| *event == method) {
                return decode(self.events.remove(at).unwrap().1).unwrap();
            }
            let (header, payload) = self.next().await;
            assert_eq!(header.kind, Kind::Request, "{header:?}");
            self.events.push_back((header.known_method().unwrap(), payload));
        }
    }

    /// What has come of this event until now.
    pub fn come<M: Required>(&mut self, method: Method) -> Vec<M> {
        let (come, rest): (VecDeque<_>, VecDeque<_>) =
            self.events.drain(..).partition(|(event, _)| *event == method);
        self.events = rest;
        come.into_iter().map(|(_, payload)| decode(payload).unwrap()).collect()
    }

    pub async fn open(&mut self, id: u64, key: Option<Bytes>) -> OpenResponse {
        self.call(Method::CorestoreOpen, &OpenRequest { id, key, name: None, weak: None }).await
    }

    pub async fn append(&mut self, id: u64, blocks: Vec<Bytes>) -> AppendResponse {
        self.call(Method::HypercoreAppend, &AppendRequest { id, blocks }).await
    }

    pub async fn get(&mut self, id: u64, seq: u64) -> Result<Bytes, RpcError> {
        let response: Result<GetResponse, _> = self.try_call(Method::HypercoreGet, &get(id, seq)).await;
        response.map(|response| response.block.unwrap())
    }

    pub async fn update(&mut self, id: u64, min_length: u64) {
        let request = UpdateRequest { id, min_length: Some(min_length), if_available: None, hash: None };
        self.call::<()>(Method::HypercoreUpdate, &request).await;
    }
}

pub fn get(id: u64, seq: u64) -> GetRequest {
    GetRequest { id, seq, resource_id: 1000 + seq, wait: None, if_available: None, on_wait_id: None }
}

/// A client of each of two daemons that are connected by address.
pub struct Pair {
    /// Of the one that is dialled.
    pub writer: Client,
    pub reader: Client,
    _daemons: (Fixture, Fixture),
}

impl Pair {
    pub async fn start() -> Self {
        let listening = ServerOptions { peer_listen: Some("127.0.0.1:0".into()), ..ServerOptions::default() };
        let one = Fixture::with_options(listening).await;
        let connect = vec![one.server.peer_address().unwrap().to_string()];
        let two = Fixture::with_options(ServerOptions { connect, ..ServerOptions::default() }).await;
        let (writer, reader) = (Client::over(one.raw().await), Client::over(two.raw().await));
        Self { writer, reader, _daemons: (one, two) }
    }

    /// A new core with these blocks, open as session `id` on both sides, with its length known to the reader.
    pub async fn core(&mut self, id: u64, blocks: Vec<Bytes>) -> Bytes {
        let key = self.writer.open(id, None).await.key;
        let length = self.writer.append(id, blocks).await.length;
        self.reader.open(id, Some(key.clone())).await;
        self.reader.update(id, length).await;
        key
    }
}

/// So many blocks.
pub fn blocks(count: u64) -> Vec<Bytes> {
    (0..count).map(|seq| Bytes::from(format!("block {seq}"))).collect()
}
