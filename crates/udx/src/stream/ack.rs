//! Acknowledgements: what has arrived, what is lost (RACK, RFC 8985), and when recovery is over.

use crate::congestion::bbr::Acked;
use crate::congestion::rate::Burst;
use crate::packet::{MAX_SACKS, Packet};
use crate::seq;
use crate::stream::sent::{Sent, State};
use crate::stream::types::Event;
use crate::stream::{StreamState, types::CloseReason};

/// SACKed packets beyond a gap that make waiting for reordered ones pointless (RFC 8985, 6.2).
const DUPLICATE_THRESHOLD: usize = 3;
/// Most quarters of the round trip time that a reordered packet is waited for.
const MAX_REORDER_STEPS: u64 = 16;
/// Round trips without a needless retransmission until the wait shrinks again.
const REORDER_PERSISTENCE: u32 = 16;
/// Timeouts of one packet after which the remote counts as gone (libudx `UDX_MAX_RTO_TIMEOUTS`).
const MAX_TIMEOUTS: u8 = 6;
/// Timeouts of a bare end that the remote does not acknowledge after it has ended, too: libudx forgets a stream as soon
/// as both sides have ended, and then its last acknowledgement may have got lost.
const MAX_END_TIMEOUTS: u8 = 2;
/// Timeouts of a large packet after which the path counts as too narrow for it.
const BLACK_HOLE_TIMEOUTS: u8 = 2;

/// Packets numbered further ahead do not change the window: a forged one could otherwise shut out all later updates.
const MAX_WINDOW_LEAD: u64 = 1 << 17;

/// Where loss recovery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recovery {
    Open,
    /// Losses are being repaired; over when everything up to here is acknowledged.
    Fast(u64),
    /// A retransmission timeout struck.
    Timeout(u64),
}

/// The state of RACK.
#[derive(Debug)]
pub(crate) struct Rack {
    /// Round trip time, transmission number and send time of the latest sent packet that was delivered.
    rtt: u64,
    latest: Option<(u64, u64)>,
    /// Highest number delivered, plus one.
    forward: u64,
    /// An acknowledgement that is full of SACK ranges says nothing about packets beyond the last of them: libudx reports
    /// the lowest fifty. They must not be taken for lost because packets that were repeated later have arrived.
    pub(crate) horizon: u64,
    reordering_seen: bool,
    /// How many quarters of the round trip time to wait: more after needless retransmissions.
    steps: u64,
    calm_rounds: u32,
    step_at: u64,
}

impl Rack {
    pub(crate) fn new(first: u64) -> Self {
        Self {
            rtt: 0,
            latest: None,
            forward: first,
            horizon: u64::MAX,
            reordering_seen: false,
            steps: 1,
            calm_rounds: 0,
            step_at: 0,
        }
    }
}

impl StreamState {
    /// Takes the acknowledgement and window of a packet with (wide) number `number`.
    pub(crate) fn take_acknowledgement(&mut self, packet: &Packet, number: u64) {
        let first = self.sent.first();
        let ack = seq::widen(packet.header.ack, first);
        if ack > self.sent.next() {
            return;
        }
        let plausible = number.abs_diff(self.recv.next()) <= MAX_WINDOW_LEAD;
        if ack >= first
            && plausible
            && (self.window_seq < number || (self.window_seq == number && self.window_ack <= ack))
        {
            self.remote_window = packet.header.window;
            self.window_seq = number;
            self.window_ack = ack;
            if self.remote_window > 0 {
                self.timers.window_probe = None;
            }
        }
        if self.sent.is_empty() {
            return;
        }
        if ack > first {
            self.advanced = true;
            let mut released = None;
            while self.sent.first() < ack
                && let Some((number, sent)) = self.sent.acknowledge_first()
            {
                released = Some(sent.offset + u64::from(sent.length));
                self.finished |= sent.end;
                if sent.state != State::Acked {
                    self.on_delivered(number, &sent);
                }
            }
            self.sent.forget_acknowledged();
            if let Some(offset) = released {
                self.send.release(offset);
            }
        }
        let (first, next) = (self.sent.first(), self.sent.next());
        let (mut ranges, mut last) = (0, first);
        for (start, end) in packet.sacks() {
            let (start, end) = (seq::widen(start, first), seq::widen(end, first));
            if start >= end || end > next || end <= first {
                continue;
            }
            (ranges, last) = (ranges + 1, last.max(end));
            // One small allocation where something new is reported; runs that are known cost a look-up.
            let mut delivered = Vec::new();
            self.sent.acknowledge_run(start.max(first), end, |number, sent| delivered.push((number, sent)));
            for (number, sent) in delivered {
                self.on_delivered(number, &sent);
            }
        }
        self.rack.horizon = match self.rack.horizon {
            _ if ranges < MAX_SACKS => u64::MAX,
            u64::MAX => last,
            before => before.max(last),
        };
        self.unsettled = true;
        if let Some(until) = self.changing
            && self.sent.first() >= until
        {
            self.changing = None;
            self.previous = None;
            self.events.push_back(Event::RemoteChanged);
        }
        if let Recovery::Fast(end) | Recovery::Timeout(end) = self.recovery
            && self.sent.first() >= end
        {
            self.recovery = Recovery::Open;
            self.congestion.on_recovered();
        }
        if self.finished && self.sent.is_empty() {
            self.events.push_back(Event::Finished);
        }
    }

