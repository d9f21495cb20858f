//! What is told in `docs/rpc.md`: the first example, which shows what a frame is, then one connection from its first
//! frame to its last.

use bytes::Bytes;
use hyperspace_common::{ADDITIONAL_VERSION, API_VERSION, Method, RpcError, RpcErrorExt, messages::*, text};

use crate::frames::{Frame, answer, bare_call, call, done, event, failed};

/// The client's own core, its discovery key, the hash of its tree, and that of the tree when it was cut.
const OWN: u8 = 0x07;
const OWN_TOPIC: u8 = 0x17;
const OWN_TREE: u8 = 0x27;
const OWN_TREE_CUT: u8 = 0x37;
/// Who signs it, and in which namespace.
const SIGNER: u8 = 0x47;
const NAMESPACE: u8 = 0x57;
/// A core of somebody else's.
const OTHERS: u8 = 0x08;
const OTHERS_TOPIC: u8 = 0x18;
/// A core with a name in a namespace.
const DIARY: u8 = 0x09;
const DIARY_TOPIC: u8 = 0x19;
const DIARY_TREE: u8 = 0x29;
/// The daemon and a peer.
const DAEMON: u8 = 0x0d;
const PEER: u8 = 0x0e;

const TOKEN: &str = "5f3c0a9be1d24786";

/// The blocks of the document, each a part of the story.
pub(crate) fn chapters() -> Vec<Vec<Frame>> {
    vec![
        what_a_frame_is(),
        coming_in(),
        own_core(),
        alone(),
        others_core(),
        extensions(),
        network(),
        store(),
        log(),
        leaving(),
    ]
}

fn what_a_frame_is() -> Vec<Frame> {
    vec![
        call(Method::HypercoreHas, 11, HasRequest { id: 2, seq: 129 }),
        answer(Method::HypercoreHas, 11, HasResponse { has: true }),
    ]
}

fn coming_in() -> Vec<Frame> {
    vec![
        call(Method::AccessPresent, 1, PresentRequest { token: TOKEN.repeat(2) }),
        done(Method::AccessPresent, 1),
        bare_call(Method::HyperspaceStatus, 2),
        answer(
            Method::HyperspaceStatus,
            2,
            HyperspaceStatusResponse {
                api_version: API_VERSION.into(),
                holepunchable: Some(true),
                remote_address: Some("203.0.113.5:49737".into()),
                version: Some("0.1.0".into()),
                additional: Some(ADDITIONAL_VERSION),
            },
        ),
    ]
}

fn own_core() -> Vec<Frame> {
    vec![
        call(
            Method::CorestoreOpen,
            3,
            OpenRequest { id: 0, name: Some("notes".into()), ..Default::default() },
        ),
        event(Method::CorestoreOnFeed, FeedEvent { key: key(OWN) }),
        answer(
            Method::CorestoreOpen,
            3,
            OpenResponse {
                key: key(OWN),
                writable: true,
                discovery_key: Some(key(OWN_TOPIC)),
                ..Default::default()
            },
        ),
        call(
            Method::HypercoreAppend,
            4,
            AppendRequest { id: 0, blocks: vec!["hello".into(), "world!".into()] },
        ),
        event(Method::HypercoreOnAppend, AppendEvent { id: 0, length: 2, byte_length: 11 }),
        answer(Method::HypercoreAppend, 4, AppendResponse { length: 2, byte_length: 11, seq: 0 }),
        call(Method::HypercoreGet, 5, GetRequest { id: 0, seq: 1, resource_id: 1, ..Default::default() }),
        answer(Method::HypercoreGet, 5, GetResponse { block: Some("world!".into()) }),
        call(Method::HypercoreSeek, 6, SeekRequest { id: 0, byte_offset: 7, ..Default::default() }),
        answer(Method::HypercoreSeek, 6, SeekResponse { seq: 1, block_offset: 2 }),
        call(Method::HypercoreDownloaded, 7, DownloadedRequest { id: 0, ..Default::default() }),
        answer(Method::HypercoreDownloaded, 7, DownloadedResponse { bytes: 2 }),
    ]
}

