//! An encrypted, authenticated stream of messages over any ordered transport, as npm
//! `@hyperswarm/secret-stream` 6 speaks it.
//!
//! Two sides that each have an Ed25519 key pair prove their keys to each other with a [Noise](noise) handshake
//! and then exchange messages of up to 16 MiB, each sealed with libsodium's secretstream. The wire:
//!
//! ```text
//! every frame      length: 3 bytes, little endian | that many bytes
//! frames 1..2 or 3 Noise handshake messages with empty payload (IK: 2, XX: 3)
//! next, each side  stream id: 32 bytes | secretstream header: 24 bytes
//! all others       secretstream message: tag byte | text | 16 bytes of authentication
//! ```
//!
//! [`SecretStream`] does no I/O and has no clock. Here two of them talk through plain memory:
//!
//! ```
//! use secret_stream::{Config, Event, KeyPair, SecretStream};
//! use std::time::Instant;
//!
//! let now = Instant::now();
//! let alice = KeyPair::generate();
//! let mut a = SecretStream::new(Config::new(true, alice.clone()), now)?;
//! let mut b = SecretStream::new(Config::new(false, KeyPair::generate()), now)?;
//! a.send(b"kept until the handshake is over")?;
//! loop {
//!     let (to_b, to_a) = (a.poll_transmit(), b.poll_transmit());
//!     if to_b.is_none() && to_a.is_none() {
//!         break;
//!     }
//!     b.receive(&to_b.unwrap_or_default(), now)?;
//!     a.receive(&to_a.unwrap_or_default(), now)?;
//! }
//! assert!(matches!(b.poll_event(), Some(Event::Connected { remote_public_key, .. }) if remote_public_key == alice.public));
//! assert!(matches!(b.poll_event(), Some(Event::Message(text)) if text == &b"kept until the handshake is over"[..]));
//! # Ok::<(), secret_stream::Error>(())
//! ```

#![forbid(unsafe_code)]

mod cipher;
mod datagram;
mod error;
mod frame;
mod key_pair;
#[cfg(test)]
mod known_answers;
mod namespace;
pub mod noise;
mod output;
mod stream;
mod timers;

pub use error::Error;
pub use key_pair::KeyPair;
pub use noise::Pattern;
pub use stream::{Config, Event, MAX_MESSAGE, SecretStream};
