//! One exchange of notes about hole punching.

use std::net::SocketAddr;

use crate::ConnectError;
use crate::handshake::SealedNotes;
use crate::messages::{Command, Holepunch, HolepunchPayload, Message, RelayMode, ipv4};
use crate::rpc::{RequestBody, RequestOptions, Rpc, RpcError};
use udx::UdxSocket;

/// The server's answer to a note.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) note: HolepunchPayload,
    /// The server, as the node between sees it now.
    pub(super) peer_address: SocketAddr,
    /// Our socket, as that node sees it.
    pub(super) seen: SocketAddr,
    /// That node.
    pub(super) by: SocketAddr,
}

/// Where a note goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    /// The node between.
    pub(super) relay: SocketAddr,
    /// The server, as that node sees it.
    pub(super) server: SocketAddr,
}

/// Sends a note to the server, through `socket`, and opens what comes back.
pub(super) async fn exchange(
    rpc: &Rpc,
    target: [u8; 32],
    id: u64,
    notes: &SealedNotes,
    note: &HolepunchPayload,
    route: Route,
    socket: UdxSocket,
) -> Result<Answer, ConnectError> {
    let invalid = |what| ConnectError::InvalidAnswer { what };
    let message = Holepunch {
        mode: RelayMode::FromClient,
        id,
        payload: notes.seal(note),
        peer_address: ipv4(route.server),
    };
    let body = RequestBody {
        command: Command::PeerHolepunch.to_wire(),
        target: Some(target),
        value: Some(message.encode()),
        token: None,
    };
    let options = RequestOptions { socket: Some(socket), ..RequestOptions::default() };
    let reply = rpc.request(route.relay, body, options).await.map_err(|error| ConnectError::Holepunch {
        why: match error {
            // The socket went with its attempt.
            RpcError::NotAttached => "the attempt is over",
            _ => "the server does not answer through its relay",
        },
    })?;
    let value = reply.value.ok_or(invalid("an empty answer about hole punching"))?;
    let answer = Holepunch::decode(value).map_err(|_| invalid("an answer about hole punching"))?;
    if answer.mode != RelayMode::Reply || reply.from.addr != route.relay {
        return Err(invalid("an answer about hole punching from elsewhere"));
    }
    let note = notes.open(&answer.payload).ok_or(invalid("a note that the server did not seal"))?;
    let peer_address = answer.peer_address.map_or(route.relay, SocketAddr::V4);
    Ok(Answer { note, peer_address, seen: reply.to, by: reply.from.addr })
}
