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
