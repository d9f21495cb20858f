//! The stream of bytes.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use futures::{Sink, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error as WsError, Message,
        error::ProtocolError,
        protocol::{Role, WebSocketConfig},
    },
};

use crate::{
    Close,
    gate::Gate,
    heartbeat::{Beat, Heartbeat},
};

/// The largest message that is taken. Senders cut what is longer: message borders mean nothing.
pub const MAX_MESSAGE: usize = 16 << 20;
/// The largest message that is sent.
const CHUNK: usize = 64 << 10;
/// How much is read at once.
const READ_BURST: usize = 16 << 10;
/// What may wait to be written: a chunk below the mark from which on it is written, another one, and pings.
const MAX_UNWRITTEN: usize = 4 * CHUNK;
/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(2);
/// How much of what the other side still sends is read after a farewell.
const MAX_LATE: usize = 1 << 20;

/// A stream of bytes in the binary messages of a WebSocket.
///
/// Reading ends when the other side says that it closes. Pings are answered while the stream is read. A server asks
/// in its turn, and a client that does not answer for two minutes is gone: reading fails.
///
/// Shutting the stream down writes what is left of it and nothing more: the farewell is [`WsStream::finish`].
#[derive(Debug)]
pub struct WsStream<S> {
    socket: WebSocketStream<Gate<S>>,
    role: Role,
    /// Of the last message, what was not read yet.
    input: Bytes,
    /// The other side has closed.
    ended: bool,
    /// What the other side did wrong: the farewell says it.
    fault: Option<Close>,
    heartbeat: Option<Heartbeat>,
}

pub(crate) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_BURST)
        .write_buffer_size(CHUNK)
        .max_write_buffer_size(MAX_UNWRITTEN)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

impl<S: AsyncRead + AsyncWrite + Unpin> WsStream<S> {
    pub(crate) fn new(socket: WebSocketStream<Gate<S>>, role: Role) -> Self {
        Self { socket, role, input: Bytes::new(), ended: false, fault: None, heartbeat: None }
    }

    /// The other side may come in: the bound on what is read from it falls, and it is asked from time to time whether
    /// it is there.
    pub fn admitted(&mut self) {
        self.socket.get_mut().let_through();
        if self.role == Role::Server {
            self.heartbeat = Some(Heartbeat::new());
        }
    }

    /// Whether there is something to read for which the other side need not be asked: the rest of a message.
    pub fn has_unread(&self) -> bool {
        !self.input.is_empty()
    }

    /// What the other side did wrong, if that ended the stream.
    pub fn fault(&self) -> Option<&Close> {
        self.fault.as_ref()
    }

    /// Says farewell, and waits for as much as two seconds until the other side has had the time to read it. A fault
    /// of the other side goes before the reason given here.
    pub async fn finish(mut self, close: Close) {
        let close = self.fault.take().unwrap_or(close);
        let farewell = async {
            if self.socket.send(Message::Close(Some(close.frame()))).await.is_err() {
                // The other side was first: what is left is the answer to its farewell.
                let _ = self.socket.flush().await;
            }
            part(&mut self.socket.get_mut().inner).await;
        };
        let _ = tokio::time::timeout(FAREWELL, farewell).await;
    }

    fn take(&mut self, message: Message) -> io::Result<()> {
        match message {
            Message::Binary(bytes) => self.input = bytes,
            // Answered by tungstenite.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            Message::Text(_) => {
                let close = Close::unsupported("this WebSocket carries HRPC in binary messages");
                return Err(self.fail(close));
            }
            Message::Close(frame) => {
                self.ended = true;
                let close = Close::received(frame.as_ref());
                if self.role == Role::Client && !close.is_normal() {
                    let Close { code, reason } = close;
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        format!("{reason} (WebSocket close code {code})"),
                    ));
                }
            }
        }
        Ok(())
    }

    fn fail(&mut self, close: Close) -> io::Error {
        self.ended = true;
        let error = io::Error::new(io::ErrorKind::InvalidData, close.reason.clone());
        self.fault = Some(close);
        error
    }

    fn read_failed(&mut self, error: WsError) -> io::Error {
        match error {
            WsError::Capacity(_) => {
                self.fail(Close::too_big(format!("messages have at most {MAX_MESSAGE} bytes; send several")))
            }
            WsError::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
                self.ended = true;
                io::ErrorKind::ConnectionReset.into()
            }
            WsError::Protocol(error) => self.fail(Close::protocol(error.to_string())),
            WsError::Utf8(error) => self.fail(Close::new(1007, error)),
            error => {
                self.ended = true;
                io_error(error)
            }
        }
    }

    /// Nothing is to be read: is anybody there?
    fn poll_heartbeat(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let Some(heartbeat) = &mut self.heartbeat else { return Ok(()) };
        // A part of a message, too: within a frame the other side can answer no ping.
        if self.socket.get_mut().take_came() {
            heartbeat.heard();
        }
        while let Poll::Ready(beat) = heartbeat.poll(context) {
            if beat == Beat::Gone {
                self.ended = true;
                let seconds = Heartbeat::patience().as_secs();
                let why = format!("nothing came for {seconds} s, and pings were not answered");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            // Whoever does not read is noticed by whoever writes, and need not be asked.
            if Pin::new(&mut self.socket).poll_ready(context).map_err(io_error)?.is_ready() {
                Pin::new(&mut self.socket).start_send(Message::Ping(Bytes::new())).map_err(io_error)?;
                let _ = Pin::new(&mut self.socket).poll_flush(context).map_err(io_error)?;
                heartbeat.asked();
            }
        }
        Ok(())
    }
}

