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
    let found = async {
        loop {
            // A seek beyond the end needs a longer log first.
            let seek = core.seek(byte_offset).await;
            match seek {
                Err(Error::OutOfBounds { .. }) if !if_available => {
                    longer_or_more_peers(&mut core.events()).await?;
                }
                seek => return seek.map_err(|error| core_error(&error)),
            }
        }
    };
    if !if_available {
        return found.await;
    }
    let nobody = async {
        settled(discovery, core.discovery_key()).await;
        // Peers say how long the log is; then either the offset lies within it, or nobody has it.
        let ask = UpdateOptions { wait: Some(true), all_peers: true, ..UpdateOptions::default() };
        while core.peer_count() > 0 {
            if core.byte_length() > byte_offset {
                // Somebody has the tree: the answer is on its way. It is not when all peers leave.
                peer_left(&core).await;
            } else if !matches!(core.update_with(ask).await, Ok(true)) {
                break;
            }
        }
    };
    either(found, nobody).await.unwrap_or_else(|| Err(RpcError::sentence(text::SEEK_NOT_AVAILABLE)))
}

async fn peer_left(core: &Hypercore) {
    let mut events = core.events();
    if core.peer_count() == 0 {
        return;
    }
    while let Some(event) = events.next().await {
        if matches!(event, StreamedEvent::Lagged(_) | StreamedEvent::Event(CoreEvent::PeerRemoved(_))) {
            return;
        }
    }
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
