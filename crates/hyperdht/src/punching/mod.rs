//! Hole punching on real sockets: what `nat` decides, done.

mod budget;
mod pool;
mod puncher;

pub(crate) use budget::{PunchBudget, PunchPermit};
pub(crate) use pool::{PoolSocket, Punched};
pub(crate) use puncher::{PunchEvent, Puncher};
