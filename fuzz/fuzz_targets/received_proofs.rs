//! A reader that is sent spoiled proofs: whatever it believes must be what the writer wrote.
//!
//! Each step of the input is a request, and changes to the bytes of the honest answer to it.
#![no_main]

use bytes::Bytes;
use compact_codec::Writer;
use hypercore::core::{Core, CoreOptions};
use hypercore::storage::Database;
use hypercore::{KeyPair, Proof, ProofRequest, RequestBlock, RequestSeek, RequestUpgrade};
use hypercore_protocol::messages::Data;
use hypercore_protocol::{Kind, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&shape, mut input)) = data.split_first() else { return };
    let length = u64::from(shape % 40) + 1;
    let writer = writer(length, shape & 0x80 != 0);
    let options = CoreOptions { key: Some(writer.key()), ..CoreOptions::default() };
    let mut reader = Core::open(&Database::memory(), options).expect("a reader opens");

    for _ in 0..16 {
        let Some((request, rest)) = request(input) else { break };
        input = rest;
        let Ok(honest) = writer.prove(&request) else { continue };
        let (proof, rest) = spoil(honest, input);
        input = rest;
        let Some(proof) = proof else { continue };
        let _ = reader.check_conflict(&proof);
        if let Ok(mut reorg) = reader.begin_reorg(&proof) {
            let _ = reader.update_reorg(&mut reorg, &proof);
            let _ = reorg.is_finished() && reader.commit_reorg(reorg).is_ok();
        }
        reader.receive(vec![proof]);
    }

    assert!(reader.length() <= writer.length());
    if reader.length() > 0 {
        assert_eq!(reader.tree_hash(), writer.tree_hash_at(reader.length()).expect("the writer has all"));
    }
    for index in 0..reader.length() {
        if let Some(block) = reader.get(index).expect("the reader can be read") {
            assert_eq!(Some(block), writer.get(index).expect("the writer has all"));
        }
    }
});

fn writer(length: u64, compat: bool) -> Core {
    let key_pair = Some(KeyPair::from_seed(&[1; 32]));
    let options = CoreOptions { key_pair, compat, ..CoreOptions::default() };
    let mut core = Core::open(&Database::memory(), options).expect("a writer opens");
    let blocks: Vec<Bytes> = (0..length).map(|index| vec![index as u8; index as usize % 7].into()).collect();
    core.append(&blocks).expect("memory takes everything");
    core
}

fn request(input: &[u8]) -> Option<(ProofRequest, &[u8])> {
    let (&[parts, block, nodes, seek, start, count], rest) = input.split_first_chunk::<6>()?;
    let target = RequestBlock { index: u64::from(block), nodes: u64::from(nodes % 8) };
    let request = ProofRequest {
        block: (parts & 1 != 0).then_some(target),
        hash: (parts & 2 != 0).then_some(target),
        seek: (parts & 4 != 0)
            .then_some(RequestSeek { bytes: u64::from(seek), padding: u64::from(parts >> 6) }),
        upgrade: (parts & 8 != 0)
            .then_some(RequestUpgrade { start: u64::from(start), length: u64::from(count) }),
        manifest: parts & 16 != 0,
    };
    Some((request, rest))
}

/// The proof with some of its encoded bytes changed, if it can still be decoded.
fn spoil(honest: Proof, input: &[u8]) -> (Option<Proof>, &[u8]) {
    let mut writer = Writer::new();
    Message::Data(Data { request: 1, proof: honest }).encode_into(&mut writer);
    let mut bytes = writer.into_inner();
    let Some((&count, mut rest)) = input.split_first() else { return (None, input) };
    for _ in 0..count % 4 {
        let Some((&[high, low, change], after)) = rest.split_first_chunk::<3>() else { break };
        rest = after;
        let at = usize::from(u16::from_be_bytes([high, low])) % bytes.len();
        bytes[at] ^= change;
    }
    match Message::decode(Kind::Data, bytes.freeze()) {
        Ok(Message::Data(data)) => (Some(data.proof), rest),
        _ => (None, rest),
    }
}
