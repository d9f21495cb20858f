//! One client's calls, without its socket: bytes come in, bytes go out.
//!
//! Everything that the store can answer is answered at once, on the thread that read the socket: no request is
//! handed to another task unless it has to wait for peers. Appends that arrive together become one commit.

mod additional;
mod append;
mod extensions;
mod input;
mod locks;
mod methods;
mod network;

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::{Bytes, BytesMut};
use futures::{
    FutureExt, Stream,
    future::{AbortHandle, Abortable, BoxFuture},
    stream::FuturesUnordered,
};
use hypercore::{
    DiscoveryKey, Hypercore,
    events::EventSink,
    session::{Subscription, WeakHypercore},
};
use hyperspace_common::{
    Decoder, FrameError, Header, Kind, Method, Outbox, Required, RpcError, RpcErrorExt, decode, text,
};
use thiserror::Error;

use self::{append::AppendGroup, input::Input};
use crate::{
    answer::{invalid_session, limit, malformed, resource_in_use},
    extensions::Registration,
    limits::Limits,
    locks::Turn,
    mailbox::{Forward, Interest, Mailbox, Told},
    network::ClientTopics,
    server::Shared,
    session_table::{SessionTable, WaitId, WaitKind, Waiting},
};

/// Answers of this size are written before more are made: the client works on them meanwhile.
const WORTH_WRITING: usize = 256 << 10;

/// Small requests between two looks at the clock.
const LOOK_EVERY: u32 = 64;

/// Why a client was let go.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Gone {
    /// It closed the connection.
    #[error("it closed the connection")]
    Closed,
    /// The connection broke.
    #[error("its connection broke: {0}")]
    Io(#[from] std::io::Error),
    /// It sent something that is not the protocol.
    #[error("it does not speak the protocol: {0}")]
    Protocol(#[from] FrameError),
    /// It answered a call that was not made.
    #[error("it does not speak the protocol: it answers a call that was never made")]
    Answer,
    /// It does not read.
    #[error("it does not read: {bytes} bytes were left unread for {seconds} s")]
    DoesNotRead {
        /// Bytes that were ready for it.
        bytes: usize,
        /// How long it had.
        seconds: f64,
    },
    /// It reads too little of what it is told.
    #[error(
        "it does not read: {bytes} bytes of answers and events wait for it, and it may leave {limit} unread"
    )]
    TooMuchUnread {
        /// Bytes that wait for it.
        bytes: usize,
        /// The most that may wait.
        limit: usize,
    },
    /// There are too many clients.
    #[error("there are too many clients")]
    TooManyClients,
    /// The server ends.
    #[error("the server ends")]
    Stopped,
}

/// A core that a client has open.
struct Session {
    core: SessionCore,
    /// Brings events; ends with the session.
    _events: Option<Subscription>,
    downloads: Option<Subscription>,
    uploads: Option<Subscription>,
    /// The core's lock, while this session holds it.
    lock: Option<Turn>,
    /// Whether the client may have missed news of the core's length.
    news: News,
}

/// What is known of the news that a client has of the length of a core that only peers write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum News {
    /// It was told this length when it opened the core, and has not used the core since.
    Opened(u64),
    /// It was told of another length before it is known to have worked on the first one.
    MaybeMissed(u64),
    /// It has all that was told.
    Heard,
}

impl Session {
    fn new(core: SessionCore, events: Option<Subscription>) -> Self {
        Self { core, _events: events, downloads: None, uploads: None, lock: None, news: News::Heard }
    }
}

pub(crate) enum SessionCore {
    Strong(Hypercore),
    /// Does not keep the core open; usable while somebody else does.
    Weak(WeakHypercore),
    /// Nobody did any more, and the client knows.
    Closed,
}

impl SessionCore {
    fn get(&self) -> Result<Hypercore, RpcError> {
        match self {
            Self::Strong(core) => Some(core.clone()),
            Self::Weak(weak) => weak.visit(),
            Self::Closed => None,
        }
        .ok_or_else(|| RpcError::sentence(text::FEED_CLOSED))
    }
}

/// How a waiting request ended well.
enum Done {
    Block(Bytes),
    Nothing,
    Seek {
        seq: u64,
        block_offset: u64,
    },
    Lock(Turn),
    /// The topic is as it was asked to be.
    Status(DiscoveryKey),
}