    /// A packet, not known to have arrived before, has.
    fn on_delivered(&mut self, number: u64, sent: &Sent) {
        let now = self.clock.now();
        let same_path = sent.path == self.path_changes;
        if !same_path {
            // It says nothing about the path in use.
            return;
        }
        match sent.probe {
            None => self.mtu.on_delivered(),
            Some(size) => {
                let larger = self.mtu.on_probe_delivered(size);
                self.events.extend(larger.then_some(Event::MtuChanged(size)));
            }
        }
        self.delivery.on_delivered(&mut self.burst, sent.order, sent.time, sent.rate, sent.size() as u64);
        let rtt = self.rtt.clamp(now.saturating_sub(sent.time));
        if sent.transmits == 1 {
            self.rtt.sample(now, rtt);
            self.timers.tail_probe_permitted = true;
        } else if rtt < self.rtt.min() {
            // Answered faster than light: it was the first transmission that arrived, and repeating it was needless.
            self.on_needless_retransmission(now);
        }
        if sent.transmits == 1 || rtt >= self.rtt.min() {
            self.rack.rtt = rtt;
            self.burst.rtt = Some(self.burst.rtt.map_or(rtt, |least| least.min(rtt)));
            if self.rack.latest.is_none_or(|(order, _)| sent.order > order) {
                self.rack.latest = Some((sent.order, sent.time));
            }
        }
        if number >= self.rack.forward {
            self.rack.forward = number + 1;
        } else if sent.transmits == 1 {
            self.rack.reordering_seen = true;
        }
    }

    fn on_needless_retransmission(&mut self, now: u64) {
        self.rack.reordering_seen = true;
        self.rack.calm_rounds = 0;
        if now >= self.rack.step_at {
            self.rack.steps = (self.rack.steps + 1).min(MAX_REORDER_STEPS);
            self.rack.step_at = now + self.rtt.smoothed().unwrap_or(0);
        }
    }

    /// How long a packet may stay behind later ones before it counts as lost.
    fn reorder_window(&self) -> u64 {
        if !self.rack.reordering_seen
            && (self.recovery != Recovery::Open || self.sent.sacked_packets() >= DUPLICATE_THRESHOLD)
        {
            return 0;
        }
        (self.rtt.min() / 4 * self.rack.steps).min(self.rtt.smoothed().unwrap_or(0))
    }

    /// Draws the conclusions from a burst of acknowledgements. Done once per burst: packets that were only swapped on
    /// the way are not taken for lost, and the work is done once.
    pub(crate) fn settle(&mut self) {
        if !std::mem::take(&mut self.unsettled) || self.closed.is_some() {
            return;
        }
        let now = self.clock.now();
        let advanced = std::mem::take(&mut self.advanced);
        if self.burst.acked > 0 || advanced {
            if self.sent.is_empty() {
                self.timers.stop_loss();
                self.timers.keep_alive = self.keep_alive_at();
            } else {
                self.timers.retransmit = Some(now + self.rtt.timeout());
                self.detect_losses();
                if advanced {
                    self.schedule_tail_probe();
                }
            }
        }
        let burst = std::mem::take(&mut self.burst);
        let sample = self.delivery.finish(&burst, now, self.rtt.min());
        let acked = Acked {
            sample,
            acked: burst.acked,
            lost: burst.lost,
            lost_packets: burst.lost_packets,
            rtt: burst.rtt,
            in_flight: self.sent.in_flight_bytes() as u64,
            packet: self.packet_size(),
        };
        self.congestion.on_acked(now, &acked, &mut self.delivery, self.rtt.smoothed());
        if self.rack.steps > 1 && sample.is_some() && now >= self.rack.step_at {
            self.rack.step_at = now + self.rtt.smoothed().unwrap_or(0);
            self.rack.calm_rounds += 1;
            if self.rack.calm_rounds >= REORDER_PERSISTENCE {
                self.rack.calm_rounds = 0;
                self.rack.steps -= 1;
            }
        }
    }

