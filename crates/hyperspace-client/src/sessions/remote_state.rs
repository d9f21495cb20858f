//! What is known here of one core: what the daemon answered to its open, and what its events told since then.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hypercore::{CoreEvent, DiscoveryKey, Key, PeerInfo};
use hyperspace_common::messages::*;
use tokio::sync::{Notify, broadcast, futures::Notified};

use super::{EVENTS_KEPT, parse_discovery_key, parse_key, peer_info};
use crate::{error::ClientError, growth::Questions, lock::Turns};

/// What is known here of a core that lives in the daemon.
#[derive(Debug)]
pub(crate) struct RemoteState {
    pub(crate) id: u64,
    pub(crate) identity: OnceLock<Identity>,
    /// How it was opened.
    pub(crate) kind: Kind,
    pub(crate) growth: Questions,
    pub(crate) turns: Turns,
    /// The length, whichever way.
    length_changed: Notify,
    changing: Mutex<Changing>,
}

/// How a session was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As a core; `weak` sessions do not keep it open, read-only ones do not write.
    Core { weak: bool, read_only: bool },
    /// As a snapshot of another session's core.
    Snapshot,
}

/// What the daemon says of a core when it is opened.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) identity: Identity,
    pub(crate) length: u64,
    pub(crate) byte_length: u64,
    pub(crate) fork: u64,
    pub(crate) peers: Vec<PeerInfo>,
}

/// What never changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) key: Key,
    pub(crate) discovery_key: DiscoveryKey,
    pub(crate) writable: bool,
}

#[derive(Debug, Default)]
struct Changing {
    length: u64,
    byte_length: u64,
    fork: u64,
    /// Somebody wants to hear of single blocks.
    watching: bool,
    /// The first open was sent on the connection that there is, and its answer was not looked at.
    is_opening: bool,
    /// The answer to the open, or to another one after a reconnect, was looked at.
    is_open: bool,
    /// Events since then, or before it, say what the length is: older news must not undo it.
    told: bool,
    /// So they do of the fork.
    fork_told: bool,
    peers: Vec<Arc<PeerInfo>>,
    /// Peers that left before the answer to the open was looked at, which may still name them.
    gone: Vec<[u8; 32]>,
    events: Option<broadcast::Sender<CoreEvent>>,
    transferred: Transferred,
    closed: bool,
    /// The daemon ended the session, and keeps its number until it is told that nobody uses it any more.
    farewell: bool,
}

/// The blocks of a core that the daemon has exchanged with peers, for whomever.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Transferred {
    /// Blocks that came from peers.
    pub downloaded_blocks: u64,
    /// Bytes in them.
    pub downloaded_bytes: u64,
    /// Blocks that went to peers.
    pub uploaded_blocks: u64,
    /// Bytes in them.
    pub uploaded_bytes: u64,
}

impl RemoteState {
    pub(super) fn new(id: u64, kind: Kind) -> Self {
        Self {
            id,
            identity: OnceLock::new(),
            kind,
            growth: Questions::default(),
            turns: Turns::default(),
            length_changed: Notify::new(),
            changing: Mutex::default(),
        }
    }

    /// The first open is sent.
    pub(crate) fn opening(&self) {
        self.lock().is_opening = true;
    }

    /// What the daemon answered to the open. Fails when that connection is lost: the next one knows nothing of it.
    pub(crate) fn opened(&self, opened: Opened) -> Result<(), ClientError> {
        let mut changing = self.lock();
        if !std::mem::take(&mut changing.is_opening) {
            return Err(ClientError::Disconnected("it was lost before the core was open".into()));
        }
        let _ = self.identity.set(opened.identity);
        if !changing.told {
            (changing.length, changing.byte_length) = (opened.length, opened.byte_length);
        }
        if !changing.fork_told {
            changing.fork = opened.fork;
        }
        for peer in changing.newcomers(opened.peers) {
            changing.peers.push(peer);
        }
        Ok(())
    }

    /// The daemon opened it again: tells what has changed meanwhile.
    pub(crate) fn opened_again(&self, opened: Opened) {
        let mut changing = self.lock();
        let Opened { length, byte_length, fork, peers, .. } = opened;
        // Events may have come already.
        let is_forked = !changing.fork_told && fork != changing.fork;
        let (is_shorter, is_longer) = (length < changing.length, length > changing.length);
        if !changing.fork_told {
            changing.fork = fork;
        }
        let is_told = changing.told;
        if !is_told {
            (changing.length, changing.byte_length) = (length, byte_length);
            self.length_changed.notify_waiters();
        }
        let (length, byte_length) = (changing.length, changing.byte_length);
        if is_forked || (!is_told && is_shorter) {
            // How much of the old history is left is not known; nothing is the safe answer.
            changing.emit(CoreEvent::Truncate { length: 0, byte_length, fork });
            changing.emit(CoreEvent::Append { length, byte_length });
        } else if !is_told && is_longer {
            changing.emit(CoreEvent::Append { length, byte_length });
        }
        for peer in changing.newcomers(peers) {
            changing.peers.push(peer.clone());
            changing.emit(CoreEvent::PeerAdded(peer));
        }
    }

    /// The connection is lost. True when a lock was lost with it.
    pub(super) fn lost(&self) -> bool {
        let mut changing = self.lock();
        (changing.is_open, changing.told, changing.fork_told) = (false, false, false);
        (changing.is_opening, changing.farewell) = (false, false);
        changing.gone.clear();
        for peer in std::mem::take(&mut changing.peers) {
            changing.emit(CoreEvent::PeerRemoved(peer));
        }
        self.turns.lost()
    }

    pub(crate) fn fork(&self) -> u64 {
        self.lock().fork
    }

