//! Bytes that npm `@hyperspace/rpc` 1.15 really wrote, read and written by ours.

use bytes::Bytes;
use hyperspace_common::{messages::*, *};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// The frame reads as this call with this message, and the other way round.
fn check<M: Required + PartialEq + std::fmt::Debug>(bytes: &str, method: Method, id: u64, message: M) {
    let bytes = Bytes::from(hex(bytes));
    let frame = Decoder::default().next(&bytes).unwrap().unwrap();
    assert_eq!(frame.header, Header::request(method, id));
    assert_eq!(frame.end, bytes.len());
    assert_eq!(decode::<M>(bytes.slice(frame.payload)).unwrap(), message);
    let mut outbox = Outbox::new();
    outbox.request(method, id, &message);
    assert_eq!(outbox.take(), bytes, "{method}");
}

#[test]
fn requests() {
    let key = |byte: u8| Bytes::from(vec![byte; 32]);
    check(
        "0708010208002000",
        Method::CorestoreOpen,
        2,
        OpenRequest { id: 0, key: None, name: None, weak: Some(false) },
    );
    check(
        "2a08010308ac02122007070707070707070707070707070707070707070707070707070707070707072001",
        Method::CorestoreOpen,
        3,
        OpenRequest { id: 300, key: Some(key(7)), name: None, weak: Some(true) },
    );
    check(
        "0c08010408011a056ec3a46d65",
        Method::CorestoreOpen,
        4,
        OpenRequest { id: 1, key: None, name: Some("näme".into()), weak: None },
    );
    let get = GetRequest {
        id: 0,
        seq: 5_000_000_000,
        resource_id: 0,
        wait: None,
        if_available: None,
        on_wait_id: Some(0),
    };
    assert!(get.wait() && get.if_available());
    check("0f0c010508001080e497d01218003000", Method::HypercoreGet, 5, get);
    check(
        "0f0c0106080110021803200028003004",
        Method::HypercoreGet,
        6,
        GetRequest {
            id: 1,
            seq: 2,
            resource_id: 3,
            wait: Some(false),
            if_available: Some(false),
            on_wait_id: Some(4),
        },
    );
    check(
        "150c02070802120568656c6c6f12001205776f726c64",
        Method::HypercoreAppend,
        7,
        AppendRequest { id: 2, blocks: vec!["hello".into(), Bytes::new(), "world".into()] },
    );
    check("050c02080802", Method::HypercoreAppend, 8, AppendRequest { id: 2, blocks: vec![] });
    check(
        "070c030908021009",
        Method::HypercoreUpdate,
        9,
        UpdateRequest { id: 2, min_length: Some(9), if_available: None, hash: None },
    );
    check(
        "0b0c040a0802104d18012005",
        Method::HypercoreSeek,
        10,
        SeekRequest { id: 2, byte_offset: 77, start: Some(1), end: Some(5), wait: None, if_available: None },
    );
    check("080c050b0802108101", Method::HypercoreHas, 11, HasRequest { id: 2, seq: 129 });
    check("070c060008021001", Method::HypercoreCancel, 0, CancelRequest { id: 2, resource_id: 1 });
    check(
        "160c070c080210011800200a280128ac02280530013800",
        Method::HypercoreDownload,
        12,
        DownloadRequest {
            id: 2,
            resource_id: 1,
            start: Some(0),
            end: Some(10),
            blocks: vec![1, 300, 5],
            linear: Some(true),
            live: Some(false),
        },
    );
    check(
        "050c080d0802",
        Method::HypercoreDownloaded,
        13,
        DownloadedRequest { id: 2, start: None, end: None },
    );
    check("070c090008021001", Method::HypercoreUndownload, 0, UndownloadRequest { id: 2, resource_id: 1 });
    check("050c0a0e0802", Method::HypercoreClose, 14, CloseRequest { id: 2 });
    check(
        "2d10020f0a260a200303030303030303030303030303030303030303030303030303030303030303100118001001",
        Method::NetworkConfigure,
        15,
        ConfigureNetworkRequest {
            configuration: NetworkStatus {
                discovery_key: key(3),
                announce: Some(true),
                lookup: Some(false),
                remember: None,
            },
            flush: Some(true),
            copy_from: None,
            overwrite: None,
        },
    );
}

#[test]
fn events() {
    check(
        "0a0c10000802100a18e807",
        Method::HypercoreOnAppend,
        0,
        AppendEvent { id: 2, length: 10, byte_length: 1000 },
    );
    let peer = Peer {
        remote_public_key: vec![9; 32].into(),
        remote_address: "127.0.0.1:1".into(),
        r#type: "tcp".into(),
    };
    check(
        "3b0c1200080212340a200909090909090909090909090909090909090909090909090909090909090909120b3132372e302e302e313a311a03746370",
        Method::HypercoreOnPeerOpen,
        0,
        PeerEvent { id: 2, peer },
    );
    check("090c1500080210031804", Method::HypercoreOnWait, 0, WaitEvent { id: 2, on_wait_id: 3, seq: 4 });
    check(
        "250802000a200101010101010101010101010101010101010101010101010101010101010101",
        Method::CorestoreOnFeed,
        0,
        FeedEvent { key: vec![1; 32].into() },
    );
}

#[test]
fn empty_payloads() {
    let bytes = hex("0304010103040200");
    let frame = Decoder::default().next(&bytes).unwrap().unwrap();
    assert_eq!(frame.header, Header::request(Method::HyperspaceStatus, 1));
    assert!(frame.payload.is_empty());
    let frame = Decoder::default().next(&bytes[frame.end..]).unwrap().unwrap();
    assert_eq!(frame.header, Header::request(Method::HyperspaceStop, 0));
}

#[test]
fn answers() {
    assert_eq!(
        RpcError::download_cancelled().encode_to_vec(),
        hex("0a16446f776e6c6f6164207761732063616e63656c6c656412094543414e43454c454418f5ffffff0f")
    );
    assert_eq!(GetResponse { block: Some("abc".into()) }.encode_to_vec(), hex("0a03616263"));
    assert_eq!(AppendResponse { length: 3, byte_length: 10, seq: 0 }.encode_to_vec(), hex("0803100a1800"));
    assert_eq!(SeekResponse { seq: 1, block_offset: 4 }.encode_to_vec(), hex("08011004"));
    let status = HyperspaceStatusResponse {
        api_version: API_VERSION.into(),
        holepunchable: None,
        remote_address: Some(String::new()),
        version: Some("3.19.0".into()),
        additional: None,
    };
    assert_eq!(status.encode_to_vec(), hex("0a06312e31352e301a002206332e31392e30"));
}