    /// RACK: what was sent before something that has arrived, and long enough ago, is lost.
    pub(crate) fn detect_losses(&mut self) {
        self.timers.reorder = None;
        let Some((latest, latest_time)) = self.rack.latest else { return };
        let now = self.clock.now();
        let patience = self.rack.rtt + self.reorder_window();
        let (mut deadline, mut lost_data) = (None, false);
        // Losses of one event count once. Behind a horizon bandwidth is overestimated: there the bound has to hold.
        let blind = self.rack.horizon != u64::MAX;
        let counted_from = if blind { 0 } else { self.congestion.lowered_at() };
        let (burst, mtu) = (&mut self.burst, &mut self.mtu);
        self.sent.lose_oldest(self.rack.horizon, |sent| {
            if sent.time > latest_time || sent.order >= latest {
                return false;
            }
            let due = sent.time + patience;
            if due > now {
                deadline = Some(deadline.map_or(due, |deadline: u64| deadline.min(due)));
                return false;
            }
            match sent.probe {
                Some(size) => mtu.on_probe_lost(size),
                None => {
                    lost_data = true;
                    if sent.time >= counted_from {
                        burst.lost += sent.size() as u64;
                        burst.lost_packets += 1;
                    }
                }
            }
            true
        });
        self.timers.reorder = deadline;
        if lost_data && self.recovery == Recovery::Open {
            self.stats.fast_recoveries += 1;
            self.recovery = Recovery::Fast(self.sent.next());
            self.timers.tail_probe = None;
        }
    }

    /// The retransmission timer has fired.
    pub(crate) fn on_retransmission_timeout(&mut self) {
        let now = self.clock.now();
        let patience = self.rack.rtt + self.reorder_window();
        let first = self.sent.first();
        let remote_ended = self.recv.ended();
        // The second timeout in a row believes nothing any more.
        let again = self.sent.get(first).is_some_and(|sent| sent.timeouts > 0);
        let horizon = if again { u64::MAX } else { self.rack.horizon };
        let (mut gone, mut black_hole) = (None, None);
        let (burst, mtu) = (&mut self.burst, &mut self.mtu);
        let overhead = match self.path {
            Some(path) if path.remote.is_ipv6() => 48,
            _ => 28,
        };
        self.sent.lose_any(|number, sent| {
            if number != first && (sent.time + patience >= now || number >= horizon) {
                return false;
            }
            if sent.end && sent.length == 0 && remote_ended && sent.timeouts >= MAX_END_TIMEOUTS {
                gone = Some(CloseReason::Ended);
            } else if sent.timeouts >= MAX_TIMEOUTS {
                gone = Some(CloseReason::TimedOut);
            }
            sent.timeouts += 1;
            if sent.timeouts >= BLACK_HOLE_TIMEOUTS {
                black_hole = u16::try_from(sent.size() + overhead).ok();
            }
            match sent.probe {
                Some(size) => mtu.on_probe_lost(size),
                None => {
                    burst.lost += sent.size() as u64;
                    burst.lost_packets += 1;
                }
            }
            true
        });
        if let Some(size) = black_hole
            && self.mtu.on_black_hole(size)
        {
            self.events.push_back(Event::MtuChanged(self.mtu.mtu()));
        }
        if let Some(reason) = gone {
            if reason == CloseReason::Ended {
                self.events.push_back(Event::Finished);
            }
            self.close(reason);
            return;
        }
        self.stats.timeouts += 1;
        self.recovery = Recovery::Timeout(self.sent.next());
        self.timers.tail_probe = None;
        self.timers.reorder = None;
        self.timers.retransmit = Some(now + 2 * self.rtt.timeout());
        // What is lost is counted here; the next acknowledgement must not count it as its round trip's.
        self.burst = Burst::default();
        self.congestion.on_timeout(self.sent.in_flight_bytes() as u64, self.packet_size());
    }
}
