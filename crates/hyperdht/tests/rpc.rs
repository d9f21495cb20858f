//! DHT nodes on real sockets, all on 127.0.0.1.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use hyperdht::rpc::{
    Message, PingOptions, QueryOptions, REQUESTS_WAITING, ReplyOptions, RequestBody, RequestMessage,
    RequestOptions, Requests, Rpc, RpcError, RpcEvent, RpcOptions, code, node_id,
};
use udx::Udx;

const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// Only to end a test that hangs.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("nothing came")
}

fn options(bootstrap: SocketAddr) -> RpcOptions {
    RpcOptions { bootstrap: vec![bootstrap.into()], host: HOST.into(), ..RpcOptions::default() }
}

/// The first node of a network of its own.
async fn bootstrapper(udx: &Udx) -> (Rpc, Requests, SocketAddr) {
    // A port that nobody has at the moment: what is bound to port 0 does not know its number beforehand.
    for _ in 0..20 {
        let free = std::net::UdpSocket::bind((HOST, 0)).unwrap().local_addr().unwrap().port();
        if let Ok((rpc, requests)) = Rpc::bind(udx, RpcOptions::bootstrapper(HOST, free)).await {
            within(rpc.fully_bootstrapped()).await.unwrap();
            return (rpc, requests, SocketAddr::new(HOST.into(), free));
        }
    }
    panic!("no port is free");
}

/// Persistent nodes, one after the other.
async fn network(udx: &Udx, bootstrap: SocketAddr, count: usize) -> Vec<(Rpc, Requests)> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        let options = RpcOptions { ephemeral: Some(false), firewalled: false, ..options(bootstrap) };
        let (rpc, requests) = Rpc::bind(udx, options).await.unwrap();
        within(rpc.fully_bootstrapped()).await.unwrap();
        nodes.push((rpc, requests));
    }
    nodes
}

/// Answers command 7 with the value that came, command 8 with an error, command 9 if there is a token.
async fn serve(mut requests: Requests) {
    while let Some(request) = requests.next().await {
        match request.command {
            7 => request.reply(request.value.clone(), ReplyOptions::default()),
            8 => request.error(88, ReplyOptions::for_errors()),
            9 if request.token.is_some() => request.reply(None, ReplyOptions::bare()),
            9 => request.reply(None, ReplyOptions::default()),
            _ => request.unknown_command(),
        }
    }
}

#[tokio::test]
async fn a_network_comes_up_and_answers() {
    let udx = Udx::new();
    let (first, _requests, bootstrap) = bootstrapper(&udx).await;
    assert!(!first.is_ephemeral() && first.id() == Some(node_id(bootstrap)));
    let mut nodes = network(&udx, bootstrap, 12).await;
    for (rpc, _) in &nodes {
        assert!(!rpc.is_ephemeral() && !rpc.is_firewalled());
        assert_eq!(rpc.remote_address(), Some(rpc.server_socket().local_addr()));
        assert_eq!(rpc.id(), Some(node_id(rpc.server_socket().local_addr())));
    }
    let (asked, requests) = nodes.remove(0);
    tokio::spawn(serve(requests));
    let at = asked.local_address();

    let (client, _) = Rpc::bind(&udx, options(bootstrap)).await.unwrap();
    within(client.fully_bootstrapped()).await.unwrap();
    assert!(client.is_ephemeral() && client.id().is_none());
    assert_eq!(client.host(), Some(HOST.into()));

    let pong = within(client.ping(at, PingOptions::default())).await.unwrap();
    assert_eq!((pong.from.addr, pong.from.id, pong.error), (at, asked.id(), code::OK));
    let delayed = client.delayed_ping(at, Duration::from_millis(50), RequestOptions::default());
    assert!(within(delayed).await.unwrap().rtt >= Duration::from_millis(50));
    let too_long = client.delayed_ping(at, Duration::from_secs(11), RequestOptions::default()).await;
    assert_eq!(too_long, Err(RpcError::DelayTooLong(Duration::from_secs(10))));

    let body = |command, value| RequestBody { command, target: Some([1; 32]), value, token: None };
    let echo = client.request(at, body(7, Some(Bytes::from_static(b"hello"))), RequestOptions::default());
    let reply = within(echo).await.unwrap();
    assert_eq!(reply.value.as_deref(), Some(&b"hello"[..]));
    assert!(reply.token.is_some() && reply.closer_nodes.len() >= 10, "{reply:?}");
    let error = within(client.request(at, body(8, None), RequestOptions::default())).await.unwrap();
    assert_eq!((error.error, error.token), (88, None));
    let unknown = within(client.request(at, body(5, None), RequestOptions::default())).await.unwrap();
    assert_eq!(unknown.error, code::UNKNOWN_COMMAND);

    let forged = RequestBody { token: Some([9; 32]), ..body(9, None) };
    let refused = within(client.request(at, forged, RequestOptions::default())).await.unwrap();
    assert_eq!(refused.error, code::INVALID_TOKEN);
    let good = RequestBody { token: refused.token, ..body(9, None) };
    assert_eq!(within(client.request(at, good, RequestOptions::default())).await.unwrap().error, code::OK);
}

