//! The one task of a socket: reads, hands out, sends what waited, keeps the time of its streams.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

use super::core::StreamCore;
use super::dispatch::Dispatch;
use super::moderation::Moderation;
use super::receive;
use super::socket::SocketCore;

/// Batches that one poll reads before other tasks get their turn.
const MAX_BATCHES: usize = 4;

pub(super) struct SocketTask {
    core: Arc<SocketCore>,
    dispatch: Dispatch,
    moderation: Moderation,
    /// Wake-ups are back: they begin with the next look.
    look_again: bool,
    /// Streams that get a turn in this poll.
    due: Vec<(Arc<StreamCore>, bool)>,
    sleep: Pin<Box<Sleep>>,
}

impl SocketTask {
    pub(super) fn new(core: Arc<SocketCore>) -> Self {
        let sleep = Box::pin(tokio::time::sleep_until(tokio::time::Instant::now()));
        let moderation = Moderation::new(Instant::now());
        Self { core, dispatch: Dispatch::default(), moderation, look_again: false, due: Vec::new(), sleep }
    }

    /// True when there may be more to read at once.
    fn receive(&mut self, cx: &mut Context<'_>) -> bool {
        if self.moderation.tick().is_some_and(|tick| Instant::now() < tick) {
            return false;
        }
        let Self { core, dispatch, moderation, .. } = self;
        let Some(io) = core.io() else { return false };
        for _ in 0..MAX_BATCHES {
            if io.poll_recv_ready(cx).is_pending() {
                self.moderate();
                return false;
            }
            let now = Instant::now();
            let read = receive::batch(&io, |meta, train| dispatch.train(core, meta, train, now));
            let (patient, urgent) = dispatch.finish(core);
            match read {
                Ok(_) => {
                    core.counters.count_receive();
                    moderation.count(patient, urgent);
                }
                Err(err) if err.kind() == std::io::ErrorKind::WouldBlock && !io.has_wakes() => {
                    self.moderate();
                    return false;
                }
                Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => {}
                // Such as ECONNREFUSED for something sent before; the socket lives on.
                Err(err) => tracing::trace!(%err, "reading from a UDP socket"),
            }
        }
        true
    }

    /// Everything is read: whether the runtime is to tell when there is more, or the clock.
    fn moderate(&mut self) {
        let now = Instant::now();
        let wakes = self.moderation.wants_wakes(now);
        self.set_wakes(wakes, now);
    }

    fn set_wakes(&mut self, wakes: bool, now: Instant) {
        let set = self.core.set_wakes(wakes);
        // Without file descriptors everything stays as it is.
        let has = self.core.io().is_none_or(|io| io.has_wakes());
        match has {
            false => self.moderation.rest(now),
            true => {
                self.look_again |= self.moderation.tick().is_some();
                self.moderation.wake();
            }
        }
        if let Err(err) = set {
            tracing::trace!(%err, "changing the wake-ups of a UDP socket");
        }
    }

    /// True when nothing waits, or the task will be woken when the kernel takes more.
    fn flush(&mut self, cx: &mut Context<'_>) -> bool {
        for _ in 0..MAX_BATCHES {
            if self.core.flush() {
                self.core.schedule.unblock();
                return true;
            }
            // Now there is something to be woken for.
            self.set_wakes(true, Instant::now());
            let Some(io) = self.core.io() else { return true };
            if io.poll_send_ready(cx).is_pending() {
                return true;
            }
        }
        false
    }

    fn turns(&mut self) {
        let now = Instant::now();
        self.core.schedule.take(now, &mut self.due);
        for (stream, timer) in self.due.drain(..) {
            stream.turn_scheduled(now, timer);
        }
        if self.due.capacity() > 1024 {
            self.due = Vec::new();
        }
    }
}

impl Future for SocketTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.core.schedule.begin(cx);
        if this.core.is_done() {
            // What was sent before the end is given one chance more.
            this.core.flush();
            return Poll::Ready(());
        }
        let more = this.receive(cx);
        let flushed = this.flush(cx);
        this.turns();
        let mut again = more || !flushed || std::mem::take(&mut this.look_again);
        match this.core.schedule.end() {
            Err(()) => again = true,
            Ok(deadline) => {
                if let Some(deadline) = deadline.into_iter().chain(this.moderation.tick()).min() {
                    let deadline = tokio::time::Instant::from_std(deadline);
                    if this.sleep.deadline() != deadline {
                        this.sleep.as_mut().reset(deadline);
                    }
                    again |= this.sleep.as_mut().poll(cx).is_ready();
                }
            }
        }
        if again {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for SocketTask {
    // Also when the runtime ends before the socket does.
    fn drop(&mut self) {
        self.core.shut();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::{Datagram, Udx, UdxSocket};
    use super::*;

    fn socket() -> UdxSocket {
        Udx::new().bind("127.0.0.1:0".parse().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn datagrams_arrive_whole_and_keep_their_borders() {
        let (a, b) = (socket(), socket());
        let sizes = [0, 1, 19, 20, 1200, 1200, 9000, 65_507];
        for (mark, size) in sizes.into_iter().enumerate() {
            a.send(Bytes::from(vec![mark as u8; size]), b.local_addr()).unwrap();
        }
        a.send_ttl(Bytes::from_static(b"near"), b.local_addr(), 1).unwrap();
        for (mark, size) in sizes.into_iter().enumerate() {
            let got = b.recv().await.unwrap();
            assert_eq!(got.from, a.local_addr());
            assert_eq!(got.payload, vec![mark as u8; size]);
        }
        assert_eq!(b.recv().await.unwrap().payload, &b"near"[..]);
        assert_eq!(b.stats().datagrams_received, 9);
        assert_eq!(a.stats().datagrams_sent, 9);
    }

    #[tokio::test]
    async fn both_families_through_one_socket() {
        let Ok(both) = Udx::new().bind("[::]:0".parse().unwrap()) else { return };
        let v4 = socket();
        let at = format!("127.0.0.1:{}", both.local_addr().port()).parse().unwrap();
        v4.send(Bytes::from_static(b"ping"), at).unwrap();
        let got = both.recv().await.unwrap();
        assert_eq!(got.from, v4.local_addr());
        both.send_ttl(Bytes::from_static(b"pong"), got.from, 3).unwrap();
        assert_eq!(v4.recv().await.unwrap(), Datagram { from: at, payload: Bytes::from_static(b"pong") });
    }

    #[tokio::test]
    async fn closing_ends_those_who_wait_and_frees_the_port() {
        let socket = socket();
        let address = socket.local_addr();
        let waiting = tokio::spawn({
            let socket = socket.clone();
            async move { socket.recv().await }
        });
        socket.close();
        assert_eq!(waiting.await.unwrap(), None);
        socket.closed().await;
        assert!(socket.send(Bytes::new(), address).is_err());
        Udx::new().bind(address).unwrap();
    }

    #[tokio::test]
    async fn the_last_handle_closes() {
        let socket = socket();
        let core = Arc::clone(&socket.core);
        drop(socket.clone());
        drop(socket);
        let mut inbox = std::future::poll_fn(|cx| core.inbox.poll_recv(cx));
        assert_eq!((&mut inbox).await, None);
    }
}
