//! Stores of corestore 6, made by it: recognised, and left as they are.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hypercore::storage::{Database, FolderOptions, OpenError};
use interop::{Node, json};

/// Every file and what is in it.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.clone(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn refused(folder: &Path) {
    let before = contents(folder);
    let error = Database::open_folder(folder, FolderOptions::default()).unwrap_err();
    assert!(matches!(error, OpenError::Legacy { .. }), "{error}");
    let said = error.to_string();
    assert!(said.contains("corestore 6 / hypercore 10") && said.contains("replicate the cores"), "{said}");
    assert!(said.contains(&*folder.to_string_lossy()), "{said}");
    assert_eq!(contents(folder), before, "nothing is written into it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_corestore_6_is_recognised_and_left_alone() {
    let Some(node) = Node::find().await else { return };
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("store");
    let old = node.peer10(&folder).await;
    old.ask("open", json!({ "core": "log", "name": "log" })).await;
    old.ask("generate", json!({ "core": "log", "count": 30, "size": 100 })).await;
    old.close().await;

    refused(&folder);
    // The folder of one of its cores is what hypercore 10 makes by itself.
    let oplog =
        contents(&folder).into_keys().find(|file| file.ends_with("oplog")).expect("a core has an oplog");
    refused(oplog.parent().unwrap());

    // Nothing happened to it.
    let old = node.peer10(&folder).await;
    let log = old.ask("open", json!({ "core": "log", "name": "log" })).await;
    assert_eq!(log["length"], 30);
    old.close().await;
}
