//! A core that lives in a daemon.

use std::{fmt, ops::Range, sync::Arc};

use bytes::Bytes;
use futures::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use hypercore::{
    AppendLog, DiscoveryKey, DownloadRange, Error, GetOptions, Key, PeerInfo, StreamedEvent, UpdateOptions,
};
use hyperspace_common::{Message, Method, messages::*, text};
use tokio::sync::broadcast::error::RecvError;

use crate::{
    connection::{Answered, Connection, decode_answer, fits},
    error::ClientError,
    sessions::{Identity, RemoteState, Sessions, Transferred},
};

/// A core that lives in a daemon. Clones are the same session, which ends when the last is dropped.
///
/// A future that is dropped takes its request back: the daemon stops looking for the block of a get, and ends a
/// download. Not so where the daemon knows no way. All who [wait for a longer core](Self::wait_for_length) share one
/// question, which stays until the core is longer or the session ends; a [seek](Self::seek_with) that waits however long
/// it takes stays, too; and a [`lock`](Self::lock) leaves its turn to the next call. An append, or another change, that
/// was sent is made all the same.
#[derive(Clone)]
pub struct RemoteHypercore {
    session: Arc<Session>,
}

struct Session {
    connection: Connection,
    sessions: Arc<Sessions>,
    state: Arc<RemoteState>,
}

/// What an append came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// The length after it.
    pub length: u64,
    /// The length in bytes after it.
    pub byte_length: u64,
    /// The index of its first block.
    pub seq: u64,
}

impl RemoteHypercore {
    pub(crate) fn new(connection: Connection, sessions: Arc<Sessions>, state: Arc<RemoteState>) -> Self {
        Self { session: Arc::new(Session { connection, sessions, state }) }
    }

    /// The key; whoever knows it may read.
    pub fn key(&self) -> Key {
        self.identity().key
    }

    /// Hash of the key, under which peers find one another.
    pub fn discovery_key(&self) -> DiscoveryKey {
        self.identity().discovery_key
    }

    /// Whether the daemon can append to the core.
    pub fn writable(&self) -> bool {
        self.identity().writable
    }

    /// Blocks, as far as the daemon has told.
    pub fn length(&self) -> u64 {
        self.state().length()
    }

    /// Bytes in all blocks together, as far as the daemon has told.
    pub fn byte_length(&self) -> u64 {
        self.state().byte_length()
    }

    /// How often history was rewritten, as far as the daemon has told. Always 0 with the Node daemon.
    pub fn fork(&self) -> u64 {
        self.state().fork()
    }

    /// The peers that replicate the core with the daemon now.
    pub fn peers(&self) -> Vec<Arc<PeerInfo>> {
        self.state().peers()
    }

    /// What was exchanged with peers since [`RemoteHypercore::events`] was called for the first time: the daemon counts
    /// single blocks only for whoever listens. Nothing is missed, however slowly the events are read.
    pub fn transferred(&self) -> Transferred {
        self.state().transferred()
    }

    /// Whether the session has ended.
    pub fn is_closed(&self) -> bool {
        self.state().is_closed()
    }

    /// Appends blocks, all or none.
    ///
    /// To append much, keep several of these in flight: the daemon makes appends that arrive together one commit.
    pub async fn append_blocks(&self, blocks: &[Bytes]) -> Result<Appended, ClientError> {
        let id = self.id();
        append_fits(id, blocks)?;
        let answer =
            self.session.connection.call_raw(|outbox, call| outbox.append_request(call, id, blocks)).await?;
        let AppendResponse { length, byte_length, seq } = decode_answer(answer)?;
        Ok(Appended { length, byte_length, seq })
    }

    /// Appends one block. Returns the new length.
    pub async fn append(&self, block: impl Into<Bytes>) -> Result<u64, ClientError> {
        Ok(self.append_blocks(&[block.into()]).await?.length)
    }

    /// A block; waits for peers until all of them were asked.
    pub async fn get(&self, index: u64) -> Result<Bytes, ClientError> {
        let options = GetOptions { if_available: true, ..GetOptions::default() };
        let block = self.get_with(index, options).await?;
        block.ok_or_else(|| ClientError::Protocol("an answer without a block".into()))
    }

