//! The announcer in a network made of a list of nodes.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::state::*;
use crate::rpc::{Peer, node_id};

fn node(n: u16) -> Peer {
    let addr = SocketAddr::from(([10, 0, 0, 1], n));
    Peer { addr, id: Some(node_id(addr)) }
}

/// Nodes that answer at once. The first ones of `near` are the nearest.
struct World {
    announcer: Announcer,
    now: Instant,
    near: Vec<u16>,
    dead: BTreeSet<u16>,
    /// Where it is announced, as the nodes see it.
    announced: BTreeSet<u16>,
    queries: usize,
    pings: usize,
}

impl World {
    fn new(near: &[u16]) -> Self {
        Self {
            announcer: Announcer::new(),
            now: Instant::now(),
            near: near.to_vec(),
            dead: BTreeSet::new(),
            announced: BTreeSet::new(),
            queries: 0,
            pings: 0,
        }
    }

    fn is_alive(&self, peer: Peer) -> bool {
        !self.dead.contains(&peer.addr.port())
    }

    fn answer(&mut self, action: Action) {
        match action {
            Action::Query(_) => {
                self.queries += 1;
                let alive: Vec<_> =
                    self.near.iter().map(|n| node(*n)).filter(|node| self.is_alive(*node)).collect();
                let seen_as = ([9, 9, 9, 9], 9).into();
                let candidate =
                    |node: &Peer| Candidate { relay: Relay { node: *node, seen_as }, token: [1; 32] };
                let candidates = alive.iter().map(candidate).collect();
                self.announcer.on_query(self.now, alive, candidates);
            }
            Action::Announce(candidate) => {
                let taken = self.is_alive(candidate.relay.node);
                if taken {
                    self.announced.insert(candidate.relay.node.addr.port());
                }
                self.announcer.on_announced(self.now, candidate.relay, taken);
            }
            Action::Unannounce(peer) => {
                if self.is_alive(peer) {
                    self.announced.remove(&peer.addr.port());
                }
                self.announcer.on_unannounced(self.now);
            }
            Action::Ping(peer) => {
                self.pings += 1;
                self.announcer.on_pinged(self.now, self.is_alive(peer));
            }
            Action::CancelQuery | Action::Publish => {}
        }
    }

    fn settle(&mut self) {
        while let Some(action) = self.announcer.poll(self.now) {
            self.answer(action);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        while let Some(deadline) = self.announcer.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            self.settle();
        }
        self.now = end;
    }

    fn relays(&self) -> BTreeSet<u16> {
        self.announcer.relays().iter().map(|relay| relay.node.addr.port()).collect()
    }
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn it_announces_at_the_three_nearest_and_pings_them() {
    let mut world = World::new(&[1, 2, 3, 4, 5]);
    world.settle();
    assert!(world.announcer.attempted());
    assert_eq!(world.announced, [1, 2, 3].into());
    assert_eq!(world.relays(), world.announced);
    world.run(MINUTE);
    assert_eq!(world.pings, 3 * 21, "at once, then every three seconds");
    assert_eq!(world.queries, 1);
    world.run(4 * MINUTE + Duration::from_secs(1));
    assert_eq!(world.queries, 2, "anew after five minutes");
}

#[test]
fn a_lost_relay_is_replaced_and_a_worse_one_left() {
    let mut world = World::new(&[1, 2, 3, 4, 5]);
    world.settle();
    world.dead.insert(2);
    world.run(Duration::from_secs(10));
    assert_eq!(world.relays(), [1, 3, 4].into());
    world.dead.clear();
    world.near.insert(0, 7);
    world.run(6 * MINUTE);
    assert_eq!(world.relays(), [7, 1, 2].into());
    assert_eq!(world.announced, world.relays(), "the others know that they are no longer needed");
}

#[test]
fn without_relays_it_tries_again_soon_and_then_less_often() {
    let mut world = World::new(&[1, 2, 3]);
    world.dead = [1, 2, 3].into();
    world.settle();
    assert!(world.announcer.attempted() && world.relays().is_empty());
    world.run(Duration::from_secs(10));
    assert_eq!(world.queries, 3, "at once, after 3 and after 6 more seconds");
    world.run(10 * MINUTE);
    assert!(world.queries <= 16, "{}", world.queries);
    world.dead.clear();
    world.run(MINUTE);
    assert_eq!(world.relays(), [1, 2, 3].into());
}

#[test]
fn offline_it_waits() {
    let mut world = World::new(&[1, 2, 3]);
    world.settle();
    world.announcer.set_online(false);
    world.run(60 * MINUTE);
    assert_eq!(world.queries, 1);
    world.announcer.set_online(true);
    world.settle();
    assert_eq!(world.queries, 2, "anew when the network is back");
}

#[test]
fn suspended_it_is_not_announced() {
    let mut world = World::new(&[1, 2, 3]);
    world.settle();
    world.announcer.suspend();
    assert!(!world.announcer.is_quiet());
    world.settle();
    assert!(world.announcer.is_quiet() && !world.announcer.is_stopped());
    assert_eq!(world.announced, [].into());
    world.run(60 * MINUTE);
    assert_eq!(world.queries, 1);
    world.announcer.resume();
    world.settle();
    assert_eq!(world.announced, [1, 2, 3].into());
    world.announcer.stop();
    world.settle();
    assert!(world.announcer.is_stopped());
    assert_eq!(world.announced, [].into());
}

#[test]
fn stopping_ends_a_query_that_nobody_waits_for() {
    let mut world = World::new(&[1, 2, 3]);
    assert!(matches!(world.announcer.poll(world.now), Some(Action::Query(_))));
    world.announcer.stop();
    assert_eq!(world.announcer.poll(world.now), Some(Action::CancelQuery));
    assert_eq!(world.announcer.poll(world.now), None);
    assert!(world.announcer.is_stopped());
}

proptest! {
    /// Whatever happens in whatever order, in the end it is announced at the nearest three that live, or nowhere; and
    /// it never asks for more at once than it should.
    #[test]
    fn any_history(steps in proptest::collection::vec((0u8..9, 0usize..8), 0..80), announced in any::<bool>()) {
        let mut world = World::new(&[1, 2, 3, 4, 5, 6]);
        let mut waiting: Vec<Action> = Vec::new();
        for (step, n) in steps {
            match step {
                0 => world.announcer.refresh(),
                1 => world.announcer.set_online(false),
                2 => world.announcer.set_online(true),
                3 => world.announcer.suspend(),
                4 => world.announcer.resume(),
                5 => { world.dead = [1 + n as u16 % 6].into(); }
                6 => world.now += Duration::from_secs(1 << n),
                7 => if !waiting.is_empty() {
                    let action = waiting.remove(n % waiting.len());
                    world.answer(action);
                },
                _ => match world.announcer.poll(world.now) {
                    Some(Action::CancelQuery) => waiting.retain(|action| !matches!(action, Action::Query(_))),
                    Some(action) => waiting.push(action),
                    None => {}
                },
            }
            let asked = waiting.iter().filter(|action| !matches!(action, Action::Publish)).count();
            prop_assert!(asked <= 2 * RELAYS);
            prop_assert!(world.announcer.relays().len() <= RELAYS);
        }
        for action in waiting {
            world.answer(action);
        }
        world.dead.clear();
        if announced {
            world.announcer.resume();
            world.announcer.set_online(true);
            world.announcer.refresh();
            world.run(MINUTE);
            prop_assert_eq!(world.relays(), [1, 2, 3].into());
        } else {
            world.announcer.stop();
            world.settle();
            prop_assert!(world.announcer.is_stopped());
        }
    }
}
