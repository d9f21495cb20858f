//! One store folder, handed back and forth between npm Corestore 7.12.5 and ours: closed properly, and killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use bytes::Bytes;
use hypercore::storage::{Database, FolderOptions};
use hypercore::{Hypercore, Key};
use interop::{Node, Peer, hex, json, key, pattern};

/// What a log must hold. Both sides change it and the log in the same way.
struct Model {
    label: &'static str,
    key: Key,
    /// `None` where the block was cleared.
    blocks: Vec<Option<Bytes>>,
    fork: u64,
    /// JS gives up tree nodes with the blocks that it clears, and then no longer knows older tree hashes.
    clears: bool,
}

impl Model {
    fn digest(&self, start: u64, end: u64) -> String {
        let mut digest = pattern::Digest::default();
        for block in &self.blocks[start as usize..end as usize] {
            digest.add(block.as_ref().expect("only held blocks are compared"));
        }
        digest.finish()
    }

    /// The ranges of blocks that are held.
    fn held(&self) -> Vec<(u64, u64)> {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for (index, _) in self.blocks.iter().enumerate().filter(|(_, block)| block.is_some()) {
            let index = index as u64;
            match ranges.last_mut() {
                Some(last) if last.1 == index => last.1 += 1,
                _ => ranges.push((index, index + 1)),
            }
        }
        ranges
    }

    fn length(&self) -> u64 {
        self.blocks.len() as u64
    }
}

/// What happens to a log in one round.
struct Round {
    truncate: Option<u64>,
    append: Vec<Bytes>,
    clear: Option<(u64, u64)>,
}

impl Round {
    fn new(round: u32, model: &Model) -> Self {
        let length = model.length();
        let truncate = (round % 4 == 3).then(|| length - length / 4);
        let append = (0..5 + u64::from(round) * 7 % 40)
            .map(|at| {
                let size = (at as usize * 611 + round as usize * 97) % 5000;
                pattern::block(at, size, round + 1).into()
            })
            .collect();
        let clear =
            (model.clears && length > 20).then(|| (length / 3, length / 3 + u64::from(round % 5) + 1));
        Self { truncate, append, clear }
    }

    fn apply(&self, model: &mut Model) {
        if let Some(length) = self.truncate {
            model.blocks.truncate(length as usize);
            model.fork += 1;
        }
        model.blocks.extend(self.append.iter().cloned().map(Some));
        if let Some((start, end)) = self.clear {
            model.blocks[start as usize..end as usize].fill(None);
        }
    }
}

async fn theirs(peer: &Peer, model: &mut Model, round: u32) {
    let label = model.label;
    peer.ask("open", json!({ "core": label, "key": model.key.to_hex() })).await;
    let change = Round::new(round, model);
    check_theirs(peer, model).await;
    if let Some(length) = change.truncate {
        peer.ask("truncate", json!({ "core": label, "length": length })).await;
    }
    let blocks: Vec<String> = change.append.iter().map(hex).collect();
    peer.ask("append", json!({ "core": label, "blocks": blocks })).await;
    if let Some((start, end)) = change.clear {
        peer.ask("clear", json!({ "core": label, "start": start, "end": end })).await;
    }
    change.apply(model);
    check_theirs(peer, model).await;
}

async fn check_theirs(peer: &Peer, model: &Model) {
    let label = model.label;
    let info = peer.ask("info", json!({ "core": label })).await;
    assert_eq!(info["length"], model.length(), "{label}");
    assert_eq!(info["fork"], model.fork, "{label}");
    assert_eq!(info["writable"], true, "{label}");
    for (start, end) in model.held() {
        let range = json!({ "core": label, "start": start, "end": end });
        assert_eq!(
            peer.ask("digest", range).await["digest"],
            model.digest(start, end),
            "{label} {start}..{end}"
        );
    }
    for (index, _) in model.blocks.iter().enumerate().filter(|(_, block)| block.is_none()) {
        assert_eq!(peer.ask("has", json!({ "core": label, "start": index })).await, false, "{label} {index}");
    }
}

fn ours(database: &Database, model: &mut Model, round: u32) -> Hypercore {
    let core = Hypercore::builder().key(model.key).create_if_missing(false).open(database).unwrap();
    let change = Round::new(round, model);
    check_ours(&core, model);
    if let Some(length) = change.truncate {
        core.truncate(length).unwrap();
    }
    core.append_batch(change.append.iter().cloned()).unwrap();
    if let Some((start, end)) = change.clear {
        core.clear(start..end).unwrap();
    }
    change.apply(model);
    check_ours(&core, model);
    core
}

