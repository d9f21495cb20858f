//! The calls that are under way, and who gets their answers.

use bytes::Bytes;
use futures::channel::oneshot;
use hyperspace_common::{
    DEFAULT_MAX_FRAME, FrameError, Header, Method, Outbox, Required, RpcError, RpcErrorExt, code, decode,
};

use crate::error::ClientError;

pub(crate) type Answer = Result<Bytes, ClientError>;
/// The answer to a call that was made, once it has come.
pub(crate) type Answered = oneshot::Receiver<Answer>;
/// What is called with an answer, and with where to put what is to be said in return.
pub(crate) type Told = Box<dyn FnOnce(Answer, &mut Outbox) + Send>;

/// Who gets the answer to a call.
pub(super) enum Caller {
    /// It waits, or has gone.
    Waits(oneshot::Sender<Answer>),
    /// It is told here and now. It must not use the connection, nor block.
    IsTold(Told),
}

/// The calls of one connection.
#[derive(Default)]
pub(super) struct Calls {
    /// Who waits for the answer to call `index + 1`.
    callers: Vec<Option<Caller>>,
    free: Vec<u32>,
    waiting: usize,
}

impl Caller {
    /// Hands the answer over.
    pub(super) fn answer(self, answer: Answer, outbox: &mut Outbox) {
        match self {
            Self::Waits(sender) => {
                // A caller that gave up has gone.
                let _ = sender.send(answer);
            }
            Self::IsTold(told) => told(answer, outbox),
        }
    }
}

impl Calls {
    /// How many were not answered yet.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// A number for a call, used again only after its answer has come: the daemon answers every call.
    pub(super) fn register(&mut self, caller: Caller) -> u64 {
        let index = match self.free.pop() {
            Some(index) => index as usize,
            None => {
                self.callers.push(None);
                self.callers.len() - 1
            }
        };
        if let Some(slot) = self.callers.get_mut(index) {
            *slot = Some(caller);
        }
        self.waiting += 1;
        index as u64 + 1
    }

    pub(super) fn take(&mut self, id: u64) -> Option<Caller> {
        let index = usize::try_from(id.checked_sub(1)?).ok()?;
        let caller = self.callers.get_mut(index)?.take()?;
        self.free.push(index as u32);
        self.waiting -= 1;
        Some(caller)
    }

    /// Nobody answers them any more.
    pub(super) fn fail(self, error: &ClientError) {
        // There is nobody either to whom to say anything.
        let mut outbox = Outbox::new();
        for caller in self.callers.into_iter().flatten() {
            caller.answer(Err(error.clone()), &mut outbox);
        }
    }
}

/// Reads an answer's payload.
pub(crate) fn decode_answer<R: Required>(payload: Bytes) -> Result<R, ClientError> {
    decode(payload).map_err(|error| malformed(&error))
}

/// Refuses what the daemon would, in its words: after a frame that is too large it ends the connection.
pub(crate) fn fits(method: Method, payload: usize) -> Result<(), ClientError> {
    if payload <= DEFAULT_MAX_FRAME {
        return Ok(());
    }
    let (header, length) = (Header::request(method, 0), payload as u64);
    let too_large = FrameError::TooLarge { header, length, limit: DEFAULT_MAX_FRAME };
    Err(ClientError::Rpc(RpcError::coded(code::LIMIT, too_large.to_string())))
}

pub(super) fn malformed(error: &impl std::fmt::Display) -> ClientError {
    ClientError::Protocol(error.to_string())
}
