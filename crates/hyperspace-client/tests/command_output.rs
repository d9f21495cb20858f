//! Output of the command that nobody takes for the moment, or that nobody wants.

mod common;

use std::{
    io::{self, Write},
    process::{Output, Stdio},
};

use common::Fixture;

/// Runs it with a standard output that nobody reads.
fn unread(fixture: &Fixture, line: &str, input: &[u8]) -> Output {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut command = fixture.command(line);
    let mut child = command.stdin(Stdio::piped()).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    // The command may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

#[test]
fn what_is_written_is_appended_also_when_nobody_wants_the_key() {
    let fixture = Fixture::start();
    for options in ["", "--json"] {
        let output = unread(&fixture, &format!("-h demo -n log write {options}"), b"one\ntwo\n");
        assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    }
    assert_eq!(fixture.ok("-h demo -n log read", b""), "one\ntwo\none\ntwo\n");
}

#[test]
fn a_script_or_a_manual_that_nobody_reads_is_no_failure() {
    let fixture = Fixture::start();
    for line in ["completions bash", "completions zsh", "man"] {
        let output = unread(&fixture, line, b"");
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
    }
}

/// What cannot be written is told, also when it was the last line.
#[test]
#[cfg(target_os = "linux")]
fn a_disk_that_is_full_is_told() {
    let fixture = Fixture::start();
    fixture.ok("-h demo -n log write", b"one\n");
    for line in ["completions bash", "man", "-h demo -n log read", "-h demo -n log read --binary"] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = fixture.command(line).stdout(full).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains("No space"), "{line}: {said}");
    }
}
