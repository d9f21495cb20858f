//! A process that may open no more files: commits fail then and say why, and go on as soon as there are files again.
#![cfg(unix)]

mod changes;

use std::fs::File;

use bytes::Bytes;
use changes::options;
use hypercore::Core;
use hypercore::storage::{Database, FolderOptions};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const ALLOWED: u64 = 128;
const BLOCK: usize = 2000;
/// Commits until the engine must have begun several files.
const COMMITS: u64 = 3000;

fn block(index: u64) -> Bytes {
    let mut block = index.to_le_bytes().to_vec();
    block.resize(BLOCK, index as u8);
    block.into()
}

fn check(core: &Core, length: u64) {
    assert_eq!(core.length(), length);
    for index in 0..length {
        assert_eq!(core.get(index).unwrap().unwrap(), block(index), "block {index}");
    }
}

// The only test of this process, which changes what the process may do.
#[test]
fn commits_go_on_when_files_can_be_opened_again() {
    let limit = Rlimit { current: Some(ALLOWED), ..getrlimit(Resource::Nofile) };
    setrlimit(Resource::Nofile, limit).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let open = || {
        let options = FolderOptions { write_buffer_bytes: 1 << 20, ..FolderOptions::default() };
        Database::open_folder(folder.path(), options).unwrap()
    };
    let database = open();
    let mut core = Core::open(&database, options(0)).unwrap();
    let mut refused = 0;
    // With so many files left, it fails now at one thing and now at another: its log, a sorted file, its list of files.
    for spare in 0..6 {
        let mut taken = Vec::new();
        while let Ok(file) = File::open("/dev/null") {
            taken.push(file);
        }
        taken.truncate(taken.len() - spare);
        let begin = core.length();
        while core.length() < begin + COMMITS {
            let Err(error) = core.append(&[block(core.length())]) else { continue };
            refused += 1;
            let said = error.to_string();
            assert!(said.contains("too many files") && said.contains("ulimit -n"), "{said}");
            assert_eq!(core.get(0).unwrap().unwrap(), block(0), "the rest works");
            break;
        }
        drop(taken);
        core.append(&[block(core.length())]).unwrap();
    }
    assert!(refused > 0, "there were always files enough");
    let length = core.length();
    check(&core, length);
    drop((core, database));
    check(&Core::open(&open(), options(0)).unwrap(), length);
}
