//! Addresses as the socket wants them, and as everybody else does.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// What the kernel is told: a socket of IPv6 reaches IPv4 through mapped addresses.
pub(super) fn outward(address: SocketAddr, socket_is_v6: bool) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if socket_is_v6 => {
            SocketAddr::V6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
        }
        other => other,
    }
}

/// What users see: IPv4 is IPv4, also when it came through a socket of IPv6.
pub(super) fn inward(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), address.port()),
            None => address,
        },
        IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let v4: SocketAddr = "127.0.0.1:49737".parse().unwrap();
        let v6: SocketAddr = "[::1]:49737".parse().unwrap();
        assert_eq!(inward(outward(v4, true)), v4);
        assert!(outward(v4, true).is_ipv6());
        assert_eq!(outward(v4, false), v4);
        assert_eq!(inward(outward(v6, true)), v6);
    }
}
