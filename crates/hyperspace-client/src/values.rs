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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use futures::StreamExt;
    use hypercore::Hypercore;
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    /// A value comes back from this very block.
    fn is<E: Encoding>(encoding: E, value: &E::Value, block: &[u8])
    where
        E::Value: fmt::Debug + PartialEq,
    {
        assert_eq!(encoding.encode(value).unwrap(), block);
        assert_eq!(&encoding.decode(Bytes::copy_from_slice(block)).unwrap(), value);
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Entry {
        name: String,
        sizes: Vec<u64>,
        parent: Option<i64>,
    }

    fn anything() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map_into(),
            any::<i64>().prop_map_into(),
            any::<u64>().prop_map_into(),
            any::<String>().prop_map_into(),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map_into(),
                proptest::collection::btree_map(any::<String>(), inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn bytes_are_their_blocks(bytes: Vec<u8>) {
            is(Binary, &Bytes::from(bytes.clone()), &bytes);
        }

        #[test]
        fn text_is_its_utf_8(text: String) {
            is(Utf8, &text, text.as_bytes());
        }

        #[test]
        fn json_is_what_serde_makes_of_it(value in anything(), name: String, sizes: Vec<u64>, parent: Option<i64>) {
            is(Json::default(), &value, value.to_string().as_bytes());
            let entry = Entry { name, sizes, parent };
            is(Json::new(), &entry, &serde_json::to_vec(&entry).unwrap());
            let fields = serde_json::json!({ "name": entry.name, "sizes": entry.sizes, "parent": entry.parent });
            let block = Json::new().encode(&entry).unwrap();
            prop_assert_eq!(Json::<serde_json::Value>::new().decode(block).unwrap(), fields);
        }

        #[test]
        fn a_block_that_is_none_of_it_is_an_error(bytes: Vec<u8>) {
            let block = Bytes::from(bytes.clone());
            match (Utf8.decode(block.clone()), String::from_utf8(bytes.clone())) {
                (Ok(text), Ok(same)) => prop_assert_eq!(text, same),
                (Err(ValueError::Utf8(error)), Err(same)) => prop_assert_eq!(error, same),
                other => prop_assert!(false, "{:?}", other),
            }
            match (Json::<i64>::new().decode(block), serde_json::from_slice::<i64>(&bytes)) {
                (Ok(number), Ok(same)) => prop_assert_eq!(number, same),
                (Err(ValueError::Json(_)), Err(_)) => {}
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }

    #[test]
    fn json_of_another_form_is_an_error() {
        let entry = |json: &'static str| Json::<Entry>::new().decode(Bytes::from_static(json.as_bytes()));
        assert!(entry(r#"{"name":"a","sizes":[1],"parent":null}"#).is_ok());
        for json in
            ["", "{", "[]", r#"{"name":"a"}"#, r#"{"name":1,"sizes":[]}"#, r#"{"name":"a","sizes":[]}x"#]
        {
            assert!(matches!(entry(json), Err(ValueError::Json(_))), "{json}");
        }
    }

    #[tokio::test]
    async fn a_log_of_values_is_one_of_their_blocks() {
        let log = Hypercore::memory().unwrap();
        let values = Values::new(log.clone(), Binary);
        assert_eq!(values.append(&Bytes::from_static(b"one")).await.unwrap(), 1);
        assert_eq!(values.append_batch(&["two".into(), Bytes::new(), "\u{e4}".into()]).await.unwrap(), 4);
        values.append(&Bytes::from_static(&[0xff, 0xfe])).await.unwrap();
        let blocks: [&[u8]; 5] = [b"one", b"two", b"", "\u{e4}".as_bytes(), &[0xff, 0xfe]];
        for (index, block) in (0..).zip(blocks) {
            assert_eq!(log.get(index).await.unwrap(), block);
            assert_eq!(values.get(index).await.unwrap(), block);
        }
        let all: Vec<Bytes> = values.stream(0..5).map(Result::unwrap).collect().await;
        assert_eq!(all, blocks);
        // What one block is not says nothing of the others.
        let lines = Values::new(values.log().clone(), Utf8);
        let lines: Vec<Option<String>> = lines.stream(2..5).map(Result::ok).collect().await;
        assert_eq!(lines, [Some(String::new()), Some("\u{e4}".into()), None]);
    }

    #[tokio::test]
    async fn of_values_that_cannot_be_encoded_nothing_is_appended() {
        let log = Hypercore::memory().unwrap();
        let values = Values::new(log.clone(), Json::<HashMap<Option<BTreeMap<u8, u8>>, u8>>::new());
        let wrong = HashMap::from([(Some(BTreeMap::new()), 1)]);
        assert!(matches!(values.append(&wrong).await, Err(ValueError::Json(_))));
        assert!(matches!(values.append_batch(&[HashMap::new(), wrong]).await, Err(ValueError::Json(_))));
        assert_eq!(log.length(), 0);
        log.close();
        assert!(matches!(values.append(&HashMap::new()).await, Err(ValueError::Log(_))));
    }
}
