//! A disk that is full for a while: for the library, for the daemon, and for npm Corestore afterwards.
//!
//! The test starts itself again in a mount namespace of its own, where it may mount small file systems in memory.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use bytes::Bytes;
use corestore::Corestore;
use hypercore::core::CoreOptions;
use hypercore::storage::{Database, FolderOptions, FsyncPolicy, OpenError};
use hypercore::{Core, Key, KeyPair};
use hyperspace_client::{ClientError, HyperspaceClient};
use hyperspace_common::{Endpoint, code};
use hyperspace_server::{Server, ServerOptions};
use interop::{Lack, Node, json, pattern, skipped};

/// Set in the namespace: the folder of the small file systems.
const INSIDE: &str = "FULL_DISK_FOLDER";
/// Of each file system: some write buffers.
const DISK_MIB: usize = 64;
/// Only to end a hanging test: the engine looks for space every five seconds.
const DEADLINE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    match std::env::var_os(INSIDE) {
        Some(folder) => inside(Path::new(&folder)),
        None => return enter(),
    }
    ExitCode::SUCCESS
}

/// Starts this test again in a namespace with a small file system for each scenario.
fn enter() -> ExitCode {
    let unshare = || {
        let mut command = Command::new("unshare");
        // Root of a user namespace may mount; in some containers only the real one.
        command.args(if rustix::process::geteuid().is_root() { "-m" } else { "-Urm" }.split(' '));
        command
    };
    let folder = tempfile::tempdir().unwrap();
    let mounts: String = SCENARIOS
        .iter()
        .map(|scenario| scenario.name)
        .chain([DAEMON])
        .map(|name| format!("mkdir \"$0/{name}\"; mount -t tmpfs -o size={DISK_MIB}m none \"$0/{name}\"; "))
        .collect();
    let script = |then: &str| format!("set -e; {mounts} {then}");
    let tried = unshare().args(["sh", "-c", &script("true")]).arg(folder.path()).output();
    if !tried.is_ok_and(|tried| tried.status.success()) {
        let why = "no file system can be mounted here (unshare, mount); nothing was tried on a full disk";
        skipped(Lack::of(&["unshare", "mount"]), why);
        return ExitCode::SUCCESS;
    }
    let folder = tempfile::tempdir().unwrap();
    let status = unshare()
        .args(["sh", "-c", &script("exec \"$@\"")])
        .arg(folder.path())
        .arg(std::env::current_exe().unwrap())
        .env(INSIDE, folder.path())
        .status()
        .unwrap();
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn inside(folder: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut scenarios = Vec::new();
    for scenario in &SCENARIOS {
        let disk = Disk(folder.join(scenario.name));
        scenarios.push(std::thread::spawn(move || (disk.clone(), scenario, scenario.run(&disk))));
    }
    runtime.block_on(daemon(&Disk(folder.join(DAEMON))));
    for scenario in scenarios {
        let (disk, scenario, (key, length)) = scenario.join().unwrap();
        runtime.block_on(npm_goes_on(&disk, key, length, scenario.block_size));
    }
}

/// A small file system.
#[derive(Debug, Clone)]
struct Disk(PathBuf);

impl Disk {
    fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    fn ballast(&self) -> PathBuf {
        self.0.join("ballast")
    }

    /// Leaves room for `room` bytes.
    fn fill(&self, room: usize) {
        let mut ballast = File::create(self.ballast()).unwrap();
        let piece = vec![1; 64 * 1024];
        let mut size = 0;
        loop {
            match ballast.write(&piece) {
                Ok(written) => size += written,
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
        ballast.set_len(size.saturating_sub(room) as u64).unwrap();
    }

    fn free(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    /// Copies the store as it stands, while the engine may still merge files and remove what it no longer needs.
    fn copy_of_a_moment(&self) -> tempfile::TempDir {
        for _ in 0..100 {
            let copy = tempfile::tempdir().unwrap();
            let before = self.files();
            let status = Command::new("cp").arg("-r").arg(self.store()).arg(copy.path()).status().unwrap();
            if status.success() && before == self.files() {
                return copy;
            }
        }
        panic!("the files of the store never stand still");
    }

    /// Names and lengths of the engine's files, without what it only tells people.
    fn files(&self) -> BTreeMap<OsString, u64> {
        let entries = fs::read_dir(self.store().join("db")).unwrap().map(Result::unwrap);
        entries
            .filter(|entry| !entry.file_name().to_string_lossy().starts_with("LOG"))
            // Zero for a file that is gone by now: the copy is made again.
            .map(|entry| (entry.file_name(), entry.metadata().map_or(0, |metadata| metadata.len())))
            .collect()
    }
}

/// How a library's store comes to the end of its disk.
struct Scenario {
    name: &'static str,
    fsync: FsyncPolicy,
    block_size: usize,
    write_buffer: usize,
    /// Bytes that are left when it begins.
    room: usize,
}

const MIB: usize = 1024 * 1024;

const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "log",
        fsync: FsyncPolicy::Never,
        block_size: 300,
        write_buffer: 16 * MIB,
        room: 3 * MIB,
    },
    Scenario {
        name: "synced-log",
        fsync: FsyncPolicy::EveryCommit,
        block_size: 300,
        write_buffer: 16 * MIB,
        room: 3 * MIB,
    },
    Scenario {
        name: "timed-log",
        fsync: FsyncPolicy::Interval(Duration::from_millis(1)),
        block_size: 1000,
        write_buffer: 16 * MIB,
        room: 2 * MIB,
    },
    // The engine has no room to sort its buffers into files, and would let writers wait.
    Scenario { name: "files", fsync: FsyncPolicy::Never, block_size: 300, write_buffer: MIB, room: 6 * MIB },
    Scenario {
        name: "blobs",
        fsync: FsyncPolicy::Never,
        block_size: 70_000,
        write_buffer: MIB,
        room: 8 * MIB,
    },
    // The log's file has its room already; the disk ends where the engine begins another one, and it gives up.
    Scenario { name: "next-log", fsync: FsyncPolicy::Never, block_size: 300, write_buffer: MIB, room: 0 },
];

impl Scenario {
    /// Returns the log's key and length.
    fn run(&self, disk: &Disk) -> (Key, u64) {
        let database = self.open(&disk.store()).unwrap();
        let mut core = self.core(&database);
        let mut other = Core::open(&database, CoreOptions::default()).unwrap();
        other.append(&[Bytes::from_static(b"of another log")]).unwrap();
        for _ in 0..50 {
            self.append(&mut core).unwrap();
        }
        disk.fill(self.room);

        let said = loop {
            if let Err(said) = self.append(&mut core) {
                break said;
            }
        };
        self.check_refusal(&said);
        // It was not appended, and neither are the next.
        let length = core.length();
        for _ in 0..20 {
            // Small things may still find room; then they are there.
            let before = core.length();
            match self.append(&mut core) {
                Ok(()) => assert_eq!(core.length(), before + 1),
                Err(said) => {
                    self.check_refusal(&said);
                    assert_eq!(core.length(), before);
                }
            }
        }
        assert!(core.length() - length <= 20);
        self.check_blocks(&core);
        assert_eq!(other.get(0).unwrap().unwrap(), "of another log");
        // What a kill at this moment leaves behind.
        self.check_killed(disk, core.length());

        disk.free();
        let start = Instant::now();
        while let Err(said) = self.append(&mut core) {
            assert!(start.elapsed() < DEADLINE, "{}: still refused: {said}", self.name);
            std::thread::sleep(Duration::from_millis(50));
        }
        for _ in 0..20 {
            self.append(&mut core).unwrap();
        }
        other.append(&[Bytes::from_static(b"and again")]).unwrap();
        println!("{}: {} blocks, back after {} ms", self.name, core.length(), start.elapsed().as_millis());
        let length = core.length();
        drop((core, other, database));

        let reopened = self.open(&disk.store()).unwrap();
        let core = self.core(&reopened);
        assert_eq!(core.length(), length, "{}", self.name);
        self.check_blocks(&core);
        let key = core.key();
        drop((core, reopened));

        self.open_on_a_full_disk(disk, length);
        (key, length)
    }

    fn open(&self, folder: &Path) -> Result<Database, OpenError> {
        let options = FolderOptions {
            fsync: self.fsync,
            write_buffer_bytes: self.write_buffer,
            ..FolderOptions::default()
        };
        Database::open_folder(folder, options)
    }

    fn core(&self, database: &Database) -> Core {
        let key_pair = Some(KeyPair::from_seed(&[7; 32]));
        Core::open(database, CoreOptions { key_pair, ..CoreOptions::default() }).unwrap()
    }

    fn append(&self, core: &mut Core) -> Result<(), String> {
        let block = pattern::block(core.length(), self.block_size, 0);
        core.append(&[block.into()]).map_err(|error| error.to_string())?;
        if matches!(self.fsync, FsyncPolicy::Interval(_)) {
            // As a daemon does it: this is no failure of the append.
            if let Err(error) = core.store().storage().tick(Instant::now()) {
                self.check_refusal(&error.to_string());
            }
        }
        Ok(())
    }

    fn check_refusal(&self, said: &str) {
        assert!(said.contains("the disk is full") && said.contains("free at least"), "{}: {said}", self.name);
    }

    fn check_blocks(&self, core: &Core) {
        assert_eq!(core.contiguous_length(), core.length(), "{}", self.name);
        for index in 0..core.length() {
            let block = core.get(index).unwrap().expect("an acknowledged block");
            assert_eq!(block, pattern::block(index, self.block_size, 0), "{}: block {index}", self.name);
        }
    }

    fn check_killed(&self, disk: &Disk, length: u64) {
        let copy = disk.copy_of_a_moment();
        let store = copy.path().join("store");
        // It tells copies from the original.
        fs::remove_file(store.join("CORESTORE")).unwrap();
        let core = self.core(&self.open(&store).unwrap());
        // The one that was refused may be there: nobody was told that it is not, only that it failed.
        assert!(
            (length..=length + 1).contains(&core.length()),
            "{}: {} of {length}",
            self.name,
            core.length()
        );
        self.check_blocks(&core);
    }

    /// Opening writes a little; either there is room for it, or it says so.
    fn open_on_a_full_disk(&self, disk: &Disk, length: u64) {
        disk.fill(0);
        match self.open(&disk.store()) {
            Ok(database) => assert_eq!(self.core(&database).length(), length),
            Err(error) => assert!(matches!(error, OpenError::DiskFull { .. }), "{}: {error}", self.name),
        }
        disk.free();
        let core = self.core(&self.open(&disk.store()).unwrap());
        assert_eq!(core.length(), length);
        self.check_blocks(&core);
    }
}

/// npm Corestore opens the folder, has every block, and appends; ours has these, too.
async fn npm_goes_on(disk: &Disk, key: Key, length: u64, block_size: usize) {
    let Some(node) = Node::find().await else { return };
    let peer = node.peer(disk.store()).await;
    let info = peer.ask("open", json!({ "core": "log", "key": key.to_hex() })).await;
    assert_eq!(info["length"], length);
    let digest = peer.ask("digest", json!({ "core": "log" })).await;
    assert_eq!(digest["digest"], pattern::digest(0, length, block_size, 0));
    peer.ask("generate", json!({ "core": "log", "count": 10, "size": block_size })).await;
    peer.close().await;
    let database = Database::open_folder(disk.store(), FolderOptions::default()).unwrap();
    let core = Core::open(&database, CoreOptions { key: Some(key), ..CoreOptions::default() }).unwrap();
    assert_eq!(core.length(), length + 10);
    assert_eq!(core.get(length + 9).unwrap().unwrap(), pattern::block(length + 9, block_size, 0));
}

const DAEMON: &str = "daemon";
const BLOCK: usize = 500;

/// The daemon answers the append that it cannot store, serves everybody else, and takes appends again when there is
/// room.
async fn daemon(disk: &Disk) {
    let scratch = tempfile::tempdir().unwrap();
    let socket = scratch.path().join("s.sock");
    let options =
        FolderOptions { fsync: FsyncPolicy::Interval(Duration::from_millis(20)), ..FolderOptions::default() };
    let store = Corestore::open_with(disk.store(), options).unwrap();
    let server = Server::start(ServerOptions {
        store: Some(store),
        socket: Some(socket.clone()),
        ..ServerOptions::default()
    })
    .await
    .unwrap();
    let connect = async || HyperspaceClient::connect_to(&Endpoint::Socket(socket.clone())).await.unwrap();
    let (writer, reader) = (connect().await, connect().await);
    let log = writer.corestore().get_by_name("log").await.unwrap();
    let batch = |start: u64| -> Vec<Bytes> {
        (start..start + 10).map(|index| pattern::block(index, BLOCK, 0).into()).collect()
    };
    let mut length = 0;
    while length < 1000 {
        length = log.append_blocks(&batch(length)).await.unwrap().length;
    }
    disk.fill(2 * MIB);
    let refusal = loop {
        match log.append_blocks(&batch(length)).await {
            Ok(appended) => length = appended.length,
            Err(error) => break error,
        }
    };
    let said = refusal.to_string();
    assert!(said.contains("the disk is full") && said.contains("free at least"), "{said}");
    let ClientError::Rpc(refusal) = refusal else { panic!("{refusal:?}") };
    assert_eq!(refusal.code.as_deref(), Some(code::IO));

    // Reads and other clients go on, also new ones.
    let newcomer = connect().await;
    newcomer.status().await.unwrap();
    for client in [&reader, &newcomer] {
        let copy = client.corestore().get(&log.key()).await.unwrap();
        assert_eq!(copy.length(), length);
        for index in (0..length).step_by(97) {
            assert_eq!(copy.get(index).await.unwrap(), pattern::block(index, BLOCK, 0));
        }
    }

    disk.free();
    let start = Instant::now();
    loop {
        match log.append_blocks(&batch(length)).await {
            Ok(appended) => break length = appended.length,
            Err(error) => assert!(start.elapsed() < DEADLINE, "still refused: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!("the daemon: {length} blocks, back after {} ms", start.elapsed().as_millis());
    let copy = reader.corestore().get(&log.key()).await.unwrap();
    assert_eq!(copy.length(), length);
    for index in 0..length {
        assert_eq!(copy.get(index).await.unwrap(), pattern::block(index, BLOCK, 0), "block {index}");
    }
    let key = log.key();
    server.stop().await;
    npm_goes_on(disk, key, length, BLOCK).await;
}
