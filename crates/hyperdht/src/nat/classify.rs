//! Tells what kind of NAT a socket is behind from what others say they see of it (npm `hyperdht` 6.34, `lib/nat.js`).

use std::net::{IpAddr, SocketAddr};

use crate::messages::Firewall;

/// How many others are asked. With fewer the answer may be wrong, with more it comes later.
pub(crate) const MIN_SAMPLES: usize = 4;
/// Samples beyond this change nothing and are not taken.
const MAX_SAMPLES: usize = 64;

/// What others see of one socket.
///
/// npm takes a node that everybody reaches for open without asking anybody, and such a node then tells no address: whoever is
/// to punch has nobody to punch to. Who learns that everybody reaches it only after it has said hello gets here, as much
/// as one behind a NAT: it is seen as consistent, at an address.
#[derive(Debug, Clone)]
pub(crate) struct NatSamples {
    hosts: Vec<(IpAddr, u32)>,
    addresses: Vec<(SocketAddr, u32)>,
    asked: Vec<SocketAddr>,
    answered: Vec<SocketAddr>,
    firewall: Firewall,
    public: Option<Vec<SocketAddr>>,
    frozen: bool,
}

impl NatSamples {
    /// Nothing known yet.
    pub(crate) fn new() -> Self {
        Self {
            hosts: Vec::new(),
            addresses: Vec::new(),
            asked: Vec::new(),
            answered: Vec::new(),
            firewall: Firewall::Unknown,
            public: None,
            frozen: false,
        }
    }

    /// True the first time for each node: it is to be asked what it sees.
    pub(crate) fn should_ask(&mut self, node: SocketAddr) -> bool {
        let known = self.asked.contains(&node) || self.answered.contains(&node);
        if known || self.asked.len() >= MAX_SAMPLES {
            return false;
        }
        self.asked.push(node);
        true
    }

    /// `from` sees this socket at `seen`. Each node counts once.
    pub(crate) fn add(&mut self, seen: SocketAddr, from: SocketAddr) {
        if self.answered.contains(&from) || self.answered.len() >= MAX_SAMPLES {
            return;
        }
        self.answered.push(from);
        count(&mut self.hosts, seen.ip());
        count(&mut self.addresses, seen);
        if !self.frozen && self.samples() >= 3 {
            self.update();
        }
    }

    /// How many nodes have told what they see.
    pub(crate) fn samples(&self) -> usize {
        self.answered.len()
    }

    /// True when more samples are not worth waiting for.
    pub(crate) fn is_decided(&self) -> bool {
        (self.firewall.is_consistent() && self.samples() > 0) || self.samples() >= MIN_SAMPLES
    }

    /// The kind of NAT.
    pub(crate) fn firewall(&self) -> Firewall {
        self.firewall
    }

    /// Where others find this socket: with port 0 when every one of them finds it elsewhere.
    pub(crate) fn addresses(&self) -> Option<&[SocketAddr]> {
        self.public.as_deref()
    }

    /// From now on nothing changes: the answer was told to the remote.
    pub(crate) fn freeze(&mut self) {
        self.frozen = true;
    }

    fn update(&mut self) {
        self.firewall = self.classify();
        match self.firewall {
            Firewall::Unknown | Firewall::Open => self.public = None,
            Firewall::Random => {
                self.public =
                    Some(self.hosts.iter().take(1).map(|(ip, _)| SocketAddr::new(*ip, 0)).collect());
            }
            Firewall::Consistent => {
                let mut public = Vec::new();
                for (address, hits) in &self.addresses {
                    if *hits >= 2 || public.len() < 2 {
                        public.push(*address);
                    }
                }
                self.public = Some(public);
            }
        }
    }

    fn classify(&self) -> Firewall {
        let hits = |index: usize| self.addresses.get(index).map_or(0, |(_, hits)| *hits);
        match (self.samples(), hits(0)) {
            (..=2, _) => self.firewall,
            (3.., 3..) => Firewall::Consistent,
            (3.., ..=1) => Firewall::Random,
            // Two see the same, the others do not.
            (4.., 2) if self.hosts.len() == 1 => Firewall::Random,
            // Two ways out, each with a port that it keeps.
            (_, 2) if self.hosts.len() > 1 && hits(1) > 1 => Firewall::Consistent,
            (5.., 2) => Firewall::Random,
            (_, 2) => self.firewall,
        }
    }
}

