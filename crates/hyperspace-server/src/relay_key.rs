//! The key pair of a blind relay, kept in a file: peers name the relay by its public key, which has to stay the same.

use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::{Context, Result};
use hypercore::Key;
use hyperdht::KeyPair;

/// The file holds the seed as 64 hexadecimal characters; longer ones are something else.
const MAX_FILE: u64 = 256;

/// The key pair of this file; made, and written, when there is no such file.
pub(crate) fn load(file: &Path) -> Result<KeyPair> {
    read_or_make(file).with_context(|| format!("cannot use {} as the key of a relay", file.display()))
}

fn read_or_make(file: &Path) -> Result<KeyPair> {
    match OpenOptions::new().read(true).open(file) {
        Ok(open) => {
            let mut text = String::new();
            open.take(MAX_FILE).read_to_string(&mut text)?;
            let seed: Key = text.trim().parse().context("it does not hold 64 hexadecimal characters")?;
            Ok(KeyPair::from_seed(seed.as_bytes()))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key_pair = KeyPair::generate();
            let seed = Key::try_from(&key_pair.secret()[..32])?;
            // Whoever can read it can pass for this relay.
            let mut made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(file)?;
            writeln!(made, "{seed}")?;
            made.sync_all()?;
            Ok(key_pair)
        }
        Err(error) => Err(error.into()),
    }
}
