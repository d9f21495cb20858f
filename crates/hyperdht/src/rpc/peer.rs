//! Who is who: an address, and the id that follows from it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use blake2b_simd::Params;

/// A place in the key space: a node's id, a topic, the hash of a public key or of a record.
pub type NodeId = [u8; 32];

/// The other side of a message.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Peer {
    /// Where it is.
    pub addr: SocketAddr,
    /// Its id, if it is a persistent node and the id it told is the one that its address has; ephemeral nodes
    /// have none.
    pub id: Option<NodeId>,
}

impl Peer {
    /// Somebody at an address of whom nothing else is known.
    pub fn at(addr: SocketAddr) -> Self {
        Self { addr, id: None }
    }
}

impl From<SocketAddr> for Peer {
    fn from(addr: SocketAddr) -> Self {
        Self::at(addr)
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some([a, b, c, ..]) => write!(f, "{} ({a:02x}{b:02x}{c:02x}..)", self.addr),
            None => write!(f, "{}", self.addr),
        }
    }
}

/// The id of the node at an IPv4 address: the unkeyed 32-byte BLAKE2b hash of the address as it stands on the wire (four
/// bytes of host, two of port, little-endian), so that nobody can choose a place in the key space without having the
/// address that belongs to it (dht-rpc 6.27, `lib/peer.js`).
///
/// dht-rpc knows no IPv6; for the day it does, the sixteen bytes of the host take the place of the four.
pub fn node_id(addr: SocketAddr) -> NodeId {
    let mut hash = Params::new().hash_length(32).to_state();
    match canonical(addr).ip() {
        IpAddr::V4(host) => hash.update(&host.octets()),
        IpAddr::V6(host) => hash.update(&host.octets()),
    };
    hash.update(&addr.port().to_le_bytes());
    let mut id = [0; 32];
    id.copy_from_slice(hash.finalize().as_bytes());
    id
}

/// An IPv4 address that came through a dual-stack socket is an IPv4 address.
pub(crate) fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Which of `a` and `b` is nearer to `target` (XOR metric): `Less` if it is `a`.
pub(crate) fn compare_distance(target: &NodeId, a: &NodeId, b: &NodeId) -> std::cmp::Ordering {
    for ((t, a), b) in target.iter().zip(a).zip(b) {
        if a != b {
            return (t ^ a).cmp(&(t ^ b));
        }
    }
    std::cmp::Ordering::Equal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_npm() {
        // node -e "console.log(require('dht-rpc/lib/peer').id('127.0.0.1', 49737).toString('hex'))"
        let id = node_id(SocketAddr::from(([127, 0, 0, 1], 49737)));
        assert_eq!(hex(&id), NPM_ID);
    }

    const NPM_ID: &str = "d1dcf835b0d62b9230c41393cb96a34f5f8b9f814f421ca3382dfc1678022e0e";

    fn hex(id: &NodeId) -> String {
        id.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn an_address_mapped_into_ipv6_has_the_same_id() {
        let v4: SocketAddr = "10.0.0.7:1234".parse().unwrap();
        let mapped: SocketAddr = "[::ffff:10.0.0.7]:1234".parse().unwrap();
        assert_eq!(node_id(v4), node_id(mapped));
    }

    #[test]
    fn distance_is_the_xor() {
        let target = [0b1010; 32];
        let (mut near, mut far) = (target, target);
        near[31] ^= 1;
        far[0] ^= 1;
        assert!(compare_distance(&target, &near, &far).is_lt());
        assert!(compare_distance(&target, &far, &near).is_gt());
        assert!(compare_distance(&target, &near, &near).is_eq());
    }
}
