//! What a connection does with one core: under one lock, once for each burst.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use hypercore_protocol::messages::NoData;
use hypercore_protocol::{ChannelId, Connection, Error, Message};
use hypercore_replicator::{Event, PeerId};
use tokio::io::{AsyncRead, AsyncWrite};

use super::core::{ReplicatedCore, State};
use super::driver::{Cause, Driver, TRANSMIT_HIGH, TRANSMIT_STOP};

/// What one core may send before it is the turn of the next.
const TURN: usize = 64 * 1024;

impl<IO: AsyncRead + AsyncWrite + Send + Unpin + 'static> Driver<IO> {
    /// Everything that is to be done with one core, under one lock: what arrived is taken over, what changed is
    /// told, what is to be sent here is taken.
    pub(super) fn turn(&mut self, core: &Arc<ReplicatedCore>, cause: Cause) -> Result<(), Error> {
        let in_use = core.in_use();
        let now = Instant::now();
        let mut state = core.state();
        let mut sent = Ok(());
        let closed = {
            let mut guard = core.hypercore.lock();
            let closed = guard.is_closed();
            let (log, demand) = guard.parts();
            let State { replicator, in_use: was_in_use, .. } = &mut *state;
            if std::mem::replace(was_in_use, in_use) != in_use {
                replicator.set_downloading(in_use, log, demand, now);
            }
            if core.changed.swap(false, Ordering::AcqRel) {
                replicator.core_changed(log, demand, now);
            }
            if replicator.next_deadline().is_some_and(|deadline| deadline <= now) {
                replicator.handle_timeout(log, demand, now);
            }
            if let Cause::Channel(id) = cause
                && let Some(channel) = self.channels.get(id)
                && channel.open
            {
                let peer = channel.peer;
                let arrived = self.channels.take_arrived(id);
                if !arrived.is_empty() {
                    replicator.handle(peer, arrived, log, demand, now);
                }
                let before = self.connection.pending_transmit();
                let full = loop {
                    let pending = self.connection.pending_transmit();
                    if pending >= TRANSMIT_HIGH || pending.saturating_sub(before) >= TURN {
                        break true;
                    }
                    match replicator.poll_transmit_to(peer, log) {
                        Some(message) => match send(&mut self.connection, id, message) {
                            Ok(true) => {}
                            Ok(false) => break false,
                            Err(error) => {
                                sent = Err(error);
                                break false;
                            }
                        },
                        None => break false,
                    }
                };
                if full {
                    self.channels.queue(id);
                }
            }
            closed
        };
        while let Some(peer) = state.replicator.poll_ready() {
            match self.channels.by_peer(peer) {
                Some(own) => self.channels.queue(own),
                None => {
                    if let Some(link) = state.peers.get(&peer) {
                        link.ready(peer);
                    }
                }
            }
        }
        if let Some(deadline) = state.replicator.next_deadline()
            && state.alarm.is_none_or(|(at, _)| deadline < at)
        {
            state.alarm = Some((deadline, self.link.id));
            self.timers.insert(deadline, Arc::downgrade(core));
        }
        let mut extensions = Vec::new();
        let mut closing: Vec<(PeerId, bool)> = Vec::new();
        if closed {
            closing.extend(state.peers.keys().map(|peer| (*peer, false)));
        }
        while let Some(event) = state.replicator.poll_event() {
            match event {
                Event::Close { peer, reason } => {
                    if reason.is_misbehaviour() {
                        tracing::warn!(core = %core.discovery_key, ?reason, "the channel of a peer is closed");
                    }
                    closing.push((peer, reason.is_misbehaviour()));
                }
                Event::Extension { name, message, .. } => extensions.push((name, message)),
                Event::StorageFailed { reason, .. } => {
                    tracing::error!(core = %core.discovery_key, reason, "blocks of a peer could not be stored");
                }
                _ => {}
            }
        }
        closing.retain(|(peer, lied)| {
            let link = state.peers.get(peer).filter(|link| link.id != self.link.id);
            if let Some(link) = link {
                link.close_peer(*peer, *lied);
            }
            link.is_none()
        });
        drop(state);
        sent?;
        for (peer, lied) in closing {
            if let Some(own) = self.channels.by_peer(peer) {
                self.finish_channel(own, lied)?;
            }
        }
        if !extensions.is_empty()
            && let Some(sink) = self.hub.extension_sink()
        {
            for (name, message) in extensions {
                sink(&core.discovery_key, &self.remote_public_key, &name, message);
            }
        }
        Ok(())
    }

    /// Sends what is still to be sent, then closes the channel; [`ConnectionEvent::Closed`] does the rest.
    pub(super) fn finish_channel(&mut self, id: ChannelId, lied: bool) -> Result<(), Error> {
        let Some(channel) = self.channels.get(id) else { return Ok(()) };
        let discovery_key = channel.core.discovery_key;
        {
            let mut state = channel.core.state();
            let mut guard = channel.core.hypercore.lock();
            let (log, _) = guard.parts();
            while self.connection.pending_transmit() < TRANSMIT_STOP
                && let Some(message) = state.replicator.poll_transmit_to(channel.peer, log)
                && send(&mut self.connection, id, message)?
            {}
        }
        if lied && !self.channels.ban(discovery_key) {
            tracing::warn!(remote = self.remote_address, "a peer lies about one core after the other");
            self.ending = true;
        }
        self.connection.close(id)
    }
}

/// False when the channel is closed: the event for it is on its way.
fn send(connection: &mut Connection, id: ChannelId, message: Message) -> Result<bool, Error> {
    let request = match &message {
        Message::Data(data) => Some(data.request),
        _ => None,
    };
    match (connection.send(id, message), request) {
        (Ok(()), _) => Ok(true),
        (Err(error), _) if error.is_channel_closed() => Ok(false),
        (Err(Error::MessageTooLarge { len, .. }), Some(request)) => {
            // A block that no peer can ever be sent; asking for it must not cost the connection.
            tracing::error!(len, "a block is too large for a message");
            connection.send(id, Message::NoData(NoData { request, reason: NoData::NOT_AVAILABLE }))?;
            Ok(true)
        }
        (Err(error), _) => Err(error),
    }
}
