//! The daemon as a process, and what it takes.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use hyperspace_client::HyperspaceClient;
use hyperspace_common::Endpoint;

/// The name of its socket.
pub(crate) const NAME: &str = "load";

/// A running daemon with a store in a folder. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    folder: PathBuf,
}

/// What the operating system says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    pub(crate) sockets: usize,
    /// Open files of every kind.
    pub(crate) files: usize,
    pub(crate) threads: usize,
    pub(crate) resident_kib: u64,
}

impl Daemon {
    pub(crate) fn start(folder: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_hyperspace-server"))
            .args(["--offline", "-v", "-h", NAME, "-s"])
            .arg(folder.join("store"))
            .env("TMPDIR", folder)
            .env_remove("HYPERSPACE_LOG")
            .stdout(Stdio::piped())
            .stderr(fs::File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("Listening on "), "{line}");
        Self { child, folder: folder.to_owned() }
    }

    pub(crate) async fn client(&self) -> HyperspaceClient {
        let socket = self.folder.join(NAME).with_extension("sock");
        HyperspaceClient::connect_to(&Endpoint::Socket(socket)).await.unwrap()
    }

    /// The folder of its socket: what a client has as its folder for temporary files.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn usage(&self) -> Usage {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let files: Vec<PathBuf> = fs::read_dir(process.join("fd"))
            .expect("the daemon lives")
            // A file may be closed between the list and the look.
            .filter_map(|file| fs::read_link(file.ok()?.path()).ok())
            .collect();
        let sockets = files.iter().filter(|file| file.to_string_lossy().starts_with("socket:")).count();
        let status = fs::read_to_string(process.join("status")).expect("the daemon lives");
        let number = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().trim_end_matches(" kB").parse().unwrap()
        };
        Usage {
            sockets,
            files: files.len(),
            threads: number("Threads") as usize,
            resident_kib: number("VmRSS"),
        }
    }

    /// Why clients were let go, and whatever else it had to say.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Ends it in order.
    pub(crate) async fn stop(mut self) {
        self.client().await.stop().await.unwrap();
        let status = tokio::task::block_in_place(|| self.child.wait()).unwrap();
        assert!(status.success(), "{status}\n{}", self.log());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
