//! The files in `src/messages/` are what those in `proto/` say. To make them anew:
//! `UPDATE_SCHEMA=1 cargo test -p hyperspace-common --test schema`.

use std::{fs, path::Path};

/// A file in `proto/` for each service, and the file in `src/messages/` that comes of it.
const SERVICES: [&str; 7] = ["hyperspace", "corestore", "hypercore", "network", "log", "store", "access"];

#[test]
fn generated_messages_are_those_of_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().expect("a temporary folder");
    let files = SERVICES.map(|service| format!("{service}.proto"));
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(out.path())
        .compile_fds(protox::compile(files, [root.join("proto")]).expect("the schema compiles"))
        .expect("the schema turns into Rust");
    for service in SERVICES {
        // The generator names files for packages.
        let package = match service {
            "hyperspace" => "hyperspace.rs".into(),
            _ => format!("hyperspace.{service}.rs"),
        };
        let fresh = fs::read_to_string(out.path().join(package)).expect("generated text");
        let target = root.join(format!("src/messages/{service}.rs"));
        if std::env::var_os("UPDATE_SCHEMA").is_some() {
            fs::write(&target, &fresh).expect("the file is written");
        }
        let stored = fs::read_to_string(&target).unwrap_or_default();
        let file = target.display();
        assert!(stored == fresh, "{file} is not what {service}.proto says: run with UPDATE_SCHEMA=1");
    }
}

#[test]
fn every_message_is_fuzzed() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = fs::read_to_string(root.join("../../fuzz/fuzz_targets/rpc_frame.rs")).expect("the target");
    let (_, list) = target.split_once("\nmessages! {").expect("the list of messages");
    let (list, _) = list.split_once('}').expect("its end");
    let listed: Vec<&str> = list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let schema = SERVICES.map(|service| fs::read_to_string(root.join(format!("proto/{service}.proto"))));
    let schema = schema.map(|text| text.expect("a part of the schema")).concat();
    let messages = schema.lines().filter_map(|line| line.strip_prefix("message ")?.strip_suffix(" {"));
    assert_eq!(listed, messages.collect::<Vec<_>>(), "fuzz/fuzz_targets/rpc_frame.rs lists other messages");
}
