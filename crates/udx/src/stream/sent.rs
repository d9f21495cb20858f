//! Packets that were sent and not yet acknowledged.

use std::collections::VecDeque;

use crate::congestion::rate::Snapshot;
use crate::packet::HEADER_SIZE;
use crate::ranges::Ranges;

/// Room for so many packets is kept when nothing is outstanding: an idle stream should be small.
const IDLE_CAPACITY: usize = 256;
/// How many packets may wait for their acknowledgement.
pub(crate) const MAX_OUTSTANDING: usize = 32 << 10;

/// A packet that takes a sequence number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// Its payload: where in the stream, how long, and whether the stream ends with it.
    pub(crate) offset: u64,
    pub(crate) length: u16,
    pub(crate) end: bool,
    pub(crate) state: State,
    /// Which path it was first sent over: changes of the remote are counted.
    pub(crate) path: u32,
    /// Size of the IP packet if this was an MTU probe.
    pub(crate) probe: Option<u16>,
    pub(crate) transmits: u8,
    pub(crate) timeouts: u8,
    /// When it was sent last, and as which of all transmissions.
    pub(crate) time: u64,
    pub(crate) order: u64,
    pub(crate) rate: Snapshot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Under way.
    InFlight,
    /// Taken for lost, to be sent again.
    Lost,
    /// Acknowledged by a SACK.
    Acked,
}

impl Sent {
    /// Size of the datagram, without padding.
    pub(crate) fn size(&self) -> usize {
        HEADER_SIZE + usize::from(self.length)
    }
}

#[derive(Debug)]
pub(crate) struct Outstanding {
    /// Number of the first packet in `packets`: everything before is acknowledged.
    first: u64,
    packets: VecDeque<Sent>,
    /// All transmissions in the order they were made. Those that were acknowledged or repeated since are skipped when
    /// they come to the front.
    order: VecDeque<(u64, u64)>,
    /// Those of them whose fate the remote has had no room to tell.
    parked: VecDeque<(u64, u64)>,
    transmissions: u64,
    /// Lost packets, some of which may have been acknowledged since.
    lost: VecDeque<u64>,
    sacked: Ranges,
    sacked_packets: usize,
    sacked_bytes: usize,
    in_flight: usize,
    in_flight_bytes: usize,
    lost_packets: usize,
    lost_bytes: usize,
}

impl Outstanding {
    pub(crate) fn new(first: u64) -> Self {
        Self {
            first,
            packets: VecDeque::new(),
            order: VecDeque::new(),
            parked: VecDeque::new(),
            transmissions: 0,
            lost: VecDeque::new(),
            sacked: Ranges::default(),
            sacked_packets: 0,
            sacked_bytes: 0,
            in_flight: 0,
            in_flight_bytes: 0,
            lost_packets: 0,
            lost_bytes: 0,
        }
    }

