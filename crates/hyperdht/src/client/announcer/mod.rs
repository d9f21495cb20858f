//! Keeps a server announced: [`state`] decides, [`driver`] does.

mod driver;
mod state;
#[cfg(test)]
mod tests;

pub(crate) use driver::{AnnouncerHandle, announcer};
