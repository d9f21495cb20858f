//! Our replication against npm Corestore 7.12.5 with hypercore 11.37.1 over TCP: each side as writer and as reader, each
//! dialling.

use std::future::IntoFuture;
use std::time::Duration;

use bytes::Bytes;
use corestore::Query;
use hypercore::demand::DownloadRange;
use hypercore::{GetOptions, Hypercore, Key};
use interop::{
    Dial, Node, Ours, Peer, Relay, blocks, digest, hex, json, key, pattern, until, until_length, within,
};
use tempfile::TempDir;

const DIALS: [Dial; 2] = [Dial::Ours, Dial::Theirs];

struct Both {
    ours: Ours,
    peer: Peer,
    _folder: TempDir,
}

impl Both {
    async fn new() -> Option<Self> {
        let node = Node::find().await?;
        let folder = tempfile::tempdir().unwrap();
        let peer = node.peer(folder.path().join("theirs")).await;
        let ours = Ours::new(corestore::Corestore::open(folder.path().join("ours")).unwrap());
        Some(Self { ours, peer, _folder: folder })
    }

    async fn connect(&self, dial: Dial) {
        self.ours.connect(&self.peer, dial).await;
    }

    /// Their log of pattern blocks, and our reader of it.
    async fn their_log(&self, count: u64, size: usize) -> Hypercore {
        let opened = self.peer.ask("open", json!({ "core": "log", "name": "log" })).await;
        self.peer.ask("generate", json!({ "core": "log", "count": count, "size": size })).await;
        self.ours.store.get(key(&opened)).unwrap()
    }

    /// Our log of pattern blocks, which they have opened under the label "log".
    async fn our_log(&self, count: u64, size: usize) -> Hypercore {
        let core = self.ours.store.get("log").unwrap();
        for start in (0..count).step_by(1000) {
            core.append_batch(blocks(start, count.min(start + 1000), size, 0)).unwrap();
        }
        self.peer.ask("open", json!({ "core": "log", "key": core.key().to_hex() })).await;
        core
    }

    async fn close(self) {
        self.peer.close().await;
        self.ours.store.close().unwrap();
    }
}

/// Length, fork, tree hash and signature.
async fn same_head(peer: &Peer, label: &str, core: &Hypercore) {
    let theirs = peer.ask("info", json!({ "core": label })).await;
    assert_eq!(theirs["length"], core.length(), "{label}");
    assert_eq!(theirs["fork"], core.fork(), "{label}");
    assert_eq!(theirs["treeHash"], hex(core.tree_hash()), "{label}");
    let signature = core.lock().core().head().signature.clone();
    assert_eq!(theirs["signature"], json!(signature.map(hex)), "{label}");
}

async fn we_read(dial: Dial, count: u64, size: usize) {
    let Some(both) = Both::new().await else { return };
    let core = both.their_log(count, size).await;
    both.connect(dial).await;
    until_length(&core, count).await;
    let download = core.download(DownloadRange::new(0, count)).unwrap();
    within("the download", download.into_future()).await.unwrap();
    assert_eq!(core.contiguous_length(), count);
    assert_eq!(digest(&core).await, pattern::digest(0, count, size, 0));
    same_head(&both.peer, "log", &core).await;
    both.close().await;
}

