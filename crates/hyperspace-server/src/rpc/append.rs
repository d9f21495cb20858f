//! Appends: those that arrive together become one commit.

use std::ops::Range;

use bytes::Bytes;
use hypercore::{AppendOptions, Error, Hypercore};
use hyperspace_common::{Header, Method, RpcError, RpcErrorExt, messages::*, text};

use super::{Gone, Rpc, at_length};
use crate::{
    answer::{invalid_session, limit},
    mailbox::Event,
};

/// Appends that become one commit, in calls and in what they count for.
const APPENDS_AT_ONCE: usize = 1024;
const APPEND_BYTES_AT_ONCE: usize = 4 << 20;
/// Appends that count for this much take long enough to let another thread take over the other connections meanwhile.
const LARGE_APPEND: usize = 1 << 20;
/// What a block counts for besides its bytes: however small it is, it is hashed, and so is a parent, and both are stored.
const BLOCK_BYTES: usize = 512;
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
        let max = self.limits.max_append_blocks;
        if has_more_blocks(&self.burst[payload.clone()], max) {
            // Before they are decoded: a block of two bytes on the wire takes many times as much memory.
            let why = format!("at most {max} blocks are appended at once; append the rest in further calls");
            return self.refuse_append(call, &limit(why));
        }
        let Some(request) = self.request::<AppendRequest>(Method::HypercoreAppend, call, payload) else {
            return Ok(());
        };
        let counts_for =
            |sum: usize, block: &Bytes| sum.saturating_add(BLOCK_BYTES).saturating_add(block.len());
        let bytes = request.blocks.iter().fold(0, counts_for);
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
            if !core.writable() {
                return Err(Error::NotWritable(core.key()));
            }
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

/// Whether an `AppendRequest` has more blocks than this. What is wrong with the message otherwise is not told: whoever
/// decodes it comes no further than this did.
fn has_more_blocks(mut message: &[u8], limit: usize) -> bool {
    // A block takes two bytes at least.
    if message.len() / 2 <= limit {
        return false;
    }
    let mut blocks = 0;
    while let Some(key) = varint(&mut message) {
        let skip = match key & 7 {
            0 if varint(&mut message).is_none() => return false,
            1 => 8,
            2 => {
                let Some(length) = varint(&mut message) else { return false };
                length
            }
            5 => 4,
            6 | 7 => return false,
            // Groups have no length: what is in them is looked at like the rest.
            _ => 0,
        };
        if key == BLOCKS {
            blocks += 1;
            if blocks > limit {
                return true;
            }
        }
        let rest = usize::try_from(skip).ok().and_then(|skip| message.get(skip..));
        let Some(rest) = rest else { return false };
        message = rest;
    }
    false
}

/// Field 2, bytes.
const BLOCKS: u64 = 2 << 3 | 2;

fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for (at, byte) in message.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            *message = message.get(at + 1..)?;
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use hyperspace_common::Message;

    use super::*;

    fn message(blocks: &[&'static str]) -> Vec<u8> {
        let blocks = blocks.iter().map(|block| Bytes::from_static(block.as_bytes())).collect();
        AppendRequest { id: 300, blocks }.encode_to_vec()
    }

    #[test]
    fn blocks_are_counted_wherever_they_are() {
        for (blocks, count) in
            [(&[][..], 0), (&["a long block"], 1), (&["", "", ""], 3), (&["a", "", "bc", "d"], 4)]
        {
            let mut message = message(blocks);
            // Fields that nobody knows: a number, 4 bytes, 8 bytes, bytes that look like a block, a group with one.
            message.extend([0x18, 0x80, 1, 0x25, 1, 2, 3, 4, 0x29, 1, 2, 3, 4, 5, 6, 7, 8]);
            message.extend([0x32, 4, 0x12, 0, 0x12, 0, 0x3b, 0x12, 0, 0x3c]);
            for limit in 0..6 {
                assert_eq!(has_more_blocks(&message, limit), count + 1 > limit, "{blocks:?}, {limit}");
            }
        }
    }

    #[test]
    fn nothing_that_decodes_has_more_blocks_than_counted() {
        let whole = message(&["a", "", "bc", "", "d"]);
        for end in 0..whole.len() {
            for limit in 0..6 {
                let counted = has_more_blocks(&whole[..end], limit);
                let decoded = AppendRequest::decode(&whole[..end]);
                assert!(!counted || !decoded.is_ok_and(|request| request.blocks.len() <= limit));
            }
        }
        for wrong in [0x0e, 0x0f] {
            assert!(!has_more_blocks(&[wrong, 0x12, 0, 0x12, 0], 1));
        }
        assert!(!has_more_blocks(&[0x12, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1], 1));
        assert!(!has_more_blocks(&[0xff; 20], 1));
    }
}
