//! Twenty clients, in Node and in Rust, append, read, wait and lock, and die at any time. Afterwards everything that was
//! acknowledged is there, and nothing of the dead is left: no lock, no session, no socket, no memory.
//!
//! The same for longer, with the memory looked at each second, is the soak: `./dev soak [-s SECONDS]`.

mod clients;
mod daemon;
mod random;

use std::{collections::HashMap, time::Duration};

use futures::future::join_all;
use hyperspace_client::{HyperspaceClient, Stats};
use interop::{Node, within};
use tokio::time::Instant;

use crate::{
    clients::{Acknowledged, CORES, LOCKED},
    daemon::{Daemon, Usage},
};

const RUST_CLIENTS: u64 = 13;
const NODE_CLIENTS: u64 = 7;

/// Files of the store that are open beside those of the beginning: RocksDB's logs and tables come and go.
const STORE_FILES: usize = 64;
/// Threads of the runtime for what takes long end by themselves, ten seconds later.
const THREADS: usize = 32;
/// What the daemon may keep beyond what it had after the first seconds: RocksDB's tables in memory (two of 8 MiB and
/// more), its cache of blocks, and what the allocator does not give back.
const MEMORY_KIB: u64 = 128 << 10;
/// Of a soak: how much the last quarter may take beyond the third.
const SOAK_GROWTH_KIB: u64 = 12 << 10;

/// So long the suite's load lasts.
const SECONDS: u64 = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_die_at_random_lose_nothing_and_leave_nothing() {
    run(Duration::from_secs(SECONDS), None).await;
}

/// `SOAK_SECONDS` of it, not a part of the suite.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes ten minutes; ./dev soak runs it"]
async fn soak() {
    let seconds = std::env::var("SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(600);
    let mut samples = Samples::default();
    run(Duration::from_secs(seconds), Some(&mut samples)).await;
    samples.judge();
}

async fn run(duration: Duration, mut samples: Option<&mut Samples>) {
    let seed: u64 = std::env::var("LOAD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_121);
    println!("LOAD_SEED={seed}");
    let node = Node::find().await;
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(folder.path());
    let control = daemon.client().await;
    start_threads(&daemon, &control).await;
    let stats = control.stats().await.unwrap();
    let before = (daemon.usage(), stats);

    let acknowledged = Acknowledged::default();
    let until = Instant::now() + duration;
    let rust = join_all((0..RUST_CLIENTS).map(|i| clients::rust(&daemon, &acknowledged, seed + i, until)));
    let in_node = async {
        let Some(node) = &node else { return Vec::new() };
        let seeds = (0..NODE_CLIENTS).map(|i| seed + 100 + i);
        join_all(seeds.map(|seed| clients::node(node, &daemon, &acknowledged, seed, until))).await
    };
    let watching = async {
        let Some(samples) = samples.as_deref_mut() else { return };
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_secs(1)).await;
            samples.take(&daemon, &control, acknowledged.len()).await;
        }
    };
    let (rust, in_node, ()) = tokio::join!(rust, in_node, watching);
    let (rust, in_node): (u64, u64) = (rust.iter().sum(), in_node.iter().sum());
    let (all, of_node) = (acknowledged.len(), acknowledged.of_node());
    println!(
        "{rust} clients in Rust and {in_node} in Node; {all} blocks acknowledged, {of_node} of them in Node"
    );
    assert!(rust >= RUST_CLIENTS && all - of_node > 100);
    assert!(node.is_none() || (in_node >= NODE_CLIENTS && of_node > 100), "{in_node} {of_node}");

    locks_are_free(&control).await;
    nothing_is_left(&daemon, &control, before).await;
    everything_is_there(&control, &acknowledged).await;
    drop(control);
    daemon.stop().await;
}

