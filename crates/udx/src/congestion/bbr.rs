//! BBR congestion control: sends at the bandwidth that the path was seen to deliver, and keeps about one
//! bandwidth-delay product under way, whatever gets lost by chance.
//!
//! The model (windowed maximum of the delivery rate, windowed minimum of the round trip time), its four phases and the
//! gains are version 1's, which libudx has (`udx_bbr.c`, after Linux). What version 1 lacks is taken from version 3: a
//! round trip in which much got lost bounds the amount under way and ends the start-up phase, so that a short queue is
//! not overrun again and again; and the probe for the round trip time halves the window instead of closing it.
//! Bytes and microseconds throughout.

use crate::congestion::rate::{Delivery, Sample};
use crate::filter::Windowed;

/// 2 / ln 2: what doubles the rate every round trip.
const HIGH_GAIN: f64 = 2.885_39;
const CWND_GAIN: f64 = 2.0;
/// Pacing gains of the phases in which the bandwidth is probed, each about one round trip long.
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
/// Pace a little below the estimate, so that queues drain.
const PACING_MARGIN: f64 = 0.99;
/// Round trips that a bandwidth sample counts.
const BANDWIDTH_ROUNDS: u64 = 10;
/// The start-up phase ends when the bandwidth grew by less than this for so many round trips.
const FULL_BANDWIDTH_GROWTH: f64 = 1.25;
const FULL_BANDWIDTH_ROUNDS: u32 = 3;
/// How old the least round trip time may get before it is probed for, and how long that lasts.
const MIN_RTT_AGE: u64 = 10_000_000;
const PROBE_RTT_TIME: u64 = 200_000;
const PROBE_RTT_GAIN: f64 = 0.5;
/// Timers tick in milliseconds, and so do the peers' answers: no path is taken for shorter.
const LEAST_RTT: u64 = 1_000;
/// Windows in packets.
const INITIAL_WINDOW: u64 = 10;
const MIN_WINDOW: u64 = 4;
/// A round trip in which more than this part got lost, and at least so many packets, was too much for the path. Loss
/// by chance stays below it.
const LOSS_THRESHOLD: f64 = 0.05;
const LOSS_PACKETS: u32 = 6;
/// How much of what was under way then is kept.
const LOSS_BETA: f64 = 0.8;
/// A lowered bound is put to the test again no earlier: each test costs what it overruns, and where round trips are short
/// (somebody on the same machine whose socket buffer overflows) there would be many.
const BOUND_HOLD: u64 = 100_000;
/// Aggregated acknowledgements are made up for by at most so much time's worth of bytes, over so many round trips.
const EXTRA_ACKED_TIME: f64 = 100_000.0;
const EXTRA_ACKED_ROUNDS: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Startup,
    Drain,
    ProbeBandwidth,
    ProbeRtt,
}

/// What a burst of acknowledgements tells.
#[derive(Debug)]
pub(crate) struct Acked {
    pub(crate) sample: Option<Sample>,
    /// Bytes newly delivered and lost.
    pub(crate) acked: u64,
    pub(crate) lost: u64,
    pub(crate) lost_packets: u32,
    pub(crate) rtt: Option<u64>,
    /// Bytes under way after it.
    pub(crate) in_flight: u64,
    /// Size of a full packet.
    pub(crate) packet: u64,
}

#[derive(Debug)]
pub(crate) struct Bbr {
    phase: Phase,
    /// Bytes that may be under way.
    window: u64,
    /// The window before a timeout or a probe took it away.
    prior_window: u64,
    /// Bytes per microsecond.
    pacing_rate: f64,
    pacing_gain: f64,
    window_gain: f64,
    bandwidth: Windowed<f64>,
    min_rtt: Option<u64>,
    min_rtt_at: u64,
    rounds: u64,
    round_start: bool,
    /// The round trip ends with a packet sent after so much was delivered.
    round_end: u64,
    full_bandwidth: f64,
    full_bandwidth_rounds: u32,
    /// The start-up phase has found the bandwidth.
    filled: bool,
    cycle: usize,
    cycle_at: u64,
    probe_rtt_until: Option<u64>,
    probe_rtt_round: bool,
    idle_restart: bool,
    seen_rtt: bool,
    aggregation: Aggregation,
    bound: Bound,
}

/// How far acknowledgements run ahead of the estimated bandwidth: without an allowance for it, a path that gathers them
/// would run dry in between.
#[derive(Debug, Default)]
struct Aggregation {
    epoch_at: u64,
    epoch_acked: u64,
    extra: [u64; 2],
    index: usize,
    rounds: u32,
}

