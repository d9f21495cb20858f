//! Blocks of every size, whole logs, parts of them, and byte offsets.

use bytes::Bytes;
use interop::pattern::{self, Digest};

use crate::pair::Pair;

/// Numbers that look random, the same in every run.
fn numbers(below: u64) -> impl Iterator<Item = u64> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    })
}

fn digest_of(indexes: &[u64], size: usize) -> String {
    let mut digest = Digest::default();
    for index in indexes {
        digest.add(&pattern::block(*index, size, 0));
    }
    digest.finish()
}

async fn ten_thousand_small_blocks(pair: &Pair) {
    let key = pair.create("log").await;
    pair.writer.generate("log", 10_000, 100, 0).await;
    pair.reader.open("log", key).await;
    pair.connect().await;
    pair.reader.download("log", 0, 10_000, false).await;
    assert_eq!(pair.reader.downloaded("log").await, 10_000, "no block comes twice");
    pair.cut().await;
    pair.compare("log").await;
    assert_eq!(pair.reader.digest("log", 0, 10_000).await, pattern::digest(0, 10_000, 100, 0));
}

async fn large_blocks(pair: &Pair) {
    const SIZE: usize = 64 * 1024;
    pair.share("log").await;
    pair.writer.generate("log", 150, SIZE, 0).await;
    pair.connect().await;
    pair.reader.download("log", 0, 150, true).await;
    assert_eq!(pair.reader.digest("log", 0, 150).await, pattern::digest(0, 150, SIZE, 0));

    // Larger than any buffer on the way, and nothing at all.
    let odd = [Bytes::from(pattern::block(1, 3_000_000, 7)), Bytes::new(), Bytes::from_static(b"x")];
    pair.writer.append("log", &odd).await;
    pair.reader.wait_length("log", 153).await;
    pair.reader.download("log", 150, 153, false).await;
    pair.compare("log").await;
}

async fn random_and_sparse_reads(pair: &Pair) {
    pair.share("log").await;
    pair.writer.generate("log", 3_000, 120, 0).await;
    pair.connect().await;

    // Before the length is known here, too.
    let first: Vec<u64> = vec![2_999, 0, 1_234];
    assert_eq!(pair.reader.get_many("log", &first).await, digest_of(&first, 120));

    let mut some: Vec<u64> = numbers(3_000).take(300).collect();
    assert_eq!(pair.reader.get_many("log", &some).await, digest_of(&some, 120));
    some.extend(first);
    some.sort_unstable();
    some.dedup();
    assert_eq!(pair.reader.downloaded("log").await, some.len() as u64, "what is not asked for does not come");
    for index in some.iter().take(20) {
        let block = pair.reader.get_local("log", *index).await;
        assert_eq!(block.as_deref(), Some(interop::hex(pattern::block(*index, 120, 0)).as_str()));
        if !some.contains(&(index + 1)) {
            assert!(!pair.reader.has("log", index + 1, index + 2).await);
            assert_eq!(pair.reader.get_local("log", index + 1).await, None);
        }
    }
    for index in numbers(3_000).skip(1_000).take(25) {
        let block = pair.reader.get("log", index).await;
        assert_eq!(block, interop::hex(pattern::block(index, 120, 0)));
    }

    // Lists and ranges, of which some is here already.
    let list: Vec<u64> = (0..3_000).step_by(17).collect();
    pair.reader.download_list("log", &list).await;
    assert_eq!(pair.reader.get_many("log", &list).await, digest_of(&list, 120));
    pair.reader.download("log", 100, 300, true).await;
    assert!(pair.reader.has("log", 100, 300).await);
    pair.reader.download("log", 0, 3_000, false).await;
    assert_eq!(pair.reader.downloaded("log").await, 3_000, "no block comes twice");
    pair.compare("log").await;
}

async fn seeks(pair: &Pair) {
    pair.share("log").await;
    // Sizes from nothing to 300.
    let blocks: Vec<Bytes> =
        (0..500).map(|index| pattern::block(index, (index as usize * 37) % 300, 0).into()).collect();
    pair.writer.append("log", &blocks).await;
    pair.connect().await;
    pair.reader.wait_length("log", 500).await;
    let total: u64 = blocks.iter().map(|block| block.len() as u64).sum();

    let mut offsets: Vec<u64> = numbers(total).take(40).collect();
    offsets.extend([0, 1, total / 2, total - 1, total]);
    for offset in offsets {
        let found = pair.reader.seek("log", offset).await;
        assert_eq!(found, pair.writer.seek("log", offset).await, "byte {offset}");
        if offset < total {
            let (index, within) = found;
            let before: u64 = blocks[..usize::try_from(index).unwrap()].iter().map(|b| b.len() as u64).sum();
            assert_eq!(before + within, offset);
            let size = blocks[usize::try_from(index).unwrap()].len() as u64;
            assert!(within < size || (within, size) == (0, 0), "byte {offset}");
        }
    }
    assert!(pair.reader.downloaded("log").await < 200, "seeks need the tree, not the blocks");
    pair.reader.download("log", 0, 500, false).await;
    pair.compare("log").await;
}

matrix!(ten_thousand_small_blocks, large_blocks, random_and_sparse_reads, seeks);

async fn plain_blocks(pair: &Pair) {
    pair.share("log").await;
    pair.writer.generate("log", 2_000, 100, 0).await;
    pair.connect().await;
    let some: Vec<u64> = numbers(2_000).take(50).collect();
    assert_eq!(pair.reader.get_many("log", &some).await, digest_of(&some, 100));
    for offset in [0, 1, 99, 100, 123_456, 199_999] {
        assert_eq!(pair.reader.seek("log", offset).await, (offset / 100, offset % 100));
    }
    pair.reader.download("log", 0, 2_000, false).await;
    pair.writer.generate("log", 20, 64 * 1024, 0).await;
    pair.reader.wait_length("log", 2_020).await;
    pair.reader.download("log", 0, 2_020, true).await;
    pair.compare("log").await;
    pair.cut().await;
    pair.compare("log").await;
}

matrix_10!(plain_blocks);