type Wait = Pin<Box<dyn Future<Output = (WaitId, Option<Result<Done, RpcError>>)> + Send>>;

/// One client.
pub(crate) struct Rpc {
    server: Arc<Shared>,
    client: u64,
    limits: Limits,
    decoder: Decoder,
    mailbox: Arc<Mailbox>,
    sinks: Sinks,
    table: SessionTable<Session>,
    waits: FuturesUnordered<Wait>,
    appends: Option<AppendGroup>,
    /// By their resources.
    extensions: HashMap<u64, Extension>,
    topics: ClientTopics,
    /// Sessions whose news goes out with the answers to the burst that is being worked on.
    told_now: HashSet<u64>,
    /// Events wait because the client has not read what came before them.
    holding: bool,
    /// Received, not yet looked at.
    input: Input,
    /// Whole frames that are being worked on, and how far.
    burst: Bytes,
    at: usize,
    /// Answers and events to be written.
    pub(crate) outbox: Outbox,
    fault: Option<FrameError>,
}

/// An extension that the client has registered.
struct Extension {
    /// `None`: of the connections with peers.
    session: Option<u64>,
    registration: Registration,
}

/// The connection's sinks, shared by all of its sessions.
struct Sinks {
    /// Of sessions that are weak or not, as they are told of lengths.
    sessions: [[Arc<dyn EventSink>; 3]; 2],
    downloads: Arc<dyn EventSink>,
    uploads: Arc<dyn EventSink>,
}

impl Sinks {
    fn session(&self, weak: bool, told: Told) -> Arc<dyn EventSink> {
        let [strong_sinks, weak_sinks] = &self.sessions;
        let [plain, of_peers, full] = if weak { weak_sinks } else { strong_sinks };
        match told {
            Told::Plain => plain.clone(),
            Told::PlainOfPeers => of_peers.clone(),
            Told::Full => full.clone(),
        }
    }
}

impl Rpc {
    pub(crate) fn new(server: Arc<Shared>, mailbox: Arc<Mailbox>, client: u64, limits: Limits) -> Self {
        let sink =
            |interest| -> Arc<dyn EventSink> { Arc::new(Forward { mailbox: mailbox.clone(), interest }) };
        let sinks = Sinks {
            sessions: [false, true].map(|end| {
                [Told::Plain, Told::PlainOfPeers, Told::Full]
                    .map(|told| sink(Interest::Session { end, told }))
            }),
            downloads: sink(Interest::Downloads),
            uploads: sink(Interest::Uploads),
        };
        let decoder = Decoder::new(limits.max_frame);
        Self {
            topics: server.topics(client),
            server,
            client,
            decoder,
            limits,
            mailbox,
            sinks,
            table: SessionTable::new(),
            waits: FuturesUnordered::new(),
            appends: None,
            extensions: HashMap::new(),
            told_now: HashSet::new(),
            holding: false,
            input: Input::new(decoder),
            burst: Bytes::new(),
            at: 0,
            outbox: Outbox::new(),
            fault: None,
        }
    }

    /// Where received bytes go.
    pub(crate) fn input(&mut self) -> &mut BytesMut {
        self.input.bytes()
    }

    /// Whether what was received and not looked at begins with a large frame.
    pub(crate) fn has_large_input(&mut self) -> bool {
        self.input.begins_large()
    }

    /// Whether more should be received: all that has come was worked on, and the answers are being read.
    pub(crate) fn wants_input(&self) -> bool {
        self.fault.is_none() && !self.holding && self.at >= self.burst.len() && self.has_room()
    }

