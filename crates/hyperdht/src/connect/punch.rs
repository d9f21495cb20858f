//! A client's rounds of notes with the server, until both punch (npm `hyperdht` 6.34, `probeRound` and `roundPunch`).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::find::Found;
use super::note::{self, Answer, Route};
use super::reach::relays;
use crate::core::{Core, is_fine};
use crate::doorway::Way;
use crate::handshake::SealedNotes;
use crate::messages::{Firewall, HolepunchPayload, RelayInfo, error, ipv4, socket_addrs};
use crate::punching::{PunchEvent, Puncher};
use crate::{ConnectError, ConnectOptions, PunchRequest};

/// How long a server that does not know its NAT yet is given to find out.
const UNDECIDED: Duration = Duration::from_secs(1);

/// Punches, until a packet of the server comes through.
pub(super) async fn punch(
    core: &Arc<Core>,
    options: &ConnectOptions,
    target: &[u8; 32],
    found: &Found,
) -> Result<Way, ConnectError> {
    let Some((id, relays)) = relays(found) else {
        return Err(ConnectError::Holepunch { why: "the server names no relay" });
    };
    let (sender, mut events) = mpsc::channel(2);
    let puncher = Puncher::new(core, true, found.payload.firewall, sender, None)
        .map_err(|_| ConnectError::Holepunch { why: "no socket can be bound" })?;
    let same = relays.iter().find(|relay| SocketAddr::V4(relay.relay_address) == found.relay_address);
    let Some(server_relay) = same.or(relays.first()) else {
        return Err(ConnectError::Holepunch { why: "the server names no relay" });
    };
    let has_relay = found.payload.relay_through.is_some() || !options.relay_through.is_empty();
    let mut rounds = Rounds {
        core,
        puncher: &puncher,
        notes: SealedNotes::new(found.finished.holepunch_key.clone()),
        target: *target,
        id,
        round: 0,
        through_server_relay: route(server_relay),
        through_ours: Route { relay: found.relay_address, server: found.server_address },
        has_relay,
    };
    settle(&mut events, || puncher.is_over(), rounds.negotiate(options)).await
}

/// The way through, once there is one. Negotiating is over without one only while the puncher works on: a packet may come
/// through at any time and ends what the puncher does, which to the negotiation looks as if nothing would come of it.
async fn settle(
    events: &mut mpsc::Receiver<PunchEvent>,
    is_over: impl Fn() -> bool,
    negotiated: impl Future<Output = Result<(), ConnectError>>,
) -> Result<Way, ConnectError> {
    tokio::pin!(negotiated);
    let mut negotiating = true;
    loop {
        tokio::select! {
            biased;
            event = events.recv() => return match event {
                Some(PunchEvent::Open(socket, address)) => Ok((socket, address)),
                Some(PunchEvent::Failed) | None => {
                    Err(ConnectError::Holepunch { why: "no packet came through" })
                }
            },
            result = &mut negotiated, if negotiating => {
                negotiating = false;
                // A puncher that is over says why, if not yet then next.
                if !is_over() {
                    result?;
                }
            }
        }
    }
}

fn route(relay: &RelayInfo) -> Route {
    Route { relay: SocketAddr::V4(relay.relay_address), server: SocketAddr::V4(relay.peer_address) }
}

struct Rounds<'a> {
    core: &'a Arc<Core>,
    puncher: &'a Puncher,
    notes: SealedNotes,
    target: [u8; 32],
    id: u64,
    round: u64,
    /// The server knows this node, and believes what comes through it.
    through_server_relay: Route,
    /// We found the server through this one.
    through_ours: Route,
    /// A blind relay keeps the two connected meanwhile.
    has_relay: bool,
}

/// What the probing found.
struct Probed {
    /// The server's token: to be sent back from where it was received.
    token: Option<[u8; 32]>,
    /// The server, as its relay sees it now.
    peer_address: SocketAddr,
}

