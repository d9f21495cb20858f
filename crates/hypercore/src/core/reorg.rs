//! Following a writer to another fork: the longest common start stays, the old tail goes, in one commit.

use super::Core;
use super::receive::Signatures;
use crate::error::ReceiveError;
use crate::proof::Proof;
use crate::tree::{self, ReorgWant, TreeHead};
use crate::verifier::Verifier;

/// A move to another fork, on its way. Peers of the new fork are asked until the common start is found.
#[derive(Debug)]
pub struct Reorg {
    tree: tree::Reorg,
    learned: Option<Box<Verifier>>,
}

impl Reorg {
    /// What to ask peers of the new fork for; none when the common start is found.
    pub fn want(&self) -> Option<ReorgWant> {
        self.tree.want()
    }

    /// True when it can be committed.
    pub fn is_finished(&self) -> bool {
        self.tree.is_finished()
    }

    /// The tree of the new fork; its signature is verified.
    pub fn head(&self) -> &TreeHead {
        self.tree.head()
    }
}

impl Core {
    /// Begins to follow a peer to another fork, from a proof with an upgrade from length 0 of it.
    pub fn begin_reorg(&self, proof: &Proof) -> Result<Reorg, ReceiveError> {
        if self.frozen {
            return Err(ReceiveError::Frozen);
        }
        if proof.fork <= self.head.fork {
            return Err(ReceiveError::Stale(format!(
                "fork {} is not newer than fork {}",
                proof.fork, self.head.fork
            )));
        }
        let tree = tree::Reorg::begin(&self.head, &self.store, proof)?;
        let mut signatures = Signatures::new(self.key, self.verifier.as_deref());
        if !signatures.is_signed(tree.head(), proof.manifest.as_deref()) {
            return Err(ReceiveError::BadPeer("the other fork is not signed as the manifest demands".into()));
        }
        Ok(Reorg { tree, learned: signatures.learned })
    }

    /// Goes on with an answer to [`Reorg::want`]. True when the common start is found.
    pub fn update_reorg(&self, reorg: &mut Reorg, proof: &Proof) -> Result<bool, ReceiveError> {
        Ok(reorg.tree.update(&self.store, proof)?)
    }

    /// Moves to the other fork. False when the log has changed in the meantime, or the common start is not found
    /// yet: then nothing happens.
    pub fn commit_reorg(&mut self, reorg: Reorg) -> Result<bool, ReceiveError> {
        if self.frozen {
            return Err(ReceiveError::Frozen);
        }
        if !reorg.is_finished() || !reorg.tree.batch().is_committable(&self.head) {
            return Ok(false);
        }
        self.check_open()?;
        let tree = reorg.tree.into_batch();
        let mut batch = self.store.batch();
        if let Some(verifier) = &reorg.learned {
            self.write_manifest(&mut batch, verifier.manifest())?;
        }
        let (change, hints) = self.write_cut(&mut batch, &tree)?;
        self.store.commit(&batch)?;
        self.apply_cut(tree, change, hints);
        if let Some(verifier) = reorg.learned {
            self.learn(verifier);
        }
        Ok(true)
    }
}
