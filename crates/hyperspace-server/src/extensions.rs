//! Who wants which extension's messages: every client that registered a name gets what peers send under it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use hypercore::DiscoveryKey;

use crate::mailbox::{Event, Mailbox};

/// The extensions that clients have registered, over all clients.
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    listeners: HashMap<DiscoveryKey, HashMap<String, Vec<Listener>>>,
    next: u64,
}

#[derive(Debug)]
struct Listener {
    id: u64,
    mailbox: Arc<Mailbox>,
    session: u64,
    resource: u64,
}

/// An extension that a client has registered; dropping it ends that.
#[derive(Debug)]
pub(crate) struct Registration {
    extensions: Arc<Extensions>,
    core: DiscoveryKey,
    name: String,
    id: u64,
}

impl Extensions {
    /// From now on the client is told, under these numbers of its own.
    pub(crate) fn register(
        self: &Arc<Self>,
        core: DiscoveryKey,
        name: String,
        mailbox: Arc<Mailbox>,
        session: u64,
        resource: u64,
    ) -> Registration {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let listeners = state.listeners.entry(core).or_default().entry(name.clone()).or_default();
        listeners.push(Listener { id, mailbox, session, resource });
        drop(state);
        Registration { extensions: self.clone(), core, name, id }
    }

    /// A peer sent a message.
    pub(crate) fn deliver(&self, core: &DiscoveryKey, remote: &[u8; 32], name: &str, data: &Bytes) {
        let state = self.lock();
        let listeners = state.listeners.get(core).and_then(|names| names.get(name));
        for Listener { mailbox, session, resource, .. } in listeners.into_iter().flatten() {
            let (session, resource, data) = (*session, *resource, data.clone());
            mailbox.push(Event::Extension { session, resource, remote: *remote, data });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    /// The extension's name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut state = self.extensions.lock();
        let Some(names) = state.listeners.get_mut(&self.core) else { return };
        if let Some(listeners) = names.get_mut(&self.name) {
            listeners.retain(|listener| listener.id != self.id);
            if listeners.is_empty() {
                names.remove(&self.name);
            }
        }
        if names.is_empty() {
            state.listeners.remove(&self.core);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyperspace_common::{Decoder, Outbox, decode, messages::ExtensionMessage};

    fn messages(mailbox: &Mailbox) -> Vec<ExtensionMessage> {
        let mut outbox = Outbox::new();
        mailbox.drain(&mut outbox);
        let bytes = outbox.take();
        let (mut at, mut messages) = (0, Vec::new());
        while let Some(frame) = Decoder::default().next(&bytes[at..]).unwrap() {
            messages.push(decode(&bytes[at..][frame.payload]).unwrap());
            at += frame.end;
        }
        messages
    }

    #[test]
    fn everybody_who_registered_is_told_and_nothing_is_left_behind() {
        let extensions = Arc::new(Extensions::default());
        let (core, other) = (DiscoveryKey::from([1; 32]), DiscoveryKey::from([2; 32]));
        let mailboxes = [Arc::new(Mailbox::default()), Arc::new(Mailbox::default())];
        let register = |core, name: &str, i: usize, session, resource| {
            extensions.register(core, name.into(), mailboxes[i].clone(), session, resource)
        };
        let registrations = [
            register(core, "chat", 0, 5, 6),
            register(core, "chat", 1, 7, 8),
            register(core, "else", 1, 7, 9),
            register(other, "chat", 1, 10, 11),
        ];
        extensions.deliver(&core, &[3; 32], "chat", &Bytes::from_static(b"hello"));
        extensions.deliver(&core, &[3; 32], "nobody's", &Bytes::from_static(b"hello"));
        for (mailbox, (id, resource_id)) in mailboxes.iter().zip([(5, 6), (7, 8)]) {
            let expected = ExtensionMessage {
                id,
                resource_id,
                remote_public_key: Some(Bytes::from(vec![3; 32])),
                data: Bytes::from_static(b"hello"),
            };
            assert_eq!(messages(mailbox), [expected]);
        }
        drop(registrations);
        extensions.deliver(&core, &[3; 32], "chat", &Bytes::from_static(b"hello"));
        assert!(messages(&mailboxes[0]).is_empty());
        assert!(extensions.lock().listeners.is_empty());
    }
}
