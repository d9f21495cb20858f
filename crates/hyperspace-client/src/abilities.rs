//! What today's Hypercore can do, by services that only this project's daemon has.

use std::ops::Range;

use bytes::Bytes;
use hypercore::Manifest;
use hyperspace_common::{Method, messages::*};

use crate::{
    ClientError, RemoteHypercore,
    connection::decode_answer,
    sessions::{Identity, Kind, Opened},
};

/// A core as the daemon has it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoreState {
    /// Blocks.
    pub length: u64,
    /// Bytes in all blocks together.
    pub byte_length: u64,
    /// All blocks below this one are stored by the daemon.
    pub contiguous_length: u64,
    /// The longest contiguous length that a peer has shown.
    pub remote_contiguous_length: u64,
    /// How often history was rewritten.
    pub fork: u64,
    /// Hash over the whole tree.
    pub tree_hash: [u8; 32],
    /// Whether this session can append.
    pub writable: bool,
    /// Two histories were signed for one length: nothing is accepted any more.
    pub frozen: bool,
}

impl RemoteHypercore {
    /// The core as the daemon has it now.
    pub async fn core_state(&self) -> Result<CoreState, ClientError> {
        self.need_additional().await?;
        let state: LogState = self.connection().ask(Method::LogState, &self.request()).await?;
        CoreState::read(&state)
    }

    /// Cuts the core to `length` blocks and moves it to another fork: the next, unless one is given.
    pub async fn truncate(&self, length: u64, fork: Option<u64>) -> Result<CoreState, ClientError> {
        self.need_additional().await?;
        let request = TruncateRequest { id: self.state().id, length, fork };
        let state: LogState = self.connection().call(Method::LogTruncate, &request).await?;
        CoreState::read(&state)
    }

    /// Removes the blocks of a range from the daemon's storage. Returns how many were there.
    pub async fn clear(&self, range: Range<u64>) -> Result<u64, ClientError> {
        self.need_additional().await?;
        let request = ClearRequest { id: self.state().id, start: range.start, end: range.end };
        let response: ClearResponse = self.connection().call(Method::LogClear, &request).await?;
        Ok(response.blocks)
    }

    /// All blocks below this one are stored by the daemon.
    pub async fn contiguous_length(&self) -> Result<u64, ClientError> {
        Ok(self.core_state().await?.contiguous_length)
    }

    /// Who may sign, as far as the daemon knows.
    pub async fn manifest(&self) -> Result<Option<Manifest>, ClientError> {
        self.need_additional().await?;
        let response: ManifestResponse = self.connection().ask(Method::LogManifest, &self.request()).await?;
        let decode = |bytes: Bytes| {
            Manifest::decode(bytes)
                .map_err(|error| ClientError::Protocol(format!("a manifest that is none: {error}")))
        };
        response.manifest.map(decode).transpose()
    }

    /// A session that stays at the present length while the core grows. It ends with the connection.
    pub async fn snapshot(&self) -> Result<RemoteHypercore, ClientError> {
        self.need_additional().await?;
        let state = self.sessions().create(Kind::Snapshot);
        // Dropping it closes the session, also while the answer is still due.
        let snapshot = self.sibling(state.clone());
        let request = SnapshotRequest { id: self.state().id, snapshot_id: state.id };
        let asking = self.connection().call_raw(|outbox, id| {
            state.opening();
            outbox.request(Method::LogSnapshot, id, &request);
        });
        let response: LogState = decode_answer(asking.await?)?;
        state.opened(Opened {
            identity: Identity {
                key: self.key(),
                discovery_key: self.discovery_key(),
                writable: response.writable,
            },
            length: response.length,
            byte_length: response.byte_length,
            fork: response.fork,
            peers: Vec::new(),
        })?;
        Ok(snapshot)
    }

    /// A named value that the daemon keeps beside the core. It is not replicated.
    pub async fn user_data(&self, name: impl Into<String>) -> Result<Option<Bytes>, ClientError> {
        self.need_additional().await?;
        let request = UserDataRequest { id: self.state().id, name: name.into() };
        let response: UserDataResponse = self.connection().ask(Method::LogUserData, &request).await?;
        Ok(response.value)
    }

    /// Has the daemon keep, or remove, a named value beside the core.
    pub async fn set_user_data(
        &self,
        name: impl Into<String>,
        value: Option<Bytes>,
    ) -> Result<(), ClientError> {
        self.need_additional().await?;
        let request = SetUserDataRequest { id: self.state().id, name: name.into(), value };
        self.connection().call_void(Method::LogSetUserData, &request).await
    }

    async fn need_additional(&self) -> Result<(), ClientError> {
        self.sessions().need_additional(self.connection()).await
    }

    fn request(&self) -> LogRequest {
        LogRequest { id: self.state().id }
    }
}

impl CoreState {
    fn read(state: &LogState) -> Result<Self, ClientError> {
        let tree_hash = state.tree_hash[..]
            .try_into()
            .map_err(|_| ClientError::Protocol("a tree hash that has not 32 bytes".into()))?;
        Ok(Self {
            length: state.length,
            byte_length: state.byte_length,
            contiguous_length: state.contiguous_length,
            remote_contiguous_length: state.remote_contiguous_length.unwrap_or_default(),
            fork: state.fork,
            tree_hash,
            writable: state.writable,
            frozen: state.frozen,
        })
    }
}
