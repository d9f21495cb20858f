//! The announcer's requests and its clock.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use secret_stream::KeyPair;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use super::state::{Action, Announcer, Candidate, RELAYS, Relay};
use crate::client::find_peer::find_target;
use crate::messages::{Command, Message, error};
use crate::records::signing::{AnnounceContext, Signer, hash};
use crate::rpc::{NodeId, Peer, PingOptions, QueryOptions, RequestBody, RequestOptions, Rpc, RpcEvent};

/// The announcer of a server. Its task ends when it has stopped, or all handles are gone (then at once, without
/// unannouncing).
#[derive(Debug, Clone)]
pub(crate) struct AnnouncerHandle {
    wishes: Arc<watch::Sender<Wishes>>,
    view: watch::Receiver<View>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Wishes {
    suspended: bool,
    stopped: bool,
    /// Counts the calls of [`AnnouncerHandle::refresh`].
    refreshes: u64,
}

#[derive(Debug, Clone, Default)]
struct View {
    relays: Vec<Relay>,
    /// Where the node can be reached itself, as of the last announcement.
    own_address: Option<SocketAddr>,
    attempted: bool,
    /// It is announced, and what was found is all in use.
    announced: bool,
    quiet: bool,
    ended: bool,
}

/// Announces `key_pair` through `rpc` from now on; the future is the announcer's task.
pub(crate) fn announcer(
    rpc: &Rpc,
    key_pair: &KeyPair,
) -> (AnnouncerHandle, impl Future<Output = ()> + Send + use<>) {
    let (wishes, inbox) = watch::channel(Wishes::default());
    let (publish, view) = watch::channel(View::default());
    let driver = Driver {
        rpc: rpc.clone(),
        signer: Signer::new(key_pair),
        target: hash(&[&key_pair.public]),
        state: Announcer::new(),
        tasks: FuturesUnordered::new(),
        query: None,
        refreshes: 0,
        publish,
    };
    let events = rpc.subscribe();
    (AnnouncerHandle { wishes: Arc::new(wishes), view }, driver.run(inbox, events))
}

impl AnnouncerHandle {
    /// The nodes where the server is announced.
    pub(crate) fn relays(&self) -> Vec<Relay> {
        self.view.borrow().relays.clone()
    }

    /// Addresses to announce topics with: that of this node if everybody reaches it, then those of the relays.
    pub(crate) fn relay_addresses(&self) -> Vec<SocketAddr> {
        let view = self.view.borrow();
        let relays = view.relays.iter().map(|relay| relay.node.addr);
        view.own_address.into_iter().chain(relays).take(RELAYS).collect()
    }

    /// Whether a node is one of the relays.
    pub(crate) fn is_relay(&self, address: SocketAddr) -> bool {
        self.view.borrow().relays.iter().any(|relay| relay.node.addr == address)
    }

    /// Waits until the first attempt to announce is over, well or not.
    pub(crate) async fn started(&self) {
        self.wait(|view| view.attempted || view.ended).await;
    }

    /// Waits until it is announced; false when it will not be.
    pub(crate) async fn announced(&self) -> bool {
        let mut view = self.view.clone();
        view.wait_for(|view| view.announced || view.ended).await.is_ok_and(|view| !view.ended)
    }

    /// Waits until the relays are as wanted.
    #[cfg(test)]
    pub(crate) async fn changed(&self, mut wanted: impl FnMut(&[Relay]) -> bool) {
        self.wait(|view| view.ended || wanted(&view.relays)).await;
    }

    /// Announces anew soon.
    pub(crate) fn refresh(&self) {
        self.wishes.send_modify(|wishes| wishes.refreshes += 1);
    }

    /// Takes the announcement back until [`resume`](Self::resume).
    pub(crate) async fn suspend(&self) {
        self.wishes.send_modify(|wishes| wishes.suspended = true);
        self.wait(|view| view.quiet || view.ended).await;
    }

    /// Undoes [`suspend`](Self::suspend).
    pub(crate) fn resume(&self) {
        self.wishes.send_modify(|wishes| wishes.suspended = false);
    }

    /// Takes the announcement back and ends the task.
    pub(crate) async fn stop(&self) {
        self.wishes.send_modify(|wishes| wishes.stopped = true);
        self.wait(|view| view.ended).await;
    }

    async fn wait(&self, until: impl FnMut(&View) -> bool) {
        // An error means that the task is gone: nothing to wait for.
        let _ = self.view.clone().wait_for(until).await;
    }
}

/// How a request of the announcer ended.
enum Done {
    Announced(Relay, bool),
    Unannounced,
    Pinged(bool),
}

type Found = (Vec<Peer>, Vec<Candidate>);

struct Driver {
    rpc: Rpc,
    signer: Signer,
    target: NodeId,
    state: Announcer,
    /// Requests to relays: a handful.
    tasks: FuturesUnordered<BoxFuture<'static, Done>>,
    query: Option<BoxFuture<'static, Found>>,
    refreshes: u64,
    publish: watch::Sender<View>,
}

impl Driver {
    async fn run(mut self, mut inbox: watch::Receiver<Wishes>, mut events: broadcast::Receiver<RpcEvent>) {
        self.state.set_online(self.rpc.is_online());
        loop {
            while let Some(action) = self.state.poll(now()) {
                self.begin(action);
            }
            self.show();
            if self.state.is_stopped() {
                break;
            }
            let deadline = self.state.next_deadline();
            tokio::select! {
                Some(done) = self.tasks.next() => self.finish(done),
                (closest, candidates) = running(&mut self.query) => {
                    self.query = None;
                    self.state.on_query(now(), closest, candidates);
                }
                changed = inbox.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let wishes = *inbox.borrow_and_update();
                    self.obey(wishes);
                }
                event = events.recv() => {
                    if !self.heed(event) {
                        break;
                    }
                }
                () = sleep_until(deadline) => {}
            }
        }
        self.publish.send_modify(|view| view.ended = true);
    }