/// A bound of what may be under way, from rounds in which much got lost.
#[derive(Debug)]
struct Bound {
    limit: u64,
    /// This round's figures.
    delivered: u64,
    lost: u64,
    lost_packets: u32,
    most_in_flight: u64,
    /// Rounds without much loss in a row: the bound rises ever faster.
    clean_rounds: u32,
    /// When it was lowered last: what was sent before belongs to the same event.
    lowered_at: u64,
}

impl Bbr {
    pub(crate) fn new(now: u64, packet: u64, seed: u32) -> Self {
        let window = INITIAL_WINDOW * packet;
        Self {
            phase: Phase::Startup,
            window,
            prior_window: 0,
            pacing_rate: window as f64 * HIGH_GAIN / LEAST_RTT as f64,
            pacing_gain: HIGH_GAIN,
            window_gain: HIGH_GAIN,
            bandwidth: Windowed::new(0, 0.0),
            min_rtt: None,
            min_rtt_at: now,
            rounds: 0,
            round_start: false,
            round_end: 0,
            full_bandwidth: 0.0,
            full_bandwidth_rounds: 0,
            filled: false,
            // Streams that start together should not probe together.
            cycle: 2 + (seed % 6) as usize,
            cycle_at: 0,
            probe_rtt_until: None,
            probe_rtt_round: false,
            idle_restart: false,
            seen_rtt: false,
            aggregation: Aggregation { epoch_at: now, ..Aggregation::default() },
            bound: Bound {
                limit: u64::MAX,
                delivered: 0,
                lost: 0,
                lost_packets: 0,
                most_in_flight: 0,
                clean_rounds: 0,
                lowered_at: 0,
            },
        }
    }

    /// Bytes that may be under way.
    pub(crate) fn window(&self) -> u64 {
        self.window
    }

    /// Losses of packets that were sent before this time have had their effect.
    pub(crate) fn lowered_at(&self) -> u64 {
        self.bound.lowered_at
    }

    /// Bytes per microsecond.
    pub(crate) fn pacing_rate(&self) -> f64 {
        self.pacing_rate
    }

    /// Bytes per microsecond that the path was seen to deliver.
    pub(crate) fn bandwidth(&self) -> f64 {
        self.bandwidth.get()
    }

    /// The first packet after silence goes.
    pub(crate) fn on_transmit_start(&mut self, now: u64, delivery: &Delivery) {
        if !delivery.is_app_limited() {
            return;
        }
        self.idle_restart = true;
        self.aggregation.epoch_at = now;
        self.aggregation.epoch_acked = 0;
        match self.phase {
            Phase::ProbeBandwidth => self.set_pacing_rate(1.0),
            Phase::ProbeRtt => self.end_probe_rtt(now),
            Phase::Startup | Phase::Drain => {}
        }
    }

    /// A retransmission timeout: begin again from what is still under way.
    pub(crate) fn on_timeout(&mut self, in_flight: u64, packet: u64) {
        self.save_window();
        self.window = (in_flight + packet).max(MIN_WINDOW * packet).min(self.window);
        self.full_bandwidth = 0.0;
        self.round_start = true;
    }

    /// Losses are repaired: go back to the window of before.
    pub(crate) fn on_recovered(&mut self) {
        if self.phase != Phase::ProbeRtt {
            self.window = self.window.max(self.prior_window).min(self.bound.limit);
            self.prior_window = 0;
        }
    }

    pub(crate) fn on_acked(
        &mut self,
        now: u64,
        acked: &Acked,
        delivery: &mut Delivery,
        smoothed_rtt: Option<u64>,
    ) {
        self.update_bandwidth(acked, delivery);
        self.update_aggregation(acked, delivery);
        self.update_cycle(acked, delivery);
        self.update_bound(now, acked);
        self.check_filled(acked);
        self.check_drain(acked, delivery);
        self.update_min_rtt(now, acked, delivery);
        (self.pacing_gain, self.window_gain) = match self.phase {
            Phase::Startup => (HIGH_GAIN, HIGH_GAIN),
            Phase::Drain => (1.0 / HIGH_GAIN, HIGH_GAIN),
            Phase::ProbeBandwidth => (CYCLE[self.cycle % CYCLE.len()], CWND_GAIN),
            Phase::ProbeRtt => (1.0, 1.0),
        };
        if !self.seen_rtt
            && let Some(rtt) = smoothed_rtt
        {
            self.seen_rtt = true;
            self.pacing_rate = self.window as f64 * HIGH_GAIN * PACING_MARGIN / rtt.max(LEAST_RTT) as f64;
        }
        self.set_pacing_rate(self.pacing_gain);
        self.set_window(acked, delivery);
    }

