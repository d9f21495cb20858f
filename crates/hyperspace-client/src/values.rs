//! Values in place of bytes: text, JSON, or whatever an [`Encoding`] makes of blocks.

use std::{fmt, marker::PhantomData, ops::Range, string::FromUtf8Error};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use hypercore::{AppendLog, Error};
use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// Gets that a stream of values has under way.
const READ_AHEAD: usize = 64;

/// What turns values into blocks and back.
pub trait Encoding: Send + Sync {
    /// The values.
    type Value;

    /// A value as a block.
    fn encode(&self, value: &Self::Value) -> Result<Bytes, ValueError>;

    /// A block as a value.
    fn decode(&self, block: Bytes) -> Result<Self::Value, ValueError>;
}

/// Blocks as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Binary;

/// Text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Utf8;

/// JSON, of a type or of anything.
pub struct Json<T = serde_json::Value>(PhantomData<fn() -> T>);

impl<T> Json<T> {
    /// JSON of this type.
    pub fn new() -> Self {
        Self(PhantomData)
    }
}

impl Encoding for Binary {
    type Value = Bytes;

    fn encode(&self, value: &Bytes) -> Result<Bytes, ValueError> {
        Ok(value.clone())
    }

    fn decode(&self, block: Bytes) -> Result<Bytes, ValueError> {
        Ok(block)
    }
}

impl Encoding for Utf8 {
    type Value = String;

    fn encode(&self, value: &String) -> Result<Bytes, ValueError> {
        Ok(Bytes::copy_from_slice(value.as_bytes()))
    }

    fn decode(&self, block: Bytes) -> Result<String, ValueError> {
        Ok(String::from_utf8(block.into())?)
    }
}

impl<T: Serialize + DeserializeOwned> Encoding for Json<T> {
    type Value = T;

    fn encode(&self, value: &T) -> Result<Bytes, ValueError> {
        Ok(serde_json::to_vec(value)?.into())
    }

    fn decode(&self, block: Bytes) -> Result<T, ValueError> {
        Ok(serde_json::from_slice(&block)?)
    }
}

/// Why there is no value.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The log could not do what was asked.
    #[error(transparent)]
    Log(#[from] Error),
    /// The block is no text.
    #[error("the block is not UTF-8: {0}")]
    Utf8(#[from] FromUtf8Error),
    /// The block is no JSON, not of this type, or the value cannot be JSON.
    #[error("not JSON of the expected form: {0}")]
    Json(#[from] serde_json::Error),
    /// An encoding of somebody else's has something to say.
    #[error("{0}")]
    Other(String),
}

/// A log of values, near or far.
///
/// ```
/// use hypercore::Hypercore;
/// use hyperspace_client::{Json, Utf8, Values};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let log = Hypercore::memory()?;
/// let lines = Values::new(log.clone(), Utf8);
/// lines.append(&"hello".to_owned()).await?;
/// assert_eq!(lines.get(0).await?, "hello");
///
/// let numbers = Values::new(log, Json::<Vec<u32>>::new());
/// numbers.append(&vec![1, 2, 3]).await?;
/// assert_eq!(numbers.get(1).await?, [1, 2, 3]);
/// assert!(numbers.get(0).await.is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub struct Values<L, E> {
    log: L,
    encoding: E,
}

impl<L: AppendLog, E: Encoding> Values<L, E> {
    /// The values of a log.
    pub fn new(log: L, encoding: E) -> Self {
        Self { log, encoding }
    }

    /// The log itself.
    pub fn log(&self) -> &L {
        &self.log
    }

    /// A value; waits for a peer that has it.
    pub async fn get(&self, index: u64) -> Result<E::Value, ValueError> {
        self.encoding.decode(self.log.get(index).await?)
    }

    /// Appends a value. Returns the new length.
    pub async fn append(&self, value: &E::Value) -> Result<u64, ValueError> {
        Ok(self.log.append(vec![self.encoding.encode(value)?]).await?)
    }

    /// Appends many values, all or none. Returns the new length.
    pub async fn append_batch(&self, values: &[E::Value]) -> Result<u64, ValueError> {
        let blocks = values.iter().map(|value| self.encoding.encode(value)).collect::<Result<_, _>>()?;
        Ok(self.log.append(blocks).await?)
    }

    /// The values of a range, in order.
    pub fn stream(&self, range: Range<u64>) -> impl Stream<Item = Result<E::Value, ValueError>> + '_ {
        stream::iter(range).map(|index| self.get(index)).buffered(READ_AHEAD)
    }
}

impl<T> Default for Json<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for Json<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Json<T> {}

impl<T> fmt::Debug for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Json")
    }
}
