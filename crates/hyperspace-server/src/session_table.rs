//! What one client holds: its sessions, and its requests that are not answered yet. Plain state, no I/O.

use std::collections::{BTreeSet, HashMap, hash_map::Entry};

use futures::future::AbortHandle;
use hyperspace_common::Header;

/// Names a request that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct WaitId(u64);

/// What kind of request waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitKind {
    Get,
    Update,
    Seek,
    Download,
    Lock,
    Configure,
}

/// A request that waits, as it was asked.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Whom to answer.
    pub(crate) call: Header,
    pub(crate) kind: WaitKind,
    /// Of which session, if any.
    pub(crate) session: Option<u64>,
    /// What the client cancels it by.
    pub(crate) resource: Option<u64>,
    /// Ends the work.
    pub(crate) abort: AbortHandle,
}

/// A client's sessions with what belongs to each, and its waiting requests.
///
/// Dropping the table ends all of it: aborted work lets go of its core.
#[derive(Debug)]
pub(crate) struct SessionTable<S> {
    sessions: HashMap<u64, S>,
    waiting: HashMap<WaitId, Waiting>,
    /// By session: what a session ends with it must not cost what the client's others wait for.
    of_sessions: HashMap<u64, BTreeSet<WaitId>>,
    resources: HashMap<u64, WaitId>,
    next: u64,
}

impl<S> SessionTable<S> {
    pub(crate) fn new() -> Self {
        Self {
            sessions: HashMap::new(),
            waiting: HashMap::new(),
            of_sessions: HashMap::new(),
            resources: HashMap::new(),
            next: 0,
        }
    }

    pub(crate) fn session(&self, id: u64) -> Option<&S> {
        self.sessions.get(&id)
    }

    pub(crate) fn session_mut(&mut self, id: u64) -> Option<&mut S> {
        self.sessions.get_mut(&id)
    }

    pub(crate) fn session_count(&self) -> usize {
        self.sessions.len()
    }

    pub(crate) fn add_session(&mut self, id: u64, session: S) {
        self.sessions.insert(id, session);
    }

    /// Ends a session; returns it with its requests that still waited, oldest first.
    pub(crate) fn remove_session(&mut self, id: u64) -> Option<(S, Vec<Waiting>)> {
        let session = self.sessions.remove(&id)?;
        let ids = self.of_sessions.remove(&id).unwrap_or_default();
        let waiting = ids.into_iter().filter_map(|id| self.stop(id)).collect();
        Some((session, waiting))
    }

    /// Ends a session's requests of one kind; returns them, oldest first.
    pub(crate) fn stop_all(&mut self, session: u64, kind: WaitKind) -> Vec<Waiting> {
        let is_such = |id: &WaitId| self.waiting.get(id).is_some_and(|waiting| waiting.kind == kind);
        let ids = self.of_sessions.get(&session).into_iter().flatten().copied().filter(is_such);
        let ids: Vec<WaitId> = ids.collect();
        ids.into_iter().filter_map(|id| self.stop(id)).collect()
    }

    pub(crate) fn waiting_count(&self) -> usize {
        self.waiting.len()
    }

    /// Whether a resource's number is in use.
    pub(crate) fn has_resource(&self, resource: u64) -> bool {
        !self.resources.is_empty() && self.resources.contains_key(&resource)
    }

    /// Keeps a request that waits. `None` when its resource's number is in use.
    pub(crate) fn wait(&mut self, waiting: Waiting) -> Option<WaitId> {
        let id = WaitId(self.next);
        if let Some(resource) = waiting.resource {
            match self.resources.entry(resource) {
                Entry::Occupied(_) => return None,
                Entry::Vacant(slot) => slot.insert(id),
            };
        }
        self.next += 1;
        if let Some(session) = waiting.session {
            self.of_sessions.entry(session).or_default().insert(id);
        }
        self.waiting.insert(id, waiting);
        Some(id)
    }

    /// The request is done, or is not to be answered any more.
    pub(crate) fn finish(&mut self, id: WaitId) -> Option<Waiting> {
        let waiting = self.waiting.remove(&id)?;
        if let Some(resource) = waiting.resource {
            self.resources.remove(&resource);
        }
        if let Some(session) = waiting.session
            && let Entry::Occupied(mut ids) = self.of_sessions.entry(session)
        {
            ids.get_mut().remove(&id);
            if ids.get().is_empty() {
                ids.remove();
            }
        }
        Some(waiting)
    }

