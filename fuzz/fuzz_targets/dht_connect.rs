//! What strangers send about handshakes, hole punching and blind relaying; the first byte says to whom.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| hyperdht::fuzzing::connect(data));
