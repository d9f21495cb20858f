//! Which addresses mean what: the ranges that lead nowhere from outside, this machine's own, and the one of a
//! remote's that is nearest to ours.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// How many addresses of ours are told to a remote, and how many of a remote's are looked at.
pub(crate) const MAX_ADDRESSES: usize = 16;

/// An address inside somebody's network, or this machine (npm `bogon` 1.1, `isPrivate`).
pub(crate) fn is_private(address: IpAddr) -> bool {
    let IpAddr::V4(ip) = address else {
        return false;
    };
    let [a, b, ..] = ip.octets();
    ip.is_private() || ip.is_loopback() || ip.is_link_local() || (a == 100 && (64..128).contains(&b))
}

/// An address that belongs to nobody (npm `bogon` 1.1, `isReserved`).
pub(crate) fn is_reserved(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            matches!((a, b, c), (0 | 224.., _, _) | (192, 0, 0 | 2) | (198, 18 | 19, _))
                || matches!((a, b, c), (198, 51, 100) | (203, 0, 113))
        }
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            ip.is_loopback()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.to_ipv4().is_some()
                || (a == 0x2001 && matches!(b, 0x10..=0x2f | 0xdb8))
                || matches!(a, 0xfc00..=0xfdff | 0xfe80..=0xfebf)
        }
    }
}

/// An address that cannot be reached from the other side of the world.
pub(crate) fn is_bogon(address: IpAddr) -> bool {
    is_private(address) || is_reserved(address)
}

/// The addresses under which a socket bound to `bound` can be reached inside this network.
///
/// One that is bound to loopback can be reached from this machine alone; without any interface, loopback is what is
/// left (npm `hyperdht` 6.34, `localAddresses`).
pub(crate) fn local_addresses(bound: SocketAddr, interfaces: &[Ipv4Addr]) -> Vec<SocketAddr> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, bound.port()));
    if bound.ip() == loopback.ip() {
        return vec![loopback];
    }
    let mut addresses: Vec<_> = interfaces
        .iter()
        .filter(|ip| !ip.is_loopback())
        .take(MAX_ADDRESSES)
        .map(|ip| SocketAddr::from((*ip, bound.port())))
        .collect();
    if addresses.is_empty() {
        addresses.push(loopback);
    }
    addresses
}

/// The address of the remote that shares the longest beginning (of one to three bytes) with one of ours; the first of
/// equals.
pub(crate) fn match_address(ours: &[SocketAddr], theirs: &[SocketAddr]) -> Option<SocketAddr> {
    let mut best: Option<(usize, SocketAddr)> = None;
    for our in ours {
        for their in theirs.iter().take(MAX_ADDRESSES) {
            let (IpAddr::V4(a), IpAddr::V4(b)) = (our.ip(), their.ip()) else {
                continue;
            };
            let common = a.octets().iter().zip(b.octets()).take(3).take_while(|(a, b)| **a == *b).count();
            if common > best.map_or(0, |(common, _)| common) {
                best = Some((common, *their));
            }
        }
    }
    best.map(|(_, address)| address)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_are_those_of_the_js_peers() {
        for private in ["10.1.2.3", "100.64.0.1", "127.0.0.1", "169.254.1.1", "172.16.0.1", "192.168.7.7"] {
            assert!(is_private(ip(private)) && is_bogon(ip(private)), "{private}");
        }
        for reserved in
            ["0.1.1.1", "192.0.0.1", "192.0.2.9", "198.19.0.1", "198.51.100.1", "203.0.113.7", "224.0.0.1"]
        {
            assert!(is_reserved(ip(reserved)) && !is_private(ip(reserved)), "{reserved}");
        }
        for public in
            ["8.8.8.8", "100.128.0.1", "172.32.0.1", "192.169.0.1", "198.20.0.1", "203.0.114.1", "2a00::1"]
        {
            assert!(!is_bogon(ip(public)), "{public}");
        }
        for reserved in ["::1", "::", "fe80::1", "fd00::1", "2001:db8::1", "ff02::1"] {
            assert!(is_bogon(ip(reserved)), "{reserved}");
        }
    }

    #[test]
    fn the_nearest_address_is_taken() {
        let ours = [at("192.168.122.238:1")];
        let theirs = [at("192.1.1.1:5"), at("192.168.0.23:5"), at("192.168.122.1:5"), at("192.168.122.2:5")];
        assert_eq!(match_address(&ours, &theirs), Some(theirs[2]));
        assert_eq!(match_address(&ours, &theirs[..2]), Some(theirs[1]));
        assert_eq!(match_address(&ours, &theirs[..1]), Some(theirs[0]));
        assert_eq!(match_address(&ours, &[at("10.0.0.1:5")]), None);
        assert_eq!(match_address(&ours, &[]), None);
    }

    #[test]
    fn what_a_bound_socket_tells() {
        let lan = ["10.0.0.7".parse().unwrap(), "127.0.0.1".parse().unwrap()];
        assert_eq!(local_addresses(at("127.0.0.1:9"), &lan), [at("127.0.0.1:9")]);
        assert_eq!(local_addresses(at("0.0.0.0:9"), &lan), [at("10.0.0.7:9")]);
        assert_eq!(local_addresses(at("0.0.0.0:9"), &[]), [at("127.0.0.1:9")]);
    }
}
