use bytes::Bytes;

/// Names a channel of one [`Protomux`](crate::Protomux). It never comes to mean a later channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// What to open with [`Protomux::open`](crate::Protomux::open).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOptions {
    /// Name of the protocol, such as `hypercore/alpha`.
    pub protocol: String,
    /// Which of the protocol's things the channel is about; an empty id is none.
    pub id: Option<Bytes>,
    /// Other names under which the remote may open the same protocol.
    pub aliases: Vec<String>,
    /// Sent along, already encoded.
    pub handshake: Option<Bytes>,
    /// Refuse when a channel for the same protocol and id is open on this side.
    pub unique: bool,
    /// How many kinds of message the protocol has; others are ignored, as the JS peers ignore them.
    pub messages: u32,
}

impl OpenOptions {
    /// A unique channel with any kinds of message, without id, aliases and handshake.
    pub fn new(protocol: impl Into<String>) -> Self {
        Self {
            protocol: protocol.into(),
            id: None,
            aliases: Vec::new(),
            handshake: None,
            unique: true,
            messages: u32::MAX,
        }
    }
}

/// What happened on a [`Protomux`](crate::Protomux).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The remote opened a channel that this side has not opened. To be answered once, with
    /// [`open`](crate::Protomux::open) for the same protocol and id or with
    /// [`reject`](crate::Protomux::reject).
    RemoteOpen {
        /// The protocol's name as the remote gave it.
        protocol: String,
        /// The id, if any.
        id: Option<Bytes>,
        /// What the remote sent along, still encoded.
        handshake: Bytes,
    },
    /// Both sides have opened the channel.
    Opened {
        /// The channel.
        channel: ChannelId,
        /// What the remote sent along, still encoded.
        handshake: Bytes,
    },
    /// A message of the remote.
    Message {
        /// The channel.
        channel: ChannelId,
        /// Which of the protocol's kinds of message it is.
        kind: u32,
        /// The message, still encoded.
        payload: Bytes,
    },
    /// The channel is gone. Comes once for every channel, after all its other events.
    Closed {
        /// The channel.
        channel: ChannelId,
        /// True when the remote closed or rejected it, false after [`close`](crate::Protomux::close).
        is_remote: bool,
    },
}
