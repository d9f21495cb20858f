//! One connection to a daemon: many calls in flight, each answered on its own.
//!
//! Callers put frames into a shared outbox; one task writes them, reads what the daemon sends, wakes whoever waits
//! for an answer and passes events on. A call that finds nothing in flight writes its frame itself: that saves a
//! wake-up, which costs more than the call.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
};

use bytes::{Bytes, BytesMut};
use futures::channel::oneshot;
use hyperspace_common::{Decoder, Header, Kind, Message, Method, Outbox, Required, RpcError, decode};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, Semaphore, SemaphorePermit},
};
use tokio_util::io::poll_read_buf;

use crate::error::ClientError;

/// Calls that may wait for their answers at the same time; further ones wait for their turn.
const MAX_IN_FLIGHT: usize = 16_384;
/// Bytes that may wait to be written before callers wait.
const MAX_UNSENT: usize = 4 << 20;
/// How much is read at once.
const READ_BURST: usize = 64 << 10;
/// Memory for writing that is kept while nothing is to be written.
const KEEP_UNSENT: usize = 64 << 10;
/// Answers at most this long get memory of their own: a small block that a program keeps must not hold a whole
/// burst of others.
const COPY_UP_TO: usize = 8 << 10;

/// Gets the daemon's events, in order, before any answer that came after them.
pub(crate) trait EventHandler: Send + Sync + 'static {
    /// An event came. Must not block.
    fn event(&self, method: Method, payload: Bytes) -> Result<(), ClientError>;
    /// The connection ended.
    fn closed(&self, error: &ClientError);
}

/// A connection to a daemon. Clones share it; it ends when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
    _guard: Arc<CloseOnDrop>,
}

struct Shared {
    state: Mutex<State>,
    in_flight: Semaphore,
    drained: Notify,
}

struct State {
    outbox: Outbox,
    writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Who waits for the answer to call `index + 1`.
    calls: Vec<Option<oneshot::Sender<Result<Bytes, ClientError>>>>,
    free: Vec<u32>,
    waiting: usize,
    closed: Option<ClientError>,
    driver: Option<Waker>,
}

struct CloseOnDrop(Arc<Shared>);

