//! A user of a blind relay: asks to be joined with the other end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::oneshot;
use udx::UdxSocket;

use super::channel::RelayChannel;
use super::messages::{PAIR, Pair, Token};
use crate::connect::{TaskGuard, connect_boxed};
use crate::core::Core;
use crate::messages::Message;
use crate::{ConnectError, ConnectOptions};

/// How long a relay may take (npm `hyperdht` 6.34, `relayTimeout`).
const TIMEOUT: Duration = Duration::from_secs(15);

/// A way through a relay. The relay forgets it when this is dropped.
#[derive(Debug)]
pub(crate) struct RelayPath {
    pub(crate) socket: UdxSocket,
    pub(crate) address: SocketAddr,
    /// The relay's stream that stands for the other end.
    pub(crate) remote_id: u32,
    _connection: TaskGuard,
}

/// Connects to a relay and waits until it has joined the stream `local_id` with the other end's.
pub(crate) fn relay_path(
    core: Arc<Core>,
    relay: [u8; 32],
    token: Token,
    is_initiator: bool,
    local_id: u32,
    keep_alive: Duration,
) -> BoxFuture<'static, Result<RelayPath, ConnectError>> {
    let pair = Pair { is_initiator, token, id: local_id };
    async move {
        match tokio::time::timeout(TIMEOUT, meet(core, relay, pair, keep_alive)).await {
            Ok(path) => path,
            Err(_) => Err(ConnectError::Relay { why: "the other side did not come, or the relay is slow" }),
        }
    }
    .boxed()
}

async fn meet(
    core: Arc<Core>,
    relay: [u8; 32],
    pair: Pair,
    keep_alive: Duration,
) -> Result<RelayPath, ConnectError> {
    let mut connection = connect_boxed(core, relay, ConnectOptions::default())
        .await
        .map_err(|_| ConnectError::Relay { why: "the relay cannot be reached" })?;
    connection.set_keep_alive(Some(keep_alive));
    let closed = ConnectError::Relay { why: "the relay hung up" };
    let raw = connection.raw();
    let (Some(socket), Some(address)) = (raw.socket(), raw.remote_addr()) else {
        return Err(closed);
    };
    let channel = RelayChannel::open(connection).ok_or(closed.clone())?;
    let (joined, answer) = oneshot::channel();
    let task = tokio::spawn(ask(channel, pair, joined));
    let _connection = TaskGuard::new(task.abort_handle());
    let remote_id = answer.await.map_err(|_| closed)?;
    Ok(RelayPath { socket, address, remote_id, _connection })
}

/// Asks, and then keeps the connection up: the relay parts the two when it ends.
async fn ask(mut channel: RelayChannel, pair: Pair, joined: oneshot::Sender<u32>) {
    if !channel.send(PAIR, &pair.encode()) {
        return;
    }
    let mut joined = Some(joined);
    while let Some((kind, payload)) = channel.next().await {
        if kind != PAIR {
            continue;
        }
        let Ok(answer) = Pair::decode(payload) else { return };
        if answer.token == pair.token
            && answer.is_initiator == pair.is_initiator
            && let Some(joined) = joined.take()
            && joined.send(answer.id).is_err()
        {
            return;
        }
    }
}
