//! Resident memory of the daemon with a store of many logs.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};
use futures::{StreamExt, stream};
use hypercore::Key;

use super::daemon::Daemon;
use super::scratch;

/// MiB of the daemon on the store in `args[0]`; with `open`, after a client has opened every log in `args[1]`.
pub(super) async fn resident(args: &[String], open: bool) -> Result<f64> {
    let [folder, keys] = args else { anyhow::bail!("say the folder and the file of keys") };
    let scratch = scratch::folder()?;
    let daemon = Daemon::start(Path::new(folder), scratch.path())?;

    let mut cores = Vec::new();
    let client;
    if open {
        client = daemon.client().await?;
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
    daemon.resident()
}
