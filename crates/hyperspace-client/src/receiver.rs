//! What the daemon sends: read, cut into frames, and handed on in order.

use std::{
    io::{self, Read},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use hyperspace_common::{Decoder, Header, Kind};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, Empty, ReadHalf},
    net::{tcp, unix},
};
use tokio_util::io::poll_read_buf;

use crate::{connection::EventHandler, error::ClientError, receive_memory::ReceiveMemory};

/// How much is read at once.
const READ_BURST: usize = 64 << 10;
/// From this length on a frame is read to its end and this much further: with small ones a burst brings many, but what it
/// brings of the large one that follows has to be moved to that one's memory.
const LARGE_FRAME: usize = 32 << 10;
const BEYOND: usize = 2 << 10;
/// How much is read at a look.
const GLANCE: usize = 4 << 10;

/// The direction of a stream that the daemon writes to.
pub(crate) trait Incoming: AsyncRead + Send + Unpin {
    /// Reads what is there, past the event loop.
    fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize>;
}

impl Incoming for unix::OwnedReadHalf {
    fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*SockRef::from(self.as_ref())).read(buffer)
    }
}

impl Incoming for tcp::OwnedReadHalf {
    fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*SockRef::from(self.as_ref())).read(buffer)
    }
}

/// What is between here and the socket is worked on by the event loop alone.
impl<IO: Send> Incoming for ReadHalf<IO>
where
    ReadHalf<IO>: AsyncRead,
{
    fn read_now(&self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Incoming for Empty {
    fn read_now(&self, _: &mut [u8]) -> io::Result<usize> {
        Ok(0)
    }
}

/// Answers to calls.
pub(crate) type Answers = Vec<(Header, Bytes)>;

/// Reads from a stream. Whoever waits for an answer may do so, one at a time.
pub(crate) struct Receiver {
    reader: Box<dyn Incoming>,
    input: BytesMut,
    memory: ReceiveMemory,
    glance: Vec<u8>,
    events: Arc<dyn EventHandler>,
}

impl Receiver {
    pub(crate) fn new(reader: Box<dyn Incoming>, events: Arc<dyn EventHandler>) -> Self {
        let (input, memory) = (BytesMut::new(), ReceiveMemory::default());
        Self { reader, input, memory, glance: Vec::new(), events }
    }

    /// Goes on with another stream.
    pub(crate) fn replace(&mut self, reader: Box<dyn Incoming>) {
        self.reader = reader;
        self.input.clear();
    }

    /// Reads once, passes events on, and gives the answers.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Answers, ClientError>> {
        let room = room_for(&self.input);
        self.memory.reserve(&mut self.input, room);
        let mut input = (&mut self.input).limit(room);
        Poll::Ready(match ready!(poll_read_buf(Pin::new(&mut self.reader), context, &mut input)) {
            Ok(0) => Err(ClientError::Disconnected("the daemon closed it".into())),
            Ok(_) => self.take_frames(),
            Err(error) => Err(ClientError::io(&error)),
        })
    }

    /// The same with what is there already: without the event loop, and a little at most.
    pub(crate) fn look(&mut self) -> Result<Answers, ClientError> {
        self.glance.resize(GLANCE, 0);
        match self.reader.read_now(&mut self.glance) {
            // The end is for the event loop to tell.
            Ok(0) => Ok(Vec::new()),
            Ok(length) => {
                self.input.extend_from_slice(self.glance.get(..length).unwrap_or_default());
                self.take_frames()
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Vec::new()),
                _ => Err(ClientError::io(&error)),
            },
        }
    }

    /// Takes every whole frame that has arrived.
    fn take_frames(&mut self) -> Result<Answers, ClientError> {
        let decoder = Decoder::default();
        let protocol = |error: &dyn std::fmt::Display| ClientError::Protocol(error.to_string());
        let (length, frames) = decoder.complete(&self.input, usize::MAX).map_err(|error| protocol(&error))?;
        if frames == 0 {
            // Zeros, which mean nothing.
            self.input.advance(length);
            return Ok(Vec::new());
        }
        let burst = self.memory.lend(&mut self.input, length);
        let mut answers = Vec::new();
        let mut at = 0;
        while let Some(frame) = decoder.next(&burst[at..]).map_err(|error| protocol(&error))? {
            let payload = burst.slice(at + frame.payload.start..at + frame.payload.end);
            at += frame.end;
            // Events first: what they change is seen by whoever the answers wake.
            if frame.header.kind == Kind::Request {
                self.event(frame.header, payload)?;
            } else {
                answers.push((frame.header, payload));
            }
        }
        Ok(answers)
    }

    fn event(&self, header: Header, payload: Bytes) -> Result<(), ClientError> {
        // Events that this client does not know are for newer ones.
        match header.known_method() {
            Some(method) => self.events.event(method, payload),
            None => Ok(()),
        }
    }
}

