//! Many clients at once that die at random: nothing acknowledged is lost, nothing stays behind.

mod common;

use std::collections::{HashMap, hash_map::Entry};

use bytes::Bytes;
use common::Fixture;
use futures::{FutureExt, future::join_all};
use hypercore::{DownloadRange, Key};

/// SplitMix64.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

/// Works for a while; returns what was acknowledged: by core and index.
async fn client(fixture: &Fixture, seed: u64) -> HashMap<(Key, u64), Bytes> {
    let mut random = Random(seed);
    let mut acknowledged = HashMap::new();
    for life in 0..5 {
        let client = fixture.client().await;
        let store = client.corestore();
        let mut held = Vec::new();
        for _ in 0..random.below(12) {
            let core = store.get_by_name(&format!("core {}", random.below(4))).await.unwrap();
            match random.below(6) {
                0 | 1 => {
                    let calls = (0..=random.below(20)).map(|i| {
                        let blocks = vec![Bytes::from(format!("{seed} {life} {i}")); 1 + (i % 3) as usize];
                        let core = &core;
                        async move { core.append_blocks(&blocks).await.map(|appended| (appended, blocks)) }
                    });
                    for result in join_all(calls).await {
                        let (appended, blocks) = result.unwrap();
                        for (seq, block) in (appended.seq..appended.length).zip(blocks) {
                            assert!(acknowledged.insert((core.key(), seq), block).is_none());
                        }
                    }
                }
                2 => {
                    let length = core.length();
                    let gets = join_all((0..length.min(50)).map(|i| core.get(i))).await;
                    assert!(gets.into_iter().all(|block| block.is_ok()));
                }
                // Left behind in the middle.
                3 => drop(core.wait_for_block(1_000_000).now_or_never()),
                4 => drop(core.download(&DownloadRange::live(0)).now_or_never()),
                _ => drop(core.append("never acknowledged").now_or_never()),
            }
            if random.below(2) == 0 {
                held.push(core);
            }
        }
        // Some close their sessions, others are just gone.
        if random.below(2) == 0 {
            client.close();
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_stays() {
    let fixture = Fixture::start().await;
    let seed = 20_261_121;
    let all = join_all((0..12).map(|i| client(&fixture, seed + i))).await;
    let mut expected = HashMap::new();
    for acknowledged in all {
        for (place, block) in acknowledged {
            assert!(
                expected.insert(place, block).is_none(),
                "two clients were given the same place (seed {seed})"
            );
        }
    }
    assert!(expected.len() > 100);
    let reader = fixture.client().await;
    let mut cores = HashMap::new();
    for ((key, index), block) in expected {
        if let Entry::Vacant(place) = cores.entry(key) {
            place.insert(reader.corestore().get(&key).await.unwrap());
        }
        assert_eq!(cores[&key].get(index).await.unwrap(), block, "seed {seed}");
    }
    drop(cores);
    // Each answer is a chance for the server to notice who has gone.
    let mut left = usize::MAX;
    for _ in 0..10_000 {
        reader.status().await.unwrap();
        left = fixture.server.store().loaded_count();
        if left == 0 {
            break;
        }
    }
    assert_eq!(left, 0, "cores are still open");
}
