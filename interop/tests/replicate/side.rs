//! One side of a replication, Rust or npm, with the same commands.

use bytes::Bytes;
use corestore::Query;
use futures::future::join_all;
use hypercore::demand::DownloadRange;
use hypercore::session::{GetOptions, UpdateOptions};
use hypercore::{Error, Hypercore, Key, KeyPair, Manifest};
use interop::pattern::{self, Digest};
use interop::{Peer, Value, hex, json, key, manifest_json, within};

use crate::rust_side::{RustSide, until};

/// A store that replicates.
#[expect(clippy::large_enum_variant, reason = "a test has a handful of them")]
pub(crate) enum Side {
    /// Ours.
    Rust(Box<RustSide>),
    /// Corestore 7 with hypercore 11, or corestore 6 with hypercore 10.
    Npm(Peer),
}

/// A frozen core gives nothing more: whoever waits for a block of it waits for ever, as on npm.
async fn get(core: &Hypercore, index: u64) -> Bytes {
    match within(&format!("get {index}"), core.get(index)).await {
        Err(Error::Frozen(_)) => std::future::pending().await,
        block => block.unwrap(),
    }
}

/// What both sides must say alike of a core.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) key: String,
    pub(crate) discovery_key: String,
    pub(crate) length: u64,
    pub(crate) byte_length: u64,
    pub(crate) fork: u64,
    pub(crate) tree_hash: String,
    pub(crate) signature: Option<String>,
    pub(crate) manifest: Value,
}

/// Which core to make.
#[derive(Debug, Clone)]
pub(crate) enum Make {
    /// By the name that is its label: the default manifest, or with hypercore 10 the compat form.
    Named,
    /// The compat form, of a fresh key pair (or, on npm, of one that the label yields).
    Compat,
    /// By its manifest, with the seeds of the key pairs that are held.
    Manifest(Manifest, Vec<[u8; 32]>),
}

impl Side {
    /// Makes a core and answers its key.
    pub(crate) async fn create(&self, label: &str, make: &Make) -> Key {
        match (self, make) {
            (Self::Rust(side), Make::Named) => side.open(label, label).key(),
            (Self::Rust(side), Make::Compat) => side.open(label, Query::fresh().compat(true)).key(),
            (Self::Rust(side), Make::Manifest(manifest, seeds)) => {
                let query = seeds.iter().fold(Query::manifest(manifest.clone()), |query, seed| {
                    query.signer(KeyPair::from_seed(seed))
                });
                side.open(label, query).key()
            }
            (Self::Npm(peer), Make::Named) => {
                key(&peer.ask("open", json!({ "core": label, "name": label })).await)
            }
            (Self::Npm(peer), Make::Compat) => {
                let seed = hex(&blake2b_simd::blake2b(label.as_bytes()).as_bytes()[..32]);
                key(&peer.ask("open", json!({ "core": label, "seed": seed, "compat": true })).await)
            }
            (Self::Npm(peer), Make::Manifest(manifest, seeds)) => {
                let mut args = json!({ "core": label, "manifest": manifest_json(manifest) });
                if let Some(seed) = seeds.first() {
                    args["seed"] = json!(hex(seed));
                }
                key(&peer.ask("open", args).await)
            }
        }
    }

    /// Opens a core of which only the key is known.
    pub(crate) async fn open(&self, label: &str, key: Key) {
        match self {
            Self::Rust(side) => {
                side.open(label, key);
            }
            Self::Npm(peer) => {
                peer.ask("open", json!({ "core": label, "key": key.to_hex() })).await;
            }
        }
    }

    /// Lets go of a core; it stays stored.
    pub(crate) async fn release(&self, label: &str) {
        match self {
            Self::Rust(side) => side.release(label),
            Self::Npm(peer) => {
                peer.ask("closeCore", json!({ "core": label })).await;
            }
        }
    }

    /// Appends `count` pattern blocks of `size` bytes.
    pub(crate) async fn generate(&self, label: &str, count: u64, size: usize, salt: u32) {
        match self {
            Self::Rust(side) => {
                let core = side.core(label);
                let start = core.length();
                let blocks =
                    (start..start + count).map(|index| Bytes::from(pattern::block(index, size, salt)));
                core.append_batch(blocks).unwrap();
            }
            Self::Npm(peer) => {
                let args = json!({ "core": label, "count": count, "size": size, "salt": salt });
                peer.ask("generate", args).await;
            }
        }
    }

    /// Appends blocks in one append.
    pub(crate) async fn append(&self, label: &str, blocks: &[Bytes]) {
        match self {
            Self::Rust(side) => {
                side.core(label).append_batch(blocks.iter().cloned()).unwrap();
            }
            Self::Npm(peer) => {
                let blocks: Vec<String> = blocks.iter().map(hex).collect();
                peer.ask("append", json!({ "core": label, "blocks": blocks })).await;
            }
        }
    }