    /// Bytes that `gain` times the estimated path holds.
    fn bdp(&self, gain: f64) -> Option<u64> {
        let rtt = self.min_rtt?.max(LEAST_RTT);
        Some((self.bandwidth.get() * rtt as f64 * gain) as u64)
    }

    fn set_pacing_rate(&mut self, gain: f64) {
        let rate = (self.bandwidth.get() * gain * PACING_MARGIN).max(1e-3);
        if self.filled || rate > self.pacing_rate {
            self.pacing_rate = rate;
        }
    }

    fn save_window(&mut self) {
        self.prior_window = self.prior_window.max(self.window);
    }

    fn update_bandwidth(&mut self, acked: &Acked, delivery: &Delivery) {
        self.round_start = false;
        let Some(sample) = acked.sample else { return };
        if sample.prior_delivered >= self.round_end {
            self.round_end = delivery.delivered();
            self.rounds += 1;
            self.round_start = true;
        }
        let rate = sample.delivered as f64 / sample.interval as f64;
        if !sample.app_limited || rate >= self.bandwidth.get() {
            self.bandwidth.update(BANDWIDTH_ROUNDS, self.rounds, rate, |a, b| a >= b);
        }
    }

    fn update_aggregation(&mut self, acked: &Acked, delivery: &Delivery) {
        if acked.sample.is_none() || acked.acked == 0 {
            return;
        }
        let state = &mut self.aggregation;
        if self.round_start {
            state.rounds += 1;
            if state.rounds >= EXTRA_ACKED_ROUNDS {
                state.rounds = 0;
                state.index ^= 1;
                state.extra[state.index & 1] = 0;
            }
        }
        let elapsed = delivery.delivered_at().saturating_sub(state.epoch_at);
        let mut expected = (self.bandwidth.get() * elapsed as f64) as u64;
        if state.epoch_acked <= expected {
            state.epoch_acked = 0;
            state.epoch_at = delivery.delivered_at();
            expected = 0;
        }
        state.epoch_acked += acked.acked;
        let extra = state.epoch_acked.saturating_sub(expected).min(self.window);
        let slot = &mut state.extra[state.index & 1];
        *slot = (*slot).max(extra);
    }

    fn update_cycle(&mut self, acked: &Acked, delivery: &Delivery) {
        if self.phase != Phase::ProbeBandwidth {
            return;
        }
        let elapsed = delivery.delivered_at().saturating_sub(self.cycle_at);
        let full_length = elapsed > self.min_rtt.unwrap_or(0);
        let in_flight = acked.in_flight;
        let next = match CYCLE[self.cycle % CYCLE.len()] {
            gain if gain > 1.0 => {
                full_length
                    && (acked.lost > 0
                        || in_flight + acked.acked >= self.bdp(gain).unwrap_or(0).min(self.bound.limit))
            }
            gain if gain < 1.0 => full_length || in_flight <= self.bdp(1.0).unwrap_or(u64::MAX),
            _ => full_length,
        };
        if next {
            self.advance_cycle(delivery);
        }
    }

    fn advance_cycle(&mut self, delivery: &Delivery) {
        self.cycle = (self.cycle + 1) % CYCLE.len();
        self.cycle_at = delivery.delivered_at();
    }

    /// Counts losses per round trip; a bad one lowers the bound, good ones raise it again.
    fn update_bound(&mut self, now: u64, acked: &Acked) {
        let bound = &mut self.bound;
        bound.delivered += acked.acked;
        bound.lost += acked.lost;
        bound.lost_packets += acked.lost_packets;
        bound.most_in_flight = bound.most_in_flight.max(acked.in_flight + acked.acked + acked.lost);
        if !self.round_start {
            return;
        }
        let sent = (bound.delivered + bound.lost).max(1);
        let bad = bound.lost_packets >= LOSS_PACKETS && bound.lost as f64 > sent as f64 * LOSS_THRESHOLD;
        if bad {
            let kept = (bound.most_in_flight as f64 * LOSS_BETA) as u64;
            // What came through in a round trip fits.
            bound.limit = bound.limit.min(kept.max(bound.delivered).max(MIN_WINDOW * acked.packet));
            bound.clean_rounds = 0;
            bound.lowered_at = now;
            if self.phase == Phase::Startup {
                self.filled = true;
            }
        } else if bound.limit != u64::MAX
            && now >= bound.lowered_at + BOUND_HOLD
            && bound.most_in_flight + 2 * acked.packet >= bound.limit
        {
            // Only rounds that used it up say something about the bound.
            bound.clean_rounds = (bound.clean_rounds + 1).min(10);
            bound.limit = bound.limit.saturating_add(acked.packet << bound.clean_rounds.saturating_sub(1));
        }
        bound.delivered = 0;
        bound.lost = 0;
        bound.lost_packets = 0;
        bound.most_in_flight = 0;
    }

