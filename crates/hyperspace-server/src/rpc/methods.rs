//! What each method does.

use std::ops::Range;

use bytes::Bytes;
use corestore::Query;
use futures::FutureExt;
use hypercore::{Error, Hypercore, Key, demand::DownloadRange};
use hyperspace_common::{
    ADDITIONAL_VERSION, API_VERSION, Header, Method, RpcError, RpcErrorExt, code, messages::*, text,
};

use super::{Done, Gone, News, Rpc, Session, SessionCore};
use crate::{
    answer::{core_error, invalid_session, is_event, limit, resource_in_use},
    mailbox::{Told, wire_peer},
    session_table::WaitKind,
    waits,
};

/// The longest request to download, in bytes: some millions of blocks that are listed one by one.
const MAX_DOWNLOAD: usize = 8 << 20;

/// The longest request to open a core of a namespace, or to list one, in bytes: several times what the longest names and
/// the deepest namespace take.
const MAX_NAMED: usize = 128 << 10;

impl Rpc {
    pub(super) fn dispatch(
        &mut self,
        method: Method,
        call: Header,
        payload: Range<usize>,
    ) -> Result<(), Gone> {
        macro_rules! decoded {
            ($handler:ident) => {
                if let Some(request) = self.request(method, call, payload) {
                    self.$handler(call, request)?;
                }
            };
        }
        if call.id == 0 && only_answers(method) {
            // Nobody wants to know, and it may take long.
            return Ok(());
        }
        match method {
            Method::HypercoreGet => decoded!(get),
            Method::HypercoreAppend => self.append(call, payload)?,
            Method::HypercoreHas => decoded!(has),
            Method::HypercoreUpdate => decoded!(update),
            Method::HypercoreSeek => decoded!(seek),
            Method::HypercoreCancel => decoded!(cancel),
            // Before it is decoded: a number of one byte on the wire takes eight in memory.
            Method::HypercoreDownload if payload.len() > MAX_DOWNLOAD => {
                let why =
                    format!("a list of blocks to download has at most {MAX_DOWNLOAD} bytes; ask in parts");
                self.outbox.error(call, &limit(why));
            }
            Method::HypercoreDownload => decoded!(download),
            Method::HypercoreDownloaded => decoded!(downloaded),
            Method::HypercoreUndownload => decoded!(undownload),
            Method::HypercoreClose => decoded!(close),
            Method::HypercoreWatchDownloads => decoded!(watch_downloads),
            Method::HypercoreUnwatchDownloads => decoded!(unwatch_downloads),
            Method::HypercoreWatchUploads => decoded!(watch_uploads),
            Method::HypercoreUnwatchUploads => decoded!(unwatch_uploads),
            Method::CorestoreOpen => decoded!(open),
            Method::HyperspaceStatus => self.outbox.response(call, &self.status()),
            Method::HyperspaceStop => {
                self.outbox.response(call, &());
                self.server.stop();
            }
            Method::NetworkOpen => self.network_open(call),
            Method::NetworkConfigure => decoded!(configure),
            Method::NetworkStatus => decoded!(network_status),
            Method::NetworkAllStatuses => self.all_statuses(call),
            Method::NetworkRegisterExtension => decoded!(register_network_extension),
            Method::NetworkUnregisterExtension => decoded!(unregister_extension),
            Method::NetworkSendExtension => decoded!(send_network_extension),
            Method::HypercoreRegisterExtension => decoded!(register_extension),
            Method::HypercoreUnregisterExtension => decoded!(unregister_extension),
            Method::HypercoreSendExtension => decoded!(send_extension),
            Method::HypercoreAcquireLock => decoded!(acquire_lock),
            Method::HypercoreReleaseLock => decoded!(release_lock),
            Method::LogState => decoded!(log_state),
            Method::LogTruncate => decoded!(truncate),
            Method::LogClear => decoded!(clear),
            Method::LogManifest => decoded!(manifest),
            Method::LogSnapshot => decoded!(snapshot),
            Method::LogUserData => decoded!(user_data),
            Method::LogSetUserData => decoded!(set_user_data),
            // Before they are decoded: a part of a namespace of two bytes on the wire takes many times as much memory.
            Method::StoreOpen | Method::StoreNames if payload.len() > MAX_NAMED => {
                let why = format!("what names a core or a namespace has at most {MAX_NAMED} bytes");
                self.outbox.error(call, &limit(why));
            }
            Method::StoreOpen => decoded!(open_core),
            Method::StoreList => decoded!(list),
            Method::StoreNames => decoded!(names),
            Method::StoreStats => self.outbox.response(call, &self.server.stats()),
            // Who is here has been let in already, or needs no token.
            Method::AccessPresent => self.outbox.response(call, &()),
            Method::CorestoreOnFeed
            | Method::HypercoreOnAppend
            | Method::HypercoreOnClose
            | Method::HypercoreOnPeerOpen
            | Method::HypercoreOnPeerRemove
            | Method::HypercoreOnExtension
            | Method::HypercoreOnWait
            | Method::HypercoreOnDownload
            | Method::HypercoreOnUpload
            | Method::LogOnTruncate
            | Method::NetworkOnPeerAdd
            | Method::NetworkOnPeerRemove
            | Method::NetworkOnExtension => self.outbox.error(call, &is_event(method)),
        }
        Ok(())
    }

