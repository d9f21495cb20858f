//! The ways of handshakes and of notes about hole punching through nodes that forward them (npm `hyperdht` 6.34,
//! `lib/router.js`).
//!
//! ```text
//! client --FromClient--> relay --FromRelay--> server
//! client <----Reply----- relay <-FromServer-- server            or, when the server announced at another relay too,
//! client --FromClient--> relay --FromRelay--> second relay --FromSecondRelay--> server --FromServer--> relay
//! ```
//!
//! All of it is decided here, from one message and what this node knows of its target: nodes between keep nothing. What
//! they send is as much as what they got (and twelve bytes), to one address, so there is nothing to gain in having them
//! send it.

use std::net::{SocketAddr, SocketAddrV4};

use bytes::Bytes;

use crate::messages::{Handshake, Holepunch, Message, RelayMode, ipv4};

/// Noise messages are not longer than what fits into a datagram of the DHT.
const MAX_PAYLOAD: usize = 4096;

/// What this node knows of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// A server of this node.
    Here,
    /// A server that announced itself from there.
    Announced(SocketAddr),
    /// Nothing.
    Unknown,
}

impl Route {
    fn relay(self) -> Option<SocketAddr> {
        match self {
            Self::Announced(address) => Some(address),
            Self::Here | Self::Unknown => None,
        }
    }
}

/// What to do with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is for a server of ours; its answer goes along the way back.
    Serve(Call),
    /// Pass it on, as the same request with another value.
    Forward { value: Bytes, to: SocketAddr },
    /// Answer the request; `to` is the client that made it, when it came through others.
    Answer { value: Bytes, to: SocketAddr },
    /// Tell the client who may know more.
    HelpRouting,
    /// Nothing: it makes no sense.
    Ignore,
}

/// A message for a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    /// The Noise message, or the sealed note.
    pub(crate) payload: Bytes,
    /// The server's number for the handshake that a note belongs to.
    pub(crate) id: u64,
    /// The client's address: as we see it, or as the relay does.
    pub(crate) client: SocketAddr,
    /// The client sent it to us itself.
    pub(crate) direct: bool,
    /// The relay to answer to, when there is one between.
    pub(crate) back: Option<SocketAddr>,
}

impl Call {
    /// The value of the answer to a handshake, and the relay it goes to (or to the client itself).
    pub(crate) fn answer_handshake(&self, noise: Bytes) -> (Bytes, Option<SocketAddr>) {
        let mode = if self.direct { RelayMode::Reply } else { RelayMode::FromServer };
        let peer_address = if self.direct { None } else { ipv4(self.client) };
        (Handshake { mode, noise, peer_address, relay_address: None }.encode(), self.back)
    }

    /// The value of the answer to a note.
    pub(crate) fn answer_holepunch(&self, payload: Bytes) -> Bytes {
        let mode = RelayMode::FromServer;
        Holepunch { mode, id: 0, payload, peer_address: ipv4(self.client) }.encode()
    }
}

/// The next step of a handshake message that came from `from`.
pub(crate) fn handshake(value: Option<Bytes>, from: SocketAddr, route: Route) -> Step {
    let Some(message) = value.and_then(|value| Handshake::decode(value).ok()) else {
        return Step::Ignore;
    };
    let Handshake { mode, noise, peer_address, relay_address } = message;
    if noise.is_empty() || noise.len() > MAX_PAYLOAD {
        return Step::Ignore;
    }
    let Some(sender) = ipv4(from) else {
        return Step::Ignore;
    };
    if route == Route::Here {
        // Whoever names a client is taken for a relay, as in JS: a client without a name is the sender.
        let client = peer_address.map_or(from, SocketAddr::V4);
        let direct = peer_address.is_none();
        let back = match mode {
            RelayMode::FromClient => None,
            RelayMode::FromRelay => Some(from),
            RelayMode::FromSecondRelay => match relay_address {
                Some(relay) => Some(SocketAddr::V4(relay)),
                None => return Step::Ignore,
            },
            RelayMode::FromServer | RelayMode::Reply => return Step::Ignore,
        };
        if direct != back.is_none() {
            return Step::Ignore;
        }
        return Step::Serve(Call { payload: noise, id: 0, client, direct, back });
    }
    match (mode, peer_address) {
        (RelayMode::FromClient, _) => {
            let Some(to) = relay_address.map(SocketAddr::V4).or(route.relay()) else {
                return Step::HelpRouting;
            };
            let (mode, peer_address) = (RelayMode::FromRelay, Some(sender));
            forward(Handshake { mode, noise, peer_address, relay_address: None }.encode(), to)
        }
        (RelayMode::FromRelay, peer_address) => {
            let Some(to) = route.relay() else {
                return Step::Ignore;
            };
            let (mode, relay_address) = (RelayMode::FromSecondRelay, Some(sender));
            forward(Handshake { mode, noise, peer_address, relay_address }.encode(), to)
        }
        (RelayMode::FromServer, Some(client)) => {
            let (mode, peer_address) = (RelayMode::Reply, Some(sender));
            answer(Handshake { mode, noise, peer_address, relay_address: None }.encode(), client)
        }
        _ => Step::Ignore,
    }
}

