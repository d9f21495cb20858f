//! Peers of ours: this program, started again inside a namespace.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Instant;

use bytes::Bytes;
use hyperdht::relay::{RelayLimits, RelayService};
use hyperdht::{ConnectOptions, DhtOptions, HyperDht, KeyPair, ServerOptions};
use interop::{DEADLINE, hex};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::sites::{self, NODES};
use crate::{Connected, Tried};

/// What the peer is told to do; unset in the test itself.
const ROLE: &str = "HYPERDHT_NAT_PEER";
/// What the peer prints is marked, since the test harness prints as well.
const MARK: &str = "nat-peer: ";

/// A peer. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    _child: Child,
    lines: tokio::sync::Mutex<Lines<BufReader<ChildStdout>>>,
}

impl Process {
    pub(crate) async fn start(namespace: &str, role: &[&str]) -> Self {
        let program = std::env::current_exe().unwrap();
        let enter = sites::enter(namespace);
        let mut child = Command::new(&enter[0])
            .args(&enter[1..])
            .arg(program)
            .args(["--ignored", "--exact", "peer_process", "--nocapture"])
            .env(ROLE, role.join(" "))
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { _child: child, lines: tokio::sync::Mutex::new(lines) }
    }

    /// What the peer has to say.
    pub(crate) async fn line(&self) -> String {
        let mut lines = self.lines.lock().await;
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, said)) = line.split_once(MARK) {
                return said.to_owned();
            }
        }
        "the peer ended".to_owned()
    }
}

/// A client in this namespace calls a server.
pub(crate) async fn call(namespace: &str, bootstrap: &str, key: &str, relay: Option<&str>) -> Tried {
    let calling = Process::start(namespace, &["client", bootstrap, key, relay.unwrap_or("-")]).await;
    let line = tokio::time::timeout(DEADLINE, calling.line()).await;
    let line = line.unwrap_or_else(|_| "nothing came of it in time".to_owned());
    match line.strip_prefix("ok ").and_then(|said| said.split_once(' ')) {
        Some((remote, how)) => Ok(Connected { how: how.to_owned(), remote: remote.to_owned() }),
        None => Err(line),
    }
}

pub(crate) fn run_if_asked() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let args: Vec<_> = role.split(' ').collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        match args[..] {
            ["net"] => network().await,
            ["server", bootstrap] => server(bootstrap).await,
            ["client", bootstrap, key, relay] => client(bootstrap, key, relay).await,
            _ => panic!("{role}"),
        }
    });
}

fn say(text: impl fmt::Display) {
    println!("{MARK}{text}");
}

async fn network() {
    let at = |n: u8| IpAddr::V4(Ipv4Addr::new(45, 10, 0, n));
    let first = HyperDht::bootstrapper(SocketAddr::new(at(1), 49737)).await.unwrap();
    let mut nodes = vec![first];
    for n in 2..=NODES {
        let options = DhtOptions {
            host: at(n),
            ephemeral: Some(false),
            firewalled: Some(false),
            bootstrap: Some(vec!["45.10.0.1:49737".to_owned()]),
            ..DhtOptions::default()
        };
        let node = HyperDht::new(options).await.unwrap();
        node.fully_bootstrapped().await.unwrap();
        nodes.push(node);
    }
    let key_pair = KeyPair::generate();
    let relay = RelayService::listen(&nodes[2], key_pair.clone(), RelayLimits::default()).await.unwrap();
    say(format_args!("45.10.0.1:49737 {}", hex(key_pair.public)));
    std::future::pending::<()>().await;
    drop(relay);
}

async fn node(bootstrap: &str) -> HyperDht {
    // Ports of their own: what a router remembers of an earlier peer must not pass for something of this one.
    let options =
        DhtOptions { bootstrap: Some(vec![bootstrap.to_owned()]), port: 0, ..DhtOptions::default() };
    let node = HyperDht::new(options).await.unwrap();
    node.fully_bootstrapped().await.unwrap();
    node
}

async fn server(bootstrap: &str) {
    let node = node(bootstrap).await;
    let server = node.create_server(ServerOptions::default());
    let key_pair = KeyPair::generate();
    server.listen(key_pair.clone()).await.unwrap();
    let rpc = node.rpc();
    let ports = [rpc.server_socket(), rpc.client_socket()].map(|socket| socket.local_addr().port());
    say(format_args!("{} {ports:?} {:?}", hex(key_pair.public), node.status()));
    while let Some(mut connection) = server.accept().await {
        tokio::spawn(async move {
            while let Some(Ok(message)) = connection.recv().await {
                if connection.send(message).await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn client(bootstrap: &str, key: &str, relay: &str) {
    let node = node(bootstrap).await;
    let started = Instant::now();
    let relay_through = if relay == "-" { Vec::new() } else { vec![unhex(relay)] };
    let options = ConnectOptions { relay_through, ..ConnectOptions::default() };
    let mut connection = match node.connect(unhex(key), options).await {
        Ok(connection) => connection,
        Err(error) => return say(format_args!("no {error}; we: {:?}", node.status())),
    };
    connection.send(Bytes::from_static(b"are you there?")).await.unwrap();
    let answer = tokio::time::timeout(DEADLINE, connection.recv()).await;
    let took = started.elapsed().as_secs_f32();
    let remote = connection.remote_addr().map_or_else(|| "nowhere".to_owned(), |remote| remote.to_string());
    let punches = node.status().punches;
    let how = sites::how(&remote, punches.random, punches.consistent, punches.open);
    match answer {
        Ok(Some(Ok(_))) => say(format_args!("ok {remote} {how} {took:.1} s")),
        other => {
            let got = other.map(|message| message.map(|result| result.err().map(|err| err.to_string())));
            say(format_args!("no answer {how} {took:.1} s from {remote}: {got:?}; we: {:?}", node.status()));
        }
    }
}

fn unhex(text: &str) -> [u8; 32] {
    let bytes: Vec<u8> =
        (0..text.len() / 2).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap()).collect();
    bytes.try_into().unwrap()
}
