//! Who may come in: a connection shows an access token in its first frame, before any method runs.

use std::{
    collections::VecDeque,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard},
    time::Duration,
};

use hyperspace_common::{
    AccessToken, Decoder, Header, Kind, MAX_TOKEN, Method, Outbox, RpcError, RpcErrorExt, code, decode,
    messages::PresentRequest,
};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::descriptors::PASSING;

/// The largest first frame: a token and what goes around it.
const MAX_FIRST_FRAME: usize = MAX_TOKEN + 64;
/// Frames of nothing that may come before it, a byte each.
const MAX_NOTHING: usize = 64;
/// How long an answer to a wrong token takes: with [`Limits::max_pending`](crate::Limits::max_pending), so many
/// guesses a second and no more.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(250);

/// The tokens that let clients in, which may be others later. Only their hashes are kept.
#[derive(Debug)]
pub(crate) struct Tokens(RwLock<Vec<[u8; 32]>>);

/// There are no tokens to go on with: everybody would have to be let in, or nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("there is no access token among those that are to count from now on")]
pub struct NoTokens;

impl Tokens {
    pub(crate) fn new(tokens: &[AccessToken]) -> Self {
        Self(RwLock::new(hashes(tokens)))
    }

    /// From now on, these count and no others.
    pub(crate) fn replace(&self, tokens: &[AccessToken]) -> Result<(), NoTokens> {
        if tokens.is_empty() {
            return Err(NoTokens);
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = hashes(tokens);
        Ok(())
    }

    /// Whether no token is wanted.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Whether this is one of them. How long that takes says nothing about them.
    fn hold(&self, shown: &str) -> bool {
        let shown = hash(shown);
        let found = self.lock().iter().fold(Choice::from(0), |found, token| found | token.ct_eq(&shown));
        found.into()
    }

    fn lock(&self) -> RwLockReadGuard<'_, Vec<[u8; 32]>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

fn hashes(tokens: &[AccessToken]) -> Vec<[u8; 32]> {
    tokens.iter().map(|token| hash(token.secret())).collect()
}

fn hash(token: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(blake2b_simd::Params::new().hash_length(32).hash(token.as_bytes()).as_bytes());
    hash
}

/// Why a connection is not let in.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// It showed a token that is none.
    Wrong,
    /// It asked for something else first.
    Missing,
    /// It does not speak the protocol.
    Protocol(String),
    /// It took too long.
    Slow(Duration),
    /// Too many others came after it.
    Crowd,
    /// The server ends.
    Stopped,
    /// It closed the connection, or that broke.
    Gone(io::Error),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong => f.write_str("the access token is wrong"),
            Self::Missing => f.write_str(
                "an access token is wanted first (Access.Present); the daemon's token file has it",
            ),
            Self::Protocol(what) => write!(f, "it does not speak the protocol: {what}"),
            Self::Slow(time) => write!(f, "no access token came within {} s", time.as_secs_f64()),
            Self::Crowd => f.write_str("too many connections are waiting to show an access token"),
            Self::Stopped => f.write_str("the server ends"),
            Self::Gone(error) => write!(f, "it left without having shown an access token ({error})"),
        }
    }
}

/// Takes the first frame, which must show a token. Nothing is read past it.
pub(crate) async fn admit<IO>(io: &mut IO, tokens: &Tokens) -> Result<(), Refusal>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let decoder = Decoder::new(MAX_FIRST_FRAME);
    let protocol = |error: &dyn fmt::Display| Refusal::Protocol(error.to_string());
    let mut buffer = Vec::new();
    while let more @ 1.. = decoder.wanted(&buffer).map_err(|error| protocol(&error))? {
        if buffer.len() > MAX_FIRST_FRAME + MAX_NOTHING {
            return Err(protocol(&"many bytes and no frame"));
        }
        let at = buffer.len();
        buffer.resize(at + more, 0);
        io.read_exact(&mut buffer[at..]).await.map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => protocol(&error),
            _ => Refusal::Gone(error),
        })?;
    }
    let frame = match decoder.next(&buffer) {
        Ok(Some(frame)) => frame,
        Ok(None) => return Err(protocol(&"a frame without an end")),
        // Whoever is not us and begins with something large is told what comes first.
        Err(hyperspace_common::FrameError::TooLarge { header, .. }) => {
            return refuse(io, header, Refusal::Missing).await;
        }
        Err(error) => return Err(protocol(&error)),
    };
    let call = frame.header;
    if call.kind != Kind::Request {
        return Err(protocol(&"it answers a call that was never made"));
    }
    if call.known_method() != Some(Method::AccessPresent) {
        return refuse(io, call, Refusal::Missing).await;
    }
    match decode::<PresentRequest>(&buffer[frame.payload]) {
        Ok(request) if tokens.hold(&request.token) => {
            let mut outbox = Outbox::new();
            outbox.response(call, &());
            send(io, &mut outbox).await.map_err(Refusal::Gone)
        }
        _ => refuse(io, call, Refusal::Wrong).await,
    }
}

