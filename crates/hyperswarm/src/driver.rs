//! The swarm on tokio: one task that runs queries and dials and hands connections over.

use std::collections::HashMap;
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Instant;

use futures::future::{AbortHandle, Abortable, BoxFuture};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, trace, warn};

use crate::dht::{Dht, Dial, DialError, Gate, QueryEvent, Watch};
use crate::swarm::{Action, CloseReason, ConnectionId, DialOutcome, QueryId, Swarm, WaiterId};
use crate::{Counts, PeerInfo, PublicKey, QueryOutcome, SwarmOptions};

/// Connections that may wait to be taken; further ones are closed.
const MAX_UNTAKEN: usize = 1024;
/// Bans that may wait to be heard of.
const MAX_BANS: usize = 256;

/// Ends when what was waited for is over: true when it came about, false when the network could not be reached or
/// the swarm ends.
#[derive(Debug)]
pub struct Flush(oneshot::Receiver<bool>);

impl Future for Flush {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<bool> {
        Pin::new(&mut self.0).poll(cx).map(|done| done.unwrap_or(false))
    }
}

/// What the handles and the task share.
pub(crate) struct Shared<D: Dht> {
    pub(crate) dht: D,
    state: Mutex<State>,
    /// Something changed: the task is to look.
    wake: Notify,
    /// The task is to end.
    pub(crate) ended: CancellationToken,
    pub(crate) connections: tokio::sync::Mutex<mpsc::Receiver<(D::Connection, PeerInfo)>>,
    public_key: PublicKey,
    /// As of the task's last look.
    pub(crate) counts: watch::Sender<Counts>,
    pub(crate) bans: broadcast::Sender<PublicKey>,
}

struct State {
    swarm: Swarm,
    waiters: HashMap<WaiterId, oneshot::Sender<bool>>,
}

impl<D: Dht> Shared<D> {
    pub(crate) fn start(dht: D, options: SwarmOptions, public_key: PublicKey, seed: u64) -> Arc<Self> {
        let (taken, connections) = mpsc::channel(MAX_UNTAKEN);
        let swarm = Swarm::new(options, public_key, seed);
        let shared = Arc::new(Self {
            dht,
            state: Mutex::new(State { swarm, waiters: HashMap::new() }),
            wake: Notify::new(),
            ended: CancellationToken::new(),
            connections: tokio::sync::Mutex::new(connections),
            public_key,
            counts: watch::Sender::new(Counts::default()),
            bans: broadcast::Sender::new(MAX_BANS),
        });
        tokio::spawn(Driver::new(shared.clone(), taken).run());
        shared
    }

    pub(crate) fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Does something with the swarm; the task does what comes of it.
    pub(crate) fn with<T>(&self, act: impl FnOnce(&mut Swarm, Instant) -> T) -> T {
        let value = act(&mut self.lock().swarm, now());
        self.wake.notify_one();
        value
    }

    /// Looks at the swarm.
    pub(crate) fn look<T>(&self, at: impl FnOnce(&Swarm) -> T) -> T {
        at(&self.lock().swarm)
    }

