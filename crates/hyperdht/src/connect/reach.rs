//! The second step of a connection: which way leads to the server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::find::Found;
use super::punch;
use crate::addresses::{is_bogon, is_reserved, match_address};
use crate::core::{Core, count};
use crate::doorway::Way;
use crate::messages::{Firewall, RelayInfo, socket_addrs};
use crate::rpc::PingOptions;
use crate::{ConnectError, ConnectOptions};

/// How long a server may take to call us when we are reachable (npm `hyperdht` 6.34, `passiveConnectTimeout`).
const CALL_BACK: Duration = Duration::from_secs(10);

/// How long a server in our network may take to answer before holes are punched as well.
const HEAD_START: Duration = Duration::from_millis(300);

/// What both sides' positions allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plan {
    /// The server answered without anybody between, or can be reached there.
    Direct(SocketAddr),
    /// We can be reached: the server calls.
    WaitForCall,
    /// We may be in one network: look there, and, if `punch`, punch as well.
    Local { addresses: Vec<SocketAddr>, punch: bool },
    /// Punch.
    Punch,
    /// Nothing is left.
    Impossible,
}

/// Chooses from what the handshake told: pure, so that it can be tested.
pub(super) fn plan(found: &Found, ours: Firewall, lan: bool) -> Plan {
    if !found.relayed {
        return Plan::Direct(found.relay_address);
    }
    let payload = &found.payload;
    let addresses = socket_addrs(&payload.addresses4);
    let punchable = relays(found).is_some();
    let elsewhere = found.server_address != found.relay_address;
    if payload.firewall == Firewall::Open || (elsewhere && !punchable) {
        // Without holes to punch, what is left is that the server is in our network, or reachable after all.
        let public = addresses.iter().copied().find(|address| !is_bogon(address.ip()));
        return Plan::Direct(public.unwrap_or(found.server_address));
    }
    if ours == Firewall::Open {
        return Plan::WaitForCall;
    }
    if lan && elsewhere && found.client_address.ip() == found.server_address.ip() {
        let addresses: Vec<_> = addresses.into_iter().filter(|address| !is_reserved(address.ip())).collect();
        if !addresses.is_empty() {
            return Plan::Local { addresses, punch: punchable };
        }
    }
    if punchable { Plan::Punch } else { Plan::Impossible }
}

/// Nodes through which the server wants to speak about hole punching.
pub(super) fn relays(found: &Found) -> Option<(u64, &[RelayInfo])> {
    let holepunch = found.payload.holepunch.as_ref()?;
    (!holepunch.relays.is_empty()).then_some((holepunch.id, &holepunch.relays[..]))
}

/// Finds a way that a packet can go. If a relay can carry the connection otherwise, only one that is known to lead to
/// somebody.
pub(super) async fn reach(
    core: &Arc<Core>,
    options: &ConnectOptions,
    target: &[u8; 32],
    ours: Firewall,
    found: &Found,
    has_relay: bool,
) -> Result<Way, ConnectError> {
    match plan(found, ours, options.local_connection) {
        Plan::Direct(address) => {
            // Nothing has come from there yet, and who goes there gives the relay up.
            if has_relay && found.relayed && core.rpc.ping(address, PingOptions::default()).await.is_err() {
                return Err(ConnectError::Holepunch {
                    why: "the server does not answer where it is said to be",
                });
            }
            count(&core.counters.punches_open);
            Ok((core.rpc.socket(), address))
        }
        Plan::WaitForCall => {
            tokio::time::sleep(CALL_BACK).await;
            Err(ConnectError::Holepunch { why: "the server does not call back" })
        }
        Plan::Local { addresses, punch: true } => {
            let local = look_nearby(core, &addresses);
            tokio::pin!(local);
            // A server whose NAT cannot be punched gives the attempt up as soon as it hears of punching.
            match tokio::time::timeout(HEAD_START, &mut local).await {
                Ok(Some(way)) => return Ok(way),
                Ok(None) => return punch::punch(core, options, target, found).await,
                Err(_) => {}
            }
            let punched = punch::punch(core, options, target, found);
            tokio::pin!(punched);
            let mut is_elsewhere = false;
            loop {
                tokio::select! {
                    way = &mut local, if !is_elsewhere => match way {
                        Some(way) => return Ok(way),
                        None => is_elsewhere = true,
                    },
                    way = &mut punched => return match way {
                        Err(error) if !is_elsewhere => local.await.ok_or(error),
                        way => way,
                    },
                }
            }
        }
        Plan::Local { addresses, punch: false } => look_nearby(core, &addresses)
            .await
            .ok_or(ConnectError::Holepunch { why: "the server is not in our network either" }),
        Plan::Punch => punch::punch(core, options, target, found).await,
        Plan::Impossible => Err(ConnectError::Holepunch { why: "the server does not punch holes" }),
    }
}

