use crate::noise::NoiseError;

/// Why a secret stream stopped, or refused a call.
///
/// Everything except [`Error::MessageTooLarge`], [`Error::QueueFull`] and [`Error::TransmitFull`] ends the
/// stream: the transport below it should be closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The Noise handshake could not be set up or a handshake message was refused.
    #[error(
        "Noise handshake failed: {0}; check that both sides use the same pattern and the expected public key"
    )]
    Handshake(#[from] NoiseError),
    /// A handshake frame is longer than a Noise message can be.
    #[error(
        "handshake frame of {len} bytes exceeds the limit of {limit}; the remote does not speak this protocol"
    )]
    HandshakeFrameTooLarge {
        /// Length in the frame header.
        len: usize,
        /// The most that is accepted.
        limit: usize,
    },
    /// The frame that opens the encrypted part has the wrong length.
    #[error("stream header of {len} bytes, expected {expected}; the remote does not speak this protocol")]
    InvalidHeaderLength {
        /// Length in the frame header.
        len: usize,
        /// The only length there is.
        expected: usize,
    },
    /// The stream id in the remote's header is not the one this handshake gives.
    #[error("the remote's stream header belongs to another handshake")]
    InvalidHeader,
    /// An encrypted frame is too short to hold even an empty message.
    #[error("encrypted frame of {len} bytes is shorter than the {minimum} an empty message takes")]
    FrameTooShort {
        /// Length in the frame header.
        len: usize,
        /// The least that is accepted.
        minimum: usize,
    },
    /// A frame did not authenticate: it was changed, repeated, dropped or reordered on the way.
    #[error("encrypted frame {index} did not authenticate; the bytes were changed on the way")]
    Authentication {
        /// Which frame since the handshake, counted from 0.
        index: u64,
    },
    /// The transport ended inside a frame or before the handshake was over.
    #[error("the transport ended {at}")]
    Truncated {
        /// Where it ended.
        at: &'static str,
    },
    /// Nothing arrived for the configured time.
    #[error("nothing arrived from the remote within the timeout")]
    TimedOut,
    /// A message is longer than one frame can carry.
    #[error("message of {len} bytes exceeds the {limit} that fit in one frame; split it")]
    MessageTooLarge {
        /// Length of the message.
        len: usize,
        /// The longest message.
        limit: usize,
    },
    /// Too much was sent before the handshake was over.
    #[error(
        "{queued} bytes already wait for the handshake, the limit is {limit}; send after the Connected event"
    )]
    QueueFull {
        /// Bytes waiting.
        queued: usize,
        /// The configured limit.
        limit: usize,
    },
    /// Too much waits to be taken by the transport.
    #[error(
        "{pending} encrypted bytes wait for the transport, the limit is {limit}; take them with poll_transmit first"
    )]
    TransmitFull {
        /// Bytes waiting.
        pending: usize,
        /// The configured limit.
        limit: usize,
    },
    /// The stream has ended or failed before.
    #[error("the stream is closed")]
    Closed,
}
