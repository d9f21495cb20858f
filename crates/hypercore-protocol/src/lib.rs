//! Channels for Hypercore keys over an encrypted stream, and the Hypercore wire messages.

#![forbid(unsafe_code)]

mod capability;
mod codec;
mod connection;
mod error;
mod handshake;
pub mod messages;

pub use codec::{EncodedMessage, MAX_EXTENSION_NAME, SEPARATE_PART_MIN};
pub use connection::{
    ChannelId, CloseReason, Connection, ConnectionEvent, ConnectionOptions, MAX_MESSAGE, NoiseOptions,
    PROTOCOL, PROTOCOL_ALIAS, SecretHandshake, TransportOptions,
};
pub use error::Error;
pub use handshake::ChannelHandshake;
pub use messages::{Kind, Message};
