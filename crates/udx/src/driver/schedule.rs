//! What the task of a socket has to do, and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Instant;

use super::core::StreamCore;

/// Streams that want a turn now, and streams that want one at a time. One entry each per stream.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waker: Option<Waker>,
    /// The task is in its poll: it looks again before it sleeps, so nobody needs to wake it.
    running: bool,
    again: bool,
    ended: bool,
    ready: Vec<Arc<StreamCore>>,
    blocked: Vec<Arc<StreamCore>>,
    timers: BTreeMap<(Instant, u32), Arc<StreamCore>>,
    sleeps_until: Option<Instant>,
}

impl Schedule {
    /// Has the task look at everything again, soon.
    pub(super) fn wake(&self) {
        let waker = self.state().wake();
        wake(waker);
    }

    /// Gives `stream` a turn soon. False if there is no task any more.
    pub(super) fn ready(&self, stream: &Arc<StreamCore>) -> bool {
        let mut state = self.state();
        if state.ended {
            return false;
        }
        state.ready.push(Arc::clone(stream));
        let waker = state.wake();
        drop(state);
        wake(waker);
        true
    }

    /// Gives `stream` a turn when the kernel takes more. False if there is no task any more.
    pub(super) fn blocked(&self, stream: &Arc<StreamCore>) -> bool {
        let mut state = self.state();
        if state.ended {
            return false;
        }
        state.blocked.push(Arc::clone(stream));
        // It may have taken more since the stream looked.
        let waker = state.wake();
        drop(state);
        wake(waker);
        true
    }

    /// The kernel takes more.
    pub(super) fn unblock(&self) {
        let mut state = self.state();
        let State { ready, blocked, .. } = &mut *state;
        ready.append(blocked);
    }

    /// Gives `stream` a turn at `at` instead of at `before`.
    pub(super) fn arm(&self, stream: &Arc<StreamCore>, before: Option<Instant>, at: Instant) {
        let mut state = self.state();
        if state.ended {
            return;
        }
        if let Some(before) = before {
            state.timers.remove(&(before, stream.local_id));
        }
        state.timers.insert((at, stream.local_id), Arc::clone(stream));
        if !state.running && state.sleeps_until.is_none_or(|until| at < until) {
            let waker = state.wake();
            drop(state);
            wake(waker);
        }
    }

    /// Forgets the timer of a stream that goes elsewhere.
    pub(super) fn disarm(&self, stream: &StreamCore, at: Instant) {
        self.state().timers.remove(&(at, stream.local_id));
    }

    /// Called by the task before it looks at anything.
    pub(super) fn begin(&self, cx: &Context<'_>) {
        let mut state = self.state();
        state.running = true;
        state.again = false;
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
    }

    /// Moves the streams that want a turn to `into`; the second is true for those whose time has come.
    pub(super) fn take(&self, now: Instant, into: &mut Vec<(Arc<StreamCore>, bool)>) {
        let mut state = self.state();
        into.extend(state.ready.drain(..).map(|stream| (stream, false)));
        while let Some(entry) = state.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            into.push((entry.remove(), true));
        }
    }

    /// Called by the task before it sleeps: until when, or `Err` if there is something to do already.
    pub(super) fn end(&self) -> Result<Option<Instant>, ()> {
        let mut state = self.state();
        state.running = false;
        state.sleeps_until = state.timers.first_key_value().map(|((at, _), _)| *at);
        if state.again || !state.ready.is_empty() { Err(()) } else { Ok(state.sleeps_until) }
    }

    /// The task is gone: who still waited for it.
    pub(super) fn close(&self) -> Vec<Arc<StreamCore>> {
        let mut state = self.state();
        state.ended = true;
        state.waker = None;
        let mut left = std::mem::take(&mut state.ready);
        left.append(&mut state.blocked);
        left.extend(std::mem::take(&mut state.timers).into_values());
        left
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The waker to call once the lock is free; the last reference to a task may die with its waker.
    fn wake(&mut self) -> Option<Waker> {
        if std::mem::replace(&mut self.again, true) || self.running {
            return None;
        }
        self.waker.clone()
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
