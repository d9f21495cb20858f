//! The frames in `docs/rpc.md` are those that this crate writes, and every method has one.
//!
//! The words beside the bytes are read from the bytes, with the names of the schema in `proto/`, and not from the messages
//! that the bytes were made from: so the examples are right for whoever has nothing but the schema.

mod frames;
mod story;
mod words;

use std::{collections::HashSet, fs, path::Path};

use hyperspace_common::{Kind, Method};

use crate::{frames::Frame, story::chapters, words::Schema};

/// The blocks of the document whose lines begin with bytes.
fn documented(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("```") {
            continue;
        }
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        let is_byte = |word: &str| word.len() == 2 && u8::from_str_radix(word, 16).is_ok();
        if line == "```" && block.first().is_some_and(|first| first.split(' ').next().is_some_and(is_byte)) {
            blocks.push(block.join("\n"));
        }
    }
    blocks
}

fn examples() -> Vec<String> {
    let schema = Schema::read();
    let block = |frames: &Vec<Frame>| frames.iter().map(|frame| schema.lines(frame)).collect::<Vec<_>>();
    chapters().iter().map(|frames| block(frames).join("\n")).collect()
}

#[test]
fn the_examples_of_the_document_are_what_this_crate_writes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/rpc.md");
    let found = documented(&fs::read_to_string(path).unwrap());
    let expected = examples();
    let missing: Vec<_> = expected.iter().filter(|block| !found.contains(block)).cloned().collect();
    let paste = missing.join("\n```\n\n```\n");
    assert!(missing.is_empty(), "docs/rpc.md lacks these blocks, or has others:\n\n```\n{paste}\n```\n");
    assert_eq!(found, expected, "docs/rpc.md has further examples, or has them in another order");
}

#[test]
fn every_method_and_event_has_an_example() {
    let shown: HashSet<String> = chapters().iter().flatten().map(|frame| frame.method.to_string()).collect();
    let missing: Vec<_> =
        Method::ALL.iter().map(Method::to_string).filter(|method| !shown.contains(method)).collect();
    assert!(missing.is_empty(), "no example of {missing:?}");
}

#[test]
fn answers_are_those_to_calls_that_were_made() {
    let mut calls: Vec<(u64, Method)> = Vec::new();
    for frame in chapters().iter().flatten() {
        let call = (frame.id, frame.method);
        match frame.kind {
            Kind::Request if frame.id == 0 => {}
            Kind::Request => {
                assert!(calls.iter().all(|(id, _)| *id != frame.id), "call {} is made twice", frame.id);
                calls.push(call);
            }
            Kind::Response | Kind::Error => {
                let made = calls.iter().position(|made| *made == call);
                let made = made.unwrap_or_else(|| panic!("nobody asked for the answer {call:?}"));
                // An answer ends the call.
                calls.remove(made);
            }
        }
    }
}
