//! The command on a server in this process.

// Each test file uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use hyperspace_server::{Server, ServerOptions};
use tempfile::TempDir;

/// A server in this process, and the command on it.
pub struct Fixture {
    pub folder: TempDir,
    pub server: Option<Server>,
    pub runtime: tokio::runtime::Runtime,
}

impl Fixture {
    /// The server's socket is called `demo`.
    pub fn start() -> Self {
        Self::with_options(ServerOptions::default())
    }

    pub fn with_options(options: ServerOptions) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let options = ServerOptions { socket: Some(folder.path().join("demo.sock")), ..options };
        let server = runtime.block_on(Server::start(options)).unwrap();
        Self { folder, server: Some(server), runtime }
    }

    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hyperspace-client"));
        command
            .args(line.split_whitespace())
            .env("TMPDIR", self.folder.path())
            .env_remove("HYPERSPACE_SOCKET");
        command
    }

    pub fn run(&self, line: &str, input: &[u8]) -> Output {
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
    pub fn ok(&self, line: &str, input: &[u8]) -> String {
        let output = self.run(line, input);
        assert!(output.status.success(), "{line}: {output:?}");
        assert!(output.stderr.is_empty(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs it to a bad end and returns its sentence.
    pub fn fails(&self, line: &str, code: i32) -> String {
        let output = self.run(line, b"");
        assert_eq!(output.status.code(), Some(code), "{line}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.trim_end().lines().count(), 1, "{said}");
        assert!(said.starts_with("hyperspace-client: "), "{said}");
        said
    }

    pub fn file(&self, name: &str, contents: &[u8]) -> PathBuf {
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

/// A line of output, which must be JSON.
pub fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line.trim_end()).unwrap_or_else(|error| panic!("{line}: {error}"))
}
