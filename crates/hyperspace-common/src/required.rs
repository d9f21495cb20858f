//! Decoding messages as strictly as the Node packages do.
//!
//! The schema is proto2: a message without one of its required fields is not valid, and npm
//! `protocol-buffers-encodings` refuses it. prost takes the field's default instead, and a request without an id
//! would then work on session 0. So the fields that are there are counted first.

use prost::Message;
use thiserror::Error;

use crate::messages::*;

/// A message with fields that must be there.
pub trait Required: Message + Default {
    /// Number and name of each required field; numbers are below 64.
    const REQUIRED: &'static [(u32, &'static str)];
}

/// Decodes a message and insists on its required fields.
///
/// Give it a [`bytes::Bytes`] for messages with blocks in them, so that the blocks share its memory.
pub fn decode<M: Required>(payload: impl AsRef<[u8]> + bytes::Buf) -> Result<M, DecodeError> {
    let present = present_fields(payload.as_ref())?;
    if let Some((_, name)) = M::REQUIRED.iter().find(|(number, _)| present & (1 << number) == 0) {
        return Err(DecodeError::Missing { field: name });
    }
    Ok(M::decode(payload)?)
}

/// Why a payload is not the message that it should be.
#[derive(Debug, Clone, PartialEq, Error)]
pub enum DecodeError {
    /// A required field is not there.
    #[error("the message lacks its field `{field}`")]
    Missing {
        /// The field's name in the schema.
        field: &'static str,
    },
    /// The bytes are no protobuf message, or not this one.
    #[error("the message cannot be decoded: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// The bytes end within a field.
    #[error("the message ends in the middle of a field")]
    Truncated,
}

/// A bit for every field number below 64 that occurs.
fn present_fields(mut payload: &[u8]) -> Result<u64, DecodeError> {
    let mut present = 0;
    while !payload.is_empty() {
        let key = varint(&mut payload)?;
        let number = key >> 3;
        if number < 64 {
            present |= 1 << number;
        }
        let skip = match key & 7 {
            0 => {
                varint(&mut payload)?;
                0
            }
            1 => 8,
            2 => varint(&mut payload)?,
            5 => 4,
            // Groups and what does not exist: prost has the words for it, or skips it.
            _ => break,
        };
        let skip = usize::try_from(skip).map_err(|_| DecodeError::Truncated)?;
        payload = payload.get(skip..).ok_or(DecodeError::Truncated)?;
    }
    Ok(present)
}

fn varint(payload: &mut &[u8]) -> Result<u64, DecodeError> {
    let mut value = 0;
    for (i, byte) in payload.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f).checked_shl(7 * i as u32).unwrap_or(0);
        if byte & 0x80 == 0 {
            *payload = &payload[i + 1..];
            return Ok(value);
        }
    }
    Err(DecodeError::Truncated)
}

macro_rules! required {
    ($($message:ident { $($number:literal $name:literal),* })*) => {
        $(impl Required for $message { const REQUIRED: &'static [(u32, &'static str)] = &[$(($number, $name)),*]; })*

        #[cfg(test)]
        const ALL: &[(&str, &[(u32, &str)])] = &[$((stringify!($message), $message::REQUIRED)),*];
    };
}

