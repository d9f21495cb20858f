//! What a connection reports.

use bytes::Bytes;
use hypercore::DiscoveryKey;

use crate::messages::Message;

/// A channel of one [`Connection`](crate::Connection). Never refers to a later channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId {
    pub(super) index: u32,
    pub(super) generation: u32,
}

/// What happened on a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// The encrypted stream stands.
    Handshake {
        /// Identity of the other side.
        remote_public_key: [u8; 32],
        /// Same on both sides, known to nobody else.
        handshake_hash: [u8; 64],
    },
    /// The remote opened a core that has no channel here: answer with [`Connection::open`](crate::Connection::open)
    /// of its key, or with [`Connection::reject`](crate::Connection::reject).
    DiscoveryKey(DiscoveryKey),
    /// Both sides opened the core and the remote proved that it knows the key.
    Opened {
        /// The channel.
        channel: ChannelId,
        /// Which core.
        discovery_key: DiscoveryKey,
        /// The remote understands requests with a seek.
        seeks: bool,
    },
    /// A message on the channel of a core.
    Message {
        /// The channel.
        channel: ChannelId,
        /// What the remote said.
        message: Message,
    },
    /// The channel of a core was closed, or never came to be. Comes once for every channel.
    Closed {
        /// The channel.
        channel: ChannelId,
        /// Which core.
        discovery_key: DiscoveryKey,
        /// Who closed it, or what was wrong.
        reason: CloseReason,
    },
    /// The remote opened a protocol that was announced with
    /// [`Connection::expect_protocol`](crate::Connection::expect_protocol).
    RemoteProtocol {
        /// Name of the protocol.
        protocol: String,
        /// Which one of that name.
        id: Option<Bytes>,
        /// The remote's handshake, as it stands.
        handshake: Bytes,
    },
    /// Both sides opened a user-defined protocol.
    ProtocolOpened {
        /// The channel.
        channel: ChannelId,
        /// The remote's handshake, as it stands.
        handshake: Bytes,
    },
    /// A message of a user-defined protocol.
    ProtocolMessage {
        /// The channel.
        channel: ChannelId,
        /// Number of the message.
        kind: u32,
        /// The message.
        payload: Bytes,
    },
    /// The channel of a user-defined protocol was closed, or never came to be.
    ProtocolClosed {
        /// The channel.
        channel: ChannelId,
        /// Who closed it.
        reason: CloseReason,
    },
    /// The remote ended the stream in an orderly way. Channels are gone without further events.
    Ended,
}

/// Who closed a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// This side.
    Local,
    /// The remote; also when it does not know the core.
    Remote,
    /// The remote knew the discovery key but could not prove that it knows the key.
    InvalidCapability,
}
