//! A client of a daemon that is killed and started anew: what it wanted of the network holds again.

#![cfg(feature = "rocksdb")]

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    pin::pin,
    process::{Child, Command, Stdio},
    time::Duration,
};

use futures::StreamExt;
use hyperdht::HyperDht;
use hyperspace_client::{ConfigureOptions, ConnectOptions, ConnectionEvent, HyperspaceClient};
use hyperspace_common::Endpoint;
use hyperspace_server::{NetworkOptions, Server, ServerOptions};

/// Only to end a test that hangs.
const DEADLINE: Duration = Duration::from_secs(120);

/// The daemon as a process of its own.
struct Daemon(Child);

impl Daemon {
    /// Returns when clients can connect.
    fn start(folder: &Path, bootstrap: SocketAddr) -> Self {
        let store = folder.join("store");
        let mut child = Command::new(env!("CARGO_BIN_EXE_hyperspace-server"))
            .args(["-h", "demo", "-a", "127.0.0.1:0", "-b", &bootstrap.to_string(), "-s"])
            .arg(store)
            .env("TMPDIR", folder)
            .env_remove("HYPERSPACE_SOCKET")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("Listening on "), "{line}");
        Self(child)
    }

    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what} takes too long"))
}

#[tokio::test(flavor = "multi_thread")]
async fn wishes_live_on_when_the_daemon_is_killed_and_started_anew() {
    let folder = tempfile::tempdir().unwrap();
    let bootstrap = HyperDht::bootstrapper("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = bootstrap.local_address();
    let mut daemon = Daemon::start(folder.path(), address);
    let endpoint = Endpoint::Socket(folder.path().join("demo.sock"));
    let client = HyperspaceClient::connect_with(&endpoint, ConnectOptions::reconnecting()).await.unwrap();
    let mut connection = pin!(client.connection_events());
    let network = client.network();
    let log = client.corestore().get_by_name("log").await.unwrap();
    log.append("hello").await.unwrap();
    let (announced, looked_up) = (log.discovery_key(), hypercore::Key::from([5; 32]).discovery_key());
    let wish = ConfigureOptions::ANNOUNCE.flushed();
    within("an announcement", network.configure(&announced, wish)).await.unwrap();
    network.configure(&looked_up, ConfigureOptions::LOOKUP).await.unwrap();
    let identity = network.public_key().await.unwrap();

    daemon.kill();
    assert!(matches!(within("the loss", connection.next()).await, Some(ConnectionEvent::Lost { .. })));
    let _daemon = Daemon::start(folder.path(), address);
    assert_eq!(within("the return", connection.next()).await, Some(ConnectionEvent::Restored));

    let status = network.status(&announced).await.unwrap().expect("it is joined again");
    assert!(status.announce && !status.remember, "{status:?}");
    let status = network.status(&looked_up).await.unwrap().expect("it is joined again");
    assert!(status.lookup && !status.announce, "{status:?}");
    assert_eq!(network.public_key().await.unwrap(), identity);

    // It is true, too: somebody else finds the daemon under the topic, and gets the core.
    let options = NetworkOptions {
        address: Some("127.0.0.1:0".parse().unwrap()),
        bootstrap: Some(vec![address.to_string()]),
        ..NetworkOptions::default()
    };
    let server = Server::start(ServerOptions { network: Some(options), ..ServerOptions::default() });
    let server = server.await.unwrap();
    let (near, far) = tokio::io::duplex(65_536);
    tokio::spawn(server.serve(far));
    let reader = HyperspaceClient::from_stream(near);
    let copy = reader.corestore().get(&log.key()).await.unwrap();
    reader.replicate(&copy).await.unwrap();
    let block = within("the block", copy.wait_for_block(0)).await.unwrap();
    assert_eq!(block, "hello");
    assert_eq!(copy.peers()[0].remote_public_key, identity);
    server.stop().await;
    bootstrap.close().await;
}
