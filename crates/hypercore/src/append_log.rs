//! What a local log and a log that lives in another process can both do.
//!
//! Structures on top of a log (a key-value tree, a file system) take a `dyn AppendLog`, so that they run in the
//! process that holds the storage as well as in a client of it.

use std::fmt::Debug;
use std::ops::Range;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use crate::demand::DownloadRange;
use crate::error::Error;
use crate::events::StreamedEvent;
use crate::key::{DiscoveryKey, Key};
use crate::session::{GetOptions, Hypercore, UpdateOptions};

/// A log, near or far.
///
/// ```
/// use hypercore::{AppendLog, Error, Hypercore};
///
/// async fn last(log: &dyn AppendLog) -> Result<Option<bytes::Bytes>, Error> {
///     match log.length() {
///         0 => Ok(None),
///         length => Ok(Some(log.get(length - 1).await?)),
///     }
/// }
///
/// # futures::executor::block_on(async {
/// let log = Hypercore::memory()?;
/// AppendLog::append(&log, vec!["a".into(), "b".into()]).await?;
/// assert_eq!(last(&log).await?.unwrap(), "b");
/// # Ok::<(), Error>(()) }).unwrap();
/// ```
pub trait AppendLog: Debug + Send + Sync {
    /// The key; whoever knows it may read.
    fn key(&self) -> Key;

    /// Hash of the key, under which peers find one another.
    fn discovery_key(&self) -> DiscoveryKey;

    /// Blocks, as far as is known here.
    fn length(&self) -> u64;

    /// Bytes in all blocks together, as far as is known here.
    fn byte_length(&self) -> u64;

    /// How often history was rewritten, as far as is known here.
    fn fork(&self) -> u64;

    /// Whether blocks can be appended.
    fn writable(&self) -> bool;

    /// A block; waits for a peer that has it.
    fn get(&self, index: u64) -> BoxFuture<'_, Result<Bytes, Error>> {
        let block = self.get_with(index, GetOptions::default());
        async move { block.await?.ok_or(Error::NotAvailable(index)) }.boxed()
    }

    /// A block, with options. `None` when it is not here and must not be waited for.
    fn get_with(&self, index: u64, options: GetOptions) -> BoxFuture<'_, Result<Option<Bytes>, Error>>;

    /// Whether a block is here.
    fn has(&self, index: u64) -> BoxFuture<'_, Result<bool, Error>>;

    /// Appends blocks, all or none. Returns the new length.
    fn append(&self, blocks: Vec<Bytes>) -> BoxFuture<'_, Result<u64, Error>>;

    /// Asks peers whether the log became longer. True when it did.
    fn update(&self, options: UpdateOptions) -> BoxFuture<'_, Result<bool, Error>>;

    /// The block that holds a byte offset, and the offset in it.
    fn seek(&self, bytes: u64) -> BoxFuture<'_, Result<(u64, u64), Error>>;

    /// Downloads a range. Dropping the future cancels it.
    fn download(&self, range: DownloadRange) -> BoxFuture<'_, Result<(), Error>>;

    /// Cuts the log and moves it to the next fork.
    fn truncate(&self, length: u64) -> BoxFuture<'_, Result<(), Error>>;

    /// Removes the blocks of a range from storage.
    fn clear(&self, range: Range<u64>) -> BoxFuture<'_, Result<(), Error>>;

    /// What happens to the log. Ends when it closes.
    fn events(&self) -> BoxStream<'static, StreamedEvent>;

    /// Ends this session of the log.
    fn close(&self) -> BoxFuture<'_, Result<(), Error>>;
}

impl AppendLog for Hypercore {
    fn key(&self) -> Key {
        Hypercore::key(self)
    }

    fn discovery_key(&self) -> DiscoveryKey {
        Hypercore::discovery_key(self)
    }

    fn length(&self) -> u64 {
        Hypercore::length(self)
    }

    fn byte_length(&self) -> u64 {
        Hypercore::byte_length(self)
    }

    fn fork(&self) -> u64 {
        Hypercore::fork(self)
    }

    fn writable(&self) -> bool {
        Hypercore::writable(self)
    }

    fn get_with(&self, index: u64, options: GetOptions) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        Hypercore::get_with(self, index, options).boxed()
    }

    fn has(&self, index: u64) -> BoxFuture<'_, Result<bool, Error>> {
        async move { Hypercore::has(self, index) }.boxed()
    }

    fn append(&self, blocks: Vec<Bytes>) -> BoxFuture<'_, Result<u64, Error>> {
        async move { self.append_batch(blocks) }.boxed()
    }

    fn update(&self, options: UpdateOptions) -> BoxFuture<'_, Result<bool, Error>> {
        self.update_with(options).boxed()
    }

    fn seek(&self, bytes: u64) -> BoxFuture<'_, Result<(u64, u64), Error>> {
        Hypercore::seek(self, bytes).boxed()
    }

    fn download(&self, range: DownloadRange) -> BoxFuture<'_, Result<(), Error>> {
        async move { Hypercore::download(self, range)?.done().await }.boxed()
    }

    fn truncate(&self, length: u64) -> BoxFuture<'_, Result<(), Error>> {
        async move { Hypercore::truncate(self, length) }.boxed()
    }

    fn clear(&self, range: Range<u64>) -> BoxFuture<'_, Result<(), Error>> {
        async move { Hypercore::clear(self, range).map(|_| ()) }.boxed()
    }

    fn events(&self) -> BoxStream<'static, StreamedEvent> {
        Hypercore::events(self).boxed()
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            Hypercore::close(self);
            Ok(())
        }
        .boxed()
    }
}
