//! Which NATs let two peers connect: every pairing of four kinds, in network namespaces that the test makes; once both
//! peers are ours, once the client and once the server is npm `hyperdht` 6.34.
//!
//! ```text
//!                     internet: DHT nodes at 45.10.0.1.., a blind relay
//!      45.10.s.1 |                                         | 45.10.t.1
//!      45.10.s.2 | router of site s (the NAT)              | 45.10.t.2
//!     192.168.s.1 |                                        | 192.168.t.1
//!     192.168.s.2 client                             server 192.168.t.2
//! ```
//!
//! The internet drops what has few hops left, so that a packet that is to open the own NAT only gets no further. Our
//! peers are this very program, started again inside the namespaces; the npm peers of a host share one process there.
//! `docs/nat.md` holds the resulting table and why it looks so.

mod npm;
mod ours;
mod sites;

use std::collections::BTreeMap;
use std::sync::Arc;

use interop::Node;
use npm::Npm;
use ours::Process;
use sites::{Internet, Kind, Ports, Site};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Pairs that are at it at the same time. More would be quicker on a machine with many cores; on a small one they would
/// take the time that the protocol itself gives to an answer (a second, ten for a handshake).
const AT_ONCE: usize = 6;

/// How often a pair may try whose only direct way is a random punch. That is a matter of chance by design, see
/// `docs/nat.md`: what goes wrong once in hundreds of times would be seen in every tenth run of all the pairs.
const RANDOM_TRIES: usize = 3;

/// Whose client calls whose server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Pairing {
    Ours,
    NpmToOurs,
    OursToNpm,
    Npm,
}

impl Pairing {
    fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours to ours",
            Self::NpmToOurs => "npm to ours",
            Self::OursToNpm => "ours to npm",
            Self::Npm => "npm to npm",
        }
    }

    fn client_is_npm(self) -> bool {
        matches!(self, Self::NpmToOurs | Self::Npm)
    }

    fn server_is_npm(self) -> bool {
        matches!(self, Self::OursToNpm | Self::Npm)
    }
}

/// Where a peer runs.
#[derive(Debug, Clone)]
struct Host {
    namespace: String,
    npm: Option<Arc<Npm>>,
}

impl Host {
    async fn at(namespace: String, node: Option<&Node>) -> Self {
        let npm = match node {
            Some(node) => Some(Arc::new(Npm::start(node, &namespace).await)),
            None => None,
        };
        Self { namespace, npm }
    }

    fn npm(&self) -> &Npm {
        self.npm.as_deref().expect("npm peers are only asked for where there is Node")
    }
}

/// Where everybody enters the DHT, and a blind relay in it.
#[derive(Debug, Clone)]
struct Network {
    bootstrap: String,
    relay: String,
}

/// A connection that came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Connected {
    /// By what means, as far as the client knows.
    how: String,
    /// The other end of the stream, as the client sees it.
    remote: String,
}

/// What came of a try: a connection over which a message went there and back, or why there is none.
type Tried = Result<Connected, String>;

/// What came of the tries of a pair: without, and perhaps with a blind relay.
#[derive(Debug, Clone)]
struct Outcome {
    direct: Tried,
    relayed: Option<Tried>,
    /// What the server knew about itself, each time.
    servers: Vec<String>,
}

impl Outcome {
    fn cell(&self) -> String {
        let told = |tried: &Tried| match tried {
            Ok(connected) => connected.how.clone(),
            Err(why) => format!("no: {why}"),
        };
        match &self.relayed {
            Some(relayed) => format!("{} / {}", told(&self.direct), told(relayed)),
            None => told(&self.direct),
        }
    }
}

/// Symmetric NATs on both sides are the one pairing that has no direct way: neither side's port can be known, and to
/// guess both at once would take billions of packets.
fn connects_directly(client: Kind, server: Kind) -> bool {
    (client, server) != (Kind::Symmetric, Kind::Symmetric)
}

