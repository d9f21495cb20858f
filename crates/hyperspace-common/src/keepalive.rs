//! When the system finds out that the machine at the other end of a TCP connection is gone: after two minutes.

use std::time::Duration;

/// After this long without a word the other machine is asked whether it is there.
pub const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// How long an answer is waited for before it is asked again.
pub const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
/// So many questions without an answer, and the connection has ended.
pub const KEEPALIVE_QUESTIONS: u32 = 4;
