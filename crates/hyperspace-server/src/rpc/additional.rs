//! The services of our own: what today's Hypercore can do, and the cores that are stored.

use bytes::Bytes;
use corestore::{CoreSummary, Corestore, Query};
use hypercore::{DiscoveryKey, Error, Hypercore, TruncateOptions, storage::StorageError};
use hyperspace_common::{Header, RpcError, RpcErrorExt, code, messages::*, text};
use tracing::warn;

use super::{Gone, Rpc, Session, SessionCore, methods::parse_key};
use crate::{
    answer::{core_error, limit},
    mailbox::{Told, wire_peer},
    network::own_core,
};

/// Entries of one page.
const PAGE: usize = 256;
/// The longest name of a value beside a core, and the largest value.
const MAX_NAME: usize = 1024;
const MAX_VALUE: usize = 1 << 20;
/// How deep namespaces may lie in one another.
const MAX_DEPTH: usize = 16;

impl Rpc {
    pub(super) fn open_core(&mut self, call: Header, request: OpenCoreRequest) -> Result<(), Gone> {
        let (core, holder) = match self.try_open_core(&request) {
            Ok(opened) => opened,
            Err(error) => {
                self.outbox.error(call, &error);
                return Ok(());
            }
        };
        // As with Corestore.Open: from the state in the answer on, every change is told.
        self.drain_events()?;
        let sink = self.sinks.session(request.weak(), Told::Full);
        let (events, info, peers) = core.subscribe_with_state(request.id, sink);
        let response = OpenCoreResponse {
            key: Bytes::copy_from_slice(info.key.as_bytes()),
            discovery_key: Bytes::copy_from_slice(info.discovery_key.as_bytes()),
            state: state(&info),
            peers: peers.iter().map(|peer| wire_peer(peer)).collect(),
        };
        self.outbox.response(call, &response);
        self.table.add_session(request.id, Session::new(holder, Some(events)));
        Ok(())
    }

    fn try_open_core(&mut self, request: &OpenCoreRequest) -> Result<(Hypercore, SessionCore), RpcError> {
        self.check_new_session(request.id)?;
        let key = request.key.as_deref().map(parse_key).transpose()?;
        let discovery_key = request.discovery_key.as_deref().map(parse_discovery_key).transpose()?;
        let name = request.name.as_deref().filter(|name| !name.is_empty());
        let query = match (key, discovery_key, name) {
            (Some(key), _, _) => Query::key(key),
            (None, Some(discovery_key), _) => Query::discovery_key(discovery_key),
            (None, None, Some(name)) => Query::name(name),
            (None, None, None) if !request.create() => return Err(invalid("say which core is to be opened")),
            (None, None, None) => Query::fresh(),
        };
        let query = query.create_if_missing(request.create()).writable(!request.read_only());
        let opened = self.server.open(&self.in_namespace(&request.namespace)?, query, request.weak())?;
        self.topics.opened(&opened.0);
        Ok(opened)
    }

    fn in_namespace(&self, namespace: &[Bytes]) -> Result<Corestore, RpcError> {
        if namespace.len() > MAX_DEPTH || namespace.iter().any(|part| part.len() > MAX_NAME) {
            let bounds = format!("namespaces lie at most {MAX_DEPTH} deep and have at most {MAX_NAME} bytes");
            return Err(limit(bounds));
        }
        if namespace.first().is_some_and(|first| *first == crate::server::OWN_NAMESPACE) {
            return Err(invalid("this namespace is the daemon's own"));
        }
        let store = self.server.store().clone();
        Ok(namespace.iter().fold(store, |store, part| store.namespace(part)))
    }