fn alone() -> Vec<Frame> {
    vec![
        call(Method::HypercoreAcquireLock, 8, LockRequest { id: 0 }),
        done(Method::HypercoreAcquireLock, 8),
        call(Method::HypercoreReleaseLock, 9, LockRequest { id: 0 }),
        done(Method::HypercoreReleaseLock, 9),
        call(Method::HypercoreReleaseLock, 10, LockRequest { id: 0 }),
        failed(Method::HypercoreReleaseLock, 10, &RpcError::sentence(text::NOT_LOCKED)),
    ]
}

fn others_core() -> Vec<Frame> {
    vec![
        call(Method::CorestoreOpen, 11, OpenRequest { id: 1, key: Some(key(OTHERS)), ..Default::default() }),
        event(Method::CorestoreOnFeed, FeedEvent { key: key(OTHERS) }),
        answer(
            Method::CorestoreOpen,
            11,
            OpenResponse { key: key(OTHERS), discovery_key: Some(key(OTHERS_TOPIC)), ..Default::default() },
        ),
        bare_call(Method::NetworkOpen, 12),
        answer(
            Method::NetworkOpen,
            12,
            OpenNetworkResponse { public_key: key(DAEMON), ..Default::default() },
        ),
        call(
            Method::NetworkConfigure,
            13,
            ConfigureNetworkRequest {
                configuration: NetworkStatus {
                    discovery_key: key(OTHERS_TOPIC),
                    lookup: Some(true),
                    ..Default::default()
                },
                ..Default::default()
            },
        ),
        answer(Method::NetworkConfigure, 13, NetworkStatusResponse { status: Some(looked_up(OTHERS_TOPIC)) }),
        event(Method::NetworkOnPeerAdd, PeerEvent { id: 0, peer: peer() }),
        event(Method::HypercoreOnPeerOpen, PeerEvent { id: 1, peer: peer() }),
        event(Method::HypercoreOnAppend, AppendEvent { id: 1, length: 300, byte_length: 1200 }),
        call(
            Method::HypercoreUpdate,
            14,
            UpdateRequest { id: 1, min_length: Some(300), if_available: Some(false), ..Default::default() },
        ),
        done(Method::HypercoreUpdate, 14),
        call(Method::HypercoreWatchDownloads, 15, WatchRequest { id: 1 }),
        call(
            Method::HypercoreGet,
            16,
            GetRequest { id: 1, seq: 299, resource_id: 2, on_wait_id: Some(1), ..Default::default() },
        ),
        event(Method::HypercoreOnWait, WaitEvent { id: 1, on_wait_id: 1, seq: 299 }),
        event(Method::HypercoreOnDownload, DownloadEvent { id: 1, seq: 299, byte_length: Some(4) }),
        answer(Method::HypercoreGet, 16, GetResponse { block: Some("moon".into()) }),
        call(Method::HypercoreGet, 17, GetRequest { id: 1, seq: 300, resource_id: 3, ..Default::default() }),
        failed(Method::HypercoreGet, 17, &RpcError::sentence(text::BLOCK_NOT_AVAILABLE)),
        call(
            Method::HypercoreGet,
            18,
            GetRequest { id: 1, seq: 300, resource_id: 3, if_available: Some(false), ..Default::default() },
        ),
        call(Method::HypercoreCancel, 0, CancelRequest { id: 1, resource_id: 3 }),
        failed(Method::HypercoreGet, 18, &RpcError::sentence(text::REQUEST_CANCELLED)),
        call(Method::HypercoreUnwatchDownloads, 19, WatchRequest { id: 1 }),
        call(
            Method::HypercoreDownload,
            20,
            DownloadRequest { id: 1, resource_id: 4, blocks: vec![0, 128, 1000], ..Default::default() },
        ),
        call(Method::HypercoreUndownload, 0, UndownloadRequest { id: 1, resource_id: 4 }),
        failed(Method::HypercoreDownload, 20, &RpcError::download_cancelled()),
        call(Method::HypercoreWatchUploads, 21, WatchRequest { id: 0 }),
        event(Method::HypercoreOnPeerOpen, PeerEvent { id: 0, peer: peer() }),
        event(Method::HypercoreOnUpload, UploadEvent { id: 0, seq: 1, byte_length: 6 }),
        call(Method::HypercoreUnwatchUploads, 22, WatchRequest { id: 0 }),
    ]
}

