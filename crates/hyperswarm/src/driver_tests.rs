//! The driver over a DHT in memory, in tokio's paused time.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};

use crate::swarm::QueryKind;
use crate::{
    Dht, Dial, DialError, Gate, Hyperswarm, JoinOptions, PeerInfo, PublicKey, QueryEvent, QueryOutcome,
    SwarmOptions, Topic, Watch,
};

const LATENCY: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Network {
    records: Mutex<HashMap<Topic, BTreeSet<PublicKey>>>,
    servers: Mutex<HashMap<PublicKey, (Gate, mpsc::UnboundedSender<Pipe>)>>,
    down: AtomicBool,
}

/// A connection that carries nothing: it is there, or it is not.
#[derive(Clone)]
struct Pipe {
    remote: PublicKey,
    open: Arc<watch::Sender<bool>>,
}

impl Watch for Pipe {
    fn closed(&self) -> BoxFuture<'static, ()> {
        let mut open = self.open.subscribe();
        async move {
            let _ = open.wait_for(|open| !open).await;
        }
        .boxed()
    }

    fn close(&self) {
        self.open.send_replace(false);
    }
}

struct Node {
    key: PublicKey,
    network: Arc<Network>,
    incoming: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Pipe>>>,
    sender: mpsc::UnboundedSender<Pipe>,
}

impl Dht for Node {
    type Connection = Pipe;

    fn listen(&self, gate: Gate) -> BoxFuture<'static, Result<(), String>> {
        let (network, key, sender) = (self.network.clone(), self.key, self.sender.clone());
        async move {
            tokio::time::sleep(LATENCY).await;
            network.servers.lock().unwrap().insert(key, (gate, sender));
            Ok(())
        }
        .boxed()
    }

    fn accept(&self) -> BoxFuture<'static, Option<Pipe>> {
        let incoming = self.incoming.clone();
        async move { incoming.lock().await.recv().await }.boxed()
    }

    fn query(&self, topic: Topic, kind: QueryKind) -> BoxStream<'static, QueryEvent> {
        let (network, key) = (self.network.clone(), self.key);
        let events = async move {
            tokio::time::sleep(LATENCY).await;
            if network.down.load(Ordering::Relaxed) {
                return vec![QueryEvent::Ended(QueryOutcome::FAILED)];
            }
            let mut records = network.records.lock().unwrap();
            let records = records.entry(topic).or_default();
            let found = |public_key: &PublicKey| QueryEvent::Found {
                public_key: *public_key,
                relay_addresses: Vec::new(),
            };
            let mut events: Vec<QueryEvent> = records.iter().map(found).collect();
            match kind {
                QueryKind::Announce { .. } => drop(records.insert(key)),
                QueryKind::Unannounce | QueryKind::LookupAndUnannounce => drop(records.remove(&key)),
                QueryKind::Lookup => {}
            }
            events.push(QueryEvent::Ended(QueryOutcome::OK));
            events
        };
        events.map(futures::stream::iter).into_stream().flatten().boxed()
    }

    fn dial(&self, dial: Dial) -> BoxFuture<'static, Result<Pipe, DialError>> {
        let (network, key) = (self.network.clone(), self.key);
        async move {
            tokio::time::sleep(LATENCY).await;
            let failed = || DialError { reason: "nobody there".into(), try_relay: false };
            let server = network.servers.lock().unwrap().get(&dial.public_key).cloned().ok_or_else(failed)?;
            if !server.0.lets_in(&key) {
                return Err(failed());
            }
            let open = Arc::new(watch::Sender::new(true));
            server.1.send(Pipe { remote: key, open: open.clone() }).map_err(|_| failed())?;
            tokio::time::sleep(LATENCY).await;
            Ok(Pipe { remote: dial.public_key, open })
        }
        .boxed()
    }

    fn remote_public_key(connection: &Pipe) -> PublicKey {
        connection.remote
    }

    fn watch(connection: &Pipe) -> Arc<dyn Watch> {
        Arc::new(connection.clone())
    }

    fn suspend(&self) -> BoxFuture<'static, ()> {
        self.close(true)
    }

    fn resume(&self) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }

    fn close(&self, _force: bool) -> BoxFuture<'static, ()> {
        async {}.boxed()
    }
}

fn swarm(network: &Arc<Network>, number: u8) -> Hyperswarm<Node> {
    let (sender, incoming) = mpsc::unbounded_channel();
    let key = [number; 32];
    let incoming = Arc::new(tokio::sync::Mutex::new(incoming));
    let node = Node { key, network: network.clone(), incoming, sender };
    Hyperswarm::over(node, key, SwarmOptions::default())
}

