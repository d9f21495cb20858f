//! One connection to a daemon: many calls in flight, each answered on its own.
//!
//! Callers put frames into a shared outbox; one task writes them, reads what the daemon sends, wakes whoever waits
//! for an answer and passes events on. A call that finds nothing in flight writes its frame itself: that saves a
//! wake-up, which costs more than the call.
//!
//! A connection may be made again when it is lost: calls that were under way fail, later ones wait until there is a
//! connection and everything that the daemon kept for the old one has been asked for again.

mod calls;
mod driver;
#[cfg(test)]
mod tests;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    thread,
    time::{self, Duration},
};

use bytes::Bytes;
use futures::{channel::oneshot, future::BoxFuture};
use hyperspace_common::{Kind, Message, Method, Outbox, Required, RpcError, Vigil, decode};
use tokio::{
    io::AsyncWrite,
    sync::{Notify, Semaphore, SemaphorePermit},
    task::{coop::consume_budget, yield_now},
};

pub(crate) use self::calls::{Answer, Answered, decode_answer, fits};
use self::{
    calls::{Caller, Calls, Told, malformed},
    driver::Driver,
};
use crate::{
    error::ClientError,
    receiver::{Answers, Incoming, Receiver},
};

/// Calls that may wait for their answers at the same time; further ones wait for their turn. Those that may wait for ever
/// do not count: whoever waits for a turn behind them might be the one who is to end them.
const MAX_IN_FLIGHT: usize = 16_384;
/// Bytes that may wait to be written before callers wait.
const MAX_UNSENT: usize = 4 << 20;
/// Memory for writing that is kept while nothing is to be written.
const KEEP_UNSENT: usize = 64 << 10;
/// Answers at most this long get memory of their own: a small block that a program keeps must not hold a whole
/// burst of others.
const COPY_UP_TO: usize = 8 << 10;

/// How long the answer to a call is waited for awake, when the last ones came as soon as that: to sleep and to be woken
/// takes longer than most calls.
const AWAKE: Duration = Duration::from_micros(200);
/// How often it is looked for before the runtime has its turn.
const LOOKS: usize = 16;

/// Gets the daemon's events, in order, before any answer that came after them.
pub(crate) trait EventHandler: Send + Sync + 'static {
    /// An event came. Must not block.
    fn event(&self, method: Method, payload: Bytes) -> Result<(), ClientError>;
    /// The connection ended for good.
    fn closed(&self, error: &ClientError);
    /// The connection is lost, and another one is to be made.
    fn lost(&self, error: &ClientError);
    /// That one is lost, too, before everything was restored: what was is void again.
    fn lost_again(&self);
    /// There is another connection: asks for everything that the daemon kept for the old one. Calls of others wait
    /// meanwhile.
    fn restore(&self, connection: Connection) -> BoxFuture<'_, Result<(), ClientError>>;
    /// The calls of others go on.
    fn restored(&self);
}

/// The two directions of a stream.
pub(crate) struct Halves {
    pub(crate) reader: Box<dyn Incoming>,
    pub(crate) writer: Box<dyn AsyncWrite + Send + Unpin>,
}

/// How a connection that is lost is made again.
pub(crate) struct Again {
    pub(crate) connect: Box<dyn Fn() -> BoxFuture<'static, Result<Halves, ClientError>> + Send + Sync>,
    /// The first pause between attempts; each is twice the one before.
    pub(crate) first: Duration,
    /// The longest pause.
    pub(crate) longest: Duration,
    /// How long it is tried.
    pub(crate) give_up: Option<Duration>,
}

/// A connection to a daemon. Clones share it; it ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    /// It may call while others have to wait.
    restoring: bool,
    _guard: Option<Arc<CloseOnDrop>>,
}

