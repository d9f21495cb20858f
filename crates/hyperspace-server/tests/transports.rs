//! Clients over TCP and WebSocket: who comes in, who does not, and what becomes of those who misbehave.

mod common;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use common::Raw;
use futures::StreamExt;
use hyperspace_client::{AccessToken, ClientError, ConnectOptions, HyperspaceClient, Reconnect};
use hyperspace_common::{Endpoint, Header, Method, Outbox, code, messages::*};
use hyperspace_server::{Limits, ListenError, Origins, Server, ServerEvent, ServerOptions, StartError};
use hyperspace_websocket::{Close, MAX_MESSAGE, WsStream};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const WRONG: &str = "0123456789abcdef0123456789abcdeF";
/// Only to end a test that hangs.
const DEADLINE: Duration = Duration::from_secs(120);

fn token(text: &str) -> AccessToken {
    text.parse().unwrap()
}

async fn server_with(limits: Limits) -> Server {
    let options = ServerOptions {
        rpc_listen: Some("127.0.0.1:0".into()),
        ws_listen: Some("127.0.0.1:0".into()),
        ws_origins: Origins::new(["https://named.example"]).unwrap(),
        tokens: vec![token(TOKEN), token(&"another one".replace(' ', "-").repeat(4))],
        limits,
        ..ServerOptions::default()
    };
    Server::start(options).await.unwrap()
}

async fn server() -> Server {
    // As long as a slow machine may need.
    server_with(Limits { admission: DEADLINE, ..Limits::default() }).await
}

fn endpoints(server: &Server) -> [Endpoint; 2] {
    let (tcp, websocket) = (server.rpc_address().unwrap(), server.ws_address().unwrap());
    [format!("tcp://{tcp}").parse().unwrap(), format!("ws://{websocket}/rpc").parse().unwrap()]
}

async fn connect(endpoint: &Endpoint, token: Option<AccessToken>) -> Result<HyperspaceClient, ClientError> {
    let options = ConnectOptions { token, ..ConnectOptions::default() };
    HyperspaceClient::connect_with(endpoint, options).await
}

async fn websocket(server: &Server) -> WsStream<TcpStream> {
    let address = server.ws_address().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    hyperspace_websocket::connect(stream, &format!("ws://{address}/")).await.unwrap()
}

/// A WebSocket that has been let in.
async fn guest(server: &Server) -> WsStream<TcpStream> {
    let mut guest = websocket(server).await;
    guest.write_all(&frame(Method::AccessPresent, 0, &PresentRequest { token: TOKEN.into() })).await.unwrap();
    guest
}

fn frame(method: Method, id: u64, message: &impl hyperspace_common::Message) -> Bytes {
    let mut outbox = Outbox::new();
    outbox.request(method, id, message);
    outbox.take()
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: nothing in {DEADLINE:?}"))
}

/// Somebody who may come in is served: whatever happened before did no harm.
async fn is_served(server: &Server) {
    for endpoint in endpoints(server) {
        let client = within("a connection", connect(&endpoint, Some(token(TOKEN)))).await.unwrap();
        within("its answer", client.status()).await.unwrap();
    }
}

/// What is left to be heard on a connection, until it ends.
async fn last_words(stream: &mut TcpStream) -> Vec<u8> {
    let mut heard = Vec::new();
    // A connection that is reset has ended, too.
    let _ = within("the end of the connection", stream.read_to_end(&mut heard)).await;
    heard
}

/// How a WebSocket ended.
async fn ending(socket: &mut WsStream<TcpStream>) -> String {
    let mut rest = Vec::new();
    let read = within("the end of the connection", socket.read_to_end(&mut rest)).await;
    read.err().map(|error| error.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn a_token_lets_in_over_both() {
    let server = server().await;
    let mut events = Box::pin(server.events());
    for endpoint in endpoints(&server) {
        let client = connect(&endpoint, Some(token(TOKEN))).await.unwrap();
        let log = client.corestore().create().await.unwrap();
        let blocks: Vec<Bytes> =
            (0..500u32).map(|i| Bytes::from(vec![i as u8; 1 + i as usize * 20])).collect();
        log.append_blocks(&blocks).await.unwrap();
        log.append(vec![7; 8 << 20]).await.unwrap();
        let reads = (0..500).map(|i| log.get(i));
        assert_eq!(futures::future::try_join_all(reads).await.unwrap(), blocks);
        assert_eq!(log.get(500).await.unwrap().len(), 8 << 20);
        client.close();
        while !matches!(within("the close", events.next()).await, Some(ServerEvent::ClientClose { .. })) {}
    }
    server.stop().await;
}

#[tokio::test]
async fn without_a_good_token_no_method_runs() {
    let server = server().await;
    for endpoint in endpoints(&server) {
        let error = connect(&endpoint, Some(token(WRONG))).await.unwrap_err();
        assert!(matches!(&error, ClientError::Access { .. }), "{error}");
        assert!(
            error.to_string().contains("HYPERSPACE_TOKEN") && !error.to_string().contains(WRONG),
            "{error}"
        );
        // Without one the first call is refused.
        let client = connect(&endpoint, None).await.unwrap();
        let error = within("the refusal", client.stop()).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::Rpc(error) if error.code.as_deref() == Some(code::ACCESS)),
            "{error}"
        );
        within("the end", async {
            while client.closed().is_none() {
                tokio::task::yield_now().await
            }
        })
        .await;
    }
    assert_eq!(server.client_count(), 0);
    is_served(&server).await;
    server.stop().await;
}

