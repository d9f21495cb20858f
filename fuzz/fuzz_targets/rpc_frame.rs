//! What a client sends to the daemon, or a daemon to its client: frames, and their payloads as messages.
#![no_main]

use bytes::Bytes;
use hyperspace_common::messages::*;
use hyperspace_common::{Decoder, RpcError, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let decoder = Decoder::new(1 << 20);
    let bytes = Bytes::copy_from_slice(data);
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
