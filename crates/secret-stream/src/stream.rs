use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use crate::cipher::{HEADER, OVERHEAD, Pull, Push};
use crate::datagram::Datagrams;
use crate::frame::{self, FrameReader, LENGTH, MAX_FRAME};
use crate::noise::{self, Handshake, HandshakeResult, Pattern};
use crate::output::Output;
use crate::timers::{Due, Timers};
use crate::{Error, KeyPair, namespace};

/// The longest message: what remains of a frame of 2^24 - 1 bytes.
pub const MAX_MESSAGE: usize = MAX_FRAME - OVERHEAD;

/// The stream header: 32 bytes of stream id, then the secretstream's own header.
const STREAM_HEADER: usize = 32 + HEADER;
/// Messages of one receive share an allocation of up to this size; longer ones get their own.
const ARENA: usize = 64 * 1024;
/// An allocation that was made for less is not kept for the next receive.
const KEEP_ARENA: usize = 16 * 1024;
/// A gather buffer that grew beyond this is given back instead of kept.
const KEEP_GATHER: usize = 1024 * 1024;

/// How a [`SecretStream`] is set up.
#[derive(Debug, Clone)]
pub struct Config {
    /// True on the side that speaks first: usually the one that opened the transport.
    pub is_initiator: bool,
    /// Who this side is.
    pub key_pair: KeyPair,
    /// The handshake; both sides must run the same.
    pub pattern: Pattern,
    /// Sends an empty message when nothing was sent for this long. The remote must filter empty messages.
    pub keep_alive: Option<Duration>,
    /// Fails the stream when nothing arrives for this long.
    pub timeout: Option<Duration>,
    /// Drops empty messages of the remote. A `keep_alive` implies it, as in JS.
    pub filter_empty_messages: bool,
    /// The most bytes that may be sent before the handshake is over.
    pub max_queued: usize,
    /// The most encrypted bytes that may wait for [`SecretStream::poll_transmit`].
    pub max_pending_transmit: usize,
}

impl Config {
    /// An XX handshake, no timers, 1 MiB before the handshake is over and 64 MiB waiting for the transport.
    pub fn new(is_initiator: bool, key_pair: KeyPair) -> Self {
        Self {
            is_initiator,
            key_pair,
            pattern: Pattern::XX,
            keep_alive: None,
            timeout: None,
            filter_empty_messages: false,
            max_queued: 1024 * 1024,
            max_pending_transmit: 64 * 1024 * 1024,
        }
    }
}

/// What happened on a [`SecretStream`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The handshake is over. Comes once, before all others.
    Connected {
        /// The remote's public key, which it has proven to own.
        remote_public_key: [u8; 32],
        /// The same on both sides and different for every connection.
        handshake_hash: [u8; 64],
        /// The id of what this side sends.
        stream_id: [u8; 32],
        /// The id of what the remote sends.
        remote_stream_id: [u8; 32],
    },
    /// A message of the remote. It may share an allocation of up to 64 KiB with its neighbours; copy what is to
    /// be kept for long.
    Message(Bytes),
    /// The remote ended the transport after a whole frame. Comes last.
    Closed,
}

/// An encrypted, authenticated stream of messages over any ordered transport: one end, without I/O.
///
/// Bytes of the transport go into [`receive`](Self::receive), what it has to send comes out of
/// [`poll_transmit`](Self::poll_transmit), and what it has to tell out of [`poll_event`](Self::poll_event),
/// which is to be asked until it gives `None` after every call that takes bytes.
pub struct SecretStream {
    phase: Phase,
    is_initiator: bool,
    peer: Option<Peer>,
    push: Option<Push>,
    pull: Option<Pull>,
    frames: FrameReader,
    frames_decrypted: u64,
    arena: BytesMut,
    output: Output,
    gather: Vec<u8>,
    queued: Vec<Bytes>,
    queued_bytes: usize,
    connected_told: bool,
    messages: VecDeque<Bytes>,
    end: End,
    timers: Timers,
    filter_empty_messages: bool,
    max_queued: usize,
    max_pending_transmit: usize,
}

