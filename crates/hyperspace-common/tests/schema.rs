//! `src/messages.rs` is what the schema says. To make it anew: `UPDATE_SCHEMA=1 cargo test -p hyperspace-common --test schema`.

use std::{fs, path::Path};

#[test]
fn generated_messages_are_those_of_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().expect("a temporary folder");
    prost_build::Config::new()
        .bytes(["."])
        .out_dir(out.path())
        .compile_fds(
            protox::compile(["hyperspace.proto", "additional.proto"], [root.join("proto")])
                .expect("the schema compiles"),
        )
        .expect("the schema turns into Rust");
    let fresh = fs::read_to_string(out.path().join("hyperspace.rs")).expect("generated text");
    let target = root.join("src/messages.rs");
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        fs::write(&target, &fresh).expect("src/messages.rs is written");
    }
    let stored = fs::read_to_string(&target).unwrap_or_default();
    assert!(stored == fresh, "src/messages.rs is not what the files in proto/ say: run with UPDATE_SCHEMA=1");
}
