//! What a client sends to the daemon, or a daemon to its client: frames, and their payloads as every message there is.
#![no_main]

use bytes::Bytes;
use hyperspace_common::messages::*;
use hyperspace_common::{Decoder, decode, frame};
use libfuzzer_sys::fuzz_target;

/// Frames of one input whose payloads are looked at: each by itself, so that more of them would teach nothing.
const MAX_PAYLOADS: usize = 16;

fuzz_target!(|data: &[u8]| {
    let decoder = Decoder::new(1 << 20);
    let bytes = Bytes::copy_from_slice(data);
    little_is_left(decoder, data);
    let (mut start, mut frames) = (0, 0);
    while let Ok(Some(frame)) = decoder.next(&bytes[start..]) {
        assert!(frame.end > 0 && frame.payload.end <= frame.end);
        let payload = bytes.slice(start + frame.payload.start..start + frame.payload.end);
        start += frame.end;
        let _ = frame.header.known_method();
        frames += 1;
        if frames <= MAX_PAYLOADS {
            as_every_message(&payload);
        }
    }
});

macro_rules! messages {
    ($($message:ident,)*) => {
        /// What says that it is one message may be any other.
        fn as_every_message(payload: &Bytes) {
            $(let _ = decode::<$message>(payload.clone());)*
        }
    };
}

// Those of the files in `proto/`, in their order; a test of `hyperspace-common` says when one is missing.
messages! {
    RpcError, Peer, HyperspaceStatusResponse, PeerEvent, RegisterExtensionRequest,
    UnregisterExtensionRequest, ExtensionMessage,
    OpenRequest, OpenResponse, FeedEvent,
    CloseRequest, GetRequest, GetResponse, AppendRequest, AppendResponse, UpdateRequest, SeekRequest,
    SeekResponse, HasRequest, HasResponse, CancelRequest, DownloadRequest, DownloadedRequest,
    DownloadedResponse, UndownloadRequest, LockRequest, WatchRequest, AppendEvent, CloseEvent, WaitEvent,
    DownloadEvent, UploadEvent,
    OpenNetworkResponse, NetworkStatus, ConfigureNetworkRequest, NetworkStatusRequest,
    NetworkStatusResponse, AllNetworkStatusesResponse,
    LogRequest, LogState, TruncateRequest, ClearRequest, ClearResponse, ManifestResponse,
    SnapshotRequest, UserDataRequest, UserDataResponse, SetUserDataRequest, TruncateEvent,
    OpenCoreRequest, OpenCoreResponse, ListRequest, ListResponse, CoreEntry, NamesRequest, NamesResponse,
    NamedCore, StatsResponse,
    PresentRequest,
}

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