enum Phase {
    Handshake(Box<Handshake>),
    /// Keys are there; the remote's stream header is awaited.
    Header {
        rx: zeroize::Zeroizing<[u8; 32]>,
    },
    Open,
    Closed,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    No,
    Reached,
    Told,
}

struct Peer {
    public_key: [u8; 32],
    handshake_hash: [u8; 64],
    /// Made when first used; most transports carry no datagrams.
    datagrams: Option<Box<Datagrams>>,
}

impl SecretStream {
    /// Starts a stream. The initiator's first handshake frame is ready for the transport at once.
    pub fn new(config: Config, now: Instant) -> Result<Self, Error> {
        let mut handshake = Handshake::new(config.is_initiator, &config.key_pair, config.pattern, &[])?;
        let first = if config.is_initiator { Some(handshake.write(&[])?) } else { None };
        let mut stream = Self::with_phase(&config, Phase::Handshake(Box::new(handshake)), now);
        if let Some(first) = first {
            stream.write_frame(&first)?;
        }
        Ok(stream)
    }

    /// Starts a stream whose handshake was run elsewhere (as the DHT does): only `is_initiator`, the timers and
    /// the limits of `config` are used.
    pub fn with_handshake(config: &Config, handshake: HandshakeResult, now: Instant) -> Result<Self, Error> {
        let mut stream = Self::with_phase(config, Phase::Closed, now);
        stream.start_encryption(handshake)?;
        Ok(stream)
    }

    fn with_phase(config: &Config, phase: Phase, now: Instant) -> Self {
        let keep_alive = config.keep_alive.filter(|interval| !interval.is_zero());
        Self {
            phase,
            is_initiator: config.is_initiator,
            peer: None,
            push: None,
            pull: None,
            frames: FrameReader::default(),
            frames_decrypted: 0,
            arena: BytesMut::new(),
            output: Output::new(),
            gather: Vec::new(),
            queued: Vec::new(),
            queued_bytes: 0,
            connected_told: false,
            messages: VecDeque::new(),
            end: End::No,
            timers: Timers::new(keep_alive, config.timeout, now),
            filter_empty_messages: config.filter_empty_messages || keep_alive.is_some(),
            max_queued: config.max_queued,
            max_pending_transmit: config.max_pending_transmit,
        }
    }