#[tokio::test]
async fn queries_find_the_nearest_and_commit_to_them() {
    let udx = Udx::new();
    let (_first, requests, bootstrap) = bootstrapper(&udx).await;
    tokio::spawn(serve(requests));
    let mut rpcs = Vec::new();
    for (rpc, requests) in network(&udx, bootstrap, 30).await {
        rpcs.push(rpc);
        tokio::spawn(serve(requests));
    }
    let (client, _) = Rpc::bind(&udx, options(bootstrap)).await.unwrap();
    let target = [42; 32];
    let mut query = client.find_node(target, QueryOptions::default()).unwrap();
    let mut replies = 0;
    while within(query.next()).await.is_some() {
        replies += 1;
    }
    assert!(replies >= 20, "{replies}");
    let mut ids: Vec<_> = rpcs.iter().map(|rpc| rpc.id().unwrap()).chain([node_id(bootstrap)]).collect();
    ids.sort_by_key(|id| id.iter().zip(target).map(|(a, b)| a ^ b).collect::<Vec<u8>>());
    let found: Vec<_> = query.closest_nodes().into_iter().map(|peer| peer.id.unwrap()).collect();
    assert_eq!(found, ids[..20]);

    let committed = client.query_and_commit(target, 9, None, QueryOptions::default());
    assert_eq!(within(committed).await, Ok(20));
    let refused = client.query_and_commit(target, 8, None, QueryOptions::default());
    assert_eq!(within(refused).await, Err(RpcError::TooFewNodes));
}

#[tokio::test]
async fn suspended_nodes_come_back_at_the_same_port_and_closed_ones_do_not() {
    let udx = Udx::new();
    let (first, _requests, bootstrap) = bootstrapper(&udx).await;
    let (client, mut requests) = Rpc::bind(&udx, options(bootstrap)).await.unwrap();
    within(client.fully_bootstrapped()).await.unwrap();
    let mut events = client.subscribe();
    let port = client.local_address();

    let nobody: SocketAddr = SocketAddr::new(HOST.into(), 1);
    let pending = client.ping(nobody, PingOptions::default());
    let (lost, ()) = tokio::join!(pending, client.suspend());
    assert_eq!(lost, Err(RpcError::Suspended));
    assert!(client.is_suspended());
    assert_eq!(client.ping(bootstrap, PingOptions::default()).await, Err(RpcError::Suspended));
    client.resume().await.unwrap();
    assert_eq!(client.local_address(), port);
    within(client.ping(bootstrap, PingOptions::default())).await.unwrap();
    let mut seen = Vec::new();
    while let Ok(event) = events.try_recv() {
        seen.push(event);
    }
    assert!(seen.contains(&RpcEvent::Suspended) && seen.contains(&RpcEvent::Resumed), "{seen:?}");

    client.close().await;
    assert_eq!(client.ping(bootstrap, PingOptions::default()).await, Err(RpcError::Closed));
    assert!(within(requests.next()).await.is_none());
    std::net::UdpSocket::bind(port).expect("the port is free again");
    drop(first);
    assert!(within(ended(_requests)).await);
}

async fn ended(mut requests: Requests) -> bool {
    requests.next().await.is_none()
}