fn io_error(error: WsError) -> io::Error {
    match error {
        WsError::Io(error) => error,
        WsError::ConnectionClosed
        | WsError::AlreadyClosed
        | WsError::Protocol(ProtocolError::SendAfterClosing) => io::ErrorKind::BrokenPipe.into(),
        error => io::Error::other(error),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WsStream<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.input.is_empty() {
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            match this.socket.poll_next_unpin(context) {
                Poll::Ready(Some(Ok(message))) => this.take(message)?,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(this.read_failed(error))),
                Poll::Ready(None) => this.ended = true,
                Poll::Pending => {
                    this.poll_heartbeat(context)?;
                    return Poll::Pending;
                }
            }
        }
        let part = this.input.len().min(buffer.remaining());
        buffer.put_slice(&this.input[..part]);
        this.input.advance(part);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WsStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut socket = Pin::new(&mut self.get_mut().socket);
        // Ready: what was written before is on its way, so that nothing piles up.
        ready!(socket.as_mut().poll_ready(context)).map_err(io_error)?;
        let total: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut chunk = BytesMut::with_capacity(total.min(CHUNK));
        for slice in slices {
            let room = CHUNK - chunk.len();
            chunk.extend_from_slice(slice.get(..room).unwrap_or(slice));
        }
        let written = chunk.len();
        if written > 0 {
            socket.start_send(Message::Binary(chunk.freeze())).map_err(io_error)?;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context).map_err(io_error)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(context)
    }
}

