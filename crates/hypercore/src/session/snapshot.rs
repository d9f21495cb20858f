//! A session that stays at one length.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::{Core, Seek};
use crate::error::Error;

/// The log as it was at one moment.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) length: u64,
    pub(crate) byte_length: u64,
    pub(crate) fork: u64,
    pub(crate) tree_hash: [u8; 32],
    /// Blocks below this one are still those of the snapshot.
    valid: AtomicU64,
}

impl Snapshot {
    pub(crate) fn take(core: &Core) -> Self {
        Self {
            length: core.length(),
            byte_length: core.byte_length(),
            fork: core.fork(),
            tree_hash: core.tree_hash(),
            valid: AtomicU64::new(core.length()),
        }
    }

    /// The log was cut to `length` blocks.
    pub(crate) fn truncated(&self, length: u64) {
        self.valid.fetch_min(length, Ordering::AcqRel);
    }

    pub(crate) fn is_valid(&self, index: u64) -> bool {
        index < self.valid_length()
    }

    pub(crate) fn valid_length(&self) -> u64 {
        self.valid.load(Ordering::Acquire)
    }

    /// The end of the snapshot, if that is what is sought; beyond it there is nothing.
    pub(crate) fn seek_end(&self, bytes: u64) -> Result<Option<(u64, u64)>, Error> {
        if bytes > self.byte_length {
            let what = "seek in a snapshot, by bytes";
            return Err(Error::OutOfBounds { what, index: bytes, length: self.byte_length });
        }
        Ok((bytes == self.byte_length).then_some((self.length, 0)))
    }

    /// Checks that a byte of the snapshot was found in the log as it is now: what was cut away is gone, whatever has
    /// come in its place.
    pub(crate) fn check_found(&self, found: Seek) -> Result<(), Error> {
        let valid = self.valid_length();
        let is_kept = match found {
            Seek::Found { index, .. } => index < valid,
            Seek::Between { start, .. } => start < valid,
            Seek::Beyond => false,
        };
        if is_kept { Ok(()) } else { Err(Error::SnapshotLost(valid)) }
    }
}
