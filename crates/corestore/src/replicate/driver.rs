//! The task of one connection.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hypercore::events::PeerInfo;
use hypercore::session::FindingPeers;
use hypercore::{DiscoveryKey, Hypercore};
use hypercore_protocol::{ChannelId, CloseReason, Connection, ConnectionEvent, Error};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Sleep;

use super::channels::{Channel, Channels};
use super::core::ReplicatedCore;
use super::hub::{CoreSource, ReplicationHub};
use super::link::{Link, Mail};
use super::options::{Progress, ReplicateError};
use super::own_protocol::OwnChannel;
use super::timers::Timers;
use super::wire::Wire;

/// While this much waits for the socket to take it, nothing more is produced. Not more than is worth one write: the
/// remote is to have something to work on while we make the next.
pub(super) const TRANSMIT_HIGH: usize = 64 * 1024;
/// While this much waits, nothing more is read either. Answers are produced only below [`TRANSMIT_HIGH`], so that
/// only a remote that floods us with opens and does not read gets here.
pub(super) const TRANSMIT_STOP: usize = 8 * 1024 * 1024;
/// How long the task works on what has arrived before it writes what came of that and lets others have the thread:
/// the answers of a burst about a thousand cores, each with a signature to check, are not made in one breath.
const BREATH: Duration = Duration::from_millis(5);
/// How many messages are sorted before those who got them have their turns: one frame may hold millions of tiny ones,
/// which would take as many times the memory, and a core's lock all the while that they are worked on.
const PORTION: usize = 1024;
/// How long the rest may take when the connection is closed from this side.
const GOODBYE: Duration = Duration::from_secs(2);

pub(super) struct Driver<IO> {
    pub(super) hub: Arc<ReplicationHub>,
    source: Arc<dyn CoreSource>,
    pub(super) link: Arc<Link>,
    pub(super) connection: Connection,
    wire: Wire<IO>,
    pub(super) channels: Channels,
    own_channel: OwnChannel,
    pub(super) timers: Timers,
    sleep: Pin<Box<Sleep>>,
    pub(super) remote_address: String,
    kind: String,
    pub(super) remote_public_key: [u8; 32],
    progress: watch::Sender<Progress>,
    /// Cores of this side that are in use and may lack a channel. They wait for the handshake here, and their
    /// updates with them.
    to_open: BTreeMap<DiscoveryKey, FindingPeers>,
    /// There is more to do than one breath allowed; until it is done, nothing more is read.
    backlog: bool,
    /// Messages since the last read.
    burst: usize,
    /// The owner has not said yet that it may go on behind the handshake.
    held: bool,
    /// The owner knows who the remote is.
    is_met: bool,
    /// The remote has ended its side, or this side is to end.
    pub(super) ending: bool,
}

/// Why a core is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Its channel has messages, or may have something to send.
    Channel(ChannelId),
    /// It was changed, or its time has come.
    Core,
}

