//! The values of the stored records, in the encodings of npm `hypercore-storage` 3.3.1
//! (`encoding/spec/hyperschema`, schema version 2).
//!
//! Whatever stands on disk was written by another program or is damaged: decoding checks everything and reserves
//! no more memory than the record is long. Bytes behind the known fields are ignored, as JS ignores them.

use bytes::Bytes;
use compact_codec::{DecodeError, Reader, Writer};
use zeroize::Zeroizing;

use super::StorageError;
use crate::key::{DiscoveryKey, Key};
use crate::manifest::{HashAlgorithm, Manifest, Prologue, SignatureAlgorithm, Signer};
use crate::proof::Node;

/// Version of the store and of each core that is written; older ones are brought up to it, newer ones refused.
pub const STORE_VERSION: u64 = 2;

/// The store's head (`@corestore/head`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreHead {
    /// Version of the store as found; [`STORE_VERSION`] when written.
    pub version: u64,
    /// How many core pointers were given out.
    pub cores: u64,
    /// How many data pointers were given out.
    pub datas: u64,
    /// How many group pointers were given out.
    pub groups: u64,
    /// The primary key, from which named cores derive their key pairs.
    pub seed: Option<[u8; 32]>,
    /// The first core made.
    pub default_discovery_key: Option<DiscoveryKey>,
}

/// The name of a core within a namespace (`@corestore/alias`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Alias {
    /// Namespace; 32 zero bytes for the default one.
    pub namespace: [u8; 32],
    /// Name.
    pub name: String,
}

/// Where the records of a core are (`@corestore/core`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CorePointers {
    /// Version of the core's records.
    pub version: u64,
    /// Number below which key, manifest and sessions stand.
    pub core: u64,
    /// Number below which head, blocks and tree stand.
    pub data: u64,
    /// The name under which it was made.
    pub alias: Option<Alias>,
}

/// Who a core is (`@core/auth`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    /// Key of the core: hash of the manifest, or in the compat form the public key.
    pub key: Key,
    /// Hash of the key under which peers find one another.
    pub discovery_key: DiscoveryKey,
    /// Who may sign; unknown until a peer sends it when a core was opened by key alone.
    pub manifest: Option<Manifest>,
    /// Key pair, when the core is writable.
    pub key_pair: Option<StoredKeyPair>,
    /// Kept as found; nothing here reads it.
    pub encryption_key: Option<Bytes>,
}

/// A key pair on disk (`@core/keyPair`).
#[derive(Clone, PartialEq, Eq)]
pub struct StoredKeyPair {
    /// Ed25519 public key.
    pub public_key: [u8; 32],
    /// Seed and public key, as libsodium keeps a secret key; JS may store the public key alone.
    pub secret_key: Option<Zeroizing<[u8; 64]>>,
}

impl std::fmt::Debug for StoredKeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredKeyPair")
            .field("public_key", &self.public_key)
            .field("secret_key", &self.secret_key.as_ref().map(|_| "hidden"))
            .finish()
    }
}

/// How long a core is and what was signed (`@core/head`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Fork.
    pub fork: u64,
    /// Blocks.
    pub length: u64,
    /// Hash over the roots.
    pub root_hash: [u8; 32],
    /// Signature; none for a static core that is its prologue only.
    pub signature: Option<Bytes>,
    /// Milliseconds since 1970 of the append; 0 when not known.
    pub timestamp: u64,
}

/// What spares work but decides nothing (`@core/hints`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hints {
    /// All blocks below this index are here.
    pub contiguous_length: u64,
    /// The longest contiguous length a peer has shown.
    pub remote_contiguous_length: u64,
    /// When JS found the database cut back after a crash, in milliseconds since 1970; 0 when all is well. Until
    /// JS has heard from its peers it does not append to such a core. Carried over unchanged.
    pub recovering: u64,
}

/// A session with blocks of its own (`@core/session`); JS makes them, here they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedSession {
    /// Name.
    pub name: String,
    /// Number below which its data stands.
    pub data: u64,
}

/// Data that begins with the blocks of other data (`@core/dependency`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dependency {
    /// Whose.
    pub data: u64,
    /// How many blocks.
    pub length: u64,
}

/// The group of a core (`@core/group`); JS writes them, here cores are moved within them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group {
    /// Topic.
    pub key: Option<[u8; 32]>,
    /// Number of the group.
    pub pointer: u64,
}

fn decode<T>(
    record: &'static str,
    bytes: Bytes,
    read: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
) -> Result<T, StorageError> {
    read(&mut Reader::new(bytes)).map_err(|error| StorageError::Corrupt { record, reason: error.to_string() })
}

