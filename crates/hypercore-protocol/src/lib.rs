//! Channels for Hypercore keys over an encrypted stream, and the Hypercore wire messages.

mod codec;
mod handshake;
pub mod messages;

pub use codec::{EncodedMessage, MAX_EXTENSION_NAME, SEPARATE_PART_MIN};
pub use handshake::ChannelHandshake;
pub use messages::{Kind, Message};
