//! An update of a core that was opened a moment ago found nothing although a connected peer had the core: its channel was
//! taken for refused between the remote's answer and the peer's arrival, when neither stood for hope.

use corestore::{Corestore, ReplicateOptions};
use hypercore::UpdateOptions;
use secret_stream::KeyPair;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_right_after_opening_finds_what_a_connected_peer_has() {
    let (alice, bob) = (Corestore::memory(), Corestore::memory());
    let (one, other) = tokio::io::duplex(64 * 1024);
    alice.replicate(one, ReplicateOptions::new(false, KeyPair::generate())).unwrap();
    let connection = bob.replicate(other, ReplicateOptions::new(true, KeyPair::generate())).unwrap();
    connection.opened().await.unwrap();

    for round in 0..300 {
        let log = alice.get(format!("log {round}").as_str()).unwrap();
        log.append_batch(["hello", "hyperspace"]).unwrap();
        let key = log.key();
        // Stored there, open or not.
        let _open = (round % 2 == 0).then_some(log);
        let copy = bob.get(key).unwrap();
        let options = UpdateOptions { wait: Some(true), min_length: Some(1), ..UpdateOptions::default() };
        assert!(copy.update_with(options).await.unwrap(), "round {round}");
        assert_eq!(copy.length(), 2);
    }
}
