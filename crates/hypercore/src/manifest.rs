//! Manifests: who may sign a log, and what else is fixed about it forever.
//!
//! The key of a core is the hash of its manifest (the compat form apart, where it is the public key of the only
//! signer). Encodings and defaults are those of npm `hypercore` 11.37.1, `lib/messages.js` and `lib/verifier.js`.

use bytes::Bytes;
use compact_codec::{DecodeError, Reader, Writer};

use crate::crypto::{self, NAMESPACES};
use crate::key::Key;

const PATCH: u64 = 1;
const PROLOGUE: u64 = 2;
const LINKED: u64 = 4;
const USER_DATA: u64 = 8;

/// What is fixed about a core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// Version of the encoding, 0 to 3.
    pub version: u64,
    /// How blocks and nodes are hashed.
    pub hash: HashAlgorithm,
    /// Signers may sign different lengths of the same log; see [`crate::multisig`].
    pub allow_patch: bool,
    /// How many signers have to sign.
    pub quorum: u64,
    /// Who may sign.
    pub signers: Vec<Signer>,
    /// What the log starts with, signed by nobody: a static core, or the common start of several.
    pub prologue: Option<Prologue>,
    /// Keys of other cores that belong to this one (version 2 and later).
    pub linked: Option<Vec<Key>>,
    /// Anything (version 2 and later).
    pub user_data: Option<Bytes>,
}

/// How blocks and nodes are hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HashAlgorithm {
    /// BLAKE2b-256.
    #[default]
    Blake2b,
}

/// A key that may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signer {
    /// How it signs.
    pub signature: SignatureAlgorithm,
    /// Keeps signatures for one purpose from being taken for another (version 0; later versions sign the key).
    pub namespace: [u8; 32],
    /// Its public key.
    pub public_key: [u8; 32],
}

/// How a signer signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignatureAlgorithm {
    /// Ed25519.
    #[default]
    Ed25519,
}

/// The fixed start of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prologue {
    /// Tree hash at `length`.
    pub hash: [u8; 32],
    /// Blocks.
    pub length: u64,
}

/// Why a manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// More signatures are demanded than there are signers.
    #[error("the quorum is {quorum}, but there are only {signers} signers")]
    Quorum {
        /// Signatures demanded.
        quorum: u64,
        /// Signers declared.
        signers: usize,
    },
    /// A field that this version of the manifest does not have.
    #[error("{field} needs a manifest of version 2 or later, this one has version {version}")]
    Field {
        /// The field.
        field: &'static str,
        /// Version of the manifest.
        version: u64,
    },
    /// A version that does not exist.
    #[error("manifests have versions 0 to {}, not {version}", Manifest::MAX_VERSION)]
    Version {
        /// Version of the manifest.
        version: u64,
    },
    /// Something is larger than is accepted.
    #[error("{field} has {size}, at most {limit} are accepted")]
    TooLarge {
        /// The field.
        field: &'static str,
        /// Its size.
        size: usize,
        /// The bound.
        limit: usize,
    },
}

impl Signer {
    /// An Ed25519 signer in the default namespace.
    pub fn new(public_key: [u8; 32]) -> Self {
        Self { signature: SignatureAlgorithm::Ed25519, namespace: NAMESPACES.default, public_key }
    }
}

impl Manifest {
    /// Newest version that is understood.
    pub const MAX_VERSION: u64 = 3;
    /// Most signers that are accepted.
    pub const MAX_SIGNERS: usize = 1024;
    /// Most linked keys that are accepted.
    pub const MAX_LINKED: usize = 16 * 1024;
    /// Most bytes of user data that are accepted.
    pub const MAX_USER_DATA: usize = 1024 * 1024;

    /// The manifest that a new core gets: version 1, one signer.
    pub fn default_signer(public_key: [u8; 32]) -> Self {
        Self::with_signers(vec![Signer::new(public_key)])
    }