impl Rounds<'_> {
    async fn negotiate(&mut self, options: &ConnectOptions) -> Result<(), ConnectError> {
        let fast = options.fast_open.then_some(self.through_ours.server);
        let probed = self.probe(fast).await?;
        // Through the same node the server's newest address is good as well: it may have changed its socket.
        if self.through_server_relay.relay == self.through_ours.relay
            && self.through_ours.server != probed.peer_address
        {
            self.through_ours.server = probed.peer_address;
            self.puncher.open_session(probed.peer_address);
        }
        if let Some(ask) = &options.holepunch {
            let request = PunchRequest {
                remote_is_random: self.puncher.remote_firewall() == Firewall::Random,
                local_is_random: self.puncher.local().firewall == Firewall::Random,
            };
            if !ask(&request) {
                return Err(self.abort("we decided not to punch").await);
            }
        }
        self.punch(probed.token).await
    }

    /// Finds out what both NATs do.
    async fn probe(&mut self, fast_open: Option<SocketAddr>) -> Result<Probed, ConnectError> {
        let (mut retry, mut reopened) = (true, false);
        loop {
            if let Some(server) = fast_open {
                self.puncher.open_session(server);
            }
            let local = self.puncher.local();
            let note = HolepunchPayload {
                firewall: local.firewall,
                addresses: wire(local.addresses),
                remote_address: fast_open.and_then(ipv4),
                ..self.note()
            };
            let answer = self.exchange(&note, self.through_server_relay).await?;
            self.puncher.add_sample(answer.seen, answer.by);
            let token = answer.note.token;
            // Where the server says it is, unless that is nowhere in particular.
            let says = answer.note.addresses.as_deref().map(socket_addrs).unwrap_or_default();
            let remote = self.puncher.remote_firewall();
            if remote < Firewall::Random && fast_open.is_some() {
                for address in says.into_iter().take(2).filter(|a| a.port() != 0 && Some(*a) != fast_open) {
                    self.puncher.open_session(address);
                }
            }
            if remote == Firewall::Unknown {
                tokio::time::sleep(UNDECIDED).await;
            }
            if !self.puncher.analyze(false).await && !reopened {
                reopened = true;
                if self.puncher.analyze(true).await {
                    retry = false;
                    continue;
                }
            }
            let remote = self.puncher.remote_firewall();
            if (remote == Firewall::Unknown || token.is_none()) && retry {
                retry = false;
                continue;
            }
            let local = self.puncher.local().firewall;
            if local == Firewall::Unknown {
                tracing::debug!(samples = self.puncher.samples(), "NAT not understood");
                return Err(self.abort("too few nodes told what they see of our NAT").await);
            }
            if remote == Firewall::Unknown {
                return Err(self.abort("the server does not know its NAT").await);
            }
            if remote == Firewall::Random && local == Firewall::Random {
                return Err(self.abort("both NATs take new ports for every destination").await);
            }
            return Ok(Probed { token, peer_address: answer.peer_address });
        }
    }

    /// Has both sides punch.
    async fn punch(&mut self, remote_token: Option<[u8; 32]>) -> Result<(), ConnectError> {
        // What the server is told now must stay true.
        self.puncher.freeze();
        let local = self.puncher.local().firewall;
        let random = self.puncher.remote_firewall() == Firewall::Random || local == Firewall::Random;
        let mut delayed = false;
        loop {
            while random && !self.core.budget.is_free(Instant::now()) {
                if !self.has_relay {
                    return Err(ConnectError::Holepunch {
                        why: "another punch of this kind runs; try later",
                    });
                }
                if !delayed {
                    delayed = true;
                    let note = self.ready(remote_token, false, true);
                    self.exchange(&note, self.through_ours).await?;
                }
                later().await;
            }
            let permit = random.then(|| self.core.budget.begin());
            // The server has proof of us by now, and believes us through its own relay.
            let route = if delayed { self.through_server_relay } else { self.through_ours };
            let note = self.ready(remote_token, true, !delayed);
            let answer = self.exchange(&note, route).await;
            // The puncher counts for itself.
            if let Some(permit) = permit {
                permit.give_back();
            }
            if answer?.note.error == error::TRY_LATER {
                delayed = true;
                later().await;
                continue;
            }
            if !self.puncher.remote_is_punching() {
                return Err(ConnectError::Holepunch { why: "the server does not punch" });
            }
            return match self.puncher.punch(&self.core.budget) {
                true => Ok(()),
                false => Err(ConnectError::Holepunch { why: "the server has no address to punch to" }),
            };
        }
    }

    /// A note with our final view of our NAT.
    fn ready(
        &mut self,
        remote_token: Option<[u8; 32]>,
        punching: bool,
        with_token: bool,
    ) -> HolepunchPayload {
        let local = self.puncher.local();
        HolepunchPayload {
            firewall: local.firewall,
            addresses: wire(local.addresses),
            punching,
            token: with_token.then(|| self.notes.token(self.through_ours.server.ip())),
            remote_token,
            ..self.note()
        }
    }

    fn note(&mut self) -> HolepunchPayload {
        let round = self.round;
        self.round += 1;
        HolepunchPayload { round, ..HolepunchPayload::default() }
    }

    /// Sends a note and takes what the server says about itself.
    async fn exchange(&self, note: &HolepunchPayload, route: Route) -> Result<Answer, ConnectError> {
        let socket = self.puncher.socket().ok_or(ConnectError::Holepunch { why: "the attempt is over" })?;
        let rpc = &self.core.rpc;
        let answer = note::exchange(rpc, self.target, self.id, &self.notes, note, route, socket).await?;
        let theirs = &answer.note;
        if theirs.error == error::TRY_LATER && self.has_relay && note.punching {
            return Ok(answer);
        }
        if !is_fine(theirs.error) {
            return Err(ConnectError::Holepunch { why: "the server gave up" });
        }
        let echoed = note.token.is_some() && theirs.remote_token == note.token;
        let verified: Option<IpAddr> = echoed.then(|| route.server.ip());
        let addresses = theirs.addresses.as_deref().map(socket_addrs).unwrap_or_default();
        self.puncher.update_remote(theirs.firewall, theirs.punching, &addresses, verified);
        Ok(answer)
    }

    /// Tells the server that nothing will come of it.
    async fn abort(&mut self, why: &'static str) -> ConnectError {
        let note = HolepunchPayload { error: error::ABORTED, ..self.note() };
        let _ = self.exchange(&note, self.through_server_relay).await;
        ConnectError::Holepunch { why }
    }
}

