//! Reliable, congestion-controlled streams over UDP, as npm udx-native speaks them.
//!
//! Two layers. [`StreamState`] is one stream without any I/O: datagrams, commands and the time go in; datagrams, bytes,
//! events and the next deadline come out. The driver beside it owns the sockets and the clock.
//!
//! The wire is that of udx-native 1.21 (libudx): the facts are in [`packet`] and where they are used.
//!
//! Two streams, joined without a network:
//!
//! ```
//! use std::time::Instant;
//!
//! use bytes::Bytes;
//! use udx::{Config, Packet, Path, StreamState};
//!
//! let now = Instant::now();
//! let path = |remote_id| Path { remote_id, remote: ([127, 0, 0, 1], 4000).into(), socket: 0, link_mtu: None };
//! let (mut a, mut b) = (StreamState::new(1, Config::default(), now), StreamState::new(2, Config::default(), now));
//! a.connect(path(2), now);
//! b.connect(path(1), now);
//!
//! a.write(Bytes::from_static(b"hello"));
//! a.finish();
//! let mut batch = Vec::new();
//! while let Some(transmit) = a.poll_transmit(now, 10, &mut batch) {
//!     let datagrams = Bytes::from(std::mem::take(&mut batch));
//!     for at in (0..transmit.size).step_by(transmit.segment_size) {
//!         let datagram = datagrams.slice(at..transmit.size.min(at + transmit.segment_size));
//!         b.receive(Packet::decode(datagram).expect("a UDX packet"), now);
//!     }
//! }
//! assert_eq!(b.read().as_deref(), Some(&b"hello"[..]));
//! assert!(b.read_ended());
//! ```

#![forbid(unsafe_code)]

mod congestion;
mod driver;
mod filter;
pub mod packet;
mod ranges;
mod seq;
pub mod stream;

pub use driver::{
    Datagram, Firewall, LINGER, SendError, SocketStats, StreamOptions, Udx, UdxError, UdxHandle, UdxSocket,
    UdxStream,
};
pub use packet::Packet;
pub use stream::{CloseReason, Config, Event, MessageError, Path, Stats, StreamState, Transmit};