    pub(super) fn log_state(&mut self, call: Header, request: LogRequest) -> Result<(), Gone> {
        match self.core(request.id) {
            Ok(core) => self.outbox.response(call, &state(&core.info())),
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    pub(super) fn truncate(&mut self, call: Header, request: TruncateRequest) -> Result<(), Gone> {
        let options = TruncateOptions { fork: request.fork, ..TruncateOptions::default() };
        let cut = self.with_core(request.id, |core| {
            core.truncate_with(request.length, &options)?;
            Ok(core.info())
        });
        match cut {
            Ok(info) => {
                self.drain_events()?;
                self.outbox.response(call, &state(&info));
            }
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    pub(super) fn clear(&mut self, call: Header, request: ClearRequest) -> Result<(), Gone> {
        let cleared = self.with_core(request.id, |core| {
            let range = request.start..request.end.min(core.length());
            if range.is_empty() { Ok(0) } else { core.clear(range) }
        });
        match cleared {
            Ok(blocks) => self.outbox.response(call, &ClearResponse { blocks }),
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    pub(super) fn manifest(&mut self, call: Header, request: LogRequest) -> Result<(), Gone> {
        let response = self.core(request.id).map(|core| match core.manifest() {
            None => ManifestResponse::default(),
            Some(manifest) => ManifestResponse {
                version: Some(manifest.version),
                quorum: Some(manifest.quorum),
                signers: manifest
                    .signers
                    .iter()
                    .map(|signer| Bytes::copy_from_slice(&signer.public_key))
                    .collect(),
                manifest: Some(manifest.encode()),
            },
        });
        match response {
            Ok(response) => self.outbox.response(call, &response),
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    pub(super) fn snapshot(&mut self, call: Header, request: SnapshotRequest) -> Result<(), Gone> {
        let snapshot = match self.check_new_session(request.snapshot_id) {
            Ok(()) => self.with_core(request.id, Hypercore::snapshot),
            Err(error) => Err(error),
        };
        match snapshot {
            Ok(snapshot) => {
                self.outbox.response(call, &state(&snapshot.info()));
                // A snapshot does not change: there is nothing to be told.
                let session = Session::new(SessionCore::Strong(snapshot), None);
                self.table.add_session(request.snapshot_id, session);
            }
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    pub(super) fn user_data(&mut self, call: Header, request: UserDataRequest) -> Result<(), Gone> {
        match self.with_core(request.id, |core| core.user_data(&request.name)) {
            Ok(value) => self.outbox.response(call, &UserDataResponse { value }),
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    pub(super) fn set_user_data(&mut self, call: Header, request: SetUserDataRequest) -> Result<(), Gone> {
        let value = request.value.as_deref();
        let stored = if request.name.len() > MAX_NAME || value.is_some_and(|value| value.len() > MAX_VALUE) {
            Err(limit(format!("a name has at most {MAX_NAME} bytes and a value {MAX_VALUE}")))
        } else {
            self.with_core(request.id, |core| core.set_user_data(&request.name, value))
        };
        match stored {
            Ok(()) => self.outbox.response(call, &()),
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    pub(super) fn list(&mut self, call: Header, request: ListRequest) -> Result<(), Gone> {
        match self.try_list(&request) {
            Ok(response) => self.outbox.response(call, &response),
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    fn try_list(&self, request: &ListRequest) -> Result<ListResponse, RpcError> {
        let after = request.after.as_deref().map(parse_discovery_key).transpose()?;
        let (store, limit) = (self.server.store(), page(request.limit));
        let own = own_core(store);
        let mut response = ListResponse { cores: Vec::new(), more: false };
        for discovery_key in store.list_after(after) {
            if response.cores.len() == limit {
                response.more = true;
                break;
            }
            let discovery_key = discovery_key.map_err(|error| core_error(&error.into()))?;
            if discovery_key == own {
                continue;
            }
            match store.summary(&discovery_key) {
                Ok(Some(core)) => response.cores.push(entry(&core)),
                // One that is being made is in the next list.
                Ok(None) => {}
                // The others are to be seen all the same.
                Err(Error::Storage(StorageError::Corrupt { record, reason })) => {
                    warn!(%discovery_key, record, reason, "a core is not listed: its records are damaged");
                }
                Err(error) => return Err(core_error(&error)),
            }
        }
        Ok(response)
    }

    pub(super) fn names(&mut self, call: Header, request: NamesRequest) -> Result<(), Gone> {
        match self.try_names(&request) {
            Ok(response) => self.outbox.response(call, &response),
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    fn try_names(&self, request: &NamesRequest) -> Result<NamesResponse, RpcError> {
        let store = self.in_namespace(&request.namespace)?;
        let limit = page(request.limit);
        let mut response = NamesResponse { cores: Vec::new(), more: false };
        for named in store.names_after(request.after.as_deref()) {
            if response.cores.len() == limit {
                response.more = true;
                break;
            }
            let (alias, discovery_key) = named.map_err(|error| core_error(&error.into()))?;
            let discovery_key = Bytes::copy_from_slice(discovery_key.as_bytes());
            response.cores.push(NamedCore { name: alias.name, discovery_key });
        }
        Ok(response)
    }

    /// A session with this number may be started.
    pub(super) fn check_new_session(&self, id: u64) -> Result<(), RpcError> {
        if self.table.session(id).is_some() {
            return Err(RpcError::sentence(text::SESSION_IN_USE));
        }
        if self.table.session_count() >= self.limits.max_sessions {
            let max = self.limits.max_sessions;
            return Err(limit(format!("this client has {max} cores open; close some")));
        }
        Ok(())
    }
}

fn page(limit: Option<u32>) -> usize {
    limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(PAGE).clamp(1, PAGE)
}

fn state(info: &hypercore::Info) -> LogState {
    LogState {
        length: info.length,
        byte_length: info.byte_length,
        contiguous_length: info.contiguous_length,
        fork: info.fork,
        tree_hash: Bytes::copy_from_slice(&info.tree_hash),
        writable: info.writable,
        frozen: info.frozen,
        remote_contiguous_length: Some(info.remote_contiguous_length),
    }
}

fn entry(core: &CoreSummary) -> CoreEntry {
    CoreEntry {
        discovery_key: Bytes::copy_from_slice(core.discovery_key.as_bytes()),
        key: Bytes::copy_from_slice(core.key.as_bytes()),
        length: core.length,
        byte_length: core.byte_length,
        contiguous_length: core.contiguous_length,
        fork: core.fork,
        writable: core.writable,
        open: core.open,
        peers: core.peers as u64,
    }
}

fn parse_discovery_key(bytes: &[u8]) -> Result<DiscoveryKey, RpcError> {
    DiscoveryKey::try_from(bytes).map_err(|_| invalid(text::INVALID_DISCOVERY_KEY))
}

fn invalid(what: &str) -> RpcError {
    RpcError::coded(code::INVALID, what)
}
