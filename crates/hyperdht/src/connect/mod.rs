//! Connecting to a server by its public key (npm `hyperdht` 6.34, `lib/connect.js`).
//!
//! 1. Nodes that know the server forward a handshake, whose two messages carry what both sides know about themselves.
//! 2. From that a way to the server is found: it is reachable, or we are, or both are in one network, or holes have to be
//!    punched.
//! 3. Meanwhile a blind relay may join the two; the stream moves to the direct way once that is found.

mod find;
mod note;
mod punch;
mod reach;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use futures::future::{BoxFuture, OptionFuture};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use udx::{UdxHandle, UdxStream};

use crate::core::Core;
use crate::doorway::{Doorway, Way};
use crate::handshake::{PeerHandshake, target_of};
use crate::messages::{
    Firewall, NoisePayload, RelayThroughInfo, SecretStreamInfo, UdxInfo, ipv4, socket_addrs,
};
use crate::relay::{RelayPath, random_token, relay_path};
use crate::{ConnectError, ConnectOptions, Connection, ConnectionParts};
use find::Found;

/// Ends a task when dropped.
#[derive(Debug)]
pub(crate) struct TaskGuard(Option<AbortHandle>);

impl TaskGuard {
    pub(crate) fn new(task: AbortHandle) -> Self {
        Self(Some(task))
    }

    /// The task goes on by itself.
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for TaskGuard {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// Connects. The attempt ends when the future is dropped.
pub(crate) async fn connect(
    core: &Arc<Core>,
    remote_public_key: [u8; 32],
    options: ConnectOptions,
) -> Result<Connection, ConnectError> {
    let session = core.session().ok_or(ConnectError::Closed)?;
    let (done, result) = oneshot::channel();
    let attempt = Attempt::new(core, remote_public_key, options)?;
    let task = tokio::spawn(async move {
        // A suspension ends the attempt, also one that waits for a better way: its stream is gone then.
        session.run_until_cancelled(attempt.run(done)).await;
    });
    let guard = TaskGuard::new(task.abort_handle());
    let connection = result.await.unwrap_or(Err(ConnectError::Closed))?;
    // What is left to do (finding a direct way) goes on by itself.
    guard.disarm();
    Ok(connection)
}

/// [`connect`], boxed: an attempt may need another one, to a relay.
pub(crate) fn connect_boxed(
    core: Arc<Core>,
    remote_public_key: [u8; 32],
    options: ConnectOptions,
) -> BoxFuture<'static, Result<Connection, ConnectError>> {
    async move { connect(&core, remote_public_key, options).await }.boxed()
}

type Done = oneshot::Sender<Result<Connection, ConnectError>>;

/// One attempt at one connection.
struct Attempt {
    core: Arc<Core>,
    options: ConnectOptions,
    target: [u8; 32],
    public_key: [u8; 32],
    handshake: PeerHandshake,
    /// What we told the server about ourselves.
    firewall: Firewall,
    hello: bytes::Bytes,
    relay_through: Option<RelayThroughInfo>,
    stream: UdxStream,
}

impl Attempt {
    fn new(
        core: &Arc<Core>,
        remote_public_key: [u8; 32],
        options: ConnectOptions,
    ) -> Result<Self, ConnectError> {
        let invalid = |what| ConnectError::InvalidAnswer { what };
        let key_pair = options.key_pair.as_ref().unwrap_or(&core.key_pair);
        let mut handshake = PeerHandshake::client(key_pair, remote_public_key)
            .map_err(|_| invalid("the public key is no Ed25519 key"))?;
        let stream = core.stream().map_err(|_| ConnectError::Closed)?;
        let relay_through = choose(&options.relay_through).map(|public_key| RelayThroughInfo {
            version: 1,
            public_key,
            token: random_token(),
        });
        let open = core.rpc.remote_address();
        let mut addresses: Vec<SocketAddr> = open.into_iter().collect();
        if options.local_connection {
            addresses.extend(core.local_addresses());
        }
        let firewall = if open.is_some() { Firewall::Open } else { Firewall::Unknown };
        let payload = NoisePayload {
            firewall,
            addresses4: addresses.into_iter().filter_map(ipv4).collect(),
            udx: Some(UdxInfo {
                version: 1,
                // The way that is found is not kept for further connections.
                reusable_socket: false,
                id: u64::from(stream.local_id()),
                seq: 0,
            }),
            secret_stream: Some(SecretStreamInfo::default()),
            relay_through,
            ..NoisePayload::default()
        };
        let hello =
            handshake.send(&payload).map_err(|_| invalid("the public key is no point of the curve"))?;
        Ok(Self {
            core: Arc::clone(core),
            target: target_of(&remote_public_key),
            public_key: key_pair.public,
            options,
            handshake,
            firewall,
            hello,
            relay_through,
            stream,
        })
    }

