//! Which handle gets which message.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::channel::mpsc;

use crate::connection::ChannelId;
use crate::messages::{Extension, Message};

/// Messages that may wait for a channel handle, and for an extension handle.
const MESSAGES: usize = 64;

/// The extensions that were registered on one channel, by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Extensions {
    by_name: Arc<Mutex<HashMap<String, mpsc::Sender<Bytes>>>>,
}

impl Extensions {
    /// Messages of this name go to the receiver from now on; an earlier registration of the name ends.
    pub(super) fn register(&self, name: &str) -> mpsc::Receiver<Bytes> {
        let (sender, receiver) = mpsc::channel(MESSAGES);
        self.lock().insert(name.to_owned(), sender);
        receiver
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, mpsc::Sender<Bytes>>> {
        // The map is whole at any time: nothing in here panics half-way.
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
pub(super) struct Routes {
    by_channel: HashMap<ChannelId, Route>,
}

#[derive(Debug)]
enum Route {
    Channel { messages: mpsc::Sender<Message>, extensions: Extensions },
    Extension { messages: mpsc::Sender<Bytes> },
}

impl Routes {
    pub(super) fn add_channel(&mut self, channel: ChannelId) -> (mpsc::Receiver<Message>, Extensions) {
        let (messages, receiver) = mpsc::channel(MESSAGES);
        let extensions = Extensions::default();
        self.by_channel.insert(channel, Route::Channel { messages, extensions: extensions.clone() });
        (receiver, extensions)
    }

    pub(super) fn add_extension(&mut self, channel: ChannelId) -> mpsc::Receiver<Bytes> {
        let (messages, receiver) = mpsc::channel(MESSAGES);
        self.by_channel.insert(channel, Route::Extension { messages });
        receiver
    }

    pub(super) fn remove(&mut self, channel: ChannelId) {
        if let Some(Route::Channel { extensions, .. }) = self.by_channel.remove(&channel) {
            extensions.lock().clear();
        }
    }

    pub(super) fn clear(&mut self) {
        for (_, route) in self.by_channel.drain() {
            if let Route::Channel { extensions, .. } = route {
                extensions.lock().clear();
            }
        }
    }

    /// Hands a message to its handle, or gives it back when the handle has no room: the task is woken when it has.
    /// A handle that is gone swallows the message.
    #[expect(
        clippy::result_large_err,
        reason = "the message goes back where it was; a box would cost every message"
    )]
    pub(super) fn poll_deliver(&mut self, cx: &mut Context<'_>, parked: Parked) -> Result<(), Parked> {
        let route = self.by_channel.get_mut(&parked.channel);
        // Senders stay in place: every clone of one has room for a message more.
        match (route, parked.said) {
            (Some(Route::Extension { messages }), Said::Raw(payload)) => {
                deliver(cx, messages, payload).map_err(Said::Raw)
            }
            (Some(Route::Channel { messages, extensions }), Said::Message(message)) => {
                let mut by_name = extensions.lock();
                match message {
                    Message::Extension(extension) => match by_name.get_mut(&extension.name) {
                        Some(sender) => deliver(cx, sender, extension.message).map_err(|message| {
                            Said::Message(Message::Extension(Extension { message, ..extension }))
                        }),
                        None => deliver(cx, messages, Message::Extension(extension)).map_err(Said::Message),
                    },
                    message => deliver(cx, messages, message).map_err(Said::Message),
                }
            }
            _ => Ok(()),
        }
        .map_err(|said| Parked { channel: parked.channel, said })
    }
}

/// A message on its way to a handle.
pub(super) struct Parked {
    pub(super) channel: ChannelId,
    pub(super) said: Said,
}

#[expect(clippy::large_enum_variant, reason = "one is alive at a time")]
pub(super) enum Said {
    /// On the channel of a core.
    Message(Message),
    /// On the channel of an extension of the whole connection.
    Raw(Bytes),
}

fn deliver<T>(cx: &mut Context<'_>, sender: &mut mpsc::Sender<T>, message: T) -> Result<(), T> {
    match sender.poll_ready(cx) {
        Poll::Ready(Ok(())) => {
            // It can only fail when the handle was dropped this very moment.
            let _ = sender.start_send(message);
            Ok(())
        }
        Poll::Ready(Err(_)) => Ok(()),
        Poll::Pending => Err(message),
    }
}
