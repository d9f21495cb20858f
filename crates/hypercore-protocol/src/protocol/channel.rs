//! The handle of one core's channel.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::channel::mpsc;
use futures::stream::Stream;
use hypercore::DiscoveryKey;

use super::extension::ProtocolExtension;
use super::routes::Extensions;
use super::{Command, send_command};
use crate::codec::MAX_EXTENSION_NAME;
use crate::connection::{ChannelId, check_size};
use crate::error::Error;
use crate::messages::Message;

/// The channel of one core: sends [`Message`]s and is a [`Stream`] of those of the remote. The stream ends when
/// either side has closed the channel. Dropping the handle closes it.
#[derive(Debug)]
pub struct Channel {
    id: ChannelId,
    discovery_key: DiscoveryKey,
    messages: mpsc::Receiver<Message>,
    extensions: Extensions,
    commands: mpsc::Sender<Command>,
    dropped: mpsc::UnboundedSender<ChannelId>,
}

impl Channel {
    pub(super) fn new(
        id: ChannelId,
        discovery_key: DiscoveryKey,
        messages: mpsc::Receiver<Message>,
        extensions: Extensions,
        commands: mpsc::Sender<Command>,
        dropped: mpsc::UnboundedSender<ChannelId>,
    ) -> Self {
        Self { id, discovery_key, messages, extensions, commands, dropped }
    }

    /// Which core this is about.
    pub fn discovery_key(&self) -> &DiscoveryKey {
        &self.discovery_key
    }

    /// Sends a message. Waits while the remote takes nothing.
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        self.send_batch(vec![message]).await
    }

    /// Sends several messages at once, in one batch on the wire.
    pub async fn send_batch(&mut self, messages: Vec<Message>) -> Result<(), Error> {
        messages.iter().try_for_each(check_message)?;
        send_command(&mut self.commands, Command::Send(self.id, messages)).await
    }

    /// From now on, the remote's messages for this extension go to the returned handle instead of to the channel's
    /// stream. Registering a name again ends the handle that had it.
    pub fn register_extension(&mut self, name: &str) -> ProtocolExtension {
        let messages = self.extensions.register(name);
        ProtocolExtension::of_channel(name.to_owned(), self.id, messages, self.commands.clone())
    }

    /// Closes the channel; [`Event::Close`](super::Event::Close) follows.
    pub async fn close(&mut self) -> Result<(), Error> {
        send_command(&mut self.commands, Command::Close(self.discovery_key)).await
    }
}

impl Stream for Channel {
    type Item = Message;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Message>> {
        Pin::new(&mut self.messages).poll_next(cx)
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // Fails when the protocol is gone, and the channel with it.
        let _ = self.dropped.unbounded_send(self.id);
    }
}

/// Refuses here what would otherwise end the connection.
pub(super) fn check_message(message: &Message) -> Result<(), Error> {
    if let Message::Extension(extension) = message
        && extension.name.len() as u64 > MAX_EXTENSION_NAME
    {
        return Err(Error::ExtensionNameTooLong { limit: MAX_EXTENSION_NAME });
    }
    match message.kind() {
        kind if message.has_large_value() => check_size(kind, message.encode().len()),
        _ => Ok(()),
    }
}
