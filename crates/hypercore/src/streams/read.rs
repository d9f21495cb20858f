//! Reading blocks one after the other, forwards or backwards, waiting for peers where needed.

use std::collections::VecDeque;
use std::ops::{Bound, RangeBounds};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt, Stream};

use crate::demand::DownloadRange;
use crate::error::Error;
use crate::session::{Download, Hypercore, UpdateOptions};

/// Blocks taken out of storage at once.
const READ_AHEAD: usize = 64;
/// Bytes taken out of storage at once, about.
const READ_AHEAD_BYTES: u64 = 512 * 1024;
/// Blocks that peers are asked for ahead of the reader.
const DOWNLOAD_AHEAD: u64 = 256;

/// What to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadOptions {
    /// First block.
    pub start: u64,
    /// One past the last block; the length at the beginning unless given.
    pub end: Option<u64>,
    /// Go on with what is appended later; `end` is then ignored.
    pub live: bool,
    /// From the end to the start. Cannot be live.
    pub reverse: bool,
    /// Ask peers for the newest length before reading to the end of the log.
    pub update: bool,
}

impl ReadOptions {
    /// Read this range. An open end is the length at the beginning.
    pub fn of(range: impl RangeBounds<u64>) -> Self {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => Some(end.saturating_add(1)),
            Bound::Excluded(end) => Some(*end),
            Bound::Unbounded => None,
        };
        Self { start, end, ..Self::default() }
    }
}

/// A stream of blocks.
pub struct ReadStream {
    log: Hypercore,
    options: ReadOptions,
    /// The block that is next; going backwards, one past it.
    at: u64,
    end: u64,
    ready: VecDeque<Bytes>,
    state: State,
    ahead: Option<Download>,
    asked_to: u64,
}

enum State {
    Updating(BoxFuture<'static, Result<bool, Error>>),
    Reading,
    Waiting(BoxFuture<'static, Result<Bytes, Error>>),
    Done,
}

impl Hypercore {
    /// Reads a range of blocks in order, waiting for peers where needed. An open end is the length as it is now.
    pub fn read_stream(&self, range: impl RangeBounds<u64>) -> ReadStream {
        self.read_stream_with(ReadOptions::of(range))
    }

    /// Reads blocks, with options.
    pub fn read_stream_with(&self, options: ReadOptions) -> ReadStream {
        ReadStream::new(self.clone(), options)
    }
}

impl ReadStream {
    fn new(log: Hypercore, options: ReadOptions) -> Self {
        let updating = options.update && options.end.is_none();
        let state = if updating {
            let log = log.clone();
            State::Updating(async move { log.update_with(UpdateOptions::default()).await }.boxed())
        } else {
            State::Reading
        };
        let mut stream =
            Self { log, options, at: 0, end: 0, ready: VecDeque::new(), state, ahead: None, asked_to: 0 };
        stream.set_end();
        stream
    }

    fn set_end(&mut self) {
        let end = if self.options.live && !self.options.reverse { None } else { self.options.end };
        let length = self.log.length();
        self.end = match end {
            Some(end) => end,
            None if self.options.live && !self.options.reverse => u64::MAX,
            None => length,
        };
        self.at = if self.options.reverse { self.end } else { self.options.start };
    }

    fn next_index(&self) -> Option<u64> {
        if self.options.reverse {
            self.at.checked_sub(1).filter(|index| *index >= self.options.start)
        } else {
            (self.at < self.end).then_some(self.at)
        }
    }

    fn step(&mut self, blocks: u64) {
        self.at = if self.options.reverse { self.at - blocks } else { self.at + blocks };
    }

    fn take_from_storage(&mut self, index: u64) -> Result<(), Error> {
        if self.options.reverse {
            self.ready.extend(self.log.try_get(index)?);
            return Ok(());
        }
        let limit = (self.end - index).min(READ_AHEAD as u64) as usize;
        self.ready.extend(self.log.try_get_run(index, limit, READ_AHEAD_BYTES)?);
        Ok(())
    }

    /// Asks peers for what comes next, so that the reader does not wait a round trip for each block.
    fn ask_ahead(&mut self, index: u64) -> Result<(), Error> {
        if self.options.reverse || index < self.asked_to {
            return Ok(());
        }
        self.asked_to =
            index.saturating_add(DOWNLOAD_AHEAD).min(self.end).min(self.log.length().max(index + 1));
        self.ahead = Some(self.log.download(DownloadRange::new(index, self.asked_to).linear())?);
        Ok(())
    }
}

impl Stream for ReadStream {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(block) = this.ready.pop_front() {
                return Poll::Ready(Some(Ok(block)));
            }
            let result = match &mut this.state {
                State::Done => return Poll::Ready(None),
                State::Updating(update) => match futures::ready!(update.poll_unpin(context)) {
                    Ok(_) => {
                        this.state = State::Reading;
                        this.set_end();
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                State::Waiting(get) => match futures::ready!(get.poll_unpin(context)) {
                    Ok(block) => {
                        this.state = State::Reading;
                        this.ready.push_back(block);
                        this.step(1);
                        Ok(())
                    }
                    Err(error) => Err(error),
                },
                State::Reading => this.read_on(),
            };
            if let Err(error) = result {
                this.state = State::Done;
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

impl ReadStream {
    fn read_on(&mut self) -> Result<(), Error> {
        let Some(index) = self.next_index() else {
            self.state = State::Done;
            self.ahead = None;
            return Ok(());
        };
        self.take_from_storage(index)?;
        match self.ready.len() as u64 {
            0 => {
                self.ask_ahead(index)?;
                let log = self.log.clone();
                self.state = State::Waiting(async move { log.get(index).await }.boxed());
            }
            blocks => self.step(blocks),
        }
        Ok(())
    }
}

impl std::fmt::Debug for ReadStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadStream")
            .field("options", &self.options)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_any_kind_says_what_to_read() {
        let bounds = |ReadOptions { start, end, .. }| (start, end);
        assert_eq!(ReadOptions::of(..), ReadOptions::default());
        assert_eq!(bounds(ReadOptions::of(3..)), (3, None));
        assert_eq!(bounds(ReadOptions::of(3..7)), (3, Some(7)));
        assert_eq!(bounds(ReadOptions::of(..7)), (0, Some(7)));
        assert_eq!(bounds(ReadOptions::of(3..=7)), (3, Some(8)));
        assert_eq!(bounds(ReadOptions::of((Bound::Excluded(3), Bound::Unbounded))), (4, None));
        // There is no block behind these.
        assert_eq!(bounds(ReadOptions::of(..=u64::MAX)), (0, Some(u64::MAX)));
        assert_eq!(bounds(ReadOptions::of((Bound::Excluded(u64::MAX), Bound::Unbounded))), (u64::MAX, None));
    }
}