    /// Does something with the swarm that somebody then waits for.
    pub(crate) fn wait(&self, act: impl FnOnce(&mut Swarm, Instant) -> WaiterId) -> Flush {
        let (done, flush) = oneshot::channel();
        {
            let mut state = self.lock();
            if !self.ended.is_cancelled() {
                let waiter = act(&mut state.swarm, now());
                state.waiters.insert(waiter, done);
            }
        }
        self.wake.notify_one();
        Flush(flush)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<D: Dht> fmt::Debug for Shared<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

/// tokio's clock, which tests can turn.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// What something that ran in the background came to.
enum Outcome<C> {
    Listened(Result<(), String>),
    Accepted(Option<C>),
    Query(QueryId, QueryOutcome),
    Dialled(ConnectionId, Result<C, DialError>),
    Closed(ConnectionId),
    NetworkChanged,
    /// It was given up.
    Nothing,
}

struct Driver<D: Dht> {
    shared: Arc<Shared<D>>,
    taken: mpsc::Sender<(D::Connection, PeerInfo)>,
    work: FuturesUnordered<BoxFuture<'static, Outcome<D::Connection>>>,
    queries: HashMap<QueryId, AbortHandle>,
    dials: HashMap<ConnectionId, AbortHandle>,
    /// Open, and not yet told of.
    opened: HashMap<ConnectionId, D::Connection>,
    watches: HashMap<ConnectionId, Arc<dyn Watch>>,
}

impl<D: Dht> Driver<D> {
    fn new(shared: Arc<Shared<D>>, taken: mpsc::Sender<(D::Connection, PeerInfo)>) -> Self {
        Self {
            shared,
            taken,
            work: FuturesUnordered::new(),
            queries: HashMap::new(),
            dials: HashMap::new(),
            opened: HashMap::new(),
            watches: HashMap::new(),
        }
    }

    async fn run(mut self) {
        let changed = self.shared.dht.network_changed();
        self.work.push(Box::pin(async move {
            changed.await;
            Outcome::NetworkChanged
        }));
        let shared = self.shared.clone();
        loop {
            let deadline = self.act();
            let sleep = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = shared.ended.cancelled() => break,
                () = shared.wake.notified() => {}
                Some(outcome) = self.work.next() => self.outcome(outcome),
                () = sleep => {}
            }
        }
        // Nobody is left waiting: dropping the senders says that it did not come about.
        self.shared.lock().waiters.clear();
        for watch in self.watches.values() {
            watch.close();
        }
    }

    /// Does what the swarm wants done; returns when it wants to be looked at again.
    fn act(&mut self) -> Option<Instant> {
        let shared = self.shared.clone();
        let mut state = shared.lock();
        state.swarm.handle_timeout(now());
        // Everything below only starts things.
        while let Some(action) = state.swarm.poll_action() {
            match action {
                Action::Listen => self.listen(),
                Action::Query { query, topic, kind } => {
                    let events = self.shared.dht.query(topic, kind);
                    let (abort, registration) = AbortHandle::new_pair();
                    self.queries.insert(query, abort);
                    let running = run_query(Arc::downgrade(&self.shared), query, events);
                    self.work.push(Box::pin(async move {
                        match Abortable::new(running, registration).await {
                            Ok(outcome) => Outcome::Query(query, outcome),
                            Err(_) => Outcome::Nothing,
                        }
                    }));
                }
                Action::Cancel { query } => {
                    if let Some(query) = self.queries.remove(&query) {
                        query.abort();
                    }
                }
                Action::Forget { topic } => self.shared.dht.forget(&topic),
                Action::Dial { connection, public_key, relay_addresses, force_relaying } => {
                    let dialling = self.shared.dht.dial(Dial { public_key, relay_addresses, force_relaying });
                    let (abort, registration) = AbortHandle::new_pair();
                    self.dials.insert(connection, abort);
                    self.work.push(Box::pin(async move {
                        match Abortable::new(dialling, registration).await {
                            Ok(dialled) => Outcome::Dialled(connection, dialled),
                            Err(_) => Outcome::Nothing,
                        }
                    }));
                }
                Action::Close { connection, reason } => self.close(connection, reason),
                Action::Opened { connection } => self.hand_over(&state.swarm, connection),
                Action::Banned { public_key } => {
                    debug!(peer = %Short(&public_key), "a peer is kept out");
                    // Nobody has to listen.
                    let _ = shared.bans.send(public_key);
                }
                Action::Done { waiter, ok } => {
                    if let Some(waiter) = state.waiters.remove(&waiter) {
                        let _ = waiter.send(ok);
                    }
                }
            }
        }
        let counts = state.swarm.counts();
        shared.counts.send_if_modified(|before| std::mem::replace(before, counts) != counts);
        state.swarm.next_deadline()
    }

    fn listen(&mut self) {
        let shared = Arc::downgrade(&self.shared);
        let gate = Gate(Arc::new(move |public_key| {
            let Some(shared) = shared.upgrade() else { return false };
            shared.with(|swarm, _| swarm.takes_connections() && swarm.lets_in(public_key))
        }));
        let listening = self.shared.dht.listen(gate);
        self.work.push(Box::pin(async move { Outcome::Listened(listening.await) }));
    }

    fn accept(&mut self) {
        let accepting = self.shared.dht.accept();
        self.work.push(Box::pin(async move { Outcome::Accepted(accepting.await) }));
    }

    fn outcome(&mut self, outcome: Outcome<D::Connection>) {
        match outcome {
            Outcome::Nothing => {}
            Outcome::NetworkChanged => {
                self.shared.with(|swarm, now| swarm.network_changed(now));
                let changed = self.shared.dht.network_changed();
                self.work.push(Box::pin(async move {
                    changed.await;
                    Outcome::NetworkChanged
                }));
            }
            Outcome::Listened(listened) => {
                if let Err(error) = &listened {
                    warn!("others cannot connect to this swarm: {error}");
                }
                self.shared.with(|swarm, now| swarm.listened(listened.is_ok(), now));
                if listened.is_ok() {
                    self.accept();
                }
            }
            Outcome::Accepted(None) => {}
            Outcome::Accepted(Some(connection)) => {
                self.accept();
                let public_key = D::remote_public_key(&connection);
                match self.shared.with(|swarm, now| swarm.incoming(&public_key, now)) {
                    Ok(id) => {
                        self.opened.insert(id, connection);
                    }
                    Err(refusal) => {
                        trace!(peer = %Short(&public_key), "a connection is not taken: {refusal}");
                        D::watch(&connection).close();
                    }
                }
            }
            Outcome::Query(query, outcome) => {
                self.queries.remove(&query);
                self.shared.with(|swarm, now| swarm.query_ended(query, outcome, now));
            }
            Outcome::Dialled(id, dialled) => {
                self.dials.remove(&id);
                let outcome = match dialled {
                    Ok(connection) => {
                        let public_key = D::remote_public_key(&connection);
                        if self.shared.look(|swarm| swarm.connection_with(&public_key)) != Some(id) {
                            D::watch(&connection).close();
                            return;
                        }
                        self.opened.insert(id, connection);
                        DialOutcome::Open
                    }
                    Err(error) => {
                        debug!("a peer cannot be reached: {error}");
                        DialOutcome::Failed { try_relay: error.try_relay }
                    }
                };
                self.shared.with(|swarm, now| swarm.dialled(id, outcome, now));
            }
            Outcome::Closed(id) => {
                if self.watches.remove(&id).is_some() {
                    self.shared.with(|swarm, now| swarm.closed(id, now));
                }
            }
        }
    }

    fn close(&mut self, id: ConnectionId, reason: CloseReason) {
        trace!(?id, ?reason, "closing a connection");
        if let Some(dial) = self.dials.remove(&id) {
            dial.abort();
        }
        if let Some(connection) = self.opened.remove(&id) {
            D::watch(&connection).close();
        }
        if let Some(watch) = self.watches.remove(&id) {
            watch.close();
        }
    }

    fn hand_over(&mut self, swarm: &Swarm, id: ConnectionId) {
        let Some(connection) = self.opened.remove(&id) else { return };
        let watch = D::watch(&connection);
        let closed = watch.closed();
        self.watches.insert(id, watch.clone());
        self.work.push(Box::pin(async move {
            closed.await;
            Outcome::Closed(id)
        }));
        let Some(peer) = swarm.peer(&D::remote_public_key(&connection)) else { return };
        if let Err(error) = self.taken.try_send((connection, peer)) {
            warn!("a connection is closed, as nobody takes it: {error}");
            watch.close();
        }
    }
}

async fn run_query<D: Dht>(
    shared: std::sync::Weak<Shared<D>>,
    query: QueryId,
    mut events: futures::stream::BoxStream<'static, QueryEvent>,
) -> QueryOutcome {
    while let Some(event) = events.next().await {
        match event {
            QueryEvent::Found { public_key, relay_addresses } => {
                let Some(shared) = shared.upgrade() else { break };
                shared.with(|swarm, now| swarm.found(query, &public_key, &relay_addresses, now));
            }
            QueryEvent::Ended(outcome) => return outcome,
        }
    }
    QueryOutcome::FAILED
}

/// The first bytes of a key.
struct Short<'a>(&'a PublicKey);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
