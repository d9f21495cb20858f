//! Believing peers: a burst of proofs is verified in order and stored in one commit.

use bytes::Bytes;

use super::Core;
use crate::error::{Error, ReceiveError};
use crate::events::CoreEvent;
use crate::key::Key;
use crate::manifest::Manifest;
use crate::proof::Proof;
use crate::storage::StorageError;
use crate::tree::{self, ProofError, ProofErrorKind, TreeBatch, TreeHead};
use crate::verifier::Verifier;

/// What a proof brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Received {
    /// A block that is here now.
    pub block: Option<u64>,
    /// The length, when the proof made the log longer.
    pub upgraded: Option<u64>,
}

impl Core {
    /// Takes over a burst of proofs. Each is verified against what the ones before it left; a wrong one spoils
    /// none of the others. All that is good is stored in one commit; when that fails, all of it fails.
    pub fn receive(&mut self, proofs: Vec<Proof>) -> Vec<Result<Received, ReceiveError>> {
        if self.frozen {
            return proofs.iter().map(|_| Err(ReceiveError::Frozen)).collect();
        }
        let mut signatures = Signatures::new(self.key, self.verifier.as_deref());
        let burst = tree::verify_burst(&self.head, &self.store, &proofs, &mut |head, proof| {
            signatures.is_signed(head, proof.manifest.as_deref())
        });
        let mut length = self.head.length;
        let mut results: Vec<Result<Received, ReceiveError>> = Vec::with_capacity(proofs.len());
        for (proof, result) in proofs.iter().zip(burst.results) {
            results.push(match result {
                Ok(upgrade) => Ok(received(proof, upgrade.as_ref(), &mut length)),
                Err(error) => Err(error.into()),
            });
        }
        for (proof, result) in proofs.iter().zip(&mut results) {
            if let (Some(manifest), Ok(_)) = (&proof.manifest, &*result)
                && !signatures.offer(manifest)
            {
                *result = Err(ReceiveError::BadPeer("the manifest does not hash to the key".into()));
            }
        }
        let learned = signatures.learned;
        let blocks = proofs.into_iter().zip(&results).filter_map(|(proof, result)| {
            result.as_ref().ok()?;
            proof.block.map(|block| (block.index, block.value))
        });
        if let Err(error) = self.store_burst(burst.batch, blocks.collect(), learned) {
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(ReceiveError::Storage(error.clone()));
            }
        }
        results
    }

    fn store_burst(
        &mut self,
        tree: TreeBatch,
        blocks: Vec<(u64, Bytes)>,
        learned: Option<Box<Verifier>>,
    ) -> Result<(), StorageError> {
        self.check_open()?;
        let mut batch = self.store.batch();
        let mut bits = self.bitfield.stage(&self.store);
        bits.set_length(tree.head().length)?;
        let mut fresh = Vec::with_capacity(blocks.len());
        for (index, value) in blocks {
            if !bits.has(index)? {
                bits.set(index, index.saturating_add(1))?;
                batch.put_block(index, value.clone());
                fresh.push((index, value));
            }
        }
        for node in tree.nodes() {
            batch.put_node(node);
        }
        if tree.upgraded() {
            self.write_head(&mut batch, tree.head())?;
        }
        if let Some(verifier) = &learned {
            self.write_manifest(&mut batch, verifier.manifest())?;
        }
        if batch.is_empty() {
            return Ok(());
        }
        let (change, hints) = self.write_bits(&mut batch, bits, self.remote_contiguous);
        self.store.commit(&batch)?;

        self.bitfield.apply(change);
        self.hints = hints;
        if let Some(verifier) = learned {
            self.learn(verifier);
        }
        if tree.nodes().len() > 0 {
            self.journal.nodes();
        }
        if tree.upgraded() {
            let prologue = self.head.prologue;
            self.head = TreeHead { prologue, ..tree.into_head() };
            self.journal.head_changed();
            let event = CoreEvent::Append { length: self.head.length, byte_length: self.head.byte_length };
            self.journal.event(event);
        }
        for (index, value) in fresh {
            self.journal.event(CoreEvent::Download { index, bytes: value.len() });
            self.journal.arrived(index, value);
        }
        Ok(())
    }
}

/// Checks signatures for a log whose manifest may have to be learned first.
pub(super) struct Signatures<'a> {
    key: Key,
    known: Option<&'a Verifier>,
    /// A manifest that belongs to the key and was not known.
    pub(super) learned: Option<Box<Verifier>>,
}

impl<'a> Signatures<'a> {
    pub(super) fn new(key: Key, known: Option<&'a Verifier>) -> Self {
        Self { key, known, learned: None }
    }

    /// Whether a tree is signed as the manifest demands: the known one, else the given one, else that of the old
    /// form, in which the key itself signs.
    pub(super) fn is_signed(&mut self, head: &TreeHead, manifest: Option<&Manifest>) -> bool {
        if let Some(verifier) = self.known.or(self.learned.as_deref()) {
            return verifier.verify(head);
        }
        let unsaid = || Some(Manifest::default_signer(self.key.to_bytes()));
        let believed = manifest.map_or_else(unsaid, |manifest| manifest.vouched_for(&self.key));
        let Some(manifest) = believed.filter(|manifest| manifest.belongs_to(&self.key)) else {
            return false;
        };
        let verifier = Box::new(Verifier::new(self.key, manifest));
        let signed = prologue_holds(&verifier, head) && verifier.verify(head);
        if signed {
            self.learned = Some(verifier);
        }
        signed
    }

    /// Takes over a manifest that came with something else. False when it does not belong to the key.
    fn offer(&mut self, manifest: &Manifest) -> bool {
        if self.known.is_some() || self.learned.is_some() {
            return true;
        }
        let Some(manifest) = manifest.vouched_for(&self.key) else { return false };
        self.learned = Some(Box::new(Verifier::new(self.key, manifest)));
        true
    }
}

/// While the manifest was unknown, the tree was verified without its prologue: check at least its length here.
fn prologue_holds(verifier: &Verifier, head: &TreeHead) -> bool {
    verifier.prologue().is_none_or(|prologue| head.length >= prologue.length)
}

fn received(proof: &Proof, upgrade: Option<&TreeHead>, length: &mut u64) -> Received {
    let upgraded = upgrade.map(|head| head.length).filter(|claimed| *claimed > *length);
    *length = upgraded.unwrap_or(*length);
    Received { block: proof.block.as_ref().map(|block| block.index), upgraded }
}

impl From<ProofError> for ReceiveError {
    fn from(error: ProofError) -> Self {
        match (error.kind(), error) {
            (_, ProofError::Storage(error)) => Self::Storage(error),
            (ProofErrorKind::Stale, error) => Self::Stale(error.to_string()),
            (_, error) => Self::BadPeer(error.to_string()),
        }
    }
}

impl From<Error> for ReceiveError {
    fn from(error: Error) -> Self {
        match error {
            Error::Storage(error) => Self::Storage(error),
            Error::Frozen(_) => Self::Frozen,
            error => Self::Stale(error.to_string()),
        }
    }
}