impl StoreHead {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(96);
        out.uint(STORE_VERSION);
        out.uint(self.cores);
        out.uint(self.datas);
        out.uint(self.groups);
        out.uint(flag(&self.seed, 1) | flag(&self.default_discovery_key, 2));
        if let Some(seed) = &self.seed {
            out.raw(seed);
        }
        if let Some(discovery_key) = &self.default_discovery_key {
            out.raw(discovery_key.as_bytes());
        }
        out.finish()
    }

    /// The version alone, whatever follows it.
    pub(crate) fn version_of(bytes: &Bytes) -> Result<u64, StorageError> {
        decode("store head", bytes.clone(), Reader::uint)
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, StorageError> {
        decode("store head", bytes, |input| {
            let version = input.uint()?;
            match version {
                // The form of hypercore-storage 1, brought up to the present one at the next write.
                0 | 1 => {
                    let flags = input.uint()?;
                    let (cores, datas) = if flags & 1 != 0 { (input.uint()?, input.uint()?) } else { (0, 0) };
                    let seed = optional(flags & 2 != 0, || input.array("seed"))?;
                    let default_discovery_key = optional(flags & 4 != 0, || {
                        input.array("default discovery key").map(DiscoveryKey::from)
                    })?;
                    Ok(Self { version, cores, datas, groups: 0, seed, default_discovery_key })
                }
                STORE_VERSION => {
                    let (cores, datas, groups) = (input.uint()?, input.uint()?, input.uint()?);
                    let flags = input.uint()?;
                    let seed = optional(flags & 1 != 0, || input.array("seed"))?;
                    let default_discovery_key = optional(flags & 2 != 0, || {
                        input.array("default discovery key").map(DiscoveryKey::from)
                    })?;
                    Ok(Self { version, cores, datas, groups, seed, default_discovery_key })
                }
                value => Err(DecodeError::Unknown { what: "version of the store", value }),
            }
        })
    }
}

impl CorePointers {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(64);
        out.uint(self.version);
        out.uint(self.core);
        out.uint(self.data);
        out.uint(flag(&self.alias, 1));
        if let Some(alias) = &self.alias {
            out.string(&alias.name);
            out.raw(&alias.namespace);
        }
        out.finish()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, StorageError> {
        decode("core pointers", bytes, |input| {
            let (version, core, data) = (input.uint()?, input.uint()?, input.uint()?);
            let flags = input.uint()?;
            let alias = optional(flags & 1 != 0, || {
                Ok(Alias { name: input.string()?, namespace: input.array("namespace")? })
            })?;
            Ok(Self { version, core, data, alias })
        })
    }
}

impl Auth {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer::with_capacity(320);
        out.raw(self.key.as_bytes());
        out.raw(self.discovery_key.as_bytes());
        out.uint(flag(&self.manifest, 1) | flag(&self.key_pair, 2) | flag(&self.encryption_key, 4));
        if let Some(manifest) = &self.manifest {
            out.buffer(&encode_manifest(manifest));
        }
        if let Some(pair) = &self.key_pair {
            out.buffer(&pair.public_key);
            out.optional_buffer(pair.secret_key.as_ref().map(|secret| secret.as_slice()));
        }
        if let Some(encryption_key) = &self.encryption_key {
            out.buffer(encryption_key);
        }
        out.finish()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, StorageError> {
        decode("core auth", bytes, |input| {
            let key = Key::from(input.array("key")?);
            let discovery_key = DiscoveryKey::from(input.array("discovery key")?);
            let flags = input.uint()?;
            let manifest = optional(flags & 1 != 0, || decode_manifest(&mut Reader::new(input.buffer()?)))?;
            let key_pair = optional(flags & 2 != 0, || decode_key_pair(input))?;
            let encryption_key = optional(flags & 4 != 0, || input.buffer())?;
            Ok(Self { key, discovery_key, manifest, key_pair, encryption_key })
        })
    }
}

fn decode_key_pair(input: &mut Reader) -> Result<StoredKeyPair, DecodeError> {
    let public_key = exact::<32>("public key", &input.buffer()?)?;
    let secret_key = match input.optional_buffer()? {
        Some(secret) => Some(Zeroizing::new(exact::<64>("secret key", &secret)?)),
        None => None,
    };
    Ok(StoredKeyPair { public_key, secret_key })
}

/// `@core/manifest`: as on the wire for versions 1 and up; version 0 has a form of its own there, but not here.
fn encode_manifest(manifest: &Manifest) -> Bytes {
    let mut out = Writer::with_capacity(160);
    out.uint(manifest.version);
    out.uint(
        u64::from(manifest.allow_patch)
            | flag(&manifest.prologue, 2)
            | flag(&manifest.linked, 4)
            | flag(&manifest.user_data, 8),
    );
    out.uint(0); // BLAKE2b, the only hash
    out.uint(manifest.quorum);
    out.list(&manifest.signers, |out, signer| {
        out.uint(0); // Ed25519, the only signature
        out.raw(&signer.namespace);
        out.raw(&signer.public_key);
    });
    if let Some(prologue) = &manifest.prologue {
        out.raw(&prologue.hash);
        out.uint(prologue.length);
    }
    if let Some(linked) = &manifest.linked {
        out.list(linked, |out, key| out.raw(key.as_bytes()));
    }
    if let Some(user_data) = &manifest.user_data {
        out.buffer(user_data);
    }
    out.finish()
}

