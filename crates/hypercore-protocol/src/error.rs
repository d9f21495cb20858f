//! What can go wrong on a connection.

use compact_codec::DecodeError;

use crate::messages::Kind;

/// Why a connection stopped, or refused a call.
///
/// What [`Connection::receive`](crate::Connection::receive), `poll_event`, `poll_transmit` and `handle_timeout`
/// return ends the connection: close the transport below it. What the other calls return leaves it as it was.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The encrypted stream failed.
    #[error("encrypted stream: {0}")]
    Stream(#[from] secret_stream::Error),
    /// The remote broke the rules of the multiplexer.
    #[error("multiplexer: {0}")]
    Mux(#[from] protomux::Error),
    /// A message of the remote cannot be read.
    #[error("the remote sent a {kind:?} message that cannot be read: {source}")]
    BadMessage {
        /// Which message.
        kind: Kind,
        /// What is wrong with it.
        source: DecodeError,
    },
    /// There is no such channel (any more).
    #[error("the channel is closed")]
    UnknownChannel,
    /// The core already has a channel on this connection.
    #[error("a channel for this key is already open on this connection")]
    AlreadyOpen,
    /// Too many channels are open on this connection.
    #[error("{limit} channels are open on this connection; close some, or raise `max_channels`")]
    TooManyChannels {
        /// The limit.
        limit: usize,
    },
    /// A message does not fit into one frame of the encrypted stream.
    #[error("a {kind:?} message of {len} bytes exceeds the {limit} that one message may have")]
    MessageTooLarge {
        /// Which message.
        kind: Kind,
        /// Its encoded size.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// The name of an extension is too long.
    #[error("an extension name may have at most {limit} bytes")]
    ExtensionNameTooLong {
        /// The limit.
        limit: u64,
    },
    /// The connection works on bytes and got a message, or the other way round.
    #[error("this connection was set up for {expected}; use the other receive function")]
    WrongInput {
        /// What it was set up for.
        expected: &'static str,
    },
    /// The input or output below failed.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// The protocol, or the connection below it, has ended.
    #[error("the connection has ended")]
    Ended,
}

impl Error {
    /// True when a channel is closed, which the remote may do at any time.
    pub fn is_channel_closed(&self) -> bool {
        matches!(self, Error::UnknownChannel | Error::Mux(protomux::Error::ChannelClosed))
    }
}
