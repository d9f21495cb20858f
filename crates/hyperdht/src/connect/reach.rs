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

/// Finds a way that a packet can go.
pub(super) async fn reach(
    core: &Arc<Core>,
    options: &ConnectOptions,
    target: &[u8; 32],
    ours: Firewall,
    found: &Found,
) -> Result<Way, ConnectError> {
    match plan(found, ours, options.local_connection) {
        Plan::Direct(address) => {
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