    fn status(&self) -> HyperspaceStatusResponse {
        let (holepunchable, remote_address) = self.server.reachability();
        HyperspaceStatusResponse {
            api_version: API_VERSION.into(),
            holepunchable: Some(holepunchable),
            remote_address: Some(remote_address.map(|address| address.to_string()).unwrap_or_default()),
            version: Some(env!("CARGO_PKG_VERSION").into()),
            additional: Some(ADDITIONAL_VERSION),
        }
    }

    fn open(&mut self, call: Header, request: OpenRequest) -> Result<(), Gone> {
        let (core, holder) = match self.try_open(&request) {
            Ok(opened) => opened,
            Err(error) => {
                self.outbox.error(call, &error);
                return Ok(());
            }
        };
        // OnFeed goes before the answer, and the session's own events go after it: from the state in the answer on,
        // every change is told.
        self.drain_events()?;
        let told = if core.writable() { Told::Plain } else { Told::PlainOfPeers };
        let sink = self.sinks.session(request.weak(), told);
        let (events, info, peers) = core.subscribe_with_state(request.id, sink);
        let response = OpenResponse {
            key: Bytes::copy_from_slice(info.key.as_bytes()),
            length: info.length,
            byte_length: info.byte_length,
            writable: info.writable,
            peers: peers.iter().map(|peer| wire_peer(peer)).collect(),
            discovery_key: Some(Bytes::copy_from_slice(info.discovery_key.as_bytes())),
        };
        self.outbox.response(call, &response);
        let news = if told == Told::PlainOfPeers { News::Opened(info.length) } else { News::Heard };
        let session = Session { news, ..Session::new(holder, Some(events)) };
        self.table.add_session(request.id, session);
        Ok(())
    }

    fn try_open(&mut self, request: &OpenRequest) -> Result<(Hypercore, SessionCore), RpcError> {
        self.check_new_session(request.id)?;
        let key = request.key.as_deref().map(parse_key).transpose()?;
        let query = match (key, request.name.as_deref().filter(|name| !name.is_empty())) {
            (Some(key), _) => Query::key(key),
            (None, Some(name)) => Query::name(name),
            (None, None) => Query::fresh(),
        };
        self.server.open(self.server.store(), query, request.weak())
    }

    fn close(&mut self, call: Header, request: CloseRequest) -> Result<(), Gone> {
        let Some((session, ended)) = self.table.remove_session(request.id) else {
            self.outbox.error(call, &invalid_session(request.id));
            return Ok(());
        };
        for waiting in &ended {
            self.answer_ended(waiting, text::FEED_CLOSED);
        }
        self.end_extensions(request.id);
        if let SessionCore::Strong(core) = &session.core {
            // Work that was just ended may still hold on to the session.
            core.close();
        }
        drop(session);
        self.drain_events()?;
        self.outbox.response(call, &());
        Ok(())
    }

    fn get(&mut self, call: Header, request: GetRequest) -> Result<(), Gone> {
        let Some(core) = self.core_for(call, request.id, Some(request.resource_id)) else { return Ok(()) };
        match core.try_get(request.seq) {
            Ok(Some(block)) => self.outbox.block_response(call, block),
            Ok(None) if !request.wait() => {
                self.outbox.error(call, &RpcError::sentence(text::BLOCK_NOT_DOWNLOADED));
            }
            Ok(None) => {
                let (id, seq) = (request.id, request.seq);
                if request.on_wait_id() != 0 {
                    let event = WaitEvent { id, on_wait_id: request.on_wait_id(), seq };
                    self.outbox.event(Method::HypercoreOnWait, &event);
                }
                let discovery = self.server.discovery();
                let work = waits::get(core, seq, request.if_available(), discovery);
                let work = work.map(|block| block.map(Done::Block)).boxed();
                self.wait(call, WaitKind::Get, id, Some(request.resource_id), work);
            }
            Err(error) => self.outbox.error(call, &core_error(&error)),
        }
        Ok(())
    }

    fn cancel(&mut self, call: Header, request: CancelRequest) -> Result<(), Gone> {
        self.end_resource(call, request.id, request.resource_id, WaitKind::Get, text::REQUEST_CANCELLED);
        Ok(())
    }

