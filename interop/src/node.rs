//! Finding Node, and installing the locked npm packages once.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{Lack, Peer, skipped};

/// A usable Node with the packages of `interop/js`, `interop/js-old` and `interop/js-hyperspace` installed.
#[derive(Debug, Clone)]
pub struct Node {
    folder: PathBuf,
}

impl Node {
    /// Finds Node and installs what the lock files name, once per lock file.
    ///
    /// `None`, after a loud line on stderr, where there is no Node: see [`skipped`].
    ///
    /// # Panics
    ///
    /// In CI (`CI` set) when Node is missing, and anywhere when the packages cannot be installed: a suite that silently
    /// tests nothing is worse than a red one.
    pub async fn find() -> Option<Self> {
        let found = tokio::task::spawn_blocking(prepare).await.expect("the installing thread does not panic");
        match found {
            Ok(Some(node)) => Some(node),
            Ok(None) => {
                skipped(Lack::Needed, "no `node` on PATH; the tests against the npm peers did not run");
                None
            }
            Err(err) => panic!("{err:#}"),
        }
    }

    /// A Corestore 7 with hypercore 11 on `folder` (`interop/js/peer.js`).
    pub async fn peer(&self, folder: impl AsRef<Path>) -> Peer {
        self.run("js/peer.js", [folder.as_ref()]).await
    }

    /// A corestore 6 with hypercore 10 on `folder` (`interop/js/peer10.js`).
    pub async fn peer10(&self, folder: impl AsRef<Path>) -> Peer {
        self.run("js/peer10.js", [folder.as_ref()]).await
    }

    /// Any of the scripts that speak JSON lines, by its path under `interop/`.
    pub async fn run<S: AsRef<OsStr>>(&self, script: &str, args: impl IntoIterator<Item = S>) -> Peer {
        Peer::spawn(self.command(script, args), script).await
    }

    /// [`Node::run`], by a command that runs the rest of its line: in another network namespace, say.
    pub async fn run_through<S: AsRef<OsStr>>(
        &self,
        through: &[String],
        script: &str,
        args: impl IntoIterator<Item = S>,
    ) -> Peer {
        let (program, first) = through.split_first().expect("a command has a name");
        let mut command = Command::new(program);
        command.args(first).arg("node").arg(self.folder.join(script)).args(args);
        Peer::spawn(command, script).await
    }

    /// The command that runs a script under `interop/`, for those that speak no JSON lines.
    pub fn command<S: AsRef<OsStr>>(&self, script: &str, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("node");
        command.arg(self.folder.join(script)).args(args);
        command
    }
}

fn prepare() -> Result<Option<Node>> {
    match Command::new("node").arg("--version").output() {
        Ok(output) if output.status.success() => {}
        Ok(_) => bail!("`node --version` fails; the Node on PATH is broken"),
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(err) => return Err(err).context("running `node --version`"),
    }
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    for packages in ["js", "js-old", "js-hyperspace"] {
        install(&folder.join(packages))?;
    }
    Ok(Some(Node { folder }))
}

/// `npm ci`, unless what is installed came from this very lock file. Test binaries run side by side, hence the file lock.
fn install(folder: &Path) -> Result<()> {
    let lock = File::create(folder.join(".install-lock")).context("creating the lock of the npm packages")?;
    lock.lock().context("waiting for another test that installs the npm packages")?;

    let wanted = folder.join("package-lock.json");
    let installed = folder.join("node_modules/.installed-lock");
    let wanted_text = fs::read(&wanted).with_context(|| format!("reading {}", wanted.display()))?;
    if fs::read(&installed).is_ok_and(|text| text == wanted_text) {
        return Ok(());
    }
    let output = Command::new("npm").arg("ci").current_dir(folder).output().context("running `npm ci`")?;
    if !output.status.success() {
        bail!("`npm ci` failed in {}:\n{}", folder.display(), String::from_utf8_lossy(&output.stderr));
    }
    fs::write(&installed, wanted_text).context("noting what is installed")
}