    /// Ends a request by its resource, when it is of this kind.
    pub(crate) fn cancel(&mut self, session: u64, resource: u64, kind: WaitKind) -> Option<Waiting> {
        let id = *self.resources.get(&resource)?;
        let waiting = self.waiting.get(&id)?;
        if waiting.session == Some(session) && waiting.kind == kind { self.stop(id) } else { None }
    }

    fn stop(&mut self, id: WaitId) -> Option<Waiting> {
        let waiting = self.finish(id)?;
        waiting.abort.abort();
        Some(waiting)
    }
}

impl<S> Drop for SessionTable<S> {
    fn drop(&mut self) {
        for waiting in self.waiting.values() {
            waiting.abort.abort();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyperspace_common::Method;

    fn waiting(session: u64, resource: Option<u64>, kind: WaitKind) -> Waiting {
        let call = Header::request(Method::HypercoreGet, 1);
        Waiting { call, kind, session: Some(session), resource, abort: AbortHandle::new_pair().0 }
    }

    #[test]
    fn cancelling_touches_only_what_it_names() {
        let mut table = SessionTable::new();
        table.add_session(0, ());
        table.add_session(1, ());
        let get = table.wait(waiting(0, Some(0), WaitKind::Get)).unwrap();
        table.wait(waiting(0, Some(1), WaitKind::Download)).unwrap();
        assert!(table.cancel(1, 0, WaitKind::Get).is_none(), "another session's");
        assert!(table.cancel(0, 1, WaitKind::Get).is_none(), "not a get");
        assert!(table.cancel(0, 7, WaitKind::Get).is_none(), "nobody's");
        let cancelled = table.cancel(0, 0, WaitKind::Get).unwrap();
        assert!(cancelled.abort.is_aborted());
        assert!(table.finish(get).is_none());
        assert_eq!(table.waiting_count(), 1);
        assert!(table.wait(waiting(0, Some(0), WaitKind::Get)).is_some(), "the number is free again");
    }

    #[test]
    fn a_resource_is_used_once_at_a_time() {
        let mut table: SessionTable<()> = SessionTable::new();
        table.wait(waiting(0, Some(5), WaitKind::Get)).unwrap();
        assert!(table.has_resource(5));
        assert!(table.wait(waiting(1, Some(5), WaitKind::Download)).is_none());
        assert!(table.wait(waiting(1, None, WaitKind::Update)).is_some());
    }

    #[test]
    fn closing_a_session_ends_its_requests_and_no_others() {
        let mut table = SessionTable::new();
        table.add_session(3, "three");
        table.add_session(4, "four");
        for i in 0..4 {
            table.wait(waiting(3 + i % 2, Some(i), WaitKind::Get)).unwrap();
        }
        let (session, ended) = table.remove_session(3).unwrap();
        assert_eq!((session, ended.len(), table.waiting_count()), ("three", 2, 2));
        assert_eq!(ended[0].resource, Some(0), "oldest first");
        assert!(ended.iter().all(|waiting| waiting.abort.is_aborted()));
        assert!(table.remove_session(3).is_none());
        let rest = table.resources.values().copied().collect::<Vec<_>>();
        assert!(rest.into_iter().all(|id| table.finish(id).is_some()));
        assert!(table.of_sessions.is_empty(), "what is done leaves nothing behind");
    }

    #[test]
    fn requests_of_one_kind_end_by_themselves() {
        let mut table: SessionTable<()> = SessionTable::new();
        for (session, kind) in
            [(3, WaitKind::Lock), (3, WaitKind::Get), (4, WaitKind::Lock), (3, WaitKind::Lock)]
        {
            table.wait(waiting(session, None, kind)).unwrap();
        }
        let ended = table.stop_all(3, WaitKind::Lock);
        assert_eq!((ended.len(), table.waiting_count()), (2, 2));
        assert!(ended.iter().all(|waiting| waiting.abort.is_aborted() && waiting.session == Some(3)));
        assert!(table.stop_all(3, WaitKind::Lock).is_empty() && table.stop_all(7, WaitKind::Lock).is_empty());
    }

    #[test]
    fn a_dead_client_leaves_nothing_running() {
        let mut table: SessionTable<()> = SessionTable::new();
        let get = waiting(0, Some(1), WaitKind::Get);
        let abort = get.abort.clone();
        table.wait(get).unwrap();
        drop(table);
        assert!(abort.is_aborted());
    }
}
