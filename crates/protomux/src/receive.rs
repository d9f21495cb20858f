//! Messages of the remote.

use std::collections::VecDeque;

use bytes::Bytes;
use compact_codec::Reader;

use crate::local::State;
use crate::mux::{BATCH, CLOSE, CONTROL, OPEN, Queued, REJECT};
use crate::remote::{Remote, Request};
use crate::topics::TopicKey;
use crate::{Error, Protomux};

/// Unanswered channels of the remote for one protocol and id. Nobody needs more than a few; searching among them
/// must stay cheap.
const MAX_INCOMING: usize = 1024;
/// Batches within batches. JS reads any depth and writes none.
const MAX_BATCH_DEPTH: usize = 8;

/// What was received and not read yet.
#[derive(Debug, Default)]
pub(crate) struct Unread {
    messages: VecDeque<Bytes>,
    /// Batches that are being read, each within the one before it.
    batches: Vec<Batch>,
    /// Bytes received since all was read.
    bytes: usize,
}

#[derive(Debug)]
struct Batch {
    reader: Reader,
    /// Whose messages follow.
    channel: u64,
}

impl Protomux {
    /// Takes one message of the stream below. Events from before an error stay to be polled.
    pub fn receive(&mut self, message: Bytes) -> Result<(), Error> {
        // Empty messages keep the connection alive and mean nothing.
        if message.is_empty() {
            return Ok(());
        }
        let Unread { messages, bytes, .. } = &mut self.unread;
        // One message is always read, however long it is.
        let limit = self.limits.max_unread;
        if *bytes > 0 && bytes.saturating_add(message.len()) > limit {
            return Err(Error::TooMuchUnread { unread: *bytes, limit });
        }
        *bytes = bytes.saturating_add(message.len());
        messages.push_back(message);
        self.read()
    }

