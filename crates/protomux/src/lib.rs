//! Many protocols over one framed stream, as npm `protomux` 3 speaks it.

#![forbid(unsafe_code)]

mod channel;
mod error;
mod mux;
mod transmit;

pub use channel::{ChannelId, Event, OpenOptions};
pub use error::Error;
pub use mux::{Limits, Protomux};
pub use transmit::Transmit;
