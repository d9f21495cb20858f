//! Announcing many topics: as fast as the network takes it, and no faster.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt};
use secret_stream::KeyPair;

use super::announced_relays;
use super::store_at::Stored;
use super::topic::{AnnounceOptions, announce_signed};
use crate::records::signing::Signer;
use crate::rpc::{NodeId, Peer, QueryOptions, Rpc, RpcError};

/// Topics of a batch that are on their way at most.
pub const BATCH_WINDOW: usize = 64;
/// Topics that are on their way in the beginning.
const FIRST_WINDOW: usize = 8;

/// How to announce many topics.
#[derive(Debug, Clone)]
pub struct BatchOptions {
    /// Topics on their way at most. Fewer are while the network loses requests.
    pub window: usize,
    /// As in [`AnnounceOptions`].
    pub clear: bool,
    /// As in [`AnnounceOptions`].
    pub bump: u64,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self { window: BATCH_WINDOW, clear: false, bump: 0 }
    }
}

/// One topic of a batch is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// The topic.
    pub target: NodeId,
    /// What became of it.
    pub outcome: Result<Stored, RpcError>,
}

/// Announces `key_pair` under all `targets`, a few at a time: a stream of those that are done.
///
/// Topics go in the order of their keys, so that each begins its walk at the nodes where a neighbour ended. How many go
/// at once follows from what the network loses, as with the window of a reliable stream.
pub fn announce_many(
    rpc: &Rpc,
    mut targets: Vec<NodeId>,
    key_pair: &KeyPair,
    relay_addresses: &[SocketAddr],
    options: BatchOptions,
) -> impl Stream<Item = Announced> + Send + Unpin + use<> {
    targets.sort_unstable();
    targets.dedup();
    let signer = Signer::new(key_pair);
    let relays = announced_relays(relay_addresses);
    let rpc = rpc.clone();
    let BatchOptions { window, clear, bump } = options;
    let start = move |target, nodes: Vec<Peer>| {
        let query = QueryOptions { nodes, ..QueryOptions::default() };
        let options = AnnounceOptions { query, clear, bump };
        let walk = announce_signed(&rpc, target, signer.clone(), relays.clone(), options);
        async move {
            let outcome = match walk {
                Ok(mut walk) => walk.finished().await,
                Err(error) => Err(error),
            };
            Announced { target, outcome }
        }
        .boxed()
    };
    Batch {
        waiting: targets.into(),
        window: Window::new(window),
        under_way: FuturesUnordered::new(),
        near: Vec::new(),
        start,
    }
}

struct Batch<F> {
    waiting: VecDeque<NodeId>,
    window: Window,
    under_way: FuturesUnordered<BoxFuture<'static, Announced>>,
    /// The nodes where the last walk ended.
    near: Vec<Peer>,
    start: F,
}

impl<F> Stream for Batch<F>
where
    F: FnMut(NodeId, Vec<Peer>) -> BoxFuture<'static, Announced> + Unpin,
{
    type Item = Announced;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Announced>> {
        let this = self.get_mut();
        while this.window.has_room(this.under_way.len())
            && let Some(target) = this.waiting.pop_front()
        {
            this.under_way.push((this.start)(target, this.near.clone()));
        }
        let done = std::task::ready!(this.under_way.poll_next_unpin(context));
        if let Some(done) = &done {
            match &done.outcome {
                Ok(stored) => {
                    this.near.clone_from(&stored.closest_nodes);
                    this.window.succeeded();
                }
                Err(_) => {
                    this.near.clear();
                    this.window.failed();
                }
            }
        }
        Poll::Ready(done)
    }
}

/// How many topics go at once: one more for every window that went well, half as many after a failure.
#[derive(Debug)]
struct Window {
    size: usize,
    max: usize,
    credit: usize,
}

impl Window {
    fn new(max: usize) -> Self {
        let max = max.max(1);
        Self { size: FIRST_WINDOW.min(max), max, credit: 0 }
    }

    fn has_room(&self, under_way: usize) -> bool {
        under_way < self.size
    }

    fn succeeded(&mut self) {
        self.credit += 1;
        if self.credit >= self.size {
            self.credit = 0;
            self.size = (self.size + FIRST_WINDOW).min(self.max);
        }
    }

    fn failed(&mut self) {
        self.credit = 0;
        self.size = (self.size / 2).max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn the_window_grows_with_success_and_shrinks_with_failure() {
        let mut window = Window::new(64);
        assert!(window.has_room(7) && !window.has_room(8));
        for _ in 0..1000 {
            window.succeeded();
        }
        assert!(window.has_room(63) && !window.has_room(64));
        for _ in 0..10 {
            window.failed();
        }
        assert!(window.has_room(0) && !window.has_room(1));
    }

    #[tokio::test]
    async fn every_topic_has_its_turn_and_neighbours_hand_on_where_they_ended() {
        let most = Rc::new(RefCell::new((0usize, 0usize)));
        let begun = Rc::new(RefCell::new(Vec::new()));
        let (most_, begun_) = (most.clone(), begun.clone());
        let (done, finish) = futures::channel::mpsc::unbounded::<()>();
        let finish = std::sync::Arc::new(futures::lock::Mutex::new(finish));
        let start = move |target: NodeId, near: Vec<Peer>| {
            let mut most = most_.borrow_mut();
            most.0 += 1;
            most.1 = most.1.max(most.0);
            begun_.borrow_mut().push((target[0], near.len()));
            let finish = finish.clone();
            async move {
                finish.lock().await.next().await;
                let here = Peer::at(([127, 0, 0, 1], u16::from(target[0]) + 1).into());
                Announced {
                    target,
                    outcome: Ok(Stored { closest_nodes: vec![here], stored: 1, refused: None }),
                }
            }
            .boxed()
        };
        let mut batch = Batch {
            waiting: (0..100u8).map(|n| [n; 32]).collect(),
            window: Window::new(20),
            under_way: FuturesUnordered::new(),
            near: Vec::new(),
            start,
        };
        let mut seen = 0;
        loop {
            done.unbounded_send(()).unwrap();
            if batch.next().await.is_none() {
                break;
            }
            seen += 1;
            most.borrow_mut().0 -= 1;
        }
        assert_eq!(seen, 100);
        assert_eq!(most.borrow().1, 20);
        let begun = begun.borrow();
        assert_eq!(begun.iter().map(|(n, _)| *n).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        assert!(
            begun[..8].iter().all(|(_, near)| *near == 0) && begun[8..].iter().all(|(_, near)| *near == 1)
        );
    }
}
