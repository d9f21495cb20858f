//! The keys of every record, byte for byte those of npm `hypercore-storage` 3.3.1 (its `lib/keys.js`).
//!
//! A key is a row of small tuple elements in the order-preserving encoding of npm `index-encoder` 3.5: numbers
//! that sort as bytes, strings with a terminator. The first number names the kind of record; for records of one
//! core the second is the core's (or its data's) pointer, a small integer given out by the store's head.

use super::StorageError;

/// The store's head: counters, seed, default core.
const HEAD: u64 = 0;
/// Discovery key to pointers.
const CORE_BY_DISCOVERY_KEY: u64 = 1;
/// Namespace and name to discovery key.
const CORE_BY_ALIAS: u64 = 2;
/// Records of a core that all its sessions share.
const CORE: u64 = 3;
/// The data of one core or named session.
const DATA: u64 = 4;
// 5 are the groups of cores by topic, which JS makes.
/// A core in its group, by the time of its last change.
const GROUP_ENTRY: u64 = 6;

/// Kinds below [`CORE`].
const CORE_AUTH: u64 = 0;
const CORE_SESSIONS: u64 = 1;
const CORE_GROUP: u64 = 2;

/// Kinds below [`DATA`].
const DATA_HEAD: u64 = 0;
const DATA_DEPENDENCY: u64 = 1;
const DATA_HINTS: u64 = 2;
const DATA_BLOCK: u64 = 3;
const DATA_TREE: u64 = 4;
const DATA_BITFIELD: u64 = 5;
const DATA_USER_DATA: u64 = 6;
const DATA_LOCAL: u64 = 7;
// 8 are marks, which JS keeps while it collects garbage.

/// Type of the only bitfield that exists: which blocks are here.
const BITFIELD_PRESENT: u64 = 0;

/// An index behind every other: how JavaScript's `Infinity` is encoded.
pub(crate) const END: u64 = u64::MAX;

/// Longest key of a local record that JS accepts.
pub(crate) const LOCAL_KEY_MAX: usize = 2048;

/// A key under construction on the stack: every key of fixed shape fits.
#[derive(Clone, Copy)]
pub(crate) struct ShortKey {
    bytes: [u8; Self::CAPACITY],
    len: usize,
}

impl ShortKey {
    /// Kind, pointer, kind, two indexes of nine bytes each at most; or kind and 32 bytes and one more.
    const CAPACITY: usize = 48;

    fn new() -> Self {
        Self { bytes: [0; Self::CAPACITY], len: 0 }
    }

    fn uint(mut self, value: u64) -> Self {
        let mut buffer = [0u8; 9];
        let len = encode_uint(value, &mut buffer);
        self.raw(&buffer[..len]);
        self
    }

    fn fixed32(mut self, value: &[u8; 32]) -> Self {
        self.raw(value);
        self
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }
}

impl AsRef<[u8]> for ShortKey {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl std::ops::Deref for ShortKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_ref()
    }
}

/// `index-encoder` UINT: sorts as the number does. Returns how many bytes it took.
fn encode_uint(value: u64, out: &mut [u8; 9]) -> usize {
    match value {
        0..=0xfb => {
            out[0] = value as u8;
            1
        }
        0xfc..=0xffff => {
            out[0] = 0xfc;
            out[1..3].copy_from_slice(&(value as u16).to_be_bytes());
            3
        }
        0x1_0000..=0xffff_ffff => {
            out[0] = 0xfd;
            out[1..5].copy_from_slice(&(value as u32).to_be_bytes());
            5
        }
        END => {
            out[0] = 0xff;
            1
        }
        _ => {
            out[0] = 0xfe;
            out[1..9].copy_from_slice(&value.to_be_bytes());
            9
        }
    }
}

/// `index-encoder` STRING: 0x00, the bytes with every 0x00 followed by 0x02, then 0x00 0x01.
fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(0x00);
    for &byte in text.as_bytes() {
        out.push(byte);
        if byte == 0x00 {
            out.push(0x02);
        }
    }
    out.extend_from_slice(&[0x00, 0x01]);
}

/// Takes a stored key apart.
struct KeyReader<'a> {
    rest: &'a [u8],
}

