//! `seed`, `unseed` and `network status` on a server that takes part in a network of the test's own.

mod common;

use std::time::{Duration, Instant};

use common::{Fixture, json};
use hypercore::{DiscoveryKey, Key};
use hyperdht::HyperDht;
use hyperspace_client::{ConfigureOptions, HyperspaceClient};
use hyperspace_server::{NetworkOptions, Server, ServerOptions};
use serde_json::Value;

/// Only to end a test that hangs.
const DEADLINE: Duration = Duration::from_secs(60);

/// A network with one node, and how to enter it.
fn network() -> (tokio::runtime::Runtime, HyperDht, impl Fn() -> ServerOptions) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = runtime.block_on(HyperDht::bootstrapper("127.0.0.1:0".parse().unwrap())).unwrap();
    let address = node.local_address().to_string();
    let options =
        move || ServerOptions { network: Some(options_of(address.clone())), ..ServerOptions::default() };
    (runtime, node, options)
}

fn options_of(bootstrap: String) -> NetworkOptions {
    let address = Some("127.0.0.1:0".parse().unwrap());
    NetworkOptions { address, bootstrap: Some(vec![bootstrap]), ..NetworkOptions::default() }
}

fn topics(fixture: &Fixture) -> Vec<Value> {
    let status = json(&fixture.ok("-h demo network status --json", b""));
    status["topics"].as_array().unwrap().clone()
}

/// Waits until the daemon has noticed that the commands before have ended: what they had open is still announced.
fn alone(fixture: &Fixture) {
    let began = Instant::now();
    while json(&fixture.ok("-h demo status --json", b""))["clients"] != 1 {
        assert!(began.elapsed() < DEADLINE, "the commands before are still connected");
    }
}

#[test]
fn what_is_seeded_is_announced_until_it_is_unseeded() {
    let (_runtime, _node, options) = network();
    let fixture = Fixture::with_options(options());
    let key = fixture.ok("-h demo -n log write", b"one\ntwo\n");
    let key = key.trim_end();
    let seeded = json(&fixture.ok("-h demo -n log seed --json", b""));
    assert_eq!((&seeded["key"], &seeded["announce"]), (&key.into(), &true.into()));
    assert_eq!(seeded["name"], "log");
    assert_eq!(
        (&seeded["remember"], &seeded["length"], &seeded["stored"]),
        (&true.into(), &2.into(), &2.into())
    );

    let listed = topics(&fixture);
    let row = listed.iter().find(|row| row["key"] == key).unwrap_or_else(|| panic!("{listed:?}"));
    assert_eq!(
        (&row["name"], &row["announce"], &row["remember"]),
        (&"log".into(), &true.into(), &true.into())
    );
    let table = fixture.ok("-h demo network status", b"");
    assert!(table.contains("public key") && table.contains("topics        1"), "{table}");
    let row = table.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{table}"));
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!((words[1], words[3], words[4]), ("yes", "yes", "log"), "{row}");
    // By its key in the other writing, and only that one.
    let z32 = json(&fixture.ok(&format!("-h demo -k {key} info --json --z32"), b""));
    let z32 = z32["key"].as_str().unwrap();
    let one = json(&fixture.ok(&format!("-h demo -k {z32} network status --json"), b""));
    assert_eq!(one["topics"].as_array().unwrap().len(), 1);

    alone(&fixture);
    let gone = json(&fixture.ok("-h demo -n log unseed --json", b""));
    assert_eq!((&gone["key"], &gone["name"]), (&key.into(), &"log".into()));
    assert_eq!((&gone["announce"], &gone["remember"]), (&false.into(), &false.into()));
    assert!(topics(&fixture).iter().all(|row| row["remember"] == false && row["announce"] == false));
    assert!(fixture.ok("-h demo -n log seed", b"").contains("2 blocks, 2 stored here"));
    alone(&fixture);
    assert_eq!(fixture.ok(&format!("-h demo -k {key} unseed"), b""), "not seeded any more\n");
    let said = fixture.fails("-h demo -n nothing unseed", 1);
    assert!(said.contains("no core with the name nothing"), "{said}");
}

