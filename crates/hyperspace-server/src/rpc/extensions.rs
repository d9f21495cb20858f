//! Extensions of cores and of the connections with peers, from the side of one client.

use corestore::replicate::ExtensionError;
use hyperspace_common::{
    Header, RpcError, RpcErrorExt, code,
    messages::{ExtensionMessage, RegisterExtensionRequest, UnregisterExtensionRequest},
};

use super::{Extension, Gone, Rpc};
use crate::{
    answer::{invalid_resource, limit, resource_in_use},
    extensions::{Scope, network_message},
};

/// Extensions that one client may register.
const MAX_EXTENSIONS: usize = 16_384;

impl Rpc {
    /// Whether a resource's number is in use.
    pub(super) fn has_resource(&self, resource: u64) -> bool {
        self.table.has_resource(resource)
            || (!self.extensions.is_empty() && self.extensions.contains_key(&resource))
    }

    pub(super) fn register_extension(
        &mut self,
        call: Header,
        request: RegisterExtensionRequest,
    ) -> Result<(), Gone> {
        match self.try_register_extension(request) {
            Ok(()) => self.outbox.response(call, &()),
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    fn try_register_extension(&mut self, request: RegisterExtensionRequest) -> Result<(), RpcError> {
        let RegisterExtensionRequest { id: session, resource_id, name } = request;
        let scope = Scope::Core(self.core(session)?.discovery_key());
        self.register(scope, Some(session), resource_id, name)
    }

    pub(super) fn register_network_extension(
        &mut self,
        call: Header,
        request: RegisterExtensionRequest,
    ) -> Result<(), Gone> {
        match self.register(Scope::Network, None, request.resource_id, request.name) {
            Ok(()) => self.outbox.response(call, &()),
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    fn register(
        &mut self,
        scope: Scope,
        session: Option<u64>,
        resource_id: u64,
        name: String,
    ) -> Result<(), RpcError> {
        if self.has_resource(resource_id) {
            return Err(resource_in_use(resource_id));
        }
        if self.extensions.len() >= MAX_EXTENSIONS {
            return Err(limit(format!("this client has {MAX_EXTENSIONS} extensions; unregister some")));
        }
        ExtensionError::check(&name, &[]).map_err(invalid)?;
        let (mailbox, number) = (self.mailbox.clone(), session.unwrap_or_default());
        let registration = self.server.extensions().register(scope, name, mailbox, number, resource_id);
        self.extensions.insert(resource_id, Extension { session, registration });
        Ok(())
    }

    pub(super) fn unregister_extension(
        &mut self,
        call: Header,
        request: UnregisterExtensionRequest,
    ) -> Result<(), Gone> {
        match self.extensions.remove(&request.resource_id) {
            Some(_) => self.outbox.response(call, &()),
            None => self.outbox.error(call, &invalid_resource(request.resource_id)),
        }
        Ok(())
    }

    pub(super) fn send_extension(&mut self, call: Header, request: ExtensionMessage) -> Result<(), Gone> {
        match self.try_send_extension(&request) {
            Ok(()) => self.outbox.response(call, &()),
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    fn try_send_extension(&self, request: &ExtensionMessage) -> Result<(), RpcError> {
        let core = self.core(request.id)?.discovery_key();
        let name = self.extension(request.resource_id, Scope::Core(core))?;
        let hub = self.server.store().hub();
        let sent = match request.remote_public_key.as_deref().map(<&[u8; 32]>::try_from) {
            None => hub.broadcast_extension(&core, name, &request.data),
            Some(Ok(remote)) => hub.send_extension(&core, remote, name, &request.data),
            // Nobody has such a key.
            Some(Err(_)) => ExtensionError::check(name, &request.data).map(|()| 0),
        };
        // To nobody is as good as to somebody: messages of extensions may get lost.
        sent.map(|_| ()).map_err(invalid)
    }

    pub(super) fn send_network_extension(
        &mut self,
        call: Header,
        request: ExtensionMessage,
    ) -> Result<(), Gone> {
        match self.try_send_network_extension(&request) {
            Ok(()) => self.outbox.response(call, &()),
            Err(error) => self.outbox.error(call, &error),
        }
        Ok(())
    }

    fn try_send_network_extension(&self, request: &ExtensionMessage) -> Result<(), RpcError> {
        let name = self.extension(request.resource_id, Scope::Network)?;
        let message = network_message(name, &request.data).map_err(invalid)?;
        match request.remote_public_key.as_deref().map(<&[u8; 32]>::try_from) {
            None => self.server.peers().send(None, &message),
            Some(Ok(remote)) => self.server.peers().send(Some(remote), &message),
            // Nobody has such a key.
            Some(Err(_)) => {}
        }
        Ok(())
    }

    /// The name of an extension that the client has registered.
    fn extension(&self, resource: u64, scope: Scope) -> Result<&str, RpcError> {
        let extension = self.extensions.get(&resource);
        let belongs = |extension: &&Extension| extension.session.is_none() == (scope == Scope::Network);
        let extension = extension.filter(belongs).ok_or_else(|| invalid_resource(resource))?;
        Ok(extension.registration.name())
    }

    /// The session is over, and its extensions with it.
    pub(super) fn end_extensions(&mut self, session: u64) {
        if !self.extensions.is_empty() {
            self.extensions.retain(|_, extension| extension.session != Some(session));
        }
    }
}

fn invalid(error: ExtensionError) -> RpcError {
    RpcError::coded(code::INVALID, error.to_string())
}
