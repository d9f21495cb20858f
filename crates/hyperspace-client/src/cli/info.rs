//! `info`: what is known of a core.

use std::io::{self, Write};

use anyhow::Result;
use hyperspace_client::{ClientError, RemoteHypercore};
use serde_json::json;

use super::{
    output::{Format, line},
    progress::human,
};

/// Prints a line for each thing that is known.
pub(crate) async fn info(core: &RemoteHypercore, format: Format) -> Result<()> {
    if !core.writable() {
        // Somebody may know of more than the daemon does.
        let _ = core.update().await;
    }
    let length = core.length();
    let here = core.downloaded(0..length).await?;
    // The Node daemon cannot say these.
    let state = known(core.core_state().await)?;
    let manifest = known(core.manifest().await)?.flatten();
    let peers = core.peers();
    if format.json {
        let signers = manifest.map(|manifest| {
            manifest.signers.iter().map(|signer| format.key(&signer.public_key)).collect::<Vec<_>>()
        });
        return line(json!({
            "key": format.key(core.key().as_bytes()),
            "discoveryKey": format.key(core.discovery_key().as_bytes()),
            "length": length,
            "stored": here,
            "contiguousLength": state.as_ref().map(|state| state.contiguous_length),
            "byteLength": core.byte_length(),
            "fork": core.fork(),
            "writable": core.writable(),
            "signers": signers,
            "peers": peers.iter().map(|peer| format.peer(peer)).collect::<Vec<_>>(),
        }));
    }
    let mut out = io::stdout().lock();
    writeln!(out, "key           {}", core.key().to_hex())?;
    writeln!(out, "              {}", core.key().to_z32())?;
    writeln!(out, "discovery key {}", core.discovery_key().to_hex())?;
    writeln!(out, "length        {length} blocks, {here} stored here")?;
    if let Some(state) = state.filter(|_| here < length) {
        writeln!(out, "contiguous    {} blocks", state.contiguous_length)?;
    }
    writeln!(out, "size          {} bytes ({})", core.byte_length(), human(core.byte_length()))?;
    if core.fork() > 0 {
        writeln!(out, "fork          {}", core.fork())?;
    }
    writeln!(out, "writable      {}", if core.writable() { "yes" } else { "no" })?;
    if let Some(manifest) = manifest.filter(|manifest| manifest.signers.len() > 1) {
        writeln!(out, "signers       {} of {}", manifest.quorum, manifest.signers.len())?;
    }
    writeln!(out, "peers         {}", peers.len())?;
    for peer in peers {
        let key = format.key(&peer.remote_public_key);
        writeln!(out, "              {key} {} {}", peer.kind, peer.remote_address)?;
    }
    Ok(())
}

/// What a daemon that knows nothing of it leaves out.
fn known<T>(answer: Result<T, ClientError>) -> Result<Option<T>, ClientError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(ClientError::Rpc(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
