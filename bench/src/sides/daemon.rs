//! A daemon as a process: ours, or one that does nothing.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use hyperspace_client::HyperspaceClient;
use hyperspace_common::Endpoint;

/// A running daemon. Dropping it kills it.
pub(super) struct Daemon {
    child: Child,
    socket: PathBuf,
}

impl Daemon {
    /// On the store in `folder`, with its socket in `scratch`.
    pub(super) fn start(folder: &Path, scratch: &Path) -> Result<Self> {
        let program = std::env::current_exe()?.with_file_name("hyperspace-server");
        let mut command = Command::new(program);
        command.args(["--offline", "-h", "bench", "-s"]).arg(folder).env("TMPDIR", scratch);
        Self::spawn(command)
    }

    /// One that does nothing but answer: see [`super::nothing`].
    pub(super) fn nothing(scratch: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["side", "nothing"]).arg(scratch.join("bench.sock"));
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Result<Self> {
        let child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("running {}", command.get_program().display()))?;
        let mut daemon = Self { child, socket: PathBuf::new() };
        let stdout = daemon.child.stdout.take().context("stdout is piped")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let socket = line.trim().strip_prefix("Listening on ").context("the daemon does not listen")?;
        daemon.socket = socket.into();
        Ok(daemon)
    }

    pub(super) async fn client(&self) -> Result<HyperspaceClient> {
        Ok(HyperspaceClient::connect_to(&Endpoint::Socket(self.socket.clone())).await?)
    }

    /// Its resident memory in MiB.
    pub(super) fn resident(&self) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
