//! The handshake of a hypercore channel.
#![no_main]

use bytes::Bytes;
use hypercore_protocol::ChannelHandshake;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(handshake) = ChannelHandshake::decode(Bytes::copy_from_slice(data)) else { return };
    let again = ChannelHandshake::decode(handshake.encode()).expect("what was encoded here decodes");
    assert_eq!(again, handshake);
});