#[tokio::test]
async fn further_sockets_take_part() {
    let udx = Udx::new();
    let (first, requests, bootstrap) = bootstrapper(&udx).await;
    tokio::spawn(serve(requests));
    let (client, _) = Rpc::bind(&udx, options(bootstrap)).await.unwrap();
    let socket = udx.bind(SocketAddr::new(HOST.into(), 0)).unwrap();
    let from = |socket: &udx::UdxSocket| PingOptions {
        request: RequestOptions { socket: Some(socket.clone()), ..RequestOptions::default() },
        size: 0,
    };
    assert_eq!(client.ping(bootstrap, from(&socket)).await, Err(RpcError::NotAttached));
    let mut attached = client.attach(&socket);
    let pong = within(client.ping(bootstrap, from(&socket))).await.unwrap();
    assert_eq!(pong.to, socket.local_addr());

    let mut foreign = client.foreign();
    first.server_socket().send(Bytes::from_static(&[0]), socket.local_addr()).unwrap();
    first.server_socket().send(Bytes::from_static(&[0]), client.local_address()).unwrap();
    let there = within(attached.next()).await.unwrap();
    assert_eq!((there.from, &there.payload[..]), (bootstrap, &[0][..]));
    assert!(there.socket.same_socket(&socket));
    assert!(within(foreign.recv()).await.unwrap().socket.same_socket(&client.server_socket()));
}

/// Who asks for more than the node gets done waits behind himself, and not others behind him.
#[tokio::test]
async fn a_flood_of_requests_holds_up_nobody_else() {
    let udx = Udx::new();
    let (first, mut requests, at) = bootstrapper(&udx).await;
    let (client, _) = Rpc::bind(&udx, options(at)).await.unwrap();
    within(client.fully_bootstrapped()).await.unwrap();

    let flooder = tokio::net::UdpSocket::bind((HOST, 0)).await.unwrap();
    let message = |tid, internal, command| {
        let target = Some([1; 32]);
        let request =
            RequestMessage { tid, to: at, id: None, token: None, internal, command, target, value: None };
        Message::Request(request).encode().unwrap()
    };
    let flood = 4 * REQUESTS_WAITING;
    for tid in 0..flood as u16 {
        flooder.send_to(&message(tid, false, 7), at).await.unwrap();
        if tid % 64 == 63 {
            // The node answers a ping by itself, after it has taken in what came before.
            flooder.send_to(&message(tid, true, 0), at).await.unwrap();
            within(flooder.recv_from(&mut [0; 1500])).await.unwrap();
        }
    }
    assert_eq!(first.stats().overflowed, (flood - REQUESTS_WAITING) as u64);

    let body = RequestBody { command: 7, target: Some([1; 32]), value: None, token: None };
    let asking = client.request(at, body, RequestOptions::default());
    tokio::pin!(asking);
    let pong = async {
        tokio::select! {
            biased;
            answer = &mut asking => panic!("nobody has answered yet: {answer:?}"),
            pong = client.ping(at, PingOptions::default()) => pong,
        }
    };
    within(pong).await.unwrap();
    let next = within(requests.next()).await.unwrap();
    assert_eq!(next.from.addr, flooder.local_addr().unwrap());
    let next = within(requests.next()).await.unwrap();
    assert_ne!(next.from.addr, flooder.local_addr().unwrap());
    next.reply(None, ReplyOptions::default());
    assert_eq!(within(asking).await.unwrap().error, code::OK);
}

#[tokio::test]
async fn bootstrap_nodes_are_found_by_ip_and_by_name() {
    let udx = Udx::new();
    let (_first, _requests, bootstrap) = bootstrapper(&udx).await;
    // Somebody answers at the IP; nobody does, but the name is right; the name alone.
    for text in ["127.0.0.1@nobody.invalid", "127.9.9.9@localhost", "localhost"] {
        let node = format!("{text}:{}", bootstrap.port()).parse().unwrap();
        let options = RpcOptions { bootstrap: vec![node], host: HOST.into(), ..RpcOptions::default() };
        let (client, _) = Rpc::bind(&udx, options).await.unwrap();
        within(client.fully_bootstrapped()).await.unwrap();
        assert_eq!(client.nodes(10).len(), 1, "{text}");
    }
}
