//! Clients over TCP and WebSocket: let in, served, and seen off.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use hyperspace_common::{KEEPALIVE_AFTER, KEEPALIVE_EVERY, KEEPALIVE_QUESTIONS};
use hyperspace_websocket::{Close, Origins, accept};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use crate::{
    admission::{Pending, Refusal, Tokens, admit},
    connection::Chat,
    rpc::Gone,
    server::{Shared, accept_failed, serve_client},
};

/// The close code for whoever has shown no access token, or a wrong one: 401 of HTTP in the range that applications
/// have for themselves (RFC 6455, 7.4.2).
pub(crate) const CLOSE_ACCESS: u16 = 4401;
/// How long, and for how much more input, a connection that was refused is kept so that it can read why.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LATE: u64 = 256 << 10;

/// What carries the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carrier {
    Tcp,
    WebSocket,
}

/// What everybody who comes over a network has to pass.
pub(crate) struct Door {
    shared: Arc<Shared>,
    tokens: Arc<Tokens>,
    origins: Origins,
    pending: Arc<Pending>,
    next: AtomicU64,
}

impl Door {
    pub(crate) fn new(shared: Arc<Shared>, tokens: Arc<Tokens>, origins: Origins) -> Self {
        Self { shared, tokens, origins, pending: Arc::default(), next: AtomicU64::new(0) }
    }

    /// Takes clients in until the server ends.
    pub(crate) async fn keep(self: Arc<Self>, listener: TcpListener, carrier: Carrier) {
        let clients = TaskTracker::new();
        let stopping = self.shared.stopping().clone();
        loop {
            tokio::select! {
                () = stopping.cancelled() => break,
                client = listener.accept() => match client {
                    Ok((client, from)) => { clients.spawn(self.clone().serve(client, from, carrier)); }
                    Err(error) => accept_failed(&error).await,
                }
            }
        }
        drop(listener);
        clients.close();
        // Each has a time for its farewell.
        clients.wait().await;
    }

    async fn serve(self: Arc<Self>, client: TcpStream, from: SocketAddr, carrier: Carrier) {
        let _ = client.set_nodelay(true);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
        let _ = SockRef::from(&client).set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_QUESTIONS));
        let refused = match carrier {
            Carrier::Tcp => self.serve_tcp(client).await,
            Carrier::WebSocket => self.serve_websocket(client).await,
        };
        match refused {
            Ok(()) => {}
            Err(refusal @ (Refusal::Gone(_) | Refusal::Stopped)) => {
                debug!(%from, "a connection ended early: {refusal}");
            }
            Err(refusal) => info!(%from, "a connection was refused: {refusal}"),
        }
    }

    async fn serve_tcp(&self, mut client: TcpStream) -> Result<(), Refusal> {
        // Without a token it is a loopback address, and whoever is on this machine may come in.
        if !self.tokens.is_empty() {
            let turn = self.enter();
            let admitted = turn.within(self.shared.stopping(), admit(&mut client, &self.tokens)).await;
            if let Err(refusal) = admitted.and_then(|admitted| admitted) {
                linger(client).await;
                return Err(refusal);
            }
        }
        serve_client(self.shared.clone(), client, Chat::Ignored).await;
        Ok(())
    }

    async fn serve_websocket(&self, client: TcpStream) -> Result<(), Refusal> {
        let stopping = self.shared.stopping();
        let turn = self.enter();
        let mut client = match turn.within(stopping, accept(client, &self.origins)).await? {
            Ok(client) => client,
            Err(error) => return Err(Refusal::Protocol(error.to_string())),
        };
        let admitted = turn.within(stopping, admit(&mut client, &self.tokens)).await;
        if let Err(refusal) = admitted.and_then(|admitted| admitted) {
            client.finish(close_of_refusal(&refusal)).await;
            return Err(refusal);
        }
        drop(turn);
        client.admitted();
        let gone = serve_client(self.shared.clone(), &mut client, Chat::Ignored).await;
        client.finish(close_of(&gone)).await;
        Ok(())
    }

    fn enter(&self) -> crate::admission::Turn {
        let limits = self.shared.limits();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.pending.enter(number, limits.max_pending, limits.admission)
    }
}

/// Leaves a refused client the time to read why: a connection that is dropped with something unread is reset, and what
/// was written may be lost.
async fn linger<IO: AsyncRead + AsyncWrite + Unpin>(mut io: IO) {
    let farewell = async {
        let _ = io.shutdown().await;
        let _ = tokio::io::copy(&mut (&mut io).take(MAX_LATE), &mut tokio::io::sink()).await;
    };
    let _ = tokio::time::timeout(LINGER, farewell).await;
}

fn close_of_refusal(refusal: &Refusal) -> Close {
    let why = refusal.to_string();
    match refusal {
        Refusal::Wrong | Refusal::Missing | Refusal::Slow(_) => Close::new(CLOSE_ACCESS, why),
        Refusal::Protocol(_) => Close::protocol(why),
        Refusal::Crowd => Close::try_again_later(why),
        Refusal::Stopped => Close::going_away(why),
        Refusal::Gone(_) => Close::normal(""),
    }
}

fn close_of(gone: &Gone) -> Close {
    let why = gone.to_string();
    match gone {
        Gone::Closed => Close::normal(""),
        Gone::Stopped => Close::going_away(why),
        Gone::Protocol(_) | Gone::Answer => Close::protocol(why),
        Gone::TooManyClients => Close::try_again_later(why),
        Gone::Io(_) | Gone::DoesNotRead { .. } | Gone::TooMuchUnread { .. } => Close::policy(why),
    }
}
