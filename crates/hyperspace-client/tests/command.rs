//! The command on a server in this process: what it prints, and how it ends.

mod common;

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    process::Stdio,
    time::{Duration, Instant},
};

use common::{Fixture, json};
use hyperspace_server::{Server, ServerOptions};

/// Only to end a test that hangs.
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn lines_go_in_and_come_out() {
    let fixture = Fixture::start();
    let key = fixture.ok("-h demo -n log write", b"one\ntwo\n\nfour");
    assert_eq!(key.trim_end().len(), 64);
    assert_eq!(fixture.ok("-h demo -n log read", b""), "one\ntwo\n\nfour\n");
    assert_eq!(fixture.ok(&format!("-h demo -k {} read 1 --count 1", key.trim_end()), b""), "two\n");
    assert_eq!(fixture.ok("-h demo -n log write", b"five\n"), key, "the same core");
    assert_eq!(fixture.ok("-h demo -n log read 3", b""), "four\nfive\n");
    assert_eq!(fixture.ok("-h demo -n log read 99", b""), "");

    let info = fixture.ok("-h demo -n log info", b"");
    let z32 = info.lines().nth(1).unwrap().trim().to_owned();
    assert!(
        info.contains(key.trim_end())
            && info.contains("5 blocks, 5 stored here")
            && info.contains("14 bytes")
    );
    assert_eq!(fixture.ok(&format!("-h demo -k {z32} read 4"), b""), "five\n");
}

#[test]
fn much_goes_in_fast_and_in_order() {
    let fixture = Fixture::start();
    let lines: String = (0..100_000).map(|i| format!("line {i}\n")).collect();
    let path = fixture.file("lines", lines.as_bytes());
    let status = fixture
        .command("-h demo -n log write")
        .stdin(File::open(path).unwrap())
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success());
    assert_eq!(fixture.ok("-h demo -n log read", b""), lines);
}

#[test]
fn raw_data_comes_out_as_it_went_in() {
    let fixture = Fixture::start();
    let data: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(i) >> 7) as u8).collect();
    fixture.run("-h demo -n data write --binary --chunk-size 1000", &data);
    assert!(fixture.ok("-h demo -n data info", b"").contains("300 blocks"));
    assert_eq!(fixture.run("-h demo -n data read --binary", b"").stdout, data);
}

#[test]
fn a_live_reader_follows() {
    let fixture = Fixture::start();
    fixture.ok("-h demo -n log write", b"one\n");
    let mut reader = fixture.command("-h demo -n log read --live").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    fixture.ok("-h demo -n log write", b"two\nthree\n");
    assert_eq!(lines.next().unwrap().unwrap(), "two");
    assert_eq!(lines.next().unwrap().unwrap(), "three");
    reader.kill().unwrap();
    reader.wait().unwrap();
}

#[test]
fn a_live_reader_is_told_when_the_daemon_ends() {
    let mut fixture = Fixture::start();
    fixture.ok("-h demo -n log write", b"one\n");
    let mut command = fixture.command("-h demo -n log read --live");
    let mut reader = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 4];
    reader.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    let server = fixture.server.take().unwrap();
    fixture.runtime.block_on(server.stop());
    let output = reader.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("connection to the daemon is gone"));
}