    /// Takes bytes of the transport, cut in any way. Events of frames before a refused one stay to be polled.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), Error> {
        if matches!(self.phase, Phase::Closed) {
            return Err(Error::Closed);
        }
        self.timers.received(now);
        // Lent out so that frames may be slices of it while the rest of the stream changes.
        let mut frames = std::mem::take(&mut self.frames);
        let received = self.receive_frames(&mut frames, bytes);
        self.frames = frames;
        self.fail_on_error(received)
    }

    /// Tells that the transport has ended. After a whole frame this gives [`Event::Closed`], anywhere else it is
    /// an error: the end of a direction is not authenticated, so this is all that can be said about it.
    pub fn receive_end(&mut self) -> Result<(), Error> {
        let at = match self.phase {
            Phase::Closed => return Err(Error::Closed),
            Phase::Handshake(_) => Some("before the handshake was over"),
            _ if self.frames.is_partial() => Some("inside a frame"),
            _ => None,
        };
        self.phase = Phase::Closed;
        if let Some(at) = at {
            return Err(Error::Truncated { at });
        }
        self.end = End::Reached;
        Ok(())
    }

    /// What happened next, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        if !self.connected_told
            && let Some(peer) = &self.peer
        {
            self.connected_told = true;
            return Some(Event::Connected {
                remote_public_key: peer.public_key,
                handshake_hash: peer.handshake_hash,
                stream_id: namespace::stream_id(&peer.handshake_hash, self.is_initiator),
                remote_stream_id: namespace::stream_id(&peer.handshake_hash, !self.is_initiator),
            });
        }
        if let Some(message) = self.messages.pop_front() {
            return Some(Event::Message(message));
        }
        if self.end == End::Reached {
            self.end = End::Told;
            return Some(Event::Closed);
        }
        None
    }

    /// Sends one message. Before [`Event::Connected`] it is kept, up to `max_queued` bytes.
    pub fn send(&mut self, message: &[u8]) -> Result<(), Error> {
        self.check_sendable(message.len())?;
        if self.push.is_none() {
            return self.queue(Bytes::copy_from_slice(message));
        }
        self.write_message(message)
    }

    /// Sends one message that lies in several pieces.
    ///
    /// The pieces are put together in a buffer that stays in the processor's cache, which costs a few percent of
    /// the encryption that follows; the cipher then writes straight into what goes to the transport.
    pub fn send_parts<P: AsRef<[u8]>>(&mut self, parts: &[P]) -> Result<(), Error> {
        if let [message] = parts {
            return self.send(message.as_ref());
        }
        let len = parts.iter().fold(0usize, |len, part| len.saturating_add(part.as_ref().len()));
        self.check_sendable(len)?;
        let mut gather = std::mem::take(&mut self.gather);
        gather.clear();
        gather.reserve(len);
        for part in parts {
            gather.extend_from_slice(part.as_ref());
        }
        let sent = if self.push.is_none() {
            self.queue(Bytes::copy_from_slice(&gather))
        } else {
            self.write_message(&gather)
        };
        if gather.capacity() <= KEEP_GATHER {
            self.gather = gather;
        }
        sent
    }

    /// Seals a datagram, to be sent beside the stream by a transport that can: it may get lost or overtake others.
    /// [`Error::Closed`] before [`Event::Connected`], as the remote could not open it.
    pub fn seal_datagram(&mut self, text: &[u8]) -> Result<Bytes, Error> {
        self.datagrams().and_then(|datagrams| datagrams.seal(text)).ok_or(Error::Closed)
    }

    /// Opens a datagram of the remote; `None` for anything else, which is to be ignored.
    pub fn open_datagram(&mut self, datagram: &[u8]) -> Option<Bytes> {
        self.datagrams()?.open(datagram)
    }

    /// The next piece for the transport: whole frames, put together up to 128 KiB (more for a longer frame).
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        self.output.pop()
    }

    /// How many bytes [`SecretStream::poll_transmit`] still has to give.
    pub fn pending_transmit(&self) -> usize {
        self.output.len()
    }

    /// When [`SecretStream::handle_timeout`] wants to be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Closed => None,
            _ => self.timers.next_deadline(),
        }
    }

    /// Does what is due: a keep-alive, or [`Error::TimedOut`]. Harmless to call early.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        if matches!(self.phase, Phase::Closed) {
            return Ok(());
        }
        match self.timers.due(now) {
            Due::Nothing => Ok(()),
            Due::TimedOut => self.fail_on_error(Err(Error::TimedOut)),
            // When something already waits for the transport, an empty message adds nothing.
            Due::KeepAlive if self.push.is_none() || self.output.len() > 0 => Ok(()),
            Due::KeepAlive => {
                let written = self.write_message(&[]);
                self.fail_on_error(written)
            }
        }
    }

    /// True once the handshake is over and until the stream ends or fails.
    pub fn is_connected(&self) -> bool {
        self.peer.is_some() && !matches!(self.phase, Phase::Closed)
    }

    /// The remote's public key, once the handshake is over.
    pub fn remote_public_key(&self) -> Option<[u8; 32]> {
        self.peer.as_ref().map(|peer| peer.public_key)
    }

    /// The handshake hash, once the handshake is over.
    pub fn handshake_hash(&self) -> Option<[u8; 64]> {
        self.peer.as_ref().map(|peer| peer.handshake_hash)
    }

    fn datagrams(&mut self) -> Option<&mut Datagrams> {
        if matches!(self.phase, Phase::Closed) {
            return None;
        }
        let is_initiator = self.is_initiator;
        let peer = self.peer.as_mut()?;
        let new = || Box::new(Datagrams::new(&peer.handshake_hash, is_initiator));
        Some(peer.datagrams.get_or_insert_with(new))
    }

    fn receive_frames(&mut self, frames: &mut FrameReader, bytes: &[u8]) -> Result<(), Error> {
        // A busy stream uses the same memory again, as soon as its messages were dropped; a quiet one makes room
        // for just what it decrypts, so that a message that is kept does not keep more than its neighbours.
        let mut arena = BytesMut::new();
        if bytes.len() >= KEEP_ARENA {
            arena = std::mem::take(&mut self.arena);
        }
        let received = self.decrypt_frames(frames, bytes, &mut arena);
        if bytes.len() >= KEEP_ARENA {
            self.arena = arena;
        } else {
            self.arena = BytesMut::new();
        }
        received
    }

    fn decrypt_frames(
        &mut self,
        frames: &mut FrameReader,
        mut bytes: &[u8],
        arena: &mut BytesMut,
    ) -> Result<(), Error> {
        loop {
            let limit = match self.phase {
                Phase::Handshake(_) => noise::MAX_MESSAGE,
                _ => MAX_FRAME,
            };
            let frame = match frames.next(&mut bytes, limit) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(()),
                Err(frame::TooLong(len)) => return Err(Error::HandshakeFrameTooLarge { len, limit }),
            };
            match &self.phase {
                Phase::Open => self.receive_message(frame, bytes.len(), arena)?,
                Phase::Handshake(_) => self.receive_handshake(frame)?,
                Phase::Header { .. } => self.receive_header(frame)?,
                Phase::Closed => return Err(Error::Closed),
            }
        }
    }

    fn receive_handshake(&mut self, frame: &[u8]) -> Result<(), Error> {
        let Phase::Handshake(handshake) = &mut self.phase else {
            return Err(Error::Closed);
        };
        // Secret streams put nothing into the payload and do not look at what is there.
        handshake.read(frame)?;
        let answer = if handshake.is_my_turn() { Some(handshake.write(&[])?) } else { None };
        let complete = handshake.is_complete();
        if let Some(answer) = answer {
            self.write_frame(&answer)?;
        }
        if complete && let Phase::Handshake(handshake) = std::mem::replace(&mut self.phase, Phase::Closed) {
            self.start_encryption(handshake.finish()?)?;
        }
        Ok(())
    }

    /// Sends this side's stream header, then all that was sent before there were keys.
    fn start_encryption(&mut self, handshake: HandshakeResult) -> Result<(), Error> {
        let (push, header) = Push::new(&handshake.tx);
        let mut message = [0; STREAM_HEADER];
        let (id, rest) = message.split_at_mut(32);
        id.copy_from_slice(&namespace::stream_id(&handshake.hash, self.is_initiator));
        rest.copy_from_slice(&header);
        self.write_frame(&message)?;
        self.push = Some(push);
        self.peer = Some(Peer {
            public_key: handshake.remote_public_key,
            handshake_hash: handshake.hash,
            datagrams: None,
        });
        self.phase = Phase::Header { rx: handshake.rx };
        self.queued_bytes = 0;
        for message in std::mem::take(&mut self.queued) {
            self.write_message(&message)?;
        }
        Ok(())
    }

    fn receive_header(&mut self, frame: &[u8]) -> Result<(), Error> {
        let (Phase::Header { rx }, Some(peer)) = (&self.phase, &self.peer) else {
            return Err(Error::Closed);
        };
        let invalid = Error::InvalidHeaderLength { len: frame.len(), expected: STREAM_HEADER };
        let Some((id, header)) = frame.split_first_chunk::<32>() else {
            return Err(invalid);
        };
        let header: &[u8; HEADER] = header.try_into().map_err(|_| invalid)?;
        if *id != namespace::stream_id(&peer.handshake_hash, !self.is_initiator) {
            return Err(Error::InvalidHeader);
        }
        self.pull = Some(Pull::new(rx, header));
        self.phase = Phase::Open;
        Ok(())
    }

    fn receive_message(&mut self, frame: &[u8], rest: usize, arena: &mut BytesMut) -> Result<(), Error> {
        let Some(len) = frame.len().checked_sub(OVERHEAD) else {
            return Err(Error::FrameTooShort { len: frame.len(), minimum: OVERHEAD });
        };
        let Some(pull) = &mut self.pull else {
            return Err(Error::Closed);
        };
        if arena.capacity() < len && !arena.try_reclaim(len) {
            // What is left of the input bounds what can still be needed.
            *arena = BytesMut::with_capacity(len.saturating_add(rest).min(ARENA).max(len));
        }
        arena.resize(len, 0);
        if pull.decrypt(frame, arena).is_err() {
            return Err(Error::Authentication { index: self.frames_decrypted });
        }
        self.frames_decrypted = self.frames_decrypted.wrapping_add(1);
        if len > 0 || !self.filter_empty_messages {
            self.messages.push_back(arena.split().freeze());
        }
        Ok(())
    }

    fn check_sendable(&self, len: usize) -> Result<(), Error> {
        if matches!(self.phase, Phase::Closed) {
            return Err(Error::Closed);
        }
        if len > MAX_MESSAGE {
            return Err(Error::MessageTooLarge { len, limit: MAX_MESSAGE });
        }
        let (pending, limit) = (self.output.len(), self.max_pending_transmit);
        if pending.saturating_add(len) > limit && pending > 0 {
            return Err(Error::TransmitFull { pending, limit });
        }
        Ok(())
    }

    fn queue(&mut self, message: Bytes) -> Result<(), Error> {
        let (queued, limit) = (self.queued_bytes, self.max_queued);
        // An empty message takes room as well.
        let more = queued.saturating_add(message.len()).saturating_add(LENGTH + OVERHEAD);
        if more > limit {
            return Err(Error::QueueFull { queued, limit });
        }
        self.queued_bytes = more;
        self.queued.push(message);
        Ok(())
    }

    fn write_message(&mut self, message: &[u8]) -> Result<(), Error> {
        let Some(push) = &mut self.push else {
            return Err(Error::Closed);
        };
        let frame_len = message.len().saturating_add(OVERHEAD);
        let too_large = Error::MessageTooLarge { len: message.len(), limit: MAX_MESSAGE };
        let Some(length) = frame::encode(frame_len) else {
            return Err(too_large);
        };
        self.output.append(LENGTH + frame_len, |out| {
            let (head, body) = out.split_at_mut(LENGTH);
            head.copy_from_slice(&length);
            push.encrypt(message, body).map_err(|_| too_large)
        })?;
        self.timers.sent();
        Ok(())
    }

    /// A frame that is not encrypted by the stream: a handshake message or the stream header.
    fn write_frame(&mut self, frame: &[u8]) -> Result<(), Error> {
        let Some(length) = frame::encode(frame.len()) else {
            return Err(Error::MessageTooLarge { len: frame.len(), limit: MAX_FRAME });
        };
        self.output.append(LENGTH + frame.len(), |out| {
            let (head, body) = out.split_at_mut(LENGTH);
            head.copy_from_slice(&length);
            body.copy_from_slice(frame);
            Ok(())
        })
    }

    fn fail_on_error(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        if result.is_err() {
            self.phase = Phase::Closed;
            self.push = None;
            self.pull = None;
            self.queued = Vec::new();
        }
        result
    }
}

impl fmt::Debug for SecretStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretStream")
            .field("is_initiator", &self.is_initiator)
            .field("connected", &self.is_connected())
            .field("pending_transmit", &self.output.len())
            .finish_non_exhaustive()
    }
}
