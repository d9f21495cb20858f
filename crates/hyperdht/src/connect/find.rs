//! The first step of a connection: somebody who forwards our handshake, and the server's answer.

use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::Attempt;
use crate::ConnectError;
use crate::core::is_fine;
use crate::handshake::{Finished, PeerHandshake};
use crate::messages::{Command, Handshake, Message, NOISE_PAYLOAD_VERSION, NoisePayload, RelayMode};
use crate::router::Route;
use crate::rpc::{Peer, QueryOptions, RequestBody, RequestOptions, Rpc, RpcError};

/// Nodes that are asked to forward at the same time (npm `hyperdht` 6.34, `findAndConnect`).
const PARALLEL: usize = 2;
/// Relays that are tried without a search.
const MAX_KNOWN: usize = 16;
/// Nodes that were asked are remembered up to here.
const MAX_ASKED: usize = 64;

/// The server's answer, and the way it took.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) finished: Finished,
    pub(super) payload: NoisePayload,
    /// The server's stream.
    pub(super) remote_id: u32,
    /// A node was between.
    pub(super) relayed: bool,
    /// Who was asked: that node, or the server itself.
    pub(super) relay_address: SocketAddr,
    /// The server, as that node sees it.
    pub(super) server_address: SocketAddr,
    /// We, as that node sees us.
    pub(super) client_address: SocketAddr,
    /// Who was asked before, and this time.
    pub(super) asked: Vec<SocketAddr>,
}

/// The answer of one node.
struct Forwarded {
    noise: Bytes,
    relayed: bool,
    relay_address: SocketAddr,
    server_address: SocketAddr,
    client_address: SocketAddr,
}

/// Asks nodes that know the server, as they are found, until one brings an answer.
pub(super) async fn find(attempt: &mut Attempt) -> Result<Found, ConnectError> {
    let mut known = known_relays(attempt);
    let mut asked: Vec<SocketAddr> = Vec::new();
    let mut calls = FuturesUnordered::new();
    let parallel = if known.is_empty() { PARALLEL } else { PARALLEL + 1 };
    let rpc = attempt.core.rpc.clone();
    let call = |address, from_known: bool| {
        let (rpc, target, hello) = (rpc.clone(), attempt.target, attempt.hello.clone());
        async move { (ask(&rpc, target, hello, address).await, from_known) }
    };
    let mut start_at: Vec<Peer> = known.iter().copied().map(Peer::at).collect();
    let rounds = if known.is_empty() { 1 } else { 2 };
    if let Some(first) = known.pop_front() {
        asked.push(first);
        calls.push(call(first, true));
    }
    for _ in 0..rounds {
        let options = QueryOptions {
            nodes: std::mem::take(&mut start_at),
            retries: Some(3),
            ..QueryOptions::default()
        };
        let command = Command::FindPeer.to_wire();
        let mut query = attempt.core.rpc.query(attempt.target, command, None, options).map_err(closed)?;
        let mut searching = true;
        while searching || !calls.is_empty() {
            tokio::select! {
                Some((forwarded, from_known)) = calls.next(), if !calls.is_empty() => {
                    if let Some(forwarded) = forwarded
                        && let Some((payload, remote_id)) = accept(&mut attempt.handshake, &forwarded.noise)?
                    {
                        return finish(attempt, forwarded, payload, remote_id, asked);
                    }
                    if from_known && let Some(next) = known.pop_front() {
                        asked.push(next);
                        calls.push(call(next, true));
                    }
                }
                reply = query.next(), if searching && calls.len() < parallel => match reply {
                    Some(reply) => {
                        let address = reply.from.addr;
                        let knows = reply.value.is_some() && is_fine(reply.error);
                        if knows && !asked.contains(&address) && asked.len() < MAX_ASKED {
                            asked.push(address);
                            calls.push(call(address, false));
                        }
                    }
                    None => searching = false,
                },
            }
        }
    }
    Err(if asked.is_empty() { ConnectError::PeerNotFound } else { ConnectError::PeerConnectionFailed })
}

/// Nodes that may forward without having been searched for.
fn known_relays(attempt: &Attempt) -> VecDeque<SocketAddr> {
    // The server announced itself to this very node.
    if let Route::Announced(server) = attempt.core.route(&attempt.target) {
        return VecDeque::from([server]);
    }
    let given = &attempt.options.relay_addresses;
    let known =
        if given.is_empty() { attempt.core.remembered_relays(&attempt.target) } else { given.clone() };
    known.into_iter().take(MAX_KNOWN).collect()
}

/// Has one node forward the handshake.
async fn ask(rpc: &Rpc, target: [u8; 32], hello: Bytes, address: SocketAddr) -> Option<Forwarded> {
    let message =
        Handshake { mode: RelayMode::FromClient, noise: hello, peer_address: None, relay_address: None };
    let body = RequestBody {
        command: Command::PeerHandshake.to_wire(),
        target: Some(target),
        value: Some(message.encode()),
        token: None,
    };
    let reply = rpc.request(address, body, RequestOptions::default()).await.ok()?;
    let answer = Handshake::decode(reply.value?).ok()?;
    if answer.mode != RelayMode::Reply || answer.noise.is_empty() || reply.from.addr != address {
        return None;
    }
    let server_address = answer.peer_address.map(SocketAddr::V4);
    Some(Forwarded {
        noise: answer.noise,
        relayed: server_address.is_some(),
        relay_address: address,
        server_address: server_address.unwrap_or(address),
        client_address: reply.to,
    })
}

/// The server's payload; `None` when the node between made it up.
fn accept(handshake: &mut PeerHandshake, noise: &[u8]) -> Result<Option<(NoisePayload, u32)>, ConnectError> {
    let Ok(payload) = handshake.receive(noise) else {
        return Ok(None);
    };
    if payload.version != NOISE_PAYLOAD_VERSION {
        return Err(ConnectError::ServerError { code: crate::messages::error::VERSION_MISMATCH });
    }
    if !is_fine(payload.error) {
        return Err(ConnectError::ServerError { code: payload.error });
    }
    let id = payload.udx.and_then(|udx| u32::try_from(udx.id).ok());
    let id = id.ok_or(ConnectError::InvalidAnswer { what: "the server names no stream" })?;
    Ok(Some((payload, id)))
}

fn finish(
    attempt: &mut Attempt,
    forwarded: Forwarded,
    payload: NoisePayload,
    remote_id: u32,
    asked: Vec<SocketAddr>,
) -> Result<Found, ConnectError> {
    let spare = PeerHandshake::server(&attempt.core.key_pair)
        .map_err(|_| ConnectError::InvalidAnswer { what: "no handshake can be set up" })?;
    let finished = std::mem::replace(&mut attempt.handshake, spare)
        .finish()
        .map_err(|_| ConnectError::InvalidAnswer { what: "the handshake is not finished" })?;
    let Forwarded { relayed, relay_address, server_address, client_address, .. } = forwarded;
    Ok(Found { finished, payload, remote_id, relayed, relay_address, server_address, client_address, asked })
}

fn closed(_: RpcError) -> ConnectError {
    ConnectError::Closed
}
