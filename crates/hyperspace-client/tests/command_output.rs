//! Output of the command that nobody takes for the moment, or that nobody wants.

mod common;

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    process::{Output, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use common::Fixture;

/// Only to end a test that hangs.
const DEADLINE: Duration = Duration::from_secs(40);

/// Passes on what the next client of the socket `between` and the server say to each other. Tells the sizes of what the
/// client took.
fn between(fixture: &Fixture) -> mpsc::Receiver<usize> {
    let path = fixture.folder.path().join("between.sock");
    let _ = std::fs::remove_file(&path);
    let listener = UnixListener::bind(path).unwrap();
    let server = UnixStream::connect(fixture.folder.path().join("demo.sock")).unwrap();
    let (told, taken) = mpsc::channel();
    thread::spawn(move || {
        let client = listener.accept().unwrap().0;
        let (mut asks, mut asked) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || {
            let _ = io::copy(&mut asks, &mut asked);
            let _ = asked.shutdown(Shutdown::Write);
        });
        let (mut server, mut client) = (server, client);
        let mut piece = vec![0; 64 << 10];
        while let Ok(length) = server.read(&mut piece) {
            if length == 0 || client.write_all(&piece[..length]).is_err() || told.send(length).is_err() {
                return;
            }
        }
    });
    taken
}

/// A daemon lets clients go that do not read.
#[test]
fn a_reader_that_pauses_does_not_keep_the_command_from_the_daemon() {
    const BLOCKS: usize = 64;
    let fixture = Fixture::start();
    let log = fixture.server.as_ref().unwrap().store().get("log").unwrap();
    let block = vec![b'x'; 1 << 20];
    log.append_batch(vec![block.clone(); BLOCKS]).unwrap();
    let as_lines = [&block[..], b"\n"].concat().repeat(BLOCKS);
    let as_json: Vec<u8> = (0..BLOCKS)
        .flat_map(|index| [format!("{{\"index\":{index},\"text\":\"").as_bytes(), &block, b"\"}\n"].concat())
        .collect();
    for (command, expected) in [
        ("read --binary", block.repeat(BLOCKS)),
        ("read", as_lines.clone()),
        ("read --json", as_json),
        ("tail --count 64", as_lines),
    ] {
        let taken = between(&fixture);
        let mut command = fixture.command(&format!("-h between -k {} {command}", log.key()));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Nobody reads what it prints until it has all answers.
        let mut left = BLOCKS * block.len();
        while left > 0 {
            let taken = taken.recv_timeout(DEADLINE);
            left = left.saturating_sub(taken.unwrap_or_else(|_| panic!("{left} bytes are not taken")));
        }
        // What follows a core does not end.
        let mut printed = vec![0; expected.len()];
        child.stdout.as_mut().unwrap().read_exact(&mut printed).unwrap();
        assert!(printed == expected);
        if command.get_args().any(|word| word == "tail") {
            child.kill().unwrap();
            child.wait().unwrap();
            continue;
        }
        let output = child.wait_with_output().unwrap();
        assert!(
            output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(),
            "{output:?}"
        );
    }
}

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
