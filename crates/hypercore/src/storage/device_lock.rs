//! The file `CORESTORE`: who has the folder open, and whether the folder is still where it was made.
//!
//! The format is that of npm `device-file` 2 as `hypercore-storage` 3.3.1 uses it: lines `key=value` with platform,
//! inode and time of creation, an extended attribute on the file that a copy loses, and an exclusive lock on the
//! whole file held as long as the store is open (npm `fs-native-extensions`: an open-file-description lock).

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Name of the file within the store's folder.
pub(super) const FILE_NAME: &str = "CORESTORE";

/// How far the file's time may be from the time written in it: farther, and somebody edited or restored it.
const MODIFIED_SLACK: Duration = Duration::from_millis(5000);

/// What JS reads of the file at most.
const READ_MAX: u64 = 4096;

const ATTRIBUTE: &str = if cfg!(target_os = "linux") { "user.device-file" } else { "device-file" };
const ATTRIBUTE_VALUE: &str = "original";

/// The platform's name in Node.
const PLATFORM: &str = if cfg!(target_os = "macos") {
    "darwin"
} else if cfg!(target_os = "windows") {
    "win32"
} else {
    std::env::consts::OS
};

/// The folders that this process holds. The operating system lets one process lock a file twice, and frees it as soon
/// as either is closed: so a held file must not even be opened again.
static HELD: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// The held lock; letting it go opens the folder to others.
#[derive(Debug)]
pub(super) struct DeviceLock {
    // Dropped in this order: the file is closed before this process may open it again.
    _file: File,
    _held: Held,
}

/// A folder's entry in [`HELD`].
#[derive(Debug)]
struct Held(PathBuf);

impl Held {
    fn enter(folder: &Path) -> Result<Self, DeviceLockError> {
        let folder = folder.canonicalize()?;
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        if held.contains(&folder) {
            return Err(DeviceLockError::Locked);
        }
        held.push(folder.clone());
        Ok(Self(folder))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        held.retain(|folder| *folder != self.0);
    }
}

/// Why the folder cannot be had.
#[derive(Debug)]
pub(super) enum DeviceLockError {
    /// Another process holds it.
    Locked,
    /// It was copied or moved, or the file was edited.
    Moved(String),
    /// The operating system refused.
    Io(std::io::Error),
}

impl From<std::io::Error> for DeviceLockError {
    fn from(error: std::io::Error) -> Self {
        Self::Io(error)
    }
}

impl DeviceLock {
    /// Locks `folder`, making the file when there is none.
    pub(super) fn acquire(folder: &Path) -> Result<Self, DeviceLockError> {
        let held = Held::enter(folder)?;
        // Not truncating: whoever was faster has the lock, and what stands in the file stays.
        let path = folder.join(FILE_NAME);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        lock(&file)?;
        if file.metadata()?.len() > 0 {
            verify(&file)?
        } else {
            write(&file)?
        }
        Ok(Self { _file: file, _held: held })
    }
}

/// Takes the lock on the whole file or says who it belongs to. JS takes it for its open file description; this
/// one belongs to the process. Either keeps the other out.
#[cfg(unix)]
fn lock(file: &File) -> Result<(), DeviceLockError> {
    use rustix::fs::{FlockOperation, fcntl_lock};
    use rustix::io::Errno;
    match fcntl_lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::AGAIN | Errno::ACCESS) => Err(DeviceLockError::Locked),
        Err(error) => Err(DeviceLockError::Io(error.into())),
    }
}

#[cfg(not(unix))]
fn lock(file: &File) -> Result<(), DeviceLockError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(std::fs::TryLockError::WouldBlock) => Err(DeviceLockError::Locked),
        Err(std::fs::TryLockError::Error(error)) => Err(DeviceLockError::Io(error)),
    }
}

/// The text of a new file; `attribute` when the file system keeps extended attributes.
fn describe(inode: u64, created: u64, attribute: bool) -> String {
    let mut text = format!("device/platform={PLATFORM}\ndevice/inode={inode}\ndevice/created={created}\n");
    if attribute {
        text.push_str(&format!("device/attribute={ATTRIBUTE_VALUE}\n"));
    }
    text
}

fn write(mut file: &File) -> Result<(), DeviceLockError> {
    let created = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let created = u64::try_from(created.as_millis()).unwrap_or_default();
    let attribute = set_attribute(file);
    file.write_all(describe(inode(&file.metadata()?), created, attribute).as_bytes())?;
    Ok(())
}

/// What the file says about itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Description<'a> {
    platform: &'a str,
    inode: Option<u64>,
    created: u64,
    attribute: &'a str,
}

impl<'a> Description<'a> {
    fn parse(text: &'a str) -> Self {
        let mut description = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let value = value.trim();
            match key.trim() {
                "device/platform" => description.platform = value,
                "device/inode" => description.inode = value.parse().ok(),
                "device/created" => description.created = value.parse().unwrap_or_default(),
                "device/attribute" => description.attribute = value,
                _ => {}
            }
        }
        description
    }
}

fn verify(file: &File) -> Result<(), DeviceLockError> {
    let mut text = Vec::new();
    file.take(READ_MAX).read_to_end(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    let description = Description::parse(&text);
    let moved = |reason: String| Err(DeviceLockError::Moved(reason));

    if !description.platform.is_empty() && description.platform != PLATFORM {
        return moved(format!("it was made on {}, this is {PLATFORM}", description.platform));
    }
    if attribute(file) != description.attribute.as_bytes() {
        return moved(format!("the file {FILE_NAME} in it is a copy"));
    }
    let metadata = file.metadata()?;
    if description.inode != Some(inode(&metadata)) {
        return moved(format!("the file {FILE_NAME} in it is not the one that was made with it"));
    }
    if description.created != 0 {
        let created = UNIX_EPOCH + Duration::from_millis(description.created);
        let modified = metadata.modified()?.max(metadata.created().unwrap_or(UNIX_EPOCH));
        let apart = modified.duration_since(created).or_else(|_| created.duration_since(modified));
        if apart.unwrap_or_default() >= MODIFIED_SLACK {
            return moved(format!("the file {FILE_NAME} in it was modified"));
        }
    }
    Ok(())
}

#[cfg(unix)]
fn inode(metadata: &std::fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_metadata: &std::fs::Metadata) -> u64 {
    0
}

#[cfg(unix)]
fn set_attribute(file: &File) -> bool {
    rustix::fs::fsetxattr(file, ATTRIBUTE, ATTRIBUTE_VALUE.as_bytes(), rustix::fs::XattrFlags::empty())
        .is_ok()
}

#[cfg(not(unix))]
fn set_attribute(_file: &File) -> bool {
    false
}

/// The attribute's value; empty where there is none.
#[cfg(unix)]
fn attribute(file: &File) -> Vec<u8> {
    let mut value = [0u8; 64];
    match rustix::fs::fgetxattr(file, ATTRIBUTE, &mut value[..]) {
        Ok(length) => value.get(..length).unwrap_or_default().to_vec(),
        Err(_) => Vec::new(),
    }
}

#[cfg(not(unix))]
fn attribute(_file: &File) -> Vec<u8> {
    Vec::new()
}