fn decode_manifest(input: &mut Reader) -> Result<Manifest, DecodeError> {
    let version = input.uint_at_most("manifest version", Manifest::MAX_VERSION)?;
    let flags = input.uint()?;
    input.uint_at_most("manifest hash", 0)?;
    let quorum = input.uint()?;
    let signers = input.list("manifest signers", 65, |input| {
        input.uint_at_most("manifest signature", 0)?;
        Ok(Signer {
            signature: SignatureAlgorithm::Ed25519,
            namespace: input.array("signer namespace")?,
            public_key: input.array("signer key")?,
        })
    })?;
    let prologue = optional(flags & 2 != 0, || {
        Ok(Prologue { hash: input.array("prologue hash")?, length: input.uint()? })
    })?;
    let linked = optional(flags & 4 != 0, || {
        input.list("manifest linked", 32, |input| input.array("linked key").map(Key::from))
    })?;
    let user_data = optional(flags & 8 != 0, || input.buffer())?;
    Ok(Manifest {
        version,
        hash: HashAlgorithm::Blake2b,
        quorum,
        allow_patch: flags & 1 != 0,
        signers,
        prologue,
        linked,
        user_data,
    })
}

impl Head {
    pub(crate) fn encode(&self, out: &mut Writer) {
        out.uint(self.fork);
        out.uint(self.length);
        out.raw(&self.root_hash);
        out.optional_buffer(self.signature.as_deref());
        out.uint(u64::from(self.timestamp != 0));
        if self.timestamp != 0 {
            out.uint64(self.timestamp);
        }
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, StorageError> {
        decode("core head", bytes, |input| {
            let (fork, length) = (input.uint()?, input.uint()?);
            let root_hash = input.array("tree hash")?;
            let signature = input.optional_buffer()?;
            // Schema version 1 ended here.
            let flags = if input.is_empty() { 0 } else { input.uint()? };
            let timestamp = if flags & 1 != 0 { input.uint64()? } else { 0 };
            Ok(Self { fork, length, root_hash, signature, timestamp })
        })
    }
}

impl Hints {
    pub(crate) fn encode(&self, out: &mut Writer) {
        let fields = [self.contiguous_length, self.remote_contiguous_length, self.recovering];
        out.uint(fields.iter().enumerate().map(|(bit, field)| u64::from(*field != 0) << bit).sum());
        for field in fields.into_iter().filter(|field| *field != 0) {
            out.uint(field);
        }
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, StorageError> {
        decode("core hints", bytes, |input| {
            let flags = input.uint()?;
            let mut field = |bit: u64| if flags & bit != 0 { input.uint() } else { Ok(0) };
            Ok(Self {
                contiguous_length: field(1)?,
                remote_contiguous_length: field(2)?,
                recovering: field(4)?,
            })
        })
    }
}

/// `@core/tree-node`.
pub(crate) fn encode_node(node: &Node, out: &mut Writer) {
    out.uint(node.index);
    out.uint(node.size);
    out.raw(&node.hash);
}

/// `@core/tree-node`.
pub(crate) fn decode_node(bytes: Bytes) -> Result<Node, StorageError> {
    decode("tree node", bytes, |input| {
        Ok(Node { index: input.uint()?, size: input.uint()?, hash: input.array("node hash")? })
    })
}

impl Dependency {
    #[cfg(test)]
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = Writer::new();
        out.uint(self.data);
        out.uint(self.length);
        out.finish()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, StorageError> {
        decode("core dependency", bytes, |input| Ok(Self { data: input.uint()?, length: input.uint()? }))
    }
}

/// `@core/sessions`.
pub(crate) fn decode_sessions(bytes: Bytes) -> Result<Vec<NamedSession>, StorageError> {
    decode("core sessions", bytes, |input| {
        input.list("sessions", 2, |input| Ok(NamedSession { name: input.string()?, data: input.uint()? }))
    })
}

impl Group {
    pub(crate) fn decode(bytes: Bytes) -> Result<Self, StorageError> {
        decode("core group", bytes, |input| {
            let flags = input.uint()?;
            let key = optional(flags & 1 != 0, || input.array("group key"))?;
            let pointer = if flags & 2 != 0 { input.uint()? } else { 0 };
            Ok(Self { key, pointer })
        })
    }
}

fn flag<T>(field: &Option<T>, bit: u64) -> u64 {
    if field.is_some() { bit } else { 0 }
}

fn optional<T>(
    present: bool,
    read: impl FnOnce() -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if present { read().map(Some) } else { Ok(None) }
}

fn exact<const N: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; N], DecodeError> {
    bytes.try_into().map_err(|_| {
        if bytes.len() > N {
            DecodeError::TooLarge { what, value: bytes.len() as u64, limit: N as u64 }
        } else {
            DecodeError::UnexpectedEnd { what, needed: N as u64, left: bytes.len() }
        }
    })
}
