//! Futures that wait for a want to come true, and take it back when they are dropped.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::FutureExt;

use super::shared::{Shared, State};
use crate::demand::{DemandId, Outcome, Reply, Want, WantOptions};
use crate::error::Error;

/// A want that is waited for.
#[derive(Debug)]
pub(crate) struct Waiting {
    shared: Arc<Shared>,
    id: Option<DemandId>,
    reply: Reply,
}

impl Waiting {
    /// Adds a want. The caller wakes the replicator when it has let go of the lock.
    pub(crate) fn add(
        shared: &Arc<Shared>,
        state: &mut State,
        session: u64,
        want: Want,
        options: WantOptions,
    ) -> Result<Self, Error> {
        let (id, reply) = state.demand.add_for(session, want, options)?;
        Ok(Self { shared: shared.clone(), id: Some(id), reply })
    }
}

impl Future for Waiting {
    type Output = Result<Outcome, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let reply = futures::ready!(self.reply.poll_unpin(context));
        self.id = None;
        Poll::Ready(reply.unwrap_or(Err(Error::Cancelled)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let Some(id) = self.id.take() else { return };
        let cancelled = self.shared.lock().state().demand.cancel(id);
        if cancelled {
            self.shared.wake_replicator();
        }
    }
}