    /// A block; waits until somebody has it, however long that takes.
    pub async fn wait_for_block(&self, index: u64) -> Result<Bytes, ClientError> {
        let block = self.get_with(index, GetOptions::default()).await?;
        block.ok_or_else(|| ClientError::Protocol("an answer without a block".into()))
    }

    /// A block, with options. An answer without a block is `None`, and with `wait: false` it is an error when the
    /// block is not here.
    pub async fn get_with(&self, seq: u64, options: GetOptions) -> Result<Option<Bytes>, ClientError> {
        self.get_block(seq, options, None).await
    }

    /// The same; calls `on_wait` when the daemon has not got the block and begins to wait for it. It is called on
    /// the task of the connection: it must be quick.
    pub async fn get_watching(
        &self,
        seq: u64,
        options: GetOptions,
        on_wait: impl FnOnce(u64) + Send + 'static,
    ) -> Result<Option<Bytes>, ClientError> {
        let id = self.session.sessions.fresh();
        self.session.sessions.on_wait(id, Box::new(on_wait));
        let _forget = ForgetWait { sessions: &self.session.sessions, id };
        self.get_block(seq, options, Some(id)).await
    }

    async fn get_block(
        &self,
        seq: u64,
        options: GetOptions,
        on_wait_id: Option<u64>,
    ) -> Result<Option<Bytes>, ClientError> {
        let (id, resource_id) = (self.id(), self.session.sessions.fresh());
        // Only what differs from the schema's defaults is sent.
        let request = GetRequest {
            id,
            seq,
            resource_id,
            wait: (!options.wait).then_some(false),
            if_available: (!options.if_available).then_some(false),
            on_wait_id,
        };
        let cancel = CancelRequest { id, resource_id };
        let patient = options.wait && !options.if_available;
        let get = (Method::HypercoreGet, patient);
        let answer = self.cancellable(get, &request, Method::HypercoreCancel, cancel).await?;
        Ok(decode_answer::<GetResponse>(answer)?.block)
    }

    /// Whether a block is stored by the daemon.
    pub async fn has(&self, seq: u64) -> Result<bool, ClientError> {
        let response: HasResponse =
            self.call(Method::HypercoreHas, &HasRequest { id: self.id(), seq }).await?;
        Ok(response.has)
    }

    /// How many blocks of a range are stored by the daemon.
    pub async fn downloaded(&self, range: Range<u64>) -> Result<u64, ClientError> {
        if range.is_empty() {
            // An end of 0 would mean the core's end.
            return Ok(0);
        }
        let request = DownloadedRequest { id: self.id(), start: Some(range.start), end: Some(range.end) };
        let response: DownloadedResponse = self.call(Method::HypercoreDownloaded, &request).await?;
        Ok(response.bytes)
    }

