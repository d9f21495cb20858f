//! What goes over a connection beside the cores.

use super::*;
use crate::replicate::{ExtensionError, OwnProtocol};

#[tokio::test]
async fn extension_messages_reach_the_sink() {
    let (a, b) = (Store::new(1), Store::new(2));
    let log = a.create(9);
    let copy = b.get(log.key());
    let heard = Arc::new(Mutex::new(Vec::new()));
    let sink = heard.clone();
    b.hub.set_extension_sink(Some(Arc::new(move |discovery_key, remote, name, message| {
        sink.lock().unwrap().push((*discovery_key, *remote, name.to_owned(), message));
    })));
    let _connections = connect(&a, &b);
    eventually("they are peers", || log.peer_count() == 1 && copy.peer_count() == 1).await;
    let (core, hello) = (log.discovery_key(), Bytes::from_static(b"hello"));
    assert_eq!(a.hub.broadcast_extension(&core, "chat", &hello), Ok(1));
    eventually("it is heard", || !heard.lock().unwrap().is_empty()).await;
    // To one peer, and to one who is none.
    assert_eq!(a.hub.send_extension(&core, &[7; 32], "chat", &hello), Ok(0));
    assert_eq!(a.hub.send_extension(&core, &b.identity.public, "chat", &hello), Ok(1));
    eventually("it is heard again", || heard.lock().unwrap().len() > 1).await;
    let expected = (core, a.identity.public, "chat".to_owned(), hello.clone());
    assert_eq!(*heard.lock().unwrap(), [expected.clone(), expected]);
    // What no message can carry is refused, and the connection lives on.
    let large = Bytes::from(vec![0; ExtensionError::MAX_MESSAGE + 1]);
    assert!(a.hub.broadcast_extension(&core, "chat", &large).is_err());
    assert!(a.hub.broadcast_extension(&core, &"x".repeat(1025), &hello).is_err());
    assert_eq!(a.hub.broadcast_extension(&core, "chat", &large.slice(1..)), Ok(1));
    eventually("the largest is heard", || heard.lock().unwrap().len() > 2).await;
    assert_eq!(heard.lock().unwrap()[2].3.len(), ExtensionError::MAX_MESSAGE);
}

/// Messages, and the public keys of those who sent them.
type Heard = Arc<Mutex<Vec<([u8; 32], Bytes)>>>;

/// What a store hears in the protocol `test`.
fn listen(store: &Store) -> Heard {
    let heard = Heard::default();
    let told = heard.clone();
    let sink = Arc::new(move |remote: &[u8; 32], message| told.lock().unwrap().push((*remote, message)));
    store.hub.set_own_protocol(Some(OwnProtocol { name: "test".into(), sink }));
    heard
}

#[tokio::test]
async fn a_protocol_of_the_owners_goes_beside_the_cores() {
    let (a, b) = (Store::new(1), Store::new(2));
    let (at_a, at_b) = (listen(&a), listen(&b));
    let (to_b, to_a) = connect(&a, &b);
    // It waits until the other side wants it, too, also through the handshake.
    assert!(to_b.send_protocol("early".into()));
    to_a.opened().await.unwrap();
    assert!(at_b.lock().unwrap().is_empty());
    to_a.offer_protocol();
    eventually("it is heard", || !at_b.lock().unwrap().is_empty()).await;
    assert!(to_a.send_protocol("late".into()));
    eventually("the answer is heard", || !at_a.lock().unwrap().is_empty()).await;
    assert_eq!(*at_b.lock().unwrap(), [(a.identity.public, "early".into())]);
    assert_eq!(*at_a.lock().unwrap(), [(b.identity.public, "late".into())]);
    // Many large ones, in order.
    for i in 0..100u8 {
        while !to_b.send_protocol(vec![i; 1 << 20].into()) {
            tokio::task::yield_now().await;
        }
    }
    eventually("all are heard", || at_b.lock().unwrap().len() == 101).await;
    assert!((0..100u8).zip(&at_b.lock().unwrap()[1..]).all(|(i, (_, message))| message[0] == i));
    to_b.close();
    eventually("nothing can be said any more", || !to_b.send_protocol("x".into())).await;
}

#[tokio::test]
async fn a_held_connection_waits_behind_the_handshake() {
    let (writer, reader) = (Store::new(1), Store::new(2));
    let log = writer.create(9);
    log.append("x").unwrap();
    let copy = reader.get(log.key());
    let other = reader.create(8);
    let held = || {
        let (near, far) = tokio::io::duplex(1 << 20);
        let options = ReplicateOptions::new(true, writer.identity.clone()).held();
        let to_reader = writer.hub.replicate(writer.cores.clone(), near, options).unwrap();
        (to_reader, reader.replicate(false, far))
    };
    let (to_reader, to_writer) = held();
    assert_eq!(to_reader.opened().await.unwrap(), reader.identity.public);
    assert_eq!(to_writer.opened().await.unwrap(), writer.identity.public);
    // The other side offers its cores; whatever has its turn meanwhile, nothing comes of it.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!((writer.hub.core_count(), log.info().peers), (0, 0));
    to_reader.proceed();
    assert_eq!(copy.get(0).await.unwrap(), "x");
    drop(other);

    // It can be closed meanwhile.
    let (to_reader, to_writer) = held();
    to_reader.opened().await.unwrap();
    to_reader.close();
    to_reader.closed().await.unwrap();
    to_writer.closed().await.unwrap();
}

#[tokio::test]
async fn who_does_not_speak_the_protocol_rejects_it_and_replicates() {
    let (a, b) = (Store::new(1), Store::new(2));
    let heard = listen(&a);
    let (to_b, to_a) = connect(&a, &b);
    to_b.offer_protocol();
    assert!(to_a.send_protocol("it has no name for it".into()));
    eventually("it is rejected", || !to_b.send_protocol("x".into())).await;
    let log = a.create(9);
    log.append("x").unwrap();
    assert_eq!(b.get(log.key()).get(0).await.unwrap(), "x");
    assert!(heard.lock().unwrap().is_empty());
}
