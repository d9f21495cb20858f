//! Saying which core is meant.

use bytes::Bytes;
use hypercore::{DiscoveryKey, Key, KeyPair, Manifest};

/// Which core is meant, and how to open it. A text stands for a name, a [`Key`] and a [`DiscoveryKey`] for
/// themselves.
///
/// ```
/// use corestore::{Corestore, Query};
///
/// let store = Corestore::memory();
/// let log = store.get("log")?;
/// let reader = store.get(Query::key(log.key()).writable(false))?;
/// assert!(log.writable() && !reader.writable());
/// # Ok::<(), hypercore::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Query {
    pub(crate) which: Which,
    pub(crate) writable: bool,
    pub(crate) create_if_missing: bool,
    pub(crate) compat: bool,
    pub(crate) signers: Vec<KeyPair>,
    pub(crate) user_data: Vec<(String, Bytes)>,
}

/// What is known of the core.
#[derive(Debug, Clone)]
pub(crate) enum Which {
    Name(String),
    Key(Key),
    DiscoveryKey(DiscoveryKey),
    KeyPair(KeyPair),
    Manifest(Box<Manifest>),
    Fresh,
}

impl Query {
    /// The core with this name in the namespace of the store. It is made when there is none, with the key pair that
    /// the primary key and the name yield.
    pub fn name(name: impl Into<String>) -> Self {
        Self::new(Which::Name(name.into()))
    }

    /// The core with this key. It is made when there is none, to be filled by peers.
    pub fn key(key: Key) -> Self {
        Self::new(Which::Key(key))
    }

    /// The core with this discovery key. It must be stored already.
    pub fn discovery_key(discovery_key: DiscoveryKey) -> Self {
        Self::new(Which::DiscoveryKey(discovery_key))
    }

    /// The core of this key pair alone.
    pub fn key_pair(key_pair: KeyPair) -> Self {
        Self::new(Which::KeyPair(key_pair))
    }

    /// The core that this manifest defines.
    pub fn manifest(manifest: Manifest) -> Self {
        Self::new(Which::Manifest(Box::new(manifest)))
    }

    /// A new core with a key pair of its own, which is stored with it.
    pub fn fresh() -> Self {
        Self::new(Which::Fresh)
    }

    fn new(which: Which) -> Self {
        Self {
            which,
            writable: true,
            create_if_missing: true,
            compat: false,
            signers: Vec::new(),
            user_data: Vec::new(),
        }
    }

    /// Whether the session may write, if the core can be written at all. It may, unless this says no.
    pub fn writable(mut self, writable: bool) -> Self {
        self.writable = writable;
        self
    }

    /// Whether a core that is not stored is made. It is, unless this says no.
    pub fn create_if_missing(mut self, create: bool) -> Self {
        self.create_if_missing = create;
        self
    }

    /// With [`Query::key_pair`] and [`Query::fresh`]: make the old form, whose key is the public key.
    pub fn compat(mut self, compat: bool) -> Self {
        self.compat = compat;
        self
    }

    /// Signs with this key pair as well, for cores with several signers. It is not stored.
    pub fn signer(mut self, key_pair: KeyPair) -> Self {
        self.signers.push(key_pair);
        self
    }

    /// Stores a named value with a new core.
    pub fn user_data(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.user_data.push((name.into(), value.into()));
        self
    }
}

impl From<&str> for Query {
    fn from(name: &str) -> Self {
        Self::name(name)
    }
}

impl From<String> for Query {
    fn from(name: String) -> Self {
        Self::name(name)
    }
}

impl From<Key> for Query {
    fn from(key: Key) -> Self {
        Self::key(key)
    }
}

impl From<DiscoveryKey> for Query {
    fn from(discovery_key: DiscoveryKey) -> Self {
        Self::discovery_key(discovery_key)
    }
}
