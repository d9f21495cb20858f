//! Hole punching on real sockets: what `nat` decides, done.

mod budget;
mod pool;
mod puncher;
mod slots;

pub(crate) use budget::{PunchBudget, PunchPermit};
pub(crate) use pool::{PoolSocket, Punched};
pub(crate) use puncher::{CallerSlot, PunchEvent, Puncher};
#[cfg(test)]
pub(crate) use slots::MAX_SLOTS;
pub(crate) use slots::{PunchSlot, PunchSlots};
