//! Both ends of a secret stream before the handshake, and one end after it, fed with anything in pieces of any size.
#![no_main]

use std::time::Instant;

use libfuzzer_sys::fuzz_target;
use secret_stream::{Config, KeyPair, SecretStream};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, data)) = data.split_first() else { return };
    let now = Instant::now();
    let piece = usize::from(choice >> 2) + 1;
    let config = Config::new(choice & 1 == 0, KeyPair::from_seed(&[1; 32]));
    let mut stream = SecretStream::new(config, now).expect("a stream starts");
    if choice & 2 != 0 && !connect(&mut stream, choice & 1 == 0, now) {
        return;
    }
    for bytes in data.chunks(piece) {
        let failed = stream.receive(bytes, now).is_err();
        while stream.poll_event().is_some() {}
        while stream.poll_transmit().is_some() {}
        if failed {
            return;
        }
    }
    let _ = stream.receive_end();
});

/// Brings the stream past its handshake with an honest remote.
fn connect(stream: &mut SecretStream, is_initiator: bool, now: Instant) -> bool {
    let config = Config::new(!is_initiator, KeyPair::from_seed(&[2; 32]));
    let mut remote = SecretStream::new(config, now).expect("a stream starts");
    for _ in 0..4 {
        while let Some(bytes) = stream.poll_transmit() {
            if remote.receive(&bytes, now).is_err() {
                return false;
            }
        }
        while let Some(bytes) = remote.poll_transmit() {
            if stream.receive(&bytes, now).is_err() {
                return false;
            }
        }
    }
    assert!(stream.is_connected());
    true
}
