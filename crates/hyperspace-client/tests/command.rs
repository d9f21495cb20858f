//! The command on a server in this process: what it prints, and how it ends.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use hyperspace_server::{Server, ServerOptions};
use tempfile::TempDir;

struct Fixture {
    folder: TempDir,
    server: Option<Server>,
    runtime: tokio::runtime::Runtime,
}

impl Fixture {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let options =
            ServerOptions { socket: Some(folder.path().join("demo.sock")), ..ServerOptions::default() };
        let server = runtime.block_on(Server::start(options)).unwrap();
        Self { folder, server: Some(server), runtime }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hyperspace-client"));
        command
            .args(line.split_whitespace())
            .env("TMPDIR", self.folder.path())
            .env_remove("HYPERSPACE_SOCKET");
        command
    }

    fn run(&self, line: &str, input: &[u8]) -> Output {
        let mut child = self
            .command(line)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The command may end without reading.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    /// Runs it to a good end and returns what it printed.
    fn ok(&self, line: &str, input: &[u8]) -> String {
        let output = self.run(line, input);
        assert!(output.status.success(), "{line}: {output:?}");
        assert!(output.stderr.is_empty(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it to a bad end and returns its sentence.
    fn fails(&self, line: &str, code: i32) -> String {
        let output = self.run(line, b"");
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(said.starts_with("hyperspace-client: "), "{said}");
        said
    }

    fn file(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}

#[test]
fn lines_go_in_and_come_out() {
    let fixture = Fixture::start();
    let key = fixture.ok("-h demo -n log write", b"one\ntwo\n\nfour");
    assert_eq!(key.trim_end().len(), 64);
    assert_eq!(fixture.ok("-h demo -n log read", b""), "one\ntwo\n\nfour\n");
    assert_eq!(fixture.ok(&format!("-h demo -k {} read 1 --count 1", key.trim_end()), b""), "two\n");
    assert_eq!(fixture.ok("-h demo -n log write", b"five\n"), key, "the same core");
    assert_eq!(fixture.ok("-h demo -n log read 3", b""), "four\nfive\n");
    assert_eq!(fixture.ok("-h demo -n log read 99", b""), "");

    let info = fixture.ok("-h demo -n log info", b"");
    let z32 = info.lines().nth(1).unwrap().trim().to_owned();
    assert!(
        info.contains(key.trim_end())
            && info.contains("5 blocks, 5 stored here")
            && info.contains("14 bytes")
    );
    assert_eq!(fixture.ok(&format!("-h demo -k {z32} read 4"), b""), "five\n");
}

#[test]
fn much_goes_in_fast_and_in_order() {
    let fixture = Fixture::start();
    let lines: String = (0..100_000).map(|i| format!("line {i}\n")).collect();
    let path = fixture.file("lines", lines.as_bytes());
    let status = fixture
        .command("-h demo -n log write")
        .stdin(File::open(path).unwrap())
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(fixture.ok("-h demo -n log read", b""), lines);
}

#[test]
fn raw_data_comes_out_as_it_went_in() {
    let fixture = Fixture::start();
    let data: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    fixture.run("-h demo -n data write --binary --chunk-size 1000", &data);
    assert!(fixture.ok("-h demo -n data info", b"").contains("300 blocks"));
    assert_eq!(fixture.run("-h demo -n data read --binary", b"").stdout, data);
}

#[test]
fn a_live_reader_follows() {
    let fixture = Fixture::start();
    fixture.ok("-h demo -n log write", b"one\n");
    let mut reader = fixture.command("-h demo -n log read --live").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    fixture.ok("-h demo -n log write", b"two\nthree\n");
    assert_eq!(lines.next().unwrap().unwrap(), "two");
    assert_eq!(lines.next().unwrap().unwrap(), "three");
    reader.kill().unwrap();
    reader.wait().unwrap();
}

#[test]
fn a_live_reader_is_told_when_the_daemon_ends() {
    let mut fixture = Fixture::start();
    fixture.ok("-h demo -n log write", b"one\n");
    let mut command = fixture.command("-h demo -n log read --live");
    let mut reader = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 4];
    reader.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let server = fixture.server.take().unwrap();
    fixture.runtime.block_on(server.stop());
    let output = reader.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("connection to the daemon is gone"));
}

#[test]
fn a_reader_that_has_enough_ends_the_command_quietly() {
    let fixture = Fixture::start();
    fixture.ok("-h demo -n log write", "a longer line to fill the pipe\n".repeat(50_000).as_bytes());
    let mut command = fixture.command("-h demo -n log read");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut start = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn what_goes_wrong_is_one_sentence_and_a_code() {
    let fixture = Fixture::start();
    let said = fixture.fails("-h nobody -n log read", 3);
    assert!(said.contains("nobody.sock") && said.contains("hyperspace-server"), "{said}");
    let said =
        fixture.fails("-h demo -k 0505050505050505050505050505050505050505050505050505050505050505 write", 1);
    assert!(said.contains("not writable"), "{said}");
    fixture.fails("-h 127.0.0.1:1 -n log read", 3);
    // Wrong usage.
    assert_eq!(fixture.run("-h demo -k nonsense read", b"").status.code(), Some(2));
    assert_eq!(fixture.run("-h demo read", b"").status.code(), Some(2));
    assert!(fixture.ok("--help", b"").contains("write"));
}
