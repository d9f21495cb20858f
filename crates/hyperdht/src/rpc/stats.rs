//! What a node counts.

/// Counters of a node since it started, and what it holds at the moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Requests that wait for their answer (or their turn).
    pub requests_active: usize,
    /// Requests made.
    pub requests: u64,
    /// Answers that came.
    pub responses: u64,
    /// Requests that were given up.
    pub timeouts: u64,
    /// Requests sent again.
    pub retries: u64,
    /// Queries under way.
    pub queries_active: usize,
    /// Queries started.
    pub queries: u64,
    /// Nodes in the routing table.
    pub nodes: usize,
    /// Requests of others that were taken in.
    pub received: u64,
    /// Requests of others that were dropped because they came too fast.
    pub limited: u64,
    /// Datagrams that looked like messages and were none, and replies nobody waits for.
    pub strays: u64,
    /// Requests of others that nobody took in time.
    pub overflowed: u64,
}