    /// Asks peers for a length of at least `min_length`. False when all were asked and none knows of it.
    pub async fn update_to(&self, min_length: u64) -> Result<bool, ClientError> {
        let request =
            UpdateRequest { id: self.id(), min_length: Some(min_length), if_available: None, hash: None };
        match self.session.connection.ask_raw(Method::HypercoreUpdate, &request).await {
            Ok(_) => Ok(true),
            Err(ClientError::Rpc(error)) if error.message == text::NO_UPDATE_AVAILABLE => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until the core has at least `min_length` blocks, however long that takes. All who wait share one question to
    /// the daemon, which stays when the future is dropped, and is not asked again for the next one.
    pub async fn wait_for_length(&self, min_length: u64) -> Result<(), ClientError> {
        loop {
            let changed = self.state().length_changed();
            let length = self.length();
            if length >= min_length {
                return Ok(());
            }
            let longer = length.saturating_add(1);
            let growth = self.state().growth.at(longer, || self.ask_for_length(longer));
            let grown = tokio::select! {
                // What the length is may say that another question is due.
                () = changed => continue,
                grown = growth => grown,
            };
            match grown {
                Err(ClientError::Disconnected(_)) if self.connection().is_made_again() => {
                    self.connection().until_up().await?;
                }
                grown => grown?,
            }
        }
    }

    /// Asks to be answered once the core has this length.
    fn ask_for_length(&self, length: u64) -> Result<Answered, ClientError> {
        let min_length = Some(length);
        let request = UpdateRequest { id: self.id(), min_length, if_available: Some(false), hash: None };
        let asked = self.connection().call_now(|| true, Method::HypercoreUpdate, &request)?;
        asked.ok_or(ClientError::Closed)
    }

    /// Asks peers for a longer length. False when all were asked and none knows of one.
    pub async fn update(&self) -> Result<bool, ClientError> {
        self.update_to(self.length().saturating_add(1)).await
    }

    /// The block that holds a byte offset, and the offset in it.
    pub async fn seek(&self, byte_offset: u64) -> Result<(u64, u64), ClientError> {
        self.seek_with(byte_offset, SeekOptions::default()).await
    }

    /// The same, with options. One that waits however long it takes is, unlike other requests, not taken back when its
    /// future is dropped: the daemon knows no way.
    pub async fn seek_with(&self, byte_offset: u64, options: SeekOptions) -> Result<(u64, u64), ClientError> {
        let request = SeekRequest {
            id: self.id(),
            byte_offset,
            start: Some(options.start),
            end: options.end,
            wait: Some(options.wait),
            if_available: Some(options.if_available),
        };
        let SeekResponse { seq, block_offset } = match options.wait && !options.if_available {
            true => decode_answer(self.connection().ask_patiently(Method::HypercoreSeek, &request).await?)?,
            false => self.call(Method::HypercoreSeek, &request).await?,
        };
        Ok((seq, block_offset))
    }

    /// Has the daemon download a range. Dropping the future cancels it.
    pub async fn download(&self, range: &DownloadRange) -> Result<(), ClientError> {
        let (id, resource_id) = (self.id(), self.session.sessions.fresh());
        let blocks: Vec<u64> = range.blocks.as_deref().unwrap_or_default().to_vec();
        if range.blocks.is_some() && blocks.is_empty() {
            return Ok(());
        }
        let (start, end) = match (blocks.iter().min(), blocks.iter().max()) {
            (Some(first), Some(last)) => (*first, Some(last.saturating_add(1))),
            _ => (range.start, range.end),
        };
        if end.is_some_and(|end| end <= start) {
            return Ok(());
        }
        let request = DownloadRequest {
            id,
            resource_id,
            start: Some(start),
            end: Some(end.unwrap_or(0)),
            blocks,
            linear: Some(range.linear),
            live: end.is_none().then_some(true),
        };
        let undownload = CancelRequest { id, resource_id };
        let download = (Method::HypercoreDownload, true);
        self.cancellable(download, &request, Method::HypercoreUndownload, undownload).await?;
        Ok(())
    }

    /// Ends the session. The daemon lets go of the core when nobody else uses it.
    pub async fn close(&self) -> Result<(), ClientError> {
        if self.state().is_closed() {
            self.session.say_farewell();
            return Ok(());
        }
        // First here: whoever opens it again just now looks whether it is closed once it is open.
        self.state().close();
        self.session.sessions.remove(self.id());
        // Told before anything is waited for: a future that is dropped must not leave the daemon with the session.
        let request = CloseRequest { id: self.id() };
        let answer = match self.connection().call_now(|| true, Method::HypercoreClose, &request) {
            Ok(Some(closing)) => self.connection().answer(closing).await.map(|_| ()),
            Ok(None) => Ok(()),
            Err(ClientError::Disconnected(_)) => {
                // Gone with the connection, unless it was just being opened on another one.
                self.connection().notify(Method::HypercoreClose, &request);
                Ok(())
            }
            Err(error) => Err(error),
        };
        match answer {
            // Gone with the connection.
            Err(ClientError::Disconnected(_)) => Ok(()),
            answer => answer,
        }
    }

    /// What happens to the core. Ends when the session or the connection does.
    pub fn events(&self) -> BoxStream<'static, StreamedEvent> {
        let (receiver, first) = self.state().listen();
        if first && !self.is_closed() {
            // The daemon tells of single blocks only to whoever wants to know.
            let watch = WatchRequest { id: self.id() };
            self.session.connection.notify(Method::HypercoreWatchDownloads, &watch);
            self.session.connection.notify(Method::HypercoreWatchUploads, &watch);
        }
        stream::unfold(receiver, |mut receiver| async move {
            match receiver.recv().await {
                Ok(event) => Some((StreamedEvent::Event(event), receiver)),
                Err(RecvError::Lagged(missed)) => Some((StreamedEvent::Lagged(missed), receiver)),
                Err(RecvError::Closed) => None,
            }
        })
        .boxed()
    }

    async fn call<M: Message, R: hyperspace_common::Required>(
        &self,
        method: Method,
        message: &M,
    ) -> Result<R, ClientError> {
        self.session.connection.ask(method, message).await
    }

    /// A call that is taken back when its future is dropped; a patient one may be answered much later, if ever.
    async fn cancellable<M: Message>(
        &self,
        (method, patient): (Method, bool),
        request: &M,
        cancel: Method,
        cancel_request: CancelRequest,
    ) -> Result<Bytes, ClientError> {
        let mut guard =
            CancelOnDrop { connection: &self.session.connection, cancel: Some((cancel, cancel_request)) };
        let answer = match patient {
            true => self.session.connection.ask_patiently(method, request).await,
            false => self.session.connection.ask_raw(method, request).await,
        };
        guard.cancel = None;
        answer
    }

    fn id(&self) -> u64 {
        self.state().id
    }

    /// Another session of the same client.
    pub(crate) fn sibling(&self, state: Arc<RemoteState>) -> Self {
        Self::new(self.session.connection.clone(), self.session.sessions.clone(), state)
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.session.connection
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.session.sessions
    }

    pub(crate) fn state(&self) -> &RemoteState {
        &self.session.state
    }

    pub(crate) fn shared_state(&self) -> Arc<RemoteState> {
        self.session.state.clone()
    }

    fn identity(&self) -> Identity {
        // Handles are given out only once the daemon has said what the core is.
        let unknown = || Identity {
            key: Key::from([0; 32]),
            discovery_key: DiscoveryKey::from([0; 32]),
            writable: false,
        };
        self.state().identity.get().copied().unwrap_or_else(unknown)
    }

    fn error(&self, error: ClientError) -> Error {
        match error {
            ClientError::Rpc(error) => match error.message.as_str() {
                text::NOT_WRITABLE => Error::NotWritable(self.key()),
                text::FEED_CLOSED => Error::Closed,
                text::REQUEST_CANCELLED | text::DOWNLOAD_CANCELLED => Error::Cancelled,
                _ => Error::Remote(error.message),
            },
            ClientError::Closed => Error::Closed,
            error => Error::Remote(error.to_string()),
        }
    }
}

impl AppendLog for RemoteHypercore {
    fn key(&self) -> Key {
        Self::key(self)
    }

