//! The nodes of crate hyperdht against those of npm `dht-rpc` 6.27 and `hyperdht` (6.34, and 6.20 as the older one), on
//! 127.0.0.1: in their network, in ours, and in a mixed one that changes all the time.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use hyperdht::rpc::{
    NodeId, PingOptions, QueryOptions, ReplyOptions, RequestBody, RequestOptions, Requests, Rpc, RpcError,
    RpcOptions, code, node_id,
};
use interop::{Node, Peer, Value, json, within};
use udx::Udx;

const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// One of our nodes, with what it answers: command 107 echoes, 108 fails with error 88, 109 stores for those who have a
/// token, 110 goes through a relay (to `relay_to`) and back, as handshakes do; all as in `interop/js/dht.js`.
struct Ours {
    rpc: Rpc,
}

impl Ours {
    async fn start(udx: &Udx, options: RpcOptions, relay_to: Option<SocketAddr>) -> Self {
        let options = RpcOptions { host: HOST.into(), ..options };
        let (rpc, requests) = Rpc::bind(udx, options).await.unwrap();
        tokio::spawn(serve(requests, relay_to));
        within("our bootstrap", rpc.fully_bootstrapped()).await.unwrap();
        Self { rpc }
    }

    async fn bootstrapper(udx: &Udx) -> Self {
        for _ in 0..20 {
            // A port that nobody has at the moment: bootstrappers have to know theirs beforehand.
            let free = std::net::UdpSocket::bind((HOST, 0)).unwrap().local_addr().unwrap().port();
            if let Ok((rpc, requests)) = Rpc::bind(udx, RpcOptions::bootstrapper(HOST, free)).await {
                tokio::spawn(serve(requests, None));
                within("our bootstrap", rpc.fully_bootstrapped()).await.unwrap();
                return Self { rpc };
            }
        }
        panic!("no port is free");
    }

    /// A part of the network; it finds out by itself that others reach it.
    async fn persistent(udx: &Udx, bootstrap: SocketAddr) -> Self {
        let ours = Self::start(udx, RpcOptions { ephemeral: Some(false), ..with(bootstrap) }, None).await;
        assert!(!ours.rpc.is_ephemeral() && !ours.rpc.is_firewalled());
        ours
    }

    fn addr(&self) -> SocketAddr {
        self.rpc.local_address()
    }

    async fn request(&self, to: SocketAddr, command: u64, value: Option<&[u8]>) -> hyperdht::rpc::Reply {
        let value = value.map(Bytes::copy_from_slice);
        let body = RequestBody { command, target: Some([5; 32]), value, token: None };
        self.rpc.request(to, body, RequestOptions::default()).await.unwrap()
    }

    async fn closest(&self, target: NodeId) -> Vec<SocketAddr> {
        let mut query = self.rpc.find_node(target, QueryOptions::default()).unwrap();
        within("our query", query.finished()).await.unwrap();
        query.closest_nodes().into_iter().map(|peer| peer.addr).collect()
    }
}

fn with(bootstrap: SocketAddr) -> RpcOptions {
    RpcOptions { bootstrap: vec![bootstrap.into()], ..RpcOptions::default() }
}

async fn serve(mut requests: Requests, relay_to: Option<SocketAddr>) {
    while let Some(request) = requests.next().await {
        let value = request.value.clone().unwrap_or_default();
        match (request.command, value.first()) {
            (107, _) => request.reply(Some(value), ReplyOptions::default()),
            (108, _) => request.error(88, ReplyOptions::for_errors()),
            (109, _) => {
                let stored = request.token.map(|_| Bytes::from_static(b"stored"));
                request.reply(stored, ReplyOptions::default());
            }
            (110, Some(b'C')) => {
                let value = format!("R{}", request.from.addr);
                request.relay(Some(value.into()), relay_to.unwrap(), None);
            }
            (110, Some(b'R')) => {
                let value = [b"S", &value[1..]].concat();
                request.relay(Some(value.into()), request.from.addr, None);
            }
            (110, Some(b'S')) => {
                let origin = std::str::from_utf8(&value[1..]).unwrap().parse().unwrap();
                let options = ReplyOptions { to: Some(origin), ..ReplyOptions::bare() };
                request.reply(Some(Bytes::from_static(b"done")), options);
            }
            _ => request.unknown_command(),
        }
    }
}

