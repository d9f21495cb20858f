//! One connection between two peers: bytes and commands in, events and bytes out. No I/O, no clock.

mod channels;
mod event;
mod options;
#[cfg(test)]
mod tests;
mod transport;

use std::collections::{HashSet, VecDeque};
use std::time::Instant;

use bytes::Bytes;
use compact_codec::Writer;
use hypercore::{DiscoveryKey, Key};
use protomux::{OpenOptions, Protomux};

pub use event::{ChannelId, CloseReason, ConnectionEvent};
pub use options::{ConnectionOptions, HandshakenOptions, NoiseOptions, SecretHandshake, TransportOptions};

use crate::Error;
use crate::capability::capability;
use crate::codec::MAX_EXTENSION_NAME;
use crate::handshake::ChannelHandshake;
use crate::messages::{Extension, Kind, Message};
use channels::{Channels, Phase, Slot, Subject};
use transport::Transport;

/// Name of the protocol that a core's channel speaks, npm `hypercore` 11.37.1.
pub const PROTOCOL: &str = "hypercore/alpha";
/// The name that it had before; JS peers still answer to it.
pub const PROTOCOL_ALIAS: &str = "hypercore";

/// The longest encoded message: what one frame of the encrypted stream carries, less the multiplexer's framing.
pub const MAX_MESSAGE: usize = secret_stream::MAX_MESSAGE - 64;

/// One [`Connection::poll_transmit`] gathers about this much.
const TRANSMIT_BURST: usize = 256 * 1024;

/// A connection to one peer, with a channel for every core that both have opened.
///
/// Call order: after [`receive`](Self::receive) and [`handle_timeout`](Self::handle_timeout), take all events from
/// [`poll_event`](Self::poll_event); after that and after every command, write what
/// [`poll_transmit`](Self::poll_transmit) gives as soon as the transport takes it. While
/// [`pending_transmit`](Self::pending_transmit) is large the peer does not read: produce no answers, and receive
/// nothing more that would need some.
pub struct Connection {
    transport: Transport,
    mux: Protomux,
    channels: Channels,
    /// Protocols other than Hypercore that the remote may open.
    expected: HashSet<String>,
    /// Cores that the remote opened and nobody answered yet.
    unpaired: HashSet<DiscoveryKey>,
    events: VecDeque<ConnectionEvent>,
    scratch: Writer,
    max_channels: usize,
    max_unpaired: usize,
}

impl Connection {
    /// Starts the connection. The initiator has bytes to transmit at once.
    pub fn new(options: ConnectionOptions, now: Instant) -> Result<Self, Error> {
        let mut events = VecDeque::new();
        let transport = Transport::new(options.transport, now)?;
        if let Some(handshake) = transport.handshake() {
            events.push_back(ConnectionEvent::Handshake {
                remote_public_key: handshake.remote_public_key,
                handshake_hash: handshake.handshake_hash,
            });
        }
        Ok(Self {
            transport,
            mux: Protomux::new(),
            channels: Channels::default(),
            expected: HashSet::new(),
            unpaired: HashSet::new(),
            events,
            scratch: Writer::new(),
            max_channels: options.max_channels,
            max_unpaired: options.max_unpaired,
        })
    }

    /// Opens the channel of a core. It is there for messages with [`ConnectionEvent::Opened`], once the remote has opened
    /// the same core and proven that it knows the key. The key itself is never sent.
    ///
    /// May be called before the handshake is over.
    pub fn open(&mut self, key: &Key) -> Result<ChannelId, Error> {
        let discovery_key = key.discovery_key();
        if self.channels.by_discovery_key(&discovery_key).is_some() {
            return Err(Error::AlreadyOpen);
        }
        self.check_room()?;
        let is_answer = self.unpaired.remove(&discovery_key);
        let channel = self.channels.insert(Slot::core(*key, discovery_key));
        if self.transport.is_connected() {
            self.open_mux(channel)?;
            if is_answer {
                // To the first that the remote opened: there is one channel for each core.
                self.reject_mux(&discovery_key)?;
            }
        }
        Ok(channel)
    }

    /// The channel of this core, when this side has opened it.
    pub fn channel(&self, discovery_key: &DiscoveryKey) -> Option<ChannelId> {
        self.channels.by_discovery_key(discovery_key)
    }

    /// Answers [`ConnectionEvent::DiscoveryKey`]: this core is not to be had here. Nothing happens when the remote does not
    /// wait for an answer.
    pub fn reject(&mut self, discovery_key: &DiscoveryKey) -> Result<(), Error> {
        if self.unpaired.remove(discovery_key) {
            self.reject_mux(discovery_key)?;
        }
        Ok(())
    }

    /// Lets the remote open this protocol; the remote's other protocols are rejected at once.
    pub fn expect_protocol(&mut self, protocol: &str) {
        self.expected.insert(protocol.to_owned());
    }