    fn discovery_key(&self) -> DiscoveryKey {
        Self::discovery_key(self)
    }

    fn length(&self) -> u64 {
        Self::length(self)
    }

    fn byte_length(&self) -> u64 {
        Self::byte_length(self)
    }

    fn fork(&self) -> u64 {
        Self::fork(self)
    }

    fn writable(&self) -> bool {
        Self::writable(self)
    }

    fn get_with(&self, index: u64, options: GetOptions) -> BoxFuture<'_, Result<Option<Bytes>, Error>> {
        async move {
            match Self::get_with(self, index, options).await {
                Err(ClientError::Rpc(error)) if error.message == text::BLOCK_NOT_DOWNLOADED => Ok(None),
                Err(ClientError::Rpc(error)) if error.message == text::BLOCK_NOT_AVAILABLE => {
                    Err(Error::NotAvailable(index))
                }
                block => block.map_err(|error| self.error(error)),
            }
        }
        .boxed()
    }

    fn has(&self, index: u64) -> BoxFuture<'_, Result<bool, Error>> {
        async move { Self::has(self, index).await.map_err(|error| self.error(error)) }.boxed()
    }

    fn append(&self, blocks: Vec<Bytes>) -> BoxFuture<'_, Result<u64, Error>> {
        async move {
            let appended = self.append_blocks(&blocks).await.map_err(|error| self.error(error))?;
            Ok(appended.length)
        }
        .boxed()
    }

    fn update(&self, options: UpdateOptions) -> BoxFuture<'_, Result<bool, Error>> {
        async move {
            let min_length = options.min_length.unwrap_or(self.length().saturating_add(1));
            self.update_to(min_length).await.map_err(|error| self.error(error))
        }
        .boxed()
    }

    fn seek(&self, bytes: u64) -> BoxFuture<'_, Result<(u64, u64), Error>> {
        async move { Self::seek(self, bytes).await.map_err(|error| self.error(error)) }.boxed()
    }

    fn download(&self, range: DownloadRange) -> BoxFuture<'_, Result<(), Error>> {
        async move { Self::download(self, &range).await.map_err(|error| self.error(error)) }.boxed()
    }

    fn truncate(&self, length: u64) -> BoxFuture<'_, Result<(), Error>> {
        async move { Self::truncate(self, length, None).await.map(|_| ()).map_err(|error| self.error(error)) }
            .boxed()
    }

    fn clear(&self, range: Range<u64>) -> BoxFuture<'_, Result<(), Error>> {
        async move { Self::clear(self, range).await.map(|_| ()).map_err(|error| self.error(error)) }.boxed()
    }

    fn events(&self) -> BoxStream<'static, StreamedEvent> {
        Self::events(self)
    }

    fn close(&self) -> BoxFuture<'_, Result<(), Error>> {
        async move { Self::close(self).await.map_err(|error| self.error(error)) }.boxed()
    }
}

