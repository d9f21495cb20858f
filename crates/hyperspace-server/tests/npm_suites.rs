//! The tests of npm `hyperspace` 3.19.0 and `hyperdrive` 10.21.0, as they were published, with the Node server replaced
//! by this daemon.
//!
//! `interop/js-hyperspace/preload.js` does the replacing, where the tests load the server. Everything above it, the
//! client first of all, is the npm packages.

use std::process::Stdio;

use interop::{Node, say, within};
use tokio::process::Command;

/// What a suite said, in the Test Anything Protocol.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tap {
    passed: usize,
    /// The tests that were left out, and why.
    skipped: Vec<String>,
    failed: Vec<String>,
    /// The first one that failed is one that counts on a network faster than itself.
    was_fast: bool,
    /// Of how many assertions it said at its end that there were.
    plan: Option<usize>,
}

impl Tap {
    fn parse(text: &str) -> Self {
        let mut tap = Self::default();
        let (mut test, mut slowed) = ("", false);
        for line in text.lines() {
            if line == "# slowed" {
                slowed = true;
            } else if let Some(name) = line.strip_prefix("# ") {
                (test, slowed) = (name, false);
            } else if line.starts_with("not ok ") {
                tap.was_fast |= slowed && tap.failed.is_empty();
                tap.failed.push(format!("{test}: {line}"));
            } else if line.starts_with("ok ") {
                match line.strip_suffix(" # SKIP").and_then(|line| line.splitn(3, ' ').nth(2)) {
                    Some(why) => tap.skipped.push(format!("{test}: {why}")),
                    None => tap.passed += 1,
                }
            } else if let Some(plan) = line.strip_prefix("1..") {
                tap.plan = plan.trim().parse().ok();
            }
        }
        tap
    }
}

