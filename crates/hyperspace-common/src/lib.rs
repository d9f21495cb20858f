//! What the Hyperspace daemon and its clients share: the RPC schema, HRPC framing, socket names, and when the one waits
//! awake for the other ([`Vigil`]).
//!
//! The protocol is that of npm `@hyperspace/rpc` 1.15 over npm `arpeecee` (the package behind `hrpc-runtime` 2):
//! one stream of length-prefixed frames in each direction, every frame a request, an answer or an error
//! ([`frame`]), their payloads protobuf messages ([`messages`]). Nothing here does I/O: a connection is whatever
//! carries the bytes.
//!
//! ```
//! use hyperspace_common::{Decoder, Header, Method, Outbox, decode, messages::HasRequest};
//!
//! // A client asks whether session 2 has block 129...
//! let mut outbox = Outbox::new();
//! outbox.request(Method::HypercoreHas, 11, &HasRequest { id: 2, seq: 129 });
//! let bytes = outbox.take();
//!
//! // ...and the other side reads it.
//! let frame = Decoder::default().next(&bytes)?.expect("a whole frame");
//! assert_eq!(frame.header, Header::request(Method::HypercoreHas, 11));
//! let request: HasRequest = decode(&bytes[frame.payload])?;
//! assert_eq!((request.id, request.seq), (2, 129));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod frame;
pub mod messages;

mod access;
mod endpoint;
mod error;
mod keepalive;
mod method;
mod outbox;
mod required;
mod vigil;

pub use access::{AccessToken, AccessTokenError, MAX_TOKEN, MIN_TOKEN, TOKEN_VARIABLE};
pub use endpoint::{DEFAULT_SOCKET_NAME, Endpoint, EndpointError, SOCKET_VARIABLE};
pub use error::{RpcErrorExt, code, text};
pub use frame::{DEFAULT_MAX_FRAME, Decoder, Frame, FrameError, Header, Kind};
pub use keepalive::{KEEPALIVE_AFTER, KEEPALIVE_EVERY, KEEPALIVE_QUESTIONS};
pub use messages::RpcError;
pub use method::{Method, Service};
pub use outbox::Outbox;
pub use prost::Message;
pub use required::{DecodeError, Required, decode};
pub use vigil::Vigil;

/// The version of npm `@hyperspace/rpc` whose schema this crate speaks; that of 1.15.1 is the same.
pub const API_VERSION: &str = "1.15.0";
/// The version of the services of our own. A client calls them only when the daemon's status has it: npm
/// `hyperspace` 3.19.0 ends as a whole when it is asked for a service that it does not know.
pub const ADDITIONAL_VERSION: u32 = 1;