/// Says why, after a while.
async fn refuse<IO: AsyncWrite + Unpin>(io: &mut IO, call: Header, why: Refusal) -> Result<(), Refusal> {
    sleep(PAUSE_AFTER_FAILURE).await;
    let mut outbox = Outbox::new();
    outbox.error(call, &RpcError::coded(code::ACCESS, why.to_string()));
    // That it cannot be told changes nothing.
    let _ = send(io, &mut outbox).await;
    Err(why)
}

async fn send<IO: AsyncWrite + Unpin>(io: &mut IO, outbox: &mut Outbox) -> io::Result<()> {
    if !outbox.is_empty() {
        io.write_all(&outbox.take()).await?;
        io.flush().await?;
    }
    Ok(())
}

/// The connections that have not shown a token yet: so many, and no more. The oldest goes first, so that those who
/// keep a connection open without a word do not keep out others, who need it for a moment only.
///
/// Who has to go may hear why, and that takes time, too: so many are on their way out, and no more. Again the oldest
/// goes first, without further ado.
#[derive(Debug)]
pub(crate) struct Pending {
    /// For all of them together, while their connections are open.
    places: Arc<Semaphore>,
    most_waiting: usize,
    most_leaving: usize,
    time: Duration,
    guests: Mutex<Guests>,
}

#[derive(Debug, Default)]
struct Guests {
    next: u64,
    waiting: VecDeque<Guest>,
    leaving: VecDeque<Guest>,
}

#[derive(Debug, Clone)]
struct Guest {
    number: u64,
    /// It has to leave.
    evicted: CancellationToken,
    /// It has had its time for that.
    hurried: CancellationToken,
}

impl Guests {
    /// Says of one that waits that it leaves.
    fn leaves(&mut self, number: u64, most_leaving: usize) {
        if let Some(at) = self.waiting.iter().position(|guest| guest.number == number) {
            self.leaving.extend(self.waiting.remove(at));
        }
        while self.leaving.len() > most_leaving {
            if let Some(oldest) = self.leaving.pop_front() {
                oldest.hurried.cancel();
            }
        }
    }

    fn remove(&mut self, number: u64) {
        self.waiting.retain(|guest| guest.number != number);
        self.leaving.retain(|guest| guest.number != number);
    }
}

impl Pending {
    /// For `most` that may show a token within `time`, and `places` in all, with those who leave.
    pub(crate) fn new(most: usize, places: usize, time: Duration) -> Self {
        let settled = places.saturating_sub(PASSING).max(2);
        let most_waiting = most.min(settled / 2).max(1);
        let most_leaving = settled - most_waiting;
        let places = Arc::new(Semaphore::new(settled + PASSING));
        Self { places, most_waiting, most_leaving, time, guests: Mutex::default() }
    }

    /// Takes a place, for as long as the result lives. Waits until there is one: not for long, as those who would be
    /// too many are told to go at once.
    pub(crate) async fn enter(self: &Arc<Self>) -> Turn {
        // It is never closed.
        let place = self.places.clone().acquire_owned().await.ok();
        let mut guests = self.lock();
        let number = guests.next;
        guests.next += 1;
        let guest = Guest { number, evicted: CancellationToken::new(), hurried: CancellationToken::new() };
        guests.waiting.push_back(guest.clone());
        if guests.waiting.len() > self.most_waiting
            && let Some(oldest) = guests.waiting.front()
        {
            let number = oldest.number;
            oldest.evicted.cancel();
            guests.leaves(number, self.most_leaving);
        }
        drop(guests);
        Turn { pending: self.clone(), guest, deadline: Instant::now() + self.time, _place: place }
    }