fn check_ours(core: &Hypercore, model: &Model) {
    let label = model.label;
    assert_eq!(core.length(), model.length(), "{label}");
    assert_eq!(core.fork(), model.fork, "{label}");
    assert!(core.writable(), "{label}");
    for (index, block) in (0..).zip(&model.blocks) {
        assert_eq!(core.try_get(index).unwrap().as_ref(), block.as_ref(), "{label} {index}");
        assert_eq!(core.has(index).unwrap(), block.is_some(), "{label} {index}");
    }
}

/// The tree hash at every length, and the signature, as both see them.
async fn compare_trees(peer: &Peer, model: &Model, hashes: &[String], signature: &str) {
    let label = model.label;
    if !model.clears {
        assert_eq!(peer.ask("treeHashes", json!({ "core": label })).await, json!(hashes), "{label}");
    }
    let info = peer.ask("info", json!({ "core": label })).await;
    assert_eq!(info["treeHash"], hashes.last().cloned().unwrap_or_default(), "{label}");
    assert_eq!(info["signature"], signature, "{label}");
}

fn trees(core: &Hypercore, model: &Model) -> (Vec<String>, String) {
    let guard = core.lock();
    let length = guard.core().length();
    let first = if model.clears { length } else { 1 };
    let hashes = (first..=length).map(|length| hex(guard.core().tree_hash_at(length).unwrap()));
    (hashes.collect(), guard.core().head().signature.clone().map(hex).unwrap_or_default())
}

fn open(folder: &Path) -> Database {
    Database::open_folder(folder, FolderOptions::default()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_handed_over_twenty_times_keeps_every_block_and_tree() {
    let Some(node) = Node::find().await else { return };
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("store");

    // Half of the logs begin there, half here.
    let mut models = Vec::new();
    let peer = node.peer(&folder).await;
    for (label, made) in [
        ("theirs", json!({ "core": "theirs", "name": "a name" })),
        ("theirs, compat", json!({ "core": "theirs, compat", "seed": hex([1; 32]), "compat": true })),
        ("theirs, cleared", json!({ "core": "theirs, cleared", "seed": hex([2; 32]) })),
    ] {
        let key = key(&peer.ask("open", made).await);
        models.push(Model { label, key, blocks: Vec::new(), fork: 0, clears: label.ends_with("cleared") });
    }
    peer.close().await;
    {
        let database = open(&folder);
        for (label, builder) in [
            ("ours", Hypercore::builder()),
            ("ours, compat", Hypercore::builder().seed([3; 32]).compat(true)),
            ("ours, cleared", Hypercore::builder().seed([4; 32])),
        ] {
            let key = builder.open(&database).unwrap().key();
            models.push(Model {
                label,
                key,
                blocks: Vec::new(),
                fork: 0,
                clears: label.ends_with("cleared"),
            });
        }
    }

    let mut seen: Vec<(Vec<String>, String)> = Vec::new();
    for round in 0..20 {
        if round % 2 == 0 {
            let peer = node.peer(&folder).await;
            for (at, model) in models.iter_mut().enumerate() {
                if let Some((hashes, signature)) = seen.get(at) {
                    peer.ask("open", json!({ "core": model.label, "key": model.key.to_hex() })).await;
                    compare_trees(&peer, model, hashes, signature).await;
                }
                theirs(&peer, model, round).await;
            }
            peer.close().await;
        } else {
            let database = open(&folder);
            seen = models
                .iter_mut()
                .map(|model| {
                    let core = ours(&database, model, round);
                    trees(&core, model)
                })
                .collect();
        }
    }
}

/// The order of a group, which npm keeps, is kept here, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_core_moves_in_its_group_whoever_changes_it() {
    let Some(node) = Node::find().await else { return };
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("store");
    let topic = json!({ "topic": hex([8; 32]) });
    let order = async |peer: &Peer| {
        let group = peer.ask("group", topic.clone()).await;
        let keys = group["keys"].as_array().unwrap().iter();
        keys.map(|key| key.as_str().unwrap().parse().unwrap()).collect::<Vec<Key>>()
    };
    let append = async |peer: &Peer, label: &str| {
        peer.ask("append", json!({ "core": label, "blocks": [hex(b"theirs")] })).await;
    };

    let peer = node.peer(&folder).await;
    let mut keys = Vec::new();
    for label in ["a", "b", "c"] {
        keys.push(key(&peer.ask("open", json!({ "core": label, "name": label })).await));
        peer.ask("setGroup", json!({ "core": label, "topic": hex([8; 32]) })).await;
        append(&peer, label).await;
    }
    let [a, b, c] = keys[..] else { panic!() };
    assert_eq!(order(&peer).await, [a, b, c]);
    peer.close().await;

    {
        let database = open(&folder);
        Hypercore::builder().key(b).open(&database).unwrap().append("ours").unwrap();
    }
    let peer = node.peer(&folder).await;
    peer.ask("open", json!({ "core": "a", "key": a.to_hex() })).await;
    peer.ask("open", json!({ "core": "b", "key": b.to_hex() })).await;
    assert_eq!(order(&peer).await, [a, c, b]);
    append(&peer, "a").await;
    assert_eq!(order(&peer).await, [c, b, a]);
    append(&peer, "b").await;
    assert_eq!(order(&peer).await, [c, a, b]);
    peer.close().await;
}

/// Kills the JS writer in the middle of its work, reads what it left, goes on, and gives it back, several times.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_whose_npm_writer_was_killed_opens_here() {
    let Some(node) = Node::find().await else { return };
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("store");
    let peer = node.peer(&folder).await;
    let key = key(&peer.ask("open", json!({ "core": "log", "name": "log" })).await);
    peer.close().await;

    for round in 0..6 {
        let args = [folder.to_str().unwrap(), "log", "100", if round % 2 == 0 { "1" } else { "50" }];
        let acknowledged = killed_after(node.command("js/writer.js", args), 300 + 70 * round);

        let database = open(&folder);
        let core = Hypercore::builder().key(key).create_if_missing(false).open(&database).unwrap();
        assert!(core.length() >= acknowledged, "{} of {acknowledged} acknowledged blocks", core.length());
        check_pattern(&core);
        core.append_batch((core.length()..core.length() + 10).map(|index| pattern::block(index, 100, 0)))
            .unwrap();
        let (length, tree) = (core.length(), hex(core.tree_hash()));
        drop((core, database));

        let peer = node.peer(&folder).await;
        peer.ask("open", json!({ "core": "log", "name": "log" })).await;
        assert_eq!(peer.ask("info", json!({ "core": "log" })).await["treeHash"], tree);
        let digest = peer.ask("digest", json!({ "core": "log" })).await;
        assert_eq!(digest["digest"], pattern::digest(0, length, 100, 0));
        peer.close().await;
    }
}

