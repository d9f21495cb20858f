//! What comes back.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use super::Peer;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The number that request and reply share.
    pub tid: u16,
    /// Who answered.
    pub from: Peer,
    /// Us, as they see us.
    pub to: SocketAddr,
    /// With this, what they store for us can be changed for the next few seconds.
    pub token: Option<[u8; 32]>,
    /// Nodes that they know near the target.
    pub closer_nodes: Vec<SocketAddr>,
    /// 0, or one of [`code`](super::code) or of the application's own.
    pub error: u64,
    /// The answer itself.
    pub value: Option<Bytes>,
    /// From (last) sending the request to its answer.
    pub rtt: Duration,
}
