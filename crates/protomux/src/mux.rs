use std::collections::VecDeque;

use bytes::Bytes;
use compact_codec::Writer;

use crate::local::{Channel, Locals, State};
use crate::outbox::Outbox;
use crate::receive::Unread;
use crate::remote::{Remotes, Request};
use crate::topics::{TopicId, TopicKey, Topics};
use crate::{ChannelId, Error, Event, Limits, OpenOptions, Transmit};

/// The channel of messages about channels.
pub(crate) const CONTROL: u64 = 0;
/// Kinds of message on the control channel (npm `protomux` 3, `_oncontrolsession`).
pub(crate) const BATCH: u64 = 0;
pub(crate) const OPEN: u64 = 1;
pub(crate) const REJECT: u64 = 2;
pub(crate) const CLOSE: u64 = 3;

/// Many channels over one stream of messages: one end, without I/O.
///
/// Every message of the stream below goes into [`receive`](Self::receive); what is to be sent there comes out of
/// [`poll_transmit`](Self::poll_transmit), and what happened out of [`poll_event`](Self::poll_event), which is to
/// be asked until it gives `None` after every [`receive`](Self::receive).
#[derive(Debug)]
pub struct Protomux {
    pub(crate) topics: Topics,
    pub(crate) locals: Locals,
    pub(crate) remotes: Remotes,
    pub(crate) events: VecDeque<Queued>,
    pub(crate) unread: Unread,
    /// What reading on came to, behind these events.
    failed: Option<Error>,
    pub(crate) outbox: Outbox,
    pub(crate) limits: Limits,
}

/// An event whose point may be lost before it is polled.
#[derive(Debug)]
pub(crate) enum Queued {
    RemoteOpen { remote: u32, serial: u64 },
    Opened { channel: ChannelId, handshake: Bytes },
    Message { channel: ChannelId, kind: u32, payload: Bytes },
    Closed { channel: ChannelId, is_remote: bool },
}

impl Protomux {
    /// A side without channels.
    pub fn new() -> Self {
        Self::with_limits(Limits::default())
    }

    /// A side without channels, with bounds of its own.
    pub fn with_limits(limits: Limits) -> Self {
        Self {
            topics: Topics::default(),
            locals: Locals::default(),
            remotes: Remotes::default(),
            events: VecDeque::new(),
            unread: Unread::default(),
            failed: None,
            outbox: Outbox::new(limits.max_batch, limits.max_queued),
            limits,
        }
    }