    /// Opens a user-defined protocol, also in answer to [`ConnectionEvent::RemoteProtocol`].
    pub fn open_protocol(
        &mut self,
        protocol: &str,
        id: Option<Bytes>,
        handshake: Option<Bytes>,
    ) -> Result<ChannelId, Error> {
        self.check_room()?;
        let channel = self.channels.insert(Slot::protocol(protocol.to_owned(), id, handshake));
        if self.transport.is_connected()
            && let Err(error) = self.open_mux(channel)
        {
            self.channels.remove(channel);
            return Err(error);
        }
        Ok(channel)
    }

    /// Answers [`ConnectionEvent::RemoteProtocol`]: not spoken here, or not a second time.
    pub fn reject_protocol(&mut self, protocol: &str, id: Option<&[u8]>) -> Result<(), Error> {
        Ok(self.mux.reject_all(protocol, id)?)
    }

    /// Closes a channel; its [`ConnectionEvent::Closed`] follows. Nothing happens when it is closed already.
    pub fn close(&mut self, channel: ChannelId) -> Result<(), Error> {
        self.close_because(channel, CloseReason::Local)
    }

    /// Sends a message on the channel of a core.
    pub fn send(&mut self, channel: ChannelId, mut message: Message) -> Result<(), Error> {
        let slot = self.channels.get_mut(channel).ok_or(Error::UnknownChannel)?;
        let Phase::Open(mux) = slot.phase else {
            return Err(Error::UnknownChannel);
        };
        if let Message::Extension(extension) = &mut message {
            shorten_name(slot, extension)?;
        }
        let kind = message.kind();
        if message.has_large_value() {
            let encoded = message.encode();
            check_size(kind, encoded.len())?;
            self.mux.send_parts(mux, kind.to_wire(), &[encoded.head, encoded.value, encoded.tail])?;
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.scratch).into_inner();
        buffer.clear();
        let mut writer = Writer::append_to(buffer);
        message.encode_into(&mut writer);
        let encoded = writer.into_inner();
        let sent = check_size(kind, encoded.len())
            .and_then(|()| Ok(self.mux.send(mux, kind.to_wire(), &encoded)?));
        self.scratch = Writer::append_to(encoded);
        sent
    }

    /// Sends a message of a user-defined protocol. May be called before the remote has opened it.
    pub fn send_protocol(&mut self, channel: ChannelId, kind: u32, payload: &[u8]) -> Result<(), Error> {
        let slot = self.channels.get_mut(channel).ok_or(Error::UnknownChannel)?;
        match slot.phase {
            Phase::Opening(mux) | Phase::Open(mux) => Ok(self.mux.send(mux, kind, payload)?),
            Phase::Waiting => Err(Error::UnknownChannel),
        }
    }

    /// From here to [`uncork`](Self::uncork), messages are gathered into batches. May be nested.
    pub fn cork(&mut self) {
        self.mux.cork();
    }

    /// Ends what the matching [`cork`](Self::cork) began.
    pub fn uncork(&mut self) {
        self.mux.uncork();
    }

    /// Takes bytes that arrived on a transport of plain bytes, in any portions.
    pub fn receive(&mut self, bytes: &[u8], now: Instant) -> Result<(), Error> {
        self.transport.stream()?.receive(bytes, now)?;
        self.pump()
    }

    /// Takes a message that arrived on a transport that is encrypted and framed already.
    pub fn receive_message(&mut self, message: Bytes) -> Result<(), Error> {
        if !self.transport.is_framed() {
            return Err(Error::WrongInput { expected: "bytes" });
        }
        if message.is_empty() {
            return Ok(());
        }
        Ok(self.mux.receive(message)?)
    }

    /// Takes notice that the transport has ended.
    pub fn receive_end(&mut self) -> Result<(), Error> {
        if self.transport.is_framed() {
            self.events.push_back(ConnectionEvent::Ended);
            return Ok(());
        }
        self.transport.stream()?.receive_end()?;
        self.pump()
    }

    /// What happened. To be called until it gives none.
    pub fn poll_event(&mut self) -> Result<Option<ConnectionEvent>, Error> {
        loop {
            // Events of this side (a handshake, a local close) precede what the remote does after them.
            if let Some(event) = self.events.pop_front() {
                return Ok(Some(event));
            }
            let Some(event) = self.mux.poll_event()? else {
                return Ok(None);
            };
            if let Some(event) = self.on_mux_event(event)? {
                return Ok(Some(event));
            }
        }
    }

    /// Bytes for the transport, up to some 256 KiB at a time; on a framed transport, one message.
    pub fn poll_transmit(&mut self) -> Result<Option<Bytes>, Error> {
        self.transport.poll_transmit(&mut self.mux, TRANSMIT_BURST)
    }

