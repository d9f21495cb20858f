//! What is known of one peer.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hypercore::core::{Core, HaveRange};
use hypercore::demand::DemandId;
use hypercore::storage::StorageError;
use hypercore_protocol::messages::{Message, Synchronize, Want};

use crate::availability::echoes::Echo;
use crate::in_flight::InFlight;
use crate::path::{self, Expected};
use crate::receive::Parked;
use crate::remote_bitfield::RemoteBitfield;
use crate::upload_queue::UploadQueue;
use crate::wants::{LocalWants, RemoteWants};
use crate::window::Window;

/// Silence about blocks that are wanted, after which a peer is asked again which it has; it doubles each time.
const ASK_AGAIN_MIN: Duration = Duration::from_secs(1);
const ASK_AGAIN_MAX: Duration = Duration::from_secs(300);

/// Names a peer: one channel of one connection. The driver chooses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub u64);

/// What is known of one peer. Small until blocks flow: a connection may carry thousands.
#[derive(Debug)]
pub(crate) struct Peer {
    /// What it said last about itself.
    pub(crate) remote: Synchronize,
    pub(crate) synced: bool,
    pub(crate) opened: Instant,
    /// The length of ours that it has heard of, if it is on our fork.
    pub(crate) acked: u64,
    /// We can prove our length to it, and what it has belongs to our tree.
    pub(crate) can_upgrade: bool,
    /// Fork and length of the last time that was so.
    pub(crate) upgradable: (u64, u64),
    pub(crate) blocks: RemoteBitfield,
    pub(crate) local_wants: LocalWants,
    pub(crate) remote_wants: RemoteWants,
    /// When it was asked last which blocks it has.
    pub(crate) asked: Option<Instant>,
    /// How long to wait before it is asked the same again.
    pub(crate) ask_again_after: Duration,
    /// It is not known to have a block that is wanted and that lies within its log.
    pub(crate) is_unknown: bool,
    pub(crate) echo: Echo,
    /// It is asked for nothing and told nothing.
    pub(crate) paused: bool,
    /// A channel that is about to be closed.
    pub(crate) closing: bool,
    /// The proof is out whether we are on two histories.
    pub(crate) checking_conflict: Option<Instant>,
    pub(crate) strikes: u8,
    pub(crate) unsolicited: u8,
    pub(crate) invalid_requests: u8,
    /// Answers in a row that brought nothing.
    pub(crate) fruitless: u16,
    pub(crate) writable: bool,
    /// The driver was told that there is something to send.
    pub(crate) announced: bool,
    pub(crate) sync_due: bool,
    pub(crate) sent_sync: Option<Synchronize>,
    /// It was told that we have everything up to this length.
    pub(crate) told_complete: u64,
    pub(crate) outbox: VecDeque<Message>,
    pub(crate) have: VecDeque<HaveRange>,
    /// Wants that wait for their answer.
    pub(crate) asked_us: VecDeque<Want>,
    pub(crate) download: Option<Box<Download>>,
    pub(crate) upload: Option<Box<UploadQueue>>,
}

/// What is known of a peer that was asked for something.
#[derive(Debug)]
pub(crate) struct Download {
    pub(crate) window: Window,
    pub(crate) in_flight: InFlight,
    pub(crate) expected: Expected,
    /// When it answered last.
    pub(crate) heard: Instant,
    /// Answers that wait for earlier ones.
    pub(crate) parked: Vec<Parked>,
    /// Where in a range without order it goes on.
    pub(crate) chunk: Option<Chunk>,
}

/// A run of blocks in a range that is downloaded in random order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk {
    pub(crate) range: DemandId,
    pub(crate) next: u64,
    pub(crate) left: u32,
}

#[cfg(test)]
#[test]
fn an_idle_peer_is_small() {
    // A connection may carry thousands of logs, most of which have nothing to say.
    assert!(size_of::<Peer>() < 1_024, "{}", size_of::<Peer>());
}

