//! `--json` and `--z32`, with every subcommand there is.

mod common;

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader},
    process::Stdio,
};

use common::{Fixture, json};
use hypercore::Key;
use hyperspace_client::{HyperspaceClient, RemoteHypercore};
use hyperspace_server::{Server, ServerOptions};
use serde_json::Value;

/// A subcommand, `KEY` being that of `log`, and what it prints.
struct Case {
    line: &'static str,
    input: &'static [u8],
    /// Of each object.
    fields: &'static str,
    /// Keys in what it prints without `--json`.
    keys: Keys,
}

#[derive(Clone, Copy, PartialEq)]
enum Keys {
    None,
    /// As `--z32` says.
    Chosen,
    /// In both writings.
    Both,
}

const fn case(line: &'static str, fields: &'static str, keys: Keys) -> Case {
    Case { line, input: b"", fields, keys }
}

/// In an order in which they find what they are about. `tail` has no end, and `stop` is the end of all.
const CASES: &[Case] = &[
    case("create -n log", "key length", Keys::Chosen),
    Case { input: b"two\n", ..case("write -n log", "blocks bytes key length", Keys::Chosen) },
    case("read -n log", "index text", Keys::None),
    case(
        "info -n log",
        "byteLength contiguousLength discoveryKey fork key length peers signers stored writable",
        Keys::Both,
    ),
    case("download -n log", "blocks bytes fetched key seconds", Keys::None),
    case("seed -n log", "announce discoveryKey key length lookup name remember stored", Keys::Chosen),
    case("network status", "holepunchable peers publicKey remoteAddress topics", Keys::Chosen),
    case("network status -n log", "holepunchable peers publicKey remoteAddress topics", Keys::Chosen),
    case("unseed -k KEY", "announce discoveryKey key lookup name remember", Keys::None),
    case(
        "ls",
        "byteLength contiguousLength discoveryKey fork key length name open peers writable",
        Keys::Chosen,
    ),
    case("peers", "address publicKey type", Keys::Chosen),
    case("peers -n log", "address publicKey type", Keys::Chosen),
    case(
        "status",
        "apiVersion clients holepunchable openCores peers publicKey remoteAddress uptimeSeconds version",
        Keys::Chosen,
    ),
];

/// They print what is for shells and readers of manuals.
const WITHOUT_A_DAEMON: [&str; 2] = ["completions", "man"];

/// Two daemons: `demo` has the core `log` and a peer, `other`, that has it open as long as this lives.
struct Two {
    demo: Fixture,
    other: Option<Server>,
    /// There.
    log: RemoteHypercore,
}

impl Two {
    fn start() -> Self {
        let options = ServerOptions { peer_listen: Some("127.0.0.1:0".into()), ..ServerOptions::default() };
        let demo = Fixture::with_options(options);
        let address = demo.server.as_ref().unwrap().peer_address().unwrap();
        let key = demo.ok("-h demo -n log write", b"one\n").trim_end().parse().unwrap();
        let path = demo.folder.path().join("other.sock");
        let (other, log) = demo.runtime.block_on(async {
            let (socket, connect) = (Some(path.clone()), vec![address.to_string()]);
            let options = ServerOptions { socket, connect, ..ServerOptions::default() };
            let other = Server::start(options).await.unwrap();
            let client = HyperspaceClient::connect(path.to_str()).await.unwrap();
            let log = client.corestore().get(&key).await.unwrap();
            // Who has it is a peer by then.
            assert_eq!(log.wait_for_block(0).await.unwrap(), "one");
            (other, log)
        });
        Self { demo, other: Some(other), log }
    }
}

impl Two {
    /// Runs it on `demo` to a good end.
    fn ok(&self, case: &Case, options: &str) -> String {
        let line = case.line.replace("KEY", &self.log.key().to_hex());
        self.demo.ok(&format!("-h demo {line} {options}"), case.input)
    }
}

impl Drop for Two {
    fn drop(&mut self) {
        if let Some(other) = self.other.take() {
            self.demo.runtime.block_on(other.stop());
        }
    }
}