/// Takes connections, and keeps them.
fn keep(swarm: &Hyperswarm<Node>) -> mpsc::UnboundedReceiver<(Pipe, PeerInfo)> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let swarm = swarm.clone();
    tokio::spawn(async move {
        while let Some(connection) = swarm.next_connection().await {
            if sender.send(connection).is_err() {
                return;
            }
        }
    });
    receiver
}

#[tokio::test(start_paused = true)]
async fn swarms_meet_lose_each_other_and_meet_again() {
    let network = Arc::<Network>::default();
    let swarms: Vec<_> = (1..=20).map(|number| swarm(&network, number)).collect();
    let mut connections: Vec<_> = swarms.iter().map(keep).collect();
    for swarm in &swarms {
        let discovery = swarm.join([7; 32], JoinOptions::default()).unwrap();
        assert!(discovery.flushed().await);
    }
    for swarm in &swarms {
        assert!(swarm.flush_topic(&[7; 32]).await);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    for swarm in &swarms {
        assert_eq!(swarm.connection_count(), 19);
    }
    let (connection, peer) = connections[3].recv().await.unwrap();
    assert_eq!(connection.remote, peer.public_key);
    connection.close();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(swarms[3].connection_count(), 18);
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(swarms[3].connection_count(), 19);

    swarms[5].destroy().await;
    assert!(swarms[5].join([8; 32], JoinOptions::default()).is_err());
    assert!(!swarms[5].flush().await);
    assert!(!network.records.lock().unwrap()[&[7; 32]].contains(&[6; 32]));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(swarms.iter().enumerate().all(|(index, swarm)| index == 5 || swarm.connection_count() == 18));
    while connections[5].recv().await.is_some() {}
}

#[tokio::test(start_paused = true)]
async fn without_a_network_a_flush_says_so_and_later_it_is_there() {
    let network = Arc::<Network>::default();
    network.down.store(true, Ordering::Relaxed);
    let (one, two) = (swarm(&network, 1), swarm(&network, 2));
    let (_kept, _also) = (keep(&one), keep(&two));
    let discovery = one.join([7; 32], JoinOptions::SERVER).unwrap();
    two.join([7; 32], JoinOptions::CLIENT).unwrap();
    assert!(!discovery.flushed().await);
    network.down.store(false, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!((one.connection_count(), two.connection_count()), (1, 1));
    assert!(discovery.flushed().await);
    discovery.destroy().await;
    assert!(network.records.lock().unwrap()[&[7; 32]].is_empty());
    assert_eq!(one.connection_count(), 1, "connections stay");
}

#[tokio::test(start_paused = true)]
async fn suspended_and_resumed() {
    let network = Arc::<Network>::default();
    let (one, two) = (swarm(&network, 1), swarm(&network, 2));
    let (_kept, _also) = (keep(&one), keep(&two));
    one.join([7; 32], JoinOptions::default()).unwrap();
    two.join([7; 32], JoinOptions::default()).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(two.connection_count(), 1);
    one.suspend().await;
    assert!(!network.records.lock().unwrap()[&[7; 32]].contains(&[1; 32]));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((one.connection_count(), two.connection_count()), (0, 0));
    one.resume().await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((one.connection_count(), two.connection_count()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_task_ends_with_the_last_handle() {
    let network = Arc::<Network>::default();
    let one = swarm(&network, 1);
    one.join([7; 32], JoinOptions::default()).unwrap();
    let shared = Arc::downgrade(&network);
    drop((one, network));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(shared.upgrade().is_none(), "nothing of it is left");
}

#[tokio::test(start_paused = true)]
async fn a_swarm_that_listens_is_reached_by_its_key_and_tells_whom_it_keeps_out() {
    let network = Arc::<Network>::default();
    let (one, two) = (swarm(&network, 1), swarm(&network, 2));
    let (_kept, _also) = (keep(&one), keep(&two));
    assert!(one.listen().await);
    two.join_peer([1; 32]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((one.connection_count(), two.connection_count()), (1, 1));
    assert!(two.reconnect(&[1; 32], false) && !two.reconnect(&[9; 32], false));
    assert!(!two.peers()[0].reconnecting);

    let mut bans = one.bans();
    one.ban([2; 32], true);
    assert_eq!(bans.recv().await.unwrap(), [2; 32]);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!((one.connection_count(), two.connection_count()), (0, 0));

    one.join([7; 32], JoinOptions::SERVER).unwrap().flushed().await;
    assert!(one.leave_all().await);
    assert!(network.records.lock().unwrap()[&[7; 32]].is_empty() && one.topics().is_empty());
    one.suspend().await;
    assert!(one.is_suspended() && !one.is_destroyed());
    one.resume().await;
    one.destroy().await;
    assert!(one.is_destroyed() && !one.is_suspended() && !two.is_destroyed());
}