    /// How many bytes wait for [`poll_transmit`](Self::poll_transmit).
    pub fn pending_transmit(&self) -> usize {
        self.transport.pending() + self.mux.queued_bytes()
    }

    /// True while the remote sends to channels that wait for [`open`](Self::open) or [`reject`](Self::reject):
    /// answer before receiving more.
    pub fn is_paused(&self) -> bool {
        self.mux.is_paused()
    }

    /// True when the encrypted stream stands.
    pub fn is_connected(&self) -> bool {
        self.transport.is_connected()
    }

    /// Who the remote is and what was agreed, once the encrypted stream stands.
    pub fn handshake(&self) -> Option<SecretHandshake> {
        self.transport.handshake()
    }

    /// How many channels this side has opened.
    pub fn channel_count(&self) -> usize {
        self.channels.len()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.transport.next_deadline()
    }

    /// Does what is due: keep-alive, or giving up a remote that is silent.
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        self.transport.handle_timeout(now)
    }

    fn check_room(&self) -> Result<(), Error> {
        if self.channels.len() >= self.max_channels {
            return Err(Error::TooManyChannels { limit: self.max_channels });
        }
        Ok(())
    }

    /// Takes what the encrypted stream has decrypted.
    fn pump(&mut self) -> Result<(), Error> {
        while let Some(event) = self.transport.stream()?.poll_event() {
            match event {
                secret_stream::Event::Connected { remote_public_key, handshake_hash, .. } => {
                    self.events.push_back(ConnectionEvent::Handshake { remote_public_key, handshake_hash });
                    self.mux.cork();
                    let opened =
                        self.channels.waiting().into_iter().try_for_each(|channel| self.open_mux(channel));
                    self.mux.uncork();
                    opened?;
                }
                secret_stream::Event::Message(message) => self.mux.receive(message)?,
                secret_stream::Event::Closed => self.events.push_back(ConnectionEvent::Ended),
                _ => {}
            }
        }
        Ok(())
    }

    fn open_mux(&mut self, channel: ChannelId) -> Result<(), Error> {
        let Some(handshake) = self.transport.handshake() else { return Ok(()) };
        let Some(slot) = self.channels.get(channel) else { return Ok(()) };
        let options = match &slot.subject {
            Subject::Core { key, discovery_key } => {
                let capability = capability(handshake.is_initiator, key, &handshake.handshake_hash);
                OpenOptions {
                    id: Some(Bytes::copy_from_slice(discovery_key.as_bytes())),
                    aliases: vec![PROTOCOL_ALIAS.to_owned()],
                    handshake: Some(ChannelHandshake { seeks: true, capability }.encode()),
                    messages: Kind::COUNT,
                    ..OpenOptions::new(PROTOCOL)
                }
            }
            Subject::Protocol { name, id, handshake } => {
                OpenOptions { id: id.clone(), handshake: handshake.clone(), ..OpenOptions::new(name.clone()) }
            }
        };
        let mux = self.mux.open(options)?;
        self.channels.set_opening(channel, mux);
        Ok(())
    }

    fn reject_mux(&mut self, discovery_key: &DiscoveryKey) -> Result<(), Error> {
        // Whichever name the remote used; the other one does nothing.
        self.mux.reject_all(PROTOCOL, Some(discovery_key.as_bytes()))?;
        Ok(self.mux.reject_all(PROTOCOL_ALIAS, Some(discovery_key.as_bytes()))?)
    }

    fn close_because(&mut self, channel: ChannelId, reason: CloseReason) -> Result<(), Error> {
        let Some(slot) = self.channels.remove(channel) else { return Ok(()) };
        self.events.push_back(closed_event(channel, &slot, reason));
        match slot.phase {
            Phase::Waiting => Ok(()),
            Phase::Opening(mux) | Phase::Open(mux) => match self.mux.close(mux) {
                Err(protomux::Error::ChannelClosed) => Ok(()),
                other => Ok(other?),
            },
        }
    }

    fn on_mux_event(&mut self, event: protomux::Event) -> Result<Option<ConnectionEvent>, Error> {
        match event {
            protomux::Event::Message { channel, kind, payload } => self.on_message(channel, kind, payload),
            protomux::Event::RemoteOpen { protocol, id, handshake } => {
                self.on_remote_open(protocol, id, handshake)
            }
            protomux::Event::Opened { channel, handshake } => self.on_opened(channel, handshake),
            protomux::Event::Closed { channel, .. } => {
                // Channels that this side closed have told so already.
                let Some(id) = self.channels.by_mux(channel) else { return Ok(None) };
                Ok(self.channels.remove(id).map(|slot| closed_event(id, &slot, CloseReason::Remote)))
            }
            _ => Ok(None),
        }
    }

    fn on_message(
        &mut self,
        mux: protomux::ChannelId,
        kind: u32,
        payload: Bytes,
    ) -> Result<Option<ConnectionEvent>, Error> {
        let Some(channel) = self.channels.by_mux(mux) else { return Ok(None) };
        let Some(slot) = self.channels.get_mut(channel) else { return Ok(None) };
        if let Subject::Protocol { .. } = slot.subject {
            return Ok(Some(ConnectionEvent::ProtocolMessage { channel, kind, payload }));
        }
        let Some(kind) = Kind::from_wire(kind) else { return Ok(None) };
        let mut message =
            Message::decode(kind, payload).map_err(|source| Error::BadMessage { kind, source })?;
        if let Message::Extension(extension) = &mut message {
            restore_name(slot, extension);
        }
        Ok(Some(ConnectionEvent::Message { channel, message }))
    }

    fn on_remote_open(
        &mut self,
        protocol: String,
        id: Option<Bytes>,
        handshake: Bytes,
    ) -> Result<Option<ConnectionEvent>, Error> {
        if protocol == PROTOCOL || protocol == PROTOCOL_ALIAS {
            let discovery_key =
                id.as_deref().and_then(|id| <[u8; 32]>::try_from(id).ok()).map(DiscoveryKey::from);
            // Who has a channel for the core already gets no other one, as in JS. Left without an answer, it would be
            // kept, with all that is sent on it, as long as the connection lasts.
            let is_open =
                |discovery_key: &DiscoveryKey| self.channels.by_discovery_key(discovery_key).is_some();
            if let Some(discovery_key) = discovery_key.filter(|discovery_key| !is_open(discovery_key)) {
                if self.unpaired.contains(&discovery_key) {
                    return Ok(None);
                }
                if self.unpaired.len() < self.max_unpaired {
                    self.unpaired.insert(discovery_key);
                    return Ok(Some(ConnectionEvent::DiscoveryKey(discovery_key)));
                }
            }
        } else if self.expected.contains(&protocol) {
            return Ok(Some(ConnectionEvent::RemoteProtocol { protocol, id, handshake }));
        }
        self.mux.reject(&protocol, id.as_deref())?;
        Ok(None)
    }

    fn on_opened(
        &mut self,
        mux: protomux::ChannelId,
        handshake: Bytes,
    ) -> Result<Option<ConnectionEvent>, Error> {
        let Some(channel) = self.channels.by_mux(mux) else { return Ok(None) };
        let Some(slot) = self.channels.get_mut(channel) else { return Ok(None) };
        slot.phase = Phase::Open(mux);
        let Subject::Core { key, discovery_key } = slot.subject else {
            return Ok(Some(ConnectionEvent::ProtocolOpened { channel, handshake }));
        };
        self.unpaired.remove(&discovery_key);
        let proven = self.transport.handshake().is_some_and(|agreed| {
            ChannelHandshake::decode(handshake.clone()).is_ok_and(|remote| {
                remote.capability == capability(!agreed.is_initiator, &key, &agreed.handshake_hash)
            })
        });
        if !proven {
            self.close_because(channel, CloseReason::InvalidCapability)?;
            return Ok(self.events.pop_front());
        }
        let seeks = ChannelHandshake::decode(handshake).is_ok_and(|remote| remote.seeks);
        Ok(Some(ConnectionEvent::Opened { channel, discovery_key, seeks }))
    }
}

