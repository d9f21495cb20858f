//! Reliable, congestion-controlled streams over UDP, as npm udx-native speaks them.
//!
//! Two layers. [`StreamState`] is one stream without any I/O: datagrams, commands and the time go in; datagrams, bytes,
//! events and the next deadline come out. The driver beside it owns the sockets and the clock.
//!
//! The wire is that of udx-native 1.21 (libudx): the facts are in [`packet`] and where they are used.

#![forbid(unsafe_code)]

mod driver;
pub mod packet;
pub mod stream;

pub use driver::{
    Datagram, Firewall, LINGER, SendError, SocketStats, StreamOptions, Udx, UdxError, UdxHandle, UdxSocket,
    UdxStream,
};
pub use packet::Packet;
pub use stream::{CloseReason, Config, Event, Path, Stats, StreamState, Transmit};