/// Counts one more `value`, most frequent first; the earlier one first among equals.
fn count<T: PartialEq>(samples: &mut Vec<(T, u32)>, value: T) {
    let Some(index) = samples.iter().position(|(known, _)| *known == value) else {
        samples.push((value, 1));
        return;
    };
    samples[index].1 = samples[index].1.saturating_add(1);
    let hits = samples[index].1;
    let place = samples.iter().position(|(_, other)| *other < hits).filter(|place| *place < index);
    if let Some(place) = place {
        samples[place..=index].rotate_right(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(addresses: &[&str]) -> NatSamples {
        let mut nat = NatSamples::new();
        for (index, address) in addresses.iter().enumerate() {
            nat.add(address.parse().unwrap(), SocketAddr::from(([9, 9, 9, index as u8], 1)));
        }
        nat
    }

    #[test]
    fn three_that_agree_make_a_consistent_nat() {
        let nat = seen(&["1.1.1.1:5", "1.1.1.1:5"]);
        assert_eq!((nat.firewall(), nat.is_decided()), (Firewall::Unknown, false));
        let nat = seen(&["1.1.1.1:5", "1.1.1.1:5", "1.1.1.1:5"]);
        assert_eq!((nat.firewall(), nat.is_decided()), (Firewall::Consistent, true));
        assert_eq!(nat.addresses().unwrap(), ["1.1.1.1:5".parse().unwrap()]);
    }

    #[test]
    fn another_port_for_everyone_is_random() {
        let nat = seen(&["1.1.1.1:5", "1.1.1.1:6", "1.1.1.1:7"]);
        assert_eq!((nat.firewall(), nat.is_decided()), (Firewall::Random, false));
        assert_eq!(nat.addresses().unwrap(), ["1.1.1.1:0".parse().unwrap()]);
        assert!(seen(&["1.1.1.1:5", "1.1.1.1:6", "1.1.1.1:7", "1.1.1.1:8"]).is_decided());
        // Two that agree by chance do not make it consistent.
        assert_eq!(seen(&["1.1.1.1:5", "1.1.1.1:6", "1.1.1.1:6"]).firewall(), Firewall::Unknown);
        assert_eq!(seen(&["1.1.1.1:5", "1.1.1.1:6", "1.1.1.1:6", "1.1.1.1:7"]).firewall(), Firewall::Random);
    }

    #[test]
    fn two_ways_out_may_both_be_consistent() {
        let nat = seen(&["1.1.1.1:5", "2.2.2.2:6", "1.1.1.1:5", "2.2.2.2:6"]);
        assert_eq!(nat.firewall(), Firewall::Consistent);
        assert_eq!(nat.addresses().unwrap().len(), 2);
        let nat = seen(&["1.1.1.1:5", "2.2.2.2:6", "1.1.1.1:5", "2.2.2.2:7"]);
        assert_eq!(nat.firewall(), Firewall::Unknown);
        let nat = seen(&["1.1.1.1:5", "2.2.2.2:6", "1.1.1.1:5", "2.2.2.2:7", "2.2.2.2:8"]);
        assert_eq!(nat.firewall(), Firewall::Random);
    }

    #[test]
    fn nobody_counts_twice_and_a_frozen_answer_stays() {
        let mut nat = NatSamples::new();
        let node: SocketAddr = "9.9.9.9:1".parse().unwrap();
        assert!(nat.should_ask(node));
        assert!(!nat.should_ask(node));
        for _ in 0..5 {
            nat.add("1.1.1.1:5".parse().unwrap(), node);
        }
        assert_eq!(nat.samples(), 1);
        nat.freeze();
        for port in 2..9 {
            nat.add("1.1.1.1:5".parse().unwrap(), SocketAddr::new(node.ip(), port));
        }
        assert_eq!(nat.firewall(), Firewall::Unknown);
    }

    #[test]
    fn samples_are_bounded() {
        let mut nat = NatSamples::new();
        for port in 1..2000 {
            nat.add(SocketAddr::from(([1, 1, 1, 1], port)), SocketAddr::from(([2, 2, 2, 2], port)));
        }
        assert_eq!(nat.samples(), MAX_SAMPLES);
    }
}
