//! What a server answers to a client's handshake, and what it does next.

use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, Weak};
use std::time::Instant;

use tokio::sync::mpsc;
use udx::UdxStream;

use super::attend::Attended;
use super::table::HandshakeId;
use super::{Attempt, HandshakeAnswer, Punching, ServerCore};
use crate::addresses::{is_private, match_address};
use crate::connect::{TaskGuard, choose};
use crate::core::{Core, count, is_fine};
use crate::doorway::Doorway;
use crate::handshake::{Finished, PeerHandshake, SealedNotes};
use crate::messages::{
    Firewall, HolepunchInfo, NOISE_PAYLOAD_VERSION, NoisePayload, RelayInfo, RelayThroughInfo,
    SecretStreamInfo, UdxInfo, error, ipv4, socket_addrs,
};
use crate::punching::{CallerSlot, PunchEvent, Puncher};
use crate::relay::random_token;
use crate::router::Call;
use crate::rpc::Request;
use crate::{Connection, ConnectionParts, FirewallRequest};

/// How a server gets to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The client can be reached: connect.
    Call,
    /// The client comes: wait.
    Wait,
    /// The client may be in our network: wait, and answer notes with the server's own socket.
    WaitNearby,
    /// Punch: the answer comes from the socket that punches.
    Punch,
}

/// Chooses from what both sides know: pure, so that it can be tested.
pub(super) struct Position<'a> {
    /// What the client says about itself.
    pub(super) client_firewall: Firewall,
    pub(super) client_addresses: &'a [SocketAddr],
    /// The client, as we or the node between sees it.
    pub(super) client: SocketAddr,
    /// We, as the node between sees us.
    pub(super) us: SocketAddr,
    /// There is no node between.
    pub(super) direct: bool,
    /// Everybody reaches us.
    pub(super) open: bool,
    pub(super) never_punch: bool,
    /// Our addresses, when we tell them.
    pub(super) local_addresses: &'a [SocketAddr],
}

impl Position<'_> {
    pub(super) fn way(&self) -> Way {
        if self.client_firewall == Firewall::Open || self.direct {
            return Way::Call;
        }
        if self.client.ip() == self.us.ip() {
            let private: Vec<_> =
                self.client_addresses.iter().copied().filter(|address| is_private(address.ip())).collect();
            if match_address(self.local_addresses, &private).is_some() {
                return Way::WaitNearby;
            }
        }
        if self.open || self.never_punch { Way::Wait } else { Way::Punch }
    }
}

