//! Opening a log by whatever is known of it.

use bytes::Bytes;

use super::Hypercore;
use crate::core::CoreOptions;
use crate::error::Error;
use crate::key::{DiscoveryKey, Key};
use crate::manifest::Manifest;
use crate::signing::KeyPair;
use crate::storage::{Alias, Database};

/// Says which log to open and how to make it. With nothing said, a new log with a fresh key pair is made.
///
/// ```
/// use hypercore::{Hypercore, storage::Database};
///
/// let database = Database::memory();
/// let writer = Hypercore::builder().seed([7; 32]).open(&database)?;
/// writer.append("hello")?;
///
/// // Whoever knows the key, and has storage of their own, reads (once a peer has sent the blocks).
/// let reader = Hypercore::builder().key(writer.key()).open(&Database::memory())?;
/// assert!(!reader.writable());
/// # Ok::<(), hypercore::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct HypercoreBuilder {
    options: CoreOptions,
}

impl HypercoreBuilder {
    /// Opens the log with this key. Without the secret key it can be read, not written.
    pub fn key(mut self, key: Key) -> Self {
        self.options.key = Some(key);
        self
    }

    /// Opens the log with this discovery key. It must be stored already.
    pub fn discovery_key(mut self, discovery_key: DiscoveryKey) -> Self {
        self.options.discovery_key = Some(discovery_key);
        self
    }

    /// Opens the log that this manifest defines: several signers, a prologue, another version.
    pub fn manifest(mut self, manifest: Manifest) -> Self {
        self.options.manifest = Some(manifest);
        self
    }

    /// Signs with this key pair. It is stored with a log that is made now.
    pub fn key_pair(mut self, key_pair: KeyPair) -> Self {
        self.options.key_pair = Some(key_pair);
        self
    }

    /// Signs with the key pair of this seed.
    pub fn seed(self, seed: [u8; 32]) -> Self {
        self.key_pair(KeyPair::from_seed(&seed))
    }

    /// Signs with this key pair as well, for logs with several signers. It is not stored.
    pub fn signer(mut self, key_pair: KeyPair) -> Self {
        self.options.signers.push(key_pair);
        self
    }

    /// Makes the old form, whose key is the public key.
    pub fn compat(mut self, compat: bool) -> Self {
        self.options.compat = compat;
        self
    }

    /// Whether a log that is not stored here is made. It is, unless this says no.
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.options.create_if_missing = create;
        self
    }

    /// Gives a new log a name in the database.
    pub fn alias(mut self, alias: Alias) -> Self {
        self.options.alias = Some(alias);
        self
    }

    /// Stores a named value with a new log.
    pub fn user_data(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.options.user_data.push((name.into(), value.into()));
        self
    }

    /// Opens the log in a database that may hold many.
    ///
    /// A log is open once at a time; further users get a [`Hypercore::session`] of it.
    pub fn open(self, database: &Database) -> Result<Hypercore, Error> {
        Hypercore::from_options(database, self.options)
    }

    /// Opens the log in memory; it is gone with its last session.
    pub fn memory(self) -> Result<Hypercore, Error> {
        self.open(&Database::memory())
    }
}