    fn check_filled(&mut self, acked: &Acked) {
        if self.filled || !self.round_start || acked.sample.is_none_or(|sample| sample.app_limited) {
            return;
        }
        if self.bandwidth.get() >= self.full_bandwidth * FULL_BANDWIDTH_GROWTH {
            self.full_bandwidth = self.bandwidth.get();
            self.full_bandwidth_rounds = 0;
            return;
        }
        self.full_bandwidth_rounds += 1;
        self.filled = self.full_bandwidth_rounds >= FULL_BANDWIDTH_ROUNDS;
    }

    fn check_drain(&mut self, acked: &Acked, delivery: &Delivery) {
        if self.phase == Phase::Startup && self.filled {
            self.phase = Phase::Drain;
        }
        if self.phase == Phase::Drain && acked.in_flight <= self.bdp(1.0).unwrap_or(u64::MAX) {
            self.enter_probe_bandwidth(delivery.delivered_at());
        }
    }

    fn enter_probe_bandwidth(&mut self, at: u64) {
        self.phase = Phase::ProbeBandwidth;
        if CYCLE[self.cycle % CYCLE.len()] != 1.0 {
            self.cycle = 2;
        }
        self.cycle_at = at;
    }

    fn update_min_rtt(&mut self, now: u64, acked: &Acked, delivery: &mut Delivery) {
        let expired = now > self.min_rtt_at.saturating_add(MIN_RTT_AGE);
        if let Some(rtt) = acked.rtt
            && (expired || self.min_rtt.is_none_or(|min| rtt <= min))
        {
            self.min_rtt = Some(rtt);
            self.min_rtt_at = now;
        }
        if expired && !self.idle_restart && self.phase != Phase::ProbeRtt {
            self.save_window();
            self.phase = Phase::ProbeRtt;
            self.probe_rtt_until = None;
        }
        if self.phase == Phase::ProbeRtt {
            delivery.limit_by_app(acked.in_flight);
            match self.probe_rtt_until {
                None if acked.in_flight <= self.probe_rtt_window(acked.packet) => {
                    self.probe_rtt_until = Some(now + PROBE_RTT_TIME);
                    self.probe_rtt_round = false;
                    self.round_end = delivery.delivered();
                }
                None => {}
                Some(_) => {
                    self.probe_rtt_round |= self.round_start;
                    if self.probe_rtt_round {
                        self.end_probe_rtt(now);
                    }
                }
            }
        }
        if acked.sample.is_some_and(|sample| sample.delivered > 0) {
            self.idle_restart = false;
        }
    }

    fn probe_rtt_window(&self, packet: u64) -> u64 {
        self.bdp(PROBE_RTT_GAIN).unwrap_or(0).max(MIN_WINDOW * packet)
    }

    fn end_probe_rtt(&mut self, now: u64) {
        if self.probe_rtt_until.is_none_or(|until| now <= until) {
            return;
        }
        self.min_rtt_at = now;
        self.window = self.window.max(self.prior_window);
        self.prior_window = 0;
        if self.filled {
            self.enter_probe_bandwidth(now);
        } else {
            self.phase = Phase::Startup;
        }
    }

    fn set_window(&mut self, acked: &Acked, delivery: &Delivery) {
        let initial = INITIAL_WINDOW * acked.packet;
        if acked.acked > 0 {
            let mut target = self.bdp(self.window_gain).unwrap_or(initial);
            if self.filled {
                let most = (self.bandwidth.get() * EXTRA_ACKED_TIME) as u64;
                target += self.aggregation.extra[0].max(self.aggregation.extra[1]).min(most);
                self.window = (self.window + acked.acked).min(target);
            } else if self.window < target || delivery.delivered() < initial {
                self.window += acked.acked;
            }
            self.window = self.window.min(self.bound.limit).max(MIN_WINDOW * acked.packet);
        }
        if self.phase == Phase::ProbeRtt {
            self.window = self.window.min(self.probe_rtt_window(acked.packet));
        }
    }
}
