//! The file with the access tokens.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use hyperspace_common::{AccessToken, AccessTokenError};
use rustix::fs::OFlags;
use thiserror::Error;

/// Bytes of randomness in a token that is made here.
const RANDOM: usize = 32;
/// Bytes of randomness in the name that a file has until it is complete.
const RANDOM_NAME: usize = 8;
/// The largest file.
const MAX_FILE: u64 = 64 << 10;

/// Why there are no tokens.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TokenFileError {
    /// The file cannot be read or made.
    #[error("the token file {} cannot be used: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// Everybody may read the file.
    #[error("the token file {} is open to every user of this machine (mode {mode:03o}); run `chmod 600` on it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file's text has no tokens.
    #[error("the token file {}: {error}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: AccessTokenError,
    },
}

/// The tokens in a file, one a line. When there is no such file it is made, with a fresh random token that only the
/// file's owner may read.
pub fn tokens_from_file(path: &Path) -> Result<Vec<AccessToken>, TokenFileError> {
    let io = |error| TokenFileError::Io { path: path.into(), error };
    match reread_tokens(path) {
        Err(TokenFileError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            make(path).map_err(io)?;
            reread_tokens(path)
        }
        read => read,
    }
}

/// The tokens in a file that is there already.
pub fn reread_tokens(path: &Path) -> Result<Vec<AccessToken>, TokenFileError> {
    let io = |error| TokenFileError::Io { path: path.into(), error };
    // A pipe that nobody writes to would be waited for, and with it everything else.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    if !meta.is_file() {
        return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")));
    }
    let mode = meta.permissions().mode() & 0o777;
    if mode & 0o007 != 0 {
        return Err(TokenFileError::Open { path: path.into(), mode });
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text).map_err(io)?;
    AccessToken::list(&text).map_err(|error| TokenFileError::Text { path: path.into(), error })
}

/// Makes the file, unless somebody else is faster: theirs is as good.
fn make(path: &Path) -> io::Result<()> {
    let token = random_text::<RANDOM>()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // Written under another name: the file is never there without its token. Not one that is made of the process's
    // number: in a container every start may have the same, and what a killed one has left would be in the way for good.
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}", random_text::<RANDOM_NAME>()?));
    let draft = folder.join(name);
    let made = write_draft(&draft, &token).and_then(|()| {
        // A link, unlike a rename, fails when the name exists.
        match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        }
    });
    let _ = fs::remove_file(&draft);
    made
}

fn write_draft(draft: &Path, token: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(draft)?;
    file.write_all(format!("{token}\n").as_bytes())?;
    file.sync_all()
}

/// So many random bytes, in hexadecimal.
fn random_text<const BYTES: usize>() -> io::Result<String> {
    let mut random = [0; BYTES];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    Ok(random.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Barrier, Mutex};

    #[test]
    fn a_missing_file_is_made_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/token");
        let made = tokens_from_file(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!((made.len(), made[0].secret().len()), (1, 2 * RANDOM));
        assert_eq!(tokens_from_file(&path).unwrap(), made, "it stays");
        let other = tokens_from_file(&folder.path().join("other")).unwrap();
        assert_ne!(made, other);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left behind");
    }

    /// A process that was killed while it made the file, and one that has its number now.
    #[test]
    fn what_a_killed_process_left_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let left = folder.path().join(format!("token.{}", std::process::id()));
        for text in ["", "half a tok"] {
            fs::write(&left, text).unwrap();
            let made = tokens_from_file(&path).unwrap();
            assert_eq!(tokens_from_file(&path).unwrap(), made);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn those_who_make_it_at_once_agree() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let (made, start) = (Mutex::new(Vec::new()), Barrier::new(8));
        std::thread::scope(|threads| {
            for _ in 0..8 {
                threads.spawn(|| {
                    start.wait();
                    let tokens = tokens_from_file(&path).unwrap();
                    made.lock().unwrap().push(tokens);
                });
            }
        });
        let made = made.into_inner().unwrap();
        assert!(made.len() == 8 && made.iter().all(|tokens| *tokens == made[0]));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
    }

    #[test]
    fn what_cannot_be_is_refused_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "hunter2\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let error = tokens_from_file(&path).unwrap_err();
        assert!(matches!(error, TokenFileError::Open { mode: 0o644, .. }), "{error}");
        assert!(error.to_string().contains("chmod 600"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = tokens_from_file(&path).unwrap_err().to_string();
        assert!(error.contains("32 to 256") && !error.contains("hunter2"), "{error}");
        fs::write(&path, [0xff; 40]).unwrap();
        assert!(matches!(tokens_from_file(&path), Err(TokenFileError::Io { .. })));
        assert!(matches!(tokens_from_file(folder.path()), Err(TokenFileError::Io { .. })));
    }

    #[test]
    fn a_pipe_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let error = reread_tokens(&path).unwrap_err().to_string();
        assert!(error.contains("regular file"), "{error}");
    }
}