/// The server, if it answers inside our network.
async fn look_nearby(core: &Core, addresses: &[SocketAddr]) -> Option<Way> {
    let address = match_address(&core.local_addresses(), addresses).or(addresses.first().copied())?;
    core.rpc.ping(address, PingOptions::default()).await.ok()?;
    Some((core.rpc.server_socket(), address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handshake::PeerHandshake;
    use crate::messages::NoisePayload;
    use crate::{DhtOptions, HyperDht, KeyPair};

    /// What a handshake through a node told of a server that says that everybody reaches it, at `address`.
    fn open_server(address: SocketAddr) -> Found {
        let (ours, theirs) = (KeyPair::generate(), KeyPair::generate());
        let mut client = PeerHandshake::client(&ours, theirs.public).unwrap();
        let mut server = PeerHandshake::server(&theirs).unwrap();
        server.receive(&client.send(&NoisePayload::default()).unwrap()).unwrap();
        client.receive(&server.send(&NoisePayload::default()).unwrap()).unwrap();
        let between = SocketAddr::from(([127, 0, 0, 1], 1));
        Found {
            finished: client.finish().unwrap(),
            payload: NoisePayload { firewall: Firewall::Open, ..NoisePayload::default() },
            remote_id: 1,
            relayed: true,
            relay_address: between,
            server_address: address,
            client_address: between,
            asked: Vec::new(),
        }
    }

    async fn try_to_reach(node: &HyperDht, found: &Found, has_relay: bool) -> Result<Way, ConnectError> {
        let (core, options) = (node.core(), ConnectOptions::default());
        let reached = reach(&core, &options, &[0; 32], Firewall::Unknown, found, has_relay);
        tokio::time::timeout(Duration::from_secs(30), reached).await.expect("takes too long")
    }

    #[tokio::test]
    async fn a_relay_is_given_up_for_somebody_who_answers_alone() {
        let node = HyperDht::bootstrapper(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let options = || DhtOptions {
            bootstrap: Some(vec![node.local_address().to_string()]),
            host: [127, 0, 0, 1].into(),
            port: 0,
            ..DhtOptions::default()
        };
        let there = HyperDht::new(options()).await.unwrap();
        let answers = open_server(there.local_address());
        let (_, address) = try_to_reach(&node, &answers, true).await.unwrap();
        assert_eq!(address, there.local_address());
        assert_eq!(node.status().punches.open, 1);

        // The port is taken, and nobody answers there.
        let nobody = std::net::UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        let silent = open_server(nobody.local_addr().unwrap());
        let gone = try_to_reach(&node, &silent, true).await.unwrap_err();
        assert!(matches!(gone, ConnectError::Holepunch { .. }), "{gone}");
        assert_eq!(node.status().punches.open, 1);
        // Without a relay there is nothing to lose.
        let (_, address) = try_to_reach(&node, &silent, false).await.unwrap();
        assert_eq!(address, silent.server_address);
    }
}
