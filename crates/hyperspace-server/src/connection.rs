//! One client's connection: reads a burst, has it answered, writes the answers at once.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::BytesMut;
use hyperspace_common::Vigil;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::{coop::consume_budget, yield_now},
    time::{Instant, Sleep, sleep},
};
use tokio_util::{io::poll_read_buf, sync::CancellationToken};

use crate::{
    limits::Limits,
    mailbox::Mailbox,
    rpc::{Gone, Rpc},
    server::Shared,
};

/// How much is read at once.
const READ_BURST: usize = 64 << 10;
/// How much large frames may be until they are worked on, when they are there already: appended together, they share a
/// commit and a signature, and are hashed side by side, four at a time: so eight frames of 64 KiB and their heads, not seven.
const GATHER: usize = 576 << 10;
/// Memory for reading and writing that an idle connection keeps.
const KEEP: usize = 64 << 10;
/// How long the last answers of a connection that ends may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// How long the next request is waited for awake, when the last ones came as soon as that.
const AWAKE: Duration = Duration::from_micros(100);
/// How often that is looked for before the event loop has its turn.
const LOOKS: usize = 16;
/// How much is read at a look.
const GLANCE: usize = 8 << 10;

/// Whether a client that asks again as soon as it has its answer is waited for awake: what it takes to wake a thread is
/// more than most calls take.
pub(crate) enum Chat<IO> {
    /// For a moment, as long as it goes on like that and the core is not wanted by others (see [`Vigil`]). This reads what is
    /// there, past the event loop.
    Awaited(fn(&IO, &mut [u8]) -> io::Result<usize>),
    /// Never.
    Ignored,
}

/// Whether more may be read of a stream before what came so far is answered. It may not of one that takes no answers once
/// it has told of its end; events that come meanwhile are not waited for.
pub(crate) type ReadsOn<IO> = fn(&IO) -> bool;

/// Waits awake for the next request, if that is likely to come at once.
struct Watch<IO> {
    chat: Chat<IO>,
    /// Memory for a look, while there are some.
    glance: Vec<u8>,
    vigil: Vigil,
    /// The event loop is to have its turn, and then this again.
    looks_once_more: bool,
}

/// A client and its stream.
pub(crate) struct Connection<IO> {
    io: IO,
    rpc: Rpc,
    reads_on: ReadsOn<IO>,
    /// The stream broke behind what was read last.
    broken: Option<io::Error>,
    /// What was read last is still being worked on.
    at_work: bool,
    /// Bytes of what was ready when that was done which are not written yet.
    owed: usize,
    turn: Duration,
    stall: Duration,
    /// Runs while answers are ready that the client does not read.
    stalled: Option<Pin<Box<Sleep>>>,
    ended: bool,
    watch: Watch<IO>,
}

