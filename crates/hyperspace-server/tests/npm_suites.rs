//! The tests of npm `hyperspace` 3.19.0, as they were published, with the Node server replaced by this daemon.
//!
//! `interop/js-hyperspace/preload.js` does the replacing, where the tests load the server. Everything above it, the
//! client first of all, is the npm packages.

use std::{path::Path, process::Stdio};

use interop::{Node, within};
use tokio::process::Command;

/// What a suite said, in the Test Anything Protocol.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tap {
    passed: usize,
    skipped: usize,
    failed: Vec<String>,
    /// Of how many assertions it said at its end that there were.
    plan: Option<usize>,
}

impl Tap {
    fn parse(text: &str) -> Self {
        let mut tap = Self::default();
        let mut test = "";
        for line in text.lines() {
            if let Some(name) = line.strip_prefix("# ") {
                test = name;
            } else if line.starts_with("not ok ") {
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

/// Runs one file of tests in a folder of its own, and returns how many assertions passed.
async fn suite(file: &str) -> Option<usize> {
    let node = Node::find().await?;
    let folder = tempfile::tempdir().unwrap();
    let said = within(file, run(&node, file, folder.path())).await;
    Some(said)
}

async fn run(node: &Node, file: &str, folder: &Path) -> usize {
    let mut command = Command::from(node.command("js-hyperspace/suite.js", [file]));
    let output = command
        .env("HYPERSPACE_SERVER", env!("CARGO_BIN_EXE_hyperspace-server"))
        .env("TMPDIR", folder)
        .env_remove("HYPERSPACE_SOCKET")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let (said, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let tap = Tap::parse(&said);
    assert!(
        output.status.success() && tap.failed.is_empty() && tap.plan == Some(tap.passed + tap.skipped),
        "{file}: {}, {tap:?}\n{said}\n{complaints}",
        output.status,
    );
    tap.passed
}

// How many assertions there are is what the packages' authors wrote: on the Node server it is the same number.

#[tokio::test(flavor = "multi_thread")]
async fn local() {
    let Some(passed) = suite("hyperspace/test/local.js").await else { return };
    assert_eq!(passed, 67);
}

#[tokio::test(flavor = "multi_thread")]
async fn hypertrie() {
    let Some(passed) = suite("hyperspace/test/hypertrie.js").await else { return };
    assert_eq!(passed, 702);
}

#[tokio::test(flavor = "multi_thread")]
async fn byte_stream() {
    let Some(passed) = suite("hyperspace/test/byte-stream.js").await else { return };
    assert_eq!(passed, 77);
}

#[test]
fn what_a_suite_says_is_understood() {
    let said =
        "TAP version 13\n# one\nok 1 yes\nok 2 later # SKIP\n# two\nnot ok 3 no\n  ---\n1..3\n# tests 3\n";
    let failed = vec!["two: not ok 3 no".into()];
    assert_eq!(Tap::parse(said), Tap { passed: 1, skipped: 1, failed, plan: Some(3) });
}
