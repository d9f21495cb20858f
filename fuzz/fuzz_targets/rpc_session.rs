//! A client of the daemon that calls any method with any arguments, as bytes and as messages of the right shape, in any
//! order and number. The daemon keeps to its bounds, sends nothing but whole frames (whether each call has its answer is
//! not looked at), lets the client go, closes what it had open, and serves others.
#![no_main]

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use hyperspace_common::messages::{OpenRequest, StatsResponse};
use hyperspace_common::{Decoder, Header, Kind, Method, Outbox, decode};
use hyperspace_server::{Limits, Server, ServerOptions};
use libfuzzer_sys::fuzz_target;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::{Builder, Runtime};

/// Calls of one input.
const MAX_CALLS: usize = 64;
/// Names of cores, so that several sessions meet in one.
const NAMES: [&str; 3] = ["", "a", "b"];
/// More than the answers to all calls of one input can be. The longest is a list of all cores.
const MAX_ANSWERED: usize = 8 << 20;
/// Neither waiting for answers nor for the end may take longer.
const PATIENCE: Duration = Duration::from_secs(10);

fuzz_target!(|data: &[u8]| {
    let Some((&shape, rest)) = data.split_first() else { return };
    let calls = if shape & 1 == 0 { rest.to_vec() } else { structured(rest) };
    runtime(|runtime| runtime.block_on(session(&calls)));
});

fn runtime<T>(work: impl FnOnce(&Runtime) -> T) -> T {
    thread_local! {
        static RUNTIME: Runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    RUNTIME.with(work)
}

/// One life of a daemon: the client's calls, then another client's.
async fn session(calls: &[u8]) {
    let limits = Limits {
        max_frame: 1 << 16,
        max_sessions: 16,
        max_waiting: 32,
        max_unread: 1 << 20,
        unsent_high_water: 1 << 16,
        ..Limits::default()
    };
    let server = Server::start(ServerOptions { limits, ..ServerOptions::default() });
    let server = server.await.expect("a server in memory starts");
    let (mut near, far) = tokio::io::duplex(1 << 16);
    let gone = tokio::spawn(server.serve(far));
    let (mut reader, mut writer) = tokio::io::split(&mut near);
    let sent = async {
        // The daemon may end the connection in the middle.
        let _ = writer.write_all(calls).await;
        let _ = writer.shutdown().await;
    };
    let received = async {
        let mut answers = BytesMut::new();
        while reader.read_buf(&mut answers).await.is_ok_and(|read| read > 0) {
            assert!(answers.len() <= MAX_ANSWERED, "answers without end");
        }
        answers.freeze()
    };
    let done = async { tokio::join!(sent, received).1 };
    let answers = tokio::time::timeout(PATIENCE, done).await.expect("a client that is done is let go");
    check_frames(&answers);
    let _ = gone.await.expect("serving a client does not panic");

    // Stop is a call like others, and then nobody is served.
    if server.stopped().now_or_never().is_none() {
        let (near, far) = tokio::io::duplex(1 << 16);
        tokio::spawn(server.serve(far));
        let other = tokio::time::timeout(PATIENCE, is_served(near));
        other.await.expect("another client is answered");
    }
    tokio::time::timeout(PATIENCE, server.stop()).await.expect("the daemon ends");
}

/// Whatever came back are whole frames.
fn check_frames(answers: &Bytes) {
    let mut at = 0;
    while let Some(frame) = Decoder::default().next(&answers[at..]).expect("the daemon speaks the protocol") {
        assert!(frame.header.kind != Kind::Request || frame.header.id == 0, "events want no answer");
        at += frame.end;
    }
    assert_eq!(at, answers.len(), "half a frame");
}

async fn is_served(mut near: DuplexStream) {
    let mut outbox = Outbox::new();
    let open = OpenRequest { id: 1, key: None, name: Some("other".into()), weak: None };
    outbox.request(Method::CorestoreOpen, 1, &open);
    outbox.request(Method::StoreStats, 2, &());
    near.write_all(&outbox.take()).await.expect("the daemon reads");
    let mut input = BytesMut::new();
    loop {
        near.read_buf(&mut input).await.expect("the daemon answers");
        while let Some(frame) = Decoder::default().next(&input).expect("the daemon speaks the protocol") {
            let bytes = input.split_to(frame.end).freeze();
            if frame.header == Header::response(Method::StoreStats, 2) {
                let stats: StatsResponse =
                    decode(bytes.slice(frame.payload)).expect("the daemon's own message");
                assert_eq!(stats.clients, 1, "the other client is gone");
                assert!(stats.open_cores <= 1, "what the other client had open is closed: {stats:?}");
                return;
            }
        }
    }
}

/// The input as calls: a method, the call's number, and fields of small numbers, large ones, names and bytes.
fn structured(mut input: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    // A session is there from the start, so that most calls find one.
    let mut outbox = Outbox::new();
    let open = OpenRequest { id: 0, key: None, name: Some(NAMES[1].into()), weak: None };
    outbox.request(Method::CorestoreOpen, 1, &open);
    out.extend_from_slice(&outbox.take());
    for _ in 0..MAX_CALLS {
        let [method, fields, rest @ ..] = input else { break };
        input = rest;
        let method = Method::ALL[usize::from(*method) % Method::ALL.len()];
        let mut payload = Vec::new();
        for field in 1..=fields % 8 {
            let [kind, value, rest @ ..] = input else { break };
            input = rest;
            field_of(field, *kind, *value, &mut input, &mut payload);
        }
        Header::request(method, u64::from(fields >> 3)).write(payload.len(), &mut out);
        out.extend_from_slice(&payload);
    }
    out.to_vec()
}

/// A field of a protobuf message.
fn field_of(field: u8, kind: u8, value: u8, input: &mut &[u8], payload: &mut Vec<u8>) {
    match kind % 8 {
        // Left out.
        0 => {}
        1..=4 => {
            payload.push(field << 3);
            varint(u64::from(value % if kind % 2 == 0 { 4 } else { 255 }), payload);
        }
        5 => {
            payload.push(field << 3);
            varint(u64::MAX >> (value % 64), payload);
        }
        6 => {
            let name = NAMES[usize::from(value) % NAMES.len()];
            payload.extend([field << 3 | 2, name.len() as u8]);
            payload.extend_from_slice(name.as_bytes());
        }
        _ => {
            let (bytes, rest) = input.split_at(usize::from(value % 40).min(input.len()));
            *input = rest;
            payload.extend([field << 3 | 2, bytes.len() as u8]);
            payload.extend_from_slice(bytes);
        }
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
