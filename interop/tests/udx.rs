//! udx against npm `udx-native` 1.21: streams, messages, datagrams, moves and relays, each side playing each part.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use interop::{Faults, Node, Peer, UdpRelay, Value, json, pattern, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use udx::{CloseReason, Firewall, StreamOptions, Udx, UdxSocket, UdxStream};

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn bind(udx: &Udx) -> UdxSocket {
    udx.bind(local(0)).unwrap()
}

fn stream(udx: &Udx, id: u32) -> UdxStream {
    udx.stream(StreamOptions { local_id: Some(id), ..StreamOptions::default() }).unwrap()
}

/// Pattern blocks `0..count` one after the other.
async fn write(stream: &mut UdxStream, count: u64, size: usize, salt: u32) {
    for index in 0..count {
        within("room to write", stream.write_all(&pattern::block(index, size, salt))).await.unwrap();
    }
}

/// Length and digest of what comes until the end.
async fn read(stream: &mut UdxStream) -> (u64, String) {
    let mut hash = blake2b_simd::State::new();
    let mut length = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let n = within("bytes of the npm peer", stream.read(&mut buffer)).await.unwrap();
        if n == 0 {
            return (length, hash.finalize().to_hex().to_string());
        }
        hash.update(&buffer[..n]);
        length += n as u64;
    }
}

fn digest(count: u64, size: usize, salt: u32) -> (u64, String) {
    let mut hash = blake2b_simd::State::new();
    for index in 0..count {
        hash.update(&pattern::block(index, size, salt));
    }
    (count * size as u64, hash.finalize().to_hex().to_string())
}

fn told(event: &Value) -> (u64, String) {
    (event["bytes"].as_u64().unwrap(), event["digest"].as_str().unwrap().to_owned())
}

async fn js_socket(peer: &Peer, label: &str) -> u16 {
    port(&peer.ask("bind", json!({ "socket": label })).await)
}

fn port(value: &Value) -> u16 {
    u16::try_from(value.as_u64().unwrap()).unwrap()
}

/// One of our sockets and one of theirs, with the streams `1..=count` of both connected to each other pairwise, through
/// a relay if there are faults.
struct Wired {
    udx: Udx,
    socket: UdxSocket,
    peer: Peer,
    js_port: u16,
    streams: Vec<UdxStream>,
    relay: Option<UdpRelay>,
}

async fn wire(node: &Node, count: u32, faults: Option<Faults>) -> Wired {
    let udx = Udx::new();
    let socket = bind(&udx);
    let peer = node.run("js/udx.js", [""; 0]).await;
    let js_port = js_socket(&peer, "s").await;
    let relay = faults.map(|faults| UdpRelay::new(socket.local_addr(), local(js_port), faults));
    let (to_js, to_us) = match &relay {
        Some(relay) => (relay.near(), relay.far()),
        None => (local(js_port), socket.local_addr()),
    };
    let mut streams = Vec::new();
    for id in 1..=count {
        let ours = stream(&udx, id);
        ours.connect(&socket, 1000 + id, to_js).unwrap();
        peer.ask("stream", json!({ "stream": 1000 + id, "accept": true })).await;
        peer.ask(
            "connect",
            json!({ "stream": 1000 + id, "socket": "s", "remoteId": id, "port": to_us.port() }),
        )
        .await;
        streams.push(ours);
    }
    Wired { udx, socket, peer, js_port, streams, relay }
}

