//! The command itself: what it prints, how it ends, what it refuses.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::Ipv4Addr,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
    time::Duration,
};

use hyperdht::{ConnectOptions, DhtOptions, HyperDht, ServerOptions as DhtServerOptions};

use hyperspace_client::HyperspaceClient;
use hyperspace_common::Endpoint;
use tempfile::TempDir;

struct Daemon {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Daemon {
    /// Starts the command and waits for its first line.
    fn start(folder: &Path, arguments: &[&str]) -> (Self, String) {
        let mut child =
            command(folder, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        (Self { child, stdout }, line)
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// A line on standard error.
    fn complaint(&mut self) -> String {
        let (stderr, mut line) = (self.child.stderr.as_mut().unwrap(), Vec::new());
        // Byte by byte, so that what follows is left for later.
        while line.last() != Some(&b'\n') {
            let mut byte = [0];
            stderr.read_exact(&mut byte).unwrap();
            line.extend(byte);
        }
        String::from_utf8(line).unwrap()
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Ends it with a signal; returns its exit code and what it said on standard error.
    fn end(mut self, signal: &str) -> (Option<i32>, String) {
        self.signal(signal);
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hyperspace-server"));
    command
        .args(arguments)
        .env("TMPDIR", folder)
        .env_remove("HYPERSPACE_SOCKET")
        .env_remove("HYPERSPACE_LOG");
    command
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    command(folder, arguments).output().unwrap()
}

/// It failed with one sentence on standard error.
fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(said.starts_with("hyperspace-server: "), "{said}");
    said
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn it_says_where_it_listens_and_ends_on_signals() {
    for signal in ["-INT", "-TERM"] {
        let folder = folder();
        let (daemon, line) = Daemon::start(folder.path(), &["-h", "demo", "--memory-only", "--offline"]);
        let socket = folder.path().join("demo.sock");
        assert_eq!(line, format!("Listening on {}\n", socket.display()));
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(&socket).unwrap();
        assert_eq!(daemon.end(signal), (Some(0), String::new()), "{signal}");
        assert!(!socket.exists());
    }
}

#[test]
fn the_name_comes_from_the_option_or_the_environment() {
    let folder = folder();
    let (daemon, line) = Daemon::start(folder.path(), &["--memory-only", "--offline"]);
    assert!(line.ends_with("/hyperspace.sock\n"), "{line}");
    daemon.end("-TERM");
    let mut child = command(folder.path(), &["--memory-only", "--offline"])
        .env("HYPERSPACE_SOCKET", "other")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.ends_with("/other.sock\n"), "{line}");
    child.kill().unwrap();
    child.wait().unwrap();

    // It was killed: its socket is stale, and is replaced.
    assert!(folder.path().join("other.sock").exists());
    let (daemon, line) = Daemon::start(folder.path(), &["-h", "other", "--memory-only", "--offline"]);
    assert!(line.ends_with("/other.sock\n"), "{line}");
    // A live one is not.
    let said = refusal(&run(folder.path(), &["-h", "other", "--memory-only", "--offline"]));
    assert!(said.contains("already listening") && said.contains("--host"), "{said}");
    UnixStream::connect(folder.path().join("other.sock")).unwrap();
    daemon.end("-TERM");
}

#[test]
fn further_addresses_are_printed() {
    let folder = folder();
    let arguments =
        ["--memory-only", "--rpc-listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0", "--offline"];
    let (mut daemon, _) = Daemon::start(folder.path(), &arguments);
    let rpc = daemon.line();
    assert!(rpc.starts_with("Listening on 127.0.0.1:"), "{rpc}");
    let peers = daemon.line();
    assert!(peers.starts_with("Listening for peers on 127.0.0.1:"), "{peers}");
    daemon.end("-TERM");
}

#[test]
fn a_token_is_made_and_never_printed() {
    let folder = folder();
    let file = folder.path().join("private/token");
    let name = file.to_str().unwrap();
    let arguments = [
        "-vv",
        "--memory-only",
        "--offline",
        "--rpc-listen",
        "127.0.0.1:0",
        "--ws-listen",
        "127.0.0.1:0",
        "--token-file",
        name,
    ];
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let (mut daemon, _) = Daemon::start(folder.path(), &arguments);
        let said = [daemon.line(), daemon.line(), daemon.line()];
        assert!(said[1].starts_with("Listening on ws://127.0.0.1:") && said[2].contains(name), "{said:?}");
        let token = fs::read_to_string(&file).unwrap();
        assert_eq!(token.trim().len(), 64);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let (code, logged) = daemon.end("-TERM");
        assert_eq!(code, Some(0));
        assert!(!said.concat().contains(token.trim()) && !logged.contains(token.trim()));
        tokens.push(token);
    }
    assert_eq!(tokens[0], tokens[1]);
}

#[tokio::test]
async fn tokens_are_read_again_on_a_hangup() {
    let folder = folder();
    let file = folder.path().join("token");
    let name = file.to_str().unwrap();
    let listen = "127.0.0.1:0";
    let arguments = ["--memory-only", "--offline", "--rpc-listen", listen, "--token-file", name];
    let (mut daemon, _) = Daemon::start(folder.path(), &arguments);
    let line = daemon.line();
    let address: Endpoint =
        format!("tcp://{}", line.trim().strip_prefix("Listening on ").unwrap()).parse().unwrap();
    daemon.line();
    let comes_in = async |token: &str| {
        let options =
            hyperspace_client::ConnectOptions { token: Some(token.parse().unwrap()), ..Default::default() };
        let client = HyperspaceClient::connect_with(&address, options).await?;
        client.status().await.map(|_| client)
    };
    let first = fs::read_to_string(&file).unwrap().trim().to_owned();
    let early = comes_in(&first).await.unwrap();

    let (second, third) = ("2".repeat(32), "3".repeat(32));
    fs::write(&file, format!("{second}\n{third}\n")).unwrap();
    daemon.signal("-HUP");
    assert!(daemon.line().contains(name));
    for token in [&second, &third] {
        comes_in(token).await.unwrap();
    }
    assert!(comes_in(&first).await.is_err());
    early.status().await.unwrap();

    // What is no file with tokens changes nothing.
    let wrongs: [(&dyn Fn(), &str); 5] = [
        (&|| fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap(), "chmod 600"),
        (&|| fs::remove_file(&file).unwrap(), "cannot be used"),
        (&|| write_private(&file, "# none\n"), "token"),
        (&|| write_private(&file, "short\n"), "32 to 256"),
        // Nobody writes to it: whoever waits for that hears no other signal either.
        (&|| make_pipe(&file), "regular file"),
    ];
    for (spoil, why) in wrongs {
        spoil();
        daemon.signal("-HUP");
        let said = daemon.complaint();
        assert!(said.contains("stay as they are") && said.contains(why), "{said}");
        assert!(!said.contains(&second) && !said.contains("short"), "{said}");
        comes_in(&second).await.unwrap();
    }
    assert_eq!(daemon.end("-TERM"), (Some(0), String::new()));
}

fn make_pipe(file: &Path) {
    fs::remove_file(file).unwrap();
    assert!(Command::new("mkfifo").arg("-m").arg("600").arg(file).status().unwrap().success());
}

fn write_private(file: &Path, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_daemon_in_the_swarm_says_where_its_node_is() {
    let folder = folder();
    let (node, line) = Daemon::start(folder.path(), &["--dht", "-a", "127.0.0.1:0"]);
    let bootstrap = line.trim().strip_prefix("Listening on ").unwrap().to_owned();
    let arguments = ["--memory-only", "-a", "127.0.0.1:0", "-b", &bootstrap, "-p", "0", "--no-announce"];
    let (mut daemon, line) = Daemon::start(folder.path(), &arguments);
    assert!(line.ends_with(".sock\n"), "{line}");
    let line = daemon.line();
    let address = line.trim().strip_prefix("Listening for the DHT on ").unwrap();
    assert!(address.starts_with("127.0.0.1:") && address != bootstrap, "{line}");
    // Whoever names an address means it.
    let said = refusal(&run(folder.path(), &["-h", "x", "--memory-only", "-a", address, "-b", &bootstrap]));
    assert!(said.contains(address), "{said}");
    // Another node may join the network, too.
    let (other, line) = Daemon::start(folder.path(), &["--dht", "-a", "127.0.0.1:0", "-b", &bootstrap]);
    assert!(line.starts_with("Listening on 127.0.0.1:"), "{line}");
    assert_eq!(other.end("-INT"), (Some(0), String::new()));
    assert_eq!(daemon.end("-TERM"), (Some(0), String::new()));
    assert_eq!(node.end("-TERM"), (Some(0), String::new()));
}

#[test]
fn a_relay_keeps_its_key_and_joins_those_who_name_it() {
    let folder = folder();
    let file = folder.path().join("relay-key");
    let arguments = ["--dht", "-a", "127.0.0.1:0", "--serve-relay", file.to_str().unwrap()];
    let start = || {
        let (mut node, line) = Daemon::start(folder.path(), &arguments);
        let address = line.trim().strip_prefix("Listening on ").unwrap().to_owned();
        let line = node.line();
        let key: hypercore::Key = line.trim().strip_prefix("Relaying as ").unwrap().parse().unwrap();
        (node, address, key)
    };
    let (node, _, first) = start();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(node.end("-TERM"), (Some(0), String::new()));
    let (node, bootstrap, key) = start();
    assert_eq!(key, first);

    let runtime = tokio::runtime::Runtime::new().unwrap();
    let met = async {
        let peer = async || {
            let options = DhtOptions {
                bootstrap: Some(vec![bootstrap.clone()]),
                host: Ipv4Addr::LOCALHOST.into(),
                port: 0,
                // They are not to find out that on one machine everybody reaches everybody.
                quick_firewall: false,
                ..DhtOptions::default()
            };
            let peer = HyperDht::new(options).await.unwrap();
            peer.fully_bootstrapped().await.unwrap();
            peer
        };
        let (ours, theirs) = (peer().await, peer().await);
        let closed = DhtServerOptions { share_local_address: false, never_punch: true, ..Default::default() };
        let server = theirs.create_server(closed);
        let key_pair = hyperdht::KeyPair::generate();
        server.listen(key_pair.clone()).await.unwrap();
        let options = ConnectOptions {
            relay_through: vec![key.into()],
            local_connection: false,
            ..ConnectOptions::default()
        };
        let mut there = ours.connect(key_pair.public, options).await.unwrap();
        there.send("through".into()).await.unwrap();
        let mut here = server.accept().await.unwrap();
        assert_eq!(here.recv().await.unwrap().unwrap(), "through");
    };
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(60), met).await }).unwrap();
    assert_eq!(node.end("-TERM"), (Some(0), String::new()));