struct Shared {
    state: Mutex<State>,
    /// What comes in; `None` once the connection has ended. Locked before the state.
    receiver: Mutex<Option<Receiver>>,
    in_flight: Semaphore,
    /// There is room for calls again, or something else has changed for those who wait.
    changed: Notify,
    /// It is made again when it is lost.
    lasts: bool,
}

/// Whether calls can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Up,
    Down,
    Restoring,
}

struct State {
    phase: Phase,
    outbox: Outbox,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    calls: Calls,
    /// For the answer to a call that goes alone.
    vigil: Vigil,
    closed: Option<ClientError>,
    /// Found by a caller, for the driver to act on.
    fault: Option<ClientError>,
    driver: Option<Waker>,
}

struct CloseOnDrop(Arc<Shared>);

/// A call that was made.
struct Begun<'a> {
    answer: Answered,
    /// It is likely to be answered at once.
    is_brisk: bool,
    _permit: Option<SemaphorePermit<'a>>,
}

/// Somebody waits awake, until this is dropped: it may be in the middle of that, or long before the answer comes.
struct Looking<'a>(&'a Shared);

impl Drop for Looking<'_> {
    fn drop(&mut self) {
        self.0.lock().vigil.look_away();
    }
}

/// When a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Once not too many others wait for their answers.
    Awaited,
    /// However many do.
    AtOnce,
}