/// Leaves the other side the time to read what was written last: a connection that is dropped with something unread is
/// reset, and that may then be lost.
pub(crate) async fn part<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S) {
    let read = async {
        let _ = stream.shutdown().await;
        let mut late = stream.take(MAX_LATE as u64);
        let _ = tokio::io::copy(&mut late, &mut tokio::io::sink()).await;
    };
    let _ = tokio::time::timeout(FAREWELL, read).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Origins, accept, connect};
    use tokio::{io::DuplexStream, time::Instant};

    async fn pair(buffer: usize) -> (WsStream<DuplexStream>, WsStream<DuplexStream>) {
        let (near, far) = tokio::io::duplex(buffer);
        let origins = Origins::default();
        let (client, server) = tokio::join!(connect(near, "ws://127.0.0.1:1/"), accept(far, &origins));
        let mut server = server.unwrap();
        server.admitted();
        (client.unwrap(), server)
    }

    /// A server, and a client that sends whatever messages it likes.
    async fn rough_pair() -> (WebSocketStream<DuplexStream>, WsStream<DuplexStream>) {
        let (near, far) = tokio::io::duplex(64 << 20);
        let origins = Origins::default();
        let client = tokio_tungstenite::client_async("ws://127.0.0.1:1/", near);
        let (client, server) = tokio::join!(client, accept(far, &origins));
        let mut server = server.unwrap();
        server.admitted();
        (client.unwrap().0, server)
    }

    #[tokio::test]
    async fn much_goes_both_ways_through_little() {
        let (mut client, mut server) = pair(1000).await;
        let data: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
        let (expected, echoed) = (data.clone(), data.len());
        let echo = tokio::spawn(async move {
            let mut buffer = vec![0; 100_000];
            let mut total = 0;
            while total < echoed {
                let read = server.read(&mut buffer).await.unwrap();
                total += read;
                server.write_all(&buffer[..read]).await.unwrap();
            }
            server.flush().await.unwrap();
            server
        });
        let (mut reader, mut writer) = tokio::io::split(client);
        let write = tokio::spawn(async move {
            writer.write_all(&data).await.unwrap();
            writer.flush().await.unwrap();
            writer
        });
        let mut heard = vec![0; expected.len()];
        reader.read_exact(&mut heard).await.unwrap();
        assert!(heard == expected);
        client = reader.unsplit(write.await.unwrap());
        let server = echo.await.unwrap();
        let (_, read) = tokio::join!(server.finish(Close::going_away("the end")), client.read(&mut heard));
        assert_eq!(read.unwrap(), 0, "a normal end is an end");
    }

    #[tokio::test]
    async fn the_client_is_told_why() {
        let (mut client, server) = pair(10_000).await;
        let mut buffer = [0; 10];
        let close = Close::new(4401, "show a token");
        let (_, read) = tokio::join!(server.finish(close), client.read(&mut buffer));
        let error = read.unwrap_err().to_string();
        assert!(error.contains("show a token") && error.contains("4401"), "{error}");
        assert!(client.write_all(b"more").await.is_err());
    }

    #[tokio::test]
    async fn the_server_sees_the_client_leave() {
        let mut buffer = [0; 10];
        let (client, mut server) = pair(10_000).await;
        let (_, read) = tokio::join!(client.finish(Close::normal("")), async {
            let read = server.read(&mut buffer).await;
            server.finish(Close::normal("")).await;
            read
        });
        assert_eq!(read.unwrap(), 0);
        let (client, mut server) = pair(10_000).await;
        drop(client);
        assert_eq!(server.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    async fn ends_with(message: Message, code: u16) {
        let (mut client, mut server) = rough_pair().await;
        client.send(Message::Binary(Bytes::from_static(b"good"))).await.unwrap();
        client.send(message).await.unwrap();
        let mut buffer = [0; 4];
        server.read_exact(&mut buffer).await.unwrap();
        let error = server.read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let finish = tokio::spawn(server.finish(Close::normal("not this one")));
        match client.next().await {
            Some(Ok(Message::Close(Some(frame)))) => {
                assert_eq!((u16::from(frame.code), frame.reason.as_str()), (code, &*error.to_string()));
            }
            other => panic!("{other:?}"),
        }
        drop(client);
        finish.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_no_binary_message_ends_the_stream_with_a_code() {
        ends_with(Message::text("hello"), 1003).await;
        ends_with(Message::Binary(Bytes::from(vec![0; MAX_MESSAGE + 1])), 1009).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_pings_stays_and_one_that_does_not_is_gone() {
        let (mut client, mut server) = pair(10_000).await;
        let reading = tokio::spawn(async move {
            let mut buffer = [0; 10];
            let read = client.read(&mut buffer).await;
            (client, read.map(|read| buffer[..read].to_vec()))
        });
        let mut buffer = [0; 10];
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, server.read(&mut buffer)).await.is_err(), "nothing happens");
        server.write_all(b"still here").await.unwrap();
        server.flush().await.unwrap();
        let (client, read) = reading.await.unwrap();
        assert_eq!(read.unwrap(), b"still here");
        // From now on the client is not read, so that nothing is answered.
        let started = Instant::now();
        let error = server.read(&mut buffer).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(started.elapsed() >= Heartbeat::patience() && started.elapsed() < 2 * Heartbeat::patience());
        drop(client);
    }

    /// Within a message nobody can answer a ping.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_its_time_for_a_message_stays() {
        let (mut client, mut server) = rough_pair().await;
        let raw = client.get_mut();
        let reading = tokio::spawn(async move {
            let mut buffer = vec![0; 300];
            server.read_exact(&mut buffer).await.map(|_| buffer)
        });
        raw.write_all(&[0x82, 0xfe, 1, 44, 0, 0, 0, 0]).await.unwrap();
        for byte in 0..300 {
            tokio::time::sleep(Heartbeat::patience() / 8).await;
            raw.write_all(&[byte as u8]).await.unwrap();
        }
        let read = reading.await.unwrap().unwrap();
        assert!(read.iter().enumerate().all(|(at, byte)| *byte == at as u8));
    }

    #[tokio::test(start_paused = true)]
    async fn a_farewell_to_somebody_who_does_not_read_is_short() {
        let (client, mut server) = pair(100).await;
        let started = Instant::now();
        let much = vec![0; 1 << 20];
        let blocked = server.write_all(&much);
        assert!(tokio::time::timeout(Duration::from_secs(1), blocked).await.is_err());
        server.finish(Close::policy("it does not read")).await;
        assert!(started.elapsed() < Duration::from_secs(4));
        drop(client);
    }
}
