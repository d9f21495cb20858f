//! What can go wrong between a user and the driver.

use std::net::SocketAddr;

use thiserror::Error;

/// Why a stream could not be made, connected, moved or relayed.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UdxError {
    /// The instance has a stream of this id already.
    #[error("stream id {0} is in use in this instance; close that stream first or take a random id")]
    IdInUse(u32),
    /// `connect` on a stream that is connected.
    #[error("stream {0} is connected already; change_remote moves it")]
    AlreadyConnected(u32),
    /// The operation needs a connected stream.
    #[error("stream {0} is not connected yet; connect it first")]
    NotConnected(u32),
    /// The stream is closed or being destroyed.
    #[error("stream {0} is closed")]
    StreamClosed(u32),
    /// The socket is closed or closing.
    #[error("the socket on {0} is closed")]
    SocketClosed(SocketAddr),
    /// Port 0, or an IPv6 address for a socket of IPv4.
    #[error("{0} can not be reached from this socket: port 0, or IPv6 on a socket of IPv4")]
    BadAddress(SocketAddr),
    /// Socket and stream, or two streams, are of different instances.
    #[error("stream {0} and the other side of this call belong to different instances of Udx")]
    OtherInstance(u32),
    /// The system has no random number for the id.
    #[error("no random id for a stream: the system has no randomness; name an id")]
    NoRandomness,
    /// A stream relays to one other stream once and for all.
    #[error("stream {0} is relayed already")]
    AlreadyRelayed(u32),
}

/// Why a datagram or message was not sent.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The kernel takes no more for the moment, and the queue before it is full.
    #[error("the send queue of this socket is full; try again when less is under way")]
    Full,
    /// The socket or stream is closed.
    #[error("closed")]
    Closed,
    /// The stream is not connected.
    #[error("the stream is not connected yet")]
    NotConnected,
    /// Port 0, or an IPv6 address for a socket of IPv4.
    #[error("{0} can not be reached from this socket: port 0, or IPv6 on a socket of IPv4")]
    BadAddress(SocketAddr),
    /// More than one datagram holds.
    #[error("{len} bytes are more than a datagram to this peer holds ({max})")]
    TooLarge {
        /// Bytes that were to be sent.
        len: usize,
        /// Bytes that fit.
        max: usize,
    },
}