/// Serves the client until either side ends.
pub(crate) async fn run<IO: AsyncRead + AsyncWrite + Unpin>(
    mut connection: Connection<IO>,
    stopping: CancellationToken,
) -> Gone {
    let gone = tokio::select! {
        // What ends with the server is a lost connection for the client, and not many failed calls.
        biased;
        () = stopping.cancelled() => Gone::Stopped,
        gone = poll_fn(|context| connection.poll(context)) => gone,
    };
    if matches!(gone, Gone::Stopped | Gone::Protocol(_) | Gone::Answer) {
        // The answer to Stop, or what was answered before the fault.
        let _ = tokio::time::timeout(FAREWELL, poll_fn(|context| connection.poll_farewell(context))).await;
    }
    gone
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    pub(crate) fn new(
        io: IO,
        server: Arc<Shared>,
        mailbox: Arc<Mailbox>,
        client: u64,
        limits: Limits,
        chat: Chat<IO>,
        reads_on: ReadsOn<IO>,
    ) -> Self {
        let (turn, stall) = (limits.turn, limits.stall);
        let rpc = Rpc::new(server, mailbox, client, limits);
        let watch = Watch::new(chat);
        Self {
            io,
            rpc,
            reads_on,
            broken: None,
            at_work: false,
            owed: 0,
            turn,
            stall,
            stalled: None,
            ended: false,
            watch,
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Gone> {
        match self.try_poll(context) {
            Ok(()) => Poll::Pending,
            Err(gone) => Poll::Ready(gone),
        }
    }

    fn try_poll(&mut self, context: &mut Context<'_>) -> Result<(), Gone> {
        // By the real clock: what takes long here is work.
        let until = std::time::Instant::now() + self.turn;
        let is_over = || std::time::Instant::now() >= until;
        let mut has_read = false;
        loop {
            let more = self.rpc.poll(context, until)?;
            if self.at_work && self.rpc.wants_input() {
                self.at_work = false;
                self.owed = self.rpc.outbox.len();
            }
            // For want of room, work may have been put off that nobody is woken for again.
            let put_off = !self.rpc.has_room();
            let before = self.rpc.outbox.len();
            let blocked = self.poll_write(context)?.is_pending();
            self.rpc.written()?;
            if blocked {
                self.poll_stalled(context, self.rpc.outbox.len() < before)?;
            } else {
                self.stalled = None;
            }
            if more || (put_off && self.rpc.has_room()) {
                if is_over() {
                    after_others(context);
                    return Ok(());
                }
                if others_turn(context) { return Ok(()) } else { continue }
            }
            if !blocked {
                // All that came was worked on. What waits for peers is not answered any more.
                if let Some(fault) = self.rpc.fault() {
                    return Err(fault.into());
                }
                if self.ended {
                    return Err(Gone::Closed);
                }
            }
            if self.ended || !self.rpc.wants_input() || (self.owed > 0 && !(self.reads_on)(&self.io)) {
                self.watch.vigil.look_away();
                return Ok(());
            }
            // Something is read in every turn, however short it is.
            if std::mem::replace(&mut has_read, true) && is_over() {
                after_others(context);
                return Ok(());
            }
            if self.poll_read(context)?.is_pending() {
                match self.watch.await_awake(&self.io, self.rpc.input()) {
                    Ok(true) => {
                        if others_turn(context) {
                            return Ok(());
                        }
                        continue;
                    }
                    Ok(false) => {}
                    Err(error) => return Err(lost(error)),
                }
                if self.watch.goes_on() {
                    after_others(context);
                }
                return Ok(());
            }
            self.at_work = true;
            self.watch.something_came();
        }
    }

    /// Reads what is there: a burst, or more of large frames.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, Gone> {
        if let Some(error) = self.broken.take() {
            return Err(lost(error));
        }
        let (mut received, mut room) = (false, READ_BURST);
        loop {
            let input = self.rpc.input();
            input.reserve(room);
            match poll_read_buf(Pin::new(&mut self.io), context, input) {
                Poll::Ready(Ok(0)) => {
                    self.ended = true;
                    return Ok(Poll::Ready(()));
                }
                Poll::Ready(Ok(_)) => received = true,
                Poll::Ready(Err(error)) if received => {
                    // Once what came before it was worked on.
                    self.broken = Some(error);
                    return Ok(Poll::Ready(()));
                }
                Poll::Ready(Err(error)) => return Err(lost(error)),
                Poll::Pending if received => return Ok(Poll::Ready(())),
                Poll::Pending => {
                    if input.is_empty() && input.capacity() > KEEP {
                        *input = BytesMut::new();
                    }
                    return Ok(Poll::Pending);
                }
            }
            let length = input.len();
            if length >= GATHER || !self.rpc.has_large_input() || !(self.reads_on)(&self.io) {
                return Ok(Poll::Ready(()));
            }
            // For all that is gathered, so that it is not moved as it grows.
            room = GATHER + READ_BURST - length;
        }
    }

    /// Writes what is ready.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, Gone> {
        let before = self.rpc.outbox.len();
        let written = self.poll_write_out(context);
        self.owed = self.owed.saturating_sub(before.saturating_sub(self.rpc.outbox.len()));
        written
    }

    fn poll_write_out(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, Gone> {
        let outbox = &mut self.rpc.outbox;
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 64];
            let used = outbox.slices(&mut slices);
            let slices = slices.get(..used).unwrap_or_default();
            match Pin::new(&mut self.io).poll_write_vectored(context, slices) {
                Poll::Ready(Ok(0)) => return Err(lost(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(written)) => outbox.advance(written),
                Poll::Ready(Err(error)) => return Err(lost(error)),
                Poll::Pending => return Ok(Poll::Pending),
            }
        }
        outbox.shrink(KEEP);
        match Pin::new(&mut self.io).poll_flush(context) {
            Poll::Ready(Err(error)) => Err(lost(error)),
            flushed => Ok(flushed.map(|_| ())),
        }
    }

    /// Answers are ready and cannot be written: for how long already?
    fn poll_stalled(&mut self, context: &mut Context<'_>, progress: bool) -> Result<(), Gone> {
        let stall = self.stall;
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(stall)));
        if progress {
            timer.as_mut().reset(Instant::now() + stall);
        }
        match timer.as_mut().poll(context) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => {
                Err(Gone::DoesNotRead { bytes: self.rpc.outbox.len(), seconds: stall.as_secs_f64() })
            }
        }
    }

    fn poll_farewell(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match self.poll_write(context) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Pin::new(&mut self.io).poll_shutdown(context).map(|_| ()),
            Err(_) => Poll::Ready(()),
        }
    }
}

