//! What a NAT does to the ports of its inside, and how to get a first packet through two of them.

mod classify;
mod punch;
mod strategy;

pub(crate) use classify::{MIN_SAMPLES, NatSamples};
pub(crate) use punch::{Punch, PunchStep};
pub(crate) use strategy::{Remote, Strategy};

use crate::messages::Firewall;

impl Firewall {
    /// Everybody sees the same port.
    pub(crate) fn is_consistent(self) -> bool {
        matches!(self, Self::Open | Self::Consistent)
    }
}
