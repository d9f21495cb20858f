//! Logs on our side of a test.

use bytes::Bytes;
use futures::StreamExt;
use hypercore::Hypercore;

use crate::{pattern, within};

/// Waits until `reached` holds, looking whenever something happens to the log.
pub async fn until(core: &Hypercore, what: &str, reached: impl Fn(&Hypercore) -> bool) {
    let mut events = core.events();
    within(what, async {
        while !reached(core) {
            if events.next().await.is_none() {
                panic!("{what}: the log was closed");
            }
        }
    })
    .await;
}

/// The digest of all blocks, fetched from peers where they are missing.
pub async fn digest(core: &Hypercore) -> String {
    const WINDOW: u64 = 256;
    let mut digest = pattern::Digest::default();
    let length = core.length();
    for start in (0..length).step_by(WINDOW as usize) {
        let gets = (start..length.min(start + WINDOW)).map(|index| core.get(index));
        for block in within("blocks", futures::future::join_all(gets)).await {
            digest.add(&block.expect("a peer has the block"));
        }
    }
    digest.finish()
}

/// Pattern blocks `start..end`.
pub fn blocks(start: u64, end: u64, size: usize, salt: u32) -> Vec<Bytes> {
    (start..end).map(|index| pattern::block(index, size, salt).into()).collect()
}
