//! The messages of the RPC, a file for each service; made from the files in `proto/` by the test `schema`.

#[rustfmt::skip]
mod access;
#[rustfmt::skip]
mod corestore;
#[rustfmt::skip]
mod hypercore;
#[rustfmt::skip]
mod hyperspace;
#[rustfmt::skip]
mod log;
#[rustfmt::skip]
mod network;
#[rustfmt::skip]
mod store;

pub use access::*;
pub use corestore::*;
pub use hypercore::*;
pub use hyperspace::*;
pub use log::*;
pub use network::*;
pub use store::*;
