//! Downloading ranges: a handle that waits, and that cancels when it is dropped.

use std::future::IntoFuture;

use futures::future::BoxFuture;

use super::waiting::Waiting;
use crate::error::Error;

/// A download that goes on as long as this handle lives.
#[derive(Debug)]
#[must_use = "the download is cancelled when this handle is dropped"]
pub struct Download {
    waiting: Option<Waiting>,
    result: Option<Result<(), Error>>,
}

impl Download {
    pub(crate) fn complete() -> Self {
        Self { waiting: None, result: Some(Ok(())) }
    }

    pub(crate) fn waiting(waiting: Waiting) -> Self {
        Self { waiting: Some(waiting), result: None }
    }

    /// Waits until every block of the range is here. A live range never is. May be dropped and called again.
    pub async fn done(&mut self) -> Result<(), Error> {
        if let Some(waiting) = &mut self.waiting {
            let result = waiting.await.map(|_| ());
            self.waiting = None;
            self.result = Some(result);
        }
        self.result.clone().unwrap_or(Err(Error::Cancelled))
    }

    /// Stops downloading.
    pub fn destroy(self) {}
}

impl IntoFuture for Download {
    type Output = Result<(), Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(mut self) -> Self::IntoFuture {
        Box::pin(async move { self.done().await })
    }
}
