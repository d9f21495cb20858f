//! What two sides know of each other's NAT, and what they make of it.

use std::net::{IpAddr, SocketAddr};

use crate::addresses::MAX_ADDRESSES;
use crate::messages::Firewall;

/// An address the remote says it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RemoteAddress {
    pub(crate) address: SocketAddr,
    /// The remote has proven that it receives what is sent to this host. To others only few packets go, or this node
    /// could be made to flood a stranger.
    pub(crate) verified: bool,
}

/// What the remote says about itself.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) firewall: Firewall,
    pub(crate) addresses: Vec<RemoteAddress>,
    /// It is ready to punch.
    pub(crate) punching: bool,
}

impl Remote {
    pub(crate) fn new(firewall: Firewall) -> Self {
        Self { firewall, addresses: Vec::new(), punching: false }
    }

    /// Takes the news. A host that was once proven stays so as long as the remote names it.
    pub(crate) fn update(
        &mut self,
        firewall: Firewall,
        punching: bool,
        addresses: &[SocketAddr],
        verified: Option<IpAddr>,
    ) {
        let known = |ip| self.addresses.iter().any(|known| known.verified && known.address.ip() == ip);
        let addresses = addresses.iter().take(MAX_ADDRESSES).map(|address| RemoteAddress {
            address: *address,
            verified: verified == Some(address.ip()) || known(address.ip()),
        });
        self.addresses = addresses.collect();
        self.firewall = firewall;
        self.punching = punching;
    }

    fn verified(&self) -> Option<SocketAddr> {
        self.addresses.iter().find(|known| known.verified).map(|known| known.address)
    }
}

/// How to punch (npm `hyperdht` 6.34, `lib/holepuncher.js`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// Both keep their ports: both send to where the other is until a packet comes through.
    Consistent(Vec<RemoteAddress>),
    /// The remote's port is anywhere: try ports of this host until one of those that it holds open is met.
    RandomProbes(IpAddr),
    /// Our port is anywhere: hold many open, so that the remote soon meets one (the birthday paradox).
    BirthdaySockets(SocketAddr),
}

impl Strategy {
    /// `None` when there is no way (both take a new port for every destination), or the remote has not proven what
    /// it would take to punch.
    pub(crate) fn choose(local: Firewall, remote: &Remote) -> Option<Self> {
        if remote.addresses.is_empty() {
            return None;
        }
        match (local, remote.firewall) {
            (local, there) if local.is_consistent() && there.is_consistent() => {
                Some(Self::Consistent(remote.addresses.clone()))
            }
            (local, Firewall::Random) if local.is_consistent() => {
                Some(Self::RandomProbes(remote.verified()?.ip()))
            }
            (Firewall::Random, there) if there.is_consistent() => {
                Some(Self::BirthdaySockets(remote.verified()?))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Firewall::{Consistent, Open, Random, Unknown};

    fn remote(firewall: Firewall, verified: bool) -> Remote {
        let address: SocketAddr = "5.5.5.5:77".parse().unwrap();
        let mut remote = Remote::new(firewall);
        remote.update(firewall, true, &[address], verified.then_some(address.ip()));
        remote
    }

    #[test]
    fn every_pairing() {
        let ip = "5.5.5.5".parse().unwrap();
        for local in [Open, Consistent] {
            for there in [Open, Consistent] {
                let chosen = Strategy::choose(local, &remote(there, false));
                assert!(matches!(chosen, Some(Strategy::Consistent(_))), "{local:?} {there:?}");
            }
            assert_eq!(Strategy::choose(local, &remote(Random, true)), Some(Strategy::RandomProbes(ip)));
            assert_eq!(Strategy::choose(local, &remote(Random, false)), None);
            let birthday = Strategy::choose(Random, &remote(local, true));
            assert_eq!(birthday, Some(Strategy::BirthdaySockets(SocketAddr::new(ip, 77))));
            assert_eq!(Strategy::choose(Random, &remote(local, false)), None);
        }
        assert_eq!(Strategy::choose(Random, &remote(Random, true)), None);
        assert_eq!(Strategy::choose(Unknown, &remote(Open, true)), None);
        assert_eq!(Strategy::choose(Open, &Remote::new(Open)), None);
    }

    #[test]
    fn proof_is_about_a_host_and_lasts() {
        let mut remote = remote(Consistent, true);
        let (same_host, other) = ("5.5.5.5:78".parse().unwrap(), "6.6.6.6:1".parse().unwrap());
        remote.update(Consistent, true, &[same_host, other], None);
        assert_eq!(remote.addresses.iter().map(|a| a.verified).collect::<Vec<_>>(), [true, false]);
        remote.update(Consistent, true, &[other], None);
        remote.update(Consistent, true, &[same_host], None);
        assert!(!remote.addresses[0].verified);
    }

    #[test]
    fn a_remote_names_few_addresses() {
        let many: Vec<SocketAddr> = (1..9999).map(|port| SocketAddr::from(([1, 1, 1, 1], port))).collect();
        let mut remote = Remote::new(Unknown);
        remote.update(Consistent, true, &many, None);
        assert_eq!(remote.addresses.len(), MAX_ADDRESSES);
    }
}