impl ServerCore {
    /// Answers a client, and sees to its connection.
    pub(super) async fn answer(
        self: Arc<Self>,
        core: Arc<Core>,
        id: HandshakeId,
        call: Call,
        request: Request,
    ) {
        let Some(accepted) = self.examine(&core, &call).await else {
            self.answered(id, &call, &request, None);
            return self.finish(id);
        };
        let Accepted { mut handshake, hello } = accepted;
        let mut error = match (hello.version == NOISE_PAYLOAD_VERSION, &hello.udx) {
            (true, Some(_)) => error::NONE,
            (true, None) => error::ABORTED,
            (false, _) => error::VERSION_MISMATCH,
        };
        let remote_id = hello.udx.and_then(|udx| u32::try_from(udx.id).ok());
        let open = core.rpc.remote_address();
        let local_addresses =
            if self.options.share_local_address { core.local_addresses() } else { Vec::new() };
        let offered = !self.options.relay_when_randomized || core.rpc.is_randomized();
        let relay = choose(&self.options.relay_through).filter(|_| offered);
        let relay_through =
            relay.map(|public_key| RelayThroughInfo { version: 1, public_key, token: random_token() });
        let client_addresses = socket_addrs(&hello.addresses4);
        let way = Position {
            client_firewall: hello.firewall,
            client_addresses: &client_addresses,
            client: call.client,
            us: request.to,
            direct: call.direct,
            open: open.is_some(),
            never_punch: self.options.never_punch,
            local_addresses: &local_addresses,
        }
        .way();
        let slot = match way {
            Way::Punch | Way::WaitNearby if is_fine(error) => self.slot(&core, id, request.from.addr),
            _ => None,
        };
        let relayed = relay_through.is_some() || hello.relay_through.is_some();
        if way == Way::Punch && is_fine(error) && slot.is_none() && !relayed {
            // No way is left: the client had better know than wait.
            count(&core.counters.punches_later);
            error = error::TRY_LATER;
        }
        let stream = remote_id.filter(|_| is_fine(error)).and_then(|_| core.stream().ok());
        let payload = self.payload(id, error, stream.as_ref(), open, &local_addresses, relay_through);
        let noise = handshake.send(&payload);
        let finished = noise.and_then(|noise| Ok((noise, handshake.finish()?)));
        let (Ok((noise, finished)), true) = (finished, self.takes_calls()) else {
            self.answered(id, &call, &request, None);
            return self.finish(id);
        };
        let answer = HandshakeAnswer { noise, punching: Weak::new() };
        let (Some(stream), Some(remote_id)) = (stream, remote_id) else {
            self.answered(id, &call, &request, Some(answer));
            return self.finish(id);
        };
        if way == Way::Call {
            let socket = if call.direct { request.socket.clone() } else { core.rpc.socket() };
            count(&core.counters.punches_open);
            // The client sends to the address that the node between saw us at, which may be that of our other socket.
            stream.set_firewall(|_, _| udx::Firewall::Accept);
            let connected = stream.connect(&socket, remote_id, call.client);
            self.answered(id, &call, &request, Some(answer));
            self.finish(id);
            if connected.is_ok() {
                self.deliver(self.connection(&core, stream, finished));
            }
            return;
        }
        let relay = match (relay_through, hello.relay_through) {
            (Some(ours), _) => Some((true, ours)),
            (None, Some(theirs)) => Some((false, theirs)),
            (None, None) => None,
        };
        let (events, punch_events) = mpsc::channel(2);
        let punching =
            slot.and_then(|slot| punching(&core, slot, hello.firewall, &finished, relayed, events));
        let from = match (&punching, way) {
            (Some(punching), Way::Punch) => Arc::downgrade(punching),
            _ => Weak::new(),
        };
        let (doorway, ways) = Doorway::of(&stream, Some(remote_id));
        let attended = Attended {
            server: Arc::clone(&self),
            core: Arc::clone(&core),
            id,
            stream: Some(stream),
            finished,
            remote_id,
            doorway,
            ways,
            punch_events,
            relay,
        };
        // The attempt is there before the client can say anything about it.
        let attempt = Attempt { punching, _task: None };
        super::lock(&self.handshakes).attempts.insert(id, attempt);
        let task = tokio::spawn(attended.run());
        if let Some(attempt) = super::lock(&self.handshakes).attempts.get_mut(&id) {
            attempt._task = Some(TaskGuard::new(task.abort_handle()));
        } else if !task.is_finished() {
            task.abort();
        }
        self.answered(id, &call, &request, Some(HandshakeAnswer { punching: from, ..answer }));
    }

    /// Opens the client's message and asks the firewall; `None` for silence.
    async fn examine(&self, core: &Core, call: &Call) -> Option<Accepted> {
        let mut handshake = PeerHandshake::server(&self.key_pair()?).ok()?;
        let hello = handshake.receive(&call.payload).ok()?;
        let remote_public_key = handshake.remote_public_key()?;
        if let Some(firewall) = &self.options.firewall {
            let request = FirewallRequest { remote_public_key, address: call.client };
            if firewall(request).await {
                tracing::debug!(client = %call.client, "turned away by the server's firewall");
                return None;
            }
        }
        (self.takes_calls() && core.session().is_some()).then_some(Accepted { handshake, hello })
    }

    fn payload(
        &self,
        id: HandshakeId,
        error: u64,
        stream: Option<&UdxStream>,
        open: Option<SocketAddr>,
        local_addresses: &[SocketAddr],
        relay_through: Option<RelayThroughInfo>,
    ) -> NoisePayload {
        let announcer = self.announcer();
        let relays = announcer.as_ref().map(|announcer| announcer.relays()).unwrap_or_default();
        let relay_info = relays.iter().filter_map(|relay| {
            Some(RelayInfo { relay_address: ipv4(relay.node.addr)?, peer_address: ipv4(relay.seen_as)? })
        });
        let holepunch = match open {
            Some(_) => None,
            None => Some(HolepunchInfo { id, relays: relay_info.collect() }),
        };
        let known: Vec<_> = announcer
            .map(|announcer| announcer.relay_addresses())
            .unwrap_or_default()
            .into_iter()
            .filter_map(ipv4)
            .collect();
        NoisePayload {
            error,
            firewall: if open.is_some() { Firewall::Open } else { Firewall::Unknown },
            holepunch,
            addresses4: open.iter().chain(local_addresses).copied().filter_map(ipv4).collect(),
            udx: Some(UdxInfo {
                version: 1,
                reusable_socket: false,
                id: stream.map_or(0, |stream| u64::from(stream.local_id())),
                seq: 0,
            }),
            secret_stream: Some(SecretStreamInfo::default()),
            relay_through,
            relay_addresses: (!known.is_empty()).then_some(known),
            ..NoisePayload::default()
        }
    }

