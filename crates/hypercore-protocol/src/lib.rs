//! Channels for Hypercore keys over an encrypted stream, and the Hypercore wire messages, as the peers of npm
//! `hypercore` 11.37.1 speak them.
//!
//! Three layers, each usable alone:
//!
//! - [`messages`]: what peers say about a core, and the bytes for it.
//! - [`Connection`]: a state machine without I/O. Bytes and commands go in; events, bytes and the next deadline
//!   come out. Inside are the Noise handshake and encryption (`secret-stream`), the multiplexer (`protomux`) and a
//!   channel for every core that both sides have opened.
//! - [`Protocol`]: the same over any futures `AsyncRead + AsyncWrite`, as a stream of [`Event`]s.
//!
//! A channel is found by the discovery key, which says nothing about the key. It opens when both sides know the
//! key; each proves it with a value that is derived from the key and from this connection's handshake, so that
//! neither a listener nor a remote who only knows the discovery key can.
//!
//! ```
//! use futures::StreamExt;
//! use hypercore::Key;
//! use hypercore_protocol::messages::{Message, Synchronize};
//! use hypercore_protocol::{Error, Event, Protocol, ProtocolBuilder};
//! use tokio_util::compat::TokioAsyncReadCompatExt;
//!
//! async fn talk(mut protocol: Protocol, key: Key, length: u64) -> Result<u64, Error> {
//!     protocol.open(key).await?;
//!     while let Some(event) = protocol.next().await {
//!         let Event::Channel(mut channel) = event? else { continue };
//!         channel.send(Message::Synchronize(Synchronize { length, ..Default::default() })).await?;
//!         // The protocol moves only while it is polled.
//!         let driver = tokio::spawn(async move { while protocol.next().await.is_some() {} });
//!         let answer = channel.next().await;
//!         driver.abort();
//!         return match answer {
//!             Some(Message::Synchronize(remote)) => Ok(remote.length),
//!             _ => Err(Error::Ended),
//!         };
//!     }
//!     Err(Error::Ended)
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Error> {
//! let (a, b) = tokio::io::duplex(64 * 1024);
//! let a = ProtocolBuilder::new(true).connect(a.compat())?;
//! let b = ProtocolBuilder::new(false).connect(b.compat())?;
//! let key = Key::from([7; 32]);
//! let b = tokio::spawn(talk(b, key, 20));
//! assert_eq!(talk(a, key, 10).await?, 20);
//! # drop(b);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod capability;
mod codec;
mod connection;
mod error;
mod handshake;
pub mod messages;
mod protocol;

pub use codec::{EncodedMessage, MAX_EXTENSION_NAME, SEPARATE_PART_MIN};
pub use connection::{
    ChannelId, CloseReason, Connection, ConnectionEvent, ConnectionOptions, HandshakenOptions, MAX_MESSAGE,
    NoiseOptions, PROTOCOL, PROTOCOL_ALIAS, SecretHandshake, TransportOptions,
};
pub use error::Error;
pub use handshake::ChannelHandshake;
pub use messages::{Kind, Message};
pub use protocol::{Channel, Commands, Event, Protocol, ProtocolBuilder, ProtocolExtension};
pub use secret_stream::{KeyPair, Pattern, noise::HandshakeResult};