/// Both sides write and end; everything arrives.
async fn exchange(wired: &mut Wired, count: u64, size: usize) {
    let mut ours = wired.streams.remove(0);
    let handle = ours.handle();
    let (peer, is_lossy) = (&wired.peer, wired.relay.is_some());
    let theirs = async {
        peer.ask("write", json!({ "stream": 1001, "end": count, "size": size, "salt": 5 })).await;
        // Who ends last cannot know that it arrived when the last acknowledgement is lost: npm is gone then, and repeats
        // none. Where packets are lost, npm ends last: ours stays for a while.
        if is_lossy {
            let ended = told(&peer.event("end").await);
            peer.ask("end", json!({ "stream": 1001 })).await;
            return ended;
        }
        peer.ask("end", json!({ "stream": 1001 })).await;
        told(&peer.event("end").await)
    };
    let (mut reader, mut writer) = tokio::io::split(&mut ours);
    let writing = async {
        for index in 0..count {
            within("room", writer.write_all(&pattern::block(index, size, 9))).await.unwrap();
        }
        writer.shutdown().await.unwrap();
    };
    let reading = async {
        let mut hash = blake2b_simd::State::new();
        let mut length = 0;
        let mut buffer = vec![0; 64 << 10];
        loop {
            let n = within("bytes of the npm peer", reader.read(&mut buffer)).await.unwrap();
            if n == 0 {
                return (length, hash.finalize().to_hex().to_string());
            }
            hash.update(&buffer[..n]);
            length += n as u64;
        }
    };
    let (theirs, (), ours_read) = tokio::join!(theirs, writing, reading);
    assert_eq!(theirs, digest(count, size, 9));
    assert_eq!(ours_read, digest(count, size, 5));
    assert_eq!(within("our end", handle.closed()).await, CloseReason::Ended);
    assert_eq!(peer.event("close").await["error"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_both_ways_with_half_close() {
    let Some(node) = Node::find().await else { return };
    let mut wired = wire(&node, 1, None).await;
    exchange(&mut wired, 320, 100_000).await;
    wired.peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_through_loss_delay_and_reordering() {
    let Some(node) = Node::find().await else { return };
    let faults = Faults {
        delay: Duration::from_millis(5),
        jitter: Duration::from_millis(2),
        loss_ppm: 10_000,
        duplicate_ppm: 2_000,
        ..Faults::default()
    };
    let mut wired = wire(&node, 1, Some(faults)).await;
    exchange(&mut wired, 40, 100_000).await;
    let (passed, lost) = wired.relay.as_ref().unwrap().counts();
    assert!(passed > 1000 && lost > 10, "{passed} passed, {lost} lost");
    wired.peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_takes_only_small_packets() {
    let Some(node) = Node::find().await else { return };
    // What fits 1,280 bytes of IP: the first probes pass, later ones do not.
    let faults = Faults { delay: Duration::from_millis(1), max_size: 1252, ..Faults::default() };
    let mut wired = wire(&node, 1, Some(faults)).await;
    let handle = wired.streams[0].handle();
    exchange(&mut wired, 40, 100_000).await;
    assert!(handle.stats().mtu <= 1280, "{}", handle.stats().mtu);
    wired.peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_writes_arrive_in_order() {
    let Some(node) = Node::find().await else { return };
    let mut wired = wire(&node, 1, None).await;
    exchange(&mut wired, 20_000, 37).await;
    wired.peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn destroying_resets_the_other_side() {
    let Some(node) = Node::find().await else { return };
    let mut wired = wire(&node, 3, None).await;
    let (mut first, second, mut third) =
        (wired.streams.remove(0), wired.streams.remove(0), wired.streams.remove(0));

    // Theirs goes; ours reads what came and then the reset.
    wired.peer.ask("write", json!({ "stream": 1001, "end": 1, "size": 100 })).await;
    let mut buffer = vec![0; 100];
    within("a block", first.read_exact(&mut buffer)).await.unwrap();
    assert_eq!(buffer, pattern::block(0, 100, 0));
    wired.peer.ask("destroy", json!({ "stream": 1001 })).await;
    let err = within("the reset", first.read(&mut buffer)).await.unwrap_err();
    assert_eq!(err.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(within("the end", first.handle().closed()).await, CloseReason::Reset);
    assert!(first.write_all(b"late").await.is_err());

    // Ours is destroyed.
    second.handle().destroy();
    assert_eq!(second.handle().close_reason(), Some(CloseReason::Destroyed));
    let closed = wired.peer.event_where("close", |event| event["stream"] == 1002).await;
    assert_eq!(closed["error"], "ECONNRESET");

    // Ours is dropped after a write: the write arrives before the reset.
    write(&mut third, 20, 10_000, 3).await;
    drop(third);
    wired.peer.event_where("close", |event| event["stream"] == 1003).await;
    let received = wired.peer.ask("received", json!({ "stream": 1003 })).await;
    assert_eq!(told(&received), digest(20, 10_000, 3));
    wired.peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_stream_that_is_dropped_waits_for_the_other_side() {
    let Some(node) = Node::find().await else { return };
    let mut wired = wire(&node, 1, None).await;
    let mut ours = wired.streams.remove(0);
    write(&mut ours, 50, 10_000, 3).await;
    ours.shutdown().await.unwrap();
    let handle = ours.handle();
    drop(ours);
    assert_eq!(told(&wired.peer.event("end").await), digest(50, 10_000, 3));
    wired.peer.ask("end", json!({ "stream": 1001 })).await;
    assert_eq!(wired.peer.event("close").await["error"], Value::Null);
    assert_eq!(within("our end", handle.closed()).await, CloseReason::Ended);
    wired.peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_datagrams_beside_streams() {
    let Some(node) = Node::find().await else { return };
    let mut wired = wire(&node, 1, None).await;
    let mut ours = wired.streams.remove(0);

    ours.send_message(Bytes::from_static(b"to js")).unwrap();
    assert_eq!(wired.peer.event("message").await["data"], interop::hex(b"to js"));
    wired.peer.ask("message", json!({ "stream": 1001, "data": interop::hex(b"to rust") })).await;
    assert_eq!(within("a message", ours.recv_message()).await.unwrap(), &b"to rust"[..]);
    assert!(ours.send_message(Bytes::from(vec![0; 2000])).is_err());

    // Plain datagrams, among them what looks like a packet of a stream that nobody has.
    let unknown = [&[255, 1, 1, 0, 7, 7, 7, 7][..], &[0; 12], b"data"].concat();
    for payload in [&b""[..], b"x", &[255; 19], &unknown, &[1; 1400]] {
        wired.socket.send(Bytes::copy_from_slice(payload), local(wired.js_port)).unwrap();
        let got = wired.peer.event("datagram").await;
        assert_eq!(
            (&got["data"], port(&got["port"])),
            (&json!(interop::hex(payload)), wired.socket.local_addr().port())
        );
        let back =
            json!({ "socket": "s", "data": interop::hex(payload), "port": wired.socket.local_addr().port() });
        wired.peer.ask("datagram", back).await;
        let got = within("a datagram", wired.socket.recv()).await.unwrap();
        assert_eq!((got.from, &got.payload[..]), (local(wired.js_port), payload));
    }
    wired.socket.send_ttl(Bytes::from_static(b"near"), local(wired.js_port), 2).unwrap();
    assert_eq!(wired.peer.event("datagram").await["data"], interop::hex(b"near"));

    // The stream is none the worse for it.
    write(&mut ours, 10, 1000, 1).await;
    ours.shutdown().await.unwrap();
    assert_eq!(told(&wired.peer.event("end").await), digest(10, 1000, 1));
    wired.peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_streams_on_one_socket() {
    let Some(node) = Node::find().await else { return };
    let mut wired = wire(&node, 8, None).await;
    let streams = std::mem::take(&mut wired.streams);
    let peer = &wired.peer;
    let each = streams.into_iter().zip(1u32..).map(|(mut ours, id)| async move {
        let theirs = async {
            peer.ask("write", json!({ "stream": 1000 + id, "end": 50, "size": 20_000, "salt": id })).await;
            peer.ask("end", json!({ "stream": 1000 + id })).await;
            told(&peer.event_where("end", |event| event["stream"] == 1000 + id).await)
        };
        let ours = async {
            write(&mut ours, 50, 20_000, 100 + id).await;
            ours.shutdown().await.unwrap();
            read(&mut ours).await
        };
        let (theirs, ours) = tokio::join!(theirs, ours);
        assert_eq!(theirs, digest(50, 20_000, 100 + id));
        assert_eq!(ours, digest(50, 20_000, id));
    });
    futures::future::join_all(each).await;
    wired.peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_waits_holds_the_writer_back() {
    let Some(node) = Node::find().await else { return };
    let mut wired = wire(&node, 1, None).await;
    let mut ours = wired.streams.remove(0);

    // Theirs writes 24 MB while we read nothing: it must stop at our window, and go on when we read.
    let peer = &wired.peer;
    let theirs = async {
        peer.ask("write", json!({ "stream": 1001, "end": 240, "size": 100_000, "salt": 2 })).await;
        peer.ask("end", json!({ "stream": 1001 })).await;
    };
    let ours = async {
        let handle = ours.handle();
        // Only the window stops it.
        let mut last = 0;
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let received = handle.stats().bytes_received;
            if received == last && received > 1 << 20 {
                break;
            }
            last = received;
        }
        assert!(last < 6 << 20, "{last} bytes came unread");
        read(&mut ours).await
    };
    let ((), got) = tokio::join!(theirs, ours);
    assert_eq!(got, digest(240, 100_000, 2));
    wired.peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_connects_the_stream() {
    let Some(node) = Node::find().await else { return };
    let udx = Udx::new();
    let (wrong, right) = (bind(&udx), bind(&udx));
    let peer = node.run("js/udx.js", [""; 0]).await;
    let js_port = js_socket(&peer, "s").await;
    let mut ours = stream(&udx, 1);
    let handle = ours.handle();
    let asked = right.local_addr();
    ours.set_firewall(move |socket, from| {
        if socket.local_addr() != asked {
            return Firewall::Refuse;
        }
        handle.connect(socket, 1001, from).unwrap();
        Firewall::Accept
    });
    peer.ask("stream", json!({ "stream": 1001 })).await;
    let connect = json!({ "stream": 1001, "socket": "s", "remoteId": 1, "port": wrong.local_addr().port() });
    peer.ask("connect", connect).await;
    peer.ask("message", json!({ "stream": 1001, "data": "00" })).await;
    // The refused message is gone once a later datagram has come through the same sockets.
    let after = json!({ "socket": "s", "data": "01", "port": wrong.local_addr().port() });
    peer.ask("datagram", after).await;
    within("a datagram", wrong.recv()).await.unwrap();
    assert!(!ours.handle().is_connected());

    let moved = json!({ "stream": 1001, "socket": "s", "remoteId": 1, "port": right.local_addr().port() });
    peer.ask("move", moved).await;
    peer.ask("write", json!({ "stream": 1001, "end": 10, "size": 1000 })).await;
    assert!(within("the connection", ours.handle().connected()).await);
    assert_eq!(ours.handle().remote_addr(), Some(local(js_port)));
    assert!(right.is_busy() && !wrong.is_busy());
    peer.ask("end", json!({ "stream": 1001 })).await;
    assert_eq!(read(&mut ours).await, digest(10, 1000, 0));
    peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_stream_moves_on_either_side() {
    let Some(node) = Node::find().await else { return };
    let mut wired = wire(&node, 1, None).await;
    let mut ours = wired.streams.remove(0);
    let other = bind(&wired.udx);
    let js_other = js_socket(&wired.peer, "t").await;

    // We go to another socket, they follow; then they go.
    write(&mut ours, 20, 10_000, 4).await;
    within("the move", ours.change_remote(&other, 1001, local(wired.js_port))).await.unwrap();
    let follow = json!({ "stream": 1001, "socket": "s", "remoteId": 1, "port": other.local_addr().port() });
    wired.peer.ask("move", follow).await;
    for index in 20..40 {
        ours.write_all(&pattern::block(index, 10_000, 4)).await.unwrap();
    }
    wired.peer.ask("write", json!({ "stream": 1001, "end": 20, "size": 10_000, "salt": 6 })).await;

    let they_go = json!({ "stream": 1001, "socket": "t", "remoteId": 1, "port": other.local_addr().port() });
    let they_go = wired.peer.ask("move", they_go);
    let we_follow = ours.change_remote(&other, 1001, local(js_other));
    let (_, moved) = within("their move", async { tokio::join!(they_go, we_follow) }).await;
    moved.unwrap();
    for index in 40..60 {
        ours.write_all(&pattern::block(index, 10_000, 4)).await.unwrap();
    }
    ours.shutdown().await.unwrap();
    wired
        .peer
        .ask("write", json!({ "stream": 1001, "start": 20, "end": 40, "size": 10_000, "salt": 6 }))
        .await;
    wired.peer.ask("end", json!({ "stream": 1001 })).await;
    assert_eq!(read(&mut ours).await, digest(40, 10_000, 6));
    assert_eq!(told(&wired.peer.event("end").await), digest(60, 10_000, 4));
    assert_eq!(ours.handle().remote_addr(), Some(local(js_other)));
    assert!(!wired.socket.is_busy(), "the socket that was left is free");
    wired.peer.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn we_relay_between_two_npm_peers() {
    let Some(node) = Node::find().await else { return };
    let udx = Udx::new();
    let socket = bind(&udx);
    let (a, b) = (node.run("js/udx.js", [""; 0]).await, node.run("js/udx.js", [""; 0]).await);
    let mut legs = Vec::new();
    for (id, peer) in [(1, &a), (2, &b)] {
        let js_port = js_socket(peer, "s").await;
        let leg = stream(&udx, id);
        leg.connect(&socket, 1000 + id, local(js_port)).unwrap();
        peer.ask("stream", json!({ "stream": 1000 + id, "accept": true })).await;
        let connect =
            json!({ "stream": 1000 + id, "socket": "s", "remoteId": id, "port": socket.local_addr().port() });
        peer.ask("connect", connect).await;
        legs.push(leg);
    }
    legs[0].relay_to(&legs[1]).unwrap();
    legs[1].relay_to(&legs[0]).unwrap();
    assert!(legs[0].relay_to(&legs[1]).is_err());

    a.ask("write", json!({ "stream": 1001, "end": 100, "size": 50_000, "salt": 1 })).await;
    b.ask("write", json!({ "stream": 1002, "end": 100, "size": 50_000, "salt": 2 })).await;
    a.ask("end", json!({ "stream": 1001 })).await;
    assert_eq!(told(&b.event("end").await), digest(100, 50_000, 1));
    b.ask("message", json!({ "stream": 1002, "data": "0102" })).await;
    assert_eq!(a.event("message").await["data"], "0102");
    b.ask("flush", json!({ "stream": 1002 })).await;
    b.ask("destroy", json!({ "stream": 1002 })).await;
    assert_eq!(a.event("close").await["error"], "ECONNRESET");
    assert_eq!(told(&a.ask("received", json!({ "stream": 1001 })).await), digest(100, 50_000, 2));
    for leg in &legs {
        within("the relay's end", leg.handle().closed()).await;
    }
    a.close().await;
    b.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_npm_peer_relays_between_us() {
    let Some(node) = Node::find().await else { return };
    let peer = node.run("js/udx.js", [""; 0]).await;
    let js_port = js_socket(&peer, "s").await;
    let udx = Udx::new();
    let mut ends = Vec::new();
    for id in [1, 2] {
        let socket = bind(&udx);
        let end = stream(&udx, id);
        end.connect(&socket, 1000 + id, local(js_port)).unwrap();
        peer.ask("stream", json!({ "stream": 1000 + id, "accept": true })).await;
        let connect =
            json!({ "stream": 1000 + id, "socket": "s", "remoteId": id, "port": socket.local_addr().port() });
        peer.ask("connect", connect).await;
        ends.push(end);
    }
    peer.ask("relay", json!({ "a": 1001, "b": 1002 })).await;
    let (mut a, mut b) = (ends.remove(0), ends.remove(0));
    let there = async {
        write(&mut a, 50, 50_000, 1).await;
        a.shutdown().await.unwrap();
        read(&mut a).await
    };
    let back = async {
        write(&mut b, 50, 50_000, 2).await;
        b.shutdown().await.unwrap();
        read(&mut b).await
    };
    let (got_a, got_b) = tokio::join!(there, back);
    assert_eq!(got_a, digest(50, 50_000, 2));
    assert_eq!(got_b, digest(50, 50_000, 1));
    peer.close().await;
}
