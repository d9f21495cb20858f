//! Where packets may come from to a stream whose remote is still looked for.
//!
//! The first packet of the remote for the stream shows a way: the stream takes it if it has none yet, or only one through
//! a relay. Packets through other sockets than the stream's own are asked about here, in the task of the socket.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::mpsc;
use udx::{Firewall, UdxHandle, UdxSocket, UdxStream};

/// Ways that wait to be looked at.
const MAX_WAITING: usize = 4;

/// A way to the remote: out of this socket to that address.
pub(crate) type Way = (UdxSocket, SocketAddr);

/// Watches over a stream.
#[derive(Debug, Clone)]
pub(crate) struct Doorway {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// The remote's stream; not known to a client before the server has answered.
    remote_id: Option<u32>,
    /// What came too early.
    early: Option<Way>,
    relay: Option<Way>,
    last_relayed: Option<Instant>,
    found: mpsc::Sender<Way>,
}

impl Doorway {
    /// Watches over `stream`. Ways come out of the channel: the stream is connected to the first of them already, when
    /// `remote_id` was known.
    pub(crate) fn of(stream: &UdxStream, remote_id: Option<u32>) -> (Self, mpsc::Receiver<Way>) {
        let (found, ways) = mpsc::channel(MAX_WAITING);
        let state = State { remote_id, early: None, relay: None, last_relayed: None, found };
        let doorway = Self { state: Arc::new(Mutex::new(state)) };
        let (watch, handle) = (doorway.clone(), stream.handle());
        stream.set_firewall(move |socket, from| watch.ask(&handle, socket, from));
        (doorway, ways)
    }

    /// From now on packets may connect the stream to `remote_id`; gives the way of one that came before.
    pub(crate) fn open(&self, remote_id: u32) -> Option<Way> {
        let mut state = self.state();
        state.remote_id = Some(remote_id);
        state.early.take()
    }

    /// Packets on this way come through a relay.
    pub(crate) fn set_relay(&self, relay: Way) {
        self.state().relay = Some(relay);
    }

    /// When a packet came through the relay last, while the stream was elsewhere already.
    pub(crate) fn last_relayed(&self) -> Option<Instant> {
        self.state().last_relayed
    }

    fn ask(&self, handle: &UdxHandle, socket: &UdxSocket, from: SocketAddr) -> Firewall {
        if from.port() == 0 {
            return Firewall::Refuse;
        }
        let mut state = self.state();
        if let Some((relay, address)) = &state.relay
            && relay.same_socket(socket)
            && *address == from
        {
            state.last_relayed = Some(Instant::now());
            return Firewall::Accept;
        }
        let Some(remote_id) = state.remote_id else {
            state.early.get_or_insert_with(|| (socket.clone(), from));
            // It is sent again.
            return Firewall::Refuse;
        };
        let found = state.found.clone();
        drop(state);
        if !handle.is_connected() && handle.connect(socket, remote_id, from).is_err() {
            return Firewall::Refuse;
        }
        // When nobody looks any more, or enough are there, this one is of no interest.
        let _ = found.try_send((socket.clone(), from));
        Firewall::Accept
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
