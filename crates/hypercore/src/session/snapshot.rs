//! A session that stays at one length.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::Core;

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
}
