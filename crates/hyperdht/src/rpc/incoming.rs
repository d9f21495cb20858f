//! Requests that others make of the application.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::Notify;
use udx::UdxSocket;

use super::driver::Shared;
use super::line::Line;
use super::node::{Answer, Incoming};
use super::sender::Sender;
use super::{NodeId, Peer, ReplyOptions, code};

/// The requests that are not dht-rpc's own: those of each host in order of arrival, the hosts taking turns. They are
/// answered with [`UNKNOWN_COMMAND`](super::code::UNKNOWN_COMMAND) once this is dropped.
#[derive(Debug)]
pub struct Requests {
    room: Arc<WaitingRoom>,
}

impl Requests {
    pub(super) fn new(room: Arc<WaitingRoom>) -> Self {
        Self { room }
    }

    /// The next one; `None` once the node is closed.
    ///
    /// What is not taken in time is dropped (beyond [`REQUESTS_WAITING`]), as the network may drop any datagram: first of
    /// all what hosts ask of whom the most is waiting. On the loopback network each socket counts as a host.
    pub async fn next(&mut self) -> Option<Request> {
        // In a flood there is always something, and other tasks want their turn.
        tokio::task::coop::consume_budget().await;
        loop {
            {
                let mut inside = self.room.inside();
                if let Some(request) = inside.line.pop() {
                    return Some(request);
                }
                if !inside.entrance {
                    return None;
                }
            }
            self.room.arrived.notified().await;
        }
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        let mut inside = self.room.inside();
        inside.exit = false;
        inside.line = Line::new(REQUESTS_WAITING);
    }
}

/// Requests that wait to be taken from [`Requests`].
pub const REQUESTS_WAITING: usize = 1024;

/// Between the node and its [`Requests`].
#[derive(Debug)]
pub(crate) struct WaitingRoom {
    inside: Mutex<Inside>,
    arrived: Notify,
}

#[derive(Debug)]
struct Inside {
    line: Line<Request>,
    /// The node runs.
    entrance: bool,
    /// There are [`Requests`].
    exit: bool,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entered {
    Waits,
    /// It, or another one, was dropped.
    Full,
    /// Nobody takes requests.
    Closed,
}

impl WaitingRoom {
    pub(super) fn new() -> Arc<Self> {
        let inside = Inside { line: Line::new(REQUESTS_WAITING), entrance: true, exit: true };
        Arc::new(Self { inside: Mutex::new(inside), arrived: Notify::new() })
    }

    pub(super) fn enter(&self, request: Request) -> Entered {
        let mut inside = self.inside();
        if !inside.entrance || !inside.exit {
            return Entered::Closed;
        }
        let fits = inside.line.push(Sender::of(request.from.addr), request);
        drop(inside);
        self.arrived.notify_one();
        if fits { Entered::Waits } else { Entered::Full }
    }

    /// Nothing comes any more.
    pub(super) fn close(&self) {
        self.inside().entrance = false;
        self.arrived.notify_one();
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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
    came_to: super::Socket,
    node: Weak<Shared>,
}

impl Request {
    pub(super) fn new(incoming: Incoming, socket: UdxSocket, node: Weak<Shared>) -> Self {
        let Incoming { from, to, tid, socket: came_to, command, target, value, token } = incoming;
        Self { from, to, command, target, value, token, tid, socket, came_to, node }
    }

    /// Answers.
    pub fn reply(&self, value: Option<Bytes>, options: ReplyOptions) {
        self.answer(code::OK, value, options);
    }

    /// Answers that it went wrong. dht-rpc gives closer nodes, and no token, by default:
    /// [`ReplyOptions::for_errors`].
    pub fn error(&self, code: u64, options: ReplyOptions) {
        self.answer(code, None, options);
    }

    /// Answers that nobody here knows this command.
    pub fn unknown_command(&self) {
        self.error(code::UNKNOWN_COMMAND, ReplyOptions::for_errors());
    }

    /// Passes the request on with another value: same number, same command and target, so that whoever answers in the end
    /// can do so through us, and we need not remember anything.
    pub fn relay(&self, value: Option<Bytes>, to: SocketAddr, socket: Option<&UdxSocket>) {
        let Some(shared) = self.node.upgrade() else { return };
        shared.with(|state, _| {
            let socket = match socket {
                Some(socket) => state.sockets.find(socket),
                None => Some(self.came_to),
            };
            let incoming = Incoming {
                from: self.from,
                to: self.to,
                tid: self.tid,
                socket: self.came_to,
                command: self.command,
                target: self.target,
                value: None,
                token: None,
            };
            let sent = match socket {
                Some(socket) => state.node.relay(&incoming, value, to, socket),
                None => Err(super::RpcError::NotAttached),
            };
            if let Err(err) = sent {
                tracing::debug!(%to, %err, "a request was not relayed");
            }
        });
    }

    fn answer(&self, error: u64, value: Option<Bytes>, options: ReplyOptions) {
        let Some(shared) = self.node.upgrade() else { return };
        let ReplyOptions { closer_nodes, token, to, socket } = options;
        let to = to.unwrap_or(self.from.addr);
        let closer_to = if closer_nodes { self.target } else { None };
        shared.with(|state, now| {
            let socket = match &socket {
                Some(socket) => state.sockets.find(socket),
                None => Some(self.came_to),
            };
            let sent = match socket {
                Some(socket) => state
                    .node
                    .reply(now, Answer { to, socket, tid: self.tid, error, value, closer_to, token }),
                None => Err(super::RpcError::NotAttached),
            };
            if let Err(err) = sent {
                tracing::debug!(%to, %err, "a request was not answered");
            }
        });
    }
}