impl<'a> KeyReader<'a> {
    fn new(key: &'a [u8]) -> Self {
        Self { rest: key }
    }

    fn damaged(reason: &str) -> StorageError {
        StorageError::Corrupt { record: "key", reason: reason.to_owned() }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StorageError> {
        let (head, rest) =
            self.rest.split_first_chunk::<N>().ok_or_else(|| Self::damaged("it ends early"))?;
        self.rest = rest;
        Ok(*head)
    }

    fn uint(&mut self) -> Result<u64, StorageError> {
        let [first] = self.array()?;
        Ok(match first {
            0xfc => u64::from(u16::from_be_bytes(self.array()?)),
            0xfd => u64::from(u32::from_be_bytes(self.array()?)),
            0xfe => u64::from_be_bytes(self.array()?),
            0xff => END,
            small => u64::from(small),
        })
    }

    fn string(&mut self) -> Result<String, StorageError> {
        let [first] = self.array()?;
        if first != 0x00 {
            return Err(Self::damaged("a string does not start with 0x00"));
        }
        let mut text = Vec::with_capacity(self.rest.len());
        loop {
            match self.array()? {
                [0x00] => match self.array()? {
                    [0x01] => break,
                    [0x02] => text.push(0x00),
                    _ => return Err(Self::damaged("a string has an unknown terminator")),
                },
                [byte] => text.push(byte),
            }
        }
        String::from_utf8(text).map_err(|_| Self::damaged("a string is not UTF-8"))
    }
}

/// The store's head.
pub(crate) fn store_head() -> ShortKey {
    ShortKey::new().uint(HEAD)
}

/// Where a discovery key points.
pub(crate) fn core_by_discovery_key(discovery_key: &[u8; 32]) -> ShortKey {
    ShortKey::new().uint(CORE_BY_DISCOVERY_KEY).fixed32(discovery_key)
}

/// Just behind a discovery key (exclusive start of a scan), or the first of them.
pub(crate) fn cores_after(discovery_key: Option<&[u8; 32]>) -> ShortKey {
    match discovery_key {
        None => ShortKey::new().uint(CORE_BY_DISCOVERY_KEY),
        Some(discovery_key) => ShortKey::new().uint(CORE_BY_DISCOVERY_KEY).fixed32(discovery_key).uint(0),
    }
}

/// End of all discovery keys.
pub(crate) fn cores_end() -> ShortKey {
    ShortKey::new().uint(CORE_BY_DISCOVERY_KEY + 1)
}

/// The discovery key in a key made by [`core_by_discovery_key`].
pub(crate) fn discovery_key_of(key: &[u8]) -> Result<[u8; 32], StorageError> {
    let mut reader = KeyReader::new(key);
    reader.uint()?;
    reader.array()
}

/// Where a name points.
pub(crate) fn core_by_alias(namespace: &[u8; 32], name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(33 + 3 + name.len());
    key.extend_from_slice(&ShortKey::new().uint(CORE_BY_ALIAS).fixed32(namespace));
    push_string(&mut key, name);
    key
}

/// First name, of all namespaces or of one.
pub(crate) fn aliases_start(namespace: Option<&[u8; 32]>) -> ShortKey {
    let key = ShortKey::new().uint(CORE_BY_ALIAS);
    match namespace {
        Some(namespace) => key.fixed32(namespace),
        None => key,
    }
}

/// Behind the last name, of all namespaces or of one.
pub(crate) fn aliases_end(namespace: Option<&[u8; 32]>) -> ShortKey {
    match namespace {
        // Every name starts with 0x00, so 0xff is behind all of them.
        Some(namespace) => ShortKey::new().uint(CORE_BY_ALIAS).fixed32(namespace).uint(END),
        None => ShortKey::new().uint(CORE_BY_ALIAS + 1),
    }
}

/// Namespace and name in a key made by [`core_by_alias`].
pub(crate) fn alias_of(key: &[u8]) -> Result<([u8; 32], String), StorageError> {
    let mut reader = KeyReader::new(key);
    reader.uint()?;
    let namespace = reader.array()?;
    Ok((namespace, reader.string()?))
}

fn core(pointer: u64, kind: u64) -> ShortKey {
    ShortKey::new().uint(CORE).uint(pointer).uint(kind)
}

fn data(pointer: u64, kind: u64) -> ShortKey {
    ShortKey::new().uint(DATA).uint(pointer).uint(kind)
}

/// Keys, manifest and key pair of a core.
pub(crate) fn auth(core_pointer: u64) -> ShortKey {
    core(core_pointer, CORE_AUTH)
}

/// Named sessions of a core.
pub(crate) fn sessions(core_pointer: u64) -> ShortKey {
    core(core_pointer, CORE_SESSIONS)
}

/// Group of a core.
pub(crate) fn group(core_pointer: u64) -> ShortKey {
    core(core_pointer, CORE_GROUP)
}

/// A core in its group.
pub(crate) fn group_entry(group_pointer: u64, timestamp: u64, core_pointer: u64) -> ShortKey {
    let mut key = ShortKey::new().uint(GROUP_ENTRY).uint(group_pointer);
    key.raw(&timestamp.to_be_bytes());
    key.uint(core_pointer)
}

/// All records of one data pointer: start and end.
pub(crate) fn data_range(data_pointer: u64) -> (ShortKey, ShortKey) {
    let start = ShortKey::new().uint(DATA).uint(data_pointer);
    let end = ShortKey::new().uint(DATA).uint(data_pointer.saturating_add(1));
    (start, end)
}

/// Length, fork, tree hash and signature.
pub(crate) fn head(data_pointer: u64) -> ShortKey {
    data(data_pointer, DATA_HEAD)
}

/// From whom this data inherits its first blocks.
pub(crate) fn dependency(data_pointer: u64) -> ShortKey {
    data(data_pointer, DATA_DEPENDENCY)
}

/// What is only a help.
pub(crate) fn hints(data_pointer: u64) -> ShortKey {
    data(data_pointer, DATA_HINTS)
}

/// A block.
pub(crate) fn block(data_pointer: u64, index: u64) -> ShortKey {
    data(data_pointer, DATA_BLOCK).uint(index)
}

/// A tree node by flat-tree index.
pub(crate) fn tree_node(data_pointer: u64, index: u64) -> ShortKey {
    data(data_pointer, DATA_TREE).uint(index)
}

/// A page of the bitfield.
pub(crate) fn bitfield_page(data_pointer: u64, index: u64) -> ShortKey {
    data(data_pointer, DATA_BITFIELD).uint(index).uint(BITFIELD_PRESENT)
}

/// Index and type in a key made by [`bitfield_page`]; `None` for bitfields of another type.
pub(crate) fn bitfield_page_of(key: &[u8]) -> Result<Option<u64>, StorageError> {
    let mut reader = KeyReader::new(key);
    reader.uint()?;
    reader.uint()?;
    reader.uint()?;
    let index = reader.uint()?;
    Ok((reader.uint()? == BITFIELD_PRESENT).then_some(index))
}

/// The index that ends a key made by [`block`], [`tree_node`] or [`mark`].
pub(crate) fn index_of(key: &[u8]) -> Result<u64, StorageError> {
    let mut reader = KeyReader::new(key);
    reader.uint()?;
    reader.uint()?;
    reader.uint()?;
    reader.uint()
}

/// A named value of the user.
pub(crate) fn user_data(data_pointer: u64, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(16 + name.len());
    key.extend_from_slice(&data(data_pointer, DATA_USER_DATA));
    push_string(&mut key, name);
    key
}

/// All named values of the user: start and end.
pub(crate) fn user_data_range(data_pointer: u64) -> (ShortKey, ShortKey) {
    (data(data_pointer, DATA_USER_DATA), data(data_pointer, DATA_USER_DATA + 1))
}

/// The name in a key made by [`user_data`].
pub(crate) fn user_data_name_of(key: &[u8]) -> Result<String, StorageError> {
    let mut reader = KeyReader::new(key);
    reader.uint()?;
    reader.uint()?;
    reader.uint()?;
    reader.string()
}

/// A value that higher structures keep beside the core; its name is the raw tail of the key.
pub(crate) fn local(data_pointer: u64, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(12 + name.len());
    key.extend_from_slice(&data(data_pointer, DATA_LOCAL));
    key.extend_from_slice(name);
    key
}
