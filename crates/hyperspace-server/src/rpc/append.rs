//! Appends: those that arrive together become one commit.

use std::ops::Range;

use bytes::Bytes;
use hypercore::{AppendOptions, Hypercore};
use hyperspace_common::{Header, Method, RpcError, RpcErrorExt, messages::*, text};

use super::{Gone, Rpc, at_length};
use crate::{answer::invalid_session, mailbox::Event};

/// Appends that become one commit, in calls and in bytes.
const APPENDS_AT_ONCE: usize = 1024;
const APPEND_BYTES_AT_ONCE: usize = 4 << 20;
/// Appends of this size take long enough to let another thread take over the other connections meanwhile.
const LARGE_APPEND: usize = 1 << 20;
/// The largest block, inclusive (npm `hypercore` 9.12.0, `_append`).
const MAX_BLOCK: usize = 8 << 20;

/// Appends to one core that arrived together.
pub(super) struct AppendGroup {
    session: u64,
    calls: Vec<Header>,
    blocks: Vec<Vec<Bytes>>,
    bytes: usize,
}

impl Rpc {
    /// Gathers appends; [`Rpc::flush_appends`] makes them one commit.
    pub(super) fn append(&mut self, call: Header, payload: Range<usize>) -> Result<(), Gone> {
        let Some(request) = self.request::<AppendRequest>(Method::HypercoreAppend, call, payload) else {
            return Ok(());
        };
        let bytes: usize = request.blocks.iter().map(Bytes::len).sum();
        let group_ends = |group: &AppendGroup| {
            group.session != request.id
                || group.calls.len() >= APPENDS_AT_ONCE
                || group.bytes.saturating_add(bytes) > APPEND_BYTES_AT_ONCE
        };
        if self.appends.as_ref().is_some_and(group_ends) {
            self.flush_appends()?;
        }
        if self.table.session(request.id).is_none() {
            return self.refuse_append(call, &invalid_session(request.id));
        }
        if request.blocks.is_empty() {
            return self.append_nothing(call, request.id);
        }
        if request.blocks.iter().any(|block| block.len() > MAX_BLOCK) {
            return self.refuse_append(call, &RpcError::sentence(text::BLOCK_TOO_LARGE));
        }
        let new = || AppendGroup { session: request.id, calls: Vec::new(), blocks: Vec::new(), bytes: 0 };
        let group = self.appends.get_or_insert_with(new);
        group.calls.push(call);
        group.blocks.push(request.blocks);
        group.bytes = group.bytes.saturating_add(bytes);
        Ok(())
    }

    /// After the appends before it.
    fn refuse_append(&mut self, call: Header, why: &RpcError) -> Result<(), Gone> {
        self.flush_appends()?;
        self.outbox.error(call, why);
        Ok(())
    }

    /// One append call, one event, also when it appends nothing (npm `hypercore` 9.12.0). The event tells a length, so it
    /// has its place among the others: it is in no group, whose events all go before the answers.
    fn append_nothing(&mut self, call: Header, session: u64) -> Result<(), Gone> {
        self.flush_appends()?;
        let appended = self.with_core(session, |core| {
            core.append_with(&[], &AppendOptions::default())?;
            // Others tell of what they append with the core locked: nothing older comes after this.
            let guard = core.lock();
            let (length, byte_length) = (guard.core().length(), guard.core().byte_length());
            self.mailbox.push(Event::Append { session, length, byte_length });
            Ok(AppendResponse { length, byte_length, seq: length })
        });
        match appended {
            Ok(response) => {
                self.drain_events()?;
                self.outbox.response(call, &response);
            }
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    /// Commits the appends that were gathered, and answers each: first all events, then the answers.
    pub(super) fn flush_appends(&mut self) -> Result<(), Gone> {
        let Some(group) = self.appends.take() else { return Ok(()) };
        let append = |core: &Hypercore| {
            let append = || core.append_group(&group.blocks);
            if group.bytes >= LARGE_APPEND { at_length(append) } else { append() }
        };
        match self.with_core(group.session, append) {
            Ok(appended) => {
                self.drain_events()?;
                for ((call, blocks), appended) in group.calls.into_iter().zip(&group.blocks).zip(appended) {
                    let response = AppendResponse {
                        length: appended.length,
                        byte_length: appended.byte_length,
                        seq: appended.length.saturating_sub(blocks.len() as u64),
                    };
                    self.outbox.response(call, &response);
                }
            }
            Err(error) => {
                for call in group.calls {
                    self.outbox.error(call, &error);
                }
            }
        }
        Ok(())
    }
}
