//! A store in which one record was damaged: opening and using it may fail, but only with an error.
#![no_main]

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use hypercore::core::{Core, CoreOptions};
use hypercore::storage::{Batch, Database, MemoryStorage, Read, Storage};
use hypercore::{KeyPair, ProofRequest, RequestBlock, RequestUpgrade};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&[which, how], value)) = data.split_first_chunk::<2>() else { return };
    let storage = Arc::new(MemoryStorage::new());
    let options = CoreOptions { key_pair: Some(KeyPair::from_seed(&[1; 32])), ..CoreOptions::default() };
    {
        let database = Database::open(storage.clone()).expect("an empty store opens");
        let mut core = Core::open(&database, options.clone()).expect("a log is made");
        let blocks: Vec<Bytes> = (0..11u8).map(|index| vec![index; usize::from(index)].into()).collect();
        core.append(&blocks).expect("memory takes everything");
        core.clear(3..5).expect("memory takes everything");
        core.set_user_data("name", Some(b"value")).expect("memory takes everything");
    }
    damage(&storage, usize::from(which), how, value);

    let Ok(database) = Database::open(storage) else { return };
    let _ = database.cores(None, 100);
    let _ = database.aliases(None, None, 100);
    let Ok(mut core) = Core::open(&database, options) else { return };
    let length = core.length().min(64);
    for index in 0..length {
        let _ = core.get(index);
        let _ = core.has(index);
        let _ = core.seek(index * 3, 0);
        let _ = core.tree_hash_at(index);
        let block = Some(RequestBlock { index, nodes: 0 });
        let upgrade = Some(RequestUpgrade { start: index, length: length - index });
        let _ = core.prove(&ProofRequest { block, upgrade, ..ProofRequest::default() });
    }
    let _ = core.user_data("name");
    let _ = core.wire_bitfield(0, 1 << 16);
    let _ = core.clear(0..2);
    let _ = core.append(&[Bytes::from_static(b"more")]);
    let _ = core.truncate(length / 2);
    let _ = core.conflict();
});

/// Gives the record at this place another value: the given one, or its own with the given bytes over or behind it.
fn damage(storage: &MemoryStorage, which: usize, how: u8, value: &[u8]) {
    let mut records: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let all = storage.scan(&[], &[0xff; 64], false, &mut |key, value| {
        records.push((key.to_vec(), value.to_vec()));
        ControlFlow::Continue(())
    });
    all.expect("memory can be read");
    let (key, mut stored) = records.swap_remove(which % records.len());
    match how % 4 {
        0 => stored = value.to_vec(),
        1 => stored.extend_from_slice(value),
        2 => stored.truncate(value.len()),
        _ => {
            let at = usize::from(how >> 2) % stored.len().max(1);
            for (byte, change) in stored.iter_mut().skip(at).zip(value) {
                *byte ^= change;
            }
        }
    }
    let mut batch = Batch::new();
    batch.put(&key, &stored);
    storage.commit(&batch).expect("memory takes everything");
}