fn extensions() -> Vec<Frame> {
    vec![
        call(
            Method::HypercoreRegisterExtension,
            23,
            RegisterExtensionRequest { id: 1, resource_id: 5, name: "chat".into() },
        ),
        call(
            Method::HypercoreSendExtension,
            24,
            ExtensionMessage { id: 1, resource_id: 5, remote_public_key: None, data: "anybody?".into() },
        ),
        event(
            Method::HypercoreOnExtension,
            ExtensionMessage { id: 1, resource_id: 5, remote_public_key: Some(key(PEER)), data: "me".into() },
        ),
        call(Method::HypercoreUnregisterExtension, 25, UnregisterExtensionRequest { id: 1, resource_id: 5 }),
        call(
            Method::NetworkRegisterExtension,
            26,
            RegisterExtensionRequest { id: 0, resource_id: 6, name: "clock".into() },
        ),
        call(
            Method::NetworkSendExtension,
            27,
            ExtensionMessage {
                id: 0,
                resource_id: 6,
                remote_public_key: Some(key(PEER)),
                data: "what time?".into(),
            },
        ),
        event(
            Method::NetworkOnExtension,
            ExtensionMessage {
                id: 0,
                resource_id: 6,
                remote_public_key: Some(key(PEER)),
                data: "late".into(),
            },
        ),
        call(Method::NetworkUnregisterExtension, 28, UnregisterExtensionRequest { id: 0, resource_id: 6 }),
    ]
}

fn network() -> Vec<Frame> {
    vec![
        call(Method::NetworkStatus, 29, NetworkStatusRequest { discovery_key: key(OWN_TOPIC) }),
        answer(Method::NetworkStatus, 29, NetworkStatusResponse { status: None }),
        bare_call(Method::NetworkAllStatuses, 30),
        answer(
            Method::NetworkAllStatuses,
            30,
            AllNetworkStatusesResponse { statuses: vec![looked_up(OTHERS_TOPIC)] },
        ),
        event(Method::HypercoreOnPeerRemove, PeerEvent { id: 1, peer: peer() }),
        event(Method::HypercoreOnPeerRemove, PeerEvent { id: 0, peer: peer() }),
        event(Method::NetworkOnPeerRemove, PeerEvent { id: 0, peer: peer() }),
        call(
            Method::CorestoreOpen,
            31,
            OpenRequest { id: 2, key: Some(key(OTHERS)), weak: Some(true), ..Default::default() },
        ),
        answer(
            Method::CorestoreOpen,
            31,
            OpenResponse {
                key: key(OTHERS),
                length: 300,
                byte_length: 1200,
                writable: false,
                peers: Vec::new(),
                discovery_key: Some(key(OTHERS_TOPIC)),
            },
        ),
        call(Method::HypercoreClose, 32, CloseRequest { id: 1 }),
        event(Method::HypercoreOnClose, CloseEvent { id: 2 }),
        done(Method::HypercoreClose, 32),
    ]
}

fn store() -> Vec<Frame> {
    let entry = |own, topic, length, byte_length| CoreEntry {
        discovery_key: key(topic),
        key: key(own),
        length,
        byte_length,
        contiguous_length: length,
        writable: true,
        open: true,
        ..Default::default()
    };
    vec![
        call(
            Method::StoreOpen,
            33,
            OpenCoreRequest {
                id: 3,
                name: Some("2031".into()),
                namespace: vec!["app".into(), "diary".into()],
                ..Default::default()
            },
        ),
        event(Method::CorestoreOnFeed, FeedEvent { key: key(DIARY) }),
        answer(
            Method::StoreOpen,
            33,
            OpenCoreResponse {
                key: key(DIARY),
                discovery_key: key(DIARY_TOPIC),
                state: LogState {
                    tree_hash: key(DIARY_TREE),
                    writable: true,
                    remote_contiguous_length: Some(0),
                    ..Default::default()
                },
                peers: Vec::new(),
            },
        ),
        call(
            Method::StoreNames,
            34,
            NamesRequest {
                namespace: vec!["app".into(), "diary".into()],
                after: Some("2030".into()),
                limit: None,
            },
        ),
        answer(
            Method::StoreNames,
            34,
            NamesResponse {
                cores: vec![NamedCore { name: "2031".into(), discovery_key: key(DIARY_TOPIC) }],
                more: false,
            },
        ),
        call(Method::StoreList, 35, ListRequest { after: None, limit: Some(1) }),
        answer(Method::StoreList, 35, ListResponse { cores: vec![entry(OWN, OWN_TOPIC, 2, 11)], more: true }),
        call(Method::StoreList, 36, ListRequest { after: Some(key(OTHERS_TOPIC)), limit: None }),
        answer(
            Method::StoreList,
            36,
            ListResponse { cores: vec![entry(DIARY, DIARY_TOPIC, 0, 0)], more: false },
        ),
        bare_call(Method::StoreStats, 37),
        answer(
            Method::StoreStats,
            37,
            StatsResponse { open_cores: 2, clients: 1, peers: 0, uptime_ms: 86_400_000 },
        ),
    ]
}