impl Peer {
    pub(crate) fn new(core: &Core, now: Instant) -> Self {
        Self {
            remote: Synchronize { uploading: true, downloading: true, ..Synchronize::default() },
            synced: false,
            opened: now,
            acked: 0,
            can_upgrade: core.fork() == 0,
            upgradable: (0, 0),
            blocks: RemoteBitfield::default(),
            local_wants: LocalWants::default(),
            remote_wants: RemoteWants::default(),
            asked: None,
            ask_again_after: ASK_AGAIN_MIN,
            is_unknown: false,
            echo: Echo::default(),
            paused: false,
            closing: false,
            checking_conflict: None,
            strikes: 0,
            unsolicited: 0,
            invalid_requests: 0,
            fruitless: 0,
            writable: true,
            announced: false,
            sync_due: true,
            sent_sync: None,
            told_complete: 0,
            outbox: VecDeque::new(),
            have: VecDeque::new(),
            asked_us: VecDeque::new(),
            download: None,
            upload: None,
        }
    }

    /// When it is to be asked again which blocks it has.
    pub(crate) fn ask_again_at(&self) -> Option<Instant> {
        let asked =
            self.asked.filter(|_| self.is_unknown && self.is_active() && !self.local_wants.is_empty())?;
        Some(asked + self.ask_again_after)
    }

    /// Forgets that it was asked, as it did not answer.
    pub(crate) fn ask_again(&mut self) {
        self.local_wants.forget_all();
        self.ask_again_after = (self.ask_again_after * 2).min(ASK_AGAIN_MAX);
    }

    /// What it told does not hold any more for some blocks: ask soon.
    pub(crate) fn ask_soon(&mut self) {
        self.ask_again_after = ASK_AGAIN_MIN;
    }

    /// It may be asked and told things.
    pub(crate) fn is_active(&self) -> bool {
        !self.paused && !self.closing
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.download.as_ref().map_or(0, |download| download.in_flight.len())
    }

    /// Numbers of requests from the oldest that is not answered to the newest.
    pub(crate) fn span(&self) -> usize {
        self.download.as_ref().map_or(0, |download| download.in_flight.span())
    }

    /// Whether there is anything to send.
    pub(crate) fn has_work(&self) -> bool {
        self.sync_due
            || !self.outbox.is_empty()
            || !self.have.is_empty()
            || self.writable
                && (!self.asked_us.is_empty() || self.upload.as_ref().is_some_and(|queue| !queue.is_empty()))
    }

    pub(crate) fn download(&mut self, max_bytes: u64, now: Instant) -> &mut Download {
        self.download.get_or_insert_with(|| {
            Box::new(Download {
                window: Window::new(max_bytes),
                in_flight: InFlight::default(),
                expected: Expected::default(),
                heard: now,
                parked: Vec::new(),
                chunk: None,
            })
        })
    }

    /// Every block below this may be asked of it: what it has there belongs to our tree.
    pub(crate) fn valid_end(&self, core: &Core) -> u64 {
        if self.remote.fork != core.fork() {
            0
        } else if self.remote.length >= core.length() || self.can_upgrade {
            self.remote.length
        } else if self.upgradable.0 == core.fork() {
            self.upgradable.1.min(self.remote.length)
        } else {
            0
        }
    }

    /// Looks again whether we can prove our length to it (npm `hypercore` 11.37.1, `_canUpgrade`).
    pub(crate) fn refresh_can_upgrade(&mut self, core: &Core) -> Result<(), StorageError> {
        let length = self.remote.length;
        self.can_upgrade = if self.remote.fork != core.fork() || length >= core.length().max(1) {
            false
        } else if length <= core.contiguous_length() || self.upgradable == (core.fork(), length) {
            true
        } else {
            let mut all = true;
            for root in path::roots(length) {
                if !core.has_node(root)? {
                    all = false;
                    break;
                }
            }
            all
        };
        if self.can_upgrade {
            self.upgradable = (core.fork(), length);
        }
        Ok(())
    }
}