/// A WebSocket says in its close frame why it ends.
#[tokio::test]
async fn close_codes_tell_why() {
    let server = server_with(Limits { max_clients: 2, admission: DEADLINE, ..Limits::default() }).await;
    let mut wrong = websocket(&server).await;
    let shown = PresentRequest { token: WRONG.into() };
    wrong.write_all(&frame(Method::AccessPresent, 0, &shown)).await.unwrap();
    wrong.flush().await.unwrap();
    let why = ending(&mut wrong).await;
    assert!(why.contains("4401") && why.contains("wrong"), "{why}");

    let mut garbage = guest(&server).await;
    garbage.write_all(&[0xff; 100]).await.unwrap();
    garbage.flush().await.unwrap();
    let why = ending(&mut garbage).await;
    assert!(why.contains("1002") && why.contains("protocol"), "{why}");

    let (one, two) = (endpoints(&server)[1].clone(), endpoints(&server)[0].clone());
    let (one, two) = (connect(&one, Some(token(TOKEN))).await, connect(&two, Some(token(TOKEN))).await);
    one.as_ref().unwrap().status().await.unwrap();
    two.as_ref().unwrap().status().await.unwrap();
    let mut third = guest(&server).await;
    third.flush().await.unwrap();
    let why = ending(&mut third).await;
    assert!(why.contains("1013") && why.contains("too many clients"), "{why}");
    drop((one, two));

    // The farewell of a server that ends is a normal one.
    let server = server_with(Limits { admission: DEADLINE, ..Limits::default() }).await;
    let mut last = guest(&server).await;
    last.write_all(&frame(Method::HyperspaceStop, 0, &())).await.unwrap();
    last.flush().await.unwrap();
    assert_eq!(ending(&mut last).await, "");
    within("the server", server.stopped()).await;
    last.finish(Close::normal("")).await;
    within("the end", server.stop()).await;
}

#[tokio::test]
async fn pages_of_other_origins_stay_out() {
    let server = server().await;
    let address = server.ws_address().unwrap();
    let ask = async |origin: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: {origin}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut status = [0; 12];
        within("the answer", stream.read_exact(&mut status)).await.unwrap();
        String::from_utf8(status.to_vec()).unwrap()
    };
    for (origin, status) in [
        ("https://evil.example".to_owned(), "HTTP/1.1 403"),
        ("null".into(), "HTTP/1.1 403"),
        // A name that somebody points at 127.0.0.1 is still that name, whatever the header Host says.
        (format!("http://evil.example:{}", address.port()), "HTTP/1.1 403"),
        ("https://named.example".into(), "HTTP/1.1 101"),
        ("http://localhost:8000".into(), "HTTP/1.1 101"),
    ] {
        assert_eq!(ask(&origin).await, status, "{origin}");
    }
    is_served(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn who_says_nothing_is_shown_the_door() {
    let limits = Limits { admission: Duration::from_secs(1), ..Limits::default() };
    let server = server_with(limits).await;
    // Nothing at all; half a frame; half a request.
    let beginnings = [
        (server.rpc_address().unwrap(), &b""[..]),
        (server.rpc_address().unwrap(), &[0x20, 0x48]),
        (server.ws_address().unwrap(), b""),
        (server.ws_address().unwrap(), b"GET / HTTP/1.1\r\nHost: x\r\n"),
    ];
    let ends = beginnings.map(async |(address, beginning)| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(beginning).await.unwrap();
        last_words(&mut stream).await
    });
    assert!(futures::future::join_all(ends).await.concat().is_empty());
    // On a slow machine the handshake may take all of the time.
    let mut silent = within("a handshake", async {
        let address = server.ws_address().unwrap();
        loop {
            let stream = TcpStream::connect(address).await.unwrap();
            if let Ok(silent) = hyperspace_websocket::connect(stream, &format!("ws://{address}/")).await {
                return silent;
            }
        }
    })
    .await;
    let why = ending(&mut silent).await;
    assert!(why.contains("4401") && why.contains("no access token came within"), "{why}");
    drop(silent);
    server.stop().await;
}

