//! Sockets for one attempt each: a NAT treats each of them as it likes, apart from the node's own.

use std::io;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use udx::{Udx, UdxSocket};

use crate::rpc::Rpc;

/// The packet that opens a hole (npm `hyperdht` 6.34, `HOLEPUNCH`).
const HOLEPUNCH: &[u8] = &[0];
/// Hops of a packet that need only get out of our own NAT (npm `hyperdht` 6.34, `HOLEPUNCH_TTL`).
const LOW_TTL: u8 = 5;

/// A socket besides the node's own two. Requests of the node may go through it; packets of hole punching come out of the
/// channel it was made with. It is left alone when this is dropped, and closed when no stream uses it.
#[derive(Debug)]
pub(crate) struct PoolSocket {
    socket: UdxSocket,
    reader: AbortHandle,
}

/// A packet of hole punching arrived.
#[derive(Debug, Clone)]
pub(crate) struct Punched {
    /// Through this socket.
    pub(crate) socket: UdxSocket,
    /// From there.
    pub(crate) from: SocketAddr,
}

impl PoolSocket {
    pub(crate) fn bind(
        udx: &Udx,
        rpc: &Rpc,
        host: IpAddr,
        punched: mpsc::Sender<Punched>,
    ) -> io::Result<Self> {
        let socket = udx.bind(SocketAddr::new(host, 0))?;
        let mut attached = rpc.attach(&socket);
        let through = socket.clone();
        let reader = tokio::spawn(async move {
            while let Some(datagram) = attached.next().await {
                // Longer ones are for nobody; a full channel means that there are plenty already.
                if datagram.payload.len() <= HOLEPUNCH.len() {
                    let _ = punched.try_send(Punched { socket: through.clone(), from: datagram.from });
                }
            }
        });
        Ok(Self { socket, reader: reader.abort_handle() })
    }

    pub(crate) fn socket(&self) -> &UdxSocket {
        &self.socket
    }

    /// Sends a packet that opens our NAT, and, without `low_ttl`, may reach the other side.
    pub(crate) fn punch(&self, to: SocketAddr, low_ttl: bool) {
        send_punch(&self.socket, to, low_ttl);
    }
}

/// Sends a packet that opens NATs. One that cannot be sent is lost, as any may be.
pub(crate) fn send_punch(socket: &UdxSocket, to: SocketAddr, low_ttl: bool) {
    let sent = if low_ttl {
        socket.send_ttl(Bytes::from_static(HOLEPUNCH), to, LOW_TTL)
    } else {
        socket.send(Bytes::from_static(HOLEPUNCH), to)
    };
    if let Err(error) = sent {
        tracing::trace!(%to, %error, "packet of hole punching not sent");
    }
}

impl Drop for PoolSocket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}
