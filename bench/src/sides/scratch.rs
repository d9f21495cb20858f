//! Folders that a half writes to.

use std::path::PathBuf;

use anyhow::Result;

/// A folder that goes with the process; the runner says where (`BENCH_DIR`).
pub(super) fn folder() -> Result<tempfile::TempDir> {
    let parent = std::env::var_os("BENCH_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    Ok(tempfile::Builder::new().prefix("ours-").tempdir_in(parent)?)
}
