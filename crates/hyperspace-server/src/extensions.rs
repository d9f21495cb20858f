//! Who wants which extension's messages: every client that registered a name gets what peers send under it, for a core
//! or for the connection as a whole.
//!
//! Those for the connection go through a protocol of our own, [`PROTOCOL`], as today's connections have no place for
//! them (those of npm `hyperspace` 3.19.0 were extensions of its `hypercore-protocol` 8 stream). `docs/protocol.md`
//! describes it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use compact_codec::{Reader, Writer};
use corestore::replicate::ExtensionError;
use hypercore::DiscoveryKey;

use crate::mailbox::{Event, Mailbox};

/// The protocol that carries messages for the connection as a whole.
pub(crate) const PROTOCOL: &str = "hyperspace/extensions";

/// What an extension belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    Core(DiscoveryKey),
    /// The connections with peers.
    Network,
}

/// The extensions that clients have registered, over all clients.
#[derive(Debug, Default)]
pub(crate) struct Extensions {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    listeners: HashMap<Scope, HashMap<String, Vec<Listener>>>,
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
    scope: Scope,
    name: String,
    id: u64,
}

impl Extensions {
    /// From now on the client is told, under these numbers of its own.
    pub(crate) fn register(
        self: &Arc<Self>,
        scope: Scope,
        name: String,
        mailbox: Arc<Mailbox>,
        session: u64,
        resource: u64,
    ) -> Registration {
        let mut state = self.lock();
        let id = state.next;
        state.next += 1;
        let listeners = state.listeners.entry(scope).or_default().entry(name.clone()).or_default();
        listeners.push(Listener { id, mailbox, session, resource });
        drop(state);
        Registration { extensions: self.clone(), scope, name, id }
    }

    /// A peer sent a message.
    pub(crate) fn deliver(&self, scope: Scope, remote: &[u8; 32], name: &str, data: &Bytes) {
        let (state, remote) = (self.lock(), *remote);
        let Some(listeners) = state.listeners.get(&scope).and_then(|names| names.get(name)) else { return };
        // It is a slice of all that the peer sent along with it: a client that does not read for a while would keep that,
        // megabytes for each of its messages.
        let data = Bytes::copy_from_slice(data);
        for Listener { mailbox, session, resource, .. } in listeners {
            let (session, resource, data) = (*session, *resource, data.clone());
            match scope {
                Scope::Core(_) => mailbox.push(Event::Extension { session, resource, remote, data }),
                // It is of no use to a client that does not know who is connected.
                Scope::Network => mailbox.push_network(Event::NetworkExtension { resource, remote, data }),
            }
        }
    }

    /// A peer sent a message for the connection as a whole. What cannot be read is passed over, as is what nobody wants.
    pub(crate) fn deliver_network(&self, remote: &[u8; 32], message: Bytes) {
        let mut reader = Reader::new(message);
        let Ok(name) = reader.string() else { return };
        self.deliver(Scope::Network, remote, &name, &reader.rest());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A message for the connection as a whole: `string name | data`.
pub(crate) fn network_message(name: &str, data: &[u8]) -> Result<Bytes, ExtensionError> {
    ExtensionError::check(name, data)?;
    let mut writer = Writer::with_capacity(name.len() + data.len() + 3);
    writer.string(name);
    writer.raw(data);
    Ok(writer.finish())
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
        let Some(names) = state.listeners.get_mut(&self.scope) else { return };
        if let Some(listeners) = names.get_mut(&self.name) {
            listeners.retain(|listener| listener.id != self.id);
            if listeners.is_empty() {
                names.remove(&self.name);
            }
        }
        if names.is_empty() {
            state.listeners.remove(&self.scope);
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
        let [core, other] = [1, 2].map(|n| Scope::Core(DiscoveryKey::from([n; 32])));
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
        extensions.deliver(core, &[3; 32], "chat", &Bytes::from_static(b"hello"));
        extensions.deliver(core, &[3; 32], "nobody's", &Bytes::from_static(b"hello"));
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
        extensions.deliver(core, &[3; 32], "chat", &Bytes::from_static(b"hello"));
        assert!(messages(&mailboxes[0]).is_empty());
        assert!(extensions.lock().listeners.is_empty());
    }

    #[test]
    fn a_message_that_waits_for_a_client_keeps_nothing_of_what_came_with_it() {
        let extensions = Arc::new(Extensions::default());
        let (core, mailbox) = (Scope::Core(DiscoveryKey::from([1; 32])), Arc::new(Mailbox::default()));
        let _registration = extensions.register(core, "chat".into(), mailbox.clone(), 5, 6);
        let frame = Bytes::from(vec![7; 4096]);
        extensions.deliver(core, &[3; 32], "chat", &frame.slice(..5));
        assert!(frame.is_unique());
        assert_eq!(messages(&mailbox)[0].data, [7; 5][..]);
    }

    #[test]
    fn messages_for_the_connection_carry_their_names() {
        let extensions = Arc::new(Extensions::default());
        let mailbox = Arc::new(Mailbox::default());
        let _registration = extensions.register(Scope::Network, "chat".into(), mailbox.clone(), 0, 6);
        let hello = network_message("chat", b"hello").unwrap();
        extensions.deliver_network(&[3; 32], hello.clone());
        assert!(messages(&mailbox).is_empty(), "the client has not asked who is connected");
        mailbox.open_network();
        extensions.deliver_network(&[3; 32], hello.clone());
        extensions.deliver_network(&[3; 32], network_message("else", b"hello").unwrap());
        for end in 0..hello.len() {
            // Whatever is cut short harms nobody.
            extensions.deliver_network(&[3; 32], hello.slice(..end.min(4)));
        }
        let [message] = &messages(&mailbox)[..] else { panic!("one message") };
        assert_eq!((message.id, message.resource_id, &message.data[..]), (0, 6, &b"hello"[..]));
        assert!(network_message(&"n".repeat(2000), b"").is_err());
    }
}