/// Runs files of tests in a folder of their own, and returns what they said once all of it passed.
async fn suite(files: &[&str], slowness: u32) -> Option<Result<Tap, (Tap, String)>> {
    let node = Node::find().await?;
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::from(node.command("js-hyperspace/suite.js", files));
    let output = command
        .env("HYPERSPACE_SERVER", env!("CARGO_BIN_EXE_hyperspace-server"))
        .env("HYPERSPACE_SLOWNESS", slowness.to_string())
        .env("TMPDIR", folder.path())
        .env_remove("HYPERSPACE_SOCKET")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = within(files[0], output).await.unwrap();
    let (said, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let tap = Tap::parse(&said);
    if output.status.success() && tap.failed.is_empty() && tap.plan == Some(tap.passed + tap.skipped.len()) {
        return Some(Ok(tap));
    }
    let why = format!("{files:?}: {}, {tap:?}\n{said}\n{complaints}", output.status);
    Some(Err((tap, why)))
}

/// Runs files of tests that have to pass, all of them. How many assertions there are is what the packages'
/// authors wrote: on the Node server it is the same number.
async fn passes(files: &[&str], passed: usize) {
    match suite(files, SLOWNESS[0]).await {
        None => {}
        Some(Err((_, why))) => panic!("{why}"),
        Some(Ok(tap)) => assert_eq!((tap.passed, &tap.skipped[..]), (passed, &[][..])),
    }
}

/// How slow things are made for tests that count on a network faster than themselves (`interop/js-hyperspace/races.js`),
/// at the first attempt and at those after it, which are for machines where that is not slow enough.
const SLOWNESS: [u32; 3] = [5, 15, 50];

#[tokio::test(flavor = "multi_thread")]
async fn local() {
    passes(&["hyperspace/test/local.js"], 67).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hypertrie() {
    passes(&["hyperspace/test/hypertrie.js"], 702).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn byte_stream() {
    passes(&["hyperspace/test/byte-stream.js"], 77).await;
}

/// Without slowing anything, the Node server fails some of them nearly always: `docs/node-programs.md` has the figures.
#[tokio::test(flavor = "multi_thread")]
async fn networked() {
    passes_on_a_fast_network(&["hyperspace/test/networked.js"], 52, &[]).await;
}

/// Runs files of tests of which some count on a network faster than themselves: when one of those fails, once more. What
/// failed is shown although the test passes: what does so often is seen.
async fn passes_on_a_fast_network(files: &[&str], passed: usize, skipped: &[&str]) {
    let mut failures = String::new();
    for slowness in SLOWNESS {
        match suite(files, slowness).await {
            None => return,
            Some(Ok(tap)) => {
                assert_eq!(
                    (tap.passed, tap.skipped),
                    (passed, skipped.iter().copied().map(String::from).collect())
                );
                return;
            }
            Some(Err((tap, why))) => {
                failures.push_str(&why);
                assert!(tap.was_fast, "{failures}");
                say(&format!(
                    "*** FAILED with slowness {slowness}, is tried with more: {:#?} ***",
                    tap.failed
                ));
            }
        }
    }
    panic!("{failures}");
}

/// What of npm hyperdrive's tests is left out.
const LEFT_OUT: [&str; 18] = [
    "provide keypair: the RPC has no words for the key pair of a core",
    "fd close cancels pending reads: it does something to the stream between stores",
    "opening a writable fd on a read-only drive errors: it does something to the stream between stores",
    "can watch multiple mounts: it counts on events in the tick in which a write is done",
    "can watch nested mounts: it counts on events in the tick in which a write is done",
    "can watch cyclic mounts: it counts on events in the tick in which a write is done",
    "update does not clear the mount: it makes a store of its own",
    "can list in-memory mounts recursively: it is empty",
    "dynamically resolves cross-mount symlinks: it is empty",
    "symlinks cannot break the sandbox: it is empty",
    "versioned mount: it is empty",
    "watch will unwatch on umount: it is empty",
    "drive mirroring: it counts on an answer of downloaded() in the same tick",
    "can cancel a mirror: it counts on an answer of downloaded() in the same tick",
    "calling mirror is idempotent: it counts on an answer of downloaded() in the same tick",
    "mirroring also mirrors mounts: it counts on an answer of downloaded() in the same tick",
    "mirroring mirrors dynamically-added mounts: it counts on an answer of downloaded() in the same tick",
    "last unmirror will clean up if mirror is called many times: it counts on an answer of downloaded() in the same tick",
];

/// Npm hyperdrive's tests: every store is that of a daemon, and stores that a test connects by a stream are daemons that
/// find each other in the swarm. Tests that are left out say why (`interop/js-hyperspace/standin-tape.js`); so does
/// `docs/node-programs.md` of the files that are: `clear`, `storage`, `fuzzing`.
#[tokio::test(flavor = "multi_thread")]
async fn hyperdrive() {
    let files = [
        "basic", "checkout", "creation", "deletion", "diff", "fd", "stat", "watch", "mount", "symlink",
        "readdir", "tagging", "download",
    ];
    let files = files.map(|file| format!("hyperdrive/test/{file}.js"));
    passes_on_a_fast_network(&files.each_ref().map(String::as_str), 707, &LEFT_OUT).await;
}

#[test]
fn what_a_suite_says_is_understood() {
    let said = "TAP version 13\n# one\nok 1 yes\nok 2 in a while # SKIP\n# two\nnot ok 3 no\n  ---\n1..3\n# tests 3\n";
    let (skipped, failed) = (vec!["one: in a while".into()], vec!["two: not ok 3 no".into()]);
    assert_eq!(Tap::parse(said), Tap { passed: 1, skipped, failed, was_fast: false, plan: Some(3) });
    assert!(Tap::parse("# one\n# slowed\nnot ok 1 no\n# two\nnot ok 2 no").was_fast);
    assert!(!Tap::parse("# one\nnot ok 1 no\n# two\n# slowed\nnot ok 2 no").was_fast);
}
