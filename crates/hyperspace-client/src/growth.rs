//! Questions for a longer core, shared by all who wait for their answers.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};

use crate::{connection::Answered, error::ClientError};

/// A question that all share who wait for its answer.
pub(crate) type Growth = Shared<BoxFuture<'static, Result<(), ClientError>>>;

/// The questions of a session that are under way, by the length they ask for. They cannot be taken back: one for all who
/// wait is enough, however often they come and go. It is another one for each length, as a core that was cut is shorter than
/// what an older one asks for.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    under_way: Mutex<BTreeMap<u64, Growth>>,
}

impl Questions {
    /// The question for this length; if it is not under way, it is asked.
    pub(crate) fn at(&self, length: u64, ask: impl FnOnce() -> Result<Answered, ClientError>) -> Growth {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, asked| asked.clone().now_or_never().is_none());
        let question = under_way.entry(length).or_insert_with(|| {
            let asked = ask();
            let answer = async move { asked?.await.unwrap_or(Err(ClientError::Closed)).map(|_| ()) };
            answer.boxed().shared()
        });
        question.clone()
    }
}