/// One of theirs.
struct Theirs<'a> {
    peer: &'a Peer,
    name: String,
    addr: SocketAddr,
}

impl<'a> Theirs<'a> {
    async fn start(peer: &'a Peer, name: &str, options: Value) -> (Self, Value) {
        let mut args = options;
        args["name"] = json!(name);
        let status = peer.ask("start", args).await;
        (Self { peer, name: name.into(), addr: local(&status) }, status)
    }

    /// Command of the script, for this node.
    async fn ask(&self, what: &str, args: Value) -> Value {
        let mut args = args;
        args["name"] = json!(self.name);
        self.peer.ask(what, args).await
    }

    async fn closest(&self, target: NodeId) -> Vec<SocketAddr> {
        let found = self.ask("findNode", json!({ "target": hex(&target) })).await;
        addrs(&found["closest"])
    }
}

fn local(status: &Value) -> SocketAddr {
    SocketAddr::from((HOST, u16::try_from(status["localPort"].as_u64().unwrap()).unwrap()))
}

fn addrs(list: &Value) -> Vec<SocketAddr> {
    let addr = |node: &Value| format!("{}:{}", node["host"].as_str().unwrap(), node["port"]).parse().unwrap();
    list.as_array().unwrap().iter().map(addr).collect()
}

fn there(addr: SocketAddr) -> Value {
    json!({ "host": addr.ip().to_string(), "port": addr.port() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What `who` should find: the twenty of these addresses whose ids are nearest to the target, nearest first. Nobody finds
/// itself.
fn nearest(all: &[SocketAddr], target: NodeId, who: SocketAddr) -> Vec<SocketAddr> {
    let mut sorted: Vec<SocketAddr> = all.iter().copied().filter(|addr| *addr != who).collect();
    sorted.sort_by_key(|addr| node_id(*addr).iter().zip(target).map(|(a, b)| a ^ b).collect::<Vec<u8>>());
    sorted.truncate(20);
    sorted
}

#[tokio::test(flavor = "multi_thread")]
async fn our_nodes_in_a_network_of_npm() {
    let Some(node) = Node::find().await else { return };
    let js = node.run::<&str>("js/dht.js", []).await;
    let (first, _) = Theirs::start(&js, "first", json!({ "bootstrapper": true })).await;
    let bootstrap = json!([there(first.addr)]);
    let mut all = vec![first.addr];
    for (kind, count) in [("rpc", 4), ("hyperdht", 4), ("older", 3)] {
        let args = json!({ "name": kind, "kind": kind, "count": count, "bootstrap": bootstrap,
            "ephemeral": false, "firewalled": false });
        let statuses = js.ask("startMany", args).await;
        all.extend(statuses.as_array().unwrap().iter().map(local));
    }
    let udx = Udx::new();
    let mut ours = Vec::new();
    for _ in 0..3 {
        ours.push(Ours::persistent(&udx, first.addr).await);
    }
    all.extend(ours.iter().map(Ours::addr));
    let client = Ours::start(&udx, with(first.addr), None).await;
    assert!(client.rpc.is_ephemeral());
    assert_eq!((client.rpc.host(), client.rpc.is_randomized()), (Some(HOST.into()), false));

    // Everybody finds the same nodes, ours among them.
    for target in [[0; 32], [0x55; 32], [0xff; 32]] {
        assert_eq!(client.closest(target).await, nearest(&all, target, client.addr()));
        assert_eq!(ours[0].closest(target).await, nearest(&all, target, ours[0].addr()));
        for (name, at) in [("rpc0", 1), ("hyperdht0", 5), ("older0", 9)] {
            let theirs = Theirs { peer: &js, name: name.into(), addr: all[at] };
            assert_eq!(theirs.closest(target).await, nearest(&all, target, theirs.addr), "{name}");
        }
    }

    // Pings both ways.
    let pong = client.rpc.ping(first.addr, PingOptions::default()).await.unwrap();
    assert_eq!(pong.from.id, Some(node_id(first.addr)));
    let delayed = client.rpc.delayed_ping(first.addr, Duration::from_millis(30), RequestOptions::default());
    assert!(delayed.await.unwrap().rtt >= Duration::from_millis(30));
    let to = there(ours[0].addr());
    let pong = first.ask("ping", json!({ "to": to, "size": 500 })).await;
    assert_eq!(pong["from"]["id"], hex(&node_id(ours[0].addr())));
    let pong = first.ask("delayedPing", json!({ "to": to, "delay": 30 })).await;
    assert!(pong["rtt"].as_u64().unwrap() >= 30);

    // Commands of the application both ways.
    first.ask("answer", json!({})).await;
    let echo = client.request(first.addr, 107, Some(b"hello")).await;
    assert_eq!(echo.value.as_deref(), Some(&b"hello"[..]));
    assert!(echo.token.is_some() && echo.closer_nodes.len() >= 12, "{echo:?}");
    assert_eq!(client.request(first.addr, 108, None).await.error, 88);
    assert_eq!(client.request(first.addr, 199, None).await.error, code::UNKNOWN_COMMAND);
    let ask = |command: u64, value: &str, token: Value| json!({ "to": to, "command": command, "target": hex(&[5; 32]), "value": hex(value.as_bytes()), "token": token });
    let echo = first.ask("request", ask(107, "hello", Value::Null)).await;
    assert_eq!(echo["value"], hex(b"hello"));
    assert!(echo["closerNodes"].as_array().unwrap().len() >= 12);
    assert_eq!(first.ask("request", ask(108, "", Value::Null)).await["error"], 88);
    assert_eq!(first.ask("request", ask(199, "", Value::Null)).await["error"], 1);

    // Tokens: ours for theirs, theirs for ours, and neither takes a forged one.
    let stored = first.ask("request", ask(109, "", echo["token"].clone())).await;
    assert_eq!(stored["value"], hex(b"stored"));
    let forged = first.ask("request", ask(109, "", json!(hex(&[1; 32])))).await;
    assert_eq!((&forged["error"], forged["token"].is_string()), (&json!(2), true));
    let body = |token| RequestBody { command: 109, target: Some([5; 32]), value: None, token };
    let token = client.request(first.addr, 107, None).await.token;
    let stored = client.rpc.request(first.addr, body(token), RequestOptions::default()).await.unwrap();
    assert_eq!(stored.value.as_deref(), Some(&b"stored"[..]));
    let forged =
        client.rpc.request(first.addr, body(Some([1; 32])), RequestOptions::default()).await.unwrap();
    assert_eq!(forged.error, code::INVALID_TOKEN);
    js.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn npm_nodes_in_a_network_of_ours() {
    let Some(node) = Node::find().await else { return };
    let js = node.run::<&str>("js/dht.js", []).await;
    let udx = Udx::new();
    let first = Ours::bootstrapper(&udx).await;
    let mut all = vec![first.addr()];
    let mut ours = Vec::new();
    for _ in 0..6 {
        ours.push(Ours::persistent(&udx, first.addr()).await);
        all.push(ours.last().unwrap().addr());
    }
    let bootstrap = json!([there(first.addr())]);
    // Firewalled as far as they know: they become persistent when our nodes have reached their server sockets.
    for kind in ["rpc", "hyperdht", "older"] {
        let options = json!({ "kind": kind, "bootstrap": bootstrap, "ephemeral": false });
        let (theirs, status) = Theirs::start(&js, kind, options).await;
        assert_eq!(status["id"], hex(&node_id(theirs.addr)), "{kind} {status}");
        assert_eq!((&status["firewalled"], &status["ephemeral"]), (&json!(false), &json!(false)), "{kind}");
        all.push(theirs.addr);
    }
    let (client, status) = Theirs::start(&js, "client", json!({ "bootstrap": bootstrap })).await;
    assert_eq!((&status["ephemeral"], &status["host"]), (&json!(true), &json!("127.0.0.1")));
    for target in [[0; 32], [0xaa; 32]] {
        assert_eq!(client.closest(target).await, nearest(&all, target, client.addr));
        assert_eq!(ours[0].closest(target).await, nearest(&all, target, ours[0].addr()));
    }

    // A query and a commit of theirs, to our nodes (theirs do not know the command).
    let args = json!({ "target": hex(&[9; 32]), "command": 109, "commit": true });
    let done = client.ask("query", args).await;
    assert_eq!(done["replies"].as_array().unwrap().len(), 7, "{done}");
    // And of ours, to one of theirs.
    js.ask("answer", json!({ "name": "rpc" })).await;
    let committed = ours[0].rpc.query_and_commit([9; 32], 109, None, QueryOptions::default());
    assert_eq!(within("our commit", committed).await, Ok(7)); // all that know it but ourselves
    let commit = js.event_where("request", |event| event["token"].is_string()).await;
    assert_eq!(commit["from"]["id"], hex(&node_id(ours[0].addr())));

    // Their node sleeps and comes back.
    client.ask("suspend", json!({})).await;
    client.ask("resume", json!({})).await;
    client.ask("ping", json!({ "to": there(first.addr()) })).await;
    js.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_through_relays_of_both_kinds() {
    let Some(node) = Node::find().await else { return };
    let js = node.run::<&str>("js/dht.js", []).await;
    let udx = Udx::new();
    let first = Ours::bootstrapper(&udx).await;
    let bootstrap = json!([there(first.addr())]);
    let open = json!({ "bootstrap": bootstrap, "ephemeral": false, "firewalled": false });
    let (server, _) = Theirs::start(&js, "server", open.clone()).await;
    server.ask("answer", json!({})).await;
    for our_server in [true, false] {
        let to = if our_server { first.addr() } else { server.addr };
        let name = format!("relay for {to}");
        let (relay, _) = Theirs::start(&js, &name, open.clone()).await;
        relay.ask("answer", json!({ "relayTo": there(to) })).await;
        let our_relay = Ours::start(&udx, with(first.addr()), Some(to)).await;
        for through in [relay.addr, our_relay.addr()] {
            let reply = first.request(through, 110, Some(b"C")).await;
            assert_eq!((reply.value.as_deref(), reply.from.addr), (Some(&b"done"[..]), through));
            let args = json!({ "to": there(through), "command": 110, "value": hex(b"C") });
            let reply = server.ask("request", args).await;
            assert_eq!(
                (&reply["value"], &reply["from"]["port"]),
                (&json!(hex(b"done")), &json!(through.port()))
            );
        }
    }
    js.close().await;
}

/// Whoever is down is forgotten by those who told others of it.
#[tokio::test(flavor = "multi_thread")]
async fn down_hints_are_sent_and_heeded_by_both_kinds() {
    let Some(node) = Node::find().await else { return };
    let js = node.run::<&str>("js/dht.js", []).await;
    let udx = Udx::new();
    let first = Ours::bootstrapper(&udx).await;
    let bootstrap = json!([there(first.addr())]);
    let open = json!({ "bootstrap": bootstrap, "ephemeral": false, "firewalled": false });
    let (theirs, _) = Theirs::start(&js, "theirs", open.clone()).await;
    let (dead, _) = Theirs::start(&js, "dead", open).await;
    let ours = Ours::persistent(&udx, first.addr()).await;
    let (their_client, _) = Theirs::start(&js, "client", json!({ "bootstrap": bootstrap })).await;
    let our_client = Ours::start(&udx, with(first.addr()), None).await;
    let known = async || addrs(&theirs.ask("known", json!({})).await).contains(&dead.addr);
    let knows = |ours: &Ours| ours.rpc.nodes(100).iter().any(|peer| peer.addr == dead.addr);
    assert!(knows(&first) && knows(&ours) && known().await);
    js.ask("destroy", json!({ "name": "dead" })).await;

    // Our client has its hints from both kinds, and so has theirs; both tell both.
    let target = node_id(dead.addr);
    let (found, their_found) = tokio::join!(our_client.closest(target), their_client.closest(target));
    assert!(!found.contains(&dead.addr) && !their_found.contains(&dead.addr));
    within("that all forget the dead node", async {
        while knows(&first) || knows(&ours) || known().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    js.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_nodes_of_both_kinds_come_and_go() {
    let Some(node) = Node::find().await else { return };
    let (js, more_js) = tokio::join!(node.run::<&str>("js/dht.js", []), node.run::<&str>("js/dht.js", []));
    let udx = Udx::new();
    let first = Ours::bootstrapper(&udx).await;
    let bootstrap = json!([there(first.addr())]);
    let theirs = async |peer: &Peer, kind: &str, name: &str, count: usize| -> Vec<(String, SocketAddr)> {
        let args = json!({ "name": name, "kind": kind, "count": count, "bootstrap": bootstrap,
            "ephemeral": false, "firewalled": false, "together": true });
        let statuses = peer.ask("startMany", args).await;
        let named = |(n, status)| (format!("{name}{n}"), local(status));
        statuses.as_array().unwrap().iter().enumerate().map(named).collect()
    };
    let ours = async |count: usize| {
        let starting = (0..count).map(|_| Ours::persistent(&udx, first.addr()));
        futures::future::join_all(starting).await
    };
    let (mut a, mut b, mut own) =
        tokio::join!(theirs(&js, "hyperdht", "a", 13), theirs(&more_js, "rpc", "b", 12), ours(24),);

    // A third of them leaves without a word, as many come.
    for round in 0..2 {
        for (peer, nodes) in [(&js, &mut a), (&more_js, &mut b)] {
            for (name, _) in nodes.drain(..4) {
                peer.ask("destroy", json!({ "name": name })).await;
            }
        }
        for gone in own.drain(..8) {
            gone.rpc.close().await;
        }
        let (name_a, name_b) = (format!("a{round}-"), format!("b{round}-"));
        let (new_a, new_b, new_own) =
            tokio::join!(theirs(&js, "hyperdht", &name_a, 4), theirs(&more_js, "rpc", &name_b, 4), ours(8),);
        a.extend(new_a);
        b.extend(new_b);
        own.extend(new_own);
    }

    let alive: Vec<SocketAddr> = [first.addr()]
        .into_iter()
        .chain(a.iter().chain(&b).map(|(_, addr)| *addr))
        .chain(own.iter().map(Ours::addr))
        .collect();
    assert_eq!(alive.len(), 50);
    let mut found = 0;
    let mut wanted = 0;
    for n in 0..6u8 {
        let target = [n * 41; 32];
        let at = usize::from(n);
        let (js_a, js_b) = (
            Theirs { peer: &js, name: a[at].0.clone(), addr: a[at].1 },
            Theirs { peer: &more_js, name: b[at].0.clone(), addr: b[at].1 },
        );
        let (x, y, z) = tokio::join!(own[at].closest(target), js_a.closest(target), js_b.closest(target));
        for (who, found_by) in [(own[at].addr(), x), (js_a.addr, y), (js_b.addr, z)] {
            let nearest: HashSet<SocketAddr> = nearest(&alive, target, who).into_iter().collect();
            wanted += nearest.len();
            found += found_by.iter().filter(|addr| nearest.contains(addr)).count();
        }
    }
    assert!(found * 100 >= wanted * 95, "{found} of {wanted} were found");
    js.close().await;
    more_js.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_there_does_not_answer() {
    let udx = Udx::new();
    let first = Ours::bootstrapper(&udx).await;
    let nobody = SocketAddr::from((HOST, 1));
    let options =
        PingOptions { request: RequestOptions { retries: Some(0), ..RequestOptions::default() }, size: 0 };
    assert_eq!(first.rpc.ping(nobody, options).await, Err(RpcError::Timeout(nobody)));
}
