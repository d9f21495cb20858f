//! Clients that do anything and die at any time.

use std::{
    collections::HashMap,
    ops::ControlFlow,
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::join_all};
use hypercore::DownloadRange;
use hyperspace_client::{HyperspaceClient, RemoteHypercore};
use interop::{Node, Value, within};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::Instant,
};

use crate::{
    daemon::{Daemon, NAME},
    random::Random,
};

/// Cores that clients append to without a lock.
pub(crate) const CORES: u64 = 6;
/// The core that is appended to under its lock only.
pub(crate) const LOCKED: &str = "locked";
const LARGE: usize = 64 << 10;

/// A core's name and an index.
type Place = (String, u64);

/// What the daemon has acknowledged: which block is where.
#[derive(Default)]
pub(crate) struct Acknowledged(Mutex<HashMap<Place, Block>>);

/// A block, kept small: its text, and how many bytes of filling follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Block {
    text: String,
    filling: usize,
}

impl Block {
    pub(crate) fn bytes(&self) -> Bytes {
        let mut bytes = self.text.clone().into_bytes();
        bytes.resize(bytes.len() + self.filling, b'x');
        bytes.into()
    }
}

impl Acknowledged {
    fn add(&self, core: &str, seq: u64, block: Block) {
        let before = self.map().insert((core.to_owned(), seq), block);
        assert!(before.is_none(), "two appends to {core} were given the index {seq}");
    }

    pub(crate) fn len(&self) -> usize {
        self.map().len()
    }

    /// How much of it a program in Node was told.
    pub(crate) fn of_node(&self) -> usize {
        self.map().values().filter(|block| block.text.starts_with("node ")).count()
    }

    /// All of it, in order.
    pub(crate) fn all(&self) -> Vec<(Place, Block)> {
        let mut all: Vec<_> =
            self.map().iter().map(|(place, block)| (place.clone(), block.clone())).collect();
        all.sort_by(|(one, _), (two, _)| one.cmp(two));
        all
    }

    fn map(&self) -> std::sync::MutexGuard<'_, HashMap<Place, Block>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Uses the daemon from Rust, life after life, until the time is over.
pub(crate) async fn rust(daemon: &Daemon, acknowledged: &Acknowledged, seed: u64, until: Instant) -> u64 {
    let mut random = Random(seed);
    let mut lives = 0;
    while Instant::now() < until {
        let client = daemon.client().await;
        let mut life =
            Life { client, acknowledged, name: format!("rust {seed} {lives}"), texts: 0, held: Vec::new() };
        for _ in 0..10 + random.below(60) {
            if Instant::now() >= until {
                break;
            }
            if life.step(&mut random).await.is_break() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(random.below(10))).await;
        }
        lives += 1;
        if random.below(2) == 0 {
            life.client.close();
        }
    }
    lives
}

/// One connection.
struct Life<'a> {
    client: HyperspaceClient,
    acknowledged: &'a Acknowledged,
    name: String,
    texts: u64,
    held: Vec<RemoteHypercore>,
}