    /// Does what can be done until then, and asks to be woken for the rest. True when there is more to do, but something
    /// to be written first, or no time left.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>, until: Instant) -> Result<bool, Gone> {
        loop {
            while self.has_room() && self.mailbox.register(context) {
                self.drain_urgent_events()?;
            }
            self.holding = false;
            if !self.has_room() {
                let held = self.mailbox.hold(context).ok_or_else(|| self.too_much_unread())?;
                self.holding = held > 0;
            }
            self.poll_waits(context)?;
            if !self.has_room() || !self.has_work()? {
                return Ok(false);
            }
            self.mailbox.at_work();
            let late = self.work(until)?;
            if late || self.outbox.len() >= WORTH_WRITING {
                return Ok(true);
            }
        }
    }

    /// Whether something has arrived to work on.
    fn has_work(&mut self) -> Result<bool, Gone> {
        if self.at < self.burst.len() { Ok(true) } else { self.next_burst() }
    }

    /// Works on what has arrived. True when that took too long, and others are to have their turn.
    fn work(&mut self, until: Instant) -> Result<bool, Gone> {
        self.told_now.clear();
        if self.mailbox.is_patient() {
            self.mailbox.sessions_with_news(&mut self.told_now);
            // What is answered from here on may depend on it.
            self.drain_events()?;
        }
        let (mut late, mut small) = (false, 0);
        while !late && self.has_room() {
            let Some(frame) = self.decoder.next(&self.burst[self.at..])? else {
                // Only whole frames are put into a burst.
                self.at = self.burst.len();
                break;
            };
            let payload = self.at + frame.payload.start..self.at + frame.payload.end;
            self.at += frame.end;
            self.frame(frame.header, payload)?;
            if self.outbox.len() >= WORTH_WRITING {
                break;
            }
            // Those that come by the thousand take less than a look at the clock should cost them.
            small += 1;
            if small >= LOOK_EVERY || !is_small(frame.header) {
                small = 0;
                late = Instant::now() >= until;
            }
        }
        self.flush_appends()?;
        if self.at >= self.burst.len() {
            self.burst = Bytes::new();
            self.at = 0;
        }
        Ok(late)
    }

    /// Takes whole frames out of the input.
    fn next_burst(&mut self) -> Result<bool, Gone> {
        if self.fault.is_some() {
            return Ok(false);
        }
        match self.input.take_burst() {
            Ok(None) => Ok(false),
            Ok(Some(burst)) => {
                self.burst = burst;
                self.at = 0;
                Ok(true)
            }
            Err(fault) => {
                if let FrameError::TooLarge { header, .. } = fault {
                    self.outbox.error(header, &limit(fault.to_string()));
                }
                self.fault = Some(fault);
                self.input = Input::new(self.decoder);
                Ok(false)
            }
        }
    }

    /// What ends the connection once everything before it was answered.
    pub(crate) fn fault(&self) -> Option<FrameError> {
        self.fault.filter(|_| self.at >= self.burst.len())
    }

    /// Whether so little waits to be written that more may be answered.
    pub(crate) fn has_room(&self) -> bool {
        self.outbox.len() < self.limits.unsent_high_water
    }

    /// What was ready has been handed to the stream, as far as that takes it.
    pub(crate) fn written(&mut self) -> Result<(), Gone> {
        let unsent = self.outbox.len();
        self.mailbox.written(unsent, !self.has_room());
        if unsent > self.limits.max_unread { Err(self.too_much_unread()) } else { Ok(()) }
    }

    fn drain_events(&mut self) -> Result<(), Gone> {
        let ended = self.mailbox.drain(&mut self.outbox);
        self.cores_closed(ended)
    }

    /// The same while there is nothing else to be said.
    fn drain_urgent_events(&mut self) -> Result<(), Gone> {
        let ended = self.mailbox.drain_urgent(&mut self.outbox);
        self.cores_closed(ended)
    }

    /// The client was told of the ends of these sessions, or let too many events pile up.
    fn cores_closed(&mut self, ended: Option<Vec<u64>>) -> Result<(), Gone> {
        ended
            .ok_or_else(|| self.too_much_unread())?
            .into_iter()
            .for_each(|session| self.core_closed(session));
        Ok(())
    }

    /// The client was just told that the core of its session was closed. It is to close the session, and may do so late, or
    /// never: what the session had of the core is free from here on.
    fn core_closed(&mut self, id: u64) {
        // One that the client closed itself, and with it the core, is gone.
        let Some(session) = self.table.session_mut(id) else { return };
        *session = Session::new(SessionCore::Closed, None);
        for waiting in self.table.stop_all(id, WaitKind::Lock) {
            self.answer_ended(&waiting, text::FEED_CLOSED);
        }
        self.end_extensions(id);
    }

    fn too_much_unread(&self) -> Gone {
        Gone::TooMuchUnread { bytes: self.mailbox.unread(), limit: self.limits.max_unread }
    }

    fn frame(&mut self, call: Header, payload: Range<usize>) -> Result<(), Gone> {
        if call.kind != Kind::Request {
            return Err(Gone::Answer);
        }
        let Some(method) = call.known_method() else {
            self.flush_appends()?;
            self.outbox.error(call, &crate::answer::unknown_method(call.service, call.method));
            return Ok(());
        };
        if method != Method::HypercoreAppend {
            self.flush_appends()?;
        }
        self.dispatch(method, call, payload)
    }

    /// Decodes a request, or answers that it cannot be.
    fn request<M: Required>(&mut self, method: Method, call: Header, payload: Range<usize>) -> Option<M> {
        // Small messages are read in place; those with blocks share the burst's memory.
        let decoded = match method {
            Method::HypercoreAppend | Method::CorestoreOpen | Method::StoreOpen => {
                decode::<M>(self.burst.slice(payload))
            }
            _ => decode::<M>(&self.burst[payload]),
        };
        match decoded {
            Ok(message) => Some(message),
            Err(error) => {
                self.outbox.error(call, &malformed(method, &error));
                None
            }
        }
    }

    fn core(&self, session: u64) -> Result<Hypercore, RpcError> {
        self.table.session(session).ok_or_else(|| invalid_session(session))?.core.get()
    }

    /// Keeps a request until its future ends.
    fn wait(
        &mut self,
        call: Header,
        kind: WaitKind,
        session: impl Into<Option<u64>>,
        resource: Option<u64>,
        work: BoxFuture<'static, Result<Done, RpcError>>,
    ) {
        if self.table.waiting_count() >= self.limits.max_waiting {
            let what = format!(
                "{} requests of this client are waiting already; wait for some of them",
                self.limits.max_waiting
            );
            return self.outbox.error(call, &limit(what));
        }
        let (abort, registration) = AbortHandle::new_pair();
        let session = session.into();
        let Some(id) = self.table.wait(Waiting { call, kind, session, resource, abort }) else {
            return self.outbox.error(call, &resource_in_use(resource.unwrap_or_default()));
        };
        self.waits.push(Box::pin(Abortable::new(work, registration).map(move |done| (id, done.ok()))));
    }

    /// Answers requests whose wait is over.
    fn poll_waits(&mut self, context: &mut Context<'_>) -> Result<(), Gone> {
        let mut events_drained = false;
        while self.has_room() && !self.waits.is_empty() {
            let Poll::Ready(Some((id, done))) = Pin::new(&mut self.waits).poll_next(context) else { break };
            // What was cancelled was answered when it was.
            let (Some(waiting), Some(done)) = (self.table.finish(id), done) else { continue };
            let session = waiting.session.and_then(|session| self.table.session(session));
            if let Some(Session { core: SessionCore::Strong(core), .. }) = session {
                // Whoever ended the wait may still be telling of it, with the core locked: an event that goes with
                // the answer must go before it.
                core.length();
                events_drained = false;
            }
            if !events_drained {
                self.drain_events()?;
                events_drained = true;
            }
            self.answer(&waiting, done);
        }
        Ok(())
    }

    fn answer(&mut self, waiting: &Waiting, done: Result<Done, RpcError>) {
        use hyperspace_common::messages::SeekResponse;
        match done {
            Ok(Done::Block(block)) => self.outbox.block_response(waiting.call, block),
            Ok(Done::Nothing) => self.outbox.response(waiting.call, &()),
            Ok(Done::Lock(turn)) => self.answer_locked(waiting.call, waiting.session, turn),
            Ok(Done::Seek { seq, block_offset }) => {
                self.outbox.response(waiting.call, &SeekResponse { seq, block_offset });
            }
            Ok(Done::Status(topic)) => self.answer_status(waiting.call, &topic),
            Err(error) => self.outbox.error(waiting.call, &error),
        }
    }

    /// Answers a request that was ended before its time.
    fn answer_ended(&mut self, waiting: &Waiting, why: &str) {
        let error = match waiting.kind {
            WaitKind::Download => RpcError::download_cancelled(),
            _ => RpcError::sentence(why),
        };
        self.outbox.error(waiting.call, &error);
    }
}

/// Whether a call takes about a microsecond.
fn is_small(call: Header) -> bool {
    use Method::{HypercoreAppend, HypercoreGet, HypercoreHas};
    matches!(call.known_method(), Some(HypercoreAppend | HypercoreGet | HypercoreHas))
}

/// Does something that takes long without holding up the runtime's other tasks, where the runtime can do that.
fn at_length<T>(work: impl FnOnce() -> T) -> T {
    use tokio::runtime::{Handle, RuntimeFlavor};
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
