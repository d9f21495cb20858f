//! A daemon that may have few files open, and strangers who open connections: what is appended is stored all the same.
#![cfg(feature = "rocksdb")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
};

use hyperspace_client::HyperspaceClient;
use hyperspace_common::Endpoint;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_util::sync::CancellationToken;

/// Files and connections that the daemon may have open ...
const ALLOWED: usize = 256;
/// ... and connections of others at the same time.
const CROWD: usize = 400;
/// Enough of them that the store begins files of every kind.
const BLOCKS: u64 = 60;

struct Daemon {
    child: Child,
    stdout: BufReader<ChildStdout>,
    folder: TempDir,
}

impl Daemon {
    fn start(arguments: &[&str]) -> Self {
        // For the other ends.
        hyperspace_server::raise_descriptor_limit().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", &format!("ulimit -n {ALLOWED} && exec \"$0\" \"$@\"")])
            .args([env!("CARGO_BIN_EXE_hyperspace-server"), "-h", "few", "--offline", "-s"])
            .arg(folder.path().join("store"))
            .args(arguments)
            .env("TMPDIR", folder.path())
            .env_remove("HYPERSPACE_LOG")
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut daemon = Self { child, stdout, folder };
        assert!(daemon.line().ends_with("/few.sock"));
        daemon
    }

    /// The last word of the next line.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.split_whitespace().next_back().unwrap_or_default().to_owned()
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("few.sock")
    }

    async fn client(&self) -> HyperspaceClient {
        HyperspaceClient::connect_to(&Endpoint::Socket(self.socket())).await.unwrap()
    }

    /// What it complained of.
    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    fn open_files(&self) -> Option<usize> {
        let files = fs::read_dir(Path::new("/proc").join(self.child.id().to_string()).join("fd")).ok()?;
        Some(files.count())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Appends large blocks and reads them all.
async fn is_of_use(client: &HyperspaceClient) {
    let log = client.corestore().get_by_name("log").await.unwrap();
    let begin = log.length();
    for index in begin..begin + BLOCKS {
        log.append(vec![index as u8; 1 << 20]).await.unwrap();
    }
    for index in 0..begin + BLOCKS {
        assert_eq!(log.get(index).await.unwrap(), vec![index as u8; 1 << 20]);
    }
}

/// The other side has ended the connection.
async fn ended(mut stream: impl AsyncRead + Unpin) {
    let mut byte = [0];
    while let Ok(1..) = stream.read(&mut byte).await {}
}

#[tokio::test]
async fn peers_that_say_nothing_cost_nobody_a_write() {
    let mut daemon = Daemon::start(&["--peer-listen", "127.0.0.1:0"]);
    let address = daemon.line();
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(TcpStream::connect(&address).await.unwrap());
    }
    // There is no place for it.
    ended(crowd.pop().unwrap()).await;
    is_of_use(&daemon.client().await).await;
    drop(crowd);
    is_of_use(&daemon.client().await).await;
    assert_eq!(daemon.log().matches("turned away").count(), 1, "{}", daemon.log());
}

#[tokio::test]
async fn a_flood_without_a_token_costs_nobody_a_write() {
    let mut daemon = Daemon::start(&[
        "--rpc-listen",
        "127.0.0.1:0",
        "--ws-listen",
        "127.0.0.1:0",
        "--token-file",
        "token",
    ]);
    let (tcp, websocket) = (daemon.line(), daemon.line());
    let websocket = websocket.strip_prefix("ws://").unwrap().to_owned();
    let enough = CancellationToken::new();
    let floods = [(tcp, &b"\x05"[..]), (websocket, b"GET / HTTP/1.1\r\n")].map(|(address, beginning)| {
        let enough = enough.clone();
        tokio::spawn(async move {
            let mut crowd = std::collections::VecDeque::new();
            let mut rounds = 0;
            while !enough.is_cancelled() || rounds < 3 * CROWD {
                let mut stream = TcpStream::connect(&address).await.unwrap();
                // It may be gone already.
                let _ = stream.write_all(beginning).await;
                crowd.push_back(stream);
                if crowd.len() > CROWD {
                    crowd.pop_front();
                }
                rounds += 1;
            }
        })
    });
    let client = daemon.client().await;
    for _ in 0..3 {
        is_of_use(&client).await;
        assert!(daemon.open_files().is_none_or(|open| open < ALLOWED * 3 / 4), "{:?}", daemon.open_files());
    }
    enough.cancel();
    for flood in floods {
        flood.await.unwrap();
    }
    is_of_use(&daemon.client().await).await;
    assert_eq!(daemon.log(), "");
}

#[tokio::test]
async fn clients_that_are_forgotten_cost_nobody_a_write() {
    let daemon = Arc::new(Daemon::start(&[]));
    let client = daemon.client().await;
    client.status().await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        crowd.push(UnixStream::connect(daemon.socket()).await.unwrap());
    }
    // There is no place for it, and it hears so at once.
    ended(crowd.pop().unwrap()).await;
    is_of_use(&client).await;
    drop(crowd);
    // As soon as their ends were seen, there are places for others.
    loop {
        let another = daemon.client().await;
        if another.status().await.is_ok() {
            break is_of_use(&another).await;
        }
    }
    let log = daemon.log();
    assert!(log.matches("turned away").count() == 1 && log.contains("ulimit -n"), "{log}");
}