#[test]
fn a_reader_that_has_enough_ends_the_command_quietly() {
    let fixture = Fixture::start();
    fixture.ok("-h demo -n log write", "a longer line to fill the pipe\n".repeat(50_000).as_bytes());
    let mut command = fixture.command("-h demo -n log read");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut start = [0; 10];
    child.stdout.take().unwrap().read_exact(&mut start).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn whoever_follows_a_quiet_core_ends_with_its_reader() {
    let fixture = Fixture::start();
    fixture.ok("-h demo -n log write", b"one\n");
    let unknown = "05".repeat(32);
    for line in ["-n log tail", "-n log read --live", &format!("-k {unknown} tail")] {
        let mut command = fixture.command(&format!("-h demo {line}"));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        if line.contains("log") {
            out.read_exact(&mut [0; 4]).unwrap();
        }
        drop(out);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{line}: {output:?}");
    }
}

#[test]
fn what_goes_wrong_is_one_sentence_and_a_code() {
    let fixture = Fixture::start();
    let said = fixture.fails("-h nobody -n log read", 3);
    assert!(said.contains("nobody.sock") && said.contains("hyperspace-server"), "{said}");
    let said =
        fixture.fails("-h demo -k 0505050505050505050505050505050505050505050505050505050505050505 write", 1);
    assert!(said.contains("not writable"), "{said}");
    fixture.fails("-h 127.0.0.1:1 -n log read", 3);
    // Wrong usage.
    assert_eq!(fixture.run("-h demo -k nonsense read", b"").status.code(), Some(2));
    assert_eq!(fixture.run("-h demo read", b"").status.code(), Some(2));
    assert_eq!(fixture.run("-h demo -n log download 2 1", b"").status.code(), Some(2));
    // An empty name is none for the daemon, and would be another core each time.
    let stored = fixture.ok("-h demo ls --json", b"");
    assert_eq!(fixture.command("-h demo write -n").arg("").output().unwrap().status.code(), Some(2));
    assert_eq!(fixture.ok("-h demo ls --json", b""), stored);
    let said = fixture.fails("-h http://127.0.0.1:1 -n log read", 2);
    assert!(said.contains("http://127.0.0.1:1"), "{said}");
    assert!(fixture.ok("--help", b"").contains("write"));
}

#[test]
fn a_token_lets_in_over_tcp_and_websocket() {
    let token = "0123456789abcdef0123456789abcdef";
    let mut fixture = Fixture::start();
    let options = ServerOptions {
        rpc_listen: Some("127.0.0.1:0".into()),
        ws_listen: Some("127.0.0.1:0".into()),
        tokens: vec![token.parse().unwrap()],
        ..ServerOptions::default()
    };
    let server = fixture.runtime.block_on(Server::start(options)).unwrap();
    let hosts = [
        format!("tcp://{}", server.rpc_address().unwrap()),
        format!("ws://{}", server.ws_address().unwrap()),
    ];
    fixture.server = Some(server);
    let file = fixture.folder.path().join("token");
    std::fs::write(&file, format!("# mine\n{token}\n")).unwrap();
    let file = file.to_str().unwrap();
    for (i, host) in hosts.iter().enumerate() {
        fixture.ok(&format!("-h {host} --token-file {file} -n log{i} write"), b"one\ntwo\n");
        let output = fixture
            .command(&format!("-h {host} -n log{i} read --count 2"))
            .env("HYPERSPACE_TOKEN", token)
            .output()
            .unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "one\ntwo\n");
        let refused = fixture.fails(&format!("-h {host} status"), 5);
        assert!(refused.contains("access token"), "{refused}");
        let output = fixture
            .command(&format!("-h {host} status"))
            .env("HYPERSPACE_TOKEN", "f".repeat(32))
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(5), "{said}");
        assert!(said.contains("wrong") && said.contains("--token-file"), "{said}");
    }
    // One that is none matters where one is shown, and nowhere else.
    let nonsense = |host: &str| {
        fixture.command(&format!("-h {host} status")).env("HYPERSPACE_TOKEN", "short").output().unwrap()
    };
    assert_eq!(nonsense(&hosts[0]).status.code(), Some(5));
    let plain = Fixture::start();
    let output = plain.command("-h demo status").env("HYPERSPACE_TOKEN", "short").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let nowhere = fixture.fails(&format!("-h {} --token-file {file}x status", hosts[0]), 1);
    assert!(nowhere.contains("cannot be read"), "{nowhere}");
    let said = fixture.fails("-h wss://127.0.0.1:1 status", 2);
    assert!(said.contains("tunnel"), "{said}");
}

#[test]
fn cores_are_made_and_listed() {
    let fixture = Fixture::start();
    let key = fixture.ok("-h demo create", b"");
    let named = fixture.ok("-h demo create -n log", b"");
    assert_eq!(fixture.ok("-h demo create -n log", b""), named, "a name leads back");
    let z32 = fixture.ok("-h demo create -n log --z32", b"");
    assert_eq!(z32.trim_end().len(), 52);
    fixture.ok("-h demo -n log write", b"hello\nworld\n");

    let table = fixture.ok("-h demo ls", b"");
    let row = table.lines().find(|line| line.starts_with(named.trim_end())).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[1..], ["2", "2", "10", "B", "0", "log"], "{table}");
    assert!(table.lines().next().unwrap().contains("CONTIGUOUS") && table.contains(key.trim_end()));
    let rows: Vec<_> = fixture.ok("-h demo ls --json", b"").lines().map(json).collect();
    let row = rows.iter().find(|row| row["name"] == "log").unwrap();
    assert_eq!(
        (&row["key"], &row["length"], &row["writable"]),
        (&named.trim_end().into(), &2.into(), &true.into())
    );
    assert_eq!(rows.len(), 2);
    // With z-base-32, the key can be given back.
    let rows: Vec<_> = fixture.ok("-h demo ls --json --z32", b"").lines().map(json).collect();
    let row = rows.iter().find(|row| row["name"] == "log").unwrap();
    assert_eq!(fixture.ok(&format!("-h demo -k {} read 1", row["key"].as_str().unwrap()), b""), "world\n");
}

