//! The task that writes what callers left, reads what the daemon sends, and connects again.

use std::{
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::time::Instant;

use super::{Again, Connection, EventHandler, Halves, MAX_UNSENT, Phase, Shared};
use crate::error::ClientError;

/// The task that drives a connection.
pub(super) struct Driver {
    pub(super) shared: Arc<Shared>,
    pub(super) events: Arc<dyn EventHandler>,
    pub(super) has_ended: bool,
}

impl Driver {
    pub(super) async fn run(mut self, again: Option<Again>) {
        let mut error = poll_fn(|context| self.poll(context)).await;
        while let (ClientError::Disconnected(_), Some(again)) = (&error, &again) {
            self.shared.lost(&error);
            self.events.lost(&error);
            error = match self.connect_again(again).await {
                Ok(()) => poll_fn(|context| self.poll(context)).await,
                Err(given_up) => {
                    error = given_up;
                    break;
                }
            };
        }
        self.end(error);
    }

    /// Nobody serves the connection any more.
    fn end(&mut self, error: ClientError) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        self.shared.close(error);
        let error = self.shared.lock().why_closed();
        self.events.closed(&error);
        // Dropping the stream ends the connection: the daemon frees what this client held.
        self.shared.lock().writer = Box::new(tokio::io::sink());
        // Those who get the events may have connections themselves.
        *self.shared.receiver() = None;
    }

    /// Connects, again and again, until everything is as it was.
    async fn connect_again(&mut self, again: &Again) -> Result<(), ClientError> {
        let deadline = again.give_up.map(|after| Instant::now() + after);
        let mut pause = again.first;
        loop {
            let connected = tokio::select! {
                error = self.shared.until_closed() => return Err(error),
                connected = (again.connect)() => connected,
            };
            let error = match connected {
                Ok(halves) => match self.take_over(halves).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            if deadline.is_some_and(|deadline| Instant::now() + pause > deadline)
                || !matches!(error, ClientError::Disconnected(_) | ClientError::Connect { .. })
            {
                return Err(error);
            }
            tokio::select! {
                error = self.shared.until_closed() => return Err(error),
                () = tokio::time::sleep(pause) => {}
            }
            pause = pause.saturating_mul(2).min(again.longest);
        }
    }

    /// Goes on with another stream.
    async fn take_over(&mut self, halves: Halves) -> Result<(), ClientError> {
        if let Some(receiver) = self.shared.receiver().as_mut() {
            receiver.replace(halves.reader);
        }
        {
            let mut state = self.shared.lock();
            state.fault = None;
            state.writer = halves.writer;
            state.phase = Phase::Restoring;
        }
        let events = self.events.clone();
        let connection = Connection { shared: self.shared.clone(), restoring: true, _guard: None };
        let mut restored = events.restore(connection);
        let restored = poll_fn(|context| match self.poll(context) {
            Poll::Ready(error) => Poll::Ready(Err(error)),
            Poll::Pending => restored.as_mut().poll(context),
        });
        if let Err(error) = restored.await {
            self.shared.lost(&error);
            self.events.lost_again();
            return Err(error);
        }
        self.shared.lock().phase = Phase::Up;
        self.shared.changed.notify_waiters();
        events.restored();
        Ok(())
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<ClientError> {
        loop {
            {
                let mut state = self.shared.lock();
                if let Some(error) = state.closed.clone().or_else(|| state.fault.take()) {
                    return Poll::Ready(error);
                }
                let full = state.outbox.len() >= MAX_UNSENT;
                match state.poll_write(context) {
                    Poll::Ready(Err(error)) => return Poll::Ready(ClientError::io(&error)),
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
                if full && state.outbox.len() < MAX_UNSENT {
                    self.shared.changed.notify_waiters();
                }
                if !state.driver.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    state.driver = Some(context.waker().clone());
                }
            }
            let mut receiver = self.shared.receiver();
            let Some(receiver) = receiver.as_mut() else { return Poll::Ready(ClientError::Closed) };
            let answers = ready!(receiver.poll(context));
            if let Err(error) = answers.and_then(|answers| self.shared.hand_out(answers)) {
                return Poll::Ready(error);
            }
        }
    }
}

impl Drop for Driver {
    /// Before its time when its runtime ends: whoever uses the connection from another one must hear of it.
    fn drop(&mut self) {
        self.end(ClientError::Disconnected("the runtime that served it has ended".into()));
    }
}