/// All keys in what is printed as JSON, and whether each is in z-base-32.
fn keys_of(value: &Value) -> Vec<(Key, bool)> {
    let read = |value: &Value| {
        let shown = value.as_str().unwrap_or_else(|| panic!("{value} is no key"));
        (shown.parse().unwrap(), shown.len() == 52)
    };
    match value {
        Value::Array(values) => values.iter().flat_map(keys_of).collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, value)| match name.as_str() {
                "key" | "discoveryKey" | "publicKey" => vec![read(value)],
                "signers" => value.as_array().unwrap().iter().map(read).collect(),
                _ => keys_of(value),
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn fields_of(object: &Value) -> String {
    let fields = object.as_object().unwrap_or_else(|| panic!("{object} is no object"));
    let names: BTreeSet<_> = fields.keys().map(String::as_str).collect();
    names.into_iter().collect::<Vec<_>>().join(" ")
}

/// Runs it with `--json`; what it says of keys.
fn objects(two: &Two, case: &Case, z32: &str) -> Vec<Key> {
    let printed = two.ok(case, &format!("--json {z32}"));
    assert!(!printed.is_empty(), "{}", case.line);
    let mut keys = Vec::new();
    for line in printed.lines() {
        let object = json(line);
        assert_eq!(fields_of(&object), case.fields, "{}", case.line);
        for (key, is_z32) in keys_of(&object) {
            assert_eq!(is_z32, !z32.is_empty(), "{} {z32}: {line}", case.line);
            keys.push(key);
        }
    }
    keys
}

#[test]
fn every_command_prints_json_and_keys_either_way() {
    let two = Two::start();
    for case in CASES {
        assert_eq!(objects(&two, case, ""), objects(&two, case, "--z32"), "{}", case.line);
        for (z32, length) in [("", 64), ("--z32", 52)] {
            let text = two.ok(case, z32);
            let keys = text.split_whitespace().filter(|word| word.parse::<Key>().is_ok());
            let lengths: BTreeSet<_> = keys.map(str::len).collect();
            let expected = match case.keys {
                Keys::None => BTreeSet::new(),
                Keys::Chosen => BTreeSet::from([length]),
                Keys::Both => BTreeSet::from([64, 52]),
            };
            assert_eq!(lengths, expected, "{} {z32}: {text}", case.line);
        }
    }
    assert_eq!(json(&two.demo.ok("-h demo stop --json --z32", b"")), serde_json::json!({ "stopped": true }));
}

/// It goes on until it is ended.
#[test]
fn so_does_the_tail() {
    let fixture = Fixture::start();
    fixture.ok("-h demo -n log write", b"one\ntwo\n");
    let mut command = fixture.command("-h demo tail -n log --json --z32");
    let mut tail = command.stdout(Stdio::piped()).spawn().unwrap();
    for line in BufReader::new(tail.stdout.take().unwrap()).lines().take(2) {
        assert_eq!(fields_of(&json(&line.unwrap())), "index text");
    }
    tail.kill().unwrap();
    tail.wait().unwrap();
}

#[test]
fn no_command_is_left_out() {
    let help = Fixture::start().ok("--help", b"");
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.is_empty());
    let commands: BTreeSet<_> = commands.map(|line| line.split_whitespace().next().unwrap()).collect();
    let cases = CASES.iter().map(|case| case.line.split(' ').next().unwrap());
    let known: BTreeSet<_> = cases.chain(["tail", "stop"]).chain(WITHOUT_A_DAEMON).collect();
    assert_eq!(commands, known);
}

#[test]
fn the_list_has_the_peers_of_each_core() {
    let two = Two::start();
    two.demo.ok("-h demo create -n alone", b"");
    for daemon in ["demo", "other"] {
        let listed = two.demo.ok(&format!("-h {daemon} ls --json"), b"");
        let rows: Vec<_> = listed.lines().map(json).collect();
        let shared = rows.iter().find(|row| row["length"] == 1).unwrap();
        assert_eq!(shared["peers"], 1, "{daemon}: {listed}");
        assert!(rows.iter().all(|row| row["name"] != "alone" || row["peers"] == 0), "{listed}");
        let table = two.demo.ok(&format!("-h {daemon} ls"), b"");
        let column = |line: &str| line.split_whitespace().nth(5).map(str::to_owned);
        let heading = table.lines().next().unwrap();
        assert_eq!(heading.split_whitespace().nth(4), Some("PEERS"), "{heading}");
        let row = table.lines().find(|line| line.starts_with(shared["key"].as_str().unwrap())).unwrap();
        // A size is two words.
        assert_eq!(column(row).as_deref(), Some("1"), "{table}");
    }
}
