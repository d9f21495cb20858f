//! The two sockets of a node, and those attached to it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use bytes::Bytes;
use udx::{Udx, UdxSocket};

use super::{RpcError, RpcOptions, Socket};

/// Ports tried from the one that was asked for (dht-rpc 6.27, `portRange`).
const PORTS: u16 = 5;

/// The sockets of a node.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) client: UdxSocket,
    pub(crate) server: UdxSocket,
    others: HashMap<u64, UdxSocket>,
    next: u64,
}

impl Sockets {
    /// Binds both; `before` are the ports of an earlier time, which are tried first.
    pub(crate) fn bind(
        udx: &Udx,
        options: &RpcOptions,
        before: Option<(u16, u16)>,
    ) -> Result<Self, RpcError> {
        let host = options.host;
        let range = if options.port == 0 { 0..0 } else { options.port..options.port.saturating_add(PORTS) };
        let mut ports: Vec<u16> = before.iter().map(|(_, server)| *server).chain(range).collect();
        if options.any_port || ports.is_empty() {
            ports.push(0);
        } else {
            ports.truncate(1);
        }
        let server = bind_first(udx, host, &ports)?;
        let ports: Vec<u16> =
            before.iter().map(|(client, _)| *client).chain([options.client_port, 0]).collect();
        let client = bind_first(udx, host, &ports)?;
        Ok(Self { client, server, others: HashMap::new(), next: 0 })
    }

    /// Takes the place of sockets that were closed.
    pub(crate) fn replace(&mut self, bound: Self) {
        self.client = bound.client;
        self.server = bound.server;
    }

    pub(crate) fn ports(&self) -> (u16, u16) {
        (self.client.local_addr().port(), self.server.local_addr().port())
    }

    pub(crate) fn get(&self, socket: Socket) -> Option<&UdxSocket> {
        match socket {
            Socket::Client => Some(&self.client),
            Socket::Server => Some(&self.server),
            Socket::Other(id) => self.others.get(&id),
        }
    }

    /// Which of ours this is.
    pub(crate) fn find(&self, socket: &UdxSocket) -> Option<Socket> {
        if socket.same_socket(&self.client) {
            Some(Socket::Client)
        } else if socket.same_socket(&self.server) {
            Some(Socket::Server)
        } else {
            let (id, _) = self.others.iter().find(|(_, other)| other.same_socket(socket))?;
            Some(Socket::Other(*id))
        }
    }

    pub(crate) fn attach(&mut self, socket: UdxSocket) -> u64 {
        self.next += 1;
        self.others.insert(self.next, socket);
        self.next
    }

    pub(crate) fn detach(&mut self, id: u64) {
        self.others.remove(&id);
    }

    pub(crate) fn send(&self, socket: Socket, payload: Bytes, to: SocketAddr, ttl: Option<u8>) {
        let Some(socket) = self.get(socket) else { return };
        // What cannot be sent is lost, as anything may be on its way.
        let sent = match ttl {
            Some(ttl) => socket.send_ttl(payload, to, ttl),
            None => socket.send(payload, to),
        };
        if let Err(err) = sent {
            tracing::debug!(%to, %err, "a datagram of the DHT was not sent");
        }
    }
}

fn bind_first(udx: &Udx, host: IpAddr, ports: &[u16]) -> Result<UdxSocket, RpcError> {
    let mut failed =
        RpcError::Bind { addr: SocketAddr::new(host, 0), reason: std::io::ErrorKind::InvalidInput };
    for port in ports {
        let addr = SocketAddr::new(host, *port);
        match udx.bind(addr) {
            Ok(socket) => return Ok(socket),
            Err(err) => failed = RpcError::Bind { addr, reason: err.kind() },
        }
    }
    Err(failed)
}

/// The address of this machine that the system would use to reach the internet; loopback if it would use none. Nothing is
/// sent to find out.
pub(crate) fn local_ip() -> IpAddr {
    // TEST-NET-2: routed like any public address, and nobody's.
    const ANYWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 1), 9);
    let found = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect(ANYWHERE)?;
        socket.local_addr()
    };
    found().map_or(Ipv4Addr::LOCALHOST.into(), |addr| addr.ip())
}
