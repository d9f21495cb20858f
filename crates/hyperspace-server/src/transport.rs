//! Clients over TCP and WebSocket: let in, served, and seen off.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyperspace_common::{KEEPALIVE_AFTER, KEEPALIVE_EVERY, KEEPALIVE_QUESTIONS};
use hyperspace_websocket::{Close, Origins, WsStream, accept};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

use crate::{
    admission::{Pending, Refusal, Tokens, Turn, admit},
    connection::Chat,
    rpc::Gone,
    seldom::{Seldom, accept_failed},
    server::{Shared, serve_client},
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
}

impl Door {
    pub(crate) fn new(shared: Arc<Shared>, tokens: Arc<Tokens>, origins: Origins) -> Self {
        let limits = shared.limits();
        let pending = Pending::new(limits.max_pending, shared.shares().guests, limits.admission);
        Self { shared, tokens, origins, pending: Arc::new(pending) }
    }

    /// Takes clients in until the server ends.
    pub(crate) async fn keep(self: Arc<Self>, listener: TcpListener, carrier: Carrier) {
        let clients = TaskTracker::new();
        let stopping = self.shared.stopping().clone();
        let failures = Seldom::default();
        let taking_in = async {
            loop {
                match listener.accept().await {
                    Ok((client, from)) => {
                        // One at a time is without a place, and not for long.
                        let turn = self.pending.enter().await;
                        clients.spawn(self.clone().serve(client, from, carrier, turn));
                    }
                    Err(error) => accept_failed(&error, &failures).await,
                }
            }
        };
        tokio::select! {
            () = stopping.cancelled() => {}
            () = taking_in => {}
        }
        drop(listener);
        clients.close();
        // Each has a time for its farewell.
        clients.wait().await;
    }

    async fn serve(self: Arc<Self>, client: TcpStream, from: SocketAddr, carrier: Carrier, turn: Turn) {
        let _ = client.set_nodelay(true);
        let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
        let _ = SockRef::from(&client).set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_QUESTIONS));
        let refused = match carrier {
            Carrier::Tcp => self.serve_tcp(client, turn).await,
            Carrier::WebSocket => self.serve_websocket(client, turn).await,
        };
        match refused {
            Ok(()) => {}
            Err(refusal @ (Refusal::Gone(_) | Refusal::Stopped)) => {
                debug!(%from, "a connection ended early: {refusal}");
            }
            Err(refusal) => info!(%from, "a connection was refused: {refusal}"),
        }
    }

    async fn serve_tcp(&self, mut client: TcpStream, turn: Turn) -> Result<(), Refusal> {
        // Without a token it is a loopback address, and whoever is on this machine may come in.
        if !self.tokens.is_empty() {
            let admitted = turn.within(self.shared.stopping(), admit(&mut client, &self.tokens)).await;
            if let Err(refusal) = admitted.and_then(|admitted| admitted) {
                turn.leave(linger(client)).await;
                return Err(refusal);
            }
        }
        let Some(_place) = self.shared.place() else { return Ok(()) };
        drop(turn);
        serve_client(self.shared.clone(), client, Chat::Ignored, |_| true).await;
        Ok(())
    }

    async fn serve_websocket(&self, client: TcpStream, turn: Turn) -> Result<(), Refusal> {
        let stopping = self.shared.stopping();
        let mut client = match turn.within(stopping, accept(client, &self.origins)).await? {
            Ok(client) => client,
            Err(error) => return Err(Refusal::Protocol(error.to_string())),
        };
        let admitted = turn.within(stopping, admit(&mut client, &self.tokens)).await;
        if let Err(refusal) = admitted.and_then(|admitted| admitted) {
            turn.leave(client.finish(close_of_refusal(&refusal))).await;
            return Err(refusal);
        }
        let Some(_place) = self.shared.place() else {
            turn.leave(client.finish(close_of(&Gone::TooManyClients))).await;
            return Ok(());
        };
        drop(turn);
        client.admitted();
        // A farewell that is read ends the writing, and so does what is no binary message.
        let reads_on = |client: &&mut WsStream<TcpStream>| client.has_unread();
        let gone = serve_client(self.shared.clone(), &mut client, Chat::Ignored, reads_on).await;
        client.finish(close_of(&gone)).await;
        Ok(())
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
