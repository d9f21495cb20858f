//! The store behind a node's requests.

use std::time::{SystemTime, UNIX_EPOCH};

use super::store::{Answer, Store, StoreRequest};
use crate::messages::Command;
use crate::rpc::{NodeId, ReplyOptions, Request};

impl Store {
    /// Answers a request that came to the node with this id (none while it is ephemeral); false when it is not for the
    /// store. Never waits.
    pub fn serve(&mut self, node_id: Option<&NodeId>, request: &Request) -> bool {
        let Some(command) = Command::from_wire(request.command) else { return false };
        let asked = StoreRequest {
            from: request.from.addr,
            command,
            target: request.target,
            token: request.token,
            value: request.value.clone(),
        };
        let now = tokio::time::Instant::now().into_std();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ms = u64::try_from(unix.as_millis()).unwrap_or(u64::MAX);
        match self.handle(now, unix_ms, node_id, asked) {
            Answer::Value(value) => request.reply(value, ReplyOptions::default()),
            Answer::Done => request.reply(None, ReplyOptions::bare()),
            Answer::Error(code) => request.error(code, ReplyOptions::for_errors()),
            Answer::Ignore => {}
            Answer::NotMine => return false,
        }
        true
    }
}