#[test]
fn who_seeds_is_found_by_others() {
    let (runtime, _node, options) = network();
    let fixture = Fixture::with_options(options());
    let key = fixture.ok("-h demo -n log write", b"hello\n");
    fixture.ok("-h demo -n log seed", b"");
    let socket = Some(fixture.folder.path().join("other.sock"));
    let other = runtime.block_on(Server::start(ServerOptions { socket, ..options() })).unwrap();
    let status = json(&fixture.ok("-h other network status --json", b""));
    assert_eq!((&status["peers"], &status["topics"]), (&serde_json::json!([]), &serde_json::json!([])));
    assert_eq!(fixture.ok(&format!("-h other -k {} read", key.trim_end()), b""), "hello\n");
    let peers = json(&fixture.ok("-h other network status --json", b""))["peers"].clone();
    let identity = json(&fixture.ok("-h demo status --json", b""))["publicKey"].clone();
    assert_eq!((peers.as_array().unwrap().len(), &peers[0]["publicKey"]), (1, &identity));
    // A copy that lacks blocks says so, also one that knew nothing of the core before.
    let key = fixture.ok("-h demo -n second write", b"a\nb\nc\n");
    fixture.ok("-h demo -n second seed", b"");
    let seed = format!("-h other -k {} seed", key.trim_end());
    let lacks = |stored| {
        let hint = "`download` fetches the others: so far, peers cannot get them here";
        format!("seeding {key}3 blocks, {stored} stored here\n{hint}\n")
    };
    assert_eq!(fixture.ok(&seed, b""), lacks(0));
    assert_eq!(fixture.ok(&format!("-h other -k {} read 2", key.trim_end()), b""), "c\n");
    assert_eq!(fixture.ok(&seed, b""), lacks(1));
    let seeded = json(&fixture.ok(&format!("{seed} --json"), b""));
    assert_eq!((&seeded["length"], &seeded["stored"]), (&3.into(), &1.into()));
    fixture.ok(&format!("-h other -k {} download", key.trim_end()), b"");
    assert_eq!(fixture.ok(&seed, b""), format!("seeding {key}3 blocks, 3 stored here\n"));
    runtime.block_on(other.stop());
}

/// What is seeded is remembered for when there is a network.
#[test]
fn without_a_network_nobody_finds_it() {
    let fixture = Fixture::start();
    fixture.ok("-h demo -n log write", b"one\n");
    assert!(fixture.ok("-h demo -n log seed", b"").contains("is it offline?"));
    let status = json(&fixture.ok("-h demo network status --json", b""));
    assert_eq!((&status["topics"][0]["remember"], &status["holepunchable"]), (&true.into(), &false.into()));
}

/// What fails leaves nothing behind that the next start of the daemon would announce.
#[test]
fn what_is_not_announced_is_not_remembered_either() {
    let options = NetworkOptions { announce: false, ..options_of("127.0.0.1:1".into()) };
    let silent = Fixture::with_options(ServerOptions { network: Some(options), ..ServerOptions::default() });
    let key = silent.ok("-h demo -n log write", b"one\n");
    let others = "05".repeat(32);
    for core in ["-n log".into(), format!("-k {others}")] {
        let said = silent.fails(&format!("-h demo {core} seed"), 1);
        assert!(said.contains("--no-announce"), "{said}");
    }
    let topics = [key.trim_end(), &others].map(|key| key.parse::<Key>().unwrap().discovery_key());
    for topic in topics {
        assert!(!is_remembered(&silent, topic, None));
        // What was remembered before stays so.
        assert!(is_remembered(&silent, topic, Some(ConfigureOptions::JOIN.remembered())));
    }
    silent.fails("-h demo -n log seed", 1);
    silent.fails(&format!("-h demo -k {others} seed"), 1);
    for topic in topics {
        assert!(is_remembered(&silent, topic, None));
    }
}

/// Whether the daemon remembers a topic, after it was told of this wish.
fn is_remembered(fixture: &Fixture, topic: DiscoveryKey, wish: Option<ConfigureOptions>) -> bool {
    let path = fixture.folder.path().join("demo.sock");
    fixture.runtime.block_on(async {
        let client = HyperspaceClient::connect(path.to_str()).await.unwrap();
        if let Some(wish) = wish {
            client.network().configure(&topic, wish).await.unwrap();
        }
        // It stays as it is, and is the answer.
        let ask = ConfigureOptions { overwrite: false, ..ConfigureOptions::LEAVE };
        let status = client.network().configure(&topic, ask).await.unwrap();
        status.is_some_and(|status| status.remember)
    })
}
