//! Streams over real sockets on loopback, both ends ours.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use udx::{
    CloseReason, Config, Firewall, Packet, Path, StreamOptions, StreamState, Udx, UdxError, UdxSocket,
    UdxStream,
};

fn local() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

struct End {
    udx: Udx,
    socket: UdxSocket,
    stream: UdxStream,
}

impl End {
    fn new() -> Self {
        let udx = Udx::new();
        let socket = udx.bind(local()).unwrap();
        let stream = udx.stream(StreamOptions::default()).unwrap();
        Self { udx, socket, stream }
    }

    fn connect(&self, other: &Self) {
        self.stream.connect(&self.socket, other.stream.local_id(), other.socket.local_addr()).unwrap();
    }
}

fn pair() -> (End, End) {
    let (a, b) = (End::new(), End::new());
    a.connect(&b);
    b.connect(&a);
    (a, b)
}

/// What a test can tell apart at every offset.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8).collect()
}

async fn read_all(stream: &mut UdxStream) -> Vec<u8> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn megabytes_both_ways_and_a_clean_end() {
    let (mut a, mut b) = pair();
    let data = pattern(24 << 20);
    let (ha, hb) = (a.stream.handle(), b.stream.handle());
    let there = async {
        let (mut reader, mut writer) = tokio::io::split(&mut a.stream);
        let write = async {
            writer.write_all(&data).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(write, reader.read_to_end(&mut got));
        read.unwrap();
        got
    };
    let back = async {
        let (mut reader, mut writer) = tokio::io::split(&mut b.stream);
        let write = async {
            for piece in data.chunks(7001) {
                writer.write_all(piece).await.unwrap();
            }
            writer.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let (_, read) = tokio::join!(write, reader.read_to_end(&mut got));
        read.unwrap();
        got
    };
    let (got_a, got_b) = tokio::join!(there, back);
    assert!(got_a == data && got_b == data);
    assert_eq!(ha.closed().await, CloseReason::Ended);
    assert_eq!(hb.closed().await, CloseReason::Ended);
    assert!(!a.socket.is_busy() && !b.socket.is_busy());
    // A burst shares calls of the kernel.
    let stats = a.socket.stats();
    assert!(stats.sends * 2 < stats.datagrams_sent, "{stats:?}");
}

#[tokio::test]
async fn one_thread_does() {
    let (mut a, mut b) = pair();
    let data = pattern(4 << 20);
    let writing = async {
        for piece in data.chunks(100_000) {
            a.stream.write_chunk(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        a.stream.shutdown().await.unwrap();
    };
    let reading = async {
        let mut got = Vec::new();
        while let Some(chunk) = b.stream.read_chunk().await.unwrap() {
            got.extend_from_slice(&chunk);
        }
        got
    };
    let ((), got) = tokio::join!(writing, reading);
    assert!(got == data);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_before_the_connection_arrives() {
    let (mut a, mut b) = (End::new(), End::new());
    a.stream.write_all(b"early").await.unwrap();
    a.stream.shutdown().await.unwrap();
    assert!(a.stream.send_message(Bytes::new()).is_err());
    b.connect(&a);
    a.connect(&b);
    assert_eq!(read_all(&mut b.stream).await, b"early");
}

/// A remote as libudx is one: it reads one datagram after the other and acknowledges each of them at once. Ends after
/// `total` bytes; says what it read.
fn acknowledge_one_by_one(
    socket: &std::net::UdpSocket,
    (local_id, remote_id): (u32, u32),
    remote: SocketAddr,
    total: usize,
) -> Vec<u8> {
    let mut state = StreamState::new(local_id, Config::default(), Instant::now());
    state.connect(Path { remote_id, remote, socket: 0, link_mtu: None }, Instant::now());
    let (mut datagram, mut answer, mut all) = ([0; 2048], Vec::new(), Vec::new());
    while all.len() < total {
        let (length, _) = socket.recv_from(&mut datagram).unwrap();
        let now = Instant::now();
        if let Some(packet) = Packet::decode(Bytes::copy_from_slice(&datagram[..length])) {
            state.receive(packet, now);
        }
        while let Some(chunk) = state.read() {
            all.extend_from_slice(&chunk);
        }
        while state.poll_transmit(now, 1, &mut answer).is_some() {
            let _ = socket.send_to(&answer, remote);
            answer.clear();
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_remote_that_acknowledges_every_packet_gets_everything() {
    let a = End::new();
    let (remote, ours) = (std::net::UdpSocket::bind(local()).unwrap(), a.socket.local_addr());
    let (id, remote_id) = (a.stream.local_id(), 7);
    a.stream.connect(&a.socket, remote_id, remote.local_addr().unwrap()).unwrap();
    let mut stream = a.stream;
    let data = pattern(24 << 20);
    let reader = {
        let (remote, total) = (remote.try_clone().unwrap(), data.len());
        tokio::task::spawn_blocking(move || acknowledge_one_by_one(&remote, (remote_id, id), ours, total))
    };
    stream.write_all(&data).await.unwrap();
    assert!(reader.await.unwrap() == data);
    let stats = a.socket.stats();
    println!("{} datagrams came in {} reads", stats.datagrams_received, stats.receives);
    // Whether the socket is woken for each or not at the end: what comes next is seen.
    for round in 0..20u8 {
        remote.send_to(&[round], ours).unwrap();
        assert_eq!(&a.socket.recv().await.unwrap().payload[..], [round]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn small_answers_do_not_wait() {
    let (mut a, mut b) = pair();
    let echo = tokio::spawn(async move {
        let mut buffer = [0; 16];
        while let Ok(n @ 1..) = b.stream.read(&mut buffer).await {
            b.stream.write_all(&buffer[..n]).await.unwrap();
        }
    });
    // Were each delayed by a timer, this would take its time: 2,000 round trips.
    let mut buffer = [0; 4];
    for turn in 0..2000u32 {
        a.stream.write_all(&turn.to_le_bytes()).await.unwrap();
        a.stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(u32::from_le_bytes(buffer), turn);
    }
    drop(a);
    echo.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_stream_delivers_what_was_written() {
    let (mut a, mut b) = pair();
    let data = pattern(200_000);
    a.stream.write_all(&data).await.unwrap();
    let handle = a.stream.handle();
    drop(a.stream);
    let mut got = vec![0; data.len()];
    b.stream.read_exact(&mut got).await.unwrap();
    assert!(got == data);
    assert_eq!(handle.closed().await, CloseReason::Destroyed);
    assert_eq!(b.stream.handle().closed().await, CloseReason::Reset);
    let err = b.stream.read(&mut got).await.unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_remote_of_an_unread_stream_waits() {
    let (mut a, mut b) = pair();
    let data = pattern(32 << 20);
    let written = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&written);
    let copy = data.clone();
    let writer = tokio::spawn(async move {
        for piece in copy.chunks(1 << 16) {
            a.stream.write_all(piece).await.unwrap();
            counted.fetch_add(piece.len(), Ordering::Relaxed);
        }
        a.stream.shutdown().await.unwrap();
        a.stream.handle().closed().await
    });
    // Until it fills the window.
    assert!(b.stream.handle().stats_until(|stats| stats.bytes_received >= 4 << 20).await);
    let taken = written.load(Ordering::Relaxed);
    assert!(taken < 16 << 20, "{taken} bytes were taken from the writer");
    let got = read_all(&mut b.stream).await;
    assert!(got == data);
    b.stream.shutdown().await.unwrap();
    assert_eq!(writer.await.unwrap(), CloseReason::Ended);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_come_beside_the_stream() {
    let (a, b) = pair();
    for n in 0..50u8 {
        a.stream.send_message(Bytes::from(vec![n; usize::from(n)])).unwrap();
        assert_eq!(b.stream.recv_message().await.unwrap(), vec![n; usize::from(n)]);
    }
    a.stream.handle().destroy();
    assert_eq!(b.stream.recv_message().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_known_by_their_ids() {
    let end = End::new();
    let options = || StreamOptions { local_id: Some(7), config: Config::default() };
    let first = end.udx.stream(options()).unwrap();
    assert_eq!(end.udx.stream(options()).unwrap_err(), UdxError::IdInUse(7));
    drop(first);
    let again = end.udx.stream(options()).unwrap();
    let other = End::new();
    let foreign = again.connect(&other.socket, 1, other.socket.local_addr());
    assert_eq!(foreign.unwrap_err(), UdxError::OtherInstance(7));
    assert!(matches!(again.connect(&end.socket, 1, local()), Err(UdxError::BadAddress(_))));
    again.connect(&end.socket, 1, other.socket.local_addr()).unwrap();
    let twice = again.connect(&end.socket, 1, other.socket.local_addr());
    assert_eq!(twice.unwrap_err(), UdxError::AlreadyConnected(7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_decides_about_strangers() {
    let (a, mut b) = (End::new(), End::new());
    let handle = b.stream.handle();
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let remote_id = a.stream.local_id();
    b.stream.set_firewall(move |socket, from| {
        // The first packet is refused; it comes again.
        if counted.fetch_add(1, Ordering::Relaxed) == 0 {
            return Firewall::Refuse;
        }
        handle.connect(socket, remote_id, from).unwrap();
        Firewall::Accept
    });
    a.connect(&b);
    let mut a = a;
    a.stream.write_all(b"knock").await.unwrap();
    a.stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut b.stream).await, b"knock");
    assert_eq!(b.stream.handle().remote_addr(), Some(a.socket.local_addr()));
    assert!(asked.load(Ordering::Relaxed) >= 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_moves_while_it_carries() {
    let (mut a, mut b) = pair();
    let data = pattern(8 << 20);
    let other = a.udx.bind(local()).unwrap();
    let (handle, at) = (a.stream.handle(), b.socket.local_addr());
    let remote_id = b.stream.local_id();
    let follow = b.stream.handle();
    let (there, id) = (other.local_addr(), a.stream.local_id());
    let b_socket = b.socket.clone();
    // The remote hears from the new socket before it knows of it.
    let writing = async {
        for (turn, piece) in data.chunks(1 << 18).enumerate() {
            a.stream.write_all(piece).await.unwrap();
            if turn == 10 {
                let (moved, followed) = tokio::join!(
                    handle.change_remote(&other, remote_id, at),
                    follow.change_remote(&b_socket, id, there)
                );
                moved.unwrap();
                followed.unwrap();
            }
        }
        a.stream.shutdown().await.unwrap();
    };
    let ((), got) = tokio::join!(writing, read_all(&mut b.stream));
    assert!(got == data);
    assert!(!a.socket.is_busy() && other.is_busy());
    assert_eq!(b.stream.handle().remote_addr(), Some(there));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_passes_both_ways_and_ends_with_its_ends() {
    let (mut a, mut b) = (End::new(), End::new());
    let relay = End::new();
    let second = relay.udx.stream(StreamOptions::default()).unwrap();
    relay.connect(&a);
    second.connect(&relay.socket, b.stream.local_id(), b.socket.local_addr()).unwrap();
    relay.stream.relay_to(&second).unwrap();
    second.relay_to(&relay.stream).unwrap();
    a.connect(&relay);
    b.stream.connect(&b.socket, second.local_id(), relay.socket.local_addr()).unwrap();

    let data = pattern(3 << 20);
    let there = async {
        a.stream.write_all(&data).await.unwrap();
        a.stream.read_u8().await.unwrap()
    };
    let back = async {
        let mut got = vec![0; data.len()];
        b.stream.read_exact(&mut got).await.unwrap();
        assert!(got == data);
        b.stream.write_u8(9).await.unwrap();
    };
    let (answer, ()) = tokio::join!(there, back);
    assert_eq!(answer, 9);
    b.stream.handle().destroy();
    assert_eq!(a.stream.handle().closed().await, CloseReason::Reset);
    assert_eq!(second.handle().closed().await, CloseReason::Reset);
    assert_eq!(relay.stream.handle().closed().await, CloseReason::Destroyed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_socket_waits_for_its_streams() {
    let (mut a, mut b) = pair();
    a.socket.close();
    assert!(a.socket.is_closing());
    a.stream.write_all(b"still").await.unwrap();
    a.stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut b.stream).await, b"still");
    b.stream.shutdown().await.unwrap();
    a.stream.handle().closed().await;
    a.socket.closed().await;
    assert_eq!(a.socket.recv().await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_reaches_the_user_and_harms_nothing() {
    let (a, b) = pair();
    let stranger = Udx::new().bind(local()).unwrap();
    let id = b.stream.local_id().to_le_bytes();
    for kind in 0..=255u8 {
        // For the stream, with numbers far outside; for nobody; no packet at all.
        let packet =
            [&[255, 1, kind, kind][..], &id, &[kind; 12], &vec![kind; usize::from(kind) * 5]].concat();
        let foreign = [&[255, 1, kind, 0][..], &[1, 2, 3, kind], &[0; 12]].concat();
        for payload in [packet.clone(), packet[..usize::from(kind).min(packet.len())].to_vec(), foreign] {
            // The destroy flag would do what it says: anyone who knows the id may, as in libudx.
            if payload.get(2).is_none_or(|kind| kind & 16 == 0) {
                stranger.send(payload.into(), b.socket.local_addr()).unwrap();
            }
        }
    }
    stranger.send(Bytes::from_static(b"last"), b.socket.local_addr()).unwrap();
    let mut seen = 0;
    while b.socket.recv().await.unwrap().payload != b"last"[..] {
        seen += 1;
    }
    assert!(seen >= 128, "{seen}");
    drop(stranger);
    a.stream.send_message(Bytes::from_static(b"fine")).unwrap();
    while b.stream.recv_message().await.unwrap() != b"fine"[..] {}
    assert_eq!(a.stream.handle().close_reason(), None);
}

#[test]
fn who_waits_elsewhere_hears_of_the_end_of_the_runtime_of_the_socket() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (sockets, users) = (runtime(), runtime());
    let (mut a, b) = sockets.block_on(async {
        let (a, b) = (End::new(), End::new());
        a.connect(&b);
        // The task of the socket has seen the stream, and nothing is to be done for it.
        for _ in 0..3 {
            a.socket.send(Bytes::from_static(b"?"), a.socket.local_addr()).unwrap();
            a.socket.recv().await.unwrap();
        }
        (a, b)
    });
    let read = users.block_on(async {
        let mut byte = [0];
        let mut read = std::pin::pin!(a.stream.read(&mut byte));
        poll_fn(|cx| {
            assert!(read.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        std::thread::spawn(move || drop(sockets)).join().unwrap();
        tokio::time::timeout(Duration::from_secs(60), read).await.expect("nobody told the reader")
    });
    assert!(read.is_err());
    assert_eq!(a.stream.handle().close_reason(), Some(CloseReason::Destroyed));
    // Those of other sockets are not concerned.
    assert_eq!(b.stream.handle().close_reason(), None);
}