async fn they_read(dial: Dial, count: u64, size: usize) {
    let Some(both) = Both::new().await else { return };
    let core = both.our_log(count, size).await;
    both.connect(dial).await;
    both.peer.ask("waitLength", json!({ "core": "log", "length": count })).await;
    both.peer.ask("download", json!({ "core": "log", "start": 0, "end": count })).await;
    let read = both.peer.ask("digest", json!({ "core": "log" })).await;
    assert_eq!(read["digest"], pattern::digest(0, count, size, 0));
    let info = both.peer.ask("info", json!({ "core": "log" })).await;
    assert_eq!(info["downloaded"], count, "no block comes twice");
    same_head(&both.peer, "log", &core).await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn we_read_ten_thousand_small_blocks() {
    for dial in DIALS {
        we_read(dial, 10_000, 100).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_read_ten_thousand_small_blocks() {
    for dial in DIALS {
        they_read(dial, 10_000, 100).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn we_read_large_blocks() {
    for dial in DIALS {
        we_read(dial, 300, 64 * 1024).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_read_large_blocks() {
    for dial in DIALS {
        they_read(dial, 300, 64 * 1024).await;
    }
}

/// A few hundred places of a long log, in no order.
fn places(count: u64) -> Vec<u64> {
    (0..300).map(|at| at * 7919 % count).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn we_read_here_and_there() {
    let Some(both) = Both::new().await else { return };
    let core = both.their_log(10_000, 100).await;
    both.connect(Dial::Ours).await;
    until_length(&core, 10_000).await;
    let places = places(10_000);
    let gets = places.iter().map(|&index| core.get(index));
    for (index, block) in places.iter().zip(within("blocks", futures::future::join_all(gets)).await) {
        assert_eq!(block.unwrap(), pattern::block(*index, 100, 0), "block {index}");
    }
    assert_eq!(core.count_local(0..10_000).unwrap(), 300, "nothing was read that was not asked for");
    for bytes in [0, 1, 99, 100, 333_333, 999_999] {
        assert_eq!(within("seek", core.seek(bytes)).await.unwrap(), (bytes / 100, bytes % 100));
    }
    assert_eq!(
        core.get_with(9_999, GetOptions { wait: false, ..GetOptions::default() }).await.unwrap(),
        None
    );
    both.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_read_here_and_there() {
    let Some(both) = Both::new().await else { return };
    let _core = both.our_log(10_000, 100).await;
    both.connect(Dial::Theirs).await;
    both.peer.ask("waitLength", json!({ "core": "log", "length": 10_000 })).await;
    let places = places(10_000);
    let mut expected = pattern::Digest::default();
    for &index in &places {
        expected.add(&pattern::block(index, 100, 0));
    }
    let read = both.peer.ask("getMany", json!({ "core": "log", "indexes": places })).await;
    assert_eq!(read["digest"], expected.finish());
    let info = both.peer.ask("info", json!({ "core": "log" })).await;
    assert_eq!(info["downloaded"], 300);
    for bytes in [0, 1, 99, 100, 333_333, 999_999] {
        let found = both.peer.ask("seek", json!({ "core": "log", "bytes": bytes })).await;
        assert_eq!(found, json!([bytes / 100, bytes % 100]));
    }
    both.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn we_follow_live_appends() {
    let Some(both) = Both::new().await else { return };
    let core = both.their_log(3, 50).await;
    both.connect(Dial::Theirs).await;
    let _download = core.download(DownloadRange::live(0)).unwrap();
    for burst in [1, 1, 2, 10, 100, 1, 500] {
        let generated = both.peer.ask("generate", json!({ "core": "log", "count": burst, "size": 50 })).await;
        let length = generated["length"].as_u64().unwrap();
        until(&core, "live blocks", |core| core.contiguous_length() >= length).await;
    }
    assert_eq!(digest(&core).await, pattern::digest(0, core.length(), 50, 0));
    same_head(&both.peer, "log", &core).await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_follow_live_appends() {
    let Some(both) = Both::new().await else { return };
    let core = both.our_log(3, 50).await;
    both.connect(Dial::Ours).await;
    for burst in [1, 1, 2, 10, 100, 1, 500] {
        let length = core.length();
        core.append_batch(blocks(length, length + burst, 50, 0)).unwrap();
        both.peer.ask("waitLength", json!({ "core": "log", "length": length + burst })).await;
        let read = both.peer.ask("digest", json!({ "core": "log", "start": length })).await;
        assert_eq!(read["digest"], pattern::digest(length, length + burst, 50, 0));
    }
    same_head(&both.peer, "log", &core).await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn we_follow_truncations() {
    let Some(both) = Both::new().await else { return };
    let core = both.their_log(200, 50).await;
    both.connect(Dial::Ours).await;
    until_length(&core, 200).await;
    assert_eq!(digest(&core).await, pattern::digest(0, 200, 50, 0));

    // While connected...
    for (fork, keep) in [(1, 150), (2, 20), (3, 19)] {
        both.peer.ask("truncate", json!({ "core": "log", "length": keep })).await;
        both.peer.ask("generate", json!({ "core": "log", "count": 30, "size": 40, "salt": fork })).await;
        until(&core, "the fork", |core| core.fork() == fork && core.length() == keep + 30).await;
        let theirs = both.peer.ask("digest", json!({ "core": "log" })).await;
        assert_eq!(theirs["digest"], digest(&core).await);
        same_head(&both.peer, "log", &core).await;
    }

    // ...and several times while away.
    both.ours.disconnect();
    both.peer.ask("waitPeers", json!({ "core": "log", "count": 0 })).await;
    for keep in [40, 30, 10] {
        both.peer.ask("truncate", json!({ "core": "log", "length": keep })).await;
        both.peer.ask("generate", json!({ "core": "log", "count": 60, "size": 30, "salt": keep })).await;
    }
    both.connect(Dial::Theirs).await;
    until(&core, "the fork", |core| core.fork() == 6 && core.length() == 70).await;
    let theirs = both.peer.ask("digest", json!({ "core": "log" })).await;
    assert_eq!(theirs["digest"], digest(&core).await);
    same_head(&both.peer, "log", &core).await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_follow_truncations() {
    let Some(both) = Both::new().await else { return };
    let core = both.our_log(200, 50).await;
    both.connect(Dial::Ours).await;
    both.peer.ask("waitLength", json!({ "core": "log", "length": 200 })).await;
    both.peer.ask("digest", json!({ "core": "log" })).await;

    let same = async |fork: u64| {
        both.peer.ask("waitFork", json!({ "core": "log", "fork": fork })).await;
        both.peer.ask("waitLength", json!({ "core": "log", "length": core.length() })).await;
        let theirs = both.peer.ask("digest", json!({ "core": "log" })).await;
        assert_eq!(theirs["digest"], digest(&core).await);
        same_head(&both.peer, "log", &core).await;
    };
    for (fork, keep) in [(1, 150), (2, 20), (3, 19)] {
        core.truncate(keep).unwrap();
        core.append_batch(blocks(keep, keep + 30, 40, 1)).unwrap();
        same(fork).await;
    }
    both.ours.disconnect();
    both.peer.ask("waitPeers", json!({ "core": "log", "count": 0 })).await;
    for keep in [40, 30, 10] {
        core.truncate(keep).unwrap();
        core.append_batch(blocks(keep, keep + 60, 30, keep as u32)).unwrap();
    }
    both.connect(Dial::Theirs).await;
    same(6).await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_logs_share_one_connection() {
    let Some(both) = Both::new().await else { return };
    const LOGS: u64 = 40;
    let mut theirs = Vec::new();
    let mut ours = Vec::new();
    for at in 0..LOGS {
        let label = format!("theirs {at}");
        let opened = both.peer.ask("open", json!({ "core": label, "name": label })).await;
        both.peer.ask("generate", json!({ "core": label, "count": 20 + at, "size": 60, "salt": at })).await;
        theirs.push((label, both.ours.store.get(key(&opened)).unwrap()));

        let core = both.ours.store.get(format!("ours {at}").as_str()).unwrap();
        core.append_batch(blocks(0, 20 + at, 60, at as u32)).unwrap();
        both.peer.ask("open", json!({ "core": format!("ours {at}"), "key": core.key().to_hex() })).await;
        ours.push(core);
    }
    // One that only we have open, and one that is stored there but not open.
    let absent = both.ours.store.get(Key::from([7; 32])).unwrap();
    both.peer.ask("closeCore", json!({ "core": "theirs 5" })).await;

    both.connect(Dial::Theirs).await;
    for (at, (label, core)) in (0..).zip(&theirs) {
        until_length(core, 20 + at).await;
        assert_eq!(digest(core).await, pattern::digest(0, 20 + at, 60, at as u32), "{label}");
    }
    for at in 0..LOGS {
        let label = format!("ours {at}");
        both.peer.ask("waitLength", json!({ "core": label, "length": 20 + at })).await;
        let read = both.peer.ask("digest", json!({ "core": label })).await;
        assert_eq!(read["digest"], pattern::digest(0, 20 + at, 60, at as u32), "{label}");
    }
    // A log that is opened on a connection that runs already.
    let late = both.peer.ask("open", json!({ "core": "late", "name": "late" })).await;
    both.peer.ask("generate", json!({ "core": "late", "count": 5, "size": 10 })).await;
    let late = both.ours.store.get(key(&late)).unwrap();
    assert_eq!(within("a late block", late.get(4)).await.unwrap(), pattern::block(4, 10, 0));
    assert_eq!((absent.length(), absent.peer_count()), (0, 0));
    both.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn extension_messages_go_both_ways() {
    let Some(both) = Both::new().await else { return };
    let core = both.their_log(1, 10).await;
    let (heard, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let expected = core.discovery_key();
    both.ours.store.hub().set_extension_sink(Some(std::sync::Arc::new(
        move |discovery_key, _remote, name, message| {
            assert_eq!(*discovery_key, expected);
            heard.send((name.to_owned(), message)).unwrap();
        },
    )));
    both.peer.ask("extension", json!({ "core": "log", "name": "greeting" })).await;
    both.connect(Dial::Theirs).await;
    both.peer.ask("waitPeers", json!({ "core": "log", "count": 1 })).await;
    until_length(&core, 1).await;

    both.peer.ask("extensionSend", json!({ "core": "log", "name": "greeting", "message": "c0ffee" })).await;
    let (name, message) = within("the extension message", hears.recv()).await.unwrap();
    assert_eq!((name.as_str(), message), ("greeting", Bytes::from_static(&[0xc0, 0xff, 0xee])));

    let hello = Bytes::from_static(b"hello");
    let sent = both.ours.store.hub().broadcast_extension(&core.discovery_key(), "greeting", &hello);
    assert_eq!(sent, Ok(1));
    assert_eq!(both.peer.event("extension").await["message"], hex(b"hello"));
    both.close().await;
}

/// The peers know different keys: nothing is told about either log, and nothing hangs.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_opens_nothing() {
    let Some(both) = Both::new().await else { return };
    let right = both.their_log(5, 10).await;
    let wrong = both.ours.store.get(Key::from([9; 32])).unwrap();
    both.peer.ask("open", json!({ "core": "wrong", "key": hex([8; 32]) })).await;
    both.connect(Dial::Ours).await;
    until_length(&right, 5).await;

    assert_eq!(wrong.peer_count(), 0);
    let if_available = GetOptions { if_available: true, ..GetOptions::default() };
    assert!(within("the failing get", wrong.get_with(0, if_available)).await.is_err());
    assert!(
        tokio::time::timeout(Duration::from_millis(50), wrong.get(0)).await.is_err(),
        "it waits for a peer"
    );
    let theirs = both.peer.call("get", json!({ "core": "wrong", "index": 0, "timeout": 100 })).await;
    assert!(theirs.is_err());
    assert_eq!(both.peer.ask("info", json!({ "core": "wrong" })).await["peers"], 0);
    both.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn we_resume_after_a_cut() {
    let Some(both) = Both::new().await else { return };
    let core = both.their_log(2000, 1000).await;
    let port = both.peer.ask("listen", json!({})).await["port"].as_u64().unwrap();
    let relay = Relay::new(port.try_into().unwrap(), [300_000, 5_000, 700_000]).await;
    let mut download = core.download(DownloadRange::new(0, 2000)).unwrap();
    while relay.cuts() < 3 {
        let connection = both.ours.dial(relay.port()).await;
        let _ = within("the cut", connection.closed()).await;
    }
    both.ours.dial(relay.port()).await;
    within("the download", download.done()).await.unwrap();
    assert_eq!(digest(&core).await, pattern::digest(0, 2000, 1000, 0));
    same_head(&both.peer, "log", &core).await;
    both.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_resume_after_a_cut() {
    let Some(both) = Both::new().await else { return };
    let core = both.our_log(2000, 1000).await;
    let relay = Relay::new(both.ours.listen().await, [300_000, 700_000]).await;
    let resumed = async {
        for cut in 1..=2 {
            both.peer.ask("connect", json!({ "port": relay.port() })).await;
            both.peer.event("disconnect").await;
            assert_eq!(relay.cuts(), cut);
        }
        both.peer.ask("connect", json!({ "port": relay.port() })).await;
    };
    let download = both.peer.ask("download", json!({ "core": "log", "start": 0, "end": 2000 }));
    tokio::join!(resumed, download);
    let read = both.peer.ask("digest", json!({ "core": "log" })).await;
    assert_eq!(read["digest"], pattern::digest(0, 2000, 1000, 0));
    same_head(&both.peer, "log", &core).await;
    both.close().await;
}

/// What we got from one npm peer we give to another, which never meets the writer.
#[tokio::test(flavor = "multi_thread")]
async fn we_pass_on_what_we_got() {
    let Some(both) = Both::new().await else { return };
    let node = Node::find().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let reader = node.peer(folder.path().join("reader")).await;
    let core = both.their_log(500, 80).await;
    both.connect(Dial::Ours).await;
    reader.ask("open", json!({ "core": "log", "key": core.key().to_hex() })).await;
    both.ours.connect(&reader, Dial::Theirs).await;

    // We have nothing yet but the length: the reader's wishes make no wishes of ours.
    until_length(&core, 500).await;
    reader.ask("waitLength", json!({ "core": "log", "length": 500 })).await;
    let _download = core.download(DownloadRange::live(0)).unwrap();
    let read = reader.ask("digest", json!({ "core": "log" })).await;
    assert_eq!(read["digest"], pattern::digest(0, 500, 80, 0));
    both.peer.ask("generate", json!({ "core": "log", "count": 10, "size": 80 })).await;
    reader.ask("waitLength", json!({ "core": "log", "length": 510 })).await;
    let read = reader.ask("digest", json!({ "core": "log" })).await;
    assert_eq!(read["digest"], pattern::digest(0, 510, 80, 0));
    reader.close().await;
    both.close().await;
}

/// Blocks come from whoever has them: two npm peers with half of the log each.
#[tokio::test(flavor = "multi_thread")]
async fn two_halves_make_a_whole() {
    let Some(both) = Both::new().await else { return };
    let node = Node::find().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let other = node.peer(folder.path().join("other")).await;
    let core = both.their_log(1000, 80).await;
    other.ask("open", json!({ "core": "log", "key": core.key().to_hex() })).await;
    let port = both.peer.ask("listen", json!({})).await["port"].clone();
    other.ask("connect", json!({ "port": port })).await;
    other.ask("download", json!({ "core": "log", "start": 500, "end": 1000 })).await;
    other.ask("cut", json!({})).await;
    both.peer.ask("clear", json!({ "core": "log", "start": 500, "end": 1000 })).await;

    both.connect(Dial::Ours).await;
    both.ours.connect(&other, Dial::Theirs).await;
    let download = core.download(DownloadRange::new(0, 1000)).unwrap();
    within("the download", download.into_future()).await.unwrap();
    assert_eq!(digest(&core).await, pattern::digest(0, 1000, 80, 0));
    other.close().await;
    both.close().await;
}

/// Names and namespaces yield the same logs from the same primary key.
#[tokio::test(flavor = "multi_thread")]
async fn names_mean_the_same_logs() {
    let Some(both) = Both::new().await else { return };
    let node = Node::find().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let primary = hex(both.ours.store.primary_key());
    let store = folder.path().join("same");
    let peer = node.run("js/peer.js", [store.to_str().unwrap(), &primary]).await;
    for (at, namespace) in [vec![], vec!["a"], vec!["a", "b"], vec!["ab"], vec!["ä"]].into_iter().enumerate()
    {
        let label = format!("core {at}");
        let opened = peer.ask("open", json!({ "core": label, "name": "name", "namespace": namespace })).await;
        let ours = namespace.iter().fold(both.ours.store.clone(), |store, name| store.namespace(name));
        assert_eq!(key(&opened), ours.get(Query::name("name")).unwrap().key(), "{namespace:?}");
    }
    peer.close().await;
    both.close().await;
}
