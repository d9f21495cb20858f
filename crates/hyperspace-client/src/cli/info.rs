//! `info`: what is known of a core.

use std::io::{self, Write};

use anyhow::Result;
use hyperspace_client::RemoteHypercore;

use super::progress::human;

/// Prints a line for each thing that is known.
pub(crate) async fn info(core: &RemoteHypercore) -> Result<()> {
    if !core.writable() {
        // Somebody may know of more than the daemon does.
        let _ = core.update().await;
    }
    let length = core.length();
    let here = core.downloaded(0..length).await?;
    let mut out = io::stdout().lock();
    writeln!(out, "key           {}", core.key().to_hex())?;
    writeln!(out, "              {}", core.key().to_z32())?;
    writeln!(out, "discovery key {}", core.discovery_key().to_hex())?;
    writeln!(out, "length        {length} blocks, {here} stored here")?;
    writeln!(out, "size          {} bytes ({})", core.byte_length(), human(core.byte_length()))?;
    writeln!(out, "writable      {}", if core.writable() { "yes" } else { "no" })?;
    writeln!(out, "peers         {}", core.peers().len())?;
    for peer in core.peers() {
        let key: String = peer.remote_public_key.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(out, "              {key} {} {}", peer.kind, peer.remote_address)?;
    }
    Ok(())
}
