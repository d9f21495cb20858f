//! Opening a log by whatever is known of it, and making one (npm `hypercore` 11.37.1, `_tryOpen` in `lib/core.js`).

use bytes::Bytes;

use super::{Core, conflict};
use crate::bitfield::Bitfield;
use crate::error::Error;
use crate::key::{DiscoveryKey, Key};
use crate::manifest::Manifest;
use crate::signing::KeyPair;
use crate::storage::{
    Alias, Auth, Claim, CoreBatch, CoreStore, CreateCore, Database, StorageError, StoredKeyPair,
};
use crate::tree::TreeHead;
use crate::verifier::Verifier;

use super::updates::Journal;

/// What is known of the log that is to be opened. With nothing given, a new one with a fresh key pair is made.
#[derive(Debug, Clone)]
pub struct CoreOptions {
    /// Its key.
    pub key: Option<Key>,
    /// Its discovery key. On its own it opens what is stored, but makes nothing.
    pub discovery_key: Option<DiscoveryKey>,
    /// Who may sign.
    pub manifest: Option<Manifest>,
    /// Signs; stored with a log that is made.
    pub key_pair: Option<KeyPair>,
    /// Sign as well, but are not stored: for logs with several signers.
    pub signers: Vec<KeyPair>,
    /// Make a log in the old form, whose key is the public key.
    pub compat: bool,
    /// Make the log when it is not stored here. On unless switched off.
    pub create_if_missing: bool,
    /// The name under which a new log is found again.
    pub alias: Option<Alias>,
    /// Named values to store with a new log.
    pub user_data: Vec<(String, Bytes)>,
}

impl Default for CoreOptions {
    fn default() -> Self {
        Self {
            key: None,
            discovery_key: None,
            manifest: None,
            key_pair: None,
            signers: Vec::new(),
            compat: false,
            create_if_missing: true,
            alias: None,
            user_data: Vec::new(),
        }
    }
}

impl Core {
    /// Opens a log, or makes it.
    pub fn open(database: &Database, options: CoreOptions) -> Result<Self, Error> {
        let wanted = Identity::find(&options)?;
        let discovery_key = match (&wanted, options.discovery_key) {
            (Some(identity), given) => {
                let derived = identity.key.discovery_key();
                if given.is_some_and(|given| given != derived) {
                    return Err(Error::Conflicting("the discovery key does not belong to the key".into()));
                }
                derived
            }
            (None, Some(given)) => given,
            // Nothing given: this is a new log, whose key pair is made below.
            (None, None) => {
                let identity = Identity::fresh(&options)?;
                let discovery_key = identity.key.discovery_key();
                let claim = database.claim(discovery_key).ok_or(Error::InUse(discovery_key))?;
                return Self::create(database, claim, identity, options);
            }
        };
        let claim = database.claim(discovery_key).ok_or(Error::InUse(discovery_key))?;
        match database.resume(&discovery_key)? {
            Some(store) => Self::resume_as(store, claim, wanted, options),
            None => match wanted {
                Some(identity) if options.create_if_missing => {
                    Self::create(database, claim, identity, options)
                }
                _ => Err(Error::NotFound(discovery_key)),
            },
        }
    }

    fn create(
        database: &Database,
        claim: Claim,
        identity: Identity,
        options: CoreOptions,
    ) -> Result<Self, Error> {
        let auth = Auth {
            key: identity.key,
            discovery_key: identity.key.discovery_key(),
            manifest: identity.manifest.clone(),
            key_pair: identity.key_pair.as_ref().map(stored_pair),
            encryption_key: None,
        };
        let CoreOptions { alias, user_data, signers, .. } = options;
        let store = database.create_core(&CreateCore { auth, alias, user_data })?;
        let options = CoreOptions { signers, ..CoreOptions::default() };
        Self::resume_as(store, claim, Some(identity), options)
    }

    fn resume_as(
        store: CoreStore,
        claim: Claim,
        wanted: Option<Identity>,
        options: CoreOptions,
    ) -> Result<Self, Error> {
        let records = store.read_once().records()?;
        let auth = records.auth.ok_or(StorageError::Corrupt {
            record: "core auth",
            reason: "it is missing; the core cannot be opened without its key".into(),
        })?;
        if wanted.as_ref().is_some_and(|wanted| wanted.key != auth.key) {
            return Err(Error::Conflicting("another hypercore is stored under this discovery key".into()));
        }
        let claim = claim.of(auth.discovery_key).map_err(Error::InUse)?;
        let secret = auth.key_pair.as_ref().and_then(|pair| pair.secret_key.as_ref());
        let stored = secret.map(|secret| KeyPair::from_secret_bytes(secret.as_slice())).transpose();
        let stored = stored
            .map_err(|error| StorageError::Corrupt { record: "core key pair", reason: error.to_string() })?;
        let learned = match (&auth.manifest, wanted.as_ref().and_then(|wanted| wanted.manifest.clone())) {
            (None, Some(manifest)) => Some(manifest),
            _ => None,
        };
        let given = wanted.and_then(|wanted| wanted.key_pair).into_iter().chain(options.key_pair);
        let manifest = auth.manifest.or_else(|| learned.clone());
        let verifier = manifest.map(|manifest| Box::new(Verifier::new(auth.key, manifest)));

        let prologue = verifier.as_deref().and_then(Verifier::prologue);
        let head = match records.head {
            Some(head) => {
                TreeHead::load(&store.read_once(), head.fork, head.length, head.signature, prologue)?
            }
            None => TreeHead::empty(prologue),
        };
        let bitfield = Bitfield::open(&store, records.hints.contiguous_length, head.length)?;
        let frozen = conflict::is_recorded(&store)?;
        let mut core = Self {
            key: auth.key,
            discovery_key: auth.discovery_key,
            verifier,
            key_pairs: Vec::new(),
            head,
            hints: records.hints,
            remote_contiguous: records.hints.remote_contiguous_length,
            bitfield,
            frozen,
            grouped: records.group.is_some(),
            journal: Journal::default(),
            claim: Some(claim),
            store,
        };
        for pair in stored.into_iter().chain(given).chain(options.signers) {
            core.add_signer(pair);
        }
        if let Some(manifest) = learned {
            let mut batch = core.store.batch();
            core.write_manifest(&mut batch, &manifest)?;
            core.store.commit(&batch)?;
        }
        Ok(core)
    }

