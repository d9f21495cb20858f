//! A walk towards a target: who to ask next, and when enough have answered.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use bytes::Bytes;

use super::contacts::K;
use super::peer::compare_distance;
use super::{NodeId, Peer, Reply, node_id};

/// Nodes that one walk takes note of, at most. Honest networks need about twenty for each step.
const MAX_NODES: usize = 2_048;
/// Who told us of a node: as many as are worth a hint if it is down.
const MAX_REFERRERS: usize = 20;
/// Questions under way at once while the nodes that a walk was started with have not answered (dht-rpc 6.27).
const SLOW_START: usize = 3;

/// A walk.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) target: NodeId,
    pub(crate) internal: bool,
    pub(crate) command: u64,
    pub(crate) value: Option<Bytes>,
    pub(crate) retries: u32,
    pub(crate) background: bool,
    pub(crate) concurrency: usize,
    only_closest: bool,
    /// The bootstrap nodes are still to come.
    pub(crate) awaits_bootstrap: bool,
    nodes: HashMap<SocketAddr, State>,
    /// To be asked, by distance.
    pending: BTreeMap<NodeId, (SocketAddr, u32)>,
    closest: Vec<(NodeId, Reply)>,
    in_flight: usize,
    /// Those in flight that did not answer to the first sending.
    slow: usize,
    slowdown: bool,
    from_table: bool,
    pub(crate) successes: usize,
    pub(crate) errors: usize,
    pub(crate) hops: u32,
    done: bool,
}

/// What a walk knows of a node.
#[derive(Debug)]
enum State {
    /// To be asked, or asked; these told us of it.
    Open {
        referrers: Vec<SocketAddr>,
        hops: u32,
    },
    Answered,
    Down,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Ask this node.
    Visit(Peer),
    /// Too few of the nodes that it was started with answered: give it those of the routing table.
    NeedsTable,
    /// Wait for answers.
    Wait,
    /// The end.
    Done,
}

/// Somebody is to be told that somebody is down.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DownHint {
    pub(crate) to: SocketAddr,
    pub(crate) down: SocketAddr,
}

/// What a walk asks.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) target: NodeId,
    pub(crate) internal: bool,
    pub(crate) command: u64,
    pub(crate) value: Option<Bytes>,
}

impl Walk {
    pub(crate) fn new(question: Question, concurrency: usize, retries: u32, background: bool) -> Self {
        let Question { target, internal, command, value } = question;
        Self {
            target,
            internal,
            command,
            value,
            retries,
            background,
            concurrency,
            only_closest: false,
            awaits_bootstrap: false,
            nodes: HashMap::new(),
            pending: BTreeMap::new(),
            closest: Vec::new(),
            in_flight: 0,
            slow: 0,
            slowdown: false,
            from_table: false,
            successes: 0,
            errors: 0,
            hops: 0,
            done: false,
        }
    }

    /// Starts from these nodes; with `only_closest`, asks no others. True if it needs no nodes of the routing table.
    pub(crate) fn start_from(&mut self, nodes: &[Peer], only_closest: bool) -> bool {
        for node in nodes {
            self.add(node.addr, node.id.unwrap_or_else(|| node_id(node.addr)), None, 0);
        }
        self.only_closest = only_closest;
        let enough = self.pending.len() >= K;
        self.slowdown = enough;
        enough
    }

    /// How many nodes of the routing table it can use.
    pub(crate) fn room(&self) -> usize {
        K.saturating_sub(self.pending.len())
    }

    /// Adds nodes of the routing table.
    pub(crate) fn add_from_table(&mut self, nodes: &[Peer]) {
        self.from_table = true;
        self.slowdown = false;
        self.add_all(nodes);
    }

    /// Adds nodes of whatever origin.
    pub(crate) fn add_all(&mut self, nodes: &[Peer]) {
        if self.only_closest {
            return;
        }
        for node in nodes {
            self.add(node.addr, node.id.unwrap_or_else(|| node_id(node.addr)), None, 0);
        }
    }

    pub(crate) fn next(&mut self) -> Step {
        if self.done {
            return Step::Done;
        }
        let concurrency = if self.slowdown { SLOW_START.min(self.concurrency) } else { self.concurrency };
        while self.in_flight < concurrency + self.slow
            && let Some((_, (addr, _))) = self.pending.pop_first()
        {
            let id = node_id(addr);
            if !self.is_closer(&id) {
                continue;
            }
            self.in_flight += 1;
            return Step::Visit(Peer { addr, id: Some(id) });
        }
        if !self.pending.is_empty() || self.awaits_bootstrap {
            return Step::Wait;
        }
        let enough = self.slow == self.in_flight && self.closest.len() >= K;
        if self.in_flight > 0 && !enough {
            return Step::Wait;
        }
        if !self.from_table && !self.only_closest && self.successes < K / 4 {
            return Step::NeedsTable;
        }
        self.done = true;
        Step::Done
    }

