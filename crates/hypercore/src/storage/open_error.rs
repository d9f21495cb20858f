//! Why a store could not be opened, in sentences that help.

use std::path::PathBuf;

use super::StorageError;

/// Why a store could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "the storage folder {} is in use by another process (a Hyperspace daemon, or a Node program that has \
         this Corestore open); stop it, or choose another folder",
        path.display()
    )]
    Locked {
        /// The folder.
        path: PathBuf,
    },
    /// Made by corestore 6 or hypercore 10.
    #[error(
        "the folder {} holds a store in the format of corestore 6 / hypercore 10 ({found}), which this version \
         does not read; choose an empty folder, and replicate the cores into it from the Node program that made them",
        path.display()
    )]
    Legacy {
        /// The folder.
        path: PathBuf,
        /// What gave it away.
        found: String,
    },
    /// Something else is in the folder.
    #[error(
        "the folder {} is not a Hypercore store: it holds other files (such as {found}); choose an empty or a new \
         folder",
        path.display()
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// One of the files.
        found: String,
    },
    /// Not a folder at all.
    #[error("{} is not a folder; give the path of a folder", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The operating system does not let us in.
    #[error("no permission to use {}: {reason}; give this user read and write access to it, or choose another folder", path.display())]
    Permission {
        /// The folder or file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// There is no room for the few files that opening writes.
    #[error("cannot open the store {}: the disk is full ({reason}); free some space, then try again", path.display())]
    DiskFull {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The folder was copied or moved.
    #[error(
        "the store {} was copied, moved or restored from a backup ({reason}); when no other copy of it is used \
         any more, delete the file CORESTORE in it and open it again (two copies of a writable core that both \
         append destroy it)",
        path.display()
    )]
    Moved {
        /// The folder.
        path: PathBuf,
        /// What gave it away.
        reason: String,
    },
    /// The folder does not hold a store, and none was to be made.
    #[error("there is no Hypercore store in {}", path.display())]
    Missing {
        /// The folder.
        path: PathBuf,
    },
    /// A primary key was given that is not the one of the store.
    #[error(
        "the store has another primary key than the one given; leave it out to use the store's own, or choose \
         another folder"
    )]
    AnotherPrimaryKey,
    /// Made by something newer.
    #[error(
        "the store has version {found}, this program knows versions up to {known}; use a newer version of it"
    )]
    TooNew {
        /// Version found.
        found: u64,
        /// Newest version known.
        known: u64,
    },
    /// The operating system refused for another reason.
    #[error("cannot open the store {}: {reason}", path.display())]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the operating system or the engine said.
        reason: String,
    },
    /// Reading it failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}
