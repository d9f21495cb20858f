//! How many files and connections the process may have open, and who gets how many of them.
//!
//! The system counts them together, and whoever comes last gets none: the store, say, which can write no more when it
//! gets no file for its log. So what the daemon needs is put aside, connections share the rest, and those whom nobody
//! knows yet have a part of that and no more.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The files of the store: those that the engine has open at most, its log, and what it sorts into files meanwhile.
const STORE: usize = 320;
/// The sockets of the node in the DHT: 128 for those who call and want holes punched, 256 when it opens one for each of many
/// guesses at a NAT's ports, and its own.
const NETWORK: usize = 400;
/// Listeners, threads with an event loop of their own, signals, standard input and output.
const OTHER: usize = 64;
/// Connections that others may have opened to us at the same time, as peers.
pub(crate) const MAX_INCOMING: usize = 1024;
/// Of those that have shown no token: such as have not been sorted yet, or are told to go at once.
pub(crate) const PASSING: usize = 2;
/// More is of no use to anybody here.
const PLENTY: u64 = 1 << 20;
/// What every system gives that sets no bound (`OPEN_MAX` of macOS, which takes no more from those who ask for all).
const WITHOUT_BOUND: u64 = 10_240;

/// Raises the number of files and connections that this process may have open to what it may raise it to, and returns
/// it; `None` when there is no bound.
///
/// The command `hyperspace-server` does this when it starts. A library must not change the process that it is used in
/// unasked, so [`Server::start`](crate::Server::start) only looks at the number, and shares it out. Many systems give a
/// process 1,024 until it asks for more: a program that serves many clients or peers should call this first, before it
/// opens the store.
pub fn raise_descriptor_limit() -> io::Result<Option<u64>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let Some(now) = current else { return Ok(None) };
    let most = maximum.unwrap_or(WITHOUT_BOUND);
    if now < most {
        setrlimit(Resource::Nofile, Rlimit { current: Some(most), maximum })?;
    }
    Ok(Some(now.max(most)))
}

/// What a server could do with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wishes {
    /// Connections that have shown no token yet; `None` when nobody can come over a network.
    pub(crate) pending: Option<usize>,
    /// Whether peers can connect.
    pub(crate) peers: bool,
    /// Peers that are dialled.
    pub(crate) dialled: usize,
    /// Whether there is a node in the DHT.
    pub(crate) network: bool,
}

/// Who may have how many connections at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shares {
    /// What there is to share, and is needed besides.
    pub(crate) allowed: usize,
    /// Clients that have come in.
    pub(crate) clients: usize,
    /// Clients that have not: they may still show a token, or hear why they may not come in.
    pub(crate) guests: usize,
    /// Peers that have connected to us.
    pub(crate) peers: usize,
}

impl Shares {
    /// With what the process may have open now.
    pub(crate) fn now(wishes: Wishes) -> Self {
        let allowed = getrlimit(Resource::Nofile).current.unwrap_or(PLENTY).min(PLENTY);
        Self::of(usize::try_from(allowed).unwrap_or(usize::MAX), wishes)
    }

    fn of(allowed: usize, wishes: Wishes) -> Self {
        let network = if wishes.network { NETWORK } else { 0 };
        let needed = (STORE + OTHER + network).saturating_add(wishes.dialled);
        // With very few, the store makes do with less, too.
        let shared = allowed - needed.min(allowed / 2);
        let guests = wishes.pending.map_or(0, |pending| {
            // As many again may be on their way out.
            pending.saturating_mul(2).saturating_add(PASSING).min(shared / 4).max(2 + PASSING)
        });
        let peers = if wishes.peers { MAX_INCOMING.min(shared / 4) } else { 0 };
        Self { allowed, clients: shared.saturating_sub(guests + peers).max(1), guests, peers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Wishes = Wishes { pending: Some(64), peers: true, dialled: 0, network: true };

    #[test]
    fn with_plenty_everybody_has_what_the_limits_say() {
        let shares = Shares::of(8192, ALL);
        assert_eq!((shares.guests, shares.peers), (2 * 64 + PASSING, MAX_INCOMING));
        assert!(shares.clients > crate::Limits::default().max_clients);
    }

    #[test]
    fn there_is_never_more_than_there_is_and_something_for_all() {
        let alone = Wishes { pending: None, peers: false, dialled: 0, network: false };
        for allowed in 32..5000 {
            for wishes in [ALL, alone, Wishes { dialled: 10_000, pending: Some(usize::MAX), ..ALL }] {
                let Shares { clients, guests, peers, .. } = Shares::of(allowed, wishes);
                let used = clients + guests + peers;
                assert!(used <= allowed - (STORE + OTHER).min(allowed / 2), "{allowed} {wishes:?}");
                assert!(clients >= used / 2, "{allowed} {wishes:?}");
                assert_eq!((guests > 0, peers > 0), (wishes.pending.is_some(), wishes.peers));
            }
        }
    }
}
