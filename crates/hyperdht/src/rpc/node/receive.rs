//! What others send us.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::message::{Message, ReplyMessage, RequestMessage, addr_from};
use super::super::peer::canonical;
use super::super::sender::Sender;
use super::super::{NodeId, Peer, Reply, RpcError, code, node_id};
use super::*;

/// Longer datagrams are no messages. (Those of hyperdht 6.34 stay below 1,500 bytes.)
pub const MAX_DATAGRAM: usize = 2_048;
/// Delayed pings that wait for their time, at most.
const MAX_DELAYED: usize = 1_024;
/// Those of one host.
const MAX_DELAYED_PER_HOST: usize = 64;
/// Nodes that are looked after at once because others say they are down (dht-rpc 6.27).
const MAX_CHECKS: usize = 10;

/// dht-rpc's own commands (6.27, `lib/commands.js`).
pub(super) mod command {
    pub(crate) const PING: u64 = 0;
    pub(crate) const PING_NAT: u64 = 1;
    pub(crate) const FIND_NODE: u64 = 2;
    pub(crate) const DOWN_HINT: u64 = 3;
    pub(crate) const DELAYED_PING: u64 = 4;
}

/// Somebody's request, for the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Who asks.
    pub from: Peer,
    /// Us, as they address us.
    pub to: SocketAddr,
    /// The number that the reply has to have.
    pub tid: u16,
    /// The socket that it came to.
    pub socket: Socket,
    /// What they want.
    pub command: u64,
    /// What it is about.
    pub target: Option<NodeId>,
    /// Its argument.
    pub value: Option<Bytes>,
    /// A valid token, if they sent one.
    pub token: Option<[u8; 32]>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whom to.
    pub to: SocketAddr,
    /// From which socket.
    pub socket: Socket,
    /// The number of the request.
    pub tid: u16,
    /// 0, or what went wrong.
    pub error: u64,
    /// The answer itself.
    pub value: Option<Bytes>,
    /// Add nodes close to this.
    pub closer_to: Option<NodeId>,
    /// Add a token.
    pub token: bool,
}

#[derive(Debug)]
pub(super) struct DelayedPing {
    to: SocketAddr,
    socket: Socket,
    tid: u16,
}

impl Node {
    /// Takes in a datagram that came to `socket`. One that is no message of the DHT is dropped and counted.
    pub fn handle_datagram(&mut self, now: Instant, socket: Socket, from: SocketAddr, datagram: Bytes) {
        if self.suspended || self.closed {
            return;
        }
        let from = canonical(from);
        if from.port() == 0 || datagram.len() > MAX_DATAGRAM {
            self.strays += 1;
            return;
        }
        match Message::decode(datagram) {
            Ok(Message::Request(request)) => self.handle_request(now, socket, from, request),
            Ok(Message::Reply(reply)) => self.handle_reply(now, socket, from, reply),
            Err(_) => self.strays += 1,
        }
    }

    /// Answers a request.
    pub fn reply(&mut self, now: Instant, answer: Answer) -> Result<(), RpcError> {
        if self.suspended {
            return Err(RpcError::Suspended);
        }
        let Answer { to, socket, tid, error, value, closer_to, token } = answer;
        let closer = closer_to.map(|target| self.closer_nodes(&target)).unwrap_or_default();
        let token = token.then(|| self.tokens.make(to.ip(), &mut self.rng, now));
        let reply = ReplyMessage { tid, to, id: self.id_at(socket), token, closer, error, value };
        let payload = reply.encode()?;
        self.answer(Transmit { socket, to, payload, ttl: None });
        Ok(())
    }

    /// Passes a request on, with another value and under its own number. The answer goes to whoever receives it.
    pub fn relay(
        &mut self,
        request: &Incoming,
        value: Option<Bytes>,
        to: SocketAddr,
        socket: Socket,
    ) -> Result<(), RpcError> {
        if self.suspended {
            return Err(RpcError::Suspended);
        }
        let message = RequestMessage {
            tid: request.tid,
            to,
            id: self.id_at(socket),
            token: None,
            internal: false,
            command: request.command,
            target: request.target,
            value,
        };
        let payload = message.encode()?;
        self.answer(Transmit { socket, to, payload, ttl: None });
        Ok(())
    }

    /// Our id, for messages that leave from `socket`: only those from the server socket come from the address that has it.
    pub(super) fn id_at(&self, socket: Socket) -> Option<NodeId> {
        if socket == Socket::Server { self.id() } else { None }
    }

