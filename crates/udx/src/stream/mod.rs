//! One stream: a state machine without I/O.

mod ack;
mod mtu;
mod recv_buffer;
mod send_buffer;
mod sent;
mod timers;
mod train;
mod transmit;
mod types;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::congestion::bbr::Bbr;
use crate::congestion::pacer::Pacer;
use crate::congestion::rate::{Burst, Delivery};
use crate::congestion::rtt::Rtt;
use crate::packet::{DATA, DESTROY, END, HEADER_SIZE, HEARTBEAT, MESSAGE, Packet};
use crate::seq;

use self::ack::{Rack, Recovery};
use self::mtu::MtuSearch;
use self::recv_buffer::{Inserted, RecvBuffer};
use self::send_buffer::SendBuffer;
use self::sent::Outstanding;
use self::timers::{Clock, Timers};

pub use self::types::{CloseReason, Config, Event, MessageError, Path, Stats, Transmit};

/// How many messages wait to be sent, and how many to be taken by the application.
pub const MAX_QUEUED_MESSAGES: usize = 256;
/// The window that the remote is taken to have before it told (libudx `UDX_DEFAULT_RWND_MAX`).
const INITIAL_REMOTE_WINDOW: u32 = 4 << 20;
/// Answers to packets for a destroyed stream.
const MAX_DESTROYS: u32 = 8;

/// One UDX stream.
///
/// The driver's turn: give every datagram that has arrived to [`receive`](Self::receive), call
/// [`handle_timeout`](Self::handle_timeout) if the deadline has passed, let the application read and write, then call
/// [`poll_transmit`](Self::poll_transmit) until it returns `None`, take the events, and sleep until
/// [`next_deadline`](Self::next_deadline) or until something arrives. A burst of received packets is acknowledged once.
///
/// What a remote can make a stream hold is bounded: an honest one one receive window of bytes in order and two in packets
/// that wait for a gap to close, any other four windows; at most 16,384 packets that wait; and [`MAX_QUEUED_MESSAGES`]
/// messages. That is what buffers hold, too, if [`shared_buffer`](Self::shared_buffer) says who shares one.
#[derive(Debug)]
pub struct StreamState {
    local_id: u32,
    config: Config,
    clock: Clock,
    timers: Timers,
    events: VecDeque<Event>,
    stats: Stats,

    path: Option<Path>,
    /// The path before the last change, as long as packets sent over it are outstanding; the number of changes; and the
    /// sequence number up to which the old one was used.
    previous: Option<Path>,
    path_changes: u32,
    changing: Option<u64>,

    closed: Option<CloseReason>,
    relayed: bool,
    /// Highest number seen of a relayed stream's packets.
    relayed_seq: u64,

    send: SendBuffer,
    sent: Outstanding,
    finishing: bool,
    end_sent: bool,
    finished: bool,
    /// What the remote advertised last, and the numbers of the packet that said so.
    remote_window: u32,
    window_seq: u64,
    window_ack: u64,

    rtt: Rtt,
    delivery: Delivery,
    burst: Burst,
    /// Acknowledgements have come in that congestion control and loss detection have not seen yet.
    unsettled: bool,
    /// The cumulative acknowledgement has moved in this burst.
    advanced: bool,
    rack: Rack,
    recovery: Recovery,
    congestion: Bbr,
    pacer: Pacer,
    mtu: MtuSearch,
    probe_tail: bool,

    recv: RecvBuffer,
    ack_needed: bool,
    /// The window that the remote was told last.
    advertised: u32,
    messages_in: VecDeque<Bytes>,
    messages_out: VecDeque<Bytes>,
    heartbeat_needed: bool,
    destroy_needed: bool,
    destroys: u32,
}

