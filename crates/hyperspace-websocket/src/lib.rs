//! The byte stream of HRPC in the messages of a WebSocket (RFC 6455).
//!
//! Both sides send binary messages; together, in their order, they are one stream of bytes in each direction, and
//! where one message ends and the next begins means nothing. [`WsStream`] is that stream, as [`AsyncRead`] and
//! [`AsyncWrite`], over any connection; [`accept`] and [`connect`] make one. The frames themselves are tokio-tungstenite's
//! work.
//!
//! A browser lets every page connect to every address that it reaches, those of this machine included, and tells in
//! the header `Origin` whose page it is: [`Origins`] says which may. That keeps pages out, not programs, which say
//! whatever they like; who may come in is for the stream's user to find out, before [`WsStream::admitted`].
//!
//! ```
//! use hyperspace_websocket::{Close, Origins, accept, connect};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let (near, far) = tokio::io::duplex(1000);
//! let origins = Origins::default();
//! let (client, server) = tokio::join!(connect(near, "ws://127.0.0.1:9001"), accept(far, &origins));
//! let (mut client, mut server) = (client?, server?);
//!
//! client.write_all(b"hello").await?;
//! client.flush().await?;
//! let mut heard = [0; 5];
//! server.read_exact(&mut heard).await?;
//! assert_eq!(&heard, b"hello");
//!
//! let (_, said) = tokio::join!(server.finish(Close::normal("that is all")), client.read(&mut heard));
//! assert_eq!(said?, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```
//!
//! [`AsyncRead`]: tokio::io::AsyncRead
//! [`AsyncWrite`]: tokio::io::AsyncWrite

mod answers;
mod close;
mod gate;
mod handshake;
mod heartbeat;
mod origins;
mod stream;

pub use close::Close;
pub use handshake::{HandshakeError, SUBPROTOCOL, accept, connect};
pub use origins::{OriginError, Origins};
pub use stream::{MAX_MESSAGE, WsStream};