impl Life<'_> {
    /// Breaks when the client has died.
    async fn step(&mut self, random: &mut Random) -> ControlFlow<()> {
        let name = format!("core {}", random.below(CORES));
        let core = self.client.corestore().get_by_name(&name).await.unwrap();
        match random.below(9) {
            0 | 1 => {
                let calls: Vec<_> =
                    (0..=random.below(10)).map(|_| self.blocks(1 + random.below(3), 0)).collect();
                join_all(calls.into_iter().map(|blocks| self.append(&core, &name, blocks))).await;
            }
            2 => {
                let filling = if random.below(4) == 0 { LARGE } else { 0 };
                let blocks = self.blocks(1, filling);
                self.append(&core, &name, blocks).await;
            }
            3 => {
                let length = core.length();
                let gets = (length.saturating_sub(1 + random.below(50))..length).map(|seq| core.get(seq));
                assert!(join_all(gets).await.into_iter().all(|block| block.is_ok()));
            }
            4 | 5 => self.under_lock(random).await?,
            // Left behind in the middle.
            6 => drop(core.wait_for_block(1_000_000_000).now_or_never()),
            7 => drop(core.download(&DownloadRange::live(0)).now_or_never()),
            _ => drop(core.append("never acknowledged").now_or_never()),
        }
        if random.below(2) == 0 && self.held.len() < 100 {
            self.held.push(core);
        }
        ControlFlow::Continue(())
    }

    fn blocks(&mut self, count: u64, filling: usize) -> Vec<Block> {
        let text = format!("{} {}", self.name, self.texts);
        self.texts += 1;
        (0..count).map(|at| Block { text: format!("{text} {at}"), filling }).collect()
    }

    async fn append(&self, core: &RemoteHypercore, name: &str, blocks: Vec<Block>) -> u64 {
        let bytes: Vec<Bytes> = blocks.iter().map(Block::bytes).collect();
        let appended = core.append_blocks(&bytes).await.unwrap();
        assert!(core.length() >= appended.length, "the length is told before the append is answered");
        for (seq, block) in (appended.seq..).zip(blocks) {
            self.acknowledged.add(name, seq, block);
        }
        appended.seq
    }

    async fn under_lock(&mut self, random: &mut Random) -> ControlFlow<()> {
        let core = self.client.corestore().get_by_name(LOCKED).await.unwrap();
        let lock = within("a lock whose holders die", core.lock()).await.unwrap();
        let length = core.length();
        let blocks = self.blocks(1, 0);
        let seq = self.append(&core, LOCKED, blocks).await;
        assert_eq!(seq, length, "somebody else appended under the lock");
        match random.below(4) {
            0 => {
                // It dies with the lock.
                self.client.close();
                return ControlFlow::Break(());
            }
            1 => drop(lock),
            _ => lock.release().await.unwrap(),
        }
        ControlFlow::Continue(())
    }
}

/// Uses the daemon from Node (npm `@hyperspace/client`), life after life, until the time is over. Most are killed.
pub(crate) async fn node(
    node: &Node,
    daemon: &Daemon,
    acknowledged: &Acknowledged,
    seed: u64,
    until: Instant,
) -> u64 {
    let mut random = Random(seed);
    let mut lives = 0;
    while Instant::now() < until {
        let life_seed = (seed * 1_000_000 + lives).to_string();
        let mut process = Command::from(node.command("js-old/load.js", [NAME, &life_seed]))
            .env("TMPDIR", daemon.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdout = process.stdout.take().unwrap();
        let reading = read_lines(stdout, acknowledged);
        let ending = end(&mut process, Duration::from_millis(500 + random.below(4000)), random.below(4) != 0);
        within("a program in Node that ends", async { tokio::join!(reading, ending) }).await;
        lives += 1;
    }
    lives
}

/// Lets it live for a while, then kills it, or lets it end.
async fn end(process: &mut Child, life: Duration, kill: bool) {
    let stdin = process.stdin.take();
    tokio::time::sleep(life).await;
    if kill {
        // It may have ended by itself.
        let _ = process.start_kill();
    }
    drop(stdin);
    let status = process.wait().await.unwrap();
    assert!(kill || status.success(), "{status}");
}

/// Takes what was acknowledged, up to the last whole line.
async fn read_lines(stdout: ChildStdout, acknowledged: &Acknowledged) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // The last line of one that was killed may be a part.
        let Ok(line) = line.parse::<Value>() else { continue };
        assert!(line["failed"].is_null(), "a program in Node: {}", line["failed"]);
        let Some(core) = line["core"].as_str() else { continue };
        let number = |name: &str| line[name].as_u64().unwrap();
        let (text, seq) = (line["text"].as_str().unwrap(), number("seq"));
        for at in 0..number("count") {
            let block = Block { text: format!("{text} {at}"), filling: number("pad") as usize };
            acknowledged.add(core, seq + at, block);
        }
    }
}
