//! An instance: streams by their local ids, whatever sockets their packets come through.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::core::StreamCore;
use super::error::UdxError;
use super::socket::UdxSocket;
use super::stream::UdxStream;
use super::window::Extra;
use crate::stream::Config;

/// One instance of UDX. Clones are handles of the same instance; sockets and streams keep it alive.
///
/// ```
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// use udx::{StreamOptions, Udx};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (alice, bob) = (Udx::new(), Udx::new());
/// let (at_alice, at_bob) = (alice.bind("127.0.0.1:0".parse()?)?, bob.bind("127.0.0.1:0".parse()?)?);
/// let mut a = alice.stream(StreamOptions::default())?;
/// let mut b = bob.stream(StreamOptions::default())?;
///
/// // UDX has no handshake: each side learns the other's id and address by other means.
/// a.connect(&at_alice, b.local_id(), at_bob.local_addr())?;
/// b.connect(&at_bob, a.local_id(), at_alice.local_addr())?;
///
/// a.write_all(b"over UDP, in order").await?;
/// a.shutdown().await?;
/// let mut text = String::new();
/// b.read_to_string(&mut text).await?;
/// assert_eq!(text, "over UDP, in order");
///
/// // Plain datagrams go beside the streams.
/// at_bob.send("hello".into(), at_alice.local_addr())?;
/// assert_eq!(at_alice.recv().await.unwrap().payload, "hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Udx {
    instance: Arc<Instance>,
}

/// What a stream is made with.
#[derive(Debug, Clone, Default)]
pub struct StreamOptions {
    /// The id by which the remote addresses this stream; random and free if `None`.
    pub local_id: Option<u32>,
    /// Windows, buffers, first sequence numbers.
    pub config: Config,
}

impl Udx {
    /// An instance without sockets and streams.
    pub fn new() -> Self {
        Self::default()
    }

    /// Binds a socket; port 0 takes a free one, `[::]` serves both families.
    ///
    /// # Errors
    ///
    /// Those of the system, and when called outside of a tokio runtime with I/O and time enabled: the task of the socket
    /// runs there.
    pub fn bind(&self, address: SocketAddr) -> io::Result<UdxSocket> {
        UdxSocket::bind(&self.instance, address)
    }

    /// Makes a stream that is not connected yet.
    ///
    /// # Errors
    ///
    /// When `options` name a local id that is in use.
    pub fn stream(&self, options: StreamOptions) -> Result<UdxStream, UdxError> {
        UdxStream::new(&self.instance, options)
    }
}

/// What sockets and streams of an instance share.
#[derive(Debug, Default)]
pub(super) struct Instance {
    streams: Mutex<HashMap<u32, Arc<StreamCore>>>,
    sockets: AtomicU64,
    /// What streams hold beyond the window that they were made with.
    pub(super) windows: Extra,
}

impl Instance {
    /// The stream that packets of this id are for.
    pub(super) fn find(&self, local_id: u32) -> Option<Arc<StreamCore>> {
        self.streams().get(&local_id).cloned()
    }

    /// All streams there are.
    pub(super) fn all(&self) -> Vec<Arc<StreamCore>> {
        self.streams().values().cloned().collect()
    }

    pub(super) fn next_socket(&self) -> u64 {
        self.sockets.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn add(self: &Arc<Self>, options: StreamOptions) -> Result<Arc<StreamCore>, UdxError> {
        let mut streams = self.streams();
        let local_id = match options.local_id {
            Some(id) if streams.contains_key(&id) => return Err(UdxError::IdInUse(id)),
            Some(id) => id,
            None => loop {
                // Random, so that a guess from outside seldom finds one.
                let id = getrandom::u32().map_err(|_| UdxError::NoRandomness)?;
                if !streams.contains_key(&id) {
                    break id;
                }
            },
        };
        let core = Arc::new(StreamCore::new(local_id, self, options.config));
        streams.insert(local_id, Arc::clone(&core));
        Ok(core)
    }

    /// The id is free again.
    pub(super) fn forget(&self, stream: &Arc<StreamCore>) {
        let mut streams = self.streams();
        if streams.get(&stream.local_id).is_some_and(|known| Arc::ptr_eq(known, stream)) {
            streams.remove(&stream.local_id);
        }
    }

    fn streams(&self) -> MutexGuard<'_, HashMap<u32, Arc<StreamCore>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
