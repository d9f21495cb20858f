//! An instance: streams by their local ids, whatever sockets their packets come through.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use super::error::UdxError;
use super::socket::UdxSocket;
use super::stream::{StreamCore, UdxStream};
use crate::stream::Config;

/// One instance of UDX. Clones are handles of the same instance; sockets and streams keep it alive.
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

#[derive(Debug, Default)]
pub(super) struct Instance {
    pub(super) streams: Mutex<HashMap<u32, Arc<StreamCore>>>,
}