    fs::write(&file, "no key").unwrap();
    let said = refusal(&run(folder.path(), &arguments));
    assert!(said.contains("relay-key") && said.contains("64 hexadecimal"), "{said}");
}

#[test]
fn a_daemon_whose_bootstrap_nodes_are_gone_runs_all_the_same() {
    let folder = folder();
    let arguments =
        ["--memory-only", "-p", "0", "-a", "127.0.0.1:0", "-b", "127.0.0.1:1", "-b", "127.0.0.1:2"];
    let (daemon, line) = Daemon::start(folder.path(), &arguments);
    assert!(line.starts_with("Listening on "));
    daemon.end("-TERM");
    let said = refusal(&run(folder.path(), &["--memory-only", "-a", "127.0.0.1:0", "-b", "nonsense"]));
    assert!(said.contains("nonsense"), "{said}");
    let said = refusal(&run(folder.path(), &["--dht"]));
    assert!(said.contains("--address"), "{said}");
}

#[test]
fn what_cannot_be_is_refused_in_a_sentence() {
    let folder = folder();
    let said = refusal(&run(folder.path(), &["--memory-only", "--offline", "-h", "a/b"]));
    assert!(said.contains("a/b"), "{said}");
    // What is refused is not what is recommended.
    let said = refusal(&run(folder.path(), &["--memory-only", "--offline", "-h", "/tmp/x/s.sock"]));
    assert!(
        said.contains("/tmp/x/s.sock") && said.contains("plain name") && said.contains("TMPDIR"),
        "{said}"
    );
    assert!(!said.contains("from the root") && !said.contains("ws://"), "{said}");
    let said = refusal(&run(folder.path(), &["--memory-only", "--offline", "--rpc-listen", "0.0.0.0:0"]));
    assert!(said.contains("loopback") && said.contains("--token-file"), "{said}");
    let said = refusal(&run(folder.path(), &["--memory-only", "--offline", "--ws-listen", "127.0.0.1:0"]));
    assert!(said.contains("--token-file"), "{said}");
    let open = folder.path().join("open");
    fs::write(&open, "0123456789abcdef0123456789abcdef").unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let arguments = ["--memory-only", "--offline", "--token-file", open.to_str().unwrap()];
    let said = refusal(&run(folder.path(), &arguments));
    assert!(said.contains("chmod 600") && !said.contains("0123456789"), "{said}");
    let said = refusal(&run(folder.path(), &["--memory-only", "--offline", "--peer-listen", "nonsense"]));
    assert!(said.contains("nonsense"), "{said}");
    let long = "x".repeat(120);
    assert!(
        refusal(&run(folder.path(), &["--memory-only", "--offline", "-h", &long])).contains("shorter name")
    );
    // Wrong usage has a code of its own.
    assert_eq!(run(folder.path(), &["--nonsense"]).status.code(), Some(2));
    let help = String::from_utf8(run(folder.path(), &["--help"]).stdout).unwrap();
    assert!(help.contains("--peer-listen") && help.contains("--no-announce"));
    let version = String::from_utf8(run(folder.path(), &["--version"]).stdout).unwrap();
    assert_eq!(version, concat!("hyperspace-server ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[cfg(feature = "rocksdb")]
mod storage {
    use super::*;

    #[test]
    fn a_folder_is_used_by_one_daemon_at_a_time() {
        let folder = folder();
        let store = folder.path().join("store");
        let storage = store.to_str().unwrap();
        let (daemon, _) = Daemon::start(folder.path(), &["--offline", "-h", "one", "-s", storage]);
        let said = refusal(&run(folder.path(), &["--offline", "-h", "two", "-s", storage]));
        assert!(said.contains("in use by another process"), "{said}");
        assert_eq!(daemon.end("-TERM").0, Some(0));
        let (daemon, _) = Daemon::start(folder.path(), &["--offline", "-h", "two", "-s", storage]);
        assert_eq!(daemon.end("-TERM").0, Some(0));
    }

    #[test]
    fn other_folders_are_left_alone() {
        let folder = folder();
        let file = folder.path().join("file");
        fs::write(&file, "x").unwrap();
        let said = refusal(&run(folder.path(), &["--offline", "-s", file.to_str().unwrap()]));
        assert!(said.contains("not a folder"), "{said}");
        let photos = folder.path().join("photos");
        fs::create_dir(&photos).unwrap();
        fs::write(photos.join("cat.jpg"), "meow").unwrap();
        let said = refusal(&run(folder.path(), &["--offline", "-s", photos.to_str().unwrap()]));
        assert!(said.contains("not a Hypercore store"), "{said}");
        let legacy = folder.path().join("legacy");
        fs::create_dir_all(legacy.join("cores")).unwrap();
        fs::write(legacy.join("primary-key"), [7; 32]).unwrap();
        let said = refusal(&run(folder.path(), &["--offline", "-s", legacy.to_str().unwrap()]));
        assert!(said.contains("corestore 6"), "{said}");
    }
}
