//! A node that is flooded with announcements and puts goes on serving others.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use hyperdht::client::AnnounceOptions;
use hyperdht::messages::{Command, Message as _};
use hyperdht::records::signing::{AnnounceContext, Signer, hash};
use hyperdht::rpc::{Message, QueryOptions, RequestBody, RequestMessage, RequestOptions};
use hyperdht::{DhtOptions, HyperDht, KeyPair};

const HOST: Ipv4Addr = Ipv4Addr::LOCALHOST;
/// What has come into the node is served, whatever else comes: one try is enough as long as the kernel drops nothing. When
/// this process gets too little time to empty its socket, the kernel does, and each request is sent four times only.
const TRIES: usize = 5;

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing came"))
}

async fn bootstrapper() -> (HyperDht, SocketAddr) {
    for _ in 0..20 {
        // A port that nobody has at the moment: bootstrappers have to know theirs beforehand.
        let free = std::net::UdpSocket::bind((HOST, 0)).unwrap().local_addr().unwrap();
        if let Ok(dht) = HyperDht::bootstrapper(free).await {
            return (dht, free);
        }
    }
    panic!("no port is free");
}

async fn client(bootstrap: SocketAddr) -> HyperDht {
    let options = DhtOptions {
        bootstrap: Some(vec![bootstrap.to_string()]),
        host: HOST.into(),
        port: 0,
        ephemeral: Some(true),
        ..DhtOptions::default()
    };
    let dht = HyperDht::new(options).await.unwrap();
    within("bootstrap", dht.fully_bootstrapped()).await.unwrap();
    dht
}

/// Requests that are right in every respect, and such that are wrong in one.
fn ammunition(to: SocketAddr, node_id: [u8; 32], token: [u8; 32]) -> Vec<Bytes> {
    let mut all = Vec::new();
    for n in 0..300u16 {
        let signer = Signer::new(&KeyPair::from_seed(&hash(&[&n.to_le_bytes()])));
        let target = hash(&[b"flood", &n.to_le_bytes()]);
        let context = AnnounceContext { target: &target, node_id: &node_id, token: &token };
        let announce = signer.announce(context, Vec::new(), Some(target), 5).encode();
        let value = Bytes::from(vec![n as u8; 900 + usize::from(n)]);
        let put = signer.mutable(n.into(), value.clone());
        let mut forged = put.clone();
        forged.record.seq += 1;
        let own = hash(&[&put.public_key]);
        for (command, target, token, value) in [
            (Command::Announce, target, Some(token), announce.clone()),
            (Command::Announce, [3; 32], Some(token), announce.clone()),
            (Command::Announce, target, Some([9; 32]), announce.clone()),
            (Command::Announce, target, Some(token), announce.slice(..50)),
            (Command::ImmutablePut, hash(&[&value]), Some(token), value.clone()),
            (Command::ImmutablePut, target, Some(token), value),
            (Command::MutablePut, own, Some(token), put.encode()),
            (Command::MutablePut, own, Some(token), forged.encode()),
            (Command::MutableGet, own, None, Bytes::from_static(&[0xff; 3])),
            (Command::Unannounce, target, Some(token), announce),
        ] {
            let request = RequestMessage {
                tid: n,
                to,
                id: None,
                token,
                internal: false,
                command: command.to_wire(),
                target: Some(target),
                value: Some(value),
            };
            all.push(Message::Request(request).encode().unwrap());
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_announcements_and_puts() {
    let (node, address) = bootstrapper().await;
    within("bootstrap", node.fully_bootstrapped()).await.unwrap();
    let (alice, bob) = (client(address).await, client(address).await);
    let ask =
        RequestBody { command: Command::Lookup.to_wire(), target: Some([3; 32]), ..RequestBody::default() };
    let reply =
        within("a token", alice.rpc().request(address, ask, RequestOptions::default())).await.unwrap();
    let shots = ammunition(address, reply.from.id.unwrap(), reply.token.unwrap());

    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (stopped, counted) = (stop.clone(), sent.clone());
    let flood = std::thread::spawn(move || {
        let socket = std::net::UdpSocket::bind((HOST, 0)).unwrap();
        for shot in shots.iter().cycle() {
            // A full queue is the kernel's way of dropping: the flood goes on.
            let _ = socket.send_to(shot, address);
            counted.fetch_add(1, Ordering::Relaxed);
            if stopped.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    while sent.load(Ordering::Relaxed) < 20_000 {
        tokio::task::yield_now().await;
    }

    // Under way through the flood requests get lost and are sent again, but what is asked for is done.
    let topic = [3; 32];
    let key_pair = KeyPair::from_seed(&[1; 32]);
    let mut announced = false;
    for _ in 0..TRIES {
        let mut query = alice.announce(topic, &key_pair, &[], AnnounceOptions::default()).unwrap();
        if within("an announcement", query.finished()).await.is_ok_and(|stored| stored.stored == 1) {
            announced = true;
            break;
        }
    }
    assert!(announced, "the node took no announcement during the flood");
    let mut found = false;
    for _ in 0..TRIES {
        let mut query = bob.lookup(topic, QueryOptions::default()).unwrap();
        while let Some(some) = within("a lookup", query.next()).await {
            found |= some.peers.iter().any(|peer| peer.public_key == key_pair.public);
        }
        if found {
            break;
        }
    }
    assert!(found, "nobody found the announcement during the flood");
    stop.store(true, Ordering::Relaxed);
    flood.join().unwrap();
    eprintln!("{} datagrams came in between; {:?}", sent.load(Ordering::Relaxed), node.rpc().stats());

    let put = alice.immutable_put("afterwards".into(), QueryOptions::default());
    let (hash, stored) = within("a put after the flood", put).await.unwrap();
    assert_eq!(stored.stored, 1);
    let got =
        within("a get after the flood", bob.immutable_get(hash, QueryOptions::default())).await.unwrap();
    assert_eq!(got.unwrap().value, "afterwards");
    for dht in [alice, bob, node] {
        dht.destroy().await;
    }
}