impl Connection {
    /// Uses this stream, driven by a task of the current tokio runtime.
    pub(crate) fn start(halves: Halves, events: Arc<dyn EventHandler>, again: Option<Again>) -> Self {
        let Halves { reader, writer } = halves;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                phase: Phase::Up,
                outbox: Outbox::new(),
                writer,
                calls: Calls::default(),
                vigil: Vigil::new(AWAKE),
                closed: None,
                fault: None,
                driver: None,
            }),
            receiver: Mutex::new(Some(Receiver::new(reader, events.clone()))),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            changed: Notify::new(),
            lasts: again.is_some(),
        });
        let driver = Driver { shared: shared.clone(), events, has_ended: false };
        tokio::spawn(driver.run(again));
        Self { _guard: Some(Arc::new(CloseOnDrop(shared.clone()))), shared, restoring: false }
    }

    /// Calls a method and waits for its answer.
    pub(crate) async fn call<M, R>(&self, method: Method, message: &M) -> Result<R, ClientError>
    where
        M: Message,
        R: Required,
    {
        fits(method, message.encoded_len())?;
        decode_answer(self.call_raw(|outbox, id| outbox.request(method, id, message)).await?)
    }

    /// Calls a method whose answer says nothing.
    pub(crate) async fn call_void<M: Message>(&self, method: Method, message: &M) -> Result<(), ClientError> {
        fits(method, message.encoded_len())?;
        self.call_raw(|outbox, id| outbox.request(method, id, message)).await?;
        Ok(())
    }

    /// Calls a method that changes nothing: when the connection is lost and made again, it is called once more.
    pub(crate) async fn ask<M, R>(&self, method: Method, message: &M) -> Result<R, ClientError>
    where
        M: Message,
        R: Required,
    {
        decode_answer(self.ask_raw(method, message).await?)
    }

    /// The same, with the answer as it came.
    pub(crate) async fn ask_raw<M: Message>(
        &self,
        method: Method,
        message: &M,
    ) -> Result<Bytes, ClientError> {
        self.ask_in_turn(Turn::Awaited, method, message).await
    }

    /// The same for what may be answered much later, if ever.
    pub(crate) async fn ask_patiently<M: Message>(
        &self,
        method: Method,
        message: &M,
    ) -> Result<Bytes, ClientError> {
        self.ask_in_turn(Turn::AtOnce, method, message).await
    }

    async fn ask_in_turn<M: Message>(
        &self,
        turn: Turn,
        method: Method,
        message: &M,
    ) -> Result<Bytes, ClientError> {
        fits(method, message.encoded_len())?;
        loop {
            match self.call_in_turn(turn, |outbox, id| outbox.request(method, id, message)).await {
                // The next call waits until there is a connection, or fails for good.
                Err(ClientError::Disconnected(_)) if self.is_made_again() => {}
                answer => return answer,
            }
        }
    }

    /// Calls with a frame that `write` puts into the outbox when it is sent.
    pub(crate) async fn call_raw(&self, write: impl FnOnce(&mut Outbox, u64)) -> Result<Bytes, ClientError> {
        self.call_in_turn(Turn::Awaited, write).await
    }

    /// Makes a call that may be answered much later, if ever, and returns once it is sent: `told` gets the answer as soon as
    /// it comes, or is never called if the call `is_due` no more when its turn has come. Neither may use the connection.
    pub(crate) async fn call_telling<M: Message>(
        &self,
        is_due: impl FnOnce() -> bool,
        method: Method,
        message: &M,
        told: Told,
    ) -> Result<(), ClientError> {
        self.in_turn(|state| {
            if is_due() {
                let write = |outbox: &mut Outbox, id| outbox.request(method, id, message);
                state.send(Caller::IsTold(told), write);
            }
        })
        .await
    }

    async fn call_in_turn(
        &self,
        turn: Turn,
        write: impl FnOnce(&mut Outbox, u64),
    ) -> Result<Bytes, ClientError> {
        let Begun { mut answer, is_brisk, _permit } = self.begin(turn, write).await?;
        if is_brisk && let Some(answer) = self.await_awake(&mut answer).await {
            return answer;
        }
        self.answer(answer).await
    }

    /// Calls here and now, however much is under way, if that `is_due`: for what must be said even if nobody waits for the
    /// answer. Fails when there is no connection, also as long as not everything is restored: the daemon may not know yet
    /// what the call is about.
    pub(crate) fn call_now<M: Message>(
        &self,
        is_due: impl FnOnce() -> bool,
        method: Method,
        message: &M,
    ) -> Result<Option<Answered>, ClientError> {
        let mut state = self.shared.lock();
        if let Some(error) = &state.closed {
            return Err(error.clone());
        }
        if state.phase != Phase::Up {
            return Err(ClientError::Disconnected("it was lost".into()));
        }
        if !is_due() {
            return Ok(None);
        }
        Ok(Some(state.ask(|outbox, id| outbox.request(method, id, message))))
    }

    /// Waits for the answer to a call that was made.
    pub(crate) async fn answer(&self, answer: Answered) -> Answer {
        answer.await.unwrap_or_else(|_| Err(self.shared.lock().why_closed()))
    }

    /// Whether the connection, if it is lost, is so just for now.
    pub(crate) fn is_made_again(&self) -> bool {
        self.shared.lasts && self.closed().is_none()
    }

    /// Waits until calls can be made. Fails when they never can again.
    pub(crate) async fn until_up(&self) -> Result<(), ClientError> {
        loop {
            let changed = self.shared.changed.notified();
            {
                let state = self.shared.lock();
                match &state.closed {
                    Some(error) => return Err(error.clone()),
                    None if state.phase == Phase::Up => return Ok(()),
                    None => {}
                }
            }
            changed.await;
        }
    }

    /// This connection for whoever does not keep it open.
    pub(crate) fn unguarded(&self) -> Self {
        Self { shared: self.shared.clone(), restoring: self.restoring, _guard: None }
    }

    /// Sends a call that is not answered. It never waits: whoever uses it sends little. Without a connection it is
    /// not sent: what it would end has ended, and what it would start is asked for when there is a connection.
    pub(crate) fn notify<M: Message>(&self, method: Method, message: &M) {
        let mut state = self.shared.lock();
        if state.closed.is_none() && state.phase != Phase::Down {
            state.outbox.request(method, 0, message);
            state.wake_driver();
        }
    }

    /// Ends the connection.
    pub(crate) fn close(&self) {
        self.shared.close(ClientError::Closed);
    }

    /// Why the connection ended, if it did.
    pub(crate) fn closed(&self) -> Option<ClientError> {
        self.shared.lock().closed.clone()
    }

    /// Waits awake for the answer to a call that goes alone, for a moment. `None` when it has not come.
    async fn await_awake(&self, answer: &mut Answered) -> Option<Answer> {
        // Others on this runtime have their turn, however many calls are made.
        consume_budget().await;
        let _looking = Looking(&self.shared);
        loop {
            for _ in 0..LOOKS {
                self.shared.look();
                if let Ok(Some(answer)) = answer.try_recv() {
                    return Some(answer);
                }
                if !self.shared.lock().looks_again() {
                    return None;
                }
                // Whoever else is to run here, and not only on this runtime.
                thread::yield_now();
            }
            yield_now().await;
        }
    }

    async fn begin(
        &self,
        turn: Turn,
        write: impl FnOnce(&mut Outbox, u64),
    ) -> Result<Begun<'_>, ClientError> {
        // Without a detour through the runtime when it is not needed: calls go out in the order they are polled in.
        let _permit = match (turn, self.shared.in_flight.try_acquire()) {
            (Turn::AtOnce, _) => None,
            (Turn::Awaited, Ok(permit)) => Some(permit),
            // Those who have permits may be waiting for what is being restored here.
            (Turn::Awaited, Err(_)) if self.restoring => None,
            (Turn::Awaited, Err(_)) => {
                let permit = self.shared.in_flight.acquire().await;
                Some(permit.map_err(|_| self.shared.lock().why_closed())?)
            }
        };
        let ask = |state: &mut State| (state.ask(write), state.is_brisk());
        let (answer, is_brisk) = self.in_turn(ask).await?;
        Ok(Begun { answer, is_brisk, _permit })
    }

    /// Waits until calls can be made and there is room for another one.
    async fn in_turn<T>(&self, send: impl FnOnce(&mut State) -> T) -> Result<T, ClientError> {
        loop {
            let changed = self.shared.changed.notified();
            {
                let mut state = self.shared.lock();
                if let Some(error) = &state.closed {
                    return Err(error.clone());
                }
                let may_call = match state.phase {
                    Phase::Up => true,
                    Phase::Down if self.restoring => {
                        return Err(ClientError::Disconnected("it was lost again".into()));
                    }
                    Phase::Down => false,
                    Phase::Restoring => self.restoring,
                };
                if may_call && state.outbox.len() < MAX_UNSENT {
                    return Ok(send(&mut state));
                }
                state.wake_driver();
            }
            changed.await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn receiver(&self) -> MutexGuard<'_, Option<Receiver>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands out the answers that are there already.
    fn look(&self) {
        // Whoever has it hands them out.
        let Ok(mut receiver) = self.receiver.try_lock() else { return };
        let Some(receiver) = receiver.as_mut() else { return };
        if let Err(fault) = receiver.look().and_then(|answers| self.hand_out(answers)) {
            let mut state = self.lock();
            state.fault = Some(fault);
            state.wake_driver();
        }
    }

    /// Wakes those who wait for these answers.
    fn hand_out(&self, answers: Answers) -> Result<(), ClientError> {
        if answers.is_empty() {
            return Ok(());
        }
        // One lock for all of them.
        let mut state = self.lock();
        let state = &mut *state;
        let was_empty = state.outbox.is_empty();
        state.vigil.something_came(time::Instant::now());
        for (header, payload) in answers {
            // A caller that gave up has gone, but its number is free only now.
            let Some(caller) = state.calls.take(header.id) else {
                return Err(ClientError::Protocol(format!(
                    "an answer to call {}, which was not made",
                    header.id
                )));
            };
            let answer = match header.kind {
                Kind::Error => {
                    Err(decode::<RpcError>(payload).map_or_else(|e| malformed(&e), ClientError::Rpc))
                }
                _ if payload.len() <= COPY_UP_TO => Ok(Bytes::copy_from_slice(&payload)),
                _ => Ok(payload),
            };
            caller.answer(answer, &mut state.outbox);
        }
        if was_empty && !state.outbox.is_empty() {
            // Something was said in return.
            state.wake_driver();
        }
        Ok(())
    }

    /// Fails everything that waits and everything that comes.
    fn close(&self, error: ClientError) {
        let calls = {
            let mut state = self.lock();
            if state.closed.is_some() {
                return;
            }
            state.closed = Some(error.clone());
            state.wake_driver();
            std::mem::take(&mut state.calls)
        };
        self.in_flight.close();
        self.changed.notify_waiters();
        calls.fail(&error);
    }

    /// Fails everything that is under way. What comes waits.
    fn lost(&self, error: &ClientError) {
        // Nothing of it is handed out any more.
        if let Some(receiver) = self.receiver().as_mut() {
            receiver.replace(Box::new(tokio::io::empty()));
        }
        let calls = {
            let mut state = self.lock();
            state.phase = Phase::Down;
            state.outbox = Outbox::new();
            // Dropping the stream ends what may be left of the connection.
            state.writer = Box::new(tokio::io::sink());
            std::mem::take(&mut state.calls)
        };
        self.changed.notify_waiters();
        calls.fail(error);
    }

    /// Waits until nobody needs the connection any more.
    async fn until_closed(&self) -> ClientError {
        loop {
            let changed = self.changed.notified();
            if let Some(error) = &self.lock().closed {
                return error.clone();
            }
            changed.await;
        }
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(ClientError::Closed);
    }
}

impl State {
    /// Sends a call whose answer is waited for.
    fn ask(&mut self, write: impl FnOnce(&mut Outbox, u64)) -> Answered {
        let (sender, answered) = oneshot::channel();
        self.send(Caller::Waits(sender), write);
        answered
    }

    /// Sends a call with the frame that `write` makes of its number.
    fn send(&mut self, caller: Caller, write: impl FnOnce(&mut Outbox, u64)) {
        let id = self.calls.register(caller);
        let alone = self.calls.waiting() == 1 && self.outbox.is_empty();
        write(&mut self.outbox, id);
        if alone {
            self.vigil.begin(time::Instant::now());
            self.write_now();
        } else {
            self.vigil.cancel();
            self.wake_driver();
        }
    }

    /// Whether the answer to the call that was made last is waited for awake, and then it is.
    fn is_brisk(&mut self) -> bool {
        let is_brisk = self.calls.waiting() == 1 && self.vigil.is_kept(time::Instant::now());
        if is_brisk {
            self.vigil.look();
        }
        is_brisk
    }

    /// The answer has not come: whether to look for it again. Not when other calls were made since, answered or not.
    fn looks_again(&mut self) -> bool {
        self.calls.waiting() == 1 && self.vigil.is_begun() && self.vigil.nothing_came(time::Instant::now())
    }

    /// Writes from the caller's thread. What the system does not take at once is left to the driver.
    fn write_now(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        // An error is left to the driver, too: it will meet it again. A stream may also keep what it has taken.
        if !matches!(self.poll_write(&mut context), Poll::Ready(Ok(()))) {
            self.wake_driver();
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 64];
            let used = self.outbox.slices(&mut slices);
            let slices = slices.get(..used).unwrap_or_default();
            let written = ready!(Pin::new(&mut self.writer).poll_write_vectored(context, slices))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.outbox.advance(written);
        }
        self.outbox.shrink(KEEP_UNSENT);
        Pin::new(&mut self.writer).poll_flush(context)
    }

    fn wake_driver(&mut self) {
        if let Some(waker) = self.driver.take() {
            waker.wake();
        }
    }

    fn why_closed(&self) -> ClientError {
        self.closed.clone().unwrap_or(ClientError::Closed)
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