pub(crate) fn check_size(kind: Kind, len: usize) -> Result<(), Error> {
    if len > MAX_MESSAGE {
        return Err(Error::MessageTooLarge { kind, len, limit: MAX_MESSAGE });
    }
    Ok(())
}

/// An empty name stands for the name that was sent before (npm `hypercore` 11.37.1, `Peer.extension`).
fn shorten_name(slot: &mut Slot, extension: &mut Extension) -> Result<(), Error> {
    if extension.name.len() as u64 > MAX_EXTENSION_NAME {
        return Err(Error::ExtensionNameTooLong { limit: MAX_EXTENSION_NAME });
    }
    if slot.last_extension_sent.as_deref() == Some(extension.name.as_str()) {
        extension.name.clear();
    } else {
        slot.last_extension_sent = Some(extension.name.as_str().into());
    }
    Ok(())
}

fn restore_name(slot: &mut Slot, extension: &mut Extension) {
    if !extension.name.is_empty() {
        slot.last_extension_received = Some(extension.name.as_str().into());
    } else if let Some(name) = &slot.last_extension_received {
        extension.name = name.as_ref().to_owned();
    }
}

fn closed_event(channel: ChannelId, slot: &Slot, reason: CloseReason) -> ConnectionEvent {
    match slot.subject {
        Subject::Core { discovery_key, .. } => ConnectionEvent::Closed { channel, discovery_key, reason },
        Subject::Protocol { .. } => ConnectionEvent::ProtocolClosed { channel, reason },
    }
}
