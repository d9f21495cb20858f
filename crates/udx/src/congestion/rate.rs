//! Delivery rate sampling (draft-cheng-iccrg-delivery-rate-estimation, libudx `udx_rate.c`), in bytes and microseconds.

/// How much has been delivered, and when.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Bytes delivered so far.
    delivered: u64,
    delivered_at: u64,
    /// When the most recently delivered packet was sent: the send interval of the next sample starts there.
    first_sent_at: u64,
    /// Until so much is delivered, samples show what the application gave, not what the path takes. Zero: not limited.
    app_limited_until: u64,
}

/// What a packet remembers of the time it was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Snapshot {
    delivered: u64,
    delivered_at: u64,
    first_sent_at: u64,
    app_limited: bool,
}

/// What a burst of acknowledgements told so far.
#[derive(Debug, Default)]
pub(crate) struct Burst {
    /// Bytes newly delivered and newly lost.
    pub(crate) acked: u64,
    pub(crate) lost: u64,
    pub(crate) lost_packets: u32,
    /// Latest round trip time.
    pub(crate) rtt: Option<u64>,
    /// The latest sent of the packets delivered: its transmission number, snapshot, and send interval.
    latest: Option<(u64, Snapshot, u64)>,
}

/// A rate: so many bytes in so many microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) delivered: u64,
    pub(crate) interval: u64,
    /// Bytes that had been delivered when the packet was sent that this sample is from: tells round trips apart.
    pub(crate) prior_delivered: u64,
    pub(crate) app_limited: bool,
}

impl Delivery {
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    pub(crate) fn delivered_at(&self) -> u64 {
        self.delivered_at
    }

    pub(crate) fn is_app_limited(&self) -> bool {
        self.app_limited_until != 0
    }

    /// The application has nothing to send although it might.
    pub(crate) fn limit_by_app(&mut self, in_flight: u64) {
        self.app_limited_until = (self.delivered + in_flight).max(1);
    }

    /// `idle`: nothing was under way.
    pub(crate) fn on_sent(&mut self, now: u64, idle: bool) -> Snapshot {
        if idle {
            self.first_sent_at = now;
            self.delivered_at = now;
        }
        Snapshot {
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent_at: self.first_sent_at,
            app_limited: self.is_app_limited(),
        }
    }

    /// Packet number `order` of all transmissions, sent at `sent_at`, has arrived.
    pub(crate) fn on_delivered(
        &mut self,
        burst: &mut Burst,
        order: u64,
        sent_at: u64,
        snapshot: Snapshot,
        bytes: u64,
    ) {
        self.delivered += bytes;
        burst.acked += bytes;
        if burst.latest.is_none_or(|(latest, ..)| order > latest) {
            self.first_sent_at = sent_at;
            burst.latest = Some((order, snapshot, sent_at.saturating_sub(snapshot.first_sent_at)));
        }
    }

    /// Ends a burst. No sample if nothing was delivered, or faster than light.
    pub(crate) fn finish(&mut self, burst: &Burst, now: u64, min_rtt: u64) -> Option<Sample> {
        if self.app_limited_until != 0 && self.delivered > self.app_limited_until {
            self.app_limited_until = 0;
        }
        if burst.acked > 0 {
            self.delivered_at = now;
        }
        let (_, prior, send_interval) = burst.latest?;
        let interval = send_interval.max(now.saturating_sub(prior.delivered_at));
        (interval >= min_rtt.max(1)).then_some(Sample {
            delivered: self.delivered - prior.delivered,
            interval,
            prior_delivered: prior.delivered,
            app_limited: prior.app_limited,
        })
    }
}
