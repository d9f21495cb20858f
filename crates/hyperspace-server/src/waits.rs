//! Requests that wait for the network: what the old server's `ifAvailable`, `wait` and `minLength` mean.
//!
//! `ifAvailable` fails once the network was asked and nobody has what is wanted, not before and not never: first the
//! daemon's own search for peers has to come to an end ([`Discovery`]), then every connected peer has to have
//! answered.

use std::{future::Future, sync::Arc};

use bytes::Bytes;
use futures::{StreamExt, future::BoxFuture};
use hypercore::{
    DiscoveryKey, Error, GetOptions, Hypercore, UpdateOptions,
    demand::DownloadRange,
    events::{CoreEvent, StreamedEvent},
};
use hyperspace_common::{RpcError, RpcErrorExt, text};

use crate::answer::core_error;

/// How many rounds of the search, one begun while the other was waited for, are waited for.
const ROUNDS: usize = 3;

/// What the daemon knows about the search for a core's peers.
pub trait Discovery: Send + Sync + 'static {
    /// Ends when the search for this core's peers has had its first round: those that were found are connected.
    /// `None` when that has been so for some time.
    fn flushed(&self, discovery_key: &DiscoveryKey) -> Option<BoxFuture<'static, ()>>;
}

/// Waits until the search for a topic's peers has had its first round.
pub(crate) async fn settled(discovery: Arc<dyn Discovery>, topic: DiscoveryKey) {
    for _ in 0..ROUNDS {
        let Some(flushed) = discovery.flushed(&topic) else { return };
        flushed.await;
    }
}

/// Waits for a block.
pub(crate) async fn get(
    core: Hypercore,
    seq: u64,
    if_available: bool,
    discovery: Arc<dyn Discovery>,
) -> Result<Bytes, RpcError> {
    let options = |if_available| GetOptions { wait: true, if_available, ..GetOptions::default() };
    if if_available {
        // The block may come while peers are still being looked for.
        let settled = settled(discovery, core.discovery_key());
        if let Some(block) = either(core.get_with(seq, options(false)), settled).await {
            return block_or_error(block);
        }
    }
    block_or_error(core.get_with(seq, options(if_available)).await)
}

fn block_or_error(block: Result<Option<Bytes>, Error>) -> Result<Bytes, RpcError> {
    match block {
        Ok(Some(block)) => Ok(block),
        Ok(None) => Err(RpcError::sentence(text::BLOCK_NOT_AVAILABLE)),
        Err(error) => Err(core_error(&error)),
    }
}

/// Waits for the core to have at least `min_length` blocks.
pub(crate) async fn update(
    core: Hypercore,
    min_length: u64,
    if_available: bool,
    discovery: Arc<dyn Discovery>,
) -> Result<(), RpcError> {
    let ask = UpdateOptions {
        wait: Some(true),
        min_length: Some(min_length),
        all_peers: true,
        ..UpdateOptions::default()
    };
    // Listening starts before looking, so that no append falls in between.
    let mut events = core.events();
    if if_available {
        // Any peer that turns up meanwhile can be asked at once.
        let settled = settled(discovery, core.discovery_key());
        let _ = either(longer(&core, &mut events, min_length), settled).await;
    }
    loop {
        if core.length() >= min_length {
            return Ok(());
        }
        core.update_with(ask).await.map_err(|error| core_error(&error))?;
        if core.length() >= min_length {
            return Ok(());
        }
        if if_available {
            return Err(RpcError::sentence(text::NO_UPDATE_AVAILABLE));
        }
        longer_or_more_peers(&mut events).await?;
    }
}

async fn longer(core: &Hypercore, events: &mut hypercore::events::Events, min_length: u64) {
    while core.length() < min_length {
        if longer_or_more_peers(events).await.is_err() {
            return;
        }
    }
}

/// Waits until it is worth looking again.
async fn longer_or_more_peers(events: &mut hypercore::events::Events) -> Result<(), RpcError> {
    loop {
        match events.next().await {
            Some(
                StreamedEvent::Event(CoreEvent::Append { .. } | CoreEvent::PeerAdded(_))
                | StreamedEvent::Lagged(_),
            ) => {
                return Ok(());
            }
            Some(_) => {}
            None => return Err(RpcError::sentence(text::FEED_CLOSED)),
        }
    }
}

/// Waits for what is needed to say which block holds a byte.
pub(crate) async fn seek(
    core: Hypercore,
    byte_offset: u64,
    if_available: bool,
    discovery: Arc<dyn Discovery>,
) -> Result<(u64, u64), RpcError> {
    let found = core.seek(byte_offset);
    if !if_available {
        return found.await.map_err(|error| core_error(&error));
    }
    // What tells where it is may come while peers are still being looked for.
    if let Some(found) = either(found, settled(discovery, core.discovery_key())).await {
        return found.map_err(|error| core_error(&error));
    }
    let found = core.seek_if_available(byte_offset).await.map_err(|error| core_error(&error))?;
    found.ok_or_else(|| RpcError::sentence(text::SEEK_NOT_AVAILABLE))
}

/// Downloads until all of the range is here.
pub(crate) async fn download(core: Hypercore, range: DownloadRange) -> Result<(), RpcError> {
    let mut download = core.download(range).map_err(|error| core_error(&error))?;
    match download.done().await {
        Err(Error::Cancelled) => Err(RpcError::download_cancelled()),
        done => done.map_err(|error| core_error(&error)),
    }
}

/// The first future's result, or `None` when the second ends before it.
async fn either<T>(first: impl Future<Output = T>, second: impl Future<Output = ()>) -> Option<T> {
    use futures::future::{Either, select};
    match select(std::pin::pin!(first), std::pin::pin!(second)).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}