impl<IO: AsyncRead + AsyncWrite + Send + Unpin + 'static> Driver<IO> {
    #[expect(clippy::too_many_arguments, reason = "called in one place, to which each of them has a name")]
    pub(super) fn new(
        hub: Arc<ReplicationHub>,
        source: Arc<dyn CoreSource>,
        link: Arc<Link>,
        mut connection: Connection,
        io: IO,
        remote_address: String,
        kind: String,
        progress: watch::Sender<Progress>,
    ) -> Self {
        let own_channel = OwnChannel::new(hub.own_protocol(), &mut connection);
        Self {
            hub,
            source,
            link,
            connection,
            wire: Wire::new(io),
            channels: Channels::default(),
            own_channel,
            timers: Timers::default(),
            sleep: Box::pin(tokio::time::sleep(Duration::ZERO)),
            remote_address,
            kind,
            remote_public_key: [0; 32],
            progress,
            to_open: BTreeMap::new(),
            backlog: false,
            burst: 0,
            held: false,
            is_met: false,
            ending: false,
        }
    }

    pub(super) fn held(self, held: bool) -> Self {
        Self { held, ..self }
    }

    pub(super) async fn run(mut self) {
        let ended = self.run_until_end().await;
        self.tear_down();
        if ended.is_ok() {
            let goodbye = poll_fn(|cx| self.poll_goodbye(cx));
            let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        }
        let ended = ended.map_err(|error| ReplicateError::Connection {
            remote: self.remote_address.clone(),
            reason: error.to_string(),
        });
        if let Err(error) = &ended {
            tracing::debug!(%error, "a connection failed");
        }
        self.progress.send_modify(|progress| progress.ended = Some(ended));
    }

    async fn run_until_end(&mut self) -> Result<(), Error> {
        while !self.ending || (self.backlog && !self.is_held()) {
            let mail = poll_fn(|cx| self.poll_io(cx)).await?;
            self.connection.cork();
            let worked = self.work(mail);
            self.connection.uncork();
            worked?;
            if !self.is_held() && (self.backlog || self.may_open()) {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    /// Waits until there is something to do: bytes, mail, a deadline, or room to send.
    fn poll_io(&mut self, cx: &mut Context<'_>) -> Poll<Result<Mail, Error>> {
        // Whether it is done does not matter: what is left wakes this task when there is room.
        let _ = self.wire.poll_write_all(cx, &mut self.connection)?;
        let mut ready = !self.is_held() && (self.backlog || self.may_open());
        ready |= self.may_send() && (self.channels.has_senders() || self.own_channel.has_unsent());
        if !self.backlog && self.pending() < TRANSMIT_STOP {
            ready |= self.wire.poll_read_burst(cx, &mut self.connection)?.is_ready();
        }
        ready |= self.poll_deadline(cx);
        match self.link.take(cx.waker()) {
            Some(mail) => Poll::Ready(Ok(mail)),
            None if ready => Poll::Ready(Ok(Mail::default())),
            None => Poll::Pending,
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> bool {
        let next = [self.connection.next_deadline(), self.timers.next()].into_iter().flatten().min();
        let Some(next) = next else { return false };
        loop {
            if next <= Instant::now() {
                return true;
            }
            // An alarm that rings too early is cheaper than one that is set anew with every message.
            if self.sleep.is_elapsed() || self.sleep.deadline().into_std() > next {
                self.sleep.as_mut().reset(next.into());
            }
            if self.sleep.as_mut().poll(cx).is_pending() {
                return false;
            }
        }
    }

    fn work(&mut self, mail: Mail) -> Result<(), Error> {
        let breath_ends = Instant::now() + BREATH;
        self.ending |= mail.close;
        self.held &= !mail.proceed;
        self.take_arrived(breath_ends)?;
        self.to_open.extend(mail.open);
        for peer in mail.ready {
            if let Some(channel) = self.channels.by_peer(peer) {
                self.channels.queue(channel);
            }
        }
        for discovery_key in mail.work {
            if let Some(core) = self.hub.attached(&discovery_key) {
                self.turn(&core, Cause::Core)?;
            }
        }
        if mail.own_protocol {
            self.own_channel.wanted(&mut self.connection)?;
        }
        for (peer, lied) in mail.close_peers {
            if let Some(channel) = self.channels.by_peer(peer) {
                self.finish_channel(channel, lied)?;
            }
        }
        self.take_deadlines()?;
        while self.may_open()
            && let Some((discovery_key, finding)) = self.to_open.pop_first()
        {
            self.open_loaded(&discovery_key)?;
            drop(finding);
            if Instant::now() >= breath_ends {
                break;
            }
        }
        while self.may_send()
            && let Some(channel) = self.channels.next_sender()
        {
            self.channel_turn(channel)?;
            if Instant::now() >= breath_ends {
                break;
            }
        }
        while self.may_send()
            && self.own_channel.has_unsent()
            && self.own_channel.send_next(&self.link, &mut self.connection)?
        {}
        // What the above has closed.
        self.take_arrived(breath_ends)
    }

    /// Takes over what the connection has received: all messages of one core together, a portion at a time.
    fn take_arrived(&mut self, breath_ends: Instant) -> Result<(), Error> {
        self.backlog = true;
        let mut is_more = true;
        while !self.is_held() && self.channels.waiting() < PORTION {
            let Some(event) = self.connection.poll_event()? else {
                is_more = false;
                break;
            };
            let message = matches!(event, ConnectionEvent::Message { .. });
            match event {
                ConnectionEvent::Message { channel: id, message } => {
                    self.burst += 1;
                    self.channels.arrived(id, message);
                }
                ConnectionEvent::DiscoveryKey(discovery_key) => self.on_discovery_key(&discovery_key)?,
                ConnectionEvent::Opened { channel, .. } => self.on_opened(channel)?,
                ConnectionEvent::Closed { channel, reason, .. } => {
                    self.channel_turn(channel)?;
                    self.on_closed(channel, reason)?;
                }
                ConnectionEvent::Handshake { remote_public_key, .. } => {
                    self.remote_public_key = remote_public_key;
                    self.is_met = true;
                    let _ = self.link.remote_public_key.set(remote_public_key);
                    self.progress
                        .send_modify(|progress| progress.remote_public_key = Some(remote_public_key));
                }
                ConnectionEvent::RemoteProtocol { protocol, id, .. } => {
                    self.own_channel.on_remote(&protocol, id.as_deref(), &mut self.connection)?;
                }
                ConnectionEvent::ProtocolOpened { channel, .. } => self.own_channel.on_opened(channel),
                ConnectionEvent::ProtocolMessage { kind, payload, .. } => {
                    self.own_channel.on_message(kind, &self.remote_public_key, payload);
                }
                ConnectionEvent::ProtocolClosed { channel, .. } => {
                    self.own_channel.on_closed(channel, &self.link);
                }
                ConnectionEvent::Ended => self.ending = true,
                _ => {}
            }
            // Sorting messages is nothing; opening cores is work.
            if !message && Instant::now() >= breath_ends {
                return Ok(());
            }
        }
        if !is_more && self.burst > 0 {
            self.wire.set_messages(std::mem::take(&mut self.burst));
        }
        if self.is_held() {
            // What is left keeps more from being read.
            return Ok(());
        }
        while let Some(id) = self.channels.next_arrived() {
            self.channel_turn(id)?;
            if Instant::now() >= breath_ends && self.channels.has_arrived() {
                return Ok(());
            }
        }
        self.backlog = is_more;
        Ok(())
    }

    fn take_deadlines(&mut self) -> Result<(), Error> {
        let now = Instant::now();
        if self.connection.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.connection.handle_timeout(now)?;
        }
        while let Some(core) = self.timers.pop_due(now) {
            let Some(core) = core.upgrade() else { continue };
            self.drop_alarm(&core);
            // Without a channel of this connection, another one looks after it.
            if self.connection.channel(&core.discovery_key).is_some() {
                self.turn(&core, Cause::Core)?;
            }
        }
        Ok(())
    }

    /// The remote opened a core: it gets a channel if it is stored here, open or not.
    fn on_discovery_key(&mut self, discovery_key: &DiscoveryKey) -> Result<(), Error> {
        if self.channels.is_banned(discovery_key) {
            return self.connection.reject(discovery_key);
        }
        match self.source.open_stored(discovery_key) {
            Ok(Some(hypercore)) => self.open_channel(&hypercore),
            Ok(None) => self.connection.reject(discovery_key),
            Err(error) => {
                tracing::warn!(%discovery_key, %error, "a core that a peer asked for cannot be opened");
                self.connection.reject(discovery_key)
            }
        }
    }

    /// A core of this side is in use.
    fn open_loaded(&mut self, discovery_key: &DiscoveryKey) -> Result<(), Error> {
        if self.channels.is_banned(discovery_key) {
            return Ok(());
        }
        let Some(hypercore) = self.source.loaded(discovery_key) else { return Ok(()) };
        // The session in hand, and the one of the connections, are no users.
        let own = 1 + usize::from(self.hub.attached(discovery_key).is_some());
        if hypercore.session_count() <= own {
            return Ok(());
        }
        self.open_channel(&hypercore)
    }

    fn open_channel(&mut self, hypercore: &Hypercore) -> Result<(), Error> {
        if let Some(id) = self.connection.channel(&hypercore.discovery_key()) {
            // It came into use: peers are told that we want blocks.
            return match self.channels.get(id).map(|channel| channel.core.clone()) {
                Some(core) => self.turn(&core, Cause::Core),
                None => Ok(()),
            };
        }
        let core = match self.hub.attach(hypercore, &self.link) {
            Ok(core) => core,
            // It was closed this very moment.
            Err(_) => return self.connection.reject(&hypercore.discovery_key()),
        };
        let id = match self.connection.open(&core.key) {
            Ok(id) => id,
            Err(error) => {
                tracing::debug!(%error, "a channel was not opened");
                self.hub.detach(&core, &self.link);
                return self.connection.reject(&hypercore.discovery_key());
            }
        };
        let peer = self.hub.peer_id();
        core.state().replicator.channel_opening(Instant::now());
        self.channels.insert(id, Channel::new(core.clone(), peer));
        self.turn(&core, Cause::Core)
    }

    fn on_opened(&mut self, id: ChannelId) -> Result<(), Error> {
        let Some(channel) = self.channels.get_mut(id) else { return Ok(()) };
        channel.open = true;
        let (core, peer) = (channel.core.clone(), channel.peer);
        {
            let mut state = core.state();
            state.peers.insert(peer, self.link.clone());
            let mut guard = core.hypercore.lock();
            let (log, demand) = guard.parts();
            let now = Instant::now();
            // In this order: with neither a channel on its way nor a peer, updates would end in between.
            state.replicator.open_peer(peer, log, demand, now);
            state.replicator.channel_answered(log, demand, now);
        }
        // Users hear of the peer when what they send it (extension messages) finds it.
        let ticket = core.hypercore.peer_added(PeerInfo {
            remote_public_key: self.remote_public_key,
            remote_address: self.remote_address.clone(),
            kind: self.kind.clone(),
        });
        if let Some(channel) = self.channels.get_mut(id) {
            channel.ticket = Some(ticket);
        }
        self.turn(&core, Cause::Channel(id))
    }

    fn on_closed(&mut self, id: ChannelId, reason: CloseReason) -> Result<(), Error> {
        let Some(channel) = self.channels.remove(id) else { return Ok(()) };
        if reason == CloseReason::InvalidCapability {
            tracing::debug!(core = %channel.core.discovery_key, "a peer does not know the key of a core it opened");
        }
        let reopen = self.leave(&channel, reason == CloseReason::Remote);
        let core = channel.core.clone();
        // Outside of all locks: it tells the core's users.
        drop(channel);
        if reopen && !self.channels.is_banned(&core.discovery_key) {
            return self.open_channel(&core.hypercore);
        }
        self.turn(&core, Cause::Core)?;
        self.let_go(&core);
        Ok(())
    }

    /// This connection has no channel for the core any more: another one that has looks after it from here on, or
    /// nobody does and the core may close.
    fn let_go(&self, core: &Arc<ReplicatedCore>) {
        self.drop_alarm(core);
        self.hub.detach(core, &self.link);
    }

    fn drop_alarm(&self, core: &ReplicatedCore) {
        let mut state = core.state();
        if state.alarm.is_some_and(|(_, link)| link == self.link.id) {
            state.alarm = None;
        }
    }

    /// The replicator forgets the peer. True when the channel is to be opened again.
    fn leave(&self, channel: &Channel, is_remote: bool) -> bool {
        let core = &channel.core;
        let mut state = core.state();
        state.peers.remove(&channel.peer);
        let mut guard = core.hypercore.lock();
        let closed = guard.is_closed();
        let (log, demand) = guard.parts();
        let now = Instant::now();
        if !channel.open {
            state.replicator.channel_answered(log, demand, now);
            return false;
        }
        state.replicator.close_peer(channel.peer, is_remote, log, demand, now) && !closed
    }

    fn channel_turn(&mut self, id: ChannelId) -> Result<(), Error> {
        match self.channels.get(id).map(|channel| channel.core.clone()) {
            Some(core) => self.turn(&core, Cause::Channel(id)),
            None => Ok(()),
        }
    }

    /// The connection is over: every core forgets its peer here.
    fn tear_down(&mut self) {
        self.hub.unlink(&self.link);
        for id in self.channels.ids() {
            let Some(channel) = self.channels.remove(id) else { continue };
            self.leave(&channel, true);
            let core = channel.core.clone();
            drop(channel);
            {
                let mut state = core.state();
                while let Some(peer) = state.replicator.poll_ready() {
                    if let Some(link) = state.peers.get(&peer) {
                        link.ready(peer);
                    }
                }
            }
            self.let_go(&core);
        }
    }

    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        std::task::ready!(self.wire.poll_write_all(cx, &mut self.connection))?;
        std::task::ready!(self.wire.poll_shutdown(cx))?;
        Poll::Ready(Ok(()))
    }

    fn pending(&self) -> usize {
        self.connection.pending_transmit() + self.wire.unwritten()
    }

    fn may_open(&self) -> bool {
        self.connection.is_connected() && !self.is_held() && !self.to_open.is_empty()
    }

    /// Nothing is done, and nothing read, until the owner says so.
    fn is_held(&self) -> bool {
        self.held && self.is_met
    }

    fn may_send(&self) -> bool {
        self.pending() < TRANSMIT_HIGH
    }
}
