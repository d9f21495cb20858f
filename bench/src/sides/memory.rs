//! Resident memory of the daemon with a store of many logs.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, stream};
use hypercore::Key;
use hyperspace_client::HyperspaceClient;

use super::scratch;

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// MiB of the daemon on the store in `args[0]`; with `open`, after a client has opened every log in `args[1]`.
pub(super) async fn resident(args: &[String], open: bool) -> Result<f64> {
    let [folder, keys] = args else { anyhow::bail!("say the folder and the file of keys") };
    let scratch = scratch::folder()?;
    let program = std::env::current_exe()?.with_file_name("hyperspace-server");
    let mut child = Command::new(&program)
        .args(["--offline", "-h", "bench", "-s", folder])
        .env("TMPDIR", scratch.path())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("running {}", program.display()))?;
    let stdout = child.stdout.take().context("stdout is piped")?;
    let daemon = Daemon(child);
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let socket = line.trim().strip_prefix("Listening on ").context("the daemon does not listen")?.to_owned();

    let mut cores = Vec::new();
    let client;
    if open {
        let endpoint = hyperspace_common::Endpoint::Socket(socket.into());
        client = HyperspaceClient::connect_to(&endpoint).await?;
        let store = client.corestore();
        let keys = fs::read_to_string(keys)?;
        let keys: Vec<Key> = keys.lines().map(str::parse).collect::<Result<_, _>>()?;
        let mut opened = stream::iter(&keys).map(|key| store.get(key)).buffer_unordered(64);
        while let Some(core) = opened.next().await {
            let core = core?;
            ensure!(core.length() == 1, "the folder does not hold the log");
            cores.push(core);
        }
    }
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.0.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
