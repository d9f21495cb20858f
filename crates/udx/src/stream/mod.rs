//! One stream: a state machine without I/O.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::packet::Packet;

/// What a stream is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many received bytes the stream holds until they are read, and the window that the remote is told while it
    /// holds none. libudx: 4 MiB.
    pub receive_window: u32,
    /// How many bytes beyond the send window may be queued before [`StreamState::writable`] says no. libudx: 256 KiB.
    pub high_watermark: usize,
    /// Probe the remote after so much silence, to keep NAT mappings open. Off by default.
    pub keep_alive: Option<Duration>,
    /// Largest IP packet that MTU discovery tries. libudx: 1,500.
    pub max_mtu: u16,
    /// Sequence number of the first packet sent (udx-native's `opts.seq`); the remote must expect it. 0.
    pub first_seq: u32,
    /// Sequence number of the first packet received (udx-native's `opts.ack`). 0.
    pub first_ack: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            receive_window: 4 << 20,
            high_watermark: 256 << 10,
            keep_alive: None,
            max_mtu: 1500,
            first_seq: 0,
            first_ack: 0,
        }
    }
}

/// Where packets of a stream go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The stream's id at the remote.
    pub remote_id: u32,
    /// Address of the remote.
    pub remote: SocketAddr,
    /// The socket to send from: a number that means something to the driver only.
    pub socket: u64,
    /// MTU of the first link, where the system tells it: discovery goes no further.
    pub link_mtu: Option<u16>,
}

/// What [`StreamState::poll_transmit`] wrote: one datagram, or several of `segment_size` of which only the last may be
/// shorter (what UDP segmentation offload takes in one call).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Where to.
    pub path: Path,
    /// Bytes written to the buffer.
    pub size: usize,
    /// Size of each datagram; equal to `size` if there is one.
    pub segment_size: usize,
}

/// What happened on a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Everything written, and the end, has reached the remote.
    Finished,
    /// Everything sent over the path before the last change has reached the remote: the old one may go.
    RemoteChanged,
    /// Packets up to this size (IP header included) get through.
    MtuChanged(u16),
    /// Nothing more comes or goes. What arrived in order before may still be read.
    Closed(CloseReason),
}

/// Why a stream closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// Both sides ended and all of it arrived.
    Ended,
    /// [`StreamState::destroy`] was called.
    Destroyed,
    /// The remote destroyed the stream.
    Reset,
    /// The remote acknowledged nothing for too long.
    TimedOut,
}

/// Figures of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Smoothed round trip time; zero before the first sample.
    pub rtt: Duration,
    /// Least round trip time of late.
    pub min_rtt: Duration,
    /// Congestion window, in packets.
    pub congestion_window: u32,
    /// Bytes under way, headers included.
    pub in_flight: usize,
    /// Packets under way.
    pub packets_in_flight: u32,
    /// Largest IP packet in use.
    pub mtu: u16,
    /// Estimated bandwidth of the path, in payload bytes per second.
    pub bandwidth: u64,
    /// Bytes per second that pacing lets go.
    pub pacing_rate: u64,
    /// The window that the remote advertised last.
    pub remote_window: u32,
    /// UDP payload bytes sent.
    pub bytes_sent: u64,
    /// UDP payload bytes received.
    pub bytes_received: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets received.
    pub packets_received: u64,
    /// Packets sent again.
    pub retransmits: u64,
    /// Times that fast recovery began.
    pub fast_recoveries: u64,
    /// Retransmission timeouts.
    pub timeouts: u64,
    /// Tail loss probes sent.
    pub loss_probes: u64,
    /// Zero-window probes sent.
    pub window_probes: u64,
    /// Messages and packets of the remote that were dropped because a buffer was full.
    pub dropped: u64,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Larger than a packet.
    #[error("the message has {length} bytes, a packet takes {limit}: split it or write it to the stream")]
    TooLarge {
        /// Length of the message.
        length: usize,
        /// See [`StreamState::max_message_size`].
        limit: usize,
    },
    /// Too many wait to be sent.
    #[error("too many messages wait to be sent: send again later, or drop it")]
    Full,
    /// The stream is not connected, or closed.
    #[error("the stream is not connected")]
    NotConnected,
}

/// One UDX stream.
///
/// The driver's turn: give every datagram that has arrived to [`receive`](Self::receive), call
/// [`handle_timeout`](Self::handle_timeout) if the deadline has passed, let the application read and write, then call
/// [`poll_transmit`](Self::poll_transmit) until it returns `None`, take the events, and sleep until
/// [`next_deadline`](Self::next_deadline) or until something arrives. A burst of received packets is acknowledged once.
#[derive(Debug)]
pub struct StreamState {
    local_id: u32,
}

#[expect(unused_variables, reason = "signatures first")]
impl StreamState {
    /// A stream that is not connected yet. It takes packets all the same (the driver's firewall decides about them) and
    /// acknowledges them when it is connected.
    pub fn new(local_id: u32, config: Config, now: Instant) -> Self {
        unimplemented!()
    }

    /// The id that the remote sends to.
    pub fn local_id(&self) -> u32 {
        self.local_id
    }

