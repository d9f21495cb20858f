//! What our address is, by majority.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};

/// How many of the latest opinions count (nat-sampler 1: 32 entries, two for each).
const SAMPLES: usize = 16;

/// Collects how others see us. They are believed if all but a few agree: on host and port, or on the host alone (then our
/// router gives us another port for everyone we talk to).
#[derive(Debug, Clone, Default)]
pub(crate) struct NatSampler {
    samples: VecDeque<SocketAddr>,
    host: Option<IpAddr>,
    port: u16,
}

impl NatSampler {
    pub(crate) fn host(&self) -> Option<IpAddr> {
        self.host
    }

    /// 0 unless the port is agreed upon.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Takes in one opinion; true if that changed the outcome.
    pub(crate) fn add(&mut self, seen_as: SocketAddr) -> bool {
        if self.samples.len() >= SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(seen_as);

        let before = (self.host, self.port);
        (self.host, self.port) = self.outcome();
        before != (self.host, self.port)
    }

    fn outcome(&self) -> (Option<IpAddr>, u16) {
        let count = self.samples.len();
        let tolerated = match count {
            0..4 => 0,
            4..8 => 1,
            8..12 => 2,
            _ => 3,
        };
        let needed = count - tolerated;
        let most = |agree: &dyn Fn(&SocketAddr, &SocketAddr) -> bool| {
            self.samples.iter().find(|a| self.samples.iter().filter(|b| agree(a, b)).count() >= needed)
        };
        if let Some(addr) = most(&|a, b| a == b) {
            (Some(addr.ip()), addr.port())
        } else if let Some(addr) = most(&|a, b| a.ip() == b.ip()) {
            (Some(addr.ip()), 0)
        } else {
            (None, 0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(samples: &[([u8; 4], u16)]) -> (Option<IpAddr>, u16) {
        let mut sampler = NatSampler::default();
        for sample in samples {
            sampler.add(SocketAddr::from(*sample));
        }
        (sampler.host(), sampler.port())
    }

    const HOST: [u8; 4] = [1, 2, 3, 4];
    const OTHER: [u8; 4] = [9, 9, 9, 9];

    #[test]
    fn who_agrees_is_believed() {
        assert_eq!(after(&[]), (None, 0));
        assert_eq!(after(&[(HOST, 5)]), (Some(HOST.into()), 5));
        assert_eq!(after(&[(HOST, 5); 40]), (Some(HOST.into()), 5));
    }

    #[test]
    fn a_port_for_each_is_no_port() {
        assert_eq!(after(&[(HOST, 5), (HOST, 6), (HOST, 7)]), (Some(HOST.into()), 0));
    }

    #[test]
    fn a_few_liars_change_nothing_and_many_do() {
        let mut samples = vec![(HOST, 5); 9];
        samples.push((OTHER, 5));
        assert_eq!(after(&samples), (Some(HOST.into()), 5));
        assert_eq!(after(&[(HOST, 5), (OTHER, 5)]), (None, 0));
    }

    #[test]
    fn a_move_to_another_network_is_noticed() {
        let mut samples = vec![(HOST, 5); 50];
        samples.extend([(OTHER, 6); 13]);
        assert_eq!(after(&samples), (Some(OTHER.into()), 6));
        assert_eq!(after(&samples[..56]), (None, 0));
    }
}
