//! Extensions: messages of one's own between those who have a core open, or between all who are connected.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::Stream;
use hyperspace_common::{
    Method,
    messages::{ExtensionMessage, RegisterExtensionRequest, UnregisterExtensionRequest},
};
use tokio::sync::mpsc;

use crate::{ClientError, RemoteHypercore, RemoteNetworker, connection::Connection, sessions::Sessions};

/// Messages that wait for a slow reader; further ones are lost.
const MESSAGES_KEPT: usize = 1024;
/// The session of extensions that are the network's; those of cores begin with 1.
pub(crate) const NETWORK: u64 = 0;

/// An extension of a core, or of whole connections: a stream of what peers send under its name, and a way to send to
/// them. Messages may get lost, and nobody says so.
pub struct RemoteExtension {
    owner: Owner,
    resource: u64,
    name: String,
    messages: mpsc::Receiver<PeerMessage>,
}

/// A message that a peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerMessage {
    /// Who sent it.
    pub remote_public_key: [u8; 32],
    /// What it says.
    pub data: Bytes,
}

/// The extensions of a client, by their resources.
#[derive(Debug, Default)]
pub(crate) struct Registered {
    by_resource: Mutex<HashMap<u64, Entry>>,
}

#[derive(Debug, Clone)]
struct Entry {
    session: u64,
    name: String,
    sender: mpsc::Sender<PeerMessage>,
}

/// Whose extension it is.
enum Owner {
    Core(RemoteHypercore),
    Network(RemoteNetworker),
}

/// The methods of an owner's extensions.
struct Methods {
    register: Method,
    unregister: Method,
    send: Method,
}

impl RemoteHypercore {
    /// Takes part in an extension: messages between all who have the core open and know the name.
    pub async fn register_extension(&self, name: impl Into<String>) -> Result<RemoteExtension, ClientError> {
        RemoteExtension::register(Owner::Core(self.clone()), name.into()).await
    }
}

impl RemoteExtension {
    /// One of whole connections.
    pub(crate) async fn of_network(network: RemoteNetworker, name: String) -> Result<Self, ClientError> {
        Self::register(Owner::Network(network), name).await
    }

    async fn register(owner: Owner, name: String) -> Result<Self, ClientError> {
        let resource = owner.sessions().fresh();
        let (sender, messages) = mpsc::channel(MESSAGES_KEPT);
        let entry = Entry { session: owner.session(), name: name.clone(), sender };
        let request = entry.request(resource);
        // From here on, dropping it ends it.
        let extension = Self { owner, resource, name, messages };
        let owner = &extension.owner;
        let registering = owner.connection().call_raw(|outbox, id| {
            // Not before: after a reconnect all that are here are registered again.
            owner.sessions().extensions.lock().insert(resource, entry);
            outbox.request(Methods::of(owner.session()).register, id, &request);
        });
        registering.await?;
        Ok(extension)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a message to the peer with this public key.
    pub async fn send(
        &self,
        remote_public_key: &[u8; 32],
        data: impl Into<Bytes>,
    ) -> Result<(), ClientError> {
        self.send_to(Some(Bytes::copy_from_slice(remote_public_key)), data.into()).await
    }

    /// Sends a message to all peers that have the core open; of the network's, to all peers.
    pub async fn broadcast(&self, data: impl Into<Bytes>) -> Result<(), ClientError> {
        self.send_to(None, data.into()).await
    }

    async fn send_to(&self, remote_public_key: Option<Bytes>, data: Bytes) -> Result<(), ClientError> {
        let (id, resource_id) = (self.owner.session(), self.resource);
        let message = ExtensionMessage { id, resource_id, remote_public_key, data };
        self.owner.connection().call_void(Methods::of(id).send, &message).await
    }
}

impl Stream for RemoteExtension {
    type Item = PeerMessage;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PeerMessage>> {
        self.messages.poll_recv(context)
    }
}

impl Drop for RemoteExtension {
    fn drop(&mut self) {
        self.owner.sessions().extensions.lock().remove(&self.resource);
        let id = self.owner.session();
        let request = UnregisterExtensionRequest { id, resource_id: self.resource };
        self.owner.connection().notify(Methods::of(id).unregister, &request);
    }
}

impl Owner {
    fn session(&self) -> u64 {
        match self {
            Self::Core(core) => core.state().id,
            Self::Network(_) => NETWORK,
        }
    }

    fn connection(&self) -> &Connection {
        match self {
            Self::Core(core) => core.connection(),
            Self::Network(network) => network.connection(),
        }
    }

    fn sessions(&self) -> &Sessions {
        match self {
            Self::Core(core) => core.sessions(),
            Self::Network(network) => network.sessions(),
        }
    }
}

impl Methods {
    fn of(session: u64) -> Self {
        match session {
            NETWORK => Self {
                register: Method::NetworkRegisterExtension,
                unregister: Method::NetworkUnregisterExtension,
                send: Method::NetworkSendExtension,
            },
            _ => Self {
                register: Method::HypercoreRegisterExtension,
                unregister: Method::HypercoreUnregisterExtension,
                send: Method::HypercoreSendExtension,
            },
        }
    }
}

impl Registered {
    /// A message came.
    pub(crate) fn message(&self, message: ExtensionMessage) {
        let sender = self.lock().get(&message.resource_id).map(|entry| entry.sender.clone());
        let remote = message.remote_public_key.as_deref().map(<[u8; 32]>::try_from);
        if let (Some(sender), Some(Ok(remote_public_key))) = (sender, remote) {
            // A copy, so that a message that is kept does not hold all that came with it.
            let data = Bytes::copy_from_slice(&message.data);
            let _ = sender.try_send(PeerMessage { remote_public_key, data });
        }
    }

    /// The session has ended, and its streams with it.
    pub(crate) fn end_session(&self, session: u64) {
        let mut registered = self.lock();
        if !registered.is_empty() {
            registered.retain(|_, entry| entry.session != session);
        }
    }

    /// Registers again what belongs to a session that was opened again, or to the [network](NETWORK).
    pub(crate) async fn restore(&self, session: u64, connection: &Connection) -> Result<(), ClientError> {
        let own: Vec<(u64, Entry)> = {
            let registered = self.lock();
            let own = registered.iter().filter(|(_, entry)| entry.session == session);
            own.map(|(resource, entry)| (*resource, entry.clone())).collect()
        };
        let methods = Methods::of(session);
        for (resource, entry) in own {
            match connection.call_void(methods.register, &entry.request(resource)).await {
                // The daemon may have other bounds now.
                Ok(()) | Err(ClientError::Rpc(_)) => {}
                Err(error) => return Err(error),
            }
            if !self.lock().contains_key(&resource) {
                // Dropped meanwhile.
                let request = UnregisterExtensionRequest { id: session, resource_id: resource };
                connection.notify(methods.unregister, &request);
            }
        }
        Ok(())
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Entry>> {
        self.by_resource.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn request(&self, resource_id: u64) -> RegisterExtensionRequest {
        RegisterExtensionRequest { id: self.session, resource_id, name: self.name.clone() }
    }
}

impl fmt::Debug for RemoteExtension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("RemoteExtension");
        if let Owner::Core(core) = &self.owner {
            shown.field("core", &core.key());
        }
        shown.field("name", &self.name).finish_non_exhaustive()
    }
}