    /// Where packets go. `None` before [`connect`](Self::connect).
    pub fn path(&self) -> Option<&Path> {
        unimplemented!()
    }

    /// Says where the remote is. Nothing is sent for it: UDX has no handshake. `false` (and nothing happens) if the
    /// stream is connected or closed.
    pub fn connect(&mut self, path: Path, now: Instant) -> bool {
        unimplemented!()
    }

    /// Continues the stream over another path. Packets under way are repeated over the old one;
    /// [`Event::RemoteChanged`] tells when all of them have arrived. `false` if the stream is not connected or closed.
    pub fn change_remote(&mut self, path: Path, now: Instant) -> bool {
        unimplemented!()
    }

    /// Whether [`connect`](Self::connect) was called (also true once closed).
    pub fn is_connected(&self) -> bool {
        unimplemented!()
    }

    /// Takes a packet for this stream. Nothing is answered before [`poll_transmit`](Self::poll_transmit).
    pub fn receive(&mut self, packet: Packet, now: Instant) {
        unimplemented!()
    }

    /// How many bytes may be written at the moment; more is taken, too, but ask first to keep the queue bounded. Zero
    /// after [`finish`](Self::finish) and once closed.
    pub fn writable(&self) -> usize {
        unimplemented!()
    }

    /// Appends bytes to the stream. They may be written before the stream is connected. `false` if the stream is
    /// finished or closed.
    pub fn write(&mut self, data: Bytes) -> bool {
        unimplemented!()
    }

    /// Bytes written and not yet acknowledged.
    pub fn unacknowledged(&self) -> usize {
        unimplemented!()
    }

    /// Ends our half: the remote reads the end after everything written. [`Event::Finished`] tells that it did.
    pub fn finish(&mut self) {
        unimplemented!()
    }

    /// The next bytes in order: a slice of the datagram that brought them.
    pub fn read(&mut self) -> Option<Bytes> {
        unimplemented!()
    }

    /// Whether [`read`](Self::read) has something.
    pub fn is_readable(&self) -> bool {
        unimplemented!()
    }

    /// Whether the remote has ended its half and everything was read.
    pub fn read_ended(&self) -> bool {
        unimplemented!()
    }

    /// Largest message that [`send_message`](Self::send_message) takes at the moment.
    pub fn max_message_size(&self) -> usize {
        unimplemented!()
    }

    /// Queues a message: one packet, sent once, unordered.
    pub fn send_message(&mut self, message: Bytes) -> Result<(), MessageError> {
        unimplemented!()
    }

    /// The next message that has arrived.
    pub fn poll_message(&mut self) -> Option<Bytes> {
        unimplemented!()
    }

    /// Probes the remote after so much silence; `None`: never.
    pub fn set_keep_alive(&mut self, after: Option<Duration>, now: Instant) {
        unimplemented!()
    }

    /// Gives the stream up: the remote is told, what was not acknowledged is forgotten, nothing more is received.
    /// [`Event::Closed`] follows.
    pub fn destroy(&mut self, now: Instant) {
        unimplemented!()
    }

    /// Whether the stream is closed ([`Event::Closed`] was or will be polled).
    pub fn is_closed(&self) -> bool {
        unimplemented!()
    }

    /// Whether the driver may forget the stream: it is closed, has nothing more to send, and has waited long enough for
    /// packets that the remote repeats because our last answer got lost.
    pub fn is_drained(&self) -> bool {
        unimplemented!()
    }

    /// Marks the stream as a relay's: its packets are not read but passed on by the driver (see
    /// [`relay`](Self::relay)), and destroying it tells the remote nothing.
    pub fn set_relayed(&mut self) {
        unimplemented!()
    }

    /// Whether [`set_relayed`](Self::set_relayed) was called.
    pub fn is_relayed(&self) -> bool {
        unimplemented!()
    }

    /// Notes a packet that arrived for this relayed stream. The driver then passes the datagram on, readdressed
    /// ([`packet::readdress`](crate::packet::readdress)) to the remote id of the stream it relays to and sent over that
    /// stream's [`path`](Self::path); if that one is not connected yet, the packet is dropped. After a packet that
    /// destroys the stream this one is closed ([`CloseReason::Reset`]): the driver passes the datagram on all the same
    /// and destroys every stream that relays to this one.
    pub fn relay(&mut self, packet: &Packet, now: Instant) {
        unimplemented!()
    }

    /// Appends datagrams to `buffer`: at most `max_segments` of one size. `None` when there is nothing (more) to send
    /// now. Every packet and every acknowledgement leaves through here.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        max_segments: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        unimplemented!()
    }

    /// When [`handle_timeout`](Self::handle_timeout) and then [`poll_transmit`](Self::poll_transmit) want to be called
    /// at the latest. Ask after `poll_transmit` has returned `None`.
    pub fn next_deadline(&self) -> Option<Instant> {
        unimplemented!()
    }

    /// Does what is due by now. Calling it too early or too often does no harm.
    pub fn handle_timeout(&mut self, now: Instant) {
        unimplemented!()
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        unimplemented!()
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        unimplemented!()
    }
}
