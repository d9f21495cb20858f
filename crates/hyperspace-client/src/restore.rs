//! After a reconnect: everything that the daemon kept for the old connection is asked for again.

use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, stream};
use hyperspace_common::{Message, Method, Required, messages::*};

use crate::{
    connection::{Connection, decode_answer, fits},
    error::ClientError,
    extension::NETWORK,
    networker::NetworkInfo,
    sessions::{Kind, Opened, RemoteState, Sessions},
};

/// Sessions that are opened at the same time.
const AT_ONCE: usize = 256;

/// Opens all sessions again, then says what this client wants of the network.
pub(crate) async fn everything(sessions: &Sessions, connection: Connection) -> Result<(), ClientError> {
    // First the sessions: to open a core may have the daemon look for it, and a wish is to have the last word.
    all_sessions(sessions, &connection).await?;
    sessions.wishes.restore(&connection).await?;
    sessions.extensions.restore(NETWORK, &connection).await?;
    if sessions.network.are_wanted() {
        let asking = sessions.network.ask();
        let answer: OpenNetworkResponse = connection.call(Method::NetworkOpen, &()).await?;
        asking.answered_anew(NetworkInfo::read(&answer)?.peers);
    }
    Ok(())
}

/// Opens all sessions again, each with its watches and extensions.
async fn all_sessions(sessions: &Sessions, connection: &Connection) -> Result<(), ClientError> {
    let is_weak = |core: &Arc<RemoteState>| matches!(core.kind, Kind::Core { weak: true, .. });
    let (weak, strong): (Vec<_>, Vec<_>) = sessions.all().into_iter().partition(is_weak);
    // A weak session that comes before those that keep the core open would keep it open itself.
    several(sessions, connection, strong).await?;
    several(sessions, connection, weak).await
}

async fn several(
    sessions: &Sessions,
    connection: &Connection,
    cores: Vec<Arc<RemoteState>>,
) -> Result<(), ClientError> {
    let mut restored = stream::iter(cores)
        .map(|core| async move { session(sessions, connection, &core).await })
        .buffer_unordered(AT_ONCE);
    while let Some(restored) = restored.next().await {
        restored?;
    }
    Ok(())
}

async fn session(
    sessions: &Sessions,
    connection: &Connection,
    core: &Arc<RemoteState>,
) -> Result<(), ClientError> {
    // Without an identity its first open is still under way, and fails with the old connection.
    let Some(identity) = core.identity.get() else { return Ok(()) };
    let Kind::Core { weak, read_only } = core.kind else {
        // What a snapshot was of may have changed.
        core.close();
        sessions.remove(core.id);
        return Ok(());
    };
    let key = Some(Bytes::copy_from_slice(identity.key.as_bytes()));
    let request = OpenCoreRequest {
        id: core.id,
        key,
        weak: weak.then_some(true),
        read_only: read_only.then_some(true),
        ..OpenCoreRequest::default()
    };
    match open(sessions, connection, &request, || ()).await {
        Ok(opened) => core.opened_again(opened),
        Err(ClientError::Rpc(_)) => {
            // The daemon cannot open it any more: the session is over, the others are not.
            core.close();
            sessions.remove(core.id);
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    if core.is_closed() {
        // Closed meanwhile: the daemon may have been told before it knew the session.
        connection.notify(Method::HypercoreClose, &CloseRequest { id: core.id });
        return Ok(());
    }
    if core.is_watching() {
        let watch = WatchRequest { id: core.id };
        connection.notify(Method::HypercoreWatchDownloads, &watch);
        connection.notify(Method::HypercoreWatchUploads, &watch);
    }
    sessions.extensions.restore(core.id, connection).await
}

/// Opens a core by the service of our own, or with the Node daemon by its only way. `sending` is called when the request goes
/// out, and must not use the connection.
pub(crate) async fn open(
    sessions: &Sessions,
    connection: &Connection,
    request: &OpenCoreRequest,
    sending: impl FnOnce(),
) -> Result<Opened, ClientError> {
    let plain_will_do = request.namespace.is_empty()
        && request.discovery_key.is_none()
        && request.create.is_none()
        && request.read_only.is_none();
    if !plain_will_do {
        sessions.need_additional(connection).await?;
    }
    if sessions.has_additional(connection).await? {
        return Opened::from_full(&call(connection, Method::StoreOpen, request, sending).await?);
    }
    let OpenCoreRequest { id, key, name, weak, .. } = request;
    let request = OpenRequest { id: *id, key: key.clone(), name: name.clone(), weak: *weak };
    Opened::from_plain(&call(connection, Method::CorestoreOpen, &request, sending).await?)
}

async fn call<M: Message, R: Required>(
    connection: &Connection,
    method: Method,
    request: &M,
    sending: impl FnOnce(),
) -> Result<R, ClientError> {
    fits(method, request.encoded_len())?;
    let answer = connection.call_raw(|outbox, id| {
        sending();
        outbox.request(method, id, request);
    });
    decode_answer(answer.await?)
}