    pub(crate) async fn truncate(&self, label: &str, length: u64) {
        match self {
            Self::Rust(side) => side.core(label).truncate(length).unwrap(),
            Self::Npm(peer) => {
                peer.ask("truncate", json!({ "core": label, "length": length })).await;
            }
        }
    }

    pub(crate) async fn clear(&self, label: &str, start: u64, end: u64) {
        match self {
            Self::Rust(side) => {
                side.core(label).clear(start..end).unwrap();
            }
            Self::Npm(peer) => {
                peer.ask("clear", json!({ "core": label, "start": start, "end": end })).await;
            }
        }
    }

    /// A block, from the network where it must be.
    pub(crate) async fn get(&self, label: &str, index: u64) -> String {
        match self {
            Self::Rust(side) => {
                let core = side.core(label);
                hex(get(&core, index).await)
            }
            Self::Npm(peer) => match peer.call("get", json!({ "core": label, "index": index })).await {
                Ok(block) => block.as_str().expect("a block").to_owned(),
                Err(err) if err.message.starts_with("Two conflicting signatures") => {
                    std::future::pending().await
                }
                Err(err) => panic!("{label}: get {index}: {err}"),
            },
        }
    }

    /// A block if it is here.
    pub(crate) async fn get_local(&self, label: &str, index: u64) -> Option<String> {
        match self {
            Self::Rust(side) => {
                let options = GetOptions { wait: false, ..GetOptions::default() };
                side.core(label).get_with(index, options).await.unwrap().map(hex)
            }
            Self::Npm(peer) => {
                let block = peer.ask("get", json!({ "core": label, "index": index, "wait": false })).await;
                block.as_str().map(str::to_owned)
            }
        }
    }

    /// Many blocks, asked for at once; the digest of them in this order.
    pub(crate) async fn get_many(&self, label: &str, indexes: &[u64]) -> String {
        match self {
            Self::Rust(side) => {
                let core = side.core(label);
                let mut digest = Digest::default();
                let blocks = within(label, join_all(indexes.iter().map(|index| core.get(*index)))).await;
                for block in blocks {
                    digest.add(&block.unwrap());
                }
                digest.finish()
            }
            Self::Npm(peer) => {
                let answer = peer.ask("getMany", json!({ "core": label, "indexes": indexes })).await;
                answer["digest"].as_str().expect("a digest").to_owned()
            }
        }
    }

    /// Reads every block of a range, from the network where it must, and answers their digest.
    pub(crate) async fn digest(&self, label: &str, start: u64, end: u64) -> String {
        match self {
            Self::Rust(side) => {
                let core = side.core(label);
                let mut digest = Digest::default();
                for first in (start..end).step_by(256) {
                    let gets = (first..end.min(first + 256)).map(|index| core.get(index));
                    for block in within(&format!("{label}: blocks from {first}"), join_all(gets)).await {
                        digest.add(&block.unwrap());
                    }
                }
                digest.finish()
            }
            Self::Npm(peer) => {
                let answer = peer.ask("digest", json!({ "core": label, "start": start, "end": end })).await;
                answer["digest"].as_str().expect("a digest").to_owned()
            }
        }
    }

    /// Downloads `start..end` and waits for it.
    pub(crate) async fn download(&self, label: &str, start: u64, end: u64, linear: bool) {
        match self {
            Self::Rust(side) => {
                let range = DownloadRange { linear, ..DownloadRange::new(start, end) };
                let download = side.core(label).download(range).unwrap();
                within(&format!("{label}: download {start}..{end}"), download.into_future()).await.unwrap();
            }
            Self::Npm(peer) => {
                let args = json!({ "core": label, "start": start, "end": end, "linear": linear });
                peer.ask("download", args).await;
            }
        }
    }

    /// Downloads a list of blocks and waits for it.
    pub(crate) async fn download_list(&self, label: &str, blocks: &[u64]) {
        match self {
            Self::Rust(side) => {
                let range = DownloadRange::list(blocks.iter().copied());
                let download = side.core(label).download(range).unwrap();
                within(&format!("{label}: download a list"), download.into_future()).await.unwrap();
            }
            Self::Npm(peer) => {
                peer.ask("download", json!({ "core": label, "blocks": blocks })).await;
            }
        }
    }

    /// Downloads all there is and all that comes, from now on.
    pub(crate) async fn follow(&self, label: &str) {
        match self {
            Self::Rust(side) => side.follow(label),
            Self::Npm(peer) => {
                peer.ask("follow", json!({ "core": label })).await;
            }
        }
    }