fn log() -> Vec<Frame> {
    let state = |length, byte_length, fork, tree| LogState {
        length,
        byte_length,
        contiguous_length: length,
        fork,
        tree_hash: key(tree),
        writable: true,
        frozen: false,
        remote_contiguous_length: Some(0),
    };
    vec![
        call(
            Method::StoreOpen,
            38,
            OpenCoreRequest {
                id: 4,
                discovery_key: Some(key(OWN_TOPIC)),
                create: Some(false),
                ..Default::default()
            },
        ),
        answer(
            Method::StoreOpen,
            38,
            OpenCoreResponse {
                key: key(OWN),
                discovery_key: key(OWN_TOPIC),
                state: state(2, 11, 0, OWN_TREE),
                peers: Vec::new(),
            },
        ),
        call(Method::LogState, 39, LogRequest { id: 4 }),
        answer(Method::LogState, 39, state(2, 11, 0, OWN_TREE)),
        call(Method::LogManifest, 40, LogRequest { id: 4 }),
        answer(
            Method::LogManifest,
            40,
            ManifestResponse {
                manifest: Some([&[1, 0, 0, 1, 1, 0][..], &key(NAMESPACE), &key(SIGNER)].concat().into()),
                version: Some(1),
                quorum: Some(1),
                signers: vec![key(SIGNER)],
            },
        ),
        call(
            Method::LogSetUserData,
            41,
            SetUserDataRequest { id: 4, name: "title".into(), value: Some("My notes".into()) },
        ),
        call(Method::LogUserData, 42, UserDataRequest { id: 4, name: "title".into() }),
        answer(Method::LogUserData, 42, UserDataResponse { value: Some("My notes".into()) }),
        call(Method::LogSnapshot, 43, SnapshotRequest { id: 4, snapshot_id: 5 }),
        answer(Method::LogSnapshot, 43, LogState { writable: false, ..state(2, 11, 0, OWN_TREE) }),
        call(Method::LogTruncate, 44, TruncateRequest { id: 4, length: 1, fork: None }),
        event(Method::HypercoreOnAppend, AppendEvent { id: 0, length: 1, byte_length: 5 }),
        event(Method::LogOnTruncate, TruncateEvent { id: 4, length: 1, byte_length: 5, fork: 1 }),
        answer(Method::LogTruncate, 44, state(1, 5, 1, OWN_TREE_CUT)),
        call(Method::LogClear, 45, ClearRequest { id: 4, start: 0, end: 1 }),
        answer(Method::LogClear, 45, ClearResponse { blocks: 1 }),
    ]
}

fn leaving() -> Vec<Frame> {
    vec![bare_call(Method::HyperspaceStop, 46), done(Method::HyperspaceStop, 46)]
}

fn key(byte: u8) -> Bytes {
    Bytes::from(vec![byte; 32])
}

fn peer() -> Peer {
    Peer { remote_public_key: key(PEER), remote_address: "203.0.113.7:4000".into(), r#type: "udx".into() }
}

/// A topic that is looked up and nothing else.
fn looked_up(topic: u8) -> NetworkStatus {
    NetworkStatus {
        discovery_key: key(topic),
        announce: Some(false),
        lookup: Some(true),
        remember: Some(false),
    }
}
