//! What changed, kept for three readers until they look: the replicator, those who wait, and those who listen.
//! All three are bounded: who looks too seldom is told to look at everything.

use std::ops::Range;

use bytes::Bytes;

use crate::events::CoreEvent;

const MAX_HAVE_RANGES: usize = 512;
const MAX_ARRIVED_BLOCKS: usize = 8_192;
const MAX_APPENDED_RANGES: usize = 64;
const MAX_EVENTS: usize = 16_384;

/// A run of blocks that are here now, or not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HaveRange {
    /// First block.
    pub start: u64,
    /// How many.
    pub length: u64,
    /// True when they are gone.
    pub drop: bool,
}

/// The log was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truncated {
    /// Blocks of the old history that are left.
    pub new_length: u64,
    /// Length before.
    pub old_length: u64,
}

/// What a replicator may have to tell its peers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Updates {
    /// Too much happened to list: compare everything.
    pub resync: bool,
    /// Length, fork or signature changed.
    pub head_changed: bool,
    /// The manifest became known.
    pub manifest: bool,
    /// The log was cut (to the lowest of several lengths). It happened before the blocks in `have` came.
    pub truncated: Option<Truncated>,
    /// Blocks that came and went, in order.
    pub have: Vec<HaveRange>,
    /// The log is frozen.
    pub frozen: bool,
}

impl Updates {
    /// True when nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What arrived, for those who wait.
#[derive(Debug, Clone, Default)]
pub struct Arrivals {
    /// Blocks from peers.
    pub blocks: Vec<(u64, Bytes)>,
    /// Runs of blocks that were appended here.
    pub appended: Vec<Range<u64>>,
    /// Length or fork changed.
    pub head_changed: bool,
    /// The log was cut to this length: blocks from there on are not what they were.
    pub truncated: Option<u64>,
    /// Tree nodes came.
    pub nodes: bool,
    /// Too much to list: look at everything.
    pub resync: bool,
}

impl Arrivals {
    /// Whether anything arrived.
    pub fn any(&self) -> bool {
        self.resync || self.head_changed || self.nodes || !self.blocks.is_empty() || !self.appended.is_empty()
    }
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    tracking: bool,
    updates: Updates,
    arrivals: Arrivals,
    events: Vec<CoreEvent>,
}

impl Journal {
    pub(super) fn track(&mut self, tracking: bool) {
        self.tracking = tracking;
        self.updates = Updates { resync: tracking, ..Updates::default() };
    }

    pub(super) fn take_updates(&mut self) -> Updates {
        std::mem::take(&mut self.updates)
    }

    pub(super) fn take_arrivals(&mut self) -> Arrivals {
        std::mem::take(&mut self.arrivals)
    }

    pub(super) fn take_events(&mut self) -> Vec<CoreEvent> {
        std::mem::take(&mut self.events)
    }

    pub(super) fn event(&mut self, event: CoreEvent) {
        // Nobody takes them from a core that is used without a session: keep the newest.
        if self.events.len() >= MAX_EVENTS {
            self.events.clear();
        }
        self.events.push(event);
    }

    pub(super) fn head_changed(&mut self) {
        self.arrivals.head_changed = true;
        if self.tracking {
            self.updates.head_changed = true;
        }
    }

    pub(super) fn manifest(&mut self) {
        self.event(CoreEvent::Manifest);
        if self.tracking {
            self.updates.manifest = true;
        }
    }

    pub(super) fn frozen(&mut self) {
        if self.tracking {
            self.updates.frozen = true;
        }
    }

    pub(super) fn nodes(&mut self) {
        self.arrivals.nodes = true;
    }

    pub(super) fn appended(&mut self, range: Range<u64>) {
        let full = self.arrivals.appended.len() >= MAX_APPENDED_RANGES;
        match self.arrivals.appended.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ if full => self.arrivals_resync(),
            _ => self.arrivals.appended.push(range.clone()),
        }
        self.have(range, false);
    }

    pub(super) fn arrived(&mut self, index: u64, block: Bytes) {
        if self.arrivals.blocks.len() >= MAX_ARRIVED_BLOCKS {
            self.arrivals_resync();
        } else if !self.arrivals.resync {
            self.arrivals.blocks.push((index, block));
        }
        self.have(index..index.saturating_add(1), false);
    }

    pub(super) fn truncated(&mut self, new_length: u64, old_length: u64) {
        self.head_changed();
        self.arrivals.blocks.retain(|(index, _)| *index < new_length);
        self.arrivals.appended.retain(|range| range.start < new_length);
        let lowest = self.arrivals.truncated.map_or(new_length, |lowest| lowest.min(new_length));
        self.arrivals.truncated = Some(lowest);
        if !self.tracking {
            return;
        }
        let before = self.updates.truncated;
        self.updates.truncated = Some(Truncated {
            new_length: before.map_or(new_length, |before| before.new_length.min(new_length)),
            old_length: before.map_or(old_length, |before| before.old_length.max(old_length)),
        });
        self.updates.have.retain_mut(|range| {
            range.length = range.length.min(new_length.saturating_sub(range.start));
            range.length > 0
        });
    }

    pub(super) fn have(&mut self, range: Range<u64>, drop: bool) {
        if !self.tracking || self.updates.resync || range.start >= range.end {
            return;
        }
        if let Some(last) = self.updates.have.last_mut()
            && last.drop == drop
            && last.start.saturating_add(last.length) == range.start
        {
            last.length += range.end - range.start;
            return;
        }
        if self.updates.have.len() >= MAX_HAVE_RANGES {
            self.updates = Updates { resync: true, ..std::mem::take(&mut self.updates) };
            self.updates.have = Vec::new();
            return;
        }
        self.updates.have.push(HaveRange { start: range.start, length: range.end - range.start, drop });
    }

    fn arrivals_resync(&mut self) {
        self.arrivals.resync = true;
        self.arrivals.blocks = Vec::new();
        self.arrivals.appended = Vec::new();
    }
}
