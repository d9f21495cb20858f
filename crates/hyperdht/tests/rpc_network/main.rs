//! Networks of DHT nodes in virtual time: a thousand nodes with churn, many small ones with loss, firewalls, sleep.

mod network;

use std::net::Ipv4Addr;
use std::time::Duration;

use hyperdht::rpc::node::QueryOutcome;
use hyperdht::rpc::{NodeId, RpcOptions};

use network::Network;

const MINUTE: Duration = Duration::from_secs(60);

/// `count` lookups of anything from anywhere: the share of the nearest nodes that was found, and the mean of hops.
fn lookups(network: &mut Network, count: usize) -> (f64, f64) {
    let from: Vec<(Ipv4Addr, NodeId)> =
        (0..count).map(|_| (network.draw_host(), network.draw_id())).collect();
    let outcomes: Vec<QueryOutcome> = network.find_nodes(&from);
    let (mut found, mut wanted, mut hops) = (0, 0, 0);
    for ((host, target), outcome) in from.iter().zip(&outcomes) {
        let (f, w) = network.found(*host, *target, outcome);
        assert!(f * 2 > w, "a lookup found {f} of {w}");
        found += f;
        wanted += w;
        hops += outcome.hops;
    }
    (found as f64 / wanted as f64, f64::from(hops) / count as f64)
}

#[test]
fn a_thousand_nodes_with_churn() {
    let (mut network, first) = Network::grown(1, 61, 10);
    let mut table = Vec::new();
    for size in [62usize, 125, 250, 500, 1000] {
        let missing = size - network.hosts().len();
        network.grow(first, missing, 25);
        network.run(MINUTE);
        let (found, hops) = lookups(&mut network, 100);
        println!("{size:5} nodes: {:6.2} % found, {hops:.2} hops", found * 100.0);
        assert!(found > 0.99, "{found}");
        table.push(hops);
    }
    // With the logarithm of the size, so by about as much with each doubling; not with the size.
    let steps: Vec<f64> = table.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.iter().all(|step| *step < 1.0), "{table:?}");
    assert!(table[4] <= 1000f64.log2() / 2.0, "{table:?}");

    // Three hundred are gone at once.
    for _ in 0..300 {
        let victim = network.draw_host();
        if victim != first {
            network.kill(victim);
        }
    }
    let (found, hops) = lookups(&mut network, 100);
    println!("at once after 30 % left: {:6.2} % found, {hops:.2} hops", found * 100.0);
    assert!(found > 0.9, "{found}");

    // In each of ten minutes, thirty leave and thirty come.
    for _ in 0..10 {
        for _ in 0..30 {
            let victim = network.draw_host();
            if victim != first {
                network.kill(victim);
            }
            network.join_persistent(first);
        }
        network.run(MINUTE);
    }
    let (found, hops) = lookups(&mut network, 100);
    println!("after ten minutes of churn: {:6.2} % found, {hops:.2} hops", found * 100.0);
    assert!(found > 0.97, "{found}");
    println!("{} datagrams, {:?} of virtual time", network.delivered, network.now - network.start);
}

#[test]
fn small_networks_with_loss_find_everything() {
    for seed in 0..30 {
        let mut network = Network::new(seed);
        network.loss = seed % 4 * 5;
        let first = network.bootstrapper();
        network.grow(first, 25, 5);
        network.run(MINUTE);
        let (found, _) = lookups(&mut network, 20);
        // Whose answers are lost is not waited for once twenty others have answered.
        assert!(found > if network.loss == 0 { 0.999 } else { 0.9 }, "seed {seed}: {found}");
    }
}

#[test]
fn the_same_seed_is_the_same_network() {
    let run = || {
        let (mut network, _) = Network::grown(7, 30, 3);
        network.loss = 10;
        network.run(5 * MINUTE);
        (network.delivered, network.draw())
    };
    assert_eq!(run(), run());
}