/// The daemon's threads for clients stay when they are started, each with its sockets: lets it start all of them.
async fn start_threads(daemon: &Daemon, control: &HyperspaceClient) {
    let mut clients = Vec::new();
    for _ in 0..hyperspace_server::suitable_client_threads() {
        let client = daemon.client().await;
        // Once it answers, it has taken the connection in.
        client.stats().await.unwrap();
        clients.push(client);
    }
    drop(clients);
    let alone = async { while control.stats().await.unwrap().clients > 1 {} };
    within("the others to be gone", alone).await;
}

async fn locks_are_free(control: &HyperspaceClient) {
    let core = control.corestore().get_by_name(LOCKED).await.unwrap();
    let lock = within("the lock of the dead", core.lock()).await.unwrap();
    lock.release().await.unwrap();
    core.close().await.unwrap();
}

/// Sockets and sessions are as they were, at once or soon; memory and files nearly so.
async fn nothing_is_left(daemon: &Daemon, control: &HyperspaceClient, before: (Usage, Stats)) {
    let (usage, stats) = before;
    let deadline = Instant::now() + interop::DEADLINE;
    loop {
        let (usage_now, stats_now) = (daemon.usage(), control.stats().await.unwrap());
        let same = usage_now.sockets == usage.sockets
            && stats_now.clients == stats.clients
            && stats_now.open_cores == stats.open_cores
            && usage_now.files <= usage.files + STORE_FILES
            && usage_now.threads <= usage.threads + THREADS;
        if same {
            println!("before: {usage:?} {stats:?}\nafter:  {usage_now:?} {stats_now:?}");
            assert!(usage_now.resident_kib <= usage.resident_kib + MEMORY_KIB, "the memory of the dead");
            return;
        }
        assert!(
            Instant::now() < deadline,
            "before: {usage:?} {stats:?}\nafter:  {usage_now:?} {stats_now:?}\n{}",
            daemon.log()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn everything_is_there(control: &HyperspaceClient, acknowledged: &Acknowledged) {
    const AT_ONCE: usize = 1000;
    let mut cores = HashMap::new();
    let names = (0..CORES).map(|i| format!("core {i}")).chain([LOCKED.to_owned()]);
    for name in names {
        cores.insert(name.clone(), control.corestore().get_by_name(&name).await.unwrap());
    }
    for some in acknowledged.all().chunks(AT_ONCE) {
        let gets = some.iter().map(|((name, seq), _)| cores[name].get(*seq));
        for (block, (place, expected)) in join_all(gets).await.into_iter().zip(some) {
            assert!(block.unwrap() == expected.bytes(), "{place:?} is not {expected:?}");
        }
    }
}

/// What the daemon took, second by second.
#[derive(Default)]
struct Samples(Vec<u64>);

impl Samples {
    async fn take(&mut self, daemon: &Daemon, control: &HyperspaceClient, acknowledged: usize) {
        let (usage, stats) = (daemon.usage(), control.stats().await.unwrap());
        self.0.push(usage.resident_kib);
        println!(
            "{:>5} s  {:>7.1} MiB  {:>3} files  {:>3} sockets  {:>3} threads  {:>3} clients  {:>2} cores  {acknowledged} blocks",
            self.0.len(),
            usage.resident_kib as f64 / 1024.0,
            usage.files,
            usage.sockets,
            usage.threads,
            stats.clients,
            stats.open_cores,
        );
    }

    /// The last quarter against the third: in the first half, RocksDB's cache and buffers fill.
    fn judge(&self) {
        let quarter = self.0.len() / 4;
        assert!(quarter > 0, "too short to say anything");
        let median = |samples: &[u64]| {
            let mut samples = samples.to_vec();
            samples.sort_unstable();
            samples[samples.len() / 2]
        };
        let (early, late) = (median(&self.0[2 * quarter..3 * quarter]), median(&self.0[3 * quarter..]));
        println!("third quarter {early} KiB, last quarter {late} KiB (medians)");
        assert!(late <= early + SOAK_GROWTH_KIB, "memory grows: {early} KiB, then {late} KiB");
    }
}