#[test]
fn everything_speaks_json() {
    let fixture = Fixture::start();
    let written = json(&fixture.ok("-h demo -n log write --json", b"one\ntwo\n"));
    assert_eq!(
        (&written["blocks"], &written["bytes"], &written["length"]),
        (&2.into(), &6.into(), &2.into())
    );
    fixture.run("-h demo -n log write --binary", &[0xff, 0xfe]);
    let blocks: Vec<_> = fixture.ok("-h demo -n log read --json", b"").lines().map(json).collect();
    assert_eq!(blocks[1], serde_json::json!({ "index": 1, "text": "two" }));
    assert_eq!(blocks[2], serde_json::json!({ "index": 2, "hex": "fffe" }));
    let info = json(&fixture.ok("-h demo -n log info --json", b""));
    assert_eq!(
        (&info["length"], &info["contiguousLength"], &info["fork"]),
        (&3.into(), &3.into(), &0.into())
    );
    assert_eq!((&info["key"], info["signers"].as_array().unwrap().len()), (&written["key"], 1));
    let status = json(&fixture.ok("-h demo status --json", b""));
    assert_eq!((&status["apiVersion"], &status["clients"]), (&"1.15.0".into(), &1.into()));
    assert!(fixture.ok("-h demo status", b"").contains("running for"));
    assert_eq!(fixture.ok("-h demo peers --json", b""), "");
    let fetched = json(&fixture.ok("-h demo -n log download --json", b""));
    assert_eq!((&fetched["blocks"], &fetched["fetched"]), (&3.into(), &0.into()));
    assert_eq!(json(&fixture.ok("-h demo stop --json", b""))["stopped"], true);
    fixture.runtime.block_on(fixture.server.as_ref().unwrap().stopped());
}

#[test]
fn a_core_is_downloaded_from_a_peer() {
    let fixture = Fixture::start();
    let options = ServerOptions { peer_listen: Some("127.0.0.1:0".into()), ..ServerOptions::default() };
    let far = fixture.runtime.block_on(Server::start(options)).unwrap();
    let connect = vec![far.peer_address().unwrap().to_string()];
    let socket = Some(fixture.folder.path().join("near.sock"));
    let options = ServerOptions { socket, connect, ..ServerOptions::default() };
    let near = fixture.runtime.block_on(Server::start(options)).unwrap();
    let log = far.store().get("log").unwrap();
    log.append_batch((0..20_000).map(|i| format!("block {}", i % 500))).unwrap();

    let said = fixture.ok(&format!("-h near -k {} download", log.key()), b"");
    assert!(said.starts_with("20000 of 20000 blocks fetched (175.6 kB)"), "{said}");
    let info = json(&fixture.ok(&format!("-h near -k {} info --json", log.key()), b""));
    assert_eq!((&info["stored"], info["peers"].as_array().unwrap().len()), (&20_000.into(), 1));
    let peer = json(&fixture.ok("-h near peers --json", b""));
    assert_eq!(peer["address"], far.peer_address().unwrap().to_string());
    assert_eq!(fixture.ok(&format!("-h near -k {} peers", log.key()), b"").lines().count(), 1);
    fixture.runtime.block_on(async {
        near.stop().await;
        far.stop().await;
    });
}

#[test]
fn the_tail_follows() {
    let fixture = Fixture::start();
    fixture.ok("-h demo -n log write", b"one\ntwo\nthree\n");
    let mut command = fixture.command("-h demo tail -n log --count 2");
    let mut reader = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "two");
    assert_eq!(lines.next().unwrap().unwrap(), "three");
    fixture.ok("-h demo -n log write", b"four\n");
    assert_eq!(lines.next().unwrap().unwrap(), "four");
    reader.kill().unwrap();
    reader.wait().unwrap();
}