    /// Version 1 with several signers, of which a majority has to sign.
    pub fn with_signers(signers: Vec<Signer>) -> Self {
        let quorum = if signers.is_empty() { 0 } else { (signers.len() as u64 >> 1) + 1 };
        Self {
            version: 1,
            hash: HashAlgorithm::Blake2b,
            allow_patch: false,
            quorum,
            signers,
            prologue: None,
            linked: None,
            user_data: None,
        }
    }

    /// Version 1 without signers: a static core, whose blocks are all fixed by its key.
    pub fn with_prologue(prologue: Prologue) -> Self {
        Self { prologue: Some(prologue), ..Self::with_signers(Vec::new()) }
    }

    /// The key of the core: the hash of this manifest.
    pub fn key(&self) -> Key {
        let mut writer = Writer::new();
        writer.raw(&NAMESPACES.manifest);
        self.encode_to(&mut writer);
        Key::from(crypto::hash(&[&writer.finish()]))
    }

    /// True when a core with this key and manifest has the compat form: its key is the public key of its only signer.
    pub fn is_compat(&self, key: &Key) -> bool {
        matches!(self.signers.as_slice(), [signer] if signer.public_key == *key.as_bytes())
    }

    /// True when this manifest belongs to `key`, by its hash or in the compat form.
    pub fn belongs_to(&self, key: &Key) -> bool {
        self.key() == *key || self.is_compat(key)
    }

    /// What is to be believed of a manifest that a peer sent. In the compat form nothing but the only signer is bound to
    /// the key, and the rest is whatever somebody likes: the default takes its place.
    pub(crate) fn vouched_for(&self, key: &Key) -> Option<Self> {
        if self.key() == *key {
            return self.validate().is_ok().then(|| self.clone());
        }
        self.is_compat(key).then(|| Self::default_signer(*key.as_bytes()))
    }

    /// Checks what JS peers check before they use a manifest, and the bounds of this crate.
    pub fn validate(&self) -> Result<(), ManifestError> {
        let version = self.version;
        if version > Self::MAX_VERSION {
            return Err(ManifestError::Version { version });
        }
        let signers = self.signers.len();
        if signers > 0 && self.quorum > signers as u64 {
            return Err(ManifestError::Quorum { quorum: self.quorum, signers });
        }
        let linked = self.linked.as_ref().map_or(0, Vec::len);
        let user_data = self.user_data.as_ref().map_or(0, Bytes::len);
        for (field, size, limit, since) in [
            ("signers", signers, Self::MAX_SIGNERS, 0),
            ("linked keys", linked, Self::MAX_LINKED, 2),
            ("user data", user_data, Self::MAX_USER_DATA, 2),
        ] {
            if size > 0 && version < since {
                return Err(ManifestError::Field { field, version });
            }
            if size > limit {
                return Err(ManifestError::TooLarge { field, size, limit });
            }
        }
        Ok(())
    }

