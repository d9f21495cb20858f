//! Swarms over a DHT of real nodes on 127.0.0.1.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use hyperdht::{DhtOptions, HyperDht, KeyPair};
use hyperswarm::{DhtNode, Hyperswarm, JoinOptions, SwarmOptions};

/// Only to end a test that hangs.
const DEADLINE: Duration = Duration::from_secs(60);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.unwrap_or_else(|_| panic!("{what}: it takes too long"))
}

async fn swarm(node: &HyperDht) -> Hyperswarm<DhtNode> {
    let options = DhtOptions {
        bootstrap: Some(vec![node.local_address().to_string()]),
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: 0,
        ..DhtOptions::default()
    };
    Hyperswarm::new(options, KeyPair::generate(), SwarmOptions::default()).await.unwrap()
}

async fn network() -> HyperDht {
    HyperDht::bootstrapper((Ipv4Addr::LOCALHOST, 0).into()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_says_the_other_hears() {
    for round in 0..10 {
        let node = network().await;
        let (alice, bob) = (swarm(&node).await, swarm(&node).await);
        let topic = [7; 32];
        assert!(
            within("alice is announced", alice.join(topic, JoinOptions::SERVER).unwrap().flushed()).await
        );
        bob.join(topic, JoinOptions::CLIENT).unwrap();
        let (mut to_alice, peer) = within("bob connects", bob.next_connection()).await.unwrap();
        assert_eq!(peer.public_key, alice.public_key());
        let (mut to_bob, _) = within("alice is connected", alice.next_connection()).await.unwrap();
        to_alice.send("hello".into()).await.unwrap_or_else(|error| panic!("round {round}: {error}"));
        let heard = within("a message", to_bob.recv()).await;
        assert_eq!(heard.unwrap().unwrap_or_else(|error| panic!("round {round}: {error}")), "hello");
        within("bob ends", bob.destroy()).await;
        within("alice ends", alice.destroy()).await;
        node.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_swarms_on_three_topics_have_one_connection_for_each_pair() {
    let node = network().await;
    let mut swarms = Vec::new();
    for _ in 0..10 {
        swarms.push(swarm(&node).await);
    }
    let mut connections = Vec::new();
    for swarm in &swarms {
        for topic in [[1; 32], [2; 32], [3; 32]] {
            swarm.join(topic, JoinOptions::default()).unwrap();
        }
        let taking = swarm.clone();
        connections.push(tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Some((mut connection, peer)) = taking.next_connection().await {
                // Polled, so that it is kept alive and its end is noticed.
                kept.push(tokio::spawn(async move { while let Some(Ok(_)) = connection.recv().await {} }));
                assert_ne!(peer.public_key, taking.public_key());
            }
        }));
    }
    // A second connection of a pair may take the place of the first: nobody is to be short of one at the end.
    let all = async {
        while let Some(mut short) =
            swarms.iter().map(Hyperswarm::counts).find(|counts| counts.borrow().connections < 9)
        {
            short.wait_for(|counts| counts.connections >= 9).await.unwrap();
        }
    };
    within("everybody is connected with everybody", all).await;
    assert!(swarms.iter().all(|swarm| swarm.connection_count() == 9));
    for swarm in &swarms {
        within("a swarm ends", swarm.destroy()).await;
    }
    node.close().await;
}
