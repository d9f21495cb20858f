//! The streams on real sockets: tokio and quinn-udp around the state machines of this crate.
//!
//! A [`Udx`] is one instance: it knows its streams by their local ids, and any of its [`UdxSocket`]s hands packets to
//! them. Every socket has one task, whatever the number of streams on it; it reads in batches (`recvmmsg`, GRO), writes
//! in batches (GSO) and wakes a reader once per burst. Writers transmit on their own thread when a burst has gathered.
//! Where acknowledgements come one by one (npm's remotes), the socket looks once per tick instead of being woken for each.

mod address;
mod core;
mod dispatch;
mod error;
mod handle;
mod inbox;
mod instance;
mod io;
mod moderation;
mod outbox;
mod receive;
mod schedule;
mod socket;
mod socket_task;
mod stream;
mod window;

pub use core::LINGER;
pub use error::{SendError, UdxError};
pub use handle::UdxHandle;
pub use inbox::Datagram;
pub use instance::{StreamOptions, Udx};
pub use socket::{SocketStats, UdxSocket};
pub use stream::{Firewall, UdxStream};
