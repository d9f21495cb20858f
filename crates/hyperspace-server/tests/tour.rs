//! The tour of the README: its lines run as they are printed, apart from ports and folders.

#![cfg(feature = "rocksdb")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::UdpSocket,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

const README: &str = include_str!("../../../README.md");
/// Only to end a test that hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// The commands of the tour, without their comments.
fn commands() -> Vec<&'static str> {
    let tour = README.split_once("## A tour").expect("there is a tour").1;
    let tour = tour.split_once("\n## ").expect("something comes after it").0;
    let lines = tour.lines().map(str::trim).filter(|line| line.starts_with("hyperspace-"));
    lines.map(|line| line.split('#').next().unwrap_or_default().trim()).collect()
}

/// A UDP port that nobody has.
fn free_port() -> String {
    UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

/// The client's binary, beside the server's.
fn client() -> PathBuf {
    let server = PathBuf::from(env!("CARGO_BIN_EXE_hyperspace-server"));
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "-p", "hyperspace-client", "--bin", "hyperspace-client"]);
    if server.parent().and_then(Path::file_name).is_some_and(|profile| profile == "release") {
        build.arg("--release");
    }
    assert!(build.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    server.with_file_name("hyperspace-client")
}

struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_tour_runs_as_printed() {
    let client = client();
    let folder = tempfile::tempdir().unwrap();
    let ports: Vec<(&str, String)> =
        ["3401", "3402", "3403", "7001", "7002"].map(|printed| (printed, free_port())).into();
    let start = |line: &str, key: &str| {
        let mut words = line.split_whitespace();
        let program = match words.next() {
            Some("hyperspace-server") => Path::new(env!("CARGO_BIN_EXE_hyperspace-server")),
            Some("hyperspace-client") => client.as_path(),
            other => panic!("{other:?}"),
        };
        let arguments = words.map(|word| {
            let word = word.replace("/tmp", folder.path().to_str().unwrap()).replace("KEY", key);
            ports.iter().fold(word, |word, (printed, port)| match word.strip_suffix(printed) {
                Some("") => port.clone(),
                Some(host) if host.ends_with(':') => format!("{host}{port}"),
                _ => word,
            })
        });
        let mut child = Command::new(program)
            .args(arguments)
            .env("TMPDIR", folder.path())
            .env_remove("HYPERSPACE_SOCKET")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Running { child, stdout }
    };

    let commands = commands();
    let [node, one, two, write, read] = commands[..] else { panic!("five commands: {commands:?}") };
    let began = Instant::now();
    let mut node = start(node, "");
    assert!(node.line().starts_with("Listening on 127.0.0.1:"));
    let mut servers = [start(one, ""), start(two, "")];
    for server in &mut servers {
        assert!(server.line().ends_with(".sock"));
        assert!(server.line().starts_with("Listening for the DHT on 127.0.0.1:"));
    }
    // Whoever types has not ended yet when somebody else reads.
    let mut writer = start(write, "");
    let key = writer.line();
    assert_eq!(key.len(), 64, "{key}");
    writer.child.stdin.as_mut().unwrap().write_all(b"hello\nhyperspace\n").unwrap();
    loop {
        // A test types faster than a daemon can announce.
        let mut reader = start(read, &key);
        let mut lines = String::new();
        reader.stdout.read_to_string(&mut lines).unwrap();
        if lines == "hello\nhyperspace\n" {
            assert!(reader.child.wait().unwrap().success());
            break;
        }
        assert!("hello\nhyperspace\n".starts_with(&lines), "{lines}");
        assert!(began.elapsed() < DEADLINE, "it takes too long");
    }
    println!("the tour took {:?}", began.elapsed());
}
