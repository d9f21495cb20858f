//! Options of the command that nothing else would miss: that they reach what they are for.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use futures::StreamExt;
use hypercore::{DiscoveryKey, Key};
use hyperdht::{DhtOptions, HyperDht, rpc::QueryOptions};
use hyperspace_client::{ConfigureOptions, HyperspaceClient};
use hyperspace_common::Endpoint;
use interop::{in_own_network, within};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A running daemon without a store. Dropping it kills it.
struct Daemon {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Daemon {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// What the next line says that it listens on.
    fn listens(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit(' ').next().unwrap();
        assert!(line.starts_with("Listening "), "{line}");
        address.to_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hyperspace-server"));
    command
        .arg("--memory-only")
        .args(arguments)
        .env("TMPDIR", folder)
        .env_remove("HYPERSPACE_SOCKET")
        // Not that it should be careful with other machines.
        .env("HYPERSPACE_LOG", "error");
    command
}

#[tokio::test]
async fn pages_of_a_named_origin_are_let_in() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let arguments = ["--offline", "--ws-listen", "127.0.0.1:0", "--token-file", file.to_str().unwrap()];
    let named = ["--ws-origin", "https://named.example", "--ws-origin", "https://another.example"];
    let mut daemon = Daemon::start(command(folder.path(), &[&arguments[..], &named].concat()));
    daemon.listens();
    let address = daemon.listens();
    let address: SocketAddr = address.strip_prefix("ws://").unwrap().parse().unwrap();
    for (origin, status) in [
        ("https://named.example", "HTTP/1.1 101"),
        ("https://another.example", "HTTP/1.1 101"),
        ("https://unnamed.example", "HTTP/1.1 403"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!(
            "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nOrigin: {origin}\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut said = [0; 12];
        within("the answer", stream.read_exact(&mut said)).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&said), status, "{origin}");
    }
}

/// The keys of those who are announced under a topic.
async fn announced(bootstrap: &str, topic: &DiscoveryKey) -> Vec<[u8; 32]> {
    let options = DhtOptions {
        bootstrap: Some(vec![bootstrap.to_owned()]),
        host: Ipv4Addr::LOCALHOST.into(),
        port: 0,
        ..DhtOptions::default()
    };
    let node = HyperDht::new(options).await.unwrap();
    within("entering the network", node.fully_bootstrapped()).await.unwrap();
    let mut query = node.lookup(*topic.as_bytes(), QueryOptions::default()).unwrap();
    let mut keys = Vec::new();
    while let Some(some) = within("a lookup", query.next()).await {
        keys.extend(some.peers.iter().map(|peer| peer.public_key));
    }
    node.close().await;
    keys
}

/// Whoever looks for a topic finds the daemon that announces, and not the one that was told not to.
#[tokio::test(flavor = "multi_thread")]
async fn without_announcing_nobody_finds_it() {
    let folder = tempfile::tempdir().unwrap();
    let bootstrapper = HyperDht::bootstrapper("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let bootstrap = bootstrapper.local_address().to_string();
    let topic = Key::from([5; 32]).discovery_key();
    let announce = async |name: &str, more: &[&str]| {
        let arguments = ["-h", name, "-a", "127.0.0.1:0", "-b", &bootstrap];
        let mut daemon = Daemon::start(command(folder.path(), &[&arguments[..], more].concat()));
        let socket = Endpoint::Socket(daemon.listens().into());
        let client = HyperspaceClient::connect_to(&socket).await.unwrap();
        let network = client.network();
        let wish = ConfigureOptions::ANNOUNCE.flushed();
        within("an announcement", network.configure(&topic, wish)).await.unwrap();
        let key = network.public_key().await.unwrap();
        (daemon, client, key)
    };
    let _silent = announce("silent", &["--no-announce"]).await;
    assert_eq!(announced(&bootstrap, &topic).await, Vec::<[u8; 32]>::new());
    let (_daemon, _client, key) = announce("open", &[]).await;
    assert_eq!(announced(&bootstrap, &topic).await, [key]);
    bootstrapper.close().await;
}

/// In a network that is the test's own: with a token, clients of other machines may come; without one, they may not.
#[test]
fn with_a_token_other_machines_may_come() {
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    let listen = format!("{ADDRESS}:0");
    let arguments = ["--offline", "--rpc-listen", &listen, "--ws-listen", &listen];
    let inside = |arguments: &[&str]| {
        let what = "a daemon that other machines reach was not started";
        in_own_network(&ADDRESS.to_string(), &command(folder.path(), arguments), what)
    };
    let Some(mut refused) = inside(&arguments[..3]) else { return };
    let refused = refused.output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && said.contains("--token-file"), "{refused:?}");

    let token = ["--token-file", file.to_str().unwrap()];
    let Some(command) = inside(&[&arguments[..], &token].concat()) else { return };
    let mut daemon = Daemon::start(command);
    daemon.listens();
    let (rpc, ws) = (daemon.listens(), daemon.listens());
    let sockets = fs::read_to_string(format!("/proc/{}/net/tcp", daemon.child.id())).unwrap();
    for address in [&rpc, ws.strip_prefix("ws://").unwrap()] {
        let address: SocketAddr = address.parse().unwrap();
        assert_eq!(address.ip(), ADDRESS);
        // As the kernel writes it: the address as a number of the machine's, and 0A for a socket that listens.
        let ip = u32::from_ne_bytes(ADDRESS.octets());
        let listening = format!(" {ip:08X}:{:04X} 00000000:0000 0A ", address.port());
        assert!(sockets.contains(&listening), "{listening}\n{sockets}");
    }
}
