//! Waits for the first packet of a client that was answered, whatever way it takes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::OptionFuture;
use tokio::sync::mpsc;
use udx::UdxStream;

use super::ServerCore;
use super::table::HandshakeId;
use crate::connect::upgrade;
use crate::core::{Core, count, lock};
use crate::doorway::{Doorway, Way};
use crate::handshake::Finished;
use crate::messages::RelayThroughInfo;
use crate::punching::PunchEvent;
use crate::relay::{RelayPath, relay_path};

/// How long a blind relay may take to join the two (npm `hyperdht` 6.34, `relayTimeout`).
const RELAY_WAIT: Duration = Duration::from_secs(15);

pub(super) struct Attended {
    pub(super) server: Arc<ServerCore>,
    pub(super) core: Arc<Core>,
    pub(super) id: HandshakeId,
    pub(super) stream: Option<UdxStream>,
    pub(super) finished: Finished,
    pub(super) remote_id: u32,
    pub(super) doorway: Doorway,
    pub(super) ways: mpsc::Receiver<Way>,
    pub(super) punch_events: mpsc::Receiver<PunchEvent>,
    pub(super) relay: Option<(bool, RelayThroughInfo)>,
}

impl Attended {
    pub(super) async fn run(mut self) {
        self.attend().await;
        self.server.finish(self.id);
        // Ends the puncher. This task is in there as well, but has nothing to wait for any more.
        let attempt = lock(&self.server.handshakes).attempts.remove(&self.id);
        drop(attempt);
    }

    async fn attend(&mut self) {
        let Some(handle) = self.stream.as_ref().map(UdxStream::handle) else { return };
        let relay = self.relay.map(|(is_initiator, info)| {
            count(&self.core.counters.relay_attempts);
            lock(&self.server.handshakes).table.extend(self.id, Instant::now() + RELAY_WAIT);
            let keep_alive = self.server.options.relay_keep_alive;
            let core = Arc::clone(&self.core);
            relay_path(core, info.public_key, info.token, is_initiator, handle.local_id(), keep_alive)
        });
        let mut relay_over = relay.is_none();
        let mut relay = std::pin::pin!(OptionFuture::from(relay));
        let mut path: Option<RelayPath> = None;
        let mut punch_over = false;
        let way = loop {
            tokio::select! {
                Some(way) = self.ways.recv() => break way,
                event = self.punch_events.recv(), if !punch_over => {
                    // There is no puncher, or it gave up.
                    punch_over = true;
                    let gave_up = matches!(event, Some(PunchEvent::Failed));
                    if gave_up && relay_over && path.is_none() {
                        return;
                    }
                }
                Some(result) = &mut relay, if !relay_over => {
                    relay_over = true;
                    match result {
                        Ok(relayed) => {
                            count(&self.core.counters.relay_successes);
                            self.doorway.set_relay((relayed.socket.clone(), relayed.address));
                            // A direct way may have been quicker: it comes next.
                            if handle.connect(&relayed.socket, relayed.remote_id, relayed.address).is_ok() {
                                self.deliver();
                                path = Some(relayed);
                            }
                        }
                        Err(error) => {
                            count(&self.core.counters.relay_aborts);
                            tracing::debug!(%error, "client not met at a relay");
                        }
                    }
                }
                _ = handle.closed() => return,
            }
        };
        match path {
            Some(path) => upgrade(&self.core, &handle, self.remote_id, way, &self.doorway, path).await,
            None => self.deliver(),
        }
    }

    /// Hands the connection over: from now on the handshake is only remembered.
    fn deliver(&mut self) {
        self.server.finish(self.id);
        let Some(stream) = self.stream.take() else { return };
        let finished = Finished {
            result: self.finished.result.clone(),
            holepunch_key: self.finished.holepunch_key.clone(),
        };
        self.server.deliver(self.server.connection(&self.core, stream, finished));
    }
}
