//! What all commands print alike: keys, JSON, tables.

use std::io::{self, Write};

use anyhow::Result;
use bytes::Bytes;
use hypercore::{Key, PeerInfo};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Format {
    /// As JSON, an object a line.
    pub(crate) json: bool,
    /// Keys in z-base-32 rather than in hexadecimal.
    pub(crate) z32: bool,
}

impl Format {
    /// A key as it is to be shown.
    pub(crate) fn key(self, key: &[u8; 32]) -> String {
        let key = Key::from(*key);
        if self.z32 { key.to_z32() } else { key.to_hex() }
    }

    /// A peer as JSON.
    pub(crate) fn peer(self, peer: &PeerInfo) -> Value {
        json!({
            "publicKey": self.key(&peer.remote_public_key),
            "address": peer.remote_address,
            "type": peer.kind,
        })
    }
}

/// A block as JSON: text where it is text, hexadecimal where it is not.
pub(crate) fn block(index: u64, block: &Bytes) -> Value {
    match std::str::from_utf8(block) {
        Ok(text) => json!({ "index": index, "text": text }),
        Err(_) => json!({ "index": index, "hex": hex(block) }),
    }
}

/// Prints a line, at once: somebody may be waiting for it.
pub(crate) fn line(text: impl std::fmt::Display) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Prints text that has its line ends.
pub(crate) fn page(text: &[u8]) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text)?;
    out.flush()?;
    Ok(())
}

/// Prints on another thread: output waits for whoever reads it, and what the daemon says must not wait with it.
pub(crate) async fn aside(print: impl FnOnce() -> Result<()> + Send + 'static) -> Result<()> {
    tokio::task::spawn_blocking(print).await?
}

/// Ends when nobody can read any more what is printed. Who prints hears of that only with the next block, which may never come.
pub(crate) async fn unread() {
    let (gone, told) = oneshot::channel();
    // It waits until the process ends, so no runtime may wait for it.
    std::thread::spawn(move || {
        let out = io::stdout();
        // Nothing but what is always told: the other end of a pipe is closed, a terminal is gone. Files have none of it.
        let mut wait = [PollFd::new(&out, PollFlags::empty())];
        loop {
            match poll(&mut wait, None) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
        let _ = gone.send(());
    });
    if told.await.is_err() {
        std::future::pending().await
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_text_or_hexadecimal() {
        assert_eq!(block(3, &Bytes::from("ä\n")).to_string(), r#"{"index":3,"text":"ä\n"}"#);
        assert_eq!(block(0, &Bytes::from_static(&[0xff, 0])).to_string(), r#"{"hex":"ff00","index":0}"#);
    }

    #[test]
    fn keys_are_shown_either_way() {
        let key = [7; 32];
        for z32 in [false, true] {
            let shown = Format { json: false, z32 }.key(&key);
            assert_eq!(shown.parse::<Key>().unwrap().to_bytes(), key);
        }
    }
}
