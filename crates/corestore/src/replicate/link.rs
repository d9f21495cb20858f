//! The mailbox of a connection's task: what others want it to look at. Bounded, as each core and each peer is in
//! it at most once.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use bytes::Bytes;
use hypercore::session::FindingPeers;
use hypercore::{DiscoveryKey, Hypercore};
use hypercore_replicator::PeerId;

use super::own_protocol::Outgoing;

/// One connection as others see it.
pub(crate) struct Link {
    pub(super) id: u64,
    /// Who is on the other side, once the handshake has said so.
    pub(super) remote_public_key: OnceLock<[u8; 32]>,
    mailbox: Mutex<Mailbox>,
}

#[derive(Default)]
struct Mailbox {
    mail: Mail,
    /// What is to go out in the owner's own protocol.
    outgoing: Outgoing,
    waker: Option<Waker>,
    /// The task is gone.
    ended: bool,
}

/// What has come together since the task looked last.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// Cores that came into use: they are to have a channel. Until the connection has offered them one, updates of
    /// them wait.
    pub(super) open: HashMap<DiscoveryKey, FindingPeers>,
    /// Cores that have changed, or whose timers are to be taken over.
    pub(super) work: HashSet<DiscoveryKey>,
    /// Peers of this connection that have something to send.
    pub(super) ready: HashSet<PeerId>,
    /// Peers of this connection whose channel is to be closed; true when they lied.
    pub(super) close_peers: HashMap<PeerId, bool>,
    /// The owner's own protocol is to be offered, or has something to send.
    pub(super) own_protocol: bool,
    /// The connection is not to be held any longer.
    pub(super) proceed: bool,
    /// The connection is to be closed.
    pub(super) close: bool,
}

impl Mail {
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
            && self.work.is_empty()
            && self.ready.is_empty()
            && self.close_peers.is_empty()
            && !self.own_protocol
            && !self.proceed
            && !self.close
    }
}

impl Link {
    pub(super) fn new(id: u64) -> Self {
        Self { id, remote_public_key: OnceLock::new(), mailbox: Mutex::default() }
    }

    /// The core came into use. What its users ask for waits until the connection has looked.
    pub(super) fn open(&self, core: &Hypercore) {
        let discovery_key = core.discovery_key();
        // Made, and dropped, without the lock: both lock the core.
        let finding = core.finding_peers();
        let mut mailbox = self.lock();
        if mailbox.ended {
            return drop(mailbox);
        }
        let replaced = mailbox.mail.open.insert(discovery_key, finding);
        let waker = if replaced.is_none() { mailbox.waker.take() } else { None };
        drop(mailbox);
        drop(replaced);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The connection has ended: nobody looks any more.
    pub(super) fn ended(&self) {
        let mut mailbox = self.lock();
        mailbox.ended = true;
        let mail = std::mem::take(&mut mailbox.mail);
        mailbox.outgoing.refuse();
        drop(mailbox);
        drop(mail);
    }

    /// The core changed.
    pub(super) fn work(&self, discovery_key: DiscoveryKey) {
        self.put(|mail| mail.work.insert(discovery_key));
    }

    /// The peer has something to send.
    pub(super) fn ready(&self, peer: PeerId) {
        self.put(|mail| mail.ready.insert(peer));
    }

    /// The peer's channel is to be closed; `lied` says that it is not to be opened again.
    pub(super) fn close_peer(&self, peer: PeerId, lied: bool) {
        self.put(|mail| {
            *mail.close_peers.entry(peer).or_default() |= lied;
            true
        });
    }

    /// The owner's own protocol is to be offered to the remote.
    pub(super) fn offer_own_protocol(&self) {
        self.put(|mail| !std::mem::replace(&mut mail.own_protocol, true));
    }

    /// A message is to go out in the owner's own protocol. False when it does not: the remote does not speak it, or too
    /// much waits already.
    pub(super) fn send_own_protocol(&self, message: Bytes) -> bool {
        let mut mailbox = self.lock();
        if !mailbox.outgoing.push(message) {
            return false;
        }
        let first = !std::mem::replace(&mut mailbox.mail.own_protocol, true);
        let waker = if first { mailbox.waker.take() } else { None };
        drop(mailbox);
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// The next message of the owner's own protocol.
    pub(super) fn next_own_protocol(&self) -> Option<Bytes> {
        self.lock().outgoing.pop()
    }

    /// Nothing more can be sent in the owner's own protocol.
    pub(super) fn refuse_own_protocol(&self) {
        self.lock().outgoing.refuse();
    }

    /// The connection is not to be held any longer.
    pub(super) fn proceed(&self) {
        self.put(|mail| !std::mem::replace(&mut mail.proceed, true));
    }

    /// The connection is to be closed.
    pub(super) fn close(&self) {
        self.put(|mail| !std::mem::replace(&mut mail.close, true));
    }

    /// What has come, if anything; else `waker` is woken when something does.
    pub(super) fn take(&self, waker: &Waker) -> Option<Mail> {
        let mut mailbox = self.lock();
        if mailbox.mail.is_empty() {
            match &mut mailbox.waker {
                Some(known) if known.will_wake(waker) => {}
                known => *known = Some(waker.clone()),
            }
            return None;
        }
        Some(std::mem::take(&mut mailbox.mail))
    }

    fn put(&self, insert: impl FnOnce(&mut Mail) -> bool) {
        let mut mailbox = self.lock();
        let waker = if insert(&mut mailbox.mail) { mailbox.waker.take() } else { None };
        drop(mailbox);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Mailbox> {
        // Nothing in here panics half-way, so what is behind a poisoned lock is whole.
        self.mailbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("id", &self.id).finish_non_exhaustive()
    }
}
