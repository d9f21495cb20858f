//! Requests to the store of a node: what they say, from whom, with and without a token, as time goes by.
#![no_main]

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use hyperdht::KeyPair;
use hyperdht::messages::{Command, Message};
use hyperdht::records::signing::{AnnounceContext, Signer, hash};
use hyperdht::records::{Store, StoreLimits, StoreRequest};
use libfuzzer_sys::fuzz_target;

const NODE: [u8; 32] = [0xaa; 32];
const TOKEN: [u8; 32] = [0xbb; 32];

fuzz_target!(|data: &[u8]| {
    let limits = StoreLimits {
        announcements: 6,
        announcements_of_topic: 3,
        servers: 4,
        refreshes: 4,
        values: 4,
        value_bytes: 400,
        ..StoreLimits::default()
    };
    let mut store = Store::new(limits, 1);
    let mut now = Instant::now();
    let signer = Signer::new(&KeyPair::from_seed(&[1; 32]));
    let mut data = Bytes::copy_from_slice(data);
    while data.len() >= 5 {
        let (command, host, topic, flags, len) =
            (data.get_u8(), data.get_u8(), data.get_u8(), data.get_u8(), data.get_u8());
        let raw = data.split_to(usize::from(len).min(data.len()));
        now += Duration::from_secs(u64::from(flags >> 3) * 60);
        let Some(command) = Command::from_wire(u64::from(command % 11)) else { continue };
        let target = match flags & 3 {
            0 => [topic; 32],
            1 => hash(&[&raw]),
            _ => hash(&[&signer.public_key()]),
        };
        let context = AnnounceContext { target: &target, node_id: &NODE, token: &TOKEN };
        let value = match (flags & 4 != 0, command) {
            (true, Command::Announce) => {
                signer.announce(context, Vec::new(), raw.first().map(|n| [*n; 32]), u64::from(len)).encode()
            }
            (true, Command::Unannounce) => signer.unannounce(context).encode(),
            (true, Command::MutablePut) => signer.mutable(u64::from(topic), raw).encode(),
            _ => raw,
        };
        let request = StoreRequest {
            from: ([10, 0, 0, host], 1).into(),
            command,
            target: (host != 0).then_some(target),
            token: (host != 1).then_some(TOKEN),
            value: (host != 2).then_some(value),
        };
        store.handle(now, 1000, (host != 3).then_some(&NODE), request);
        store.forward(now, &target);
        let size = store.size();
        assert!(size.announcements <= 12 && size.servers <= 8 && size.mutables <= 8 && size.immutables <= 8);
        assert!(size.value_bytes <= 4 * 400);
    }
});