impl StreamState {
    /// A stream that is not connected yet. It takes packets all the same (the driver's firewall decides about them) and
    /// acknowledges them when it is connected.
    pub fn new(local_id: u32, config: Config, now: Instant) -> Self {
        let (first_seq, first_ack) = (seq::first(config.first_seq), seq::first(config.first_ack));
        let mtu = MtuSearch::new(config.max_mtu);
        Self {
            local_id,
            clock: Clock::new(now),
            timers: Timers::default(),
            events: VecDeque::new(),
            stats: Stats::default(),
            path: None,
            previous: None,
            path_changes: 0,
            changing: None,
            closed: None,
            relayed: false,
            relayed_seq: first_seq,
            send: SendBuffer::default(),
            sent: Outstanding::new(first_seq),
            finishing: false,
            end_sent: false,
            finished: false,
            remote_window: INITIAL_REMOTE_WINDOW,
            window_seq: first_ack,
            window_ack: first_seq,
            rtt: Rtt::new(),
            delivery: Delivery::default(),
            burst: Burst::default(),
            unsettled: false,
            advanced: false,
            rack: Rack::new(first_seq),
            recovery: Recovery::Open,
            congestion: Bbr::new(0, u64::from(mtu.mtu()), local_id),
            pacer: Pacer::new(),
            mtu,
            probe_tail: false,
            recv: RecvBuffer::new(first_ack, config.receive_window),
            ack_needed: false,
            advertised: config.receive_window,
            messages_in: VecDeque::new(),
            messages_out: VecDeque::new(),
            heartbeat_needed: false,
            destroy_needed: false,
            destroys: 0,
            config,
        }
    }

    /// The id that the remote sends to.
    pub fn local_id(&self) -> u32 {
        self.local_id
    }

    /// Where packets go. `None` before [`connect`](Self::connect).
    pub fn path(&self) -> Option<&Path> {
        self.path.as_ref()
    }

    /// Says where the remote is. Nothing is sent for it: UDX has no handshake. `false` (and nothing happens) if the
    /// stream is connected or closed.
    pub fn connect(&mut self, path: Path, now: Instant) -> bool {
        self.clock.advance(now);
        if self.path.is_some() || self.closed.is_some() {
            return false;
        }
        self.path = Some(path);
        self.mtu = self.search_mtu(&path);
        self.timers.keep_alive = self.keep_alive_at();
        true
    }

    /// Continues the stream over another path. Packets under way are repeated over the old one;
    /// [`Event::RemoteChanged`] tells when all of them have arrived. `false` if the stream is not connected or closed.
    pub fn change_remote(&mut self, path: Path, now: Instant) -> bool {
        self.clock.advance(now);
        self.settle();
        let Some(before) = self.path else { return false };
        if self.closed.is_some() {
            return false;
        }
        self.path = Some(path);
        self.path_changes = self.path_changes.wrapping_add(1);
        self.mtu = self.search_mtu(&path);
        // What was learned about the old path says nothing about the new one.
        self.rtt = Rtt::new();
        self.congestion = Bbr::new(self.clock.now(), self.packet_size(), self.local_id);
        self.pacer = Pacer::new();
        if self.sent.is_empty() {
            self.events.push_back(Event::RemoteChanged);
        } else {
            self.previous = Some(before);
            self.changing = Some(self.sent.next());
        }
        true
    }

    fn search_mtu(&self, path: &Path) -> MtuSearch {
        MtuSearch::new(path.link_mtu.unwrap_or(u16::MAX).min(self.config.max_mtu))
    }

    /// Whether [`connect`](Self::connect) was called (also true once closed).
    pub fn is_connected(&self) -> bool {
        self.path.is_some()
    }

    /// Takes a packet for this stream. Nothing is answered before [`poll_transmit`](Self::poll_transmit).
    pub fn receive(&mut self, packet: Packet, now: Instant) {
        self.clock.advance(now);
        let header = packet.header;
        self.stats.packets_received += 1;
        self.stats.bytes_received += (HEADER_SIZE
            + usize::from(header.data_offset)
            + packet.payload.as_ref().map_or(0, Bytes::len)) as u64;
        if self.closed.is_some() {
            self.answer_when_closed(&packet);
            return;
        }
        // libudx looks no further into a heartbeat.
        if header.is(HEARTBEAT) {
            self.ack_needed = true;
            return;
        }
        let Some(payload) = packet.payload.clone() else { return };
        let number = seq::widen(header.seq, self.recv.next());
        if number >= self.recv.next() {
            if header.is(DESTROY) {
                self.close(CloseReason::Reset);
                return;
            }
            if header.is(DATA | END) {
                let payload = if header.is(DATA) { payload.clone() } else { Bytes::new() };
                if self.recv.insert(number, payload, header.is(END)) == Inserted::Dropped {
                    self.stats.dropped += 1;
                }
            }
        }
        if header.is(MESSAGE) {
            if self.messages_in.len() < MAX_QUEUED_MESSAGES {
                self.messages_in.push_back(payload);
            } else {
                self.stats.dropped += 1;
            }
        }
        self.ack_needed |= header.is(DATA | END);
        self.take_acknowledgement(&packet, number);
        self.close_if_ended();
    }

