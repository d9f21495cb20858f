//! Requests that others make of the application.

use std::net::SocketAddr;

use super::UdxSocket;
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{NodeId, Peer, ReplyOptions, Rpc};

/// The requests that are not dht-rpc's own, in order of arrival. They are answered with
/// [`UNKNOWN_COMMAND`](super::code::UNKNOWN_COMMAND) once this is dropped.
#[derive(Debug)]
pub struct Requests {
    pub(super) receiver: mpsc::Receiver<Request>,
}

impl Requests {
    /// The next one; `None` once the node is closed.
    ///
    /// What is not taken in time is dropped (beyond [`REQUESTS_WAITING`]), as the network may drop any datagram.
    pub async fn next(&mut self) -> Option<Request> {
        self.receiver.recv().await
    }
}

/// Requests that wait to be taken from [`Requests`].
pub const REQUESTS_WAITING: usize = 1024;

/// Somebody's request. A token in it has been verified already. To drop it is to leave it unanswered.
#[derive(Debug)]
pub struct Request {
    /// Who asks.
    pub from: Peer,
    /// Us, as they address us.
    pub to: SocketAddr,
    /// What they want.
    pub command: u64,
    /// What it is about.
    pub target: Option<NodeId>,
    /// Its argument.
    pub value: Option<Bytes>,
    /// A token that we gave to their host a short while ago; `None` if they sent none.
    pub token: Option<[u8; 32]>,
    /// The number that the reply has to have.
    pub tid: u16,
    /// The socket that it came to.
    pub socket: UdxSocket,
    pub(super) rpc: Rpc,
}

impl Request {
    /// Answers.
    pub fn reply(&self, value: Option<Bytes>, options: ReplyOptions) {
        let _ = (value, options);
        unimplemented!()
    }

    /// Answers that it went wrong. dht-rpc gives closer nodes, and no token, by default.
    pub fn error(&self, code: u64, options: ReplyOptions) {
        let _ = (code, options);
        unimplemented!()
    }

    /// Answers that nobody here knows this command.
    pub fn unknown_command(&self) {
        unimplemented!()
    }

    /// Passes the request on with another value: same number, same target, so that whoever answers in the end can do so
    /// through us, and we need not remember anything.
    pub fn relay(&self, value: Option<Bytes>, to: SocketAddr, socket: Option<&UdxSocket>) {
        let _ = (value, to, socket);
        unimplemented!()
    }
}
