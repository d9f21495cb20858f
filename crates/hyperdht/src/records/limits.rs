//! What a node keeps for others at most.
//!
//! npm `hyperdht` 6.34 bounds its caches in entries only (`defaultCacheOpts` of its `index.js`), all of which one host may
//! fill. Here every cache is bounded in bytes as well, and no host gets more
//! than a share of it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Bounds of a [`Store`](super::Store). The default is npm's, as far as npm has one.
///
/// Everything is kept in two generations, of which the older one is dropped every two thirds of the age, or sooner
/// when the younger one is full; bounds are those of one generation. An entry so lives for 2/3 to 4/3 of the age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// Announcements of topics (npm: 65,536).
    pub announcements: usize,
    /// Announcements of one topic; further ones take the place of random others.
    pub announcements_of_topic: usize,
    /// Servers that announce their public key, to which handshakes are forwarded (npm: 65,536).
    pub servers: usize,
    /// Tokens that refresh an announcement (npm: 65,536; no known client uses them).
    pub refreshes: usize,
    /// How long announcements are kept (npm: 20 minutes).
    pub announcement_age: Duration,
    /// Mutable records, and as many immutable ones (npm: 32,768 of each).
    pub values: usize,
    /// Bytes of all mutable records, and as many of immutable ones.
    pub value_bytes: usize,
    /// Bytes of one value. By default as many as can come: no node takes datagrams of more than 2,048 bytes (npm's
    /// neither), of which a request to store takes 78. Values above 1,200 bytes are handed out at 1 MiB a second at
    /// most, as whoever forges the address of a victim in a request makes us send them there.
    pub value_len: usize,
    /// How long values are kept (npm: 48 hours).
    pub value_age: Duration,
    /// Of each bound, one host (an IPv4 address, a /64 of IPv6) gets at most this fraction, in both generations
    /// together: 4 is a quarter. Loopback addresses may have all.
    pub host_share: usize,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            announcements: 65_536,
            announcements_of_topic: 4_096,
            servers: 65_536,
            refreshes: 16_384,
            announcement_age: Duration::from_secs(20 * 60),
            values: 32_768,
            value_bytes: 16 << 20,
            value_len: 1_970,
            value_age: Duration::from_secs(48 * 60 * 60),
            host_share: 4,
        }
    }
}

/// What an announcement takes at most, with its share of the tables.
const ANNOUNCEMENT_BYTES: usize = 320;
/// What an entry of the other tables takes at most, beside the bytes of its value.
const ENTRY_BYTES: usize = 384;

impl StoreLimits {
    /// The memory that a store with these limits takes at most, in bytes: about 200 MB by default, when thousands of
    /// hosts fill it to the brim.
    pub fn memory_bound(&self) -> usize {
        let announcements = self.announcements.saturating_mul(ANNOUNCEMENT_BYTES);
        let entries = (self.servers + self.refreshes + 2 * self.values).saturating_mul(ENTRY_BYTES);
        let values = self.value_bytes.saturating_mul(2);
        announcements.saturating_add(entries).saturating_add(values).saturating_mul(2)
    }

    pub(super) fn share(&self, bound: usize) -> usize {
        (bound / self.host_share.max(1)).max(1)
    }
}

/// Who pays for an entry: an IPv4 address or a /64 of IPv6. `None` is nobody: programs of one machine share its
/// loopback address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Host(u64);

impl Host {
    pub(super) fn of(address: SocketAddr) -> Option<Self> {
        match address.ip().to_canonical() {
            ip if ip.is_loopback() => None,
            IpAddr::V4(ip) => Some(Self(u64::from(u32::from(ip)))),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Some(Self(u64::from_be_bytes([a, b, c, d, e, f, g, h])))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(address: &str) -> Option<Host> {
        Host::of(address.parse().unwrap())
    }

    #[test]
    fn hosts_are_told_apart_by_what_they_cannot_choose() {
        assert_eq!(host("1.2.3.4:5"), host("1.2.3.4:6"));
        assert_eq!(host("1.2.3.4:5"), host("[::ffff:1.2.3.4]:5"));
        assert_ne!(host("1.2.3.4:5"), host("1.2.3.5:5"));
        assert_eq!(host("[2001:db8::1]:5"), host("[2001:db8::ffff:2]:5"));
        assert_ne!(host("[2001:db8::1]:5"), host("[2001:db8:0:1::1]:5"));
        assert_eq!(host("127.0.0.1:5"), None);
        assert_eq!(host("[::1]:5"), None);
    }
}