    async fn run(mut self, mut done: Done) {
        let (doorway, ways) = Doorway::of(&self.stream, None);
        let found = tokio::select! {
            found = find::find(&mut self) => found,
            // Nobody waits any more.
            () = done.closed() => return,
        };
        match found {
            Ok(found) => self.establish(found, doorway, ways, done).await,
            Err(error) => {
                let _ = done.send(Err(error));
            }
        }
    }

    /// Makes a connection of the answer.
    async fn establish(
        self,
        found: Found,
        doorway: Doorway,
        mut ways: tokio::sync::mpsc::Receiver<Way>,
        done: Done,
    ) {
        let Self { core, options, target, public_key, firewall, relay_through, stream, .. } = self;
        let handle = stream.handle();
        let remote_id = found.remote_id;
        let early = doorway.open(remote_id);
        let mut delivery = Delivery {
            stream: Some(stream),
            done: Some(done),
            parts: (found.finished.result.clone(), public_key, core.keep_alive),
        };
        let mut relay = pin!(OptionFuture::from(relay_of(&core, &options, relay_through, &found, &handle)));
        let has_relay = found.payload.relay_through.is_some() || relay_through.is_some();
        let mut path: Option<RelayPath> = None;
        let mut direct = pin!(OptionFuture::from(Some(async {
            match early {
                Some(way) => Ok(way),
                None => reach::reach(&core, &options, &target, firewall, &found, has_relay).await,
            }
        })));
        let (mut direct_failed, mut relay_failed) = (None, None);
        let mut relay_over = !has_relay;
        let mut direct_over = false;
        let way = loop {
            tokio::select! {
                Some(way) = ways.recv() => break way,
                Some(result) = &mut direct, if !direct_over => match result {
                    Ok(way) => break way,
                    Err(error) => { direct_over = true; direct_failed = Some(error); }
                },
                Some(result) = &mut relay, if !relay_over => {
                    relay_over = true;
                    match result {
                        Ok(relayed) => {
                            doorway.set_relay((relayed.socket.clone(), relayed.address));
                            // A direct way may have been quicker: it comes next.
                            if handle.connect(&relayed.socket, relayed.remote_id, relayed.address).is_ok() {
                                delivery.deliver();
                                path = Some(relayed);
                            }
                        }
                        Err(error) => relay_failed = Some(error),
                    }
                }
                _ = handle.closed() => return,
            }
            if direct_over && relay_over && path.is_none() {
                let error = relay_failed.or(direct_failed).unwrap_or(ConnectError::PeerConnectionFailed);
                return delivery.fail(error);
            }
        };
        remember(&core, target, &found);
        match path {
            Some(path) => upgrade(&core, &handle, remote_id, way, &doorway, path).await,
            None => {
                // The doorway may have been quicker.
                let _ = handle.connect(&way.0, remote_id, way.1);
                delivery.deliver();
            }
        }
    }
}

/// The connection, until it is handed over.
struct Delivery {
    stream: Option<UdxStream>,
    done: Option<Done>,
    parts: (secret_stream::noise::HandshakeResult, [u8; 32], Option<Duration>),
}

impl Delivery {
    fn deliver(&mut self) {
        let (Some(stream), Some(done)) = (self.stream.take(), self.done.take()) else { return };
        let (handshake, public_key, keep_alive) = self.parts.clone();
        let parts = ConnectionParts { stream, handshake, is_initiator: true, public_key, keep_alive };
        let _ = done.send(Ok(Connection::new(parts)));
    }