/// How much to read behind what has come of a frame. Never more than twice a burst, whatever the frame says of itself.
fn room_for(input: &[u8]) -> usize {
    // A fault is found when the frame is taken.
    let wanted = Decoder::default().wanted(input).unwrap_or(0);
    if input.len() + wanted < LARGE_FRAME { READ_BURST } else { wanted.min(2 * READ_BURST) + BEYOND }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use futures::future::BoxFuture;
    use hyperspace_common::{Method, Outbox};
    use tokio::io::ReadBuf;

    use super::*;
    use crate::connection::Connection;

    /// A daemon that sends zeros and nothing else.
    struct Zeros;

    impl AsyncRead for Zeros {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            buffer.initialize_unfilled().fill(0);
            buffer.advance(buffer.remaining());
            Poll::Ready(Ok(()))
        }
    }

    impl Incoming for Zeros {
        fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
            buffer.fill(0);
            Ok(buffer.len())
        }
    }

    struct Nobody;

    impl EventHandler for Nobody {
        fn event(&self, _: Method, _: Bytes) -> Result<(), ClientError> {
            Ok(())
        }

        fn closed(&self, _: &ClientError) {}

        fn lost(&self, _: &ClientError) {}

        fn lost_again(&self) {}

        fn restore(&self, _: Connection) -> BoxFuture<'_, Result<(), ClientError>> {
            Box::pin(async { Ok(()) })
        }

        fn restored(&self) {}
    }

    #[test]
    fn what_means_nothing_takes_no_memory_however_much_comes() {
        let mut receiver = Receiver::new(Box::new(Zeros), Arc::new(Nobody));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..100 {
            let Poll::Ready(Ok(answers)) = receiver.poll(&mut context) else { panic!("it is there") };
            assert!(answers.is_empty() && receiver.input.is_empty());
            assert!(receiver.look().unwrap().is_empty() && receiver.input.is_empty());
            assert!(receiver.input.capacity() <= 4 * READ_BURST, "{}", receiver.input.capacity());
        }
    }

    #[test]
    fn a_large_frame_is_read_to_its_end_and_no_claim_takes_memory() {
        let mut outbox = Outbox::new();
        let call = Header::request(Method::HypercoreGet, 7);
        outbox.block_response(call, Bytes::from(vec![1; 64 << 10]));
        let frame = outbox.take();
        // Whatever has come of it, the next read ends behind it.
        for came in [READ_BURST, 3000, 40_000, frame.len() - 1] {
            assert_eq!(room_for(&frame[..came]), frame.len() - came + BEYOND, "{came}");
        }
        assert_eq!(room_for(&[]), READ_BURST);
        outbox.block_response(call, Bytes::from(vec![1; 100]));
        assert_eq!(room_for(&outbox.take()[..50]), READ_BURST);
        // A frame of 200 MiB, of which nothing but the length has come.
        let mut claim = BytesMut::new();
        Header::response(Method::HypercoreGet, 7).write(200 << 20, &mut claim);
        assert_eq!(room_for(&claim), 2 * READ_BURST + BEYOND);
        assert_eq!(room_for(&[0xff; 100]), READ_BURST);
    }
}
