//! The channel between a blind relay and one of its users, on a connection of its own.

use bytes::Bytes;
use protomux::{ChannelId, Event, Limits, OpenOptions, Protomux};

use super::messages::PROTOCOL;
use crate::Connection;

/// What a peer may have this side keep: a relay's messages have less than a hundred bytes.
const MAX_PENDING: usize = 64 * 1024;
const MAX_CHANNELS: usize = 64;
const MAX_EVENTS: usize = 4096;

/// A connection with one channel of the relay's protocol.
#[derive(Debug)]
pub(super) struct RelayChannel {
    connection: Connection,
    mux: Protomux,
    channel: ChannelId,
}

/// A message of the other side: its kind and bytes.
pub(super) type Received = (u32, Bytes);

impl RelayChannel {
    /// Opens the channel. Both sides name it with the public key of the relay's user.
    pub(super) fn open(connection: Connection) -> Option<Self> {
        let user =
            if connection.is_initiator() { connection.public_key() } else { connection.remote_public_key() };
        let id = Some(Bytes::copy_from_slice(user));
        let mut limits = Limits::default();
        limits.max_pending_bytes = MAX_PENDING;
        limits.max_pending_opens = MAX_CHANNELS;
        limits.max_remote_channels = MAX_CHANNELS;
        limits.max_events = MAX_EVENTS;
        limits.max_queued = MAX_PENDING;
        let mut mux = Protomux::with_limits(limits);
        let channel = mux.open(OpenOptions { id, messages: 2, ..OpenOptions::new(PROTOCOL) }).ok()?;
        Some(Self { connection, mux, channel })
    }

    /// Sends a message with the next [`RelayChannel::next`]; false when the channel is closed.
    pub(super) fn send(&mut self, kind: u32, payload: &[u8]) -> bool {
        self.mux.send(self.channel, kind, payload).is_ok()
    }

    /// The next message; `None` when the channel or the connection is closed. May be cancelled between messages.
    pub(super) async fn next(&mut self) -> Option<Received> {
        loop {
            while let Some(transmit) = self.mux.poll_transmit() {
                self.connection.send(transmit.into_bytes()).await.ok()?;
            }
            match self.mux.poll_event().ok()? {
                Some(Event::Message { channel, kind, payload }) if channel == self.channel => {
                    return Some((kind, payload));
                }
                Some(Event::Closed { channel, .. }) if channel == self.channel => return None,
                Some(Event::RemoteOpen { protocol, id, .. }) => {
                    self.mux.reject(&protocol, id.as_deref()).ok()?;
                }
                Some(_) => {}
                None => {
                    let message = self.connection.recv().await?.ok()?;
                    self.mux.receive(message).ok()?;
                }
            }
        }
    }
}
