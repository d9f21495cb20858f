//! Many protocols over one stream of messages, as npm `protomux` 3 speaks it.
//!
//! A channel is a protocol's name and an id, such as `hypercore/alpha` and a core's discovery key. Each side opens its
//! half, with a handshake of the protocol's own; once both have, messages go back and forth, each of a numbered kind.
//! One side alone may start: the other then learns what it is asked for and opens as well, or rejects. The wire:
//!
//! ```text
//! message          uint channel of the sender | uint kind | payload
//! on channel 0     kind 1, open:   uint channel | string protocol | buffer id (empty: none) | handshake
//!                  kind 2, reject: uint channel of the receiver
//!                  kind 3, close:  uint channel of the sender
//!                  kind 0, batch:  uint channel, then any number of
//!                                  buffer (uint kind | payload), or
//!                                  0 | uint channel, for the messages that follow
//! ```
//!
//! [`Protomux`] does no I/O: it takes the messages of any stream that keeps them whole and in order (such as
//! `secret-stream`) and gives those to send.
//!
//! ```
//! use bytes::Bytes;
//! use protomux::{Event, OpenOptions, Protomux};
//!
//! /// Hands over everything that waits.
//! fn exchange(a: &mut Protomux, b: &mut Protomux) -> Result<(), protomux::Error> {
//!     while let Some(message) = a.poll_transmit() {
//!         b.receive(message.into_bytes())?;
//!     }
//!     while let Some(message) = b.poll_transmit() {
//!         a.receive(message.into_bytes())?;
//!     }
//!     Ok(())
//! }
//!
//! let (mut a, mut b) = (Protomux::new(), Protomux::new());
//! let options = OpenOptions { id: Some(Bytes::from_static(b"id")), ..OpenOptions::new("greeting") };
//! let ours = a.open(options.clone())?;
//! a.send(ours, 0, b"hello")?;
//! exchange(&mut a, &mut b)?;
//!
//! assert!(matches!(b.poll_event()?, Some(Event::RemoteOpen { protocol, .. }) if protocol == "greeting"));
//! let theirs = b.open(options)?;
//! assert!(matches!(b.poll_event()?, Some(Event::Opened { channel, .. }) if channel == theirs));
//! assert!(matches!(b.poll_event()?, Some(Event::Message { payload, .. }) if payload == &b"hello"[..]));
//!
//! exchange(&mut a, &mut b)?;
//! assert!(matches!(a.poll_event()?, Some(Event::Opened { channel, .. }) if channel == ours));
//! # Ok::<(), protomux::Error>(())
//! ```

#![forbid(unsafe_code)]

mod channel;
mod error;
mod limits;
mod local;
mod mux;
mod outbox;
mod receive;
mod remote;
#[cfg(test)]
mod tests;
mod topics;
mod transmit;

pub use channel::{ChannelId, Event, OpenOptions};
pub use error::Error;
pub use limits::Limits;
pub use mux::Protomux;
pub use transmit::Transmit;
