//! Threads for the clients of this machine.
//!
//! A client that waits for each answer before it asks again is served in a few microseconds, and then two processes
//! have to be woken for every call. On a runtime that several threads share, whoever is idle is woken, too, and the
//! connection wanders from one to the other. Here it stays where it is: each thread has a runtime, and an event loop,
//! of its own.
//!
//! What a connection starts (tasks, timers) still belongs to the server's runtime.

use std::{
    future::poll_fn,
    io::{self, Read},
    num::NonZeroUsize,
    os::unix::net::UnixStream,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::available_parallelism,
};

use socket2::SockRef;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::OwnedSemaphorePermit,
};

use crate::{
    connection::Chat,
    server::{Shared, serve_client},
};

/// More threads than this are of no use to programs on one machine.
const MAX_LANES: usize = 4;

/// How many threads to serve the clients of this machine with, besides those of the server's runtime: as many as there
/// are cores for them, up to four. A thread is started when there is a client for it.
pub fn suitable_client_threads() -> usize {
    available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_LANES)
}

/// The threads, as many as there was need for.
pub(crate) struct Lanes {
    limit: usize,
    main: Handle,
    lanes: Vec<Lane>,
}

struct Lane {
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
    clients: Arc<AtomicUsize>,
}

/// A client on a lane.
struct Seat(Arc<AtomicUsize>);

impl Lanes {
    /// Up to `limit` threads beside the current runtime; 0 to serve everybody on that.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, main: Handle::current(), lanes: Vec::new() }
    }

    /// Serves a client, which has this place, until either side ends.
    pub(crate) fn serve(
        &mut self,
        shared: Arc<Shared>,
        client: UnixStream,
        place: OwnedSemaphorePermit,
    ) -> io::Result<()> {
        client.set_nonblocking(true)?;
        if self.limit == 0 {
            let client = tokio::net::UnixStream::from_std(client)?;
            self.main.spawn(async move {
                let _place = place;
                serve_client(shared, client, Chat::Ignored, |_| true).await;
            });
            return Ok(());
        }
        let main = self.main.clone();
        let lane = self.emptiest()?;
        let Some(runtime) = &lane.runtime else { return Ok(()) };
        lane.clients.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(lane.clients.clone());
        let client = {
            let _lane = runtime.enter();
            tokio::net::UnixStream::from_std(client)?
        };
        runtime.spawn(async move {
            let (_place, _seat) = (place, seat);
            let mut served = pin!(serve_client(shared, client, Chat::Awaited(read_now), |_| true));
            poll_fn(|context| {
                let _main = main.enter();
                served.as_mut().poll(context)
            })
            .await;
        });
        Ok(())
    }

    /// The lane with the fewest clients: a new one before one is shared.
    fn emptiest(&mut self) -> io::Result<&Lane> {
        let is_free = |lane: &Lane| lane.clients.load(Ordering::Relaxed) == 0;
        if self.lanes.len() < self.limit && !self.lanes.iter().any(is_free) {
            let runtime =
                Builder::new_multi_thread().worker_threads(1).thread_name("clients").enable_all().build()?;
            self.lanes.push(Lane { runtime: Some(runtime), clients: Arc::default() });
        }
        let emptiest = self.lanes.iter().min_by_key(|lane| lane.clients.load(Ordering::Relaxed));
        emptiest.ok_or_else(|| io::Error::other("no thread for clients"))
    }
}

/// Reads what is there.
fn read_now(stream: &tokio::net::UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
    (&*SockRef::from(stream)).read(buffer)
}

impl Drop for Lane {
    fn drop(&mut self) {
        // Without waiting: this may be a task of another runtime.
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        sync::{Arc, Mutex},
        thread::{self, ThreadId},
    };

    use futures::StreamExt;
    use hypercore::events::{CoreEvent, EventSink};
    use hyperspace_client::HyperspaceClient;
    use hyperspace_common::Endpoint;

    use crate::{Server, ServerEvent, ServerOptions};

    /// The threads that were appended on.
    #[derive(Default)]
    struct Threads(Mutex<HashSet<ThreadId>>);

    impl EventSink for Threads {
        fn event(&self, _: u64, event: &CoreEvent) {
            if matches!(event, CoreEvent::Append { .. }) {
                self.0.lock().unwrap().insert(thread::current().id());
            }
        }
    }

    async fn appended_on(client_threads: usize, clients: usize) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let options =
            ServerOptions { socket: Some(socket.clone()), client_threads, ..ServerOptions::default() };
        let server = Server::start(options).await.unwrap();
        let threads = Arc::new(Threads::default());
        let core = server.store().get(corestore::Query::name("log")).unwrap();
        let _events = core.subscribe(0, threads.clone());
        let mut clients_of = Vec::new();
        for _ in 0..clients {
            let client = HyperspaceClient::connect_to(&Endpoint::Socket(socket.clone())).await.unwrap();
            let log = client.corestore().get_by_name("log").await.unwrap();
            clients_of.push((client, log));
        }
        for round in 0..20 {
            for (_, log) in &clients_of {
                log.append(format!("block of round {round}")).await.unwrap();
            }
        }
        assert_eq!(core.length(), 20 * clients as u64);
        // Those who end are seen; those who are left are let go when the server ends.
        let mut events = Box::pin(server.events());
        drop(clients_of.pop());
        assert!(matches!(events.next().await, Some(ServerEvent::ClientClose { .. })));
        server.stop().await;
        let threads = threads.0.lock().unwrap();
        threads.len()
    }

    #[tokio::test]
    async fn each_client_stays_on_one_of_a_few_threads() {
        assert_eq!(appended_on(0, 3).await, 1, "the runtime of this test has one");
        assert_eq!(appended_on(2, 1).await, 1);
        assert_eq!(appended_on(2, 5).await, 2);
    }
}
