//! The channels of the remote, by the ids they have on the wire.

use bytes::Bytes;

use crate::topics::TopicId;
use crate::{ChannelId, Error, Limits};

/// Beyond this many bytes the stream below is to pause (npm `protomux` 3, `MAX_BUFFERED`).
const PAUSE_ABOVE: usize = 32768;
/// What a waiting message counts beside its bytes (npm `protomux` 3, `byteSize`).
const MESSAGE_COST: usize = 512;
/// What a waiting channel counts beside its bytes.
const OPEN_COST: usize = 64;

#[derive(Debug, Default)]
pub(crate) struct Remotes {
    slots: Vec<Option<Remote>>,
    pending_opens: usize,
    /// Bytes of waiting messages, counted as JS counts them.
    buffered: usize,
    /// Bytes of names and handshakes of waiting channels.
    opens: usize,
    next_serial: u64,
}

#[derive(Debug)]
pub(crate) enum Remote {
    /// Waits for this side to open or reject it.
    Pending(Box<Pending>),
    /// Joined with a channel of this side.
    Bound(ChannelId),
}

#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) topic: TopicId,
    pub(crate) request: Request,
    pub(crate) messages: Vec<(u64, Bytes)>,
    serial: u64,
    open_cost: usize,
    message_cost: usize,
}

/// What the remote asks for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) protocol: String,
    pub(crate) id: Option<Bytes>,
    pub(crate) handshake: Bytes,
}

impl Request {
    fn len(&self) -> usize {
        let id = self.id.as_ref().map_or(0, Bytes::len);
        self.protocol.len().saturating_add(id).saturating_add(self.handshake.len())
    }
}

impl Remotes {
    pub(crate) fn get(&self, index: u32) -> Option<&Remote> {
        self.slots.get(index as usize)?.as_ref()
    }

    /// Makes sure that `index` may be opened: free, and at most one beyond what was used before.
    pub(crate) fn make_room(&mut self, index: u32, limits: &Limits) -> Result<(), Error> {
        let remote_id = u64::from(index) + 1;
        let place = index as usize;
        if place == self.slots.len() {
            if place >= limits.max_remote_channels {
                return Err(Error::TooManyRemoteChannels { limit: limits.max_remote_channels });
            }
            self.slots.push(None);
        }
        match self.slots.get(place) {
            Some(None) => Ok(()),
            _ => Err(Error::InvalidOpen { remote_id }),
        }
    }

    /// Notes a channel that this side has to answer.
    pub(crate) fn insert_pending(
        &mut self,
        index: u32,
        topic: TopicId,
        mut request: Request,
        limits: &Limits,
    ) -> Result<u64, Error> {
        if self.pending_opens >= limits.max_pending_opens {
            return Err(Error::TooManyPendingOpens { limit: limits.max_pending_opens });
        }
        let open_cost = request.len().saturating_add(OPEN_COST);
        self.check_pending(open_cost, limits)?;
        let serial = self.next_serial;
        let Some(slot) = self.slots.get_mut(index as usize) else {
            return Err(Error::InvalidOpen { remote_id: u64::from(index) + 1 });
        };
        let messages = Vec::new();
        // A slice would keep the whole message of the stream, which may be a million times as long.
        request.handshake = Bytes::copy_from_slice(&request.handshake);
        *slot = Some(Remote::Pending(Box::new(Pending {
            topic,
            request,
            messages,
            serial,
            open_cost,
            message_cost: 0,
        })));
        self.next_serial = self.next_serial.wrapping_add(1);
        self.pending_opens += 1;
        self.opens = self.opens.saturating_add(open_cost);
        Ok(serial)
    }

    /// Keeps a copy of a message until the channel is answered: what counts its bytes must not keep more of them.
    pub(crate) fn buffer(
        &mut self,
        index: u32,
        kind: u64,
        payload: &[u8],
        limits: &Limits,
    ) -> Result<(), Error> {
        let cost = payload.len().saturating_add(MESSAGE_COST);
        self.check_pending(cost, limits)?;
        if let Some(Some(Remote::Pending(pending))) = self.slots.get_mut(index as usize) {
            pending.messages.push((kind, Bytes::copy_from_slice(payload)));
            pending.message_cost = pending.message_cost.saturating_add(cost);
            self.buffered = self.buffered.saturating_add(cost);
        }
        Ok(())
    }

    /// Joins the channel with one of this side and gives what has waited.
    pub(crate) fn bind(&mut self, index: u32, channel: ChannelId) -> Option<Pending> {
        let slot = self.slots.get_mut(index as usize)?;
        match slot.replace(Remote::Bound(channel)) {
            Some(Remote::Pending(pending)) => {
                self.uncount(&pending);
                Some(*pending)
            }
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, index: u32) {
        if let Some(Remote::Pending(pending)) = self.slots.get_mut(index as usize).and_then(Option::take) {
            self.uncount(&pending);
        }
    }

    /// What the remote asked for with a channel that still waits and is still the same.
    pub(crate) fn request(&self, index: u32, serial: u64) -> Option<Request> {
        match self.get(index) {
            Some(Remote::Pending(pending)) if pending.serial == serial => Some(pending.request.clone()),
            _ => None,
        }
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.buffered > PAUSE_ABOVE
    }

    fn check_pending(&self, more: usize, limits: &Limits) -> Result<(), Error> {
        let buffered = self.buffered.saturating_add(self.opens);
        if buffered.saturating_add(more) > limits.max_pending_bytes {
            return Err(Error::TooMuchPending { buffered, limit: limits.max_pending_bytes });
        }
        Ok(())
    }

    fn uncount(&mut self, pending: &Pending) {
        self.pending_opens = self.pending_opens.saturating_sub(1);
        self.buffered = self.buffered.saturating_sub(pending.message_cost);
        self.opens = self.opens.saturating_sub(pending.open_cost);
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.iter().all(Option::is_none)
            && self.pending_opens == 0
            && self.buffered == 0
            && self.opens == 0
    }
}