    /// Reads on, until as many events wait as may. After an error nothing is left to be read.
    pub(crate) fn read(&mut self) -> Result<(), Error> {
        while self.events.len() < self.limits.max_events {
            match self.read_next() {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.unread = Unread::default();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Reads one message, in a batch or not. False when there is none.
    fn read_next(&mut self) -> Result<bool, Error> {
        let Some(batch) = self.unread.batches.last_mut() else {
            let Some(message) = self.unread.messages.pop_front() else {
                self.unread.bytes = 0;
                return Ok(false);
            };
            let mut reader = Reader::new(message);
            let channel = reader.uint()?;
            self.receive_on(channel, reader)?;
            return Ok(true);
        };
        if batch.reader.is_empty() {
            self.unread.batches.pop();
            return Ok(true);
        }
        let len = batch.reader.uint()?;
        if len == 0 {
            batch.channel = batch.reader.uint()?;
            return Ok(true);
        }
        // As JS does, a last message that is cut short is taken as far as it goes.
        let message = batch.reader.take("message in a batch", len.min(batch.reader.remaining() as u64))?;
        let channel = batch.channel;
        self.receive_on(channel, Reader::new(message))?;
        Ok(true)
    }

    fn receive_on(&mut self, channel: u64, mut reader: Reader) -> Result<(), Error> {
        let kind = reader.uint()?;
        if channel == CONTROL {
            return match kind {
                BATCH => self.receive_batch(reader),
                OPEN => self.receive_open(reader),
                REJECT => self.receive_reject(reader),
                CLOSE => self.receive_close(reader),
                _ => Ok(()),
            };
        }
        let Some(index) = index_of(channel) else {
            return Ok(());
        };
        match self.remotes.get(index) {
            // It may have been sent before the remote learnt that the channel is closed.
            None => {}
            Some(Remote::Pending(_)) => self.remotes.buffer(index, kind, &reader.rest(), &self.limits)?,
            Some(&Remote::Bound(channel)) => {
                let messages = self.locals.get(channel).map_or(0, |channel| channel.messages);
                if let Some(kind) = u32::try_from(kind).ok().filter(|kind| *kind < messages) {
                    self.events.push_back(Queued::Message { channel, kind, payload: reader.rest() });
                }
            }
        }
        Ok(())
    }

    fn receive_batch(&mut self, mut reader: Reader) -> Result<(), Error> {
        if self.unread.batches.len() >= MAX_BATCH_DEPTH {
            return Err(Error::BatchTooDeep { limit: MAX_BATCH_DEPTH });
        }
        let channel = reader.uint()?;
        self.unread.batches.push(Batch { reader, channel });
        Ok(())
    }

    fn receive_open(&mut self, mut reader: Reader) -> Result<(), Error> {
        let remote_id = reader.uint()?;
        // JS replaces what is not UTF-8; a name that nobody has is rejected like any other.
        let protocol = String::from_utf8_lossy(&reader.buffer()?).into_owned();
        // A copy of the id, which may outlive the message by far.
        let id = reader.optional_buffer()?.map(|id| Bytes::copy_from_slice(&id));
        let handshake = reader.rest();
        if remote_id == CONTROL {
            return self.send_control(REJECT, CONTROL);
        }
        let remote = index_of(remote_id).ok_or(Error::InvalidOpen { remote_id })?;
        self.remotes.make_room(remote, &self.limits)?;
        let topic = self.topics.find_or_create(TopicKey::new(&protocol, id.as_deref()));
        if self.topics.get(topic).is_some_and(|topic| topic.incoming.len() >= MAX_INCOMING) {
            return Err(Error::TooManyPendingOpens { limit: MAX_INCOMING });
        }
        let waiting = self.topics.get_mut(topic).and_then(|topic| topic.outgoing.pop_front());
        let Some(local) = waiting else {
            let request = Request { protocol, id, handshake };
            let serial = match self.remotes.insert_pending(remote, topic, request, &self.limits) {
                Ok(serial) => serial,
                Err(error) => {
                    self.topics.release(topic);
                    return Err(error);
                }
            };
            if let Some(topic) = self.topics.get_mut(topic) {
                topic.incoming.push_back(remote);
            }
            self.events.push_back(Queued::RemoteOpen { remote, serial });
            return Ok(());
        };
        match self.locals.at(local).map(|(channel, local)| (channel, local.state)) {
            Some((channel, State::Waiting)) => {
                self.remotes.bind(remote, channel);
                if let Some(local) = self.locals.get_mut(channel) {
                    local.state = State::Bound(remote);
                }
                self.events.push_back(Queued::Opened { channel, handshake });
                Ok(())
            }
            Some((channel, _)) => {
                // Closed here meanwhile. A JS remote that was still deciding has overlooked the close and now
                // holds a channel that nobody else has; the same close once more is harmless otherwise.
                self.send_control(CLOSE, channel.wire())?;
                self.locals.remove(channel);
                self.topics.release(topic);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn receive_reject(&mut self, mut reader: Reader) -> Result<(), Error> {
        let local_id = reader.uint()?;
        let invalid = Error::InvalidReject { local_id };
        let Some((channel, local)) = index_of(local_id).and_then(|index| self.locals.at(index)) else {
            return Err(invalid);
        };
        let (topic, state) = (local.topic, local.state);
        if !matches!(state, State::Waiting | State::Abandoned) {
            return Err(invalid);
        }
        if let Some(topic) = self.topics.get_mut(topic) {
            topic.outgoing.retain(|outgoing| *outgoing != channel.index);
        }
        if state == State::Abandoned {
            self.locals.remove(channel);
            self.topics.release(topic);
            return Ok(());
        }
        self.closed_by_remote(channel)
    }

    fn receive_close(&mut self, mut reader: Reader) -> Result<(), Error> {
        let Some(remote) = index_of(reader.uint()?) else {
            return Ok(());
        };
        match self.remotes.get(remote) {
            None => Ok(()),
            // The remote waits for an answer even though it has closed: until then it cannot use the id again.
            Some(Remote::Pending(pending)) => self.reject_remote(pending.topic, remote),
            Some(&Remote::Bound(channel)) => {
                self.remotes.remove(remote);
                self.closed_by_remote(channel)
            }
        }
    }

    fn closed_by_remote(&mut self, channel: crate::ChannelId) -> Result<(), Error> {
        if let Some(local) = self.locals.get_mut(channel) {
            local.state = State::RemoteClosed { muted: false };
            let topic = local.topic;
            self.count_closed(topic);
        }
        self.events.push_back(Queued::Closed { channel, is_remote: true });
        Ok(())
    }
}

/// The place of the channel that has this id on the wire; none for the control channel and for ids that nobody
/// can have reached.
fn index_of(id: u64) -> Option<u32> {
    u32::try_from(id.checked_sub(1)?).ok()
}
