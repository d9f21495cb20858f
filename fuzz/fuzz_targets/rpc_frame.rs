//! What a client sends to the daemon, or a daemon to its client: frames, and their payloads as messages.
#![no_main]

use bytes::Bytes;
use hyperspace_common::messages::*;
use hyperspace_common::{Decoder, RpcError, decode, frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let decoder = Decoder::new(1 << 20);
    let bytes = Bytes::copy_from_slice(data);
    little_is_left(decoder, data);
    let mut start = 0;
    while let Ok(Some(frame)) = decoder.next(&bytes[start..]) {
        assert!(frame.end > 0 && frame.payload.end <= frame.end);
        let payload = bytes.slice(start + frame.payload.start..start + frame.payload.end);
        start += frame.end;
        let _ = frame.header.known_method();
        let _ = decode::<OpenRequest>(payload.clone());
        let _ = decode::<OpenResponse>(payload.clone());
        let _ = decode::<GetRequest>(payload.clone());
        let _ = decode::<GetResponse>(payload.clone());
        let _ = decode::<AppendRequest>(payload.clone());
        let _ = decode::<UpdateRequest>(payload.clone());
        let _ = decode::<SeekRequest>(payload.clone());
        let _ = decode::<HasRequest>(payload.clone());
        let _ = decode::<CancelRequest>(payload.clone());
        let _ = decode::<DownloadRequest>(payload.clone());
        let _ = decode::<DownloadedRequest>(payload.clone());
        let _ = decode::<UndownloadRequest>(payload.clone());
        let _ = decode::<CloseRequest>(payload.clone());
        let _ = decode::<ConfigureNetworkRequest>(payload.clone());
        let _ = decode::<PeerEvent>(payload.clone());
        let _ = decode::<ExtensionMessage>(payload.clone());
        let _ = decode::<RpcError>(payload);
    }
});

/// Whatever came: behind the frames that are taken out there is no more than the beginning of one, however it was cut.
fn little_is_left(decoder: Decoder, data: &[u8]) {
    let (pieces, data) =
        data.split_first().map_or((1, data), |(first, rest)| (usize::from(*first) + 1, rest));
    let (mut input, mut taken, mut frames) = (Vec::new(), 0, 0);
    for piece in data.chunks(pieces) {
        input.extend_from_slice(piece);
        loop {
            let Ok((length, count)) = decoder.complete(&input, 4) else { return };
            input.drain(..length);
            (taken, frames) = (taken + length, frames + count);
            if length == 0 {
                break;
            }
        }
        assert_eq!(frame::nothing(&input), 0);
        // The longest head, and the payload that it may claim.
        assert!(input.len() < frame::MAX_HEAD + (1 << 20));
        if let Ok(wanted @ 1..) = decoder.wanted(&input) {
            assert!(wanted <= frame::MAX_HEAD + (1 << 20));
        } else {
            panic!("a whole frame was left, or a fault was not told");
        }
    }
    let mut at = 0;
    let mut whole = 0;
    while let Ok(Some(frame)) = decoder.next(&data[at..]) {
        (at, whole) = (at + frame.end, whole + 1);
    }
    assert_eq!(frames, whole);
    assert!(at <= taken && taken + input.len() == data.len());
}