    fn handle_request(&mut self, now: Instant, socket: Socket, from: SocketAddr, request: RequestMessage) {
        if !self.gate.admit(Sender::of(from), now) {
            self.limited += 1;
            return;
        }
        self.received += 1;
        self.note_server_traffic(socket, from);
        let RequestMessage { tid, to, id, token, internal, command, target, value } = request;
        let from = verified(from, id);
        let answer =
            Answer { to: from.addr, socket, tid, error: 0, value: None, closer_to: None, token: false };
        if let Some(token) = token
            && !self.tokens.check(&token, from.addr.ip(), &mut self.rng, now)
        {
            self.send(now, Answer { error: code::INVALID_TOKEN, closer_to: target, token: true, ..answer });
            return;
        }
        if from.id.is_some() {
            self.heard_from(now, from, to, socket == self.socket());
        }
        if !internal {
            let value = detached(value);
            self.emit(NodeEvent::Request(Incoming { from, to, tid, socket, command, target, value, token }));
            return;
        }
        match command {
            command::PING => self.send(now, answer),
            command::DELAYED_PING => {
                if let Some(delay) = leading::<4>(value.as_ref()).map(u32::from_le_bytes) {
                    self.delay_ping(now, from.addr, socket, tid, Duration::from_millis(delay.into()));
                }
            }
            // Answered to another port of theirs, to see whether something arrives there.
            command::PING_NAT => {
                if let Some(port) = leading::<2>(value.as_ref()).map(u16::from_le_bytes)
                    && port != 0
                {
                    self.send(now, Answer { to: SocketAddr::new(from.addr.ip(), port), ..answer });
                }
            }
            command::FIND_NODE => {
                if target.is_some() {
                    self.send(now, Answer { closer_to: target, ..answer });
                }
            }
            command::DOWN_HINT => {
                if let Some(down) = value.and_then(|value| addr_from(&value).ok()) {
                    self.hinted_down(now, down);
                    self.send(now, answer);
                }
            }
            _ => self.send(now, Answer { error: code::UNKNOWN_COMMAND, closer_to: target, ..answer }),
        }
    }

    fn handle_reply(&mut self, now: Instant, socket: Socket, from: SocketAddr, reply: ReplyMessage) {
        self.note_server_traffic(socket, from);
        let ReplyMessage { tid, to, id, token, closer, error, value } = reply;
        let Some((request, outgoing, rtt)) = self.requests.answered(tid, from, now) else {
            self.strays += 1;
            return;
        };
        let from = verified(from, id);
        self.heard_from(now, from, to, socket == self.socket());
        let value = detached(value);
        let reply = Reply { tid, from, to, token, closer_nodes: closer, error, value, rtt };
        self.conclude(now, request, outgoing, Ok(reply));
    }

    fn send(&mut self, now: Instant, answer: Answer) {
        // Only an address that is not IPv4 could fail, and no datagram comes from one.
        let _ = self.reply(now, answer);
    }

    fn hinted_down(&mut self, now: Instant, down: SocketAddr) {
        if self.checks >= MAX_CHECKS {
            return;
        }
        let (id, tick) = (node_id(down), self.tick);
        if let Some(contact) = self.contacts.get_mut(&id)
            && (contact.pinged < tick || contact.down_hints == 0)
        {
            contact.down_hints = contact.down_hints.saturating_add(1);
            self.check(now, id);
        }
    }

    fn delay_ping(&mut self, now: Instant, to: SocketAddr, socket: Socket, tid: u16, delay: Duration) {
        let same_host = || self.delayed.values().filter(|other| other.to.ip() == to.ip()).count();
        if delay > self.options.max_ping_delay
            || self.delayed.len() >= MAX_DELAYED
            || same_host() >= MAX_DELAYED_PER_HOST
        {
            return;
        }
        self.next_delayed += 1;
        self.delayed.insert((now + delay, self.next_delayed), DelayedPing { to, socket, tid });
    }

    pub(super) fn send_delayed_pings(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let DelayedPing { to, socket, tid } = entry.remove();
            self.send(now, Answer { to, socket, tid, error: 0, value: None, closer_to: None, token: false });
        }
    }
}

/// The sender, with its id if that is the one of its address.
fn verified(addr: SocketAddr, id: Option<NodeId>) -> Peer {
    Peer { addr, id: id.filter(|id| *id == node_id(addr)) }
}

/// The first bytes of a value; what follows is ignored, as in dht-rpc.
fn leading<const N: usize>(value: Option<&Bytes>) -> Option<[u8; N]> {
    value?.first_chunk().copied()
}