/// A crowd that says nothing does not keep out those who have a token.
#[tokio::test]
async fn a_crowd_at_the_door_keeps_nobody_out() {
    let limits = Limits { max_pending: 8, admission: Duration::from_secs(3600), ..Limits::default() };
    let server = server_with(limits).await;
    for address in [server.rpc_address().unwrap(), server.ws_address().unwrap()] {
        let mut crowd: Vec<TcpStream> = Vec::new();
        for _ in 0..40 {
            crowd.push(TcpStream::connect(address).await.unwrap());
        }
        is_served(&server).await;
        // The first of them were sent away, long before their time.
        for early in &mut crowd[..20] {
            assert!(last_words(early).await.is_empty());
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn garbage_harms_nobody() {
    let server = server().await;
    let large_head = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    for address in [server.rpc_address().unwrap(), server.ws_address().unwrap()] {
        for garbage in [
            &b"\0\x01\x02\xff\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\n\r\n",
            &[0xff; 2000],
            &large_head,
            &[0; 200_000],
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let (mut reader, mut writer) = stream.split();
            // It may be gone before all of it is written.
            let _ = writer.write_all(garbage).await;
            let _ = writer.shutdown().await;
            let mut heard = Vec::new();
            let _ = within("the end of the connection", reader.read_to_end(&mut heard)).await;
            assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 4"), "{heard:?}");
        }
    }
    is_served(&server).await;
    server.stop().await;
}

/// What a page can make a browser send to a TCP port is not the protocol.
#[tokio::test]
async fn a_browser_at_the_tcp_port_reaches_nothing() {
    let options = ServerOptions { rpc_listen: Some("127.0.0.1:0".into()), ..ServerOptions::default() };
    let server = Server::start(options).await.unwrap();
    let address = server.rpc_address().unwrap();
    let stop = frame(Method::HyperspaceStop, 0, &());
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("{method} / HTTP/1.1\r\nHost: {address}\r\nContent-Length: 200\r\n\r\n");
        let _ = stream.write_all(&[head.as_bytes(), &stop.repeat(50)].concat()).await;
        assert!(last_words(&mut stream).await.is_empty(), "{method}");
    }
    let client = connect(&Endpoint::Tcp(address.to_string()), None).await.unwrap();
    client.status().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn what_comes_before_the_token_is_bounded() {
    let server = server().await;
    let mut stream = rough_websocket(&server).await;
    // A message of a megabyte, which the token may be in: it would have to be read whole.
    let mut bytes = vec![0x82, 0xff];
    bytes.extend_from_slice(&(1u64 << 20).to_be_bytes());
    bytes.resize(1 << 20, 0);
    // The connection may end before all of it is written.
    let (mut reader, mut writer) = stream.split();
    let _ = within("the megabyte", writer.write_all(&bytes)).await;
    let mut words = Vec::new();
    let _ = within("the end of the connection", reader.read_to_end(&mut words)).await;
    drop(stream);
    // Of what is written to somebody who still sends, it is not certain that it arrives.
    assert!(words.is_empty() || words[2..4] == 1002u16.to_be_bytes(), "{words:?}");
    is_served(&server).await;
    server.stop().await;
}

/// Whole requests that came are done, and answered where the other side may still be told, whatever comes right behind.
#[tokio::test]
async fn what_comes_before_the_end_is_done() {
    let server = server().await;
    let log = server.store().get(corestore::Query::name("log")).unwrap();
    for _ in 0..2 {
        log.append(vec![1; 400_000]).unwrap();
    }
    let append = |id, length| {
        let blocks = vec![Bytes::from(vec![7; length])];
        frame(Method::HypercoreAppend, id, &AppendRequest { id: 0, blocks })
    };
    let get = |id, seq| {
        let get =
            GetRequest { id: 0, seq, resource_id: id, wait: None, if_available: None, on_wait_id: None };
        frame(Method::HypercoreGet, id, &get)
    };
    let mut too_large = vec![0x82, 0xff];
    too_large.extend_from_slice(&(MAX_MESSAGE as u64 + 1).to_be_bytes());
    too_large.extend_from_slice(&[0; 4]);
    let ends: [(&str, Vec<u8>); 5] = [
        ("its end", vec![]),
        ("a farewell", vec![0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]),
        ("a text", vec![0x81, 0x81, 0, 0, 0, 0, b'x']),
        ("what is too large", too_large),
        ("no frame", message(&[0xff; 9])),
    ];
    for (what, end) in ends {
        let mut stream = rough_websocket(&server).await;
        let token = frame(Method::AccessPresent, 0, &PresentRequest { token: TOKEN.into() });
        let open = OpenRequest { id: 0, key: None, name: Some("log".into()), weak: None };
        let open = frame(Method::CorestoreOpen, 0, &open);
        // Answers of which each is larger than what is written at once.
        let calls = [append(1, 20_000), get(2, 0), get(3, 1), append(4, 10)].concat();
        let before = log.length();
        let bytes = [message(&token), message(&open), message(&calls), end].concat();
        let (mut reader, mut writer) = stream.split();
        let write = async {
            writer.write_all(&bytes).await.unwrap();
            if what == "its end" {
                writer.shutdown().await.unwrap();
            }
        };
        let mut heard = Vec::new();
        let (_, read) = tokio::join!(write, within("the end", reader.read_to_end(&mut heard)));
        assert_eq!(log.length(), before + 2, "before {what}");
        assert!(read.is_ok() && heard.len() > 800_000, "{} bytes before {what}", heard.len());
    }
    is_served(&server).await;
    server.stop().await;
}

/// Message borders mean nothing, but a message has a bound.
#[tokio::test]
async fn frames_may_be_cut_anywhere_and_a_message_has_a_bound() {
    let server = server().await;
    let mut socket = guest(&server).await;
    let mut bytes = frame(Method::HyperspaceStatus, 1, &()).to_vec();
    bytes.extend_from_slice(&frame(Method::HyperspaceStatus, 2, &()));
    for byte in bytes {
        socket.write_all(&[byte]).await.unwrap();
        socket.flush().await.unwrap();
    }
    let mut raw = Raw::over(socket);
    for id in [1, 2] {
        raw.answer::<HyperspaceStatusResponse>(Method::HyperspaceStatus, id).await;
    }

    let mut stream = rough_websocket(&server).await;
    stream
        .write_all(&message(&frame(Method::AccessPresent, 0, &PresentRequest { token: TOKEN.into() })))
        .await
        .unwrap();
    // It is enough to say how long it is going to be.
    let mut head = vec![0x82, 0xff];
    head.extend_from_slice(&(MAX_MESSAGE as u64 + 1).to_be_bytes());
    head.extend_from_slice(&[0; 4]);
    stream.write_all(&head).await.unwrap();
    let words = last_words(&mut stream).await;
    drop(stream);
    assert_eq!((words[0], &words[2..4]), (0x88, &1009u16.to_be_bytes()[..]), "{words:?}");
    is_served(&server).await;
    server.stop().await;
}

/// More events than the sockets hold are no answers: who has not read them is heard all the same.
#[tokio::test]
async fn a_websocket_client_that_does_not_read_its_events_is_heard() {
    const SESSIONS: u64 = 2000;
    // A little less than what a session is told of an append.
    const EVENT: u64 = 10;
    const EVENTS: u64 = 16 << 20;
    let (bytes, wait) = (1 << 30, 2 * DEADLINE);
    let limits = Limits { unsent_high_water: bytes, max_unread: bytes, stall: wait, ..Limits::default() };
    let server = server_with(Limits { admission: DEADLINE, ..limits }).await;
    let [endpoint, _] = endpoints(&server);
    let client = connect(&endpoint, Some(token(TOKEN))).await.unwrap();
    let log = client.corestore().create().await.unwrap();
    let mut deaf = guest(&server).await;
    let mut opens = Outbox::new();
    for id in 0..SESSIONS {
        let key = Some(Bytes::copy_from_slice(log.key().as_bytes()));
        opens.request(Method::CorestoreOpen, 1 + id, &OpenRequest { id, key, name: None, weak: None });
    }
    deaf.write_all(&opens.take()).await.unwrap();
    deaf.flush().await.unwrap();
    let mut raw = Raw::over(deaf);
    while within("an answer", raw.next()).await.unwrap().0.id != SESSIONS {}

    let appends = EVENTS / (EVENT * SESSIONS);
    for _ in 0..appends {
        log.append("x").await.unwrap();
    }
    let append = AppendRequest { id: 7, blocks: vec![Bytes::from_static(b"heard")] };
    raw.send(Method::HypercoreAppend, 0, &append).await;
    raw.stream.flush().await.unwrap();
    assert_eq!(within("the append", log.wait_for_block(appends)).await.unwrap(), "heard");
    // The connection has gone on all the while.
    while within("its event", raw.next()).await.unwrap().0 != Header::request(Method::HypercoreOnAppend, 0) {}
}

/// A connection that is through with the handshake of a WebSocket.
async fn rough_websocket(server: &Server) -> TcpStream {
    let address = server.ws_address().unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = BytesMut::new();
    while !answer.ends_with(b"\r\n\r\n") {
        assert_ne!(within("the handshake", stream.read_buf(&mut answer)).await.unwrap(), 0);
    }
    stream
}

/// A masked binary message of less than 64 KiB.
fn message(payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x82, 0xfe];
    bytes.extend_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

#[tokio::test]
async fn a_client_that_never_reads_is_let_go() {
    let server =
        server_with(Limits { stall: Duration::from_millis(200), admission: DEADLINE, ..Limits::default() })
            .await;
    let mut events = Box::pin(server.events());
    let mut socket = guest(&server).await;
    let open = OpenRequest { id: 0, key: None, name: None, weak: None };
    socket.write_all(&frame(Method::CorestoreOpen, 1, &open)).await.unwrap();
    let blocks = vec![Bytes::from(vec![7; 1_000_000])];
    socket.write_all(&frame(Method::HypercoreAppend, 2, &AppendRequest { id: 0, blocks })).await.unwrap();
    let mut gets = Outbox::new();
    for i in 0..100 {
        let get =
            GetRequest { id: 0, seq: 0, resource_id: i, wait: None, if_available: None, on_wait_id: None };
        gets.request(Method::HypercoreGet, 10 + i, &get);
    }
    socket.write_all(&gets.take()).await.unwrap();
    socket.flush().await.unwrap();
    let reason = within("the close", async {
        loop {
            if let Some(ServerEvent::ClientClose { reason, .. }) = events.next().await {
                return reason;
            }
        }
    })
    .await;
    assert!(reason.contains("does not read"), "{reason}");
    is_served(&server).await;
    drop(socket);
    within("the end", server.stop()).await;
}

/// A client over WebSocket whose connection is cut goes on over another one.
#[tokio::test]
async fn a_client_comes_back_with_its_token() {
    let server = server().await;
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (to, at) = (server.ws_address().unwrap(), proxy.local_addr().unwrap());
    let (cut, mut cuts) = tokio::sync::mpsc::channel::<()>(1);
    let relay = tokio::spawn(async move {
        loop {
            let (mut near, _) = proxy.accept().await.unwrap();
            let mut far = TcpStream::connect(to).await.unwrap();
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                _ = cuts.recv() => {}
            }
        }
    });
    let reconnect = Some(Reconnect { first_pause: Duration::from_millis(1), ..Reconnect::default() });
    let options = ConnectOptions { token: Some(token(TOKEN)), reconnect };
    let endpoint = format!("ws://{at}").parse().unwrap();
    let client = HyperspaceClient::connect_with(&endpoint, options).await.unwrap();
    let log = client.corestore().get_by_name("log").await.unwrap();
    log.append("before").await.unwrap();
    for _ in 0..3 {
        cut.send(()).await.unwrap();
        // An append under way fails when the connection is lost: nobody knows whether it was done.
        let again = async {
            while let Err(error) = log.append("after").await {
                assert!(matches!(error, ClientError::Disconnected(_)), "{error}");
                tokio::task::yield_now().await;
            }
        };
        within("the way back", again).await;
        assert_eq!(within("a block", log.get(0)).await.unwrap(), "before");
    }
    client.close();
    relay.abort();
    server.stop().await;
}

#[tokio::test]
async fn addresses_that_others_reach_need_a_token() {
    let fails = async |options: ServerOptions| match Server::start(options).await.map(drop).unwrap_err() {
        StartError::Listen(error) => error,
        error => panic!("{error}"),
    };
    let rpc_listen = Some("0.0.0.0:0".to_owned());
    let error = fails(ServerOptions { rpc_listen, ..ServerOptions::default() }).await;
    assert!(matches!(error, ListenError::NotLoopback { .. }) && error.to_string().contains("--token-file"));
    for address in ["127.0.0.1:0", "0.0.0.0:0"] {
        let error =
            fails(ServerOptions { ws_listen: Some(address.into()), ..ServerOptions::default() }).await;
        assert!(matches!(error, ListenError::NoToken) && error.to_string().contains("--token-file"));
    }
}
