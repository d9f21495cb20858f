//! A connection over a real transport, as a stream of events.

mod builder;
mod channel;
mod extension;
mod routes;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use futures::StreamExt;
use futures::channel::{mpsc, oneshot};
use futures::stream::Stream;
use futures_timer::Delay;
use hypercore::{DiscoveryKey, Key};

pub use builder::ProtocolBuilder;
pub use channel::Channel;
pub use extension::ProtocolExtension;

use crate::connection::{ChannelId, Connection, ConnectionEvent, ConnectionOptions};
use crate::error::Error;
use crate::messages::Message;
use routes::{Parked, Routes, Said};
use wire::Wire;

/// Commands of channels, extensions and [`Commands`] that may wait for the protocol. Every handle has room for one
/// more.
const COMMANDS: usize = 16;
/// Beyond this many bytes that the remote has not taken, nothing more is accepted to be sent and nothing more is
/// read.
const TRANSMIT_HIGH: usize = 1024 * 1024;

/// What happened on a [`Protocol`].
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The encrypted stream stands; the public key of the other side.
    Handshake([u8; 32]),
    /// The remote opened a core that is not open here. When you know its key, [`Protocol::open`] it, else
    /// [`Protocol::reject`] it.
    DiscoveryKey(DiscoveryKey),
    /// Both sides opened a core and proved to each other that they know the key.
    Channel(Channel),
    /// The channel of this core was closed by either side, or never came to be.
    Close(DiscoveryKey),
}

/// Many channels over one connection, driven by being polled as a [`Stream`] of [`Event`]s.
///
/// Nothing moves while it is not polled: give it a task of its own, or poll it along with its channels. A channel
/// whose messages nobody takes holds up the whole connection, so that a remote cannot fill the memory; drop the
/// channels that you do not want.
pub struct Protocol {
    connection: Connection,
    wire: Box<dyn Wire>,
    routes: Routes,
    commands: mpsc::Receiver<Command>,
    command_sender: mpsc::Sender<Command>,
    /// Channels whose handle was dropped. Holds each channel at most once.
    dropped: mpsc::UnboundedReceiver<ChannelId>,
    dropped_sender: mpsc::UnboundedSender<ChannelId>,
    /// A message for a handle that has no room just now.
    parked: Option<Parked>,
    events: VecDeque<Event>,
    timer: Option<(Instant, Delay)>,
    reading_ended: bool,
    ended: bool,
}

/// What handles ask of the protocol.
pub(crate) enum Command {
    Open(Key, oneshot::Sender<Result<(), Error>>),
    Close(DiscoveryKey),
    Reject(DiscoveryKey),
    Send(ChannelId, Vec<Message>),
    SendExtension(ChannelId, bytes::Bytes),
}

impl Protocol {
    fn new(options: ConnectionOptions, wire: Box<dyn Wire>) -> Result<Self, Error> {
        let (command_sender, commands) = mpsc::channel(COMMANDS);
        let (dropped_sender, dropped) = mpsc::unbounded();
        Ok(Self {
            connection: Connection::new(options, Instant::now())?,
            wire,
            routes: Routes::default(),
            commands,
            command_sender,
            dropped,
            dropped_sender,
            parked: None,
            events: VecDeque::new(),
            timer: None,
            reading_ended: false,
            ended: false,
        })
    }

    /// Opens the channel of a core; [`Event::Channel`] follows once the remote has opened it as well.
    pub async fn open(&mut self, key: impl Into<Key>) -> Result<(), Error> {
        self.connection.open(&key.into()).map(|_| ())
    }

    /// Answers [`Event::DiscoveryKey`] with a no.
    pub async fn reject(&mut self, discovery_key: &DiscoveryKey) -> Result<(), Error> {
        self.connection.reject(discovery_key)
    }

    /// Closes the channel of a core; [`Event::Close`] follows.
    pub async fn close(&mut self, discovery_key: &DiscoveryKey) -> Result<(), Error> {
        match self.connection.channel(discovery_key) {
            Some(channel) => self.connection.close(channel),
            None => Ok(()),
        }
    }