impl<IO> Watch<IO> {
    fn new(chat: Chat<IO>) -> Self {
        Self { chat, glance: Vec::new(), vigil: Vigil::new(AWAKE), looks_once_more: false }
    }

    /// There is nothing to read: looks a few times whether that changes. True when it did.
    fn await_awake(&mut self, io: &IO, input: &mut BytesMut) -> io::Result<bool> {
        let Chat::Awaited(look) = self.chat else { return Ok(false) };
        for _ in 0..LOOKS {
            if !self.vigil.nothing_came(now()) {
                self.glance = Vec::new();
                return Ok(false);
            }
            // After everything else that is to be done elsewhere.
            std::thread::yield_now();
            self.glance.resize(GLANCE, 0);
            match look(io, &mut self.glance) {
                // The end is for the event loop to tell; so is the rest of what is large.
                Ok(0) => break,
                Ok(length) => {
                    input.extend_from_slice(self.glance.get(..length).unwrap_or_default());
                    self.something_came();
                    let is_all = length < GLANCE;
                    // The event loop does not tell of what was read here: if the rest is left to it, this is looked at again
                    // however late it was.
                    self.looks_once_more = !is_all;
                    return Ok(is_all);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Whether it is looked again after the event loop had its turn.
    fn goes_on(&mut self) -> bool {
        std::mem::take(&mut self.looks_once_more)
            || (matches!(self.chat, Chat::Awaited(_)) && self.vigil.is_kept(now()))
    }

    fn something_came(&mut self) {
        self.vigil.something_came(now());
    }
}

fn now() -> std::time::Instant {
    Instant::now().into_std()
}

/// Whether others are to have their turn first, however much this client asks and however fast it reads: this is woken
/// again after them.
fn others_turn(context: &mut Context<'_>) -> bool {
    pin!(consume_budget()).poll(context).is_pending()
}

/// This is woken again after everything else that is to be done here.
fn after_others(context: &mut Context<'_>) {
    let _ = pin!(yield_now()).poll(context);
}

/// A connection that broke because the client is gone is a client that closed it.
fn lost(error: io::Error) -> Gone {
    match error.kind() {
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            Gone::Closed
        }
        _ => Gone::Io(error),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// A client that asked again at once.
    fn brisk(look: fn(&(), &mut [u8]) -> io::Result<usize>) -> Watch<()> {
        let mut watch = Watch::new(Chat::Awaited(look));
        watch.vigil.begin(now());
        watch.something_came();
        watch
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_asks_again_at_once_is_waited_for_awake() {
        let mut input = BytesMut::new();
        let mut watch = brisk(|(), buffer| {
            buffer[..2].copy_from_slice(b"hi");
            Ok(2)
        });
        assert!(watch.await_awake(&(), &mut input).unwrap());
        assert_eq!(input[..], *b"hi");

        let mut watch = brisk(|(), _| Err(io::ErrorKind::WouldBlock.into()));
        assert!(!watch.await_awake(&(), &mut input).unwrap());
        assert!(watch.goes_on(), "the event loop has its turn");
        // In steps that are too short to be taken for others' turns.
        for _ in 0..10 {
            assert!(watch.goes_on());
            advance(AWAKE / 10).await;
            assert!(!watch.await_awake(&(), &mut input).unwrap());
        }
        assert!(!watch.goes_on(), "it takes its time now");
        assert!(watch.glance.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn where_it_is_not_wanted_nobody_is() {
        let mut watch = brisk(|(), _| Err(io::ErrorKind::WouldBlock.into()));
        watch.chat = Chat::Ignored;
        for _ in 0..3 {
            assert!(!watch.await_awake(&(), &mut BytesMut::new()).unwrap());
            assert!(!watch.goes_on());
        }
    }

    #[test]
    fn what_was_read_late_is_worked_on() {
        let slow_and_all_there_is_room_for = |_: &(), buffer: &mut [u8]| {
            let start = std::time::Instant::now();
            while start.elapsed() < AWAKE {}
            Ok(buffer.len())
        };
        let mut input = BytesMut::new();
        // It does not look at all when this thread was kept from it.
        while input.is_empty() {
            let mut watch = brisk(slow_and_all_there_is_room_for);
            assert!(!watch.await_awake(&(), &mut input).unwrap());
            assert!(watch.goes_on() || input.is_empty(), "nobody else tells that it came");
        }
        assert_eq!(input.len(), GLANCE);
    }
}
