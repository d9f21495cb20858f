//! Tokens: proof that somebody receives what is sent to the address they write from.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use blake2b_simd::{Hash, Params};

use super::rng::Rng;

/// How long a secret is used for new tokens; those made with it hold for as long again (dht-rpc 6.27: ten drains, 750 ms
/// apart).
const ROTATION: Duration = Duration::from_millis(7_500);

/// Makes and checks tokens: the keyed hash of a host, under a secret that changes. Nothing is stored for a token, and
/// nobody else can make one.
pub(crate) struct Tokens {
    current: [u8; 32],
    previous: [u8; 32],
    since: Instant,
}

impl std::fmt::Debug for Tokens {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}

impl Tokens {
    pub(crate) fn new(rng: &mut Rng, now: Instant) -> Self {
        Self { current: rng.bytes32(), previous: rng.bytes32(), since: now }
    }

    /// For a reply to `host`.
    pub(crate) fn make(&mut self, host: IpAddr, rng: &mut Rng, now: Instant) -> [u8; 32] {
        self.rotate(rng, now);
        let mut token = [0; 32];
        token.copy_from_slice(hash(&self.current, host).as_bytes());
        token
    }

    /// Whether a request from `host` may carry this one. Compares in constant time.
    pub(crate) fn check(&mut self, token: &[u8; 32], host: IpAddr, rng: &mut Rng, now: Instant) -> bool {
        self.rotate(rng, now);
        hash(&self.current, host) == token[..] || hash(&self.previous, host) == token[..]
    }

    fn rotate(&mut self, rng: &mut Rng, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < ROTATION {
            return;
        }
        self.previous = if age < 2 * ROTATION { self.current } else { rng.bytes32() };
        self.current = rng.bytes32();
        self.since = now;
    }
}

fn hash(secret: &[u8; 32], host: IpAddr) -> Hash {
    let mut params = Params::new();
    params.hash_length(32).key(secret);
    match host {
        IpAddr::V4(host) => params.hash(&host.octets()),
        IpAddr::V6(host) => params.hash(&host.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(1, 2, 3, 4));
    const OTHER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(1, 2, 3, 5));

    #[test]
    fn a_token_holds_for_its_host_and_for_a_while() {
        let (mut rng, start) = (Rng::new([0; 32]), Instant::now());
        let mut tokens = Tokens::new(&mut rng, start);
        for after in [0, 4, 7] {
            let made = start + Duration::from_secs(20 * after);
            let token = tokens.make(HOST, &mut rng, made);
            assert!(tokens.check(&token, HOST, &mut rng, made));
            assert!(!tokens.check(&token, OTHER, &mut rng, made));
            assert!(tokens.check(&token, HOST, &mut rng, made + Duration::from_secs(7)));
            assert!(!tokens.check(&token, HOST, &mut rng, made + Duration::from_secs(16)));
        }
    }

    #[test]
    fn two_nodes_make_different_tokens() {
        let now = Instant::now();
        let token = |seed| {
            let mut rng = Rng::new([seed; 32]);
            Tokens::new(&mut rng, now).make(HOST, &mut rng, now)
        };
        assert_ne!(token(1), token(2));
    }
}
