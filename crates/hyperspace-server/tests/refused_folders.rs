//! Folders that the daemon may not use: it says which, why and what to do, in one sentence, and ends with 1.
//!
//! Root may use any folder, so the daemon runs as somebody else here.
#![cfg(feature = "rocksdb")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use interop::{Lack, skipped};
use tempfile::TempDir;

/// The user `nobody`, wherever there is one.
const NOBODY: u32 = 65534;

/// A place where an unprivileged user may work.
struct Place {
    folder: TempDir,
    root: bool,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), root: rustix::process::geteuid().is_root() };
        mode(place.folder.path(), 0o755);
        // The build's folder may be one that only root can look into. Copied by another process: a file that this one
        // has open for writing, when another test starts a daemon, cannot be run ("Text file busy").
        if place.root {
            let mut copy = Command::new("cp");
            let copied = copy.arg(env!("CARGO_BIN_EXE_hyperspace-server")).arg(place.path("server")).status();
            assert!(copied.unwrap().success());
        }
        place.make("own");
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A folder of the user's.
    fn make(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir(&path).unwrap();
        if self.root {
            chown(&path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        path
    }

    fn daemon(&self, storage: &Path) -> Command {
        let mut command = match self.root {
            true => Command::new(self.path("server")),
            false => Command::new(env!("CARGO_BIN_EXE_hyperspace-server")),
        };
        if self.root {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
            .arg("--storage")
            .arg(storage)
            .arg("--offline")
            .env("TMPDIR", self.path("own"))
            .env_remove("HYPERSPACE_SOCKET")
            .env_remove("HYPERSPACE_LOG");
        command
    }

    /// It does not start; returns what it says.
    fn refusal(&self, storage: &Path) -> String {
        let output = self.daemon(storage).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{storage:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("hyperspace-server: ") && said.trim_end().lines().count() == 1, "{said}");
        said
    }

    /// It says that it may not use `path`, and how that is mended.
    fn no_permission(&self, storage: &Path, path: &Path) {
        let said = self.refusal(storage);
        let expected = format!("no permission to use {}", path.display());
        assert!(said.contains(&format!("{expected}: ")), "{said}");
        assert!(said.contains("give this user read and write access"), "{said}");
        assert!(said.contains("choose another folder"), "{said}");
    }

    /// It starts, and ends when it is told to.
    fn works(&self, storage: &Path) {
        let mut child = self.daemon(storage).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("Listening on "), "{storage:?}: {line}");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(child.wait().unwrap().success());
    }
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn folders_of_others_are_refused() {
    let place = Place::new();
    // May not be looked into.
    let closed = place.make("closed");
    mode(&closed, 0);
    place.no_permission(&closed, &closed);
    place.no_permission(&closed.join("below"), &closed.join("below"));
    // May be looked into, but not written.
    let fixed = place.make("fixed");
    mode(&fixed, 0o555);
    place.no_permission(&fixed, &fixed.join("CORESTORE"));
    // What is missing cannot be made; the folder that forbids it is named.
    place.no_permission(&fixed.join("new"), &fixed);
    place.no_permission(&fixed.join("new/and/deeper"), &fixed);
    assert_eq!(fs::read_dir(&fixed).unwrap().count(), 0);
    // So that it can be removed again.
    mode(&closed, 0o755);
    mode(&fixed, 0o755);
}

#[test]
fn a_file_in_the_way_is_named() {
    let place = Place::new();
    let file = place.path("own/file");
    fs::write(&file, "x").unwrap();
    for storage in [file.clone(), file.join("new"), file.join("new/and/deeper")] {
        let said = place.refusal(&storage);
        assert!(said.contains(&format!("{} is not a folder", file.display())), "{said}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

#[test]
fn missing_folders_are_made() {
    let place = Place::new();
    let storage = place.path("own/new/and/deeper");
    place.works(&storage);
    place.works(&storage);
}

#[test]
fn a_store_whose_files_belong_to_another_is_refused() {
    let place = Place::new();
    let storage = place.path("own/store");
    place.works(&storage);
    let engine = storage.join("db");
    for (path, forbidden, named) in [
        (storage.join("CORESTORE"), 0o444, storage.join("CORESTORE")),
        (storage.clone(), 0, storage.clone()),
        (engine.clone(), 0, engine.clone()),
        (engine.clone(), 0o555, engine.clone()),
        (engine.join("LOCK"), 0o444, engine.join("LOCK")),
        (engine.join("CURRENT"), 0, engine.join("CURRENT")),
    ] {
        let allowed = fs::metadata(&path).unwrap().permissions().mode();
        mode(&path, forbidden);
        let said = place.refusal(&storage);
        assert!(said.contains("no permission to use"), "{path:?}: {said}");
        assert!(said.contains(&*named.to_string_lossy()), "{path:?}: {said}");
        assert!(said.contains("give this user read and write access"), "{path:?}: {said}");
        mode(&path, allowed & 0o777);
    }
    place.works(&storage);
}

#[test]
fn a_read_only_file_system_is_refused() {
    let place = Place::new();
    let disk = place.make("disk");
    let store = place.path("own/store");
    place.works(&store);
    // Root of a user namespace may mount; in some containers only the real one.
    let namespace = if place.root { "-m" } else { "-Urm" };
    let tried = Command::new("unshare").args([namespace, "mount", "-t", "tmpfs", "none"]).arg(&disk).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        let why = "no file system can be mounted here (unshare, mount); a read-only one was not tried";
        return skipped(Lack::of(&["unshare", "mount"]), why);
    }
    // Both an empty one, and one that holds a store. The daemon itself is started inside.
    let script = "set -e; mount -t tmpfs -o mode=777 none \"$1\"; cp -a \"$2\" \"$1/store\"; rm \"$1/store/CORESTORE\"; \
                  mount -o remount,ro \"$1\"; shift 2; exec \"$@\"";
    for storage in [disk.join("new"), disk.join("store")] {
        let daemon = place.daemon(&storage);
        let mut command = Command::new("unshare");
        command.args([namespace, "sh", "-c", script, "sh"]).args([&disk, &store]);
        command.arg(daemon.get_program()).args(daemon.get_args()).env("TMPDIR", place.path("own"));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("hyperspace-server: "), "{said}");
        assert!(said.contains("Read-only file system"), "{said}");
        assert!(said.contains("no permission to use") && said.contains("choose another folder"), "{said}");
    }
}

#[test]
fn a_folder_for_sockets_that_cannot_be_written_is_named() {
    let place = Place::new();
    let fixed = place.make("fixed");
    mode(&fixed, 0o555);
    let output = place.daemon(&place.path("own/store")).env("TMPDIR", &fixed).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("{}/hyperspace.sock", fixed.display())), "{said}");
    assert!(said.contains("Permission denied") && said.contains("TMPDIR"), "{said}");
    mode(&fixed, 0o755);
}