    /// The right to a socket for this client; nobody has more than a part of them.
    fn slot(self: &Arc<Self>, core: &Core, id: HandshakeId, from: SocketAddr) -> Option<CallerSlot> {
        let owner = (Arc::downgrade(self), id);
        let Some((slot, displaced)) = core.slots.take(from.ip(), owner, Instant::now()) else {
            tracing::debug!(%from, "too many want holes punched");
            return None;
        };
        if let Some((server, id)) = displaced
            && let Some(server) = server.upgrade()
        {
            server.stop_punching(id);
        }
        Some(slot)
    }

    pub(super) fn connection(&self, core: &Core, stream: UdxStream, finished: Finished) -> Connection {
        Connection::new(ConnectionParts {
            stream,
            handshake: finished.result,
            is_initiator: false,
            public_key: self.key_pair().map(|pair| pair.public).unwrap_or_default(),
            keep_alive: core.keep_alive,
        })
    }
}

/// `None` when the system gives no socket.
fn punching(
    core: &Arc<Core>,
    slot: CallerSlot,
    client_firewall: Firewall,
    finished: &Finished,
    relayed: bool,
    events: mpsc::Sender<PunchEvent>,
) -> Option<Arc<Punching>> {
    let puncher = Puncher::new(core, false, client_firewall, events, Some(slot)).ok()?;
    let notes = SealedNotes::new(finished.holepunch_key.clone());
    let (heard, round) = (AtomicBool::new(false), Mutex::new(0));
    Some(Arc::new(Punching { notes, puncher, relayed, heard, round }))
}

/// A client that may connect.
struct Accepted {
    handshake: PeerHandshake,
    hello: NoisePayload,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn position<'a>(clients: &'a [SocketAddr], ours: &'a [SocketAddr]) -> Position<'a> {
        Position {
            client_firewall: Firewall::Unknown,
            client_addresses: clients,
            client: at("5.5.5.5:1"),
            us: at("6.6.6.6:2"),
            direct: false,
            open: false,
            never_punch: false,
            local_addresses: ours,
        }
    }

    #[test]
    fn whoever_can_be_reached_is_called() {
        assert_eq!(Position { client_firewall: Firewall::Open, ..position(&[], &[]) }.way(), Way::Call);
        assert_eq!(Position { direct: true, ..position(&[], &[]) }.way(), Way::Call);
    }

    #[test]
    fn behind_the_same_nat_the_local_network_is_tried() {
        let (theirs, ours) = ([at("192.168.1.9:4")], [at("192.168.1.2:4")]);
        let home = Position { us: at("5.5.5.5:9"), ..position(&theirs, &ours) };
        assert_eq!(home.way(), Way::WaitNearby);
        assert_eq!(Position { open: true, ..home }.way(), Way::WaitNearby);
        // From elsewhere, or without telling our addresses, it is not.
        assert_eq!(position(&theirs, &ours).way(), Way::Punch);
        assert_eq!(Position { us: at("5.5.5.5:9"), ..position(&theirs, &[]) }.way(), Way::Punch);
        let public = [at("192.167.1.9:4")];
        assert_eq!(Position { us: at("5.5.5.5:9"), ..position(&public, &ours) }.way(), Way::Punch);
    }

    #[test]
    fn otherwise_it_punches_unless_there_is_no_need_or_no_wish() {
        assert_eq!(position(&[], &[]).way(), Way::Punch);
        assert_eq!(Position { open: true, ..position(&[], &[]) }.way(), Way::Wait);
        assert_eq!(Position { never_punch: true, ..position(&[], &[]) }.way(), Way::Wait);
    }
}
