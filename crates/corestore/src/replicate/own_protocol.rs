//! A protocol of the owner's own, beside the cores, on every connection.
//!
//! It is a channel without an id (see `protomux`), which each side opens when its owner says so; a remote that does not
//! speak the protocol rejects it and notices nothing more. Its messages are of kind 0 and mean what the owners agree on.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use hypercore_protocol::{ChannelId, Connection, Error};

use super::link::Link;

/// Messages that wait for a connection to take them, or for the remote to open its side; and their bytes. Further ones
/// are lost.
const MAX_WAITING: usize = 1024;
const MAX_WAITING_BYTES: usize = 16 << 20;
/// The only kind of message.
const MESSAGE: u32 = 0;

/// Called with what remotes say in the owner's own protocol: remote public key, message. Must be quick.
pub type ProtocolSink = dyn Fn(&[u8; 32], Bytes) + Send + Sync;

/// A protocol of the owner's own.
#[derive(Clone)]
pub struct OwnProtocol {
    /// The name that both sides know it by.
    pub name: String,
    /// Who gets what remotes say.
    pub sink: Arc<ProtocolSink>,
}

impl fmt::Debug for OwnProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnProtocol").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What waits to go out on one connection.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    messages: VecDeque<Bytes>,
    bytes: usize,
    refused: bool,
}

impl Outgoing {
    pub(super) fn push(&mut self, message: Bytes) -> bool {
        let bytes = self.bytes.saturating_add(message.len());
        if self.refused || self.messages.len() >= MAX_WAITING || bytes > MAX_WAITING_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.messages.push_back(message);
        true
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let message = self.messages.pop_front()?;
        self.bytes = self.bytes.saturating_sub(message.len());
        Some(message)
    }

    pub(super) fn refuse(&mut self) {
        *self = Self { refused: true, ..Self::default() };
    }
}

/// The protocol's channel on one connection.
pub(super) struct OwnChannel {
    protocol: Option<OwnProtocol>,
    phase: Phase,
    /// Something may wait to be sent.
    unsent: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The owner has not said that it is to be offered. A remote that offers it waits.
    Idle,
    Offered(ChannelId),
    Open(ChannelId),
    /// The remote does not speak it, or has ended it.
    Over,
}

impl OwnChannel {
    pub(super) fn new(protocol: Option<OwnProtocol>, connection: &mut Connection) -> Self {
        if let Some(protocol) = &protocol {
            connection.expect_protocol(&protocol.name);
        }
        Self { protocol, phase: Phase::Idle, unsent: false }
    }

    /// The owner wants it offered, or has something to send.
    pub(super) fn wanted(&mut self, connection: &mut Connection) -> Result<(), Error> {
        let Some(protocol) = &self.protocol else { return Ok(()) };
        self.unsent = true;
        if self.phase == Phase::Idle {
            self.phase = Phase::Offered(connection.open_protocol(&protocol.name, None, None)?);
            // It has answered the first that the remote opened, and there is only one.
            connection.reject_protocol(&protocol.name, None)?;
        }
        Ok(())
    }

    /// The remote offers it: that is answered when the owner wants it, too. There is one at a time, and only one.
    pub(super) fn on_remote(
        &self,
        protocol: &str,
        id: Option<&[u8]>,
        connection: &mut Connection,
    ) -> Result<(), Error> {
        if self.phase == Phase::Idle && id.is_none_or(<[u8]>::is_empty) {
            return Ok(());
        }
        connection.reject_protocol(protocol, id)
    }

    pub(super) fn on_opened(&mut self, channel: ChannelId) {
        if self.phase == Phase::Offered(channel) {
            self.phase = Phase::Open(channel);
        }
    }

    pub(super) fn on_message(&self, kind: u32, remote_public_key: &[u8; 32], message: Bytes) {
        if kind == MESSAGE
            && let Some(protocol) = &self.protocol
        {
            (protocol.sink)(remote_public_key, message);
        }
    }

    pub(super) fn on_closed(&mut self, channel: ChannelId, link: &Link) {
        if matches!(self.phase, Phase::Offered(own) | Phase::Open(own) if own == channel) {
            self.phase = Phase::Over;
            link.refuse_own_protocol();
        }
    }

    /// There is something to send, and a channel for it.
    pub(super) fn has_unsent(&self) -> bool {
        self.unsent && matches!(self.phase, Phase::Open(_))
    }

    /// Sends the next message. False when there is none.
    pub(super) fn send_next(&mut self, link: &Link, connection: &mut Connection) -> Result<bool, Error> {
        let Phase::Open(channel) = self.phase else { return Ok(false) };
        let Some(message) = link.next_own_protocol() else {
            self.unsent = false;
            return Ok(false);
        };
        match connection.send_protocol(channel, MESSAGE, &message) {
            Err(error) if error.is_channel_closed() => {
                // The event for it is on its way.
                self.unsent = false;
                Ok(false)
            }
            sent => sent.map(|()| true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_bounded_and_is_gone_once_it_is_refused() {
        let mut outgoing = Outgoing::default();
        for _ in 0..MAX_WAITING {
            assert!(outgoing.push(Bytes::from_static(b"x")));
        }
        assert!(!outgoing.push(Bytes::from_static(b"x")));
        assert_eq!(outgoing.pop().unwrap(), "x");
        assert!(!outgoing.push(vec![0; MAX_WAITING_BYTES].into()));
        assert!(outgoing.push(Bytes::from_static(b"y")));
        outgoing.refuse();
        assert!(outgoing.pop().is_none() && !outgoing.push(Bytes::new()));
    }
}