fn wire(addresses: Option<Vec<SocketAddr>>) -> Option<Vec<std::net::SocketAddrV4>> {
    addresses.map(|addresses| addresses.into_iter().filter_map(ipv4).collect())
}

/// Between ten and twenty seconds.
async fn later() {
    let more = getrandom::u32().unwrap_or(0) % 10_000;
    tokio::time::sleep(Duration::from_secs(10) + Duration::from_millis(more.into())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: ConnectError = ConnectError::Holepunch { why: "too few nodes told what they see of our NAT" };

    fn way() -> (udx::UdxSocket, SocketAddr) {
        let socket = udx::Udx::new().bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr();
        (socket, address)
    }

    #[tokio::test]
    async fn a_packet_that_comes_through_outweighs_what_the_negotiation_makes_of_it() {
        let (socket, address) = way();
        // The puncher is over a moment before it says so.
        for said_before in [true, false] {
            let (sender, mut events) = mpsc::channel(2);
            let open = PunchEvent::Open(socket.clone(), address);
            let said = async {
                if said_before {
                    sender.try_send(open.clone()).unwrap();
                }
                Err(LOST)
            };
            let late = async {
                tokio::task::yield_now().await;
                if !said_before {
                    sender.try_send(open.clone()).unwrap();
                }
            };
            let (got, ()) = tokio::join!(settle(&mut events, || true, said), late);
            assert_eq!(got.unwrap().1, address);
        }
    }

    #[tokio::test]
    async fn a_negotiation_that_leads_nowhere_is_the_end() {
        let (_sender, mut events) = mpsc::channel(2);
        let got = settle(&mut events, || false, async { Err(LOST) }).await;
        assert!(matches!(got, Err(ConnectError::Holepunch { why }) if why.starts_with("too few")));
    }

    #[tokio::test]
    async fn after_the_negotiation_the_puncher_decides() {
        let (sender, mut events) = mpsc::channel(2);
        let late = async {
            tokio::task::yield_now().await;
            sender.try_send(PunchEvent::Failed).unwrap();
        };
        let (got, ()) = tokio::join!(settle(&mut events, || false, async { Ok(()) }), late);
        assert!(matches!(got, Err(ConnectError::Holepunch { why: "no packet came through" })));
    }
}