    /// A node answered. `was_slow`: only after its question was repeated. `usable` says which nodes may be asked.
    pub(crate) fn answered(
        &mut self,
        reply: &Reply,
        was_slow: bool,
        usable: impl Fn(&NodeId, SocketAddr) -> bool,
    ) -> Vec<DownHint> {
        self.returned(was_slow);
        let hops = match self.nodes.insert(reply.from.addr, State::Answered) {
            Some(State::Open { hops, .. }) => hops,
            _ => 0,
        };
        let mut hints = Vec::new();
        if self.done {
            return hints;
        }
        if reply.error == 0 {
            self.successes += 1
        } else {
            self.errors += 1
        }
        if reply.error == 0
            && let Some(id) = reply.from.id
            && self.is_closer(&id)
        {
            self.hops = self.hops.max(hops);
            self.push_closest(id, reply.clone());
        }
        if !self.only_closest {
            for addr in &reply.closer_nodes {
                let id = node_id(*addr);
                if usable(&id, *addr) && self.add(*addr, id, Some(reply.from.addr), hops + 1) {
                    hints.push(DownHint { to: reply.from.addr, down: *addr });
                }
            }
        }
        if !self.from_table && self.successes + self.errors >= self.concurrency {
            self.slowdown = false;
        }
        hints
    }

    /// A node did not answer. `timed_out`: it was given time enough to.
    pub(crate) fn failed(&mut self, addr: SocketAddr, was_slow: bool, timed_out: bool) -> Vec<DownHint> {
        self.returned(was_slow);
        self.errors += 1;
        if !timed_out {
            return Vec::new();
        }
        match self.nodes.insert(addr, State::Down) {
            Some(State::Open { referrers, .. }) => {
                referrers.into_iter().map(|to| DownHint { to, down: addr }).collect()
            }
            _ => Vec::new(),
        }
    }

    /// A node did not answer to the first sending.
    pub(crate) fn is_slow(&mut self) {
        self.slow += 1;
    }

    /// The replies of the nearest nodes, nearest first.
    pub(crate) fn closest(&self) -> impl Iterator<Item = &Reply> {
        self.closest.iter().map(|(_, reply)| reply)
    }

    fn returned(&mut self, was_slow: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if was_slow {
            self.slow = self.slow.saturating_sub(1);
        }
    }

    fn is_closer(&self, id: &NodeId) -> bool {
        match self.closest.get(K - 1) {
            Some((last, _)) => compare_distance(&self.target, id, last).is_lt(),
            None => true,
        }
    }

    /// Takes note of a node; true if it is known to be down, which `referrer` should hear.
    fn add(&mut self, addr: SocketAddr, id: NodeId, referrer: Option<SocketAddr>, hops: u32) -> bool {
        match self.nodes.get_mut(&addr) {
            Some(State::Answered) => return false,
            Some(State::Down) => return referrer.is_some(),
            Some(State::Open { referrers, .. }) => {
                if referrers.len() < MAX_REFERRERS {
                    referrers.extend(referrer);
                }
                return false;
            }
            None => {}
        }
        if !self.is_closer(&id) || self.nodes.len() >= MAX_NODES {
            return false;
        }
        self.nodes.insert(addr, State::Open { referrers: referrer.into_iter().collect(), hops });
        let mut distance = id;
        for (byte, target) in distance.iter_mut().zip(&self.target) {
            *byte ^= target;
        }
        self.pending.insert(distance, (addr, hops));
        false
    }

