//! Calls to a daemon that a thread of the test plays.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time,
};

use bytes::{Bytes, BytesMut};
use futures::future::{BoxFuture, FutureExt};
use hyperspace_common::{
    Decoder, Header, Method, Outbox,
    messages::{GetRequest, GetResponse},
};

use super::{Connection, EventHandler, Halves, State, decode_answer};
use crate::error::ClientError;

/// Keeps the events.
#[derive(Default)]
struct Events(Mutex<Vec<Bytes>>);

impl EventHandler for Events {
    fn event(&self, _: Method, payload: Bytes) -> Result<(), ClientError> {
        self.0.lock().unwrap().push(payload);
        Ok(())
    }
    fn closed(&self, _: &ClientError) {}
    fn lost(&self, _: &ClientError) {}
    fn lost_again(&self) {}
    fn restore(&self, _: Connection) -> BoxFuture<'_, Result<(), ClientError>> {
        async { Ok(()) }.boxed()
    }
    fn restored(&self) {}
}

/// A connection to a daemon that answers every request with what `answer` writes, until that says no.
fn connect(
    answer: impl Fn(Header, &mut Outbox) -> bool + Send + 'static,
) -> (Connection, Arc<Events>, JoinHandle<()>) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let daemon = thread::spawn(move || {
        let (mut input, mut buffer, mut outbox) = (BytesMut::new(), vec![0; 64 << 10], Outbox::new());
        loop {
            while let Some(frame) = Decoder::default().next(&input).unwrap() {
                let _ = input.split_to(frame.end);
                if !answer(frame.header, &mut outbox) {
                    return;
                }
            }
            theirs.write_all(&outbox.take()).unwrap();
            match theirs.read(&mut buffer).unwrap() {
                0 => return,
                length => input.extend_from_slice(&buffer[..length]),
            }
        }
    });
    ours.set_nonblocking(true).unwrap();
    let (reader, writer) = tokio::net::UnixStream::from_std(ours).unwrap().into_split();
    let events = Arc::new(Events::default());
    let halves = Halves { reader: Box::new(reader), writer: Box::new(writer) };
    (Connection::start(halves, events.clone(), None), events, daemon)
}

async fn get(connection: &Connection) -> Result<Bytes, ClientError> {
    connection.ask_raw(Method::HypercoreGet, &GetRequest::default()).await
}

/// Calls one after the other are waited for awake as long as the answers come at once. They are smaller and larger than
/// what is read at a look, and an event comes before each.
async fn one_after_the_other(callers: usize, calls: u64) {
    let answered = AtomicU64::new(0);
    let (connection, events, daemon) = connect(move |call, outbox| {
        let number = answered.fetch_add(1, Ordering::Relaxed);
        outbox.event(Method::HypercoreOnAppend, &GetRequest::default());
        outbox.block_response(call, Bytes::from(vec![number as u8; 1 + number as usize * 997 % 70_000]));
        true
    });
    let alone = callers == 1;
    let callers = (0..callers).map(|_| async {
        for number in 0..calls {
            let answer = get(&connection).await.unwrap();
            let answer = decode_answer::<GetResponse>(answer).unwrap().block.unwrap();
            assert!(answer.iter().all(|byte| *byte == answer[0]));
            if alone {
                assert_eq!((answer.len(), answer[0]), (1 + number as usize * 997 % 70_000, number as u8));
            }
        }
    });
    let told = callers.len() as u64 * calls;
    futures::future::join_all(callers).await;
    assert_eq!(events.0.lock().unwrap().len() as u64, told, "each comes before the answer behind it");
    drop(connection);
    // The runtime sees to the end of the connection meanwhile.
    tokio::task::spawn_blocking(|| daemon.join().unwrap()).await.unwrap();
}

#[tokio::test]
async fn answers_that_are_waited_for_awake_are_whole() {
    one_after_the_other(1, 3000).await;
    one_after_the_other(3, 1000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_they_are_with_several_threads() {
    one_after_the_other(1, 3000).await;
    one_after_the_other(3, 1000).await;
}

#[tokio::test]
async fn whoever_waits_awake_hears_of_the_end_and_of_faults() {
    for (last, wrong) in [(0, false), (500, false), (0, true), (500, true)] {
        let calls = AtomicU64::new(0);
        let (connection, _, daemon) = connect(move |call, outbox| {
            let ends = calls.fetch_add(1, Ordering::Relaxed) == last;
            let id = if ends { 77 } else { call.id };
            outbox.block_response(Header { id, ..call }, Bytes::from(vec![0; 10]));
            !ends || wrong
        });
        for _ in 0..last {
            get(&connection).await.unwrap();
        }
        match get(&connection).await {
            Err(ClientError::Protocol(error)) if wrong => assert!(error.contains("call 77"), "{error}"),
            Err(ClientError::Disconnected(_)) if !wrong => {}
            other => panic!("{other:?} after {last}"),
        }
        assert!(connection.closed().is_some());
        tokio::task::spawn_blocking(|| daemon.join().unwrap()).await.unwrap();
    }
}

/// What comes behind other calls says nothing of how soon the daemon answers: nobody looks for it any more, nor is measured
/// when it came.
#[tokio::test]
async fn a_call_beside_another_is_not_waited_for_awake() {
    let (connection, _, daemon) = connect(|call, outbox| {
        outbox.block_response(call, Bytes::from_static(b"block"));
        true
    });
    let ask = |state: &mut State| {
        state.ask(|out, id| out.request(Method::HypercoreGet, id, &GetRequest::default()))
    };
    // As soon as that it may not be on a busy machine at first.
    while !connection.shared.lock().vigil.is_kept(time::Instant::now()) {
        get(&connection).await.unwrap();
    }
    let (first, second) = {
        let mut state = connection.shared.lock();
        let first = ask(&mut state);
        assert!(state.is_brisk() && state.vigil.is_begun());
        let second = ask(&mut state);
        assert!(!state.is_brisk() && !state.vigil.is_begun() && !state.looks_again());
        (first, second)
    };
    connection.answer(second).await.unwrap();
    connection.answer(first).await.unwrap();
    let third = {
        let mut state = connection.shared.lock();
        assert!(!state.vigil.is_begun());
        let third = ask(&mut state);
        assert!(state.vigil.is_begun(), "it is alone again");
        third
    };
    connection.answer(third).await.unwrap();
    drop(connection);
    tokio::task::spawn_blocking(|| daemon.join().unwrap()).await.unwrap();
}
