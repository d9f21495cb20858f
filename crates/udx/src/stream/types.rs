//! What goes in and out of a stream besides packets.

use std::net::SocketAddr;
use std::time::Duration;

#[cfg(doc)]
use super::StreamState;

/// What a stream is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many received bytes the stream holds until they are read, and the window that the remote is told while it
    /// holds none; packets that wait for a lost one may take twice as much beside it. libudx: 4 MiB.
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
    /// The remote acknowledged nothing for too long. It may have got everything all the same: libudx forgets a stream as
    /// soon as both sides have ended, so when its last acknowledgement gets lost, and the end went in one packet with
    /// the last bytes, nobody can tell. (An end that went alone is taken for received then: that is
    /// [`CloseReason::Ended`].)
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
