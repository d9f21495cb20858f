//! The primitives: the first bytes choose what is read, the rest is read.
#![no_main]

use bytes::Bytes;
use compact_codec::Reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let (choices, input) = data.split_at(data.len().min(8));
    let mut reader = Reader::new(Bytes::copy_from_slice(input));
    for choice in choices {
        let before = reader.remaining();
        let failed = match choice % 9 {
            0 => reader.uint().is_err(),
            1 => reader.uint64().is_err(),
            2 => reader.array::<32>("hash").is_err(),
            3 => reader.buffer().is_err(),
            4 => reader.optional_buffer().is_err(),
            5 => reader.string().is_err(),
            6 => reader.list("list", 1, Reader::uint).is_err(),
            7 => reader.uint_at_most("small", 1000).is_err(),
            _ => reader.take("rest", u64::from(*choice)).is_err(),
        };
        assert!(reader.remaining() <= before);
        if failed {
            return;
        }
    }
});