    pub(crate) async fn has(&self, label: &str, start: u64, end: u64) -> bool {
        match self {
            Self::Rust(side) => side.core(label).has_range(start..end).unwrap(),
            Self::Npm(peer) => {
                let has = peer.ask("has", json!({ "core": label, "start": start, "end": end })).await;
                has.as_bool().expect("an answer")
            }
        }
    }

    pub(crate) async fn seek(&self, label: &str, bytes: u64) -> (u64, u64) {
        match self {
            Self::Rust(side) => {
                let core = side.core(label);
                within(&format!("{label}: seek {bytes}"), core.seek(bytes)).await.unwrap()
            }
            Self::Npm(peer) => {
                let found = peer.ask("seek", json!({ "core": label, "bytes": bytes })).await;
                (found[0].as_u64().expect("an index"), found[1].as_u64().expect("an offset"))
            }
        }
    }

    pub(crate) async fn update(&self, label: &str, wait: Option<bool>) -> bool {
        match self {
            Self::Rust(side) => {
                let core = side.core(label);
                let options = UpdateOptions { wait, ..UpdateOptions::default() };
                within(&format!("{label}: update"), core.update_with(options)).await.unwrap()
            }
            Self::Npm(peer) => {
                let mut args = json!({ "core": label });
                if let Some(wait) = wait {
                    args["wait"] = json!(wait);
                }
                peer.ask("update", args).await.as_bool().expect("an answer")
            }
        }
    }

    pub(crate) async fn state(&self, label: &str) -> State {
        match self {
            Self::Rust(side) => {
                let core = side.core(label);
                let signature = core.lock().core().head().signature.clone();
                State {
                    key: core.key().to_hex(),
                    discovery_key: core.discovery_key().to_hex(),
                    length: core.length(),
                    byte_length: core.byte_length(),
                    fork: core.fork(),
                    tree_hash: hex(core.tree_hash()),
                    signature: signature.map(hex),
                    manifest: core.manifest().as_ref().map_or(Value::Null, manifest_json),
                }
            }
            Self::Npm(peer) => {
                let info = peer.ask("info", json!({ "core": label })).await;
                let hash = peer.ask("treeHash", json!({ "core": label })).await;
                let text = |value: &Value| value.as_str().map(str::to_owned);
                let number = |name: &str| info[name].as_u64().expect("a number");
                State {
                    key: text(&info["key"]).expect("a key"),
                    discovery_key: text(&info["discoveryKey"]).expect("a discovery key"),
                    length: number("length"),
                    byte_length: number("byteLength"),
                    fork: number("fork"),
                    tree_hash: text(&hash).expect("a hash"),
                    signature: text(&info["signature"]),
                    manifest: info["manifest"].clone(),
                }
            }
        }
    }

    /// The tree hashes at some lengths.
    pub(crate) async fn tree_hashes(&self, label: &str, lengths: &[u64]) -> Vec<String> {
        match self {
            Self::Rust(side) => {
                let core = side.core(label);
                let guard = core.lock();
                lengths.iter().map(|length| hex(guard.core().tree_hash_at(*length).unwrap())).collect()
            }
            Self::Npm(peer) => {
                let hashes = peer.ask("treeHashes", json!({ "core": label, "lengths": lengths })).await;
                let hashes = hashes.as_array().expect("hashes");
                hashes.iter().map(|hash| hash.as_str().expect("a hash").to_owned()).collect()
            }
        }
    }

    pub(crate) async fn contiguous_length(&self, label: &str) -> u64 {
        match self {
            Self::Rust(side) => side.core(label).contiguous_length(),
            Self::Npm(peer) => {
                let info = peer.ask("info", json!({ "core": label })).await;
                info["contiguousLength"].as_u64().expect("a number")
            }
        }
    }

    /// How many blocks have come from peers since the core was opened here.
    pub(crate) async fn downloaded(&self, label: &str) -> u64 {
        match self {
            Self::Rust(side) => side.downloaded(label),
            Self::Npm(peer) => {
                let info = peer.ask("info", json!({ "core": label })).await;
                info["downloaded"].as_u64().expect("a number")
            }
        }
    }

    pub(crate) async fn peer_count(&self, label: &str) -> u64 {
        match self {
            Self::Rust(side) => side.core(label).peer_count() as u64,
            Self::Npm(peer) => {
                peer.ask("info", json!({ "core": label })).await["peers"].as_u64().expect("a number")
            }
        }
    }

