//! Settings of a replicator.

use std::time::Duration;

/// Settings of a [`Replicator`](crate::Replicator). The defaults are those of npm `hypercore` 11.37.1 where it has
/// such a setting.
#[derive(Debug, Clone)]
pub struct Options {
    /// Decides everything random, so that a run can be repeated.
    pub seed: u64,
    /// Follow the writer's length without being asked to.
    pub eager_upgrade: bool,
    /// Follow the writer to another fork.
    pub allow_fork: bool,
    /// Take blocks that were not asked for.
    pub allow_push: bool,
    /// Bytes of blocks that one peer may have under way to us.
    pub max_bytes_in_flight: u64,
    /// Requests of one peer that may wait for an answer. A JS peer has 512 at most; who sends more than this is
    /// closed.
    pub max_queued_requests: usize,
    /// How long a replicator still counts as downloading when nobody uses the log any more. JS lingers for 20 to
    /// 40 seconds.
    pub linger: Duration,
    /// How long a peer may take to say what it has before nobody waits for it.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            eager_upgrade: true,
            allow_fork: true,
            allow_push: false,
            max_bytes_in_flight: 8 << 20,
            max_queued_requests: 4_096,
            linger: Duration::from_secs(20),
            patience: Duration::from_secs(5),
        }
    }
}