    /// Holds so many received bytes from now on (see [`Config::receive_window`]). The remote is told with the next
    /// acknowledgement.
    pub fn set_receive_window(&mut self, bytes: u32) {
        self.config.receive_window = bytes;
        self.recv.set_window(bytes);
    }

    /// Whether what is held now would have fitted into a window of so many bytes.
    pub fn fits_receive_window(&self, bytes: u32) -> bool {
        self.recv.fits(bytes)
    }

    /// How many bytes may be written at the moment; more is taken, too, but ask first to keep the queue bounded. Zero
    /// after [`finish`](Self::finish) and once closed.
    pub fn writable(&self) -> usize {
        if self.finishing || self.closed.is_some() {
            return 0;
        }
        let window = self.congestion.window().min(u64::from(self.remote_window));
        let window = usize::try_from(window).unwrap_or(usize::MAX);
        let watermark = self.config.high_watermark;
        // What has arrived beyond a gap waits for nothing but the gap, and only has to be bounded.
        let waiting = self.send.len() - self.sent.sacked_bytes().min(self.send.len());
        let room = watermark.saturating_add(window).saturating_sub(waiting);
        room.min(watermark.saturating_add(window.saturating_mul(3)).saturating_sub(self.send.len()))
    }

    /// Appends bytes to the stream. They may be written before the stream is connected. `false` if the stream is
    /// finished or closed.
    pub fn write(&mut self, data: Bytes) -> bool {
        if self.finishing || self.closed.is_some() {
            return false;
        }
        self.send.push(data);
        true
    }

    /// Bytes written and not yet acknowledged.
    pub fn unacknowledged(&self) -> usize {
        self.send.len()
    }

    /// Ends our half: the remote reads the end after everything written. [`Event::Finished`] tells that it did.
    pub fn finish(&mut self) {
        self.finishing = true;
    }

    /// The next bytes in order: a slice of the datagram that brought them.
    pub fn read(&mut self) -> Option<Bytes> {
        self.recv.read()
    }

    /// Whether [`read`](Self::read) has something.
    pub fn is_readable(&self) -> bool {
        self.recv.is_readable()
    }

    /// Whether the remote has ended its half and everything was read.
    pub fn read_ended(&self) -> bool {
        self.recv.ended() && !self.recv.is_readable()
    }

    /// Largest message that [`send_message`](Self::send_message) takes at the moment.
    pub fn max_message_size(&self) -> usize {
        self.max_payload()
    }

    /// Queues a message: one packet, sent once, unordered.
    pub fn send_message(&mut self, message: Bytes) -> Result<(), MessageError> {
        let (length, limit) = (message.len(), self.max_message_size());
        if self.path.is_none() || self.closed.is_some() {
            return Err(MessageError::NotConnected);
        }
        if length > limit {
            return Err(MessageError::TooLarge { length, limit });
        }
        if self.messages_out.len() >= MAX_QUEUED_MESSAGES {
            return Err(MessageError::Full);
        }
        self.messages_out.push_back(message);
        Ok(())
    }

    /// The next message that has arrived.
    pub fn poll_message(&mut self) -> Option<Bytes> {
        self.messages_in.pop_front()
    }

    /// Probes the remote after so much silence; `None`: never.
    pub fn set_keep_alive(&mut self, after: Option<Duration>, now: Instant) {
        self.clock.advance(now);
        self.config.keep_alive = after;
        self.timers.keep_alive = self.keep_alive_at();
    }

    /// Gives the stream up: the remote is told, what was not acknowledged is forgotten, nothing more is received.
    /// [`Event::Closed`] follows.
    pub fn destroy(&mut self, now: Instant) {
        self.clock.advance(now);
        if self.closed.is_some() {
            return;
        }
        self.destroy_needed = self.path.is_some() && !self.relayed;
        self.close(CloseReason::Destroyed);
    }

