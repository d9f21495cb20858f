//! The messages of a hypercore channel; the first byte is the number under which the message arrives.
#![no_main]

use bytes::Bytes;
use compact_codec::Writer;
use hypercore_protocol::{Kind, Message};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Some((&number, payload)) = data.split_first() else { return };
    let Some(kind) = Kind::from_wire(u32::from(number)) else { return };
    let Ok(message) = Message::decode(kind, Bytes::copy_from_slice(payload)) else { return };
    // A name that is no UTF-8 comes out with replacement characters, longer than it came.
    if matches!(&message, Message::Extension(extension) if extension.name.contains('\u{fffd}')) {
        return;
    }
    let mut writer = Writer::new();
    message.encode_into(&mut writer);
    let again = Message::decode(kind, writer.finish()).expect("what was encoded here decodes");
    assert_eq!(again, message);
});
