//! Who a request is put down to.

use std::net::SocketAddr;

/// A host, whatever its ports; on the loopback network, which all programs of a machine share, a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Sender(SocketAddr);

impl Sender {
    pub(crate) fn of(addr: SocketAddr) -> Self {
        let port = if addr.ip().is_loopback() { addr.port() } else { 0 };
        Self(SocketAddr::new(addr.ip(), port))
    }

    pub(crate) fn is_local(self) -> bool {
        self.0.ip().is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(addr: &str) -> Sender {
        Sender::of(addr.parse().unwrap())
    }

    #[test]
    fn ports_tell_only_the_programs_of_this_machine_apart() {
        assert_eq!(sender("1.2.3.4:5"), sender("1.2.3.4:6"));
        assert_ne!(sender("1.2.3.4:5"), sender("1.2.3.5:5"));
        assert_ne!(sender("127.0.0.1:5"), sender("127.0.0.1:6"));
        assert!(sender("127.0.0.1:5").is_local() && !sender("1.2.3.4:5").is_local());
    }
}