    pub(crate) async fn wait_length(&self, label: &str, length: u64) {
        match self {
            Self::Rust(side) => {
                self.wait(side.core(label), &format!("{label}: length {length}"), |core| {
                    core.length() >= length
                })
                .await;
            }
            Self::Npm(peer) => {
                peer.ask("waitLength", json!({ "core": label, "length": length })).await;
            }
        }
    }

    pub(crate) async fn wait_fork(&self, label: &str, fork: u64) {
        match self {
            Self::Rust(side) => {
                self.wait(side.core(label), &format!("{label}: fork {fork}"), |core| core.fork() >= fork)
                    .await;
            }
            Self::Npm(peer) => {
                peer.ask("waitFork", json!({ "core": label, "fork": fork })).await;
            }
        }
    }

    pub(crate) async fn wait_peers(&self, label: &str, count: u64) {
        match self {
            Self::Rust(side) => {
                let reached = |core: &Hypercore| core.peer_count() as u64 == count;
                self.wait(side.core(label), &format!("{label}: {count} peers"), reached).await;
            }
            Self::Npm(peer) => {
                peer.ask("waitPeers", json!({ "core": label, "count": count })).await;
            }
        }
    }

    /// Waits until every block is here.
    pub(crate) async fn wait_whole(&self, label: &str, length: u64) {
        match self {
            Self::Rust(side) => {
                let reached = |core: &Hypercore| core.contiguous_length() >= length;
                self.wait(side.core(label), &format!("{label}: all {length} blocks"), reached).await;
            }
            Self::Npm(peer) => {
                peer.ask("waitWhole", json!({ "core": label, "length": length })).await;
            }
        }
    }

    async fn wait(&self, core: Hypercore, what: &str, reached: impl Fn(&Hypercore) -> bool) {
        within(what, until(&core, reached)).await;
    }

    /// Makes extension messages of this name heard.
    pub(crate) async fn extension(&self, label: &str, name: &str) {
        if let Self::Npm(peer) = self {
            peer.ask("extension", json!({ "core": label, "name": name })).await;
        }
    }

    pub(crate) async fn send_extension(&self, label: &str, name: &str, message: &Bytes) {
        match self {
            Self::Rust(side) => side.send_extension(label, name, message),
            Self::Npm(peer) => {
                let args = json!({ "core": label, "name": name, "message": hex(message) });
                peer.ask("extensionSend", args).await;
            }
        }
    }

    /// The next extension message for this core: its name and itself.
    pub(crate) async fn next_extension(&self, label: &str) -> (String, String) {
        match self {
            Self::Rust(side) => {
                let (discovery_key, name, message) =
                    within("an extension message", side.next_extension()).await;
                assert_eq!(discovery_key, side.core(label).discovery_key());
                (name, hex(message))
            }
            Self::Npm(peer) => {
                let event = peer.event("extension").await;
                assert_eq!(event["core"], label);
                (event["name"].as_str().unwrap().to_owned(), event["message"].as_str().unwrap().to_owned())
            }
        }
    }

    pub(crate) async fn listen(&self) -> u16 {
        match self {
            Self::Rust(side) => side.listen().await,
            Self::Npm(peer) => {
                let port = peer.ask("listen", json!({})).await["port"].as_u64();
                port.and_then(|port| port.try_into().ok()).expect("a port")
            }
        }
    }

    /// Dials, and waits for the handshake.
    pub(crate) async fn connect(&self, port: u16) {
        match self {
            Self::Rust(side) => within("the handshake", side.connect(port)).await,
            Self::Npm(peer) => {
                peer.ask("connect", json!({ "port": port })).await;
            }
        }
        self.connected().await;
    }

    /// Dials, and waits until the connection is gone.
    pub(crate) async fn dial_until_cut(&self, port: u16) {
        self.connect(port).await;
        self.disconnected().await;
    }

    /// Waits for the handshake of a connection that is new since the last call.
    pub(crate) async fn connected(&self) {
        match self {
            Self::Rust(side) => within("a connection", side.connected()).await,
            Self::Npm(peer) => {
                peer.event("connection").await;
            }
        }
    }

    /// Ends all connections.
    pub(crate) async fn cut(&self) {
        match self {
            Self::Rust(side) => side.cut(),
            Self::Npm(peer) => {
                peer.ask("cut", json!({})).await;
            }
        }
    }

    /// Waits for the end of the connection(s).
    pub(crate) async fn disconnected(&self) {
        match self {
            Self::Rust(side) => within("the end of the connections", side.disconnected()).await,
            Self::Npm(peer) => {
                peer.event("disconnect").await;
            }
        }
    }

    pub(crate) async fn close(self) {
        match self {
            Self::Rust(side) => side.close(),
            Self::Npm(peer) => peer.close().await,
        }
    }
}