/// Refuses blocks that make more than a frame may have.
fn append_fits(id: u64, blocks: &[Bytes]) -> Result<(), ClientError> {
    // No number in the message takes more than ten bytes, nor what says which it is more than one.
    let most = blocks.iter().fold(11, |sum: usize, block| sum.saturating_add(block.len()).saturating_add(11));
    match fits(Method::HypercoreAppend, most) {
        Ok(()) => Ok(()),
        Err(_) => {
            let request = AppendRequest { id, blocks: blocks.to_vec() };
            fits(Method::HypercoreAppend, request.encoded_len())
        }
    }
}

/// How to look for the block that holds a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeekOptions {
    /// Look from this block on.
    pub start: u64,
    /// Look before this block.
    pub end: Option<u64>,
    /// Wait for peers when the daemon cannot tell.
    pub wait: bool,
    /// Fail once all peers were asked and none can tell.
    pub if_available: bool,
}

impl Default for SeekOptions {
    fn default() -> Self {
        Self { start: 0, end: None, wait: true, if_available: true }
    }
}

struct ForgetWait<'a> {
    sessions: &'a Sessions,
    id: u64,
}

impl Drop for ForgetWait<'_> {
    fn drop(&mut self) {
        self.sessions.forget_wait(self.id);
    }
}

struct CancelOnDrop<'a> {
    connection: &'a Connection,
    cancel: Option<(Method, CancelRequest)>,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if let Some((method, request)) = self.cancel.take() {
            self.connection.notify(method, &request);
        }
    }
}

impl Session {
    fn say_farewell(&self) {
        if self.state.take_farewell() {
            self.connection.notify(Method::HypercoreClose, &CloseRequest { id: self.state.id });
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.state.is_closed() {
            self.say_farewell();
        } else {
            self.sessions.remove(self.state.id);
            // First here, as in `close`.
            self.state.close();
            self.connection.notify(Method::HypercoreClose, &CloseRequest { id: self.state.id });
        }
    }
}

impl fmt::Debug for RemoteHypercore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteHypercore")
            .field("key", &self.key())
            .field("length", &self.length())
            .finish_non_exhaustive()
    }
}