    /// The encoded manifest.
    pub fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        self.encode_to(&mut writer);
        writer.finish()
    }

    /// Writes the encoded manifest.
    pub fn encode_to(&self, writer: &mut Writer) {
        writer.uint(self.version);
        if self.version == 0 {
            return self.encode_v0(writer);
        }
        let flag = |set: bool, flag: u64| if set { flag } else { 0 };
        writer.uint(
            flag(self.allow_patch, PATCH)
                | flag(self.prologue.is_some(), PROLOGUE)
                | flag(self.linked.is_some(), LINKED)
                | flag(self.user_data.is_some(), USER_DATA),
        );
        writer.uint(0); // blake2b
        writer.uint(self.quorum);
        writer.list(&self.signers, encode_signer);
        if let Some(prologue) = &self.prologue {
            writer.raw(&prologue.hash);
            writer.uint(prologue.length);
        }
        if let Some(linked) = &self.linked {
            writer.list(linked, |writer, key| writer.raw(key.as_bytes()));
        }
        if let Some(user_data) = &self.user_data {
            writer.buffer(user_data);
        }
    }

    /// Decodes a manifest; bytes behind it are ignored, as JS peers do.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        Self::decode_from(&mut Reader::new(bytes))
    }

    /// Reads an encoded manifest.
    pub fn decode_from(reader: &mut Reader) -> Result<Self, DecodeError> {
        let version = reader.uint_at_most("manifest version", Self::MAX_VERSION)?;
        if version == 0 {
            return Self::decode_v0(reader);
        }
        let flags = reader.uint()?;
        let hash = decode_hash(reader)?;
        let quorum = reader.uint()?;
        let signers = decode_signers(reader)?;
        let prologue = if flags & PROLOGUE != 0 {
            Some(Prologue { hash: reader.array("prologue hash")?, length: reader.uint()? })
        } else {
            None
        };
        let linked = if flags & LINKED != 0 {
            let keys = reader.list("linked keys", 32, |reader| reader.array("linked key").map(Key::from))?;
            check_limit("linked keys", keys.len(), Self::MAX_LINKED)?;
            Some(keys)
        } else {
            None
        };
        let user_data = if flags & USER_DATA != 0 { reader.optional_buffer()? } else { None };
        check_limit("user data", user_data.as_ref().map_or(0, Bytes::len), Self::MAX_USER_DATA)?;
        let allow_patch = flags & PATCH != 0;
        Ok(Self { version, hash, allow_patch, quorum, signers, prologue, linked, user_data })
    }

    fn encode_v0(&self, writer: &mut Writer) {
        writer.uint(0); // blake2b
        match (&self.prologue, self.signers.as_slice()) {
            (Some(prologue), []) => {
                writer.uint(0);
                writer.raw(&prologue.hash);
            }
            (_, [signer]) if self.quorum == 1 && !self.allow_patch => {
                writer.uint(1);
                encode_signer(writer, signer);
            }
            (_, signers) => {
                writer.uint(2);
                writer.uint(u64::from(self.allow_patch));
                writer.uint(self.quorum);
                writer.list(signers, encode_signer);
            }
        }
    }

    fn decode_v0(reader: &mut Reader) -> Result<Self, DecodeError> {
        let hash = decode_hash(reader)?;
        let kind = reader.uint_at_most("manifest type", 2)?;
        let mut manifest = Self { version: 0, hash, ..Self::with_signers(Vec::new()) };
        match kind {
            0 => manifest.prologue = Some(Prologue { hash: reader.array("prologue hash")?, length: 0 }),
            1 => {
                manifest.quorum = 1;
                manifest.signers = vec![decode_signer(reader)?];
            }
            _ => {
                manifest.allow_patch = reader.uint()? & 1 != 0;
                manifest.quorum = reader.uint()?;
                manifest.signers = decode_signers(reader)?;
            }
        }
        Ok(manifest)
    }
}

fn encode_signer(writer: &mut Writer, signer: &Signer) {
    writer.uint(0); // ed25519
    writer.raw(&signer.namespace);
    writer.raw(&signer.public_key);
}

fn decode_signer(reader: &mut Reader) -> Result<Signer, DecodeError> {
    match reader.uint()? {
        0 => Ok(Signer {
            signature: SignatureAlgorithm::Ed25519,
            namespace: reader.array("signer namespace")?,
            public_key: reader.array("signer public key")?,
        }),
        value => Err(DecodeError::Unknown { what: "signature algorithm", value }),
    }
}

fn decode_signers(reader: &mut Reader) -> Result<Vec<Signer>, DecodeError> {
    let signers = reader.list("signers", 65, decode_signer)?;
    check_limit("signers", signers.len(), Manifest::MAX_SIGNERS)?;
    Ok(signers)
}

