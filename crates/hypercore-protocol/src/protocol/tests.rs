use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc;
use futures::future::{self, Either};
use futures::{SinkExt, StreamExt};
use hypercore::Key;
use hypercore::proof::{DataBlock, Proof};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::{Channel, Event, Protocol, ProtocolBuilder};
use crate::connection::SecretHandshake;
use crate::error::Error;
use crate::messages::{Data, Extension, Message, Range, Request};

fn key(byte: u8) -> Key {
    Key::from([byte; 32])
}

fn pair() -> (Protocol, Protocol) {
    let (a, b) = tokio::io::duplex(4096);
    let a = ProtocolBuilder::new(true).connect(a.compat()).unwrap();
    let b = ProtocolBuilder::new(false).connect(b.compat()).unwrap();
    (a, b)
}

/// Polls both until each has its channel.
async fn channels(a: &mut Protocol, b: &mut Protocol, key: Key) -> (Channel, Channel) {
    a.open(key).await.unwrap();
    b.open(key).await.unwrap();
    future::join(channel(a), channel(b)).await
}

async fn channel(protocol: &mut Protocol) -> Channel {
    loop {
        match protocol.next().await {
            Some(Ok(Event::Channel(channel))) => return channel,
            Some(Ok(Event::Handshake(_) | Event::DiscoveryKey(_))) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// Runs `work` while both protocols are being polled; whatever they report is given to `work`'s end.
async fn driving<T>(
    a: &mut Protocol,
    b: &mut Protocol,
    work: impl Future<Output = T>,
) -> (T, Vec<Event>, Vec<Event>) {
    let (mut events_a, mut events_b) = (Vec::new(), Vec::new());
    let work = std::pin::pin!(work);
    let drive = std::pin::pin!(future::poll_fn(|cx| {
        while let Poll::Ready(event) = a.poll_next_unpin(cx) {
            let Some(event) = event else { break };
            events_a.push(event.unwrap());
        }
        while let Poll::Ready(event) = b.poll_next_unpin(cx) {
            let Some(event) = event else { break };
            events_b.push(event.unwrap());
        }
        Poll::<()>::Pending
    }));
    let Either::Left((done, _)) = future::select(work, drive).await else { unreachable!() };
    (done, events_a, events_b)
}

fn block(index: u64, len: usize) -> Message {
    let block = DataBlock { index, value: vec![7; len].into(), nodes: vec![] };
    Message::Data(Data { request: 1, proof: Proof { block: Some(block), ..Default::default() } })
}

#[tokio::test]
async fn messages_travel_between_channels_of_one_key() {
    let (mut a, mut b) = pair();
    let (mut ca, mut cb) = channels(&mut a, &mut b, key(1)).await;
    assert_eq!(ca.discovery_key(), &key(1).discovery_key());
    let request = Message::Request(Request { id: 4, ..Default::default() });
    let answer = Message::Range(Range { drop: false, start: 3, length: 1 });
    let (request_too, answer_too) = (request.clone(), answer.clone());
    driving(&mut a, &mut b, async move {
        ca.send(request.clone()).await.unwrap();
        assert_eq!(cb.next().await, Some(request));
        cb.send_batch(vec![answer.clone(), answer.clone()]).await.unwrap();
        assert_eq!(ca.next().await, Some(answer.clone()));
        assert_eq!(ca.next().await, Some(answer));
    })
    .await;
    assert_ne!(request_too, answer_too);
}

/// Time is paused: it goes on, and the timeout strikes, only when nothing else can move.
#[tokio::test(start_paused = true)]
async fn a_slow_reader_holds_up_the_writer_and_nothing_is_lost() {
    let (mut a, mut b) = pair();
    let (mut ca, mut cb) = channels(&mut a, &mut b, key(1)).await;
    let (mut sent, received) = (0u64, 100u64);
    // Nobody takes what arrives: sending must come to a halt.
    let stuck = async {
        loop {
            ca.send(block(sent, 100_000)).await.unwrap();
            sent += 1;
        }
    };
    driving(&mut a, &mut b, async {
        tokio::time::timeout(Duration::from_millis(300), stuck).await.unwrap_err()
    })
    .await;
    assert!(sent < 200, "{sent} blocks were accepted");
    assert!(a.connection.pending_transmit() < 4 * 1024 * 1024);
    // The block whose sending was given up above may or may not have been accepted.
    let send = async {
        for index in 1000..1000 + received {
            ca.send(block(index, 100_000)).await.unwrap();
        }
    };
    let receive = async {
        let mut got = Vec::new();
        while got.last() != Some(&(1000 + received - 1)) {
            let Some(Message::Data(data)) = cb.next().await else { panic!("closed") };
            got.push(data.proof.block.unwrap().index);
        }
        got
    };
    let ((_, got), ..) = driving(&mut a, &mut b, future::join(send, receive)).await;
    assert!(got.is_sorted(), "{got:?}");
    assert!(got.len() as u64 >= received + sent);
}

#[tokio::test]
async fn dropping_a_channel_closes_it_on_both_sides() {
    let (mut a, mut b) = pair();
    let (ca, mut cb) = channels(&mut a, &mut b, key(1)).await;
    drop(ca);
    let (end, events_a, events_b) = driving(&mut a, &mut b, cb.next()).await;
    assert_eq!(end, None);
    assert!(matches!(events_a[..], [Event::Close(dk)] if dk == key(1).discovery_key()));
    assert!(matches!(events_b[..], [Event::Close(dk)] if dk == key(1).discovery_key()));
    channels(&mut a, &mut b, key(1)).await;
}

#[tokio::test]
async fn the_remote_opens_a_core_and_the_key_is_found_for_it() {
    let (mut a, mut b) = pair();
    let mut commands = a.commands();
    let a = tokio::spawn(async move {
        let mut opened = Vec::new();
        while let Some(event) = a.next().await {
            match event.unwrap() {
                Event::Channel(channel) => opened.push(channel),
                Event::Close(_) => break,
                _ => {}
            }
        }
        opened.len()
    });
    commands.open(key(5)).await.unwrap();
    assert!(matches!(commands.open(key(5)).await, Err(Error::AlreadyOpen)));
    let wanted = loop {
        if let Event::DiscoveryKey(discovery_key) = b.next().await.unwrap().unwrap() {
            break discovery_key;
        }
    };
    assert_eq!(wanted, key(5).discovery_key());
    b.open(key(5)).await.unwrap();
    let channel = channel(&mut b).await;
    // Nobody has the key of this one: it is rejected, which the other side learns as a close.
    commands.open(key(6)).await.unwrap();
    let Some(Ok(Event::DiscoveryKey(unknown))) = b.next().await else { panic!() };
    b.reject(&unknown).await.unwrap();
    let (opened, _) = future::join(a, async { while b.next().await.is_some() {} }).await;
    assert_eq!(opened.unwrap(), 1);
    assert!(matches!(commands.open(key(7)).await, Err(Error::Ended)));
    drop(channel);
}

#[tokio::test]
async fn extensions_of_a_channel_and_of_the_connection() {
    let (mut a, mut b) = pair();
    let mut stats_a = a.register_extension("stats").await.unwrap();
    let mut stats_b = b.register_extension("stats").await.unwrap();
    let (mut ca, mut cb) = channels(&mut a, &mut b, key(1)).await;
    let mut chat_a = ca.register_extension("chat");
    let mut chat_b = cb.register_extension("chat");
    assert_eq!(chat_a.name(), "chat");
    driving(&mut a, &mut b, async {
        chat_a.send("hello").await.unwrap();
        chat_a.send("again").await.unwrap();
        assert_eq!(chat_b.next().await.unwrap(), "hello");
        assert_eq!(chat_b.next().await.unwrap(), "again");
        stats_a.send("42").await.unwrap();
        assert_eq!(stats_b.next().await.unwrap(), "42");
        stats_b.send("43").await.unwrap();
        assert_eq!(stats_a.next().await.unwrap(), "43");
        // A name that nobody registered stays on the channel.
        let other = Message::Extension(Extension { name: "other".into(), message: Bytes::from_static(b"x") });
        ca.send(other.clone()).await.unwrap();
        assert_eq!(cb.next().await.unwrap(), other);
        let too_long = Extension { name: "x".repeat(5000), ..Default::default() };
        assert!(ca.send(Message::Extension(too_long)).await.is_err());
        assert!(matches!(ca.send(block(1, 17_000_000)).await, Err(Error::MessageTooLarge { .. })));
    })
    .await;
}

#[tokio::test]
async fn the_end_of_the_transport_ends_everything() {
    let (mut a, mut b) = pair();
    let (_ca, mut cb) = channels(&mut a, &mut b, key(1)).await;
    drop(a);
    assert!(b.next().await.is_none());
    assert!(b.next().await.is_none());
    assert_eq!(cb.next().await, None);
    assert!(matches!(cb.send(block(1, 1)).await, Err(Error::Ended)));
}

#[tokio::test]
async fn garbage_ends_with_an_error() {
    let (a, mut b) = tokio::io::duplex(4096);
    let mut a = ProtocolBuilder::new(false).connect(a.compat()).unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut b, b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = a.next().await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Stream(_)), "{error}");
    assert!(a.next().await.is_none());
}

/// Two message channels as one stream that is already encrypted and framed.
struct Framed {
    from: mpsc::Receiver<Bytes>,
    to: mpsc::Sender<Bytes>,
}

impl futures::Stream for Framed {
    type Item = std::io::Result<Bytes>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<Option<std::io::Result<Bytes>>> {
        self.from.poll_next_unpin(cx).map(|message| message.map(Ok))
    }
}

fn gone(_: mpsc::SendError) -> std::io::Error {
    std::io::ErrorKind::BrokenPipe.into()
}

impl futures::Sink<Bytes> for Framed {
    type Error = std::io::Error;

    fn poll_ready(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.to.poll_ready_unpin(cx).map_err(gone)
    }

    fn start_send(mut self: std::pin::Pin<&mut Self>, item: Bytes) -> std::io::Result<()> {
        self.to.start_send_unpin(item).map_err(gone)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.to.poll_flush_unpin(cx).map_err(gone)
    }

    fn poll_close(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        self.to.poll_close_unpin(cx).map_err(gone)
    }
}

#[tokio::test]
async fn over_a_stream_that_is_encrypted_already() {
    let ((to_b, from_a), (to_a, from_b)) = (mpsc::channel(1), mpsc::channel(1));
    let side = |is_initiator, from, to| {
        let handshake = SecretHandshake { is_initiator, remote_public_key: [1; 32], handshake_hash: [2; 64] };
        ProtocolBuilder::new(is_initiator).connect_framed(Framed { from, to }, handshake).unwrap()
    };
    let (mut a, mut b) = (side(true, from_b, to_b), side(false, from_a, to_a));
    let (mut ca, mut cb) = channels(&mut a, &mut b, key(1)).await;
    driving(&mut a, &mut b, async {
        for index in 0..10 {
            ca.send(block(index, 300_000)).await.unwrap();
            assert_eq!(cb.next().await, Some(block(index, 300_000)));
        }
    })
    .await;
}
