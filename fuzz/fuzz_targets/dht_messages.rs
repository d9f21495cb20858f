//! The values of HyperDHT's requests and replies; the first byte says which message the rest shall be.
#![no_main]

use bytes::Bytes;
use hyperdht::messages::{
    Announce, Handshake, Holepunch, HolepunchPayload, LookupReply, Message, MutablePut, MutableRecord,
    NoisePayload, Peer, PluginRequest, decode_seq,
};
use libfuzzer_sys::fuzz_target;

fn check<M: Message + PartialEq + std::fmt::Debug>(bytes: Bytes) {
    let Ok(message) = M::decode(bytes) else { return };
    assert_eq!(M::decode(message.encode()).expect("what was encoded here decodes"), message);
}

fuzz_target!(|data: &[u8]| {
    let Some((&kind, rest)) = data.split_first() else { return };
    let bytes = Bytes::copy_from_slice(rest);
    match kind {
        0 => check::<Handshake>(bytes),
        1 => check::<NoisePayload>(bytes),
        2 => check::<Holepunch>(bytes),
        3 => check::<HolepunchPayload>(bytes),
        4 => check::<Peer>(bytes),
        5 => check::<LookupReply>(bytes),
        6 => check::<Announce>(bytes),
        7 => check::<MutablePut>(bytes),
        8 => check::<MutableRecord>(bytes),
        9 => check::<PluginRequest>(bytes),
        _ => {
            let _ = decode_seq(bytes);
        }
    }
});