/// The same with the writer on our side.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_whose_writer_here_was_killed_opens_in_npm() {
    let Some(node) = Node::find().await else { return };
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("store");
    let key = {
        let database = open(&folder);
        Hypercore::builder().seed([8; 32]).open(&database).unwrap().key()
    };
    for round in 0..6 {
        let mut writer = Command::new(std::env::current_exe().unwrap());
        writer
            .args(["--exact", "writer_to_be_killed", "--ignored", "--nocapture"])
            .env("HAND_OVER_FOLDER", &folder);
        let acknowledged = killed_after(writer, 500 + 300 * round);

        let peer = node.peer(&folder).await;
        let info = peer.ask("open", json!({ "core": "log", "key": key.to_hex() })).await;
        let length = info["length"].as_u64().unwrap();
        assert!(length >= acknowledged, "{length} of {acknowledged} acknowledged blocks");
        let digest = peer.ask("digest", json!({ "core": "log" })).await;
        assert_eq!(digest["digest"], pattern::digest(0, length, 100, 0));
        peer.ask("generate", json!({ "core": "log", "count": 10, "size": 100 })).await;
        let tree = peer.ask("treeHash", json!({ "core": "log" })).await;
        peer.close().await;

        let database = open(&folder);
        let core = Hypercore::builder().key(key).open(&database).unwrap();
        assert_eq!(tree, hex(core.tree_hash()));
        check_pattern(&core);
    }
}

#[test]
#[ignore = "the writer that `a_folder_whose_writer_here_was_killed_opens_in_npm` starts and kills"]
fn writer_to_be_killed() {
    let Some(folder) = std::env::var_os("HAND_OVER_FOLDER") else { return };
    let database = open(Path::new(&folder));
    let core = Hypercore::builder().seed([8; 32]).open(&database).unwrap();
    let mut out = std::io::stdout();
    for turn in 0u64.. {
        let batch = if turn % 3 == 0 { 3 } else { 1 };
        let length = core.length();
        core.append_batch((length..length + batch).map(|index| pattern::block(index, 100, 0))).unwrap();
        writeln!(out, "{}", core.length()).unwrap();
    }
}

/// Runs a writer that prints the length after each append until it has printed `lines` lines, kills it, and answers the
/// last length that it has printed.
fn killed_after(mut command: Command, lines: usize) -> u64 {
    let mut writer = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(writer.stdout.take().unwrap()).lines();
    // The test harness of our own writer prints lines of its own.
    let mut lengths = reader.by_ref().map_while(Result::ok).filter_map(|line| line.parse::<u64>().ok());
    let mut last = lengths.nth(lines).expect("the writer goes on for ever");
    writer.kill().unwrap();
    writer.wait().unwrap();
    // What was in the pipe had been acknowledged as well. A torn last line has no end and may parse as less.
    last = lengths.max().map_or(last, |rest| rest.max(last));
    last
}

fn check_pattern(core: &Hypercore) {
    for index in 0..core.length() {
        assert_eq!(core.try_get(index).unwrap().unwrap(), pattern::block(index, 100, 0), "block {index}");
    }
}