    fn obey(&mut self, wishes: Wishes) {
        if wishes.stopped {
            self.state.stop();
        } else if wishes.suspended {
            self.state.suspend();
        } else {
            self.state.resume();
        }
        if wishes.refreshes != self.refreshes {
            self.refreshes = wishes.refreshes;
            self.state.refresh();
        }
        // Nobody shall take what was true before for the answer to this wish.
        let quiet = self.state.is_quiet();
        self.publish.send_modify(|view| view.quiet = quiet);
    }

    /// False when the node is closed.
    fn heed(&mut self, event: Result<RpcEvent, RecvError>) -> bool {
        match event {
            Ok(RpcEvent::NetworkChange) => self.state.refresh(),
            Ok(RpcEvent::NetworkUpdate { online, .. }) => self.state.set_online(online),
            Ok(RpcEvent::Closed) | Err(RecvError::Closed) => return false,
            Ok(_) => {}
            Err(RecvError::Lagged(_)) => {
                self.state.set_online(self.rpc.is_online());
                self.state.refresh();
            }
        }
        true
    }

    fn begin(&mut self, action: Action) {
        let rpc = self.rpc.clone();
        match action {
            Action::Query(nodes) => self.query = Some(look(rpc, self.target, nodes).boxed()),
            Action::CancelQuery => self.query = None,
            Action::Announce(candidate) => {
                let request = announce(rpc, self.target, self.signer.clone(), candidate);
                self.tasks.push(request.map(move |taken| Done::Announced(candidate.relay, taken)).boxed());
            }
            Action::Unannounce(node) => {
                let request = unannounce(rpc, self.target, self.signer.clone(), node.addr);
                self.tasks.push(request.map(|_| Done::Unannounced).boxed());
            }
            Action::Ping(node) => {
                let ping = async move { rpc.ping(node.addr, PingOptions::default()).await };
                self.tasks.push(ping.map(|pong| Done::Pinged(pong.is_ok())).boxed());
            }
            Action::Publish => {
                let own_address = if self.rpc.is_firewalled() { None } else { self.rpc.remote_address() };
                self.publish.send_modify(|view| view.own_address = own_address);
            }
        }
    }

    fn finish(&mut self, done: Done) {
        match done {
            Done::Announced(relay, taken) => self.state.on_announced(now(), relay, taken),
            Done::Unannounced => self.state.on_unannounced(now()),
            Done::Pinged(alive) => self.state.on_pinged(now(), alive),
        }
    }

    fn show(&self) {
        let flags = (self.state.attempted(), self.state.is_announced(), self.state.is_quiet());
        self.publish.send_if_modified(|view| {
            let same =
                view.relays == self.state.relays() && (view.attempted, view.announced, view.quiet) == flags;
            if !same {
                view.relays = self.state.relays().to_vec();
                (view.attempted, view.announced, view.quiet) = flags;
            }
            !same
        });
    }
}

/// The nodes nearest to `target`, and those of them that take announcements.
async fn look(rpc: Rpc, target: NodeId, nodes: Vec<Peer>) -> Found {
    let options = QueryOptions { nodes, ..QueryOptions::default() };
    let Ok(mut query) = find_target(&rpc, target, options) else { return Found::default() };
    // A query that failed may have found some all the same.
    let _ = query.finished().await;
    let replies = query.closest_replies();
    let candidates = replies
        .iter()
        .filter(|reply| reply.from.id.is_some())
        .filter_map(|reply| {
            let relay = Relay { node: reply.from, seen_as: reply.to };
            Some(Candidate { relay, token: reply.token? })
        })
        .collect();
    (replies.iter().map(|reply| reply.from).collect(), candidates)
}

/// Whether the node took the announcement. It learns the server's address from the request itself, so no relay
/// addresses are sent along.
async fn announce(rpc: Rpc, target: NodeId, signer: Signer, candidate: Candidate) -> bool {
    let (node, token) = (candidate.relay.node, candidate.token);
    let Some(node_id) = &node.id else { return false };
    let context = AnnounceContext { target: &target, node_id, token: &token };
    let body = RequestBody {
        command: Command::Announce.to_wire(),
        target: Some(target),
        value: Some(signer.announce(context, Vec::new(), None, 0).encode()),
        token: Some(token),
    };
    let reply = rpc.request(node.addr, body, RequestOptions::default()).await;
    reply.is_ok_and(|reply| reply.error == error::NONE)
}

/// Asks a former relay for a token, and takes the announcement back if it has one.
async fn unannounce(rpc: Rpc, target: NodeId, signer: Signer, node: SocketAddr) -> Option<()> {
    let ask =
        RequestBody { command: Command::FindPeer.to_wire(), target: Some(target), value: None, token: None };
    let reply = rpc.request(node, ask, RequestOptions::default()).await.ok()?;
    let (token, node_id, _) = (reply.token?, reply.from.id?, reply.value?);
    let context = AnnounceContext { target: &target, node_id: &node_id, token: &token };
    let body = RequestBody {
        command: Command::Unannounce.to_wire(),
        target: Some(target),
        value: Some(signer.unannounce(context).encode()),
        token: Some(token),
    };
    rpc.request(node, body, RequestOptions::default()).await.ok().map(drop)
}

async fn running(query: &mut Option<BoxFuture<'static, Found>>) -> Found {
    match query {
        Some(query) => query.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// The clock that tests can set.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