/// One side is where nobody knows, and the other does not let in everybody.
fn needs_random_punch(client: Kind, server: Kind) -> bool {
    let others = [Kind::EndpointIndependent, Kind::AddressDependent];
    (client == Kind::Symmetric && others.contains(&server))
        || (server == Kind::Symmetric && others.contains(&client))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pairing_of_nats() {
    let Some(net) = Net::make(Node::find().await).await else { return };
    let with_npm: &[Pairing] = match net.node {
        Some(_) => &[Pairing::NpmToOurs, Pairing::OursToNpm],
        None => &[],
    };
    let pairings = [&[Pairing::Ours], with_npm].concat();
    let table = matrix(&net, &pairings).await;
    let mut wrong = Vec::new();
    for ((pairing, client, server), outcome) in &table {
        let relayed = outcome.relayed.as_ref().is_none_or(Result::is_ok);
        if outcome.direct.is_ok() != connects_directly(*client, *server) || !relayed {
            let (pairing, client, server) = (pairing.name(), client.name(), server.name());
            let (came, servers) = (outcome.cell(), outcome.servers.join("; "));
            wrong.push(format!("{pairing}, {client} to {server}: {came}; the servers: {servers}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Two peers behind one NAT that does not let its own side in from outside: there is no way but the one inside. Once the
/// NAT keeps their ports, once it is symmetric.
#[tokio::test(flavor = "multi_thread")]
async fn two_behind_one_nat_meet_inside() {
    let Some(net) = Net::make(Node::find().await).await else { return };
    for ports in [Ports::Kept, Ports::Random] {
        let (_home, hosts, inside) = net.internet.home(ports);
        let client = Host::at(hosts[0].clone(), net.node.as_ref()).await;
        let server = Host::at(hosts[1].clone(), net.node.as_ref()).await;
        let pairings: &[_] = match net.node {
            Some(_) => &[Pairing::Ours, Pairing::NpmToOurs, Pairing::OursToNpm],
            None => &[Pairing::Ours],
        };
        for pairing in pairings {
            let name = format!("home-{ports:?}");
            let (tried, knew) = one_try(*pairing, &client, &server, &net.network, false, &name).await;
            let connected =
                tried.unwrap_or_else(|why| panic!("{}, {ports:?}: {why}; {knew}", pairing.name()));
            println!("{}, {ports:?}: {connected:?}; {knew}", pairing.name());
            let is_inside = connected.remote.starts_with(&format!("{inside}:"));
            assert!(is_inside, "{}, {ports:?}: {connected:?}", pairing.name());
        }
    }
}

/// Measures what npm `hyperdht` makes of the pairings by itself, for the table in `docs/nat.md`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures npm alone"]
async fn what_npm_does_alone() {
    let Some(net) = Net::make(Node::find().await).await else { return };
    if net.node.is_some() {
        matrix(&net, &[Pairing::Npm]).await;
    }
}

/// Measures how often the move from a blind relay to the direct way fails, whoever's the peers are, for `docs/nat.md`:
/// `NAT_ROUNDS` rounds (one by default) of every pairing that has a direct way.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "measures a rare failure"]
async fn how_often_the_move_from_a_relay_fails() {
    let Some(net) = Net::make(Node::find().await).await else { return };
    if net.node.is_none() {
        return;
    }
    let rounds: usize = std::env::var("NAT_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let pairings = [Pairing::Ours, Pairing::NpmToOurs, Pairing::OursToNpm, Pairing::Npm];
    let sites = Sites::make(&net, &pairings).await;
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    for pairing in pairings {
        let mut tries = JoinSet::new();
        for (round, client, server) in (0..rounds)
            .flat_map(|round| Kind::ALL.map(|client| (round, client)))
            .flat_map(|(round, client)| Kind::ALL.map(|server| (round, client, server)))
            .filter(|(_, client, server)| connects_directly(*client, *server))
        {
            let (at_client, at_server) = (sites.host(0, client), sites.host(1, server));
            let (network, turns) = (net.network.clone(), Arc::clone(&turns));
            tries.spawn(async move {
                let _turn = turns.acquire_owned().await;
                let name = format!("{client:?}-{server:?}-{round}");
                let (tried, knew) = one_try(pairing, &at_client, &at_server, &network, true, &name).await;
                tried.map_err(|why| format!("{name}: {why}; the server: {knew}"))
            });
        }
        let all = tries.join_all().await;
        let failed: Vec<_> = all.iter().filter_map(|tried| tried.as_ref().err()).collect();
        println!("{}: {} of {} failed: {failed:#?}", pairing.name(), failed.len(), all.len());
    }
}

/// A host behind a NAT of every kind, on either side.
struct Sites(BTreeMap<(u8, Kind), (Site, Host)>);

impl Sites {
    async fn make(net: &Net, pairings: &[Pairing]) -> Self {
        let mut sites = BTreeMap::new();
        for (side, kind) in (0..2).flat_map(|side| Kind::ALL.map(|kind| (side, kind))) {
            let site = net.internet.site(side, kind);
            let npm = pairings.iter().any(|p| if side == 0 { p.client_is_npm() } else { p.server_is_npm() });
            let host = Host::at(site.host(), net.node.as_ref().filter(|_| npm)).await;
            sites.insert((side, kind), (site, host));
        }
        Self(sites)
    }

    fn host(&self, side: u8, kind: Kind) -> Host {
        self.0[&(side, kind)].1.clone()
    }
}

/// The internet, with a DHT in it.
struct Net {
    internet: Internet,
    _nodes: Process,
    network: Network,
    node: Option<Node>,
}

impl Net {
    async fn make(node: Option<Node>) -> Option<Self> {
        let internet = Internet::make()?;
        let nodes = Process::start(&internet.namespace(), &["net"]).await;
        let said = nodes.line().await;
        let (bootstrap, relay) = said.split_once(' ').unwrap_or_else(|| panic!("the network says {said:?}"));
        let network = Network { bootstrap: bootstrap.to_owned(), relay: relay.to_owned() };
        Some(Self { internet, _nodes: nodes, network, node })
    }
}

type Table = BTreeMap<(Pairing, Kind, Kind), Outcome>;

/// Every kind with every kind, for each of these; prints what came of it as the table in the documentation.
async fn matrix(net: &Net, pairings: &[Pairing]) -> Table {
    let sites = Sites::make(net, pairings).await;
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut pairs = JoinSet::new();
    for (client, server) in Kind::ALL.into_iter().flat_map(|client| Kind::ALL.map(|server| (client, server)))
    {
        for pairing in pairings.iter().copied() {
            let (at_client, at_server) = (sites.host(0, client), sites.host(1, server));
            let (network, turns) = (net.network.clone(), Arc::clone(&turns));
            pairs.spawn(async move {
                let _turn = turns.acquire_owned().await;
                let outcome = pair(pairing, (client, server), &at_client, &at_server, &network).await;
                ((pairing, client, server), outcome)
            });
        }
    }
    let table: Table = pairs.join_all().await.into_iter().collect();
    let columns: Vec<_> = pairings.iter().map(|pairing| pairing.name()).collect();
    println!("| client | server | {} |", columns.join(" | "));
    println!("|---|---|{}", "---|".repeat(columns.len()));
    for (client, server) in Kind::ALL.into_iter().flat_map(|client| Kind::ALL.map(|server| (client, server)))
    {
        let cells = pairings.iter().map(|pairing| table[&(*pairing, client, server)].cell());
        println!("| {} | {} | {} |", client.name(), server.name(), cells.collect::<Vec<_>>().join(" | "));
    }
    table
}

/// Two fresh peers without a blind relay, and two more with one. Where one of them is npm's, the relay is only asked for
/// where there is no direct way: the move from the relay to the direct way fails now and then between two npm peers by
/// themselves (`docs/nat.md` has the figures), and whether the same thing or a fault of ours is behind the rare failures with
/// one npm peer is not known.
async fn pair(
    pairing: Pairing,
    kinds: (Kind, Kind),
    client: &Host,
    server: &Host,
    network: &Network,
) -> Outcome {
    let name = format!("{:?}-{:?}", kinds.0, kinds.1);
    let (direct, knew) = one_try(pairing, client, server, network, false, &name).await;
    let mut outcome = Outcome { direct, relayed: None, servers: vec![knew] };
    if needs_random_punch(kinds.0, kinds.1) {
        for more in 2..=RANDOM_TRIES {
            let Err(why) = &outcome.direct else { break };
            println!("{}, {name}: try {more}, since no port was met before ({why})", pairing.name());
            let name = format!("{name}-{more}");
            let (direct, knew) = one_try(pairing, client, server, network, false, &name).await;
            outcome.direct = direct;
            outcome.servers.push(knew);
        }
    }
    if matches!(pairing, Pairing::Ours | Pairing::Npm) || !connects_directly(kinds.0, kinds.1) {
        let (relayed, knew) = one_try(pairing, client, server, network, true, &name).await;
        outcome.relayed = Some(relayed);
        outcome.servers.push(knew);
    }
    outcome
}

/// A fresh client calls a fresh server; what came of it, and what the server knew about itself.
async fn one_try(
    pairing: Pairing,
    client: &Host,
    server: &Host,
    network: &Network,
    relayed: bool,
    name: &str,
) -> (Tried, String) {
    let relay = relayed.then_some(network.relay.as_str());
    let name = format!("{name}-{pairing:?}-{relayed}");
    let bootstrap = &network.bootstrap;
    let (mut listening, mut listens_npm) = (None, None);
    let (key, knew) = if pairing.server_is_npm() {
        let peer = server.npm().peer(&format!("{name}-server"), bootstrap).await;
        let said = peer.listen().await;
        listens_npm = Some(peer);
        said
    } else {
        let process = Process::start(&server.namespace, &["server", bootstrap]).await;
        let line = process.line().await;
        listening = Some(process);
        let (key, knew) = line.split_once(' ').unwrap_or_default();
        (key.to_owned(), knew.to_owned())
    };
    let tried = if pairing.client_is_npm() {
        let peer = client.npm().peer(&format!("{name}-client"), bootstrap).await;
        let tried = peer.call(&key, relay).await;
        peer.end().await;
        tried
    } else {
        ours::call(&client.namespace, bootstrap, &key, relay).await
    };
    drop(listening);
    if let Some(peer) = listens_npm {
        peer.end().await;
    }
    (tried, knew)
}

/// Not a test: one peer, when the environment says which.
#[test]
#[ignore = "runs as a process of the tests above"]
fn peer_process() {
    ours::run_if_asked();
}
