//! Finding out that the other side is gone without having said so.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Instant, Sleep, sleep};

/// How often the other side is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// So many questions without an answer, and it is gone. Not fewer: a question waits behind megabytes that are on their
/// way already, and a thin line takes its time for them.
const MAX_UNANSWERED: u32 = 4;

/// What is to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Beat {
    /// Ask, and say with [`Heartbeat::asked`] that it was done.
    Ask,
    /// Nobody is there any more.
    Gone,
}

/// The clock of questions.
#[derive(Debug)]
pub(crate) struct Heartbeat {
    timer: Pin<Box<Sleep>>,
    unanswered: u32,
}

impl Heartbeat {
    pub(crate) fn new() -> Self {
        Self { timer: Box::pin(sleep(PING_EVERY)), unanswered: 0 }
    }

    /// Something came.
    pub(crate) fn heard(&mut self) {
        self.unanswered = 0;
    }

    /// Call it when nothing is to be read.
    pub(crate) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Beat> {
        if self.timer.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        self.timer.as_mut().reset(Instant::now() + PING_EVERY);
        Poll::Ready(if self.unanswered >= MAX_UNANSWERED { Beat::Gone } else { Beat::Ask })
    }

    /// The question is on its way.
    pub(crate) fn asked(&mut self) {
        self.unanswered += 1;
    }

    /// How long nothing has come, at least, when it is said that nobody is there.
    pub(crate) fn patience() -> Duration {
        PING_EVERY * MAX_UNANSWERED
    }
}