    /// Whether the stream is closed ([`Event::Closed`] was or will be polled).
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    /// Whether the driver may forget the stream: it is closed, has nothing more to send, and has waited long enough for
    /// packets that the remote repeats because our last answer got lost.
    pub fn is_drained(&self) -> bool {
        self.closed.is_some() && self.timers.linger.is_none() && !self.destroy_needed && !self.ack_needed
    }

    /// Marks the stream as a relay's: its packets are not read but passed on by the driver (see
    /// [`relay`](Self::relay)), and destroying it tells the remote nothing.
    pub fn set_relayed(&mut self) {
        self.relayed = true;
    }

    /// Whether [`set_relayed`](Self::set_relayed) was called.
    pub fn is_relayed(&self) -> bool {
        self.relayed
    }

    /// Notes a packet that arrived for this relayed stream. The driver then passes the datagram on, readdressed
    /// ([`packet::readdress`](crate::packet::readdress)) to the remote id of the stream it relays to and sent over that
    /// stream's [`path`](Self::path); if that one is not connected yet, the packet is dropped. After a packet that
    /// destroys the stream this one is closed ([`CloseReason::Reset`]): the driver passes the datagram on all the same
    /// and destroys every stream that relays to this one.
    pub fn relay(&mut self, packet: &Packet, now: Instant) {
        self.clock.advance(now);
        if self.closed.is_some() {
            return;
        }
        self.stats.packets_received += 1;
        self.relayed_seq = self.relayed_seq.max(seq::widen(packet.header.seq, self.relayed_seq));
        if packet.header.is(DESTROY) {
            self.close(CloseReason::Reset);
        }
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        let rtt = Duration::from_micros(self.rtt.smoothed().unwrap_or(0));
        let per_second = |rate: f64| (rate * 1e6) as u64;
        Stats {
            rtt,
            min_rtt: Duration::from_micros(self.rtt.min()),
            congestion_window: u32::try_from(self.congestion.window() / self.packet_size())
                .unwrap_or(u32::MAX),
            in_flight: self.sent.in_flight_bytes(),
            packets_in_flight: u32::try_from(self.packets_in_flight()).unwrap_or(u32::MAX),
            mtu: self.mtu.mtu(),
            bandwidth: per_second(self.congestion.bandwidth()),
            pacing_rate: per_second(self.congestion.pacing_rate()),
            remote_window: self.remote_window,
            ..self.stats
        }
    }

    /// Packets that are under way and not known to be lost.
    pub fn packets_in_flight(&self) -> usize {
        self.sent.in_flight()
    }

    /// Payload of a full packet: what the MTU leaves beside the headers (IP, UDP, ours).
    fn max_payload(&self) -> usize {
        usize::from(self.mtu.mtu()) - self.ip_overhead() - HEADER_SIZE
    }

    /// Size of a full datagram.
    fn packet_size(&self) -> u64 {
        (self.max_payload() + HEADER_SIZE) as u64
    }

    fn ip_overhead(&self) -> usize {
        match self.path {
            Some(path) if path.remote.is_ipv6() => 48,
            _ => 28,
        }
    }

    /// The answer to a packet that comes after the end: our last word may have got lost.
    fn answer_when_closed(&mut self, packet: &Packet) {
        if self.timers.linger.is_none() {
            return;
        }
        self.linger();
        let header = packet.header;
        match self.closed {
            Some(CloseReason::Ended) => self.ack_needed |= header.is(DATA | END | HEARTBEAT),
            Some(CloseReason::Destroyed) if !self.destroy_needed => {
                self.destroy_needed = !header.is(DESTROY) && self.destroys < MAX_DESTROYS;
            }
            _ => {}
        }
    }

    fn close_if_ended(&mut self) {
        if self.finished && self.recv.ended() {
            self.close(CloseReason::Ended);
        }
    }

    fn close(&mut self, reason: CloseReason) {
        if self.closed.is_some() {
            return;
        }
        self.closed = Some(reason);
        self.events.push_back(Event::Closed(reason));
        self.send.clear();
        self.sent.clear();
        self.recv.clear_early();
        self.messages_out.clear();
        self.heartbeat_needed = false;
        self.probe_tail = false;
        self.unsettled = false;
        self.timers = Timers::default();
        match reason {
            CloseReason::Ended => self.linger(),
            CloseReason::Destroyed if self.destroy_needed => self.linger(),
            _ => self.ack_needed = false,
        }
    }
}
