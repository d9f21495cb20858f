use compact_codec::DecodeError;

/// Why a call or a message of the remote was refused.
///
/// Errors of [`receive`](crate::Protomux::receive) and [`poll_event`](crate::Protomux::poll_event) mean that the two sides no longer agree on what is open: the
/// stream below should be closed, as the JS peers do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A message of the remote could not be decoded.
    #[error("message of the remote: {0}")]
    Decode(#[from] DecodeError),
    /// The remote opened a channel with an id that is in use or skips ids.
    #[error("the remote opened a channel with the id {remote_id}, which is in use or out of order")]
    InvalidOpen {
        /// The id the remote gave.
        remote_id: u64,
    },
    /// The remote rejected a channel that waits for no answer.
    #[error("the remote rejected the channel {local_id}, which waits for no answer")]
    InvalidReject {
        /// The id this side gave.
        local_id: u64,
    },
    /// Batches inside batches inside batches.
    #[error("a batch of the remote nests deeper than {limit}")]
    BatchTooDeep {
        /// The deepest that is accepted.
        limit: usize,
    },
    /// The remote opened more channels than this side keeps track of.
    #[error("the remote has {limit} channels open, the most this side keeps track of")]
    TooManyRemoteChannels {
        /// The configured limit.
        limit: usize,
    },
    /// The remote opened more channels than wait for an answer here.
    #[error("{limit} channels of the remote already wait for an answer; answer every RemoteOpen event")]
    TooManyPendingOpens {
        /// The configured limit.
        limit: usize,
    },
    /// The remote sent too much to channels that wait for an answer.
    #[error(
        "{buffered} bytes of the remote already wait for channels to be answered, the limit is {limit}; stop \
         receiving while is_paused()"
    )]
    TooMuchPending {
        /// Bytes waiting.
        buffered: usize,
        /// The configured limit.
        limit: usize,
    },
    /// More of the remote waits for events to be polled than is kept.
    #[error(
        "{unread} bytes of the remote already wait, the limit is {limit}; poll all events after every message"
    )]
    TooMuchUnread {
        /// Bytes waiting.
        unread: usize,
        /// The configured limit.
        limit: usize,
    },
    /// All ids of channels are in use.
    #[error("no more channels can be opened on this connection; close some")]
    TooManyChannels,
    /// A channel for this protocol and id is open already and `unique` was asked for.
    #[error("a channel for {protocol} with this id is open already")]
    AlreadyOpen {
        /// The protocol.
        protocol: String,
    },
    /// The channel was closed, here or by the remote.
    #[error("the channel is closed")]
    ChannelClosed,
    /// One message is longer than a message of the stream below can be.
    #[error("message of {len} bytes exceeds the {limit} that one message of the stream can carry; split it")]
    MessageTooLarge {
        /// Its length, framing included.
        len: usize,
        /// The longest message.
        limit: usize,
    },
    /// Too much waits to be taken by the stream below.
    #[error("{queued} bytes wait for the stream, the limit is {limit}; take them with poll_transmit first")]
    TransmitFull {
        /// Bytes waiting.
        queued: usize,
        /// The configured limit.
        limit: usize,
    },
}
