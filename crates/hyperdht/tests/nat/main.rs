//! Which NATs let two peers connect: every pairing of four kinds, in network namespaces that the test makes.
//!
//! ```text
//!                     internet: DHT nodes at 45.10.0.1.., a blind relay
//!      45.10.s.1 |                                         | 45.10.t.1
//!      45.10.s.2 | router of site s (the NAT)              | 45.10.t.2
//!     192.168.s.1 |                                        | 192.168.t.1
//!     192.168.s.2 client                             server 192.168.t.2
//! ```
//!
//! The internet drops what has few hops left, so that a packet that is to open the own NAT only gets no further. The
//! peers are this very program, started again inside the namespaces. `docs/nat.md` holds the resulting table and why it
//! looks so.

mod peer;
mod sites;

use std::collections::BTreeMap;
use std::time::Duration;

use peer::{Outcome, Process};
use sites::{Internet, Kind, Site};

/// What must come of a pairing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expected {
    Direct,
    /// Only through a blind relay.
    Relay,
}

/// Symmetric NATs on both sides are the one pairing that has no direct way: neither side's port can be known, and to
/// guess both at once would take billions of packets.
fn expected(client: Kind, server: Kind) -> Expected {
    match (client, server) {
        (Kind::Symmetric, Kind::Symmetric) => Expected::Relay,
        _ => Expected::Direct,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pairing_of_nats() {
    let Some(internet) = Internet::make() else { return };
    let net = Process::start(internet.namespace(), &["net"]).await;
    let network = net.line().await;
    let sites: BTreeMap<(u8, Kind), Site> = (0..2u8)
        .flat_map(|side| Kind::ALL.map(|kind| (side, kind)))
        .map(|(side, kind)| ((side, kind), internet.site(side, kind)))
        .collect();
    let mut pairs = tokio::task::JoinSet::new();
    for client in Kind::ALL {
        for server in Kind::ALL {
            let (at_client, at_server) = (sites[&(0, client)].host(), sites[&(1, server)].host());
            let network = network.clone();
            pairs.spawn(async move { (client, server, pair(at_client, at_server, &network).await) });
        }
    }
    let mut table = BTreeMap::new();
    while let Some(done) = pairs.join_next().await {
        let (client, server, outcome) = done.unwrap();
        table.insert((client, server), outcome);
    }
    let mut wrong = Vec::new();
    println!("| client, server | {} |", Kind::ALL.map(Kind::name).join(" | "));
    for client in Kind::ALL {
        let row = Kind::ALL.map(|server| table[&(client, server)].to_string());
        println!("| {} | {} |", client.name(), row.join(" | "));
        for server in Kind::ALL {
            let outcome = &table[&(client, server)];
            let got = if outcome.direct { Expected::Direct } else { Expected::Relay };
            if got != expected(client, server) || !outcome.relayed {
                wrong.push(format!("{} to {}: {outcome:?}", client.name(), server.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Two fresh peers connect without a blind relay, and two more with one.
async fn pair(client: String, server: String, network: &str) -> Outcome {
    let (bootstrap, relay) = network.split_once(' ').expect("the network prints where it is");
    let mut outcome = Outcome::default();
    for through in ["-", relay] {
        let listening = Process::start(&server, &["server", bootstrap]).await;
        let listens = listening.line().await;
        let (key, server_side) = listens.split_once(' ').unwrap_or_default();
        let calling = Process::start(&client, &["client", bootstrap, key, through]).await;
        let line = tokio::time::timeout(Duration::from_secs(90), calling.line()).await;
        outcome.take(through != "-", &line.unwrap_or_default(), server_side);
    }
    outcome
}

/// Not a test: one peer, when the environment says which.
#[test]
#[ignore = "runs as a process of the test above"]
fn peer_process() {
    peer::run_if_asked();
}