    /// Takes over the manifest of a log that was opened by its key alone.
    pub fn set_manifest(&mut self, manifest: Manifest) -> Result<(), Error> {
        if self.verifier.is_some() {
            return Ok(());
        }
        self.check_open()?;
        if !manifest.belongs_to(&self.key) {
            return Err(Error::Conflicting("the manifest does not hash to the key".into()));
        }
        let mut batch = self.store.batch();
        self.write_manifest(&mut batch, &manifest)?;
        self.store.commit(&batch)?;
        self.learn(Box::new(Verifier::new(self.key, manifest)));
        Ok(())
    }

    /// Uses a manifest that was stored.
    pub(super) fn learn(&mut self, verifier: Box<Verifier>) {
        self.head.prologue = verifier.prologue();
        self.verifier = Some(verifier);
        self.journal.manifest();
    }

    /// Adds the manifest to the stored identity.
    pub(super) fn write_manifest(
        &self,
        batch: &mut CoreBatch,
        manifest: &Manifest,
    ) -> Result<(), StorageError> {
        // Read again rather than kept: this happens once in the life of a log, and thousands may be open.
        let stored = self.store.read().auth()?;
        let auth = Auth {
            key: self.key,
            discovery_key: self.discovery_key,
            manifest: Some(manifest.clone()),
            key_pair: stored.as_ref().and_then(|auth| auth.key_pair.clone()),
            encryption_key: stored.and_then(|auth| auth.encryption_key),
        };
        batch.set_auth(&auth);
        Ok(())
    }
}

/// Key, manifest and key pair that fit together.
struct Identity {
    key: Key,
    manifest: Option<Manifest>,
    key_pair: Option<KeyPair>,
}

impl Identity {
    /// What the options say, if they say a key at all.
    fn find(options: &CoreOptions) -> Result<Option<Self>, Error> {
        if options.key.is_none() && options.manifest.is_none() && options.key_pair.is_none() {
            return Ok(None);
        }
        Self::from_options(options, options.key_pair.clone()).map(Some)
    }

    fn fresh(options: &CoreOptions) -> Result<Self, Error> {
        if !options.create_if_missing {
            return Err(Error::Conflicting(
                "neither a key nor a name is given, and nothing may be made".into(),
            ));
        }
        Self::from_options(options, Some(KeyPair::generate()))
    }

    fn from_options(options: &CoreOptions, key_pair: Option<KeyPair>) -> Result<Self, Error> {
        if let Some(manifest) = &options.manifest {
            manifest.validate().map_err(|error| Error::Conflicting(error.to_string()))?;
        }
        let manifest = options.manifest.clone().or_else(|| {
            let public = key_pair.as_ref().map(KeyPair::public);
            let own = public.map(Manifest::default_signer);
            match options.key {
                None => own,
                // The key pair of this very log tells its manifest, in either form.
                Some(key) => match own.filter(|own| own.belongs_to(&key)) {
                    None if options.compat => Some(Manifest::default_signer(key.to_bytes())),
                    own => own,
                },
            }
        });
        let key = match (options.key, &manifest) {
            (Some(key), Some(manifest)) if !manifest.belongs_to(&key) => {
                return Err(Error::Conflicting("the manifest does not hash to the key".into()));
            }
            (Some(key), _) => key,
            (None, Some(manifest)) if options.compat => match manifest.signers.as_slice() {
                [signer] => Key::from(signer.public_key),
                _ => return Err(Error::Conflicting("the compat form has exactly one signer".into())),
            },
            (None, Some(manifest)) => manifest.key(),
            (None, None) => return Err(Error::Conflicting("no key is given".into())),
        };
        if options.compat
            && let Some(pair) = &key_pair
            && pair.public() != *key.as_bytes()
        {
            return Err(Error::Conflicting(
                "in the compat form the key is the public key of the key pair".into(),
            ));
        }
        Ok(Self { key, manifest, key_pair })
    }
}

fn stored_pair(pair: &KeyPair) -> StoredKeyPair {
    StoredKeyPair { public_key: pair.public(), secret_key: Some(pair.secret_bytes()) }
}