/// The next step of a note about hole punching that came from `from`.
pub(crate) fn holepunch(value: Option<Bytes>, from: SocketAddr, route: Route) -> Step {
    let Some(message) = value.and_then(|value| Holepunch::decode(value).ok()) else {
        return Step::Ignore;
    };
    let Holepunch { mode, id, payload, peer_address } = message;
    if payload.len() > MAX_PAYLOAD {
        return Step::Ignore;
    }
    let Some(sender) = ipv4(from) else {
        return Step::Ignore;
    };
    match (mode, peer_address) {
        (RelayMode::FromClient, peer_address) => {
            let Some(to) = peer_address.map(SocketAddr::V4).or(route.relay()) else {
                return Step::Ignore;
            };
            let (mode, peer_address) = (RelayMode::FromRelay, Some(sender));
            forward(Holepunch { mode, id, payload, peer_address }.encode(), to)
        }
        (RelayMode::FromRelay, Some(client)) if route == Route::Here => {
            let client = SocketAddr::V4(client);
            Step::Serve(Call { payload, id, client, direct: false, back: Some(from) })
        }
        (RelayMode::FromServer, Some(client)) => {
            let (mode, peer_address) = (RelayMode::Reply, Some(sender));
            answer(Holepunch { mode, id, payload, peer_address }.encode(), client)
        }
        _ => Step::Ignore,
    }
}

fn forward(value: Bytes, to: SocketAddr) -> Step {
    if to.port() == 0 { Step::Ignore } else { Step::Forward { value, to } }
}

