//! What leaves: data in batches of equal packets, acknowledgements, messages, probes.

use std::time::Instant;

use crate::packet::{self, HEADER_SIZE, Header, MAX_SACKS, SACK_SIZE};
use crate::seq;
use crate::stream::StreamState;
use crate::stream::ack::Recovery;
use crate::stream::mtu;
use crate::stream::sent::{Sent, State};
use crate::stream::types::{CloseReason, Path, Transmit};

/// Most bytes of one batch: what fits into one UDP datagram before the system cuts it.
const MAX_BATCH: usize = 65_000;

/// The next packet that takes a sequence number.
enum Next {
    Again(u64, Sent),
    New { length: usize, end: bool, probe: Option<u16> },
}

impl Next {
    fn size(&self, overhead: usize) -> usize {
        match self {
            Self::Again(_, sent) => sent.size(),
            Self::New { probe: Some(size), .. } => usize::from(*size) - overhead,
            Self::New { length, .. } => HEADER_SIZE + length,
        }
    }
}

impl StreamState {
    /// Appends datagrams to `buffer`: at most `max_segments` of one size. `None` when there is nothing (more) to send
    /// now. Every packet and every acknowledgement leaves through here.
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        max_segments: usize,
        buffer: &mut Vec<u8>,
    ) -> Option<Transmit> {
        self.clock.advance(now);
        self.settle();
        let path = self.path?;
        if self.closed.is_some() {
            return self.transmit_last_word(path, buffer);
        }
        if self.relayed {
            return None;
        }
        if let Some(message) = self.messages_out.pop_front() {
            let header = self.header(packet::MESSAGE, self.sent.next()).encode();
            return Some(self.transmit(path, buffer, &[&header, &message]));
        }
        if self.ack_needed && self.recv.has_gaps() {
            return Some(self.transmit_ack(path, buffer));
        }
        if let Some(transmit) = self.transmit_data(max_segments.max(1), buffer) {
            return Some(transmit);
        }
        if self.heartbeat_needed {
            self.heartbeat_needed = false;
            let header = self.header(packet::HEARTBEAT, self.sent.next()).encode();
            return Some(self.transmit(path, buffer, &[&header]));
        }
        (self.ack_needed || self.window_has_opened()).then(|| self.transmit_ack(path, buffer))
    }

    fn transmit(&mut self, path: Path, buffer: &mut Vec<u8>, parts: &[&[u8]]) -> Transmit {
        let start = buffer.len();
        for part in parts {
            buffer.extend_from_slice(part);
        }
        let size = buffer.len() - start;
        self.stats.packets_sent += 1;
        self.stats.bytes_sent += size as u64;
        Transmit { path, size, segment_size: size }
    }

    /// What a closed stream still has to say.
    fn transmit_last_word(&mut self, path: Path, buffer: &mut Vec<u8>) -> Option<Transmit> {
        if std::mem::take(&mut self.destroy_needed) {
            self.destroys += 1;
            let header = self.header(packet::DESTROY, self.sent.next()).encode();
            return Some(self.transmit(path, buffer, &[&header]));
        }
        if self.ack_needed && self.closed == Some(CloseReason::Ended) {
            return Some(self.transmit_ack(path, buffer));
        }
        self.ack_needed = false;
        None
    }

    fn transmit_ack(&mut self, path: Path, buffer: &mut Vec<u8>) -> Transmit {
        self.ack_needed = false;
        let mut sacks = [0; MAX_SACKS * SACK_SIZE];
        let mut length = 0;
        let mut slots = sacks.chunks_exact_mut(SACK_SIZE);
        self.recv.report(|start, end| {
            if let Some(slot) = slots.next() {
                slot[..4].copy_from_slice(&seq::narrow(start).to_le_bytes());
                slot[4..].copy_from_slice(&seq::narrow(end).to_le_bytes());
                length += SACK_SIZE;
            }
        });
        let kind = if length > 0 { packet::SACK } else { 0 };
        let header = self.header(kind, self.sent.next()).encode();
        self.transmit(path, buffer, &[&header, &sacks[..length]])
    }

    /// The header of a packet that goes to the present remote.
    fn header(&mut self, kind: u8, number: u64) -> Header {
        self.advertised = self.recv.room();
        Header {
            kind,
            data_offset: 0,
            id: self.path.map_or(0, |path| path.remote_id),
            window: self.advertised,
            seq: seq::narrow(number),
            ack: seq::narrow(self.recv.next()),
        }
    }

    /// The reader has made room and the remote may be waiting for it.
    fn window_has_opened(&self) -> bool {
        let half = self.config.receive_window / 2;
        self.advertised < half && self.recv.room() - self.advertised.min(self.recv.room()) >= half / 2
    }

    fn transmit_data(&mut self, max_segments: usize, buffer: &mut Vec<u8>) -> Option<Transmit> {
        let now = self.clock.now();
        let packet_size = self.packet_size();
        self.pacer.refill(now, self.congestion.pacing_rate(), packet_size);
        self.timers.pacing = None;
        let (start, overhead) = (buffer.len(), self.ip_overhead());
        let idle = self.sent.in_flight() == 0;
        let (mut segment, mut segments, mut path, mut new) = (0, 0, None, false);
        while segments < max_segments {
            let Some(next) = self.next_packet(now) else { break };
            let size = next.size(overhead);
            let to = self.path_of(&next);
            if segments == 0 {
                segment = size;
                path = to;
            } else if size > segment || to != path || buffer.len() - start + size > MAX_BATCH {
                break;
            }
            let probe = matches!(next, Next::New { probe: Some(_), .. });
            if probe && segments > 0 {
                break;
            }
            new |= matches!(next, Next::New { .. });
            self.write_packet(next, buffer);
            segments += 1;
            if size < segment || probe {
                break;
            }
        }
        let path = path?;
        if new && idle {
            self.congestion.on_transmit_start(now, &self.delivery);
        }
        self.after_data(new);
        // Acknowledgements travel with data where there is nothing to say about gaps, and where they go to the remote
        // as it is now.
        if !self.recv.has_gaps() && Some(path) == self.path {
            self.ack_needed = false;
        }
        let size = buffer.len() - start;
        self.stats.packets_sent += segments as u64;
        self.stats.bytes_sent += size as u64;
        Some(Transmit { path, size, segment_size: segment })
    }

    fn after_data(&mut self, new: bool) {
        let now = self.clock.now();
        self.timers.keep_alive = None;
        self.timers.window_probe = None;
        if self.timers.retransmit.is_none() {
            self.timers.retransmit = Some(now + self.rtt.timeout());
        }
        if new && !self.probe_tail {
            self.schedule_tail_probe();
        }
    }

    /// The next packet that windows and pacing let go.
    fn next_packet(&mut self, now: u64) -> Option<Next> {
        if self.probe_tail {
            return self.tail_probe();
        }
        let lost = self.sent.has_lost();
        if !lost && !self.has_new_data() {
            self.note_app_limit();
            return None;
        }
        let in_flight = self.sent.in_flight_bytes() as u64;
        // Beyond the horizon much may have arrived that counts as under way: repeating must not wait for it.
        let behind = lost && self.rack.horizon != u64::MAX;
        if in_flight >= self.congestion.window() && !behind {
            return None;
        }
        if !self.pacer.may_send() {
            let rate = self.congestion.pacing_rate();
            self.timers.pacing = Some(self.pacer.ready_at(now, rate, self.packet_size()));
            return None;
        }
        if lost && let Some((number, sent)) = self.sent.first_lost() {
            // A remote may shrink its window below what is under way: repeating ignores it, as libudx does.
            return Some(Next::Again(number, sent));
        }
        if !self.has_new_data() || self.sent.is_full() || in_flight >= self.congestion.window() {
            return None;
        }
        let waiting = in_flight + self.sent.lost_bytes() as u64;
        let room = u64::from(self.remote_window).saturating_sub(waiting);
        if room < packet_or_rest(self.packet_size(), self.send.unsent())
            && !(waiting == 0 && self.remote_window > 0)
        {
            if waiting == 0 {
                self.timers.window_probe.get_or_insert_with(|| {
                    self.heartbeat_needed = true;
                    now + self.rtt.timeout()
                });
            }
            return None;
        }
        Some(self.new_packet(true))
    }

    fn has_new_data(&self) -> bool {
        self.send.unsent() > 0 || (self.finishing && !self.end_sent)
    }

    fn new_packet(&self, may_probe: bool) -> Next {
        let most = self.max_payload();
        let length = usize::try_from(self.send.unsent()).unwrap_or(usize::MAX).min(most);
        let end = self.finishing && length as u64 == self.send.unsent();
        // Only full packets become probes: the padding that makes up the difference has one byte for its length.
        let probe = self.mtu.wanted().filter(|_| may_probe && length == most && self.changing.is_none());
        Next::New { length, end, probe }
    }

    /// A tail loss probe: new data if there is some, else the last packet once more. It ignores the windows.
    fn tail_probe(&mut self) -> Option<Next> {
        self.probe_tail = false;
        self.timers.tail_probe_permitted = false;
        self.timers.retransmit = Some(self.clock.now() + self.rtt.timeout());
        if self.has_new_data() && !self.sent.is_full() && self.remote_window > 0 {
            self.stats.loss_probes += 1;
            return Some(self.new_packet(false));
        }
        let (number, sent) = self.sent.last_in_flight()?;
        self.stats.loss_probes += 1;
        Some(Next::Again(number, sent))
    }

    /// Packets from before a change of the remote are repeated over the path they were made for, as libudx does it: that
    /// one takes their size. After a timeout the old path may be dead: then they go over the new one if they certainly
    /// fit, and in turn over both if not.
    fn path_of(&self, next: &Next) -> Option<Path> {
        match next {
            Next::Again(_, sent) if sent.path != self.path_changes => {
                let fits = sent.size() + self.ip_overhead() <= usize::from(mtu::BASE);
                let new = sent.timeouts > 0 && (fits || sent.timeouts % 2 == 1);
                if new { self.path } else { self.previous.or(self.path) }
            }
            _ => self.path,
        }
    }

    fn write_packet(&mut self, next: Next, buffer: &mut Vec<u8>) {
        let now = self.clock.now();
        let to = self.path_of(&next);
        let rate = self.delivery.on_sent(now, self.sent.in_flight() == 0);
        let before = buffer.len();
        match next {
            Next::Again(number, sent) => {
                self.stats.retransmits += 1;
                let header = self.data_header(&to, number, sent.length > 0, sent.end, 0);
                buffer.extend_from_slice(&header.encode());
                self.send.copy(sent.offset, usize::from(sent.length), buffer);
                self.sent.on_retransmit(number, now, rate);
            }
            Next::New { length, end, probe } => {
                let padding = probe.map_or(0, |size| {
                    usize::from(size).saturating_sub(self.ip_overhead() + HEADER_SIZE + length).min(255)
                });
                let header = self.data_header(
                    &to,
                    self.sent.next(),
                    length > 0,
                    end,
                    u8::try_from(padding).unwrap_or(u8::MAX),
                );
                buffer.extend_from_slice(&header.encode());
                buffer.resize(buffer.len() + padding, 0);
                let offset = self.send.take(length, buffer);
                self.end_sent |= end;
                if probe.is_some() {
                    self.mtu.on_probe_sent();
                }
                self.sent.push(Sent {
                    offset,
                    length: u16::try_from(length).unwrap_or(u16::MAX),
                    end,
                    state: State::InFlight,
                    path: self.path_changes,
                    probe,
                    transmits: 1,
                    timeouts: 0,
                    time: now,
                    order: self.sent.next_order(),
                    rate,
                });
            }
        }
        self.pacer.on_sent((buffer.len() - before) as u64);
    }

    fn data_header(&mut self, to: &Option<Path>, number: u64, data: bool, end: bool, padding: u8) -> Header {
        let kind = if data { packet::DATA } else { 0 } | if end { packet::END } else { 0 };
        let mut header = self.header(kind, number);
        header.data_offset = padding;
        header.id = to.map_or(header.id, |path| path.remote_id);
        header
    }

    /// The application could send more than it does: rates seen now are its, not the path's.
    fn note_app_limit(&mut self) {
        let in_flight = self.sent.in_flight_bytes() as u64;
        if in_flight < self.congestion.window() && self.recovery == Recovery::Open {
            self.delivery.limit_by_app(in_flight);
        }
    }
}

/// Bytes of the next packet's payload at most.
fn packet_or_rest(packet: u64, rest: u64) -> u64 {
    packet.min(rest)
}