    fn undownload(&mut self, call: Header, request: UndownloadRequest) -> Result<(), Gone> {
        let (id, resource) = (request.id, request.resource_id);
        self.end_resource(call, id, resource, WaitKind::Download, text::DOWNLOAD_CANCELLED);
        Ok(())
    }

    /// Ends a waiting request by its resource. One that is not there is not missed.
    fn end_resource(&mut self, call: Header, session: u64, resource: u64, kind: WaitKind, why: &str) {
        if self.table.session(session).is_none() {
            return self.outbox.error(call, &invalid_session(session));
        }
        if let Some(waiting) = self.table.cancel(session, resource, kind) {
            self.answer_ended(&waiting, why);
        }
        self.outbox.response(call, &());
    }

    fn has(&mut self, call: Header, request: HasRequest) -> Result<(), Gone> {
        match self.with_core(request.id, |core| core.has(request.seq)) {
            Ok(has) => self.outbox.response(call, &HasResponse { has }),
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    fn downloaded(&mut self, call: Header, request: DownloadedRequest) -> Result<(), Gone> {
        // An end of 0, which is also what an absent one means, is the core's end.
        let end = if request.end() == 0 { u64::MAX } else { request.end() };
        let range = request.start()..end;
        let count = self.with_core(request.id, |core| {
            if range.is_empty() { Ok(0) } else { core.count_local(range.start..range.end.min(core.length())) }
        });
        match count {
            Ok(bytes) => self.outbox.response(call, &DownloadedResponse { bytes }),
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    fn update(&mut self, call: Header, request: UpdateRequest) -> Result<(), Gone> {
        let Some(core) = self.core_for(call, request.id, None) else { return Ok(()) };
        // Absent is 0, as the Node server reads it: done at once.
        let min_length = request.min_length();
        if core.length() >= min_length {
            // It may have become so just now: the client knows the length from the event, and that goes first.
            self.drain_events()?;
            if self.news(&core, request.id) == News::MaybeMissed(min_length.saturating_sub(1)) {
                let (id, info) = (request.id, core.info());
                let event = AppendEvent { id, length: info.length, byte_length: info.byte_length };
                self.outbox.event(Method::HypercoreOnAppend, &event);
                self.table.session_mut(id).into_iter().for_each(|session| session.news = News::Heard);
            }
            self.outbox.response(call, &());
        } else if request.if_available() && core.writable() {
            self.outbox.error(call, &RpcError::sentence(text::NO_UPDATE_AVAILABLE));
        } else {
            let work = waits::update(core, min_length, request.if_available(), self.server.discovery());
            let work = work.map(|done| done.map(|()| Done::Nothing)).boxed();
            self.wait(call, WaitKind::Update, request.id, None, work);
        }
        Ok(())
    }

    /// What is known of the news that the client has, now that it uses the core. The Node client (1.18.0) takes the length
    /// from the answer to Open after it has worked on everything that has come with that, and so forgets events that
    /// have come at the same time: what it is told before it uses the core it may have missed. It has if it then asks
    /// for an update from the first length on.
    fn news(&mut self, core: &Hypercore, id: u64) -> News {
        let Some(session) = self.table.session_mut(id) else { return News::Heard };
        session.news = match session.news {
            News::Opened(told) if core.length() > told && !self.told_now.contains(&id) => {
                // Unless it is told just now, and then goes out with this very answer.
                self.mailbox.sessions_with_news(&mut self.told_now);
                if self.told_now.contains(&id) { News::Heard } else { News::MaybeMissed(told) }
            }
            News::Opened(_) => News::Heard,
            news => news,
        };
        session.news
    }

    fn seek(&mut self, call: Header, request: SeekRequest) -> Result<(), Gone> {
        let Some(core) = self.core_for(call, request.id, None) else { return Ok(()) };
        let end = if request.end() == 0 { u64::MAX } else { request.end() };
        let found = if request.byte_offset == core.byte_length() {
            Ok(Some((core.length(), 0)))
        } else {
            core.try_seek(request.byte_offset)
        };
        match found {
            Ok(Some((seq, block_offset))) => {
                self.drain_events()?;
                self.outbox.response(call, &SeekResponse { seq, block_offset });
            }
            // A snapshot does not grow: nothing is waited for.
            Err(Error::OutOfBounds { .. }) => {
                self.outbox.error(call, &RpcError::sentence(text::OUT_OF_BOUNDS));
            }
            Ok(None) => {
                if !request.wait() || end <= request.start() {
                    let beyond = !request.wait() && request.byte_offset > core.byte_length();
                    let why = if beyond { text::OUT_OF_BOUNDS } else { text::UNABLE_TO_SEEK };
                    self.outbox.error(call, &RpcError::sentence(why));
                    return Ok(());
                }
                let discovery = self.server.discovery();
                let work = waits::seek(core, request.byte_offset, request.if_available(), discovery);
                let work =
                    work.map(|found| found.map(|(seq, block_offset)| Done::Seek { seq, block_offset }));
                self.wait(call, WaitKind::Seek, request.id, None, work.boxed());
            }
            Err(error) => self.outbox.error(call, &core_error(&error)),
        }
        Ok(())
    }

    fn download(&mut self, call: Header, request: DownloadRequest) -> Result<(), Gone> {
        let Some(core) = self.core_for(call, request.id, Some(request.resource_id)) else { return Ok(()) };
        let (start, end, linear) = (request.start(), request.end(), request.linear());
        let range = if request.blocks.is_empty() {
            let end = (end != 0 && !request.live()).then_some(end);
            DownloadRange { start, end, linear, blocks: None }
        } else {
            // A range given with a list limits it.
            let end = if end == 0 { u64::MAX } else { end };
            let within = request.blocks.into_iter().filter(|seq| (start..end).contains(seq));
            DownloadRange { linear, ..DownloadRange::list(within) }
        };
        let work = waits::download(core, range).map(|done| done.map(|()| Done::Nothing)).boxed();
        self.wait(call, WaitKind::Download, request.id, Some(request.resource_id), work);
        Ok(())
    }

    fn watch_downloads(&mut self, call: Header, request: WatchRequest) -> Result<(), Gone> {
        let sink = self.sinks.downloads.clone();
        let result = self.core(request.id).map(|core| core.subscribe(request.id, sink));
        self.watched(call, request.id, result, |session| &mut session.downloads);
        Ok(())
    }

    fn watch_uploads(&mut self, call: Header, request: WatchRequest) -> Result<(), Gone> {
        let sink = self.sinks.uploads.clone();
        let result = self.core(request.id).map(|core| core.subscribe(request.id, sink));
        self.watched(call, request.id, result, |session| &mut session.uploads);
        Ok(())
    }

    fn unwatch_downloads(&mut self, call: Header, request: WatchRequest) -> Result<(), Gone> {
        self.unwatched(call, request.id, |session| &mut session.downloads);
        Ok(())
    }

    fn unwatch_uploads(&mut self, call: Header, request: WatchRequest) -> Result<(), Gone> {
        self.unwatched(call, request.id, |session| &mut session.uploads);
        Ok(())
    }

    fn watched<T>(
        &mut self,
        call: Header,
        id: u64,
        subscription: Result<T, RpcError>,
        place: impl FnOnce(&mut Session) -> &mut Option<T>,
    ) {
        match (subscription, self.table.session_mut(id)) {
            (Ok(subscription), Some(session)) => {
                place(session).get_or_insert(subscription);
                self.outbox.response(call, &());
            }
            (Err(error), _) => self.outbox.error(call, &error),
            (_, None) => self.outbox.error(call, &invalid_session(id)),
        }
    }

    fn unwatched<T>(&mut self, call: Header, id: u64, place: impl FnOnce(&mut Session) -> &mut Option<T>) {
        // A session that is not there watches nothing, which is what was asked for.
        if let Some(session) = self.table.session_mut(id) {
            *place(session) = None;
        }
        self.outbox.response(call, &());
    }

    /// The core of a session, for a call that takes this resource if it has to wait. Without it, the call is answered.
    fn core_for(&mut self, call: Header, session: u64, resource: Option<u64>) -> Option<Hypercore> {
        let taken = resource.filter(|resource| self.has_resource(*resource));
        match (self.core(session), taken) {
            (Ok(core), None) => {
                self.news(&core, session);
                return Some(core);
            }
            (Ok(_), Some(resource)) => self.outbox.error(call, &resource_in_use(resource)),
            (Err(error), _) => self.outbox.error(call, &error),
        }
        None
    }

    pub(super) fn with_core<T>(
        &self,
        session: u64,
        work: impl FnOnce(&Hypercore) -> Result<T, Error>,
    ) -> Result<T, RpcError> {
        work(&self.core(session)?).map_err(|error| core_error(&error))
    }
}

/// Whether a method does nothing but answer.
fn only_answers(method: Method) -> bool {
    matches!(
        method,
        Method::HyperspaceStatus
            | Method::HypercoreHas
            | Method::HypercoreDownloaded
            | Method::NetworkStatus
            | Method::NetworkAllStatuses
            | Method::LogState
            | Method::LogManifest
            | Method::LogUserData
            | Method::StoreList
            | Method::StoreNames
            | Method::StoreStats
            | Method::AccessPresent
    )
}

pub(super) fn parse_key(key: &[u8]) -> Result<Key, RpcError> {
    let bytes: [u8; 32] = key.try_into().map_err(|_| {
        RpcError::coded(code::INVALID, format!("Invalid key: a key has 32 bytes, this one has {}", key.len()))
    })?;
    Ok(Key::from(bytes))
}
