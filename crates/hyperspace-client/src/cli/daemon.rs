//! What is asked of the daemon rather than of one core: `ls`, `peers`, `status`.

use std::{collections::HashMap, fmt::Write};

use anyhow::Result;
use futures::{StreamExt, TryStreamExt};
use hypercore::PeerInfo;
use hyperspace_client::{ClientError, HyperspaceClient, StoredCore};
use serde_json::json;

use super::{
    download::clock,
    network::{shown_address, shown_maybe},
    output::{Format, aside, line, page},
    progress::human,
};

/// Cores that are printed at once when they are known.
const AT_ONCE: usize = 1024;

/// Lists the stored cores, page by page.
pub(crate) async fn ls(client: &HyperspaceClient, format: Format) -> Result<()> {
    let store = client.corestore();
    let names: HashMap<_, _> =
        store.names().map_ok(|(name, discovery_key)| (discovery_key, name)).try_collect().await?;
    let mut text = String::new();
    if !format.json {
        let width = if format.z32 { 52 } else { 64 };
        writeln!(
            text,
            "{:width$} {:>10} {:>10} {:>10} {:>5}  NAME",
            "KEY", "LENGTH", "CONTIGUOUS", "SIZE", "PEERS"
        )?;
    }
    let mut cores = std::pin::pin!(store.list().ready_chunks(AT_ONCE));
    loop {
        let chunk = cores.next().await;
        let ended = chunk.is_none();
        let mut failure = None;
        for core in chunk.into_iter().flatten() {
            match core {
                Ok(core) => {
                    let name = names.get(&core.discovery_key).map(String::as_str);
                    writeln!(text, "{}", listed(&core, name, format))?;
                }
                Err(error) => failure = Some(error),
            }
        }
        let text = std::mem::take(&mut text);
        aside(move || page(text.as_bytes())).await?;
        match failure {
            Some(error) => return Err(error.into()),
            None if ended => return Ok(()),
            None => {}
        }
    }
}

/// The line of a core.
fn listed(core: &StoredCore, name: Option<&str>, format: Format) -> String {
    let key = format.key(core.key.as_bytes());
    if format.json {
        return json!({
            "key": key,
            "discoveryKey": format.key(core.discovery_key.as_bytes()),
            "name": name,
            "length": core.length,
            "contiguousLength": core.contiguous_length,
            "byteLength": core.byte_length,
            "fork": core.fork,
            "writable": core.writable,
            "open": core.open,
            "peers": core.peers,
        })
        .to_string();
    }
    let (length, contiguous, size) = (core.length, core.contiguous_length, human(core.byte_length));
    let name = name.unwrap_or_default();
    format!("{key} {length:>10} {contiguous:>10} {size:>10} {:>5}  {name}", core.peers).trim_end().to_owned()
}

/// Prints peers, one a line.
pub(crate) fn peers<'a>(peers: impl IntoIterator<Item = &'a PeerInfo>, format: Format) -> Result<()> {
    for peer in peers {
        if format.json {
            line(format.peer(peer))?;
        } else {
            let key = format.key(&peer.remote_public_key);
            line(format_args!("{key} {} {}", peer.kind, peer.remote_address))?;
        }
    }
    Ok(())
}

/// Prints what the daemon is and does.
pub(crate) async fn status(client: &HyperspaceClient, format: Format) -> Result<()> {
    let status = client.status().await?;
    let network = client.network().info().await?;
    let stats = match client.stats().await {
        Ok(stats) => Some(stats),
        // The Node daemon has no such figures.
        Err(ClientError::Rpc(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let public_key = format.key(&network.public_key);
    if format.json {
        return line(json!({
            "version": status.version,
            "apiVersion": status.api_version,
            "publicKey": public_key,
            "holepunchable": status.holepunchable,
            "remoteAddress": status.remote_address,
            "peers": network.peers.len(),
            "clients": stats.map(|stats| stats.clients),
            "openCores": stats.map(|stats| stats.open_cores),
            "uptimeSeconds": stats.map(|stats| stats.uptime.as_secs_f64()),
        }));
    }
    line(format_args!("version       {} (RPC {})", status.version, status.api_version))?;
    line(format_args!("public key    {public_key}"))?;
    line(format_args!("address       {}", shown_address(&status.remote_address)))?;
    line(format_args!("holepunchable {}", shown_maybe(status.holepunchable)))?;
    line(format_args!("peers         {}", network.peers.len()))?;
    if let Some(stats) = stats {
        line(format_args!("clients       {}", stats.clients))?;
        line(format_args!("open cores    {}", stats.open_cores))?;
        line(format_args!("running for   {}", clock(stats.uptime.as_secs())))?;
    }
    Ok(())
}