/// Nothing is known of the core until a peer comes: what he has then is there already, and what he appends is new.
#[test]
fn the_tail_of_a_core_that_nobody_knows_yet_starts_when_somebody_comes() {
    let options = ServerOptions { peer_listen: Some("127.0.0.1:0".into()), ..ServerOptions::default() };
    let fixture = Fixture::with_options(options);
    let address = fixture.server.as_ref().unwrap().peer_address().unwrap();
    let store = corestore::Corestore::memory();
    let log = store.get("log").unwrap();
    log.append_batch(["one", "two", "three", "four"]).unwrap();
    let mut command = fixture.command(&format!("-h demo -k {} tail --count 2", log.key()));
    let mut reader = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    let began = Instant::now();
    while fixture.ok("-h demo ls --json", b"").is_empty() {
        assert!(began.elapsed() < DEADLINE, "the core was not opened");
    }
    let options =
        ServerOptions { store: Some(store), connect: vec![address.to_string()], ..ServerOptions::default() };
    let far = fixture.runtime.block_on(Server::start(options)).unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "three");
    assert_eq!(lines.next().unwrap().unwrap(), "four");
    log.append_batch(["five", "six", "seven"]).unwrap();
    for line in ["five", "six", "seven"] {
        assert_eq!(lines.next().unwrap().unwrap(), line);
    }
    reader.kill().unwrap();
    reader.wait().unwrap();
    fixture.runtime.block_on(far.stop());
}

/// Of a core that is written here, everything is known.
#[test]
fn the_tail_of_an_empty_core_is_all_that_comes() {
    let fixture = Fixture::start();
    fixture.ok("-h demo create -n log", b"");
    let mut command = fixture.command("-h demo tail -n log --count 2");
    let mut reader = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap()).lines();
    let began = Instant::now();
    while json(&fixture.ok("-h demo status --json", b""))["clients"] != 2 {
        assert!(began.elapsed() < DEADLINE, "the reader did not come");
    }
    fixture.ok("-h demo -n log write", b"one\ntwo\nthree\n");
    assert_eq!(lines.next().unwrap().unwrap(), "one");
    reader.kill().unwrap();
    reader.wait().unwrap();
}

#[test]
fn nobody_to_download_from_is_a_code_of_its_own() {
    let fixture = Fixture::start();
    let said = fixture.fails(&format!("-h demo -k {} download", "05".repeat(32)), 4);
    assert!(said.contains("not available"), "{said}");
    fixture.fails(&format!("-h demo -k {} read", "05".repeat(32)), 4);
}

#[test]
fn shells_and_manuals_are_served_without_a_daemon() {
    let fixture = Fixture::start();
    for shell in ["bash", "zsh", "fish"] {
        let script = fixture.ok(&format!("completions {shell}"), b"");
        assert!(script.contains("hyperspace-client") && script.contains("download"), "{shell}");
    }
    assert!(fixture.ok("man", b"").contains(".TH hyperspace-client"));
    let folder = fixture.folder.path().join("man");
    std::fs::create_dir(&folder).unwrap();
    fixture.ok(&format!("man {}", folder.display()), b"");
    let pages = std::fs::read_dir(&folder).unwrap().count();
    assert!(pages > 8 && folder.join("hyperspace-client-download.1").exists(), "{pages}");
}

#[test]
fn bash_completes_behind_a_command() {
    let fixture = Fixture::start();
    let script = fixture.file("completions", fixture.ok("completions bash", b"").as_bytes());
    let complete = |words: &[&str]| {
        let ask = r#"
            source "$1"; shift
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
            _hyperspace__client "$1" "${@: -1}" "${@: -2:1}"
            echo "${COMPREPLY[*]}"
        "#;
        let mut bash = std::process::Command::new("bash");
        bash.args(["--norc", "-c", ask, "bash"]).arg(&script).arg("hyperspace-client").args(words);
        String::from_utf8(bash.output().unwrap().stdout).unwrap()
    };
    assert_eq!(complete(&["downl"]).trim(), "download");
    assert_eq!(complete(&["read", "--cou"]).trim(), "--count");
    assert_eq!(complete(&["network", "s"]).trim(), "status");
    assert_eq!(complete(&["completions", "fi"]).trim(), "fish");
}