    fn push_closest(&mut self, id: NodeId, reply: Reply) {
        let target = self.target;
        let at = self.closest.binary_search_by(|(other, _)| compare_distance(&target, other, &id));
        let Err(at) = at else { return }; // there already
        self.closest.insert(at, (id, reply));
        self.closest.truncate(K);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn addr(n: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 1000))
    }

    fn peer(n: u16) -> Peer {
        Peer { addr: addr(n), id: Some(node_id(addr(n))) }
    }

    fn reply(from: Peer, closer: &[Peer]) -> Reply {
        Reply {
            tid: 0,
            from,
            to: addr(0),
            token: None,
            closer_nodes: closer.iter().map(|peer| peer.addr).collect(),
            error: 0,
            value: None,
            rtt: Duration::ZERO,
        }
    }

    fn walk(concurrency: usize) -> Walk {
        let question = Question { target: [3; 32], internal: true, command: 2, value: None };
        Walk::new(question, concurrency, 5, false)
    }

    fn visits(walk: &mut Walk) -> (Vec<Peer>, Step) {
        let mut visits = Vec::new();
        loop {
            match walk.next() {
                Step::Visit(peer) => visits.push(peer),
                step => return (visits, step),
            }
        }
    }

    fn any(_: &NodeId, _: SocketAddr) -> bool {
        true
    }

    #[test]
    fn a_walk_through_an_ideal_network_ends_at_the_nearest_nodes() {
        let all: Vec<Peer> = (0..300).map(peer).collect();
        let near = |target: &NodeId| {
            let mut sorted = all.clone();
            sorted.sort_by(|a, b| compare_distance(target, &a.id.unwrap(), &b.id.unwrap()));
            sorted.truncate(K);
            sorted
        };
        let mut walk = walk(10);
        walk.add_from_table(&all[..3]);
        let mut asked = 0;
        loop {
            let (visits, step) = visits(&mut walk);
            assert!(visits.len() <= 10);
            if step == Step::Done {
                break;
            }
            for visit in visits {
                asked += 1;
                walk.answered(&reply(visit, &near(&walk.target.clone())), false, any);
            }
        }
        let found: Vec<Peer> = walk.closest().map(|reply| reply.from).collect();
        assert_eq!(found, near(&[3; 32]));
        assert!(asked <= 24, "{asked}");
        assert_eq!(walk.hops, 1);
    }

    #[test]
    fn who_told_us_of_a_dead_node_hears_of_it_once_each() {
        let mut walk = walk(10);
        walk.add_from_table(&[peer(1), peer(2), peer(3)]);
        let (asked, _) = visits(&mut walk);
        assert_eq!(asked.len(), 3);
        for n in [1, 2] {
            assert_eq!(walk.answered(&reply(peer(n), &[peer(9)]), false, any), []);
        }
        assert_eq!(visits(&mut walk).0, [peer(9)]);
        walk.is_slow();
        let told: Vec<SocketAddr> =
            walk.failed(addr(9), true, true).into_iter().map(|hint| hint.to).collect();
        assert_eq!(told, [addr(1), addr(2)]);
        let late = walk.answered(&reply(peer(3), &[peer(9)]), false, any);
        assert_eq!(late, [DownHint { to: addr(3), down: addr(9) }]);
        assert_eq!(walk.next(), Step::Done);
        assert_eq!((walk.successes, walk.errors), (3, 1));
    }

    #[test]
    fn slow_nodes_do_not_hold_up_the_others_nor_the_end() {
        let mut walk = walk(2);
        let all: Vec<Peer> = (0..22).map(peer).collect();
        walk.add_from_table(&all);
        let (first, step) = visits(&mut walk);
        assert_eq!((first.len(), step), (2, Step::Wait));
        walk.is_slow();
        walk.is_slow();
        let mut answered = 0;
        loop {
            let (visits, step) = visits(&mut walk);
            if step == Step::Done {
                break;
            }
            for visit in visits {
                walk.answered(&reply(visit, &[]), false, any);
                answered += 1;
            }
        }
        assert_eq!(answered, 20);
    }

    #[test]
    fn from_cached_nodes_it_starts_slowly_and_falls_back_on_the_table() {
        let mut walk = walk(10);
        let all: Vec<Peer> = (0..20).map(peer).collect();
        assert!(walk.start_from(&all, false));
        let (first, _) = visits(&mut walk);
        assert_eq!(first.len(), 3);
        let mut open = first;
        loop {
            for visit in std::mem::take(&mut open) {
                walk.failed(visit.addr, false, true);
            }
            let (visits, step) = visits(&mut walk);
            if step == Step::NeedsTable {
                break;
            }
            open = visits;
        }
        walk.add_from_table(&[peer(50)]);
        assert_eq!(visits(&mut walk).0, [peer(50)]);
    }

    #[test]
    fn only_the_closest_means_no_others() {
        let mut walk = walk(10);
        walk.start_from(&[peer(1), peer(2)], true);
        let (asked, _) = visits(&mut walk);
        assert_eq!(asked.len(), 2);
        walk.answered(&reply(asked[0], &[peer(3), peer(4)]), false, any);
        walk.failed(asked[1].addr, false, true);
        assert_eq!(visits(&mut walk), (vec![], Step::Done));
    }

    #[test]
    fn liars_cannot_make_it_grow_without_bound() {
        let mut walk = walk(10);
        walk.add_from_table(&[peer(1)]);
        let mut n = 100;
        let mut asked = 0;
        while let Step::Visit(visit) = walk.next() {
            let closer: Vec<Peer> = (n..n + 20).map(peer).collect();
            n += 20;
            asked += 1;
            walk.answered(&reply(Peer { id: None, ..visit }, &closer), false, any);
        }
        assert!(asked <= MAX_NODES && walk.nodes.len() <= MAX_NODES, "{asked}");
    }
}
