//! Locks, from the side of one client.

use futures::FutureExt;
use hyperspace_common::{Header, RpcError, RpcErrorExt, messages::LockRequest, text};

use super::{Done, Gone, Rpc, SessionCore};
use crate::{locks::Turn, session_table::WaitKind};

impl Rpc {
    pub(super) fn acquire_lock(&mut self, call: Header, request: LockRequest) -> Result<(), Gone> {
        let core = match self.core(request.id) {
            Ok(core) => core,
            Err(error) => {
                self.outbox.error(call, &error);
                return Ok(());
            }
        };
        // The turn is taken here and now, in the order of the requests.
        let mut turn = self.server.locks().take_turn(core.discovery_key(), self.client);
        let (server, client) = (self.server.clone(), self.client);
        if turn.has_come() && server.others_know(client) {
            self.drain_events()?;
            self.answer_locked(call, request.id, turn);
            return Ok(());
        }
        let work = async move {
            turn.come().await;
            // Whatever was appended under the lock is known to all clients before the next one gets it.
            server.others_are_told(client).await;
            Ok(Done::Lock(turn))
        };
        self.wait(call, WaitKind::Lock, request.id, None, work.boxed());
        Ok(())
    }

    /// The turn has come; it passes on at once when the core was closed meanwhile.
    pub(super) fn answer_locked(&mut self, call: Header, session: impl Into<Option<u64>>, turn: Turn) {
        match session.into().and_then(|session| self.table.session_mut(session)) {
            Some(session) if !matches!(session.core, SessionCore::Closed) => {
                session.lock = Some(turn);
                self.outbox.response(call, &());
            }
            _ => self.outbox.error(call, &RpcError::sentence(text::FEED_CLOSED)),
        }
    }

    pub(super) fn release_lock(&mut self, call: Header, request: LockRequest) -> Result<(), Gone> {
        match self.try_release_lock(request.id) {
            Ok(()) => self.outbox.response(call, &()),
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    fn try_release_lock(&self, session: u64) -> Result<(), RpcError> {
        let core = self.core(session)?;
        self.server.locks().release(&core.discovery_key(), self.client)
    }
}