    /// Opens an extension of the whole connection: a protocol of its own, with this name and one kind of message.
    /// The remote has to open the same. A JS peer does it with
    /// `mux.createChannel({ protocol: name, messages: [{ encoding: c.raw }] })`.
    ///
    /// For an extension of one core, see [`Channel::register_extension`].
    pub async fn register_extension(&mut self, name: &str) -> Result<ProtocolExtension, Error> {
        self.connection.expect_protocol(name);
        let channel = self.connection.open_protocol(name, None, None)?;
        let messages = self.routes.add_extension(channel);
        Ok(ProtocolExtension::of_connection(name.to_owned(), channel, messages, self.command_sender.clone()))
    }

    /// A handle to open, close and reject channels while the protocol itself is being polled elsewhere.
    pub fn commands(&self) -> Commands {
        Commands { sender: self.command_sender.clone() }
    }

    /// The public key of the other side, once the handshake is over.
    pub fn remote_public_key(&self) -> Option<[u8; 32]> {
        Some(self.connection.handshake()?.remote_public_key)
    }

    fn on_command(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::Open(key, done) => {
                // Who asked may have stopped waiting.
                let _ = done.send(self.connection.open(&key).map(|_| ()));
                Ok(())
            }
            Command::Close(discovery_key) => match self.connection.channel(&discovery_key) {
                Some(channel) => self.connection.close(channel),
                None => Ok(()),
            },
            Command::Reject(discovery_key) => self.connection.reject(&discovery_key),
            Command::Send(channel, messages) => {
                self.connection.cork();
                let sent =
                    messages.into_iter().try_for_each(|message| self.connection.send(channel, message));
                self.connection.uncork();
                tolerate_closed(sent)
            }
            Command::SendExtension(channel, message) => {
                tolerate_closed(self.connection.send_protocol(channel, 0, &message))
            }
        }
    }

    fn on_event(&mut self, event: ConnectionEvent) {
        match event {
            ConnectionEvent::Handshake { remote_public_key, .. } => {
                self.events.push_back(Event::Handshake(remote_public_key));
            }
            ConnectionEvent::DiscoveryKey(discovery_key) => {
                self.events.push_back(Event::DiscoveryKey(discovery_key));
            }
            ConnectionEvent::Opened { channel, discovery_key, .. } => {
                let (messages, extensions) = self.routes.add_channel(channel);
                self.events.push_back(Event::Channel(Channel::new(
                    channel,
                    discovery_key,
                    messages,
                    extensions,
                    self.command_sender.clone(),
                    self.dropped_sender.clone(),
                )));
            }
            ConnectionEvent::Message { channel, message } => {
                self.parked = Some(Parked { channel, said: Said::Message(message) });
            }
            ConnectionEvent::Closed { channel, discovery_key, .. } => {
                self.routes.remove(channel);
                self.events.push_back(Event::Close(discovery_key));
            }
            ConnectionEvent::ProtocolMessage { channel, kind: 0, payload } => {
                self.parked = Some(Parked { channel, said: Said::Raw(payload) });
            }
            ConnectionEvent::ProtocolClosed { channel, .. } => self.routes.remove(channel),
            ConnectionEvent::Ended => self.reading_ended = true,
            ConnectionEvent::RemoteProtocol { .. }
            | ConnectionEvent::ProtocolOpened { .. }
            | ConnectionEvent::ProtocolMessage { .. } => {}
        }
    }

    /// Ready when every command was taken, and not only those for which there is room.
    fn poll_commands(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Error> {
        while let Poll::Ready(Some(channel)) = self.dropped.poll_next_unpin(cx) {
            self.connection.close(channel)?;
        }
        while self.connection.pending_transmit() < TRANSMIT_HIGH {
            match self.commands.poll_next_unpin(cx) {
                Poll::Ready(Some(command)) => self.on_command(command)?,
                Poll::Ready(None) | Poll::Pending => return Ok(Poll::Ready(())),
            }
        }
        Ok(Poll::Pending)
    }

    /// Hands out what has arrived until an event is there for the caller, a handle is full, or nothing is left.
    fn poll_arrived(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        loop {
            if let Some(parked) = self.parked.take()
                && let Err(parked) = self.routes.poll_deliver(cx, parked)
            {
                self.parked = Some(parked);
                return Ok(());
            }
            if !self.events.is_empty() {
                return Ok(());
            }
            match self.connection.poll_event()? {
                Some(event) => self.on_event(event),
                None => return Ok(()),
            }
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        loop {
            let Some(deadline) = self.connection.next_deadline() else {
                self.timer = None;
                return Ok(());
            };
            let now = Instant::now();
            if deadline <= now {
                self.connection.handle_timeout(now)?;
                self.timer = None;
                continue;
            }
            let timer = match &mut self.timer {
                Some((at, timer)) if *at <= deadline => {
                    // Deadlines move back with every byte; an alarm that rings too early is cheaper than a new one.
                    timer
                }
                timer => &mut timer.insert((deadline, Delay::new(deadline - now))).1,
            };
            match Pin::new(timer).poll(cx) {
                Poll::Ready(()) => self.timer = None,
                Poll::Pending => return Ok(()),
            }
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        loop {
            let commands = self.poll_commands(cx)?;
            self.poll_timer(cx)?;
            self.poll_arrived(cx)?;
            let written = self.wire.poll_transmit(cx, &mut self.connection)?;
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Ok(event));
            }
            if self.connection.pending_transmit() >= TRANSMIT_HIGH {
                // The remote has to take something first; the wire wakes this task when it does.
                return Poll::Pending;
            }
            if commands.is_pending() {
                continue;
            }
            if self.parked.is_some() {
                // A handle has to take something first, and wakes this task when it does.
                return Poll::Pending;
            }
            if self.reading_ended {
                // What was accepted before is still written.
                return match written {
                    Poll::Ready(()) => Poll::Ready(Err(Error::Ended)),
                    Poll::Pending => Poll::Pending,
                };
            }
            match self.wire.poll_receive(cx, &mut self.connection)? {
                Poll::Ready(()) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl Stream for Protocol {
    type Item = Result<Event, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let step = self.poll_step(cx);
        if let Poll::Ready(Err(error)) = step {
            self.ended = true;
            self.routes.clear();
            self.parked = None;
            self.commands.close();
            return Poll::Ready(match error {
                Error::Ended => None,
                error => Some(Err(error)),
            });
        }
        step.map(Some)
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Protocol")
            .field("remote_public_key", &self.remote_public_key())
            .field("channels", &self.connection.channel_count())
            .finish_non_exhaustive()
    }
}

/// Opens, closes and rejects channels of a [`Protocol`] that is being polled elsewhere.
#[derive(Debug, Clone)]
pub struct Commands {
    sender: mpsc::Sender<Command>,
}

impl Commands {
    /// As [`Protocol::open`].
    pub async fn open(&mut self, key: impl Into<Key>) -> Result<(), Error> {
        let (done, opened) = oneshot::channel();
        send_command(&mut self.sender, Command::Open(key.into(), done)).await?;
        opened.await.unwrap_or(Err(Error::Ended))
    }

    /// As [`Protocol::close`].
    pub async fn close(&mut self, discovery_key: DiscoveryKey) -> Result<(), Error> {
        send_command(&mut self.sender, Command::Close(discovery_key)).await
    }

    /// As [`Protocol::reject`].
    pub async fn reject(&mut self, discovery_key: DiscoveryKey) -> Result<(), Error> {
        send_command(&mut self.sender, Command::Reject(discovery_key)).await
    }
}

pub(crate) async fn send_command(sender: &mut mpsc::Sender<Command>, command: Command) -> Result<(), Error> {
    futures::SinkExt::send(sender, command).await.map_err(|_| Error::Ended)
}

/// A message for a channel that the remote has closed meanwhile is no fault of anyone.
fn tolerate_closed(sent: Result<(), Error>) -> Result<(), Error> {
    match sent {
        Err(error) if error.is_channel_closed() => Ok(()),
        other => other,
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Command::Open(..) => "Open",
            Command::Close(_) => "Close",
            Command::Reject(_) => "Reject",
            Command::Send(..) => "Send",
            Command::SendExtension(..) => "SendExtension",
        })
    }
}