fn answer(value: Bytes, to: SocketAddrV4) -> Step {
    if to.port() == 0 { Step::Ignore } else { Step::Answer { value, to: SocketAddr::V4(to) } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLIENT: &str = "1.1.1.1:1";
    const RELAY: &str = "2.2.2.2:2";
    const SECOND: &str = "3.3.3.3:3";
    const SERVER: &str = "4.4.4.4:4";

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn hello(mode: RelayMode) -> Bytes {
        let noise = Bytes::from_static(b"noise");
        Handshake { mode, noise, peer_address: None, relay_address: None }.encode()
    }

    fn forwarded(step: Step) -> (Bytes, SocketAddr) {
        match step {
            Step::Forward { value, to } => (value, to),
            other => panic!("{other:?}"),
        }
    }

    fn served(step: Step) -> Call {
        match step {
            Step::Serve(call) => call,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn straight_to_the_server() {
        let call = served(handshake(Some(hello(RelayMode::FromClient)), at(CLIENT), Route::Here));
        assert_eq!((call.client, call.direct, call.back), (at(CLIENT), true, None));
        let (value, to) = call.answer_handshake(Bytes::from_static(b"answer"));
        let answer = Handshake::decode(value).unwrap();
        assert_eq!((answer.mode, answer.peer_address, to), (RelayMode::Reply, None, None));
    }

    #[test]
    fn through_one_relay_and_back() {
        let known = Route::Announced(at(SERVER));
        let (value, to) = forwarded(handshake(Some(hello(RelayMode::FromClient)), at(CLIENT), known));
        assert_eq!(to, at(SERVER));
        let call = served(handshake(Some(value), at(RELAY), Route::Here));
        assert_eq!((call.client, call.direct, call.back), (at(CLIENT), false, Some(at(RELAY))));
        let (value, to) = call.answer_handshake(Bytes::from_static(b"answer"));
        assert_eq!(to, Some(at(RELAY)));
        let Step::Answer { value, to } = handshake(Some(value), at(SERVER), known) else { panic!() };
        let answer = Handshake::decode(value).unwrap();
        assert_eq!(to, at(CLIENT));
        assert_eq!((answer.mode, answer.noise.as_ref()), (RelayMode::Reply, &b"answer"[..]));
        assert_eq!(answer.peer_address.map(SocketAddr::V4), Some(at(SERVER)));
    }

    #[test]
    fn through_two_relays() {
        let (value, to) = forwarded(handshake(
            Some(hello(RelayMode::FromClient)),
            at(CLIENT),
            Route::Announced(at(SECOND)),
        ));
        assert_eq!(to, at(SECOND));
        let (value, to) = forwarded(handshake(Some(value), at(RELAY), Route::Announced(at(SERVER))));
        assert_eq!(to, at(SERVER));
        let call = served(handshake(Some(value), at(SECOND), Route::Here));
        assert_eq!((call.client, call.back), (at(CLIENT), Some(at(RELAY))));
    }

    #[test]
    fn a_client_that_asks_the_wrong_node_is_helped() {
        let step = handshake(Some(hello(RelayMode::FromClient)), at(CLIENT), Route::Unknown);
        assert_eq!(step, Step::HelpRouting);
        for mode in
            [RelayMode::FromRelay, RelayMode::FromSecondRelay, RelayMode::FromServer, RelayMode::Reply]
        {
            assert_eq!(handshake(Some(hello(mode)), at(CLIENT), Route::Unknown), Step::Ignore);
        }
    }

    #[test]
    fn notes_go_through_the_relay_that_the_server_named() {
        let payload = Bytes::from_static(b"sealed");
        let peer_address = Some(SERVER.parse().unwrap());
        let note = Holepunch { mode: RelayMode::FromClient, id: 9, payload, peer_address };
        let (value, to) = forwarded(holepunch(Some(note.encode()), at(CLIENT), Route::Unknown));
        assert_eq!(to, at(SERVER));
        let call = served(holepunch(Some(value.clone()), at(RELAY), Route::Here));
        assert_eq!((call.id, call.client, call.back), (9, at(CLIENT), Some(at(RELAY))));
        assert_eq!(holepunch(Some(value), at(RELAY), Route::Unknown), Step::Ignore);
        let value = call.answer_holepunch(Bytes::from_static(b"answer"));
        let Step::Answer { value, to } = holepunch(Some(value), at(SERVER), Route::Unknown) else { panic!() };
        assert_eq!(to, at(CLIENT));
        assert_eq!(Holepunch::decode(value).unwrap().mode, RelayMode::Reply);
    }

    #[test]
    fn claims_that_do_not_fit_together_are_ignored() {
        // A client that names another as the client, so that the answer would go there.
        let noise = Bytes::from_static(b"noise");
        let peer_address = Some(SERVER.parse().unwrap());
        let message =
            Handshake { mode: RelayMode::FromClient, noise, peer_address, relay_address: None }.encode();
        assert_eq!(handshake(Some(message), at(CLIENT), Route::Here), Step::Ignore);
        // A relay without a client.
        assert_eq!(handshake(Some(hello(RelayMode::FromRelay)), at(RELAY), Route::Here), Step::Ignore);
    }

    proptest! {
        #[test]
        fn garbage_is_bounded(value in proptest::collection::vec(any::<u8>(), 0..200), known in 0..3) {
            let route = match known { 0 => Route::Here, 1 => Route::Unknown, _ => Route::Announced(at(SERVER)) };
            let value = Bytes::from(value);
            for step in [handshake(Some(value.clone()), at(CLIENT), route), holepunch(Some(value.clone()), at(CLIENT), route)] {
                if let Step::Forward { value: out, .. } | Step::Answer { value: out, .. } = step {
                    prop_assert!(out.len() <= value.len() + 12);
                }
            }
        }
    }
}
