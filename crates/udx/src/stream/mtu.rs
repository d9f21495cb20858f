//! Finding the largest packet that gets through (RFC 8899, with data packets that carry padding as probes).
//!
//! libudx starts at 1,200 and adds 32 bytes per confirmed probe up to 1,500, ten round trips. The data offset of a packet
//! has eight bits, so a probe can be up to 255 bytes larger than a full data packet: here the largest step is tried
//! first and halved when it fails.

/// What every path carries (libudx `UDX_MTU_BASE`).
pub(crate) const BASE: u16 = 1200;
/// Probes of one size that get lost before the size counts as too large (libudx `UDX_MTU_MAX_PROBES`).
const MAX_PROBES: u8 = 3;
/// A step that is not worth a probe.
const SMALLEST_STEP: u16 = 16;
/// Largest padding.
const MAX_PADDING: u16 = 255;

#[derive(Debug)]
pub(crate) struct MtuSearch {
    /// Largest size known to get through.
    confirmed: u16,
    /// Smallest size known not to.
    too_large: Option<u16>,
    max: u16,
    /// The first acknowledged packet confirms the base and starts the search.
    started: bool,
    probe: Option<Probe>,
}

#[derive(Debug)]
struct Probe {
    size: u16,
    sent: u8,
    /// Under way, or else to be sent.
    under_way: bool,
}

impl MtuSearch {
    pub(crate) fn new(max: u16) -> Self {
        Self { confirmed: BASE, too_large: None, max, started: false, probe: None }
    }

    pub(crate) fn mtu(&self) -> u16 {
        self.confirmed
    }

    /// Size of the probe that should be sent now.
    pub(crate) fn wanted(&self) -> Option<u16> {
        self.probe.as_ref().filter(|probe| !probe.under_way).map(|probe| probe.size)
    }

    pub(crate) fn on_probe_sent(&mut self) {
        if let Some(probe) = &mut self.probe {
            probe.under_way = true;
            probe.sent += 1;
        }
    }

    /// A packet that was no probe has arrived.
    pub(crate) fn on_delivered(&mut self) {
        if !self.started {
            self.started = true;
            self.choose();
        }
    }

    /// A probe has arrived. Whether the MTU has changed by that.
    pub(crate) fn on_probe_delivered(&mut self, size: u16) -> bool {
        if size <= self.confirmed || size > self.max || self.too_large.is_some_and(|limit| size >= limit) {
            return false;
        }
        self.confirmed = size;
        self.choose();
        true
    }

    pub(crate) fn on_probe_lost(&mut self, size: u16) {
        let Some(probe) = self.probe.as_mut().filter(|probe| probe.size == size) else { return };
        if probe.sent < MAX_PROBES {
            probe.under_way = false;
        } else {
            self.too_large = Some(size);
            self.choose();
        }
    }

    /// Packets of the confirmed size vanish. Whether the MTU has changed by that.
    pub(crate) fn on_black_hole(&mut self, size: u16) -> bool {
        if self.confirmed <= BASE || size <= BASE {
            return false;
        }
        self.confirmed = BASE;
        self.too_large = Some(size);
        self.choose();
        true
    }

    fn choose(&mut self) {
        let limit = self.too_large.map_or(self.max, |limit| limit - 1);
        let size = match self.too_large {
            None => limit,
            Some(limit) => self.confirmed + limit.saturating_sub(self.confirmed) / 2,
        };
        let size = size.min(self.confirmed + MAX_PADDING).min(limit);
        let worth = match self.too_large {
            None => size > self.confirmed,
            Some(_) => size >= self.confirmed + SMALLEST_STEP,
        };
        self.probe = worth.then_some(Probe { size, sent: 0, under_way: false });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_mtu_is_found_within_a_small_step() {
        for path in (BASE..=1500).chain([1600]) {
            let mut search = MtuSearch::new(1500);
            assert_eq!(search.wanted(), None, "not before something got through");
            search.on_delivered();
            let mut probes = 0;
            while let Some(size) = search.wanted() {
                assert!(size > search.mtu() && size <= search.mtu() + MAX_PADDING && size <= 1500);
                search.on_probe_sent();
                assert_eq!(search.wanted(), None, "one at a time");
                if size <= path {
                    assert!(search.on_probe_delivered(size));
                } else {
                    search.on_probe_lost(size);
                }
                probes += 1;
            }
            let best = path.min(1500);
            assert!(
                search.mtu() <= best && search.mtu() + SMALLEST_STEP * 2 > best,
                "{path}: {}",
                search.mtu()
            );
            assert!(probes <= 18, "{path}: {probes} probes");
        }
    }

    #[test]
    fn a_black_hole_leads_back_to_the_base() {
        let mut search = MtuSearch::new(1500);
        search.on_delivered();
        assert!(search.on_probe_delivered(1455));
        assert!(search.on_black_hole(1455));
        assert_eq!(search.mtu(), BASE);
        assert!(search.wanted().is_some_and(|size| size < 1455));
    }
}
