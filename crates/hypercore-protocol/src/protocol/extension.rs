//! The handle of a user-defined extension.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::channel::mpsc;
use futures::stream::Stream;

use super::channel::check_message;
use super::{Command, send_command};
use crate::connection::{ChannelId, MAX_MESSAGE};
use crate::error::Error;
use crate::messages::{Extension, Kind, Message};

/// A user-defined extension, of one core or of the whole connection: sends messages and is a [`Stream`] of those
/// of the remote.
#[derive(Debug)]
pub struct ProtocolExtension {
    name: String,
    scope: Scope,
    channel: ChannelId,
    messages: mpsc::Receiver<Bytes>,
    commands: mpsc::Sender<Command>,
}

#[derive(Debug, Clone, Copy)]
enum Scope {
    Channel,
    Connection,
}

impl ProtocolExtension {
    pub(super) fn of_channel(
        name: String,
        channel: ChannelId,
        messages: mpsc::Receiver<Bytes>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self { name, scope: Scope::Channel, channel, messages, commands }
    }

    pub(super) fn of_connection(
        name: String,
        channel: ChannelId,
        messages: mpsc::Receiver<Bytes>,
        commands: mpsc::Sender<Command>,
    ) -> Self {
        Self { name, scope: Scope::Connection, channel, messages, commands }
    }

    /// Name of the extension.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a message. Waits while the remote takes nothing.
    pub async fn send(&mut self, message: impl Into<Bytes>) -> Result<(), Error> {
        let message = message.into();
        let command = match self.scope {
            Scope::Connection if message.len() > MAX_MESSAGE => {
                let (len, limit) = (message.len(), MAX_MESSAGE);
                return Err(Error::MessageTooLarge { kind: Kind::Extension, len, limit });
            }
            Scope::Connection => Command::SendExtension(self.channel, message),
            Scope::Channel => {
                let extension = Extension { name: self.name.clone(), message };
                let message = Message::Extension(extension);
                check_message(&message)?;
                Command::Send(self.channel, vec![message])
            }
        };
        send_command(&mut self.commands, command).await
    }
}

impl Stream for ProtocolExtension {
    type Item = Bytes;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        Pin::new(&mut self.messages).poll_next(cx)
    }
}
