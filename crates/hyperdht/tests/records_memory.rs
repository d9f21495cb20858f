//! What a store takes of memory when many hosts fill it to the brim. Alone in its file: it measures the process.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyperdht::KeyPair;
use hyperdht::messages::{Command, Message};
use hyperdht::records::signing::{AnnounceContext, Signer, hash};
use hyperdht::records::{Answer, Store, StoreLimits, StoreRequest};

const NODE: [u8; 32] = [1; 32];
const TOKEN: [u8; 32] = [2; 32];

/// Bytes of memory that the process has, where the system tells.
fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(text.split(' ').nth(1)?.parse::<usize>().ok()? * 4096)
}

struct Flood {
    store: Store,
    now: Instant,
    refused: usize,
    taken: usize,
}

impl Flood {
    fn send(&mut self, from: SocketAddr, command: Command, target: [u8; 32], value: Option<Bytes>) -> Answer {
        let request = StoreRequest { from, command, target: Some(target), token: Some(TOKEN), value };
        let answer = self.store.handle(self.now, 0, Some(&NODE), request);
        match answer {
            Answer::Error(_) => self.refused += 1,
            _ => self.taken += 1,
        }
        answer
    }

    /// Of every kind one, from one of 500 hosts, about one of many topics.
    fn round(&mut self, n: u32) {
        let from = SocketAddr::from(([10, 0, (n % 5) as u8, (n / 5 % 100) as u8], 1000));
        let signer = Signer::new(&KeyPair::from_seed(&hash(&[&n.to_le_bytes()])));
        let topic = hash(&[b"topic", &n.to_le_bytes()]);
        for target in [topic, hash(&[&signer.public_key()])] {
            let context = AnnounceContext { target: &target, node_id: &NODE, token: &TOKEN };
            let announce = signer.announce(context, vec!["1.2.3.4:5".parse().unwrap(); 3], Some(topic), 1);
            self.send(from, Command::Announce, target, Some(announce.encode()));
        }
        let mut value = vec![0; 1000];
        value[..4].copy_from_slice(&n.to_le_bytes());
        self.send(from, Command::ImmutablePut, hash(&[&value]), Some(value.clone().into()));
        let put = signer.mutable(1, value.into());
        self.send(from, Command::MutablePut, hash(&[&put.public_key]), Some(put.encode()));
    }
}

#[test]
fn a_full_store_stays_within_its_bound() {
    let limits = StoreLimits {
        announcements: 4096,
        servers: 4096,
        refreshes: 4096,
        values: 4096,
        value_bytes: 3 << 20,
        ..StoreLimits::default()
    };
    // The length of a value, and the share of a host, are as by default.
    let mut flood = Flood { store: Store::new(limits, 1), now: Instant::now(), refused: 0, taken: 0 };
    let before = resident();
    for n in 0..9_000 {
        flood.now += Duration::from_millis(5);
        flood.round(n);
        if n == 7_500 {
            let put = flood.send(
                ([9, 9, 9, 9], 9).into(),
                Command::ImmutablePut,
                hash(&[b"honest"]),
                Some("honest".into()),
            );
            assert_eq!(put, Answer::Value(None));
        }
    }
    let size = flood.store.size();
    assert!(size.announcements > 4096 && size.announcements <= 8192, "{size:?}");
    assert!(size.servers > 4096 && size.servers <= 8192, "{size:?}");
    assert!(size.value_bytes > 6 << 20 && size.value_bytes <= 12 << 20, "{size:?}");
    if let (Some(before), Some(after)) = (before, resident()) {
        let (grown, bound) = (after.saturating_sub(before), limits.memory_bound());
        eprintln!("{size:?} in {} KiB, the bound is {} KiB", grown / 1024, bound / 1024);
        assert!(grown <= bound, "{grown} bytes are above the bound of {bound}");
    }
    // It serves on, and what came in between is there.
    let get = flood.send(([8, 8, 8, 8], 8).into(), Command::ImmutableGet, hash(&[b"honest"]), None);
    assert_eq!(get, Answer::Value(Some("honest".into())));
    assert!(flood.taken > 35_000, "hosts within their shares are not refused: {} were", flood.refused);

    // One host alone, with all its might, moves nothing that belongs to others.
    let from = SocketAddr::from(([7, 7, 7, 7], 7));
    let refused = flood.refused;
    for n in 0..20_000u32 {
        let value = Bytes::from(n.to_le_bytes().repeat(100));
        flood.send(from, Command::ImmutablePut, hash(&[&value]), Some(value));
    }
    assert_eq!(flood.refused - refused, 20_000 - 1024, "a quarter of 4096 entries is what it gets");
    let get = flood.send(([8, 8, 8, 8], 8).into(), Command::ImmutableGet, hash(&[b"honest"]), None);
    assert_eq!(get, Answer::Value(Some("honest".into())));
}