required! {
    RpcError { 1 "message" }
    Peer { 1 "remotePublicKey", 2 "remoteAddress", 3 "type" }
    HyperspaceStatusResponse { 1 "apiVersion" }
    PeerEvent { 1 "id", 2 "peer" }
    RegisterExtensionRequest { 1 "id", 2 "resourceId", 3 "name" }
    UnregisterExtensionRequest { 1 "id", 2 "resourceId" }
    ExtensionMessage { 1 "id", 2 "resourceId", 4 "data" }
    OpenRequest { 1 "id" }
    OpenResponse { 1 "key", 2 "length", 3 "byteLength", 4 "writable" }
    FeedEvent { 1 "key" }
    CloseRequest { 1 "id" }
    GetRequest { 1 "id", 2 "seq", 3 "resourceId" }
    GetResponse {}
    AppendRequest { 1 "id" }
    AppendResponse { 1 "length", 2 "byteLength", 3 "seq" }
    UpdateRequest { 1 "id" }
    SeekRequest { 1 "id", 2 "byteOffset" }
    SeekResponse { 1 "seq", 2 "blockOffset" }
    HasRequest { 1 "id", 2 "seq" }
    HasResponse { 1 "has" }
    CancelRequest { 1 "id", 2 "resourceId" }
    DownloadRequest { 1 "id", 2 "resourceId" }
    DownloadedRequest { 1 "id" }
    DownloadedResponse { 1 "bytes" }
    UndownloadRequest { 1 "id", 2 "resourceId" }
    LockRequest { 1 "id" }
    WatchRequest { 1 "id" }
    AppendEvent { 1 "id", 2 "length", 3 "byteLength" }
    CloseEvent { 1 "id" }
    WaitEvent { 1 "id", 2 "onWaitId", 3 "seq" }
    DownloadEvent { 1 "id", 2 "seq" }
    UploadEvent { 1 "id", 2 "seq", 3 "byteLength" }
    OpenNetworkResponse { 1 "publicKey" }
    NetworkStatus { 1 "discoveryKey" }
    ConfigureNetworkRequest { 1 "configuration" }
    NetworkStatusRequest { 1 "discoveryKey" }
    NetworkStatusResponse {}
    AllNetworkStatusesResponse {}
    LogRequest { 1 "id" }
    LogState {
        1 "length", 2 "byteLength", 3 "contiguousLength", 4 "fork", 5 "treeHash", 6 "writable", 7 "frozen"
    }
    TruncateRequest { 1 "id", 2 "length" }
    ClearRequest { 1 "id", 2 "start", 3 "end" }
    ClearResponse { 1 "blocks" }
    ManifestResponse {}
    SnapshotRequest { 1 "id", 2 "snapshotId" }
    UserDataRequest { 1 "id", 2 "name" }
    UserDataResponse {}
    SetUserDataRequest { 1 "id", 2 "name" }
    TruncateEvent { 1 "id", 2 "length", 3 "byteLength", 4 "fork" }
    OpenCoreRequest { 1 "id" }
    OpenCoreResponse { 1 "key", 2 "discoveryKey", 3 "state" }
    ListRequest {}
    ListResponse { 2 "more" }
    CoreEntry {
        1 "discoveryKey", 2 "key", 3 "length", 4 "byteLength", 5 "contiguousLength", 6 "fork", 7 "writable",
        8 "open", 9 "peers"
    }
    NamesRequest {}
    NamesResponse { 2 "more" }
    NamedCore { 1 "name", 2 "discoveryKey" }
    StatsResponse { 1 "openCores", 2 "clients", 3 "peers", 4 "uptimeMs" }
    PresentRequest { 1 "token" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use proptest::prelude::*;

    /// The table above against the schema's text, so that neither can change alone.
    #[test]
    fn the_table_is_that_of_the_schema() {
        let mut schema: Vec<(String, Vec<(u32, String)>)> = Vec::new();
        let files = [
            include_str!("../proto/hyperspace.proto"),
            include_str!("../proto/corestore.proto"),
            include_str!("../proto/hypercore.proto"),
            include_str!("../proto/network.proto"),
            include_str!("../proto/log.proto"),
            include_str!("../proto/store.proto"),
            include_str!("../proto/access.proto"),
        ];
        for line in files.iter().flat_map(|file| file.lines()) {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["message", name, "{"] => schema.push((name.into(), Vec::new())),
                ["required", _, name, "=", number, ..] => {
                    let number = number.trim_end_matches(';').parse().unwrap();
                    schema.last_mut().unwrap().1.push((number, name.into()));
                }
                _ => {}
            }
        }
        let table: Vec<(String, Vec<(u32, String)>)> = ALL
            .iter()
            .map(|(name, fields)| ((*name).into(), fields.iter().map(|(n, f)| (*n, (*f).into())).collect()))
            .collect();
        assert_eq!(schema, table);
    }

    #[test]
    fn a_missing_field_is_named() {
        assert_eq!(
            decode::<GetRequest>(&[0x08, 0, 0x10, 1][..]),
            Err(DecodeError::Missing { field: "resourceId" })
        );
        assert!(decode::<GetRequest>(&[0x08, 0, 0x10, 1, 0x18, 0][..]).is_ok());
        assert!(matches!(decode::<AppendRequest>(&[0x08, 0, 0x12, 5, 1][..]), Err(DecodeError::Truncated)));
    }

    #[test]
    fn blocks_share_the_memory_of_their_frame() {
        let payload =
            Bytes::from(AppendRequest { id: 1, blocks: vec![Bytes::from(vec![7; 1000])] }.encode_to_vec());
        let request: AppendRequest = decode(payload.clone()).unwrap();
        let inside = payload.as_ptr_range();
        assert!(inside.contains(&request.blocks[0].as_ptr()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(input in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode::<GetRequest>(&input[..]);
            let _ = decode::<DownloadRequest>(&input[..]);
            let _ = decode::<ConfigureNetworkRequest>(&input[..]);
            let _ = decode::<OpenResponse>(Bytes::from(input));
        }
    }
}