    /// Opens a channel, or answers the oldest [`Event::RemoteOpen`] of the same protocol and id.
    ///
    /// Messages may be sent at once; [`Event::Opened`] follows when the remote has opened its side, and
    /// [`Event::Closed`] without it when it rejects.
    pub fn open(&mut self, options: OpenOptions) -> Result<ChannelId, Error> {
        let id = options.id.as_deref();
        let key = TopicKey::new(&options.protocol, id);
        if options.unique && self.is_open_key(&key) {
            return Err(Error::AlreadyOpen { protocol: options.protocol });
        }
        let aliases: Vec<_> = options.aliases.iter().map(|alias| TopicKey::new(alias, id)).collect();
        let incoming = self.oldest_incoming(&key, &aliases);
        let topic = self.topics.find_or_create(key);
        let state = State::Waiting;
        let channel = self.locals.insert(Channel { topic, state, messages: options.messages });
        let channel = channel.ok_or(Error::TooManyChannels)?;
        let mut open = Writer::new();
        open.uint(channel.wire());
        open.string(&options.protocol);
        open.optional_buffer(id);
        let handshake = options.handshake.unwrap_or_default();
        if let Err(error) = self.outbox.send(CONTROL, OPEN, &[open.finish(), handshake]) {
            self.locals.remove(channel);
            self.topics.release(topic);
            return Err(error);
        }
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.opened += 1;
            if incoming.is_none() {
                topic.outgoing.push_back(channel.index);
            }
        }
        if let Some((source, remote)) = incoming {
            self.answer(channel, source, remote);
        }
        for alias in aliases {
            self.topics.add_key(topic, alias);
        }
        Ok(channel)
    }

    /// True when a channel for this protocol and id is open on this side, answered or not.
    pub fn is_open(&self, protocol: &str, id: Option<&[u8]>) -> bool {
        self.is_open_key(&TopicKey::new(protocol, id))
    }

    /// Answers the oldest [`Event::RemoteOpen`] of this protocol and id with a no. Does nothing when there is
    /// none (any more): the remote may have closed the channel meanwhile.
    pub fn reject(&mut self, protocol: &str, id: Option<&[u8]>) -> Result<(), Error> {
        match self.oldest_incoming(&TopicKey::new(protocol, id), &[]) {
            Some((topic, remote)) => self.reject_remote(topic, remote),
            None => Ok(()),
        }
    }

    /// Answers every [`Event::RemoteOpen`] of this protocol and id with a no, those included that were not polled
    /// yet.
    pub fn reject_all(&mut self, protocol: &str, id: Option<&[u8]>) -> Result<(), Error> {
        let key = TopicKey::new(protocol, id);
        while let Some((topic, remote)) = self.oldest_incoming(&key, &[]) {
            self.reject_remote(topic, remote)?;
        }
        Ok(())
    }

    /// Closes a channel. [`Event::Closed`] follows; messages for it that were not polled yet are dropped.
    pub fn close(&mut self, channel: ChannelId) -> Result<(), Error> {
        let Some(&Channel { topic, state, .. }) = self.locals.get(channel) else {
            return Err(Error::ChannelClosed);
        };
        if let State::RemoteClosed { .. } = state {
            return self.mute(channel);
        }
        self.send_control(CLOSE, channel.wire())?;
        if let State::Bound(remote) = state {
            self.remotes.remove(remote);
            self.locals.remove(channel);
        } else {
            self.locals.abandon(channel);
        }
        self.count_closed(topic);
        self.events.push_back(Queued::Closed { channel, is_remote: false });
        Ok(())
    }

    /// Sends a message, copying it.
    ///
    /// [`Error::ChannelClosed`] is no fault: the remote may have closed the channel while [`Event::Closed`] still
    /// waits to be polled.
    pub fn send(&mut self, channel: ChannelId, kind: u32, payload: &[u8]) -> Result<(), Error> {
        self.check_sendable(channel)?;
        self.outbox.send_slice(channel.wire(), u64::from(kind), payload)
    }

    /// Sends a message that lies in several pieces; long ones are not copied.
    pub fn send_parts(&mut self, channel: ChannelId, kind: u32, parts: &[Bytes]) -> Result<(), Error> {
        self.check_sendable(channel)?;
        self.outbox.send(channel.wire(), u64::from(kind), parts)
    }

    /// From here to the matching [`uncork`](Self::uncork), messages are put together into batches.
    pub fn cork(&mut self) {
        self.outbox.cork();
    }

    /// Ends what [`cork`](Self::cork) began.
    pub fn uncork(&mut self) {
        self.outbox.uncork();
    }

    /// What happened next, oldest first. Reads on in what was received when that made more than
    /// [`Limits::max_events`]; an error of that comes after the events from before it.
    pub fn poll_event(&mut self) -> Result<Option<Event>, Error> {
        loop {
            if self.events.is_empty() && self.failed.is_none() {
                self.failed = self.read().err();
            }
            let Some(queued) = self.events.pop_front() else {
                return self.failed.take().map_or(Ok(None), Err);
            };
            match queued {
                Queued::RemoteOpen { remote, serial } => {
                    if let Some(Request { protocol, id, handshake }) = self.remotes.request(remote, serial) {
                        return Ok(Some(Event::RemoteOpen { protocol, id, handshake }));
                    }
                }
                Queued::Opened { channel, handshake } if self.is_listening(channel) => {
                    return Ok(Some(Event::Opened { channel, handshake }));
                }
                Queued::Message { channel, kind, payload } if self.is_listening(channel) => {
                    return Ok(Some(Event::Message { channel, kind, payload }));
                }
                Queued::Closed { channel, is_remote } => {
                    if is_remote {
                        self.locals.remove(channel);
                    }
                    return Ok(Some(Event::Closed { channel, is_remote }));
                }
                Queued::Opened { .. } | Queued::Message { .. } => {}
            }
        }
    }

    /// The next message for the stream below.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.outbox.pop()
    }

    /// How many bytes wait for [`poll_transmit`](Self::poll_transmit), a batch that is being filled included.
    ///
    /// This is the measure of backpressure: while it is large, receive no more and produce no more.
    pub fn queued_bytes(&self) -> usize {
        self.outbox.queued()
    }

    /// True while more than 32 KiB of the remote's messages wait for channels that were not answered (npm
    /// `protomux` 3 pauses its stream then). Answer the [`Event::RemoteOpen`]s before receiving more.
    pub fn is_paused(&self) -> bool {
        self.remotes.is_paused()
    }

    pub(crate) fn send_control(&mut self, kind: u64, id: u64) -> Result<(), Error> {
        let mut body = Writer::with_capacity(9);
        body.uint(id);
        self.outbox.send_slice(CONTROL, kind, &body.finish())
    }

    pub(crate) fn reject_remote(&mut self, topic: TopicId, remote: u32) -> Result<(), Error> {
        self.send_control(REJECT, u64::from(remote) + 1)?;
        self.remotes.remove(remote);
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.incoming.retain(|incoming| *incoming != remote);
        }
        self.topics.release(topic);
        Ok(())
    }

    /// One channel fewer is open for `topic`.
    pub(crate) fn count_closed(&mut self, topic: TopicId) {
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.opened = topic.opened.saturating_sub(1);
        }
        self.topics.release(topic);
    }

    /// Joins a channel of this side with a channel of the remote that waited for it.
    fn answer(&mut self, channel: ChannelId, source: TopicId, remote: u32) {
        if let Some(topic) = self.topics.get_mut(source) {
            topic.incoming.retain(|incoming| *incoming != remote);
        }
        self.topics.release(source);
        let Some(pending) = self.remotes.bind(remote, channel) else {
            return;
        };
        let Some(local) = self.locals.get_mut(channel) else {
            return;
        };
        local.state = State::Bound(remote);
        let messages = local.messages;
        self.events.push_back(Queued::Opened { channel, handshake: pending.request.handshake });
        for (kind, payload) in pending.messages {
            if let Some(kind) = u32::try_from(kind).ok().filter(|kind| *kind < messages) {
                self.events.push_back(Queued::Message { channel, kind, payload });
            }
        }
    }

    /// The oldest channel of the remote that waits under one of these names, and where it waits.
    fn oldest_incoming(&self, key: &TopicKey, aliases: &[TopicKey]) -> Option<(TopicId, u32)> {
        std::iter::once(key).chain(aliases).find_map(|key| {
            let topic = self.topics.find(key)?;
            Some((topic, *self.topics.get(topic)?.incoming.front()?))
        })
    }

    fn is_open_key(&self, key: &TopicKey) -> bool {
        self.topics.find(key).and_then(|topic| self.topics.get(topic)).is_some_and(|topic| topic.opened > 0)
    }

    /// The owner has not closed the channel.
    fn is_listening(&self, channel: ChannelId) -> bool {
        let state = self.locals.get(channel).map(|channel| channel.state);
        !matches!(state, None | Some(State::RemoteClosed { muted: true }))
    }

    fn check_sendable(&self, channel: ChannelId) -> Result<(), Error> {
        match self.locals.get(channel).map(|channel| channel.state) {
            Some(State::Waiting | State::Bound(_)) => Ok(()),
            _ => Err(Error::ChannelClosed),
        }
    }

    fn mute(&mut self, channel: ChannelId) -> Result<(), Error> {
        match self.locals.get_mut(channel) {
            Some(Channel { state: State::RemoteClosed { muted }, .. }) if !*muted => {
                *muted = true;
                Ok(())
            }
            _ => Err(Error::ChannelClosed),
        }
    }
}

impl Default for Protomux {
    fn default() -> Self {
        Self::new()
    }
}