impl Connection {
    /// Uses this stream, driven by a task of the current tokio runtime.
    pub(crate) fn start<IO>(io: IO, events: Arc<dyn EventHandler>) -> Self
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (reader, writer) = tokio::io::split(io);
        Self::start_halves(reader, writer, events)
    }

    /// The same for a stream whose halves are separate already.
    pub(crate) fn start_halves<R, W>(reader: R, writer: W, events: Arc<dyn EventHandler>) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                outbox: Outbox::new(),
                writer: Box::new(writer),
                calls: Vec::new(),
                free: Vec::new(),
                waiting: 0,
                closed: None,
                driver: None,
            }),
            in_flight: Semaphore::new(MAX_IN_FLIGHT),
            drained: Notify::new(),
        });
        let mut driver = Driver { reader, input: BytesMut::new(), shared: shared.clone(), events };
        tokio::spawn(async move { driver.run().await });
        Self { _guard: Arc::new(CloseOnDrop(shared.clone())), shared }
    }

    /// Calls a method and waits for its answer.
    pub(crate) async fn call<M, R>(&self, method: Method, message: &M) -> Result<R, ClientError>
    where
        M: Message,
        R: Required,
    {
        decode_answer(self.call_raw(|outbox, id| outbox.request(method, id, message)).await?)
    }

    /// Calls a method whose answer says nothing.
    pub(crate) async fn call_void<M: Message>(&self, method: Method, message: &M) -> Result<(), ClientError> {
        self.call_raw(|outbox, id| outbox.request(method, id, message)).await?;
        Ok(())
    }

    /// Calls with a frame that `write` puts into the outbox.
    pub(crate) async fn call_raw(&self, write: impl FnOnce(&mut Outbox, u64)) -> Result<Bytes, ClientError> {
        let (answer, _permit) = self.begin(write).await?;
        answer.await.unwrap_or_else(|_| Err(self.shared.lock().why_closed()))
    }

    /// Sends a call that is not answered. It never waits: whoever uses it sends little.
    pub(crate) fn notify<M: Message>(&self, method: Method, message: &M) {
        let mut state = self.shared.lock();
        if state.closed.is_none() {
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

    async fn begin(
        &self,
        write: impl FnOnce(&mut Outbox, u64),
    ) -> Result<(oneshot::Receiver<Result<Bytes, ClientError>>, SemaphorePermit<'_>), ClientError> {
        // Without a detour through the runtime when it is not needed: calls go out in the order they are polled in.
        let permit = match self.shared.in_flight.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.shared.in_flight.acquire().await.map_err(|_| self.shared.lock().why_closed())?,
        };
        loop {
            let drained = self.shared.drained.notified();
            {
                let mut state = self.shared.lock();
                if let Some(error) = &state.closed {
                    return Err(error.clone());
                }
                if state.outbox.len() < MAX_UNSENT {
                    let (id, answer) = state.register();
                    let alone = state.waiting == 1 && state.outbox.is_empty();
                    write(&mut state.outbox, id);
                    if alone {
                        state.write_now();
                    } else {
                        state.wake_driver();
                    }
                    return Ok((answer, permit));
                }
                state.wake_driver();
            }
            drained.await;
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.drained.notify_waiters();
        for call in calls.into_iter().flatten() {
            let _ = call.send(Err(error.clone()));
        }
    }
}

impl Drop for CloseOnDrop {
    fn drop(&mut self) {
        self.0.close(ClientError::Closed);
    }
}

impl State {
    /// A number for a call, used again only after its answer has come: the daemon answers every call.
    fn register(&mut self) -> (u64, oneshot::Receiver<Result<Bytes, ClientError>>) {
        let (sender, receiver) = oneshot::channel();
        let index = match self.free.pop() {
            Some(index) => index as usize,
            None => {
                self.calls.push(None);
                self.calls.len() - 1
            }
        };
        if let Some(slot) = self.calls.get_mut(index) {
            *slot = Some(sender);
        }
        self.waiting += 1;
        (index as u64 + 1, receiver)
    }

    fn take_call(&mut self, id: u64) -> Option<oneshot::Sender<Result<Bytes, ClientError>>> {
        let index = usize::try_from(id.checked_sub(1)?).ok()?;
        let call = self.calls.get_mut(index)?.take()?;
        self.free.push(index as u32);
        self.waiting -= 1;
        Some(call)
    }

    /// Writes from the caller's thread. What the system does not take at once is left to the driver.
    fn write_now(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        // An error is left to the driver, too: it will meet it again.
        let _ = self.poll_write(&mut context);
        if !self.outbox.is_empty() {
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

/// The task that writes what callers left and reads what the daemon sends.
struct Driver<R> {
    reader: R,
    input: BytesMut,
    shared: Arc<Shared>,
    events: Arc<dyn EventHandler>,
}

impl<R: AsyncRead + Unpin> Driver<R> {
    async fn run(&mut self) {
        let error = poll_fn(|context| self.poll(context)).await;
        self.shared.close(error);
        let error = self.shared.lock().why_closed();
        self.events.closed(&error);
        let mut state = self.shared.lock();
        // Dropping the stream ends the connection: the daemon frees what this client held.
        state.writer = Box::new(tokio::io::sink());
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ClientError> {
        loop {
            {
                let mut state = self.shared.lock();
                if let Some(error) = &state.closed {
                    return Poll::Ready(error.clone());
                }
                let full = state.outbox.len() >= MAX_UNSENT;
                match state.poll_write(context) {
                    Poll::Ready(Err(error)) => return Poll::Ready(ClientError::io(&error)),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
                if full && state.outbox.len() < MAX_UNSENT {
                    self.shared.drained.notify_waiters();
                }
                if !state.driver.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    state.driver = Some(context.waker().clone());
                }
            }
            self.input.reserve(READ_BURST);
            match ready!(poll_read_buf(Pin::new(&mut self.reader), context, &mut self.input)) {
                Ok(0) => return Poll::Ready(ClientError::Disconnected("the daemon closed it".into())),
                Ok(_) => {}
                Err(error) => return Poll::Ready(ClientError::io(&error)),
            }
            if let Err(error) = self.take_frames() {
                return Poll::Ready(error);
            }
        }
    }

    /// Passes on every whole frame that has arrived.
    fn take_frames(&mut self) -> Result<(), ClientError> {
        let decoder = Decoder::default();
        let protocol = |error: &dyn std::fmt::Display| ClientError::Protocol(error.to_string());
        let (length, _) = decoder.complete(&self.input, usize::MAX).map_err(|error| protocol(&error))?;
        if length == 0 {
            return Ok(());
        }
        let burst = self.input.split_to(length).freeze();
        let mut answers = Vec::new();
        let mut at = 0;
        while let Some(frame) = decoder.next(&burst[at..]).map_err(|error| protocol(&error))? {
            let payload = burst.slice(at + frame.payload.start..at + frame.payload.end);
            at += frame.end;
            if frame.header.kind == Kind::Request {
                self.event(frame.header, payload)?;
            } else {
                answers.push((frame.header, payload));
            }
        }
        // Events first: what they change is seen by whoever the answers wake. One lock for all answers.
        let mut state = self.shared.lock();
        for (header, payload) in answers {
            // A caller that gave up has gone, but its number is free only now.
            let Some(call) = state.take_call(header.id) else {
                return Err(ClientError::Protocol(format!(
                    "an answer to call {}, which was not made",
                    header.id
                )));
            };
            let answer = match header.kind {
                Kind::Error => {
                    Err(decode::<RpcError>(payload).map_or_else(|e| protocol(&e), ClientError::Rpc))
                }
                _ if payload.len() <= COPY_UP_TO => Ok(Bytes::copy_from_slice(&payload)),
                _ => Ok(payload),
            };
            let _ = call.send(answer);
        }
        Ok(())
    }

    fn event(&self, header: Header, payload: Bytes) -> Result<(), ClientError> {
        // Events that this client does not know are for newer ones.
        match header.known_method() {
            Some(method) => self.events.event(method, payload),
            None => Ok(()),
        }
    }
}

/// Reads an answer's payload.
pub(crate) fn decode_answer<R: Required>(payload: Bytes) -> Result<R, ClientError> {
    decode(payload).map_err(|error| ClientError::Protocol(error.to_string()))
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