    /// Number of the first packet that is not acknowledged (TCP's snd.una).
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// Number of the next new packet (TCP's snd.nxt).
    pub(crate) fn next(&self) -> u64 {
        self.first + self.packets.len() as u64
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.packets.len() >= MAX_OUTSTANDING
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn in_flight_bytes(&self) -> usize {
        self.in_flight_bytes
    }

    pub(crate) fn has_lost(&self) -> bool {
        self.lost_packets > 0
    }

    pub(crate) fn lost_bytes(&self) -> usize {
        self.lost_bytes
    }

    /// Packets acknowledged beyond a gap.
    pub(crate) fn sacked_packets(&self) -> usize {
        self.sacked_packets
    }

    /// Payload bytes acknowledged beyond a gap.
    pub(crate) fn sacked_bytes(&self) -> usize {
        self.sacked_bytes
    }

    pub(crate) fn get(&self, seq: u64) -> Option<&Sent> {
        self.packets.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    fn get_mut(&mut self, seq: u64) -> Option<&mut Sent> {
        self.packets.get_mut(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    /// Number of the next transmission.
    pub(crate) fn next_order(&self) -> u64 {
        self.transmissions
    }

    fn on_transmission(&mut self, seq: u64, size: usize) {
        self.order.push_back((seq, self.transmissions));
        self.transmissions += 1;
        self.in_flight += 1;
        self.in_flight_bytes += size;
    }

    /// A new packet was sent: it is number [`next`](Self::next), and `order` is [`next_order`](Self::next_order).
    pub(crate) fn push(&mut self, packet: Sent) {
        let seq = self.next();
        self.on_transmission(seq, packet.size());
        self.packets.push_back(packet);
    }

    /// The packet that should be sent again first.
    pub(crate) fn first_lost(&mut self) -> Option<(u64, Sent)> {
        while let Some(&seq) = self.lost.front() {
            match self.get(seq) {
                Some(packet) if packet.state == State::Lost => return Some((seq, *packet)),
                _ => {
                    self.lost.pop_front();
                }
            }
        }
        None
    }

    /// Packet `seq`, lost or under way, was sent again.
    pub(crate) fn on_retransmit(&mut self, seq: u64, now: u64, rate: Snapshot) {
        let order = self.transmissions;
        let Some(packet) = self.get_mut(seq) else { return };
        let (size, before) = (packet.size(), packet.state);
        packet.state = State::InFlight;
        packet.time = now;
        packet.order = order;
        packet.rate = rate;
        packet.probe = None;
        packet.transmits = packet.transmits.saturating_add(1);
        self.leave(before, size);
        if self.lost.front() == Some(&seq) {
            self.lost.pop_front();
        }
        self.on_transmission(seq, size);
    }

    fn leave(&mut self, state: State, size: usize) {
        match state {
            State::InFlight => {
                self.in_flight -= 1;
                self.in_flight_bytes -= size;
            }
            State::Lost => {
                self.lost_packets -= 1;
                self.lost_bytes -= size;
            }
            State::Acked => {}
        }
    }

    /// Acknowledges the first packet. It was known already if its state is [`State::Acked`].
    pub(crate) fn acknowledge_first(&mut self) -> Option<(u64, Sent)> {
        let packet = self.packets.pop_front()?;
        let seq = self.first;
        self.first += 1;
        self.leave(packet.state, packet.size());
        if packet.state == State::Acked {
            self.sacked_packets -= 1;
            self.sacked_bytes -= usize::from(packet.length);
        }
        if self.packets.is_empty() {
            self.order.clear();
            self.parked.clear();
            self.lost.clear();
            self.packets.shrink_to(IDLE_CAPACITY);
            self.order.shrink_to(IDLE_CAPACITY);
            self.lost.shrink_to(IDLE_CAPACITY);
        }
        Some((seq, packet))
    }

    /// To be called after a run of [`acknowledge_first`](Self::acknowledge_first).
    pub(crate) fn forget_acknowledged(&mut self) {
        self.sacked.forget_below(self.first);
    }

    /// Acknowledges `start..end`, which lies within what is outstanding; each packet that was not known to have arrived
    /// goes to `delivered`.
    pub(crate) fn acknowledge_run(&mut self, start: u64, end: u64, mut delivered: impl FnMut(u64, Sent)) {
        let mut sacked = std::mem::take(&mut self.sacked);
        sacked.insert(start, end, |start, end| {
            for seq in start..end {
                let Some(packet) = self.get_mut(seq) else { continue };
                let before = *packet;
                packet.state = State::Acked;
                self.leave(before.state, before.size());
                self.sacked_packets += 1;
                self.sacked_bytes += usize::from(before.length);
                delivered(seq, before);
            }
        });
        self.sacked = sacked;
    }

    /// Packets under way, the longest sent first, as long as `lost` says they are lost: these become so. Packets from
    /// `horizon` on are left alone until it has moved: what the remote knows about them it could not say.
    pub(crate) fn lose_oldest(&mut self, horizon: u64, mut lost: impl FnMut(&Sent) -> bool) {
        while let Some(&(seq, order)) = self.parked.front() {
            if let Some(packet) = self.under_way(seq, order)
                && (seq >= horizon || !self.lose_if(seq, &packet, &mut lost))
            {
                break;
            }
            self.parked.pop_front();
        }
        while let Some(&(seq, order)) = self.order.front() {
            if let Some(packet) = self.under_way(seq, order) {
                if seq >= horizon {
                    self.parked.push_back((seq, order));
                } else if !self.lose_if(seq, &packet, &mut lost) {
                    return;
                }
            }
            self.order.pop_front();
        }
    }

    /// The packet, if its last transmission was number `order` and is still under way.
    fn under_way(&self, seq: u64, order: u64) -> Option<Sent> {
        self.get(seq).filter(|packet| packet.order == order && packet.state == State::InFlight).copied()
    }

    fn lose_if(&mut self, seq: u64, packet: &Sent, lost: &mut impl FnMut(&Sent) -> bool) -> bool {
        let is_lost = lost(packet);
        if is_lost {
            self.lose(seq);
            self.lost.push_back(seq);
        }
        is_lost
    }

    fn lose(&mut self, seq: u64) {
        let Some(packet) = self.get_mut(seq) else { return };
        if packet.state != State::InFlight {
            return;
        }
        packet.state = State::Lost;
        packet.probe = None;
        let size = packet.size();
        self.in_flight -= 1;
        self.in_flight_bytes -= size;
        self.lost_packets += 1;
        self.lost_bytes += size;
    }

    /// A timeout: every packet for which `lost` says so is lost, and what is lost is repeated in the order of its
    /// numbers.
    pub(crate) fn lose_any(&mut self, mut lost: impl FnMut(u64, &mut Sent) -> bool) {
        self.lost.clear();
        for at in 0..self.packets.len() {
            let seq = self.first + at as u64;
            let Some(packet) = self.packets.get_mut(at) else { break };
            match packet.state {
                State::Acked => {}
                State::Lost => self.lost.push_back(seq),
                State::InFlight => {
                    if lost(seq, packet) {
                        self.lose(seq);
                        self.lost.push_back(seq);
                    }
                }
            }
        }
    }

    /// The packet with the highest number, if it is under way: a tail loss probe can repeat it.
    pub(crate) fn last_in_flight(&self) -> Option<(u64, Sent)> {
        let packet = self.packets.back().filter(|packet| packet.state == State::InFlight)?;
        Some((self.next() - 1, *packet))
    }

    pub(crate) fn clear(&mut self) {
        let next = self.next();
        let transmissions = self.transmissions;
        *self = Self::new(next);
        self.transmissions = transmissions;
    }
}