    fn lock(&self) -> MutexGuard<'_, Guests> {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the connections that have not shown a token yet.
#[derive(Debug)]
pub(crate) struct Turn {
    pending: Arc<Pending>,
    guest: Guest,
    deadline: Instant,
    _place: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// Does a part of what it takes to come in, as long as there are time and a place.
    pub(crate) async fn within<T>(
        &self,
        stopping: &CancellationToken,
        work: impl Future<Output = T>,
    ) -> Result<T, Refusal> {
        tokio::select! {
            done = work => Ok(done),
            () = sleep_until(self.deadline) => Err(Refusal::Slow(self.pending.time)),
            () = self.guest.evicted.cancelled() => Err(Refusal::Crowd),
            () = stopping.cancelled() => Err(Refusal::Stopped),
        }
    }

    /// Leaves the connection, which `farewell` has and ends, the time for that unless too many others leave.
    pub(crate) async fn leave(self, farewell: impl Future<Output = ()>) {
        self.pending.lock().leaves(self.guest.number, self.pending.most_leaving);
        tokio::select! {
            () = farewell => {}
            () = self.guest.hurried.cancelled() => {}
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.pending.lock().remove(self.guest.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn tokens() -> (Tokens, AccessToken) {
        let token: AccessToken = "0123456789abcdef0123456789abcdef".parse().unwrap();
        (Tokens::new(&["x".repeat(40).parse().unwrap(), token.clone()]), token)
    }

    fn presents(id: u64, token: &str) -> Vec<u8> {
        let mut outbox = Outbox::new();
        outbox.request(Method::AccessPresent, id, &PresentRequest { token: token.into() });
        outbox.take().to_vec()
    }

    /// What becomes of a connection that sends this, what it hears, and what it sent that was not read.
    async fn meets(bytes: &[u8]) -> (Result<(), Refusal>, Vec<u8>, Vec<u8>) {
        let (mut near, mut far) = tokio::io::duplex(100_000);
        near.write_all(bytes).await.unwrap();
        near.shutdown().await.unwrap();
        let admitted = admit(&mut far, &tokens().0).await;
        let (mut rest, mut heard) = (Vec::new(), Vec::new());
        far.read_to_end(&mut rest).await.unwrap();
        drop(far);
        near.read_to_end(&mut heard).await.unwrap();
        (admitted, heard, rest)
    }

    fn error(heard: &[u8]) -> RpcError {
        let frame = Decoder::default().next(heard).unwrap().unwrap();
        assert_eq!((frame.header.kind, frame.end), (Kind::Error, heard.len()));
        decode(&heard[frame.payload]).unwrap()
    }

    #[tokio::test]
    async fn a_token_lets_in_and_the_rest_is_left() {
        let token = tokens().1;
        for id in [0, 7] {
            let mut bytes = vec![0, 0];
            bytes.extend_from_slice(&presents(id, token.secret()));
            bytes.extend_from_slice(b"more");
            let (admitted, heard, rest) = meets(&bytes).await;
            assert!(admitted.is_ok() && rest == b"more");
            // 0 wants no answer.
            assert_eq!(heard.is_empty(), id == 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn anything_else_does_not() {
        let token = tokens().1;
        let near =
            [&token.secret()[1..], &format!("{}0", token.secret()), "", &"x".repeat(41), &"x".repeat(256)];
        for wrong in near {
            let started = Instant::now();
            let (admitted, heard, _) = meets(&presents(3, wrong)).await;
            assert!(matches!(admitted, Err(Refusal::Wrong)), "{wrong}");
            assert!(started.elapsed() >= PAUSE_AFTER_FAILURE);
            let error = error(&heard);
            assert_eq!(
                (error.code.as_deref(), &*error.message),
                (Some(code::ACCESS), "the access token is wrong")
            );
        }
        let mut outbox = Outbox::new();
        outbox.request(Method::HyperspaceStop, 9, &());
        let (admitted, heard, _) = meets(&outbox.take()).await;
        assert!(matches!(admitted, Err(Refusal::Missing)));
        assert!(error(&heard).message.contains("token file"));
        let mut outbox = Outbox::new();
        outbox.append_request(4, 0, &[vec![0; 10_000].into()]);
        let (admitted, heard, _) = meets(&outbox.take()).await;
        assert!(matches!(admitted, Err(Refusal::Missing)));
        assert_eq!(error(&heard).code.as_deref(), Some(code::ACCESS));
        for garbage in [
            &b"GET / HTTP/1.1\r\n\r\n"[..],
            b"POST / HTTP/1.1\r\n\r\n",
            &[0xff; 100],
            &[0; 10_000],
            b"",
            &[5],
        ] {
            let (admitted, heard, _) = meets(garbage).await;
            assert!(matches!(admitted, Err(Refusal::Protocol(_) | Refusal::Gone(_))), "{garbage:?}");
            assert!(heard.is_empty());
        }
    }

    #[test]
    fn tokens_are_replaced_but_not_by_none() {
        let (tokens, old) = tokens();
        assert!(tokens.hold(old.secret()));
        assert_eq!(tokens.replace(&[]), Err(NoTokens));
        assert!(tokens.hold(old.secret()));
        let new: AccessToken = "f".repeat(64).parse().unwrap();
        tokens.replace(std::slice::from_ref(&new)).unwrap();
        assert!(tokens.hold(new.secret()) && !tokens.hold(old.secret()));
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_few_and_the_oldest_goes_first() {
        let time = Duration::from_secs(10);
        let (pending, stopping) = (Arc::new(Pending::new(2, 4 + PASSING, time)), CancellationToken::new());
        let never = std::future::pending::<()>;
        let first = pending.enter().await;
        let second = pending.enter().await;
        assert!(first.within(&stopping, never()).now_or_never().is_none());
        let third = pending.enter().await;
        assert!(matches!(first.within(&stopping, never()).await, Err(Refusal::Crowd)));
        assert!(second.within(&stopping, async { 5 }).await.is_ok());
        drop(second);
        let fourth = pending.enter().await;
        assert!(third.within(&stopping, never()).now_or_never().is_none(), "a place was free");
        assert!(matches!(third.within(&stopping, never()).await, Err(Refusal::Slow(_))));
        stopping.cancel();
        let fifth = pending.enter().await;
        assert!(matches!(fifth.within(&stopping, never()).await, Err(Refusal::Stopped)));
        drop((first, third, fourth, fifth));
        let guests = pending.lock();
        assert!(guests.waiting.is_empty() && guests.leaving.is_empty());
    }

    /// However slowly they leave.
    #[tokio::test(start_paused = true)]
    async fn those_who_leave_are_few_as_well() {
        let start = Instant::now();
        let (most, places) = (3, 3 + 2 + PASSING);
        let pending = Arc::new(Pending::new(most, places, Duration::from_secs(10)));
        let (stopping, open) = (CancellationToken::new(), Arc::new(AtomicUsize::new(0)));
        for _ in 0..100 {
            let turn = pending.enter().await;
            assert!(open.fetch_add(1, Ordering::Relaxed) < places);
            let (stopping, open) = (stopping.clone(), open.clone());
            tokio::spawn(async move {
                let refused = turn.within(&stopping, std::future::pending::<()>()).await;
                assert!(matches!(refused, Err(Refusal::Crowd)), "{refused:?}");
                let connection = Connection(open);
                turn.leave(async move {
                    let _connection = connection;
                    std::future::pending::<()>().await;
                })
                .await;
            });
        }
        assert!(open.load(Ordering::Relaxed) <= places);
        assert!(start.elapsed().is_zero(), "nobody has to wait for them");
    }

    /// Something that is open.
    struct Connection(Arc<AtomicUsize>);

    impl Drop for Connection {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn any_first_bytes_are_survived() {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let framed = (0u64..20, 0u64..3, 0u64..3, proptest::collection::vec(any::<u8>(), 0..400)).prop_map(
            |(service, method, id, payload)| {
                let mut out = bytes::BytesMut::new();
                Header { kind: Kind::Request, service, method, id }.write(payload.len(), &mut out);
                out.extend_from_slice(&payload);
                out.to_vec()
            },
        );
        let noise = proptest::collection::vec(any::<u8>(), 0..600);
        proptest!(|(bytes in prop_oneof![framed, noise])| {
            prop_assert!(runtime.block_on(meets(&bytes)).0.is_err());
        });
    }
}
