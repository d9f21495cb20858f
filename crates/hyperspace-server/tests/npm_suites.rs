//! The tests of npm `hyperspace` 3.19.0 and `hyperdrive` 10.21.0, as they were published, with the Node server replaced
//! by this daemon.
//!
//! `interop/js-hyperspace/preload.js` does the replacing, where the tests load the server. Everything above it, the
//! client first of all, is the npm packages.

use std::process::Stdio;

use interop::{Node, within};
use tokio::process::Command;

/// What a suite said, in the Test Anything Protocol.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tap {
    passed: usize,
    skipped: usize,
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
                if line.contains("# SKIP") { tap.skipped += 1 } else { tap.passed += 1 }
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
    if output.status.success() && tap.failed.is_empty() && tap.plan == Some(tap.passed + tap.skipped) {
        return Some(Ok(tap));
    }
    let why = format!("{files:?}: {}, {tap:?}\n{said}\n{complaints}", output.status);
    Some(Err((tap, why)))
}

/// Runs files of tests that have to pass; false without Node. How many assertions there are is what the packages'
/// authors wrote: on the Node server it is the same number.
async fn passes(files: &[&str], passed: usize, skipped: usize) -> bool {
    match suite(files, SLOWNESS[0]).await {
        None => false,
        Some(Err((_, why))) => panic!("{why}"),
        Some(Ok(tap)) => {
            assert_eq!((tap.passed, tap.skipped), (passed, skipped));
            true
        }
    }
}

/// How slow things are made for tests that count on a network faster than themselves (`interop/js-hyperspace/races.js`),
/// at the first attempt and at those after it, which are for machines where that is not slow enough.
const SLOWNESS: [u32; 3] = [5, 15, 50];

#[tokio::test(flavor = "multi_thread")]
async fn local() {
    passes(&["hyperspace/test/local.js"], 67, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hypertrie() {
    passes(&["hyperspace/test/hypertrie.js"], 702, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn byte_stream() {
    passes(&["hyperspace/test/byte-stream.js"], 77, 0).await;
}

/// On the Node server, "can read a live stream" failed in two of three runs: it sleeps for 100 ms and takes it that
/// another process has been found, connected and read meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn networked() {
    passes_on_a_fast_network(&["hyperspace/test/networked.js"], 52, 0).await;
}

/// Runs files of tests of which some count on a network faster than themselves: when one of those fails, once more.
async fn passes_on_a_fast_network(files: &[&str], passed: usize, skipped: usize) {
    let mut failures = String::new();
    for slowness in SLOWNESS {
        match suite(files, slowness).await {
            None => return,
            Some(Ok(tap)) => {
                assert_eq!((tap.passed, tap.skipped), (passed, skipped));
                return;
            }
            Some(Err((tap, why))) => {
                failures.push_str(&why);
                assert!(tap.was_fast, "{failures}");
            }
        }
    }
    panic!("{failures}");
}

/// Npm hyperdrive's tests: every store is that of a daemon, and stores that a test connects by a stream are daemons that
/// find each other in the swarm. What is left out says why (`interop/js-hyperspace/standin-tape.js`).
#[tokio::test(flavor = "multi_thread")]
async fn hyperdrive() {
    let files = [
        "basic", "checkout", "creation", "deletion", "diff", "fd", "stat", "watch", "mount", "symlink",
        "readdir", "tagging",
    ];
    let files = files.map(|file| format!("hyperdrive/test/{file}.js"));
    passes_on_a_fast_network(&files.each_ref().map(String::as_str), 654, 12).await;
}

#[test]
fn what_a_suite_says_is_understood() {
    let said =
        "TAP version 13\n# one\nok 1 yes\nok 2 later # SKIP\n# two\nnot ok 3 no\n  ---\n1..3\n# tests 3\n";
    let failed = vec!["two: not ok 3 no".into()];
    assert_eq!(Tap::parse(said), Tap { passed: 1, skipped: 1, failed, was_fast: false, plan: Some(3) });
    assert!(Tap::parse("# one\n# slowed\nnot ok 1 no\n# two\nnot ok 2 no").was_fast);
    assert!(!Tap::parse("# one\nnot ok 1 no\n# two\n# slowed\nnot ok 2 no").was_fast);
}
