//! What waits for the stream below: messages in pieces, and the batch that is being filled.
//!
//! The layout is that of npm `protomux` 3. A message is `uint channel | uint kind | payload`; channel 0 is the
//! control channel, whose kind 0 is a batch: `0 | 0 | uint channel`, then any number of `buffer (uint kind |
//! payload)`, where a zero byte in place of a buffer's length announces another `uint channel`.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use compact_codec::{Writer, uint_len};

use crate::{Error, Transmit};

/// Payloads from here on are kept by reference; below, copying is cheaper than another piece.
const BY_REFERENCE: usize = 2048;
/// The longest message of the stream below: npm `@hyperswarm/secret-stream` 6 writes its length, with 17 bytes of
/// its own, in three bytes.
const MAX_MESSAGE: usize = (1 << 24) - 1 - 17;
/// The least room made for small pieces.
const SMALL_ROOM: usize = 64;

#[derive(Debug)]
pub(crate) struct Outbox {
    queue: VecDeque<Transmit>,
    queued: usize,
    corked: usize,
    batch: Assembler,
    /// The channel of the last message in the batch.
    batch_channel: Option<u64>,
    max_batch: usize,
    max_queued: usize,
}

/// Puts one outgoing message together.
#[derive(Debug, Default)]
struct Assembler {
    parts: Vec<Bytes>,
    small: BytesMut,
    len: usize,
}

impl Outbox {
    pub(crate) fn new(max_batch: usize, max_queued: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            queued: 0,
            corked: 0,
            batch: Assembler::default(),
            batch_channel: None,
            max_batch: max_batch.min(MAX_MESSAGE),
            max_queued,
        }
    }

    pub(crate) fn cork(&mut self) {
        self.corked = self.corked.saturating_add(1);
    }

    pub(crate) fn uncork(&mut self) {
        if self.corked == 1 {
            self.flush_batch();
        }
        self.corked = self.corked.saturating_sub(1);
    }

    pub(crate) fn queued(&self) -> usize {
        self.queued.saturating_add(self.batch.len)
    }

    pub(crate) fn pop(&mut self) -> Option<Transmit> {
        let transmit = self.queue.pop_front()?;
        self.queued -= transmit.len();
        Some(transmit)
    }

    /// Queues a message or refuses it whole. A message that is refused because too much waits can be sent later.
    pub(crate) fn send(&mut self, channel: u64, kind: u64, parts: &[Bytes]) -> Result<(), Error> {
        let body = parts.iter().fold(uint_len(kind), |len, part| len.saturating_add(part.len()));
        self.check(uint_len(channel).saturating_add(body))?;
        let out = self.begin(channel, kind, body);
        for part in parts {
            out.bytes(part);
        }
        self.end();
        Ok(())
    }

    /// The same for a payload that is copied.
    pub(crate) fn send_slice(&mut self, channel: u64, kind: u64, payload: &[u8]) -> Result<(), Error> {
        let body = uint_len(kind).saturating_add(payload.len());
        self.check(uint_len(channel).saturating_add(body))?;
        self.begin(channel, kind, body).slice(payload);
        self.end();
        Ok(())
    }

    fn check(&self, len: usize) -> Result<(), Error> {
        if len > MAX_MESSAGE {
            return Err(Error::MessageTooLarge { len, limit: MAX_MESSAGE });
        }
        let queued = self.queued();
        if queued > 0 && queued.saturating_add(len) > self.max_queued {
            return Err(Error::TransmitFull { queued, limit: self.max_queued });
        }
        Ok(())
    }

    /// Writes what precedes the payload of a message whose kind and payload take `body` bytes.
    fn begin(&mut self, channel: u64, kind: u64, body: usize) -> &mut Assembler {
        // The container costs at most 2 + 9 + 1 + 9 + 9 bytes beside the message.
        let batched = body.saturating_add(self.batch.len).saturating_add(30);
        if self.corked == 0 || batched > self.max_batch {
            self.flush_batch();
        }
        if self.corked == 0 || body.saturating_add(30) > self.max_batch {
            self.batch.reserve_small(uint_len(channel) + body);
            self.batch.uint(channel);
        } else {
            match self.batch_channel {
                Some(last) if last == channel => {}
                Some(_) => {
                    self.batch.uint(0);
                    self.batch.uint(channel);
                }
                None => {
                    self.batch.uint(0);
                    self.batch.uint(0);
                    self.batch.uint(channel);
                }
            }
            self.batch_channel = Some(channel);
            self.batch.uint(body as u64);
        }
        self.batch.uint(kind);
        &mut self.batch
    }

    fn end(&mut self) {
        // Not part of a batch: on its way at once.
        if self.batch_channel.is_none() {
            self.flush_batch();
        }
    }

    fn flush_batch(&mut self) {
        self.batch_channel = None;
        if self.batch.len == 0 {
            return;
        }
        let transmit = self.batch.finish();
        self.queued = self.queued.saturating_add(transmit.len());
        self.queue.push_back(transmit);
    }
}

impl Assembler {
    fn reserve_small(&mut self, len: usize) {
        self.small.reserve(len.clamp(SMALL_ROOM, BY_REFERENCE));
    }

    fn uint(&mut self, value: u64) {
        self.len += uint_len(value);
        let mut writer = Writer::append_to(std::mem::take(&mut self.small));
        writer.uint(value);
        self.small = writer.into_inner();
    }

    fn slice(&mut self, bytes: &[u8]) {
        self.len += bytes.len();
        self.small.extend_from_slice(bytes);
    }

    fn bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < BY_REFERENCE {
            return self.slice(bytes);
        }
        self.len += bytes.len();
        self.close_small();
        self.parts.push(bytes.clone());
    }

    fn close_small(&mut self) {
        if !self.small.is_empty() {
            self.parts.push(self.small.split().freeze());
        }
    }

    fn finish(&mut self) -> Transmit {
        self.close_small();
        Transmit::new(std::mem::take(&mut self.parts), std::mem::take(&mut self.len))
    }
}