    pub(crate) fn transferred(&self) -> Transferred {
        self.lock().transferred
    }

    /// Whether somebody wants to hear of single blocks.
    pub(crate) fn is_watching(&self) -> bool {
        self.lock().watching
    }

    pub(crate) fn length(&self) -> u64 {
        self.lock().length
    }

    /// Ends when the length has changed since this was called.
    pub(crate) fn length_changed(&self) -> Notified<'_> {
        self.length_changed.notified()
    }

    pub(crate) fn byte_length(&self) -> u64 {
        self.lock().byte_length
    }

    pub(crate) fn peers(&self) -> Vec<Arc<PeerInfo>> {
        self.lock().peers.clone()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Listens; true when nobody did before.
    pub(crate) fn listen(&self) -> (broadcast::Receiver<CoreEvent>, bool) {
        let mut changing = self.lock();
        let first = !std::mem::replace(&mut changing.watching, true);
        let receiver = changing.events.get_or_insert_with(|| broadcast::channel(EVENTS_KEPT).0).subscribe();
        if changing.closed {
            changing.events = None;
        }
        (receiver, first)
    }

    /// Ends the session here.
    pub(crate) fn close(&self) {
        let mut changing = self.lock();
        if !std::mem::replace(&mut changing.closed, true) {
            changing.emit(CoreEvent::Close);
            changing.events = None;
            self.turns.close();
        }
    }

    /// The daemon ended the session.
    pub(super) fn ended(&self) {
        let first = !self.is_closed();
        self.close();
        self.lock().farewell |= first;
    }

    /// Whether the daemon still is to hear that nobody uses the session that it ended; once.
    pub(crate) fn take_farewell(&self) -> bool {
        std::mem::take(&mut self.lock().farewell)
    }

    pub(super) fn appended(&self, length: u64, byte_length: u64) {
        let mut changing = self.lock();
        (changing.length, changing.byte_length, changing.told) = (length, byte_length, true);
        self.length_changed.notify_waiters();
        changing.emit(CoreEvent::Append { length, byte_length });
    }

    pub(super) fn truncated(&self, length: u64, byte_length: u64, fork: u64) {
        let mut changing = self.lock();
        (changing.length, changing.byte_length, changing.told) = (length, byte_length, true);
        (changing.fork, changing.fork_told) = (fork, true);
        self.length_changed.notify_waiters();
        changing.emit(CoreEvent::Truncate { length, byte_length, fork });
    }

    pub(super) fn peer_added(&self, peer: &Peer) {
        let peer = Arc::new(peer_info(peer));
        let mut changing = self.lock();
        changing.peers.push(peer.clone());
        changing.emit(CoreEvent::PeerAdded(peer));
    }

    pub(super) fn peer_removed(&self, peer: &Peer) {
        let gone = peer_info(peer);
        let mut changing = self.lock();
        if let Some(at) =
            changing.peers.iter().position(|known| known.remote_public_key == gone.remote_public_key)
        {
            let peer = changing.peers.swap_remove(at);
            changing.emit(CoreEvent::PeerRemoved(peer));
        } else if !changing.is_open {
            changing.gone.push(gone.remote_public_key);
        }
    }

    pub(super) fn downloaded(&self, index: u64, bytes: u64) {
        let mut changing = self.lock();
        changing.transferred.downloaded_blocks += 1;
        changing.transferred.downloaded_bytes = changing.transferred.downloaded_bytes.saturating_add(bytes);
        changing.emit(CoreEvent::Download { index, bytes: size(bytes) });
    }

    pub(super) fn uploaded(&self, index: u64, bytes: u64) {
        let mut changing = self.lock();
        changing.transferred.uploaded_blocks += 1;
        changing.transferred.uploaded_bytes = changing.transferred.uploaded_bytes.saturating_add(bytes);
        changing.emit(CoreEvent::Upload { index, bytes: size(bytes) });
    }

    fn lock(&self) -> MutexGuard<'_, Changing> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Changing {
    /// The peers of the answer to an open that are still there and not known yet.
    fn newcomers(&mut self, peers: Vec<PeerInfo>) -> Vec<Arc<PeerInfo>> {
        self.is_open = true;
        // Events that came after the answer may have been looked at before it.
        let gone = std::mem::take(&mut self.gone);
        let is_known =
            |peer: &PeerInfo| self.peers.iter().any(|k| k.remote_public_key == peer.remote_public_key);
        let is_new = |peer: &PeerInfo| !gone.contains(&peer.remote_public_key) && !is_known(peer);
        peers.into_iter().filter(is_new).map(Arc::new).collect()
    }

    fn emit(&self, event: CoreEvent) {
        if let Some(events) = &self.events {
            // Nobody may be listening any more.
            let _ = events.send(event);
        }
    }
}

impl Opened {
    pub(crate) fn from_plain(response: &OpenResponse) -> Result<Self, ClientError> {
        let key = parse_key(&response.key)?;
        let discovery_key = match &response.discovery_key {
            Some(bytes) => parse_discovery_key(bytes)?,
            None => key.discovery_key(),
        };
        Ok(Self {
            identity: Identity { key, discovery_key, writable: response.writable },
            length: response.length,
            byte_length: response.byte_length,
            fork: 0,
            peers: response.peers.iter().map(peer_info).collect(),
        })
    }

    pub(crate) fn from_full(response: &OpenCoreResponse) -> Result<Self, ClientError> {
        let key = parse_key(&response.key)?;
        let discovery_key = parse_discovery_key(&response.discovery_key)?;
        Ok(Self {
            identity: Identity { key, discovery_key, writable: response.state.writable },
            length: response.state.length,
            byte_length: response.state.byte_length,
            fork: response.state.fork,
            peers: response.peers.iter().map(peer_info).collect(),
        })
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
