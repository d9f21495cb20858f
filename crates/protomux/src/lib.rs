//! Many protocols over one framed stream, as npm `protomux` 3 speaks it.

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