    fn fail(mut self, error: ConnectError) {
        if let Some(done) = self.done.take() {
            let _ = done.send(Err(error));
        }
    }
}

/// The way through a blind relay, if the server wants one, or we do.
fn relay_of(
    core: &Arc<Core>,
    options: &ConnectOptions,
    ours: Option<RelayThroughInfo>,
    found: &Found,
    handle: &UdxHandle,
) -> Option<BoxFuture<'static, Result<RelayPath, ConnectError>>> {
    let (is_initiator, info) = match (found.payload.relay_through, ours) {
        (Some(theirs), _) => (false, theirs),
        (None, Some(ours)) => (true, ours),
        (None, None) => return None,
    };
    let (core, keep_alive) = (Arc::clone(core), options.relay_keep_alive);
    Some(relay_path(core, info.public_key, info.token, is_initiator, handle.local_id(), keep_alive))
}

/// Moves a stream from the relay to the direct way, and lets go of the relay when nothing comes from there any more.
pub(crate) async fn upgrade(
    core: &Core,
    handle: &UdxHandle,
    remote_id: u32,
    (socket, address): Way,
    doorway: &Doorway,
    path: RelayPath,
) {
    let moved = tokio::select! {
        moved = handle.change_remote(&socket, remote_id, address) => moved,
        _ = handle.closed() => return,
    };
    if let Err(error) = moved {
        tracing::debug!(%address, %error, "stream stays at its relay");
        handle.closed().await;
        return;
    }
    // Shows the other side the way even if the users have nothing to say (npm `hyperdht` 6.34, `confirmDirectUpgrade`).
    let _ = handle.send_message(bytes::Bytes::new());
    let moved_at = Instant::now();
    loop {
        let quiet_since = doorway.last_relayed().map_or(moved_at, |last| last.max(moved_at));
        let until = quiet_since + core.relay_linger;
        if Instant::now() >= until {
            return drop(path);
        }
        tokio::select! {
            () = tokio::time::sleep_until(until.into()) => {}
            _ = handle.closed() => return,
        }
    }
}

/// For the next connection: through whom this one was found.
fn remember(core: &Core, target: [u8; 32], found: &Found) {
    let told = found.payload.relay_addresses.as_deref().map(socket_addrs).unwrap_or_default();
    let addresses = if told.is_empty() { found.asked.clone() } else { told };
    if !addresses.is_empty() {
        core.remember_relays(target, addresses.into_iter().take(3).collect());
    }
}

/// Any of them.
pub(crate) fn choose<T: Copy>(list: &[T]) -> Option<T> {
    let len = u32::try_from(list.len()).ok().filter(|len| *len > 0)?;
    let index = getrandom::u32().unwrap_or(0) % len;
    list.get(usize::try_from(index).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_ends_with_its_guard_unless_that_is_disarmed() {
        let task = || {
            let (go, wait) = oneshot::channel::<()>();
            (go, tokio::spawn(wait))
        };
        let (_go, ends) = task();
        drop(TaskGuard::new(ends.abort_handle()));
        assert!(ends.await.unwrap_err().is_cancelled());
        let (go, stays) = task();
        TaskGuard::new(stays.abort_handle()).disarm();
        go.send(()).unwrap();
        assert!(stays.await.unwrap().is_ok());
    }
}