fn decode_hash(reader: &mut Reader) -> Result<HashAlgorithm, DecodeError> {
    match reader.uint()? {
        0 => Ok(HashAlgorithm::Blake2b),
        value => Err(DecodeError::Unknown { what: "hash algorithm", value }),
    }
}

fn check_limit(what: &'static str, size: usize, limit: usize) -> Result<(), DecodeError> {
    if size > limit {
        return Err(DecodeError::TooLarge { what, value: size as u64, limit: limit as u64 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signers() -> impl Strategy<Value = Vec<Signer>> {
        let signer = any::<([u8; 32], [u8; 32])>()
            .prop_map(|(namespace, public_key)| Signer { namespace, ..Signer::new(public_key) });
        proptest::collection::vec(signer, 0..5)
    }

    prop_compose! {
        fn manifests()(
            version in 1u64..=Manifest::MAX_VERSION,
            allow_patch in any::<bool>(),
            quorum in 0u64..300,
            signers in signers(),
            prologue in proptest::option::of((any::<[u8; 32]>(), 0u64..1 << 53)),
            linked in proptest::option::of(proptest::collection::vec(any::<[u8; 32]>(), 0..4)),
            user_data in proptest::option::of(proptest::collection::vec(any::<u8>(), 1..300)),
        ) -> Manifest {
            Manifest {
                version,
                hash: HashAlgorithm::Blake2b,
                allow_patch,
                quorum,
                signers,
                prologue: prologue.map(|(hash, length)| Prologue { hash, length }),
                linked: linked.map(|keys| keys.into_iter().map(Key::from).collect()),
                user_data: user_data.map(Bytes::from),
            }
        }
    }

    #[test]
    fn what_javascript_refuses_is_refused() {
        let good = Manifest::default_signer([1; 32]);
        assert_eq!(good.validate(), Ok(()));
        let quorum = Manifest { quorum: 2, ..good.clone() };
        assert_eq!(quorum.validate(), Err(ManifestError::Quorum { quorum: 2, signers: 1 }));
        let user_data = Manifest { user_data: Some(Bytes::from_static(b"x")), ..good.clone() };
        assert_eq!(user_data.validate(), Err(ManifestError::Field { field: "user data", version: 1 }));
        let version = Manifest { version: 4, ..good };
        assert_eq!(version.validate(), Err(ManifestError::Version { version: 4 }));
    }

    #[test]
    fn what_is_too_large_is_refused() {
        let large = Bytes::from(vec![0; Manifest::MAX_USER_DATA + 1]);
        let manifest = Manifest { version: 2, user_data: Some(large), ..Manifest::default_signer([1; 32]) };
        assert!(matches!(manifest.validate(), Err(ManifestError::TooLarge { field: "user data", .. })));
        assert!(matches!(Manifest::decode(manifest.encode()), Err(DecodeError::TooLarge { .. })));
    }

    proptest! {
        #[test]
        fn manifests_round_trip(manifest in manifests()) {
            prop_assert_eq!(Manifest::decode(manifest.encode()).unwrap(), manifest);
        }

        #[test]
        fn manifests_of_version_0_keep_what_that_version_has(manifest in manifests()) {
            let manifest = Manifest { version: 0, ..manifest };
            let decoded = Manifest::decode(manifest.encode()).unwrap();
            prop_assert_eq!(decoded.encode(), manifest.encode());
            prop_assert_eq!(decoded.key(), manifest.key());
            prop_assert_eq!(&decoded.signers, &manifest.signers);
        }

        #[test]
        fn garbage_is_a_manifest_or_an_error(
            version in 0u8..5,
            mut input in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..400),
        ) {
            if let Some(first) = input.first_mut() {
                *first = version;
            }
            if let Ok(manifest) = Manifest::decode(input.into()) {
                let _ = (manifest.validate(), manifest.key());
                prop_assert_eq!(Manifest::decode(manifest.encode()).unwrap().key(), manifest.key());
            }
        }
    }
}