#[test]
fn who_can_be_reached_becomes_persistent_and_who_slept_starts_over() {
    let (mut network, first) = Network::grown(3, 10, 2);
    let open = network.join(first, RpcOptions::default(), false);
    let firewalled = network.join(first, RpcOptions::default(), true);
    let never = network.join(first, RpcOptions { ephemeral: Some(true), ..RpcOptions::default() }, false);
    network.run(MINUTE);
    // The quick test tells who is open; to become a part of the network takes twenty quiet minutes.
    for host in [open, firewalled, never] {
        assert!(network.node(host).is_bootstrapped() && network.node(host).is_ephemeral());
        assert_eq!(network.node(host).host(), Some(host.into()));
    }
    assert!(!network.node(open).is_firewalled() && network.node(firewalled).is_firewalled());
    assert_eq!(network.node(open).remote_address(), Some(network::server(open)));
    assert_eq!(network.node(firewalled).remote_address(), None);

    network.run(25 * MINUTE);
    assert!(network.node(open).id() == Some(hyperdht::rpc::node_id(network::server(open))));
    assert!(network.node(firewalled).is_ephemeral() && network.node(firewalled).is_firewalled());
    assert!(network.node(never).is_ephemeral());
    let knows = |network: &Network, host| {
        let all = network.node(host).nodes(1000);
        all.iter().any(|peer| peer.addr == network::server(open))
    };
    let known = network.hosts().into_iter().filter(|host| knows(&network, *host)).count();
    assert!(known >= 6, "{known} know the new node");

    network.with(open, |node, now| node.wake_up(now));
    assert!(network.node(open).is_ephemeral());
    network.run(70 * MINUTE);
    assert!(!network.node(open).is_ephemeral(), "an hour later it is persistent again");
    let told = network.host(open).events.join(" ");
    assert!(told.contains("Ready") && told.contains("Persistent") && told.contains("Ephemeral"), "{told}");
}

#[test]
fn who_is_forced_to_be_persistent_needs_to_be_reachable_for_it() {
    let (mut network, first) = Network::grown(4, 10, 2);
    let forced = || RpcOptions { ephemeral: Some(false), ..RpcOptions::default() };
    let open = network.join(first, forced(), false);
    let firewalled = network.join(first, forced(), true);
    network.run(MINUTE);
    assert!(!network.node(open).is_ephemeral() && !network.node(open).is_firewalled());
    assert!(network.node(firewalled).is_ephemeral() && network.node(firewalled).is_firewalled());
}

#[test]
fn dead_nodes_leave_the_tables() {
    let (mut network, first) = Network::grown(5, 30, 5);
    let dead: Vec<Ipv4Addr> = network.hosts().into_iter().filter(|host| *host != first).take(10).collect();
    for host in &dead {
        network.kill(*host);
    }
    network.run(20 * MINUTE);
    for host in network.hosts() {
        let known = network.node(host).nodes(1000);
        assert!(dead.iter().all(|dead| known.iter().all(|peer| peer.addr.ip() != *dead)));
        assert_eq!(known.len(), 20, "all the others");
    }
}

#[test]
fn without_a_network_we_are_offline_and_then_back() {
    let (mut network, first) = Network::grown(6, 10, 2);
    let host = network.join(first, RpcOptions::default(), false);
    network.run(MINUTE);
    network.loss = 100;
    for _ in 0..12 {
        for _ in 0..5 {
            let target = network.draw_id();
            network.with(host, |node, now| node.find_node(now, target, Default::default())).unwrap();
        }
        network.run(Duration::from_secs(5));
    }
    assert!(!network.node(host).is_online());
    network.loss = 0;
    for _ in 0..12 {
        let target = network.draw_id();
        network.with(host, |node, now| node.find_node(now, target, Default::default())).unwrap();
        network.run(Duration::from_secs(5));
    }
    assert!(network.node(host).is_online());
    let told = network.host(host).events.join(" ");
    assert!(
        told.contains("NetworkUpdate(false, false)") && told.contains("NetworkUpdate(true, false)"),
        "{told}"
    );
}
