//! What is below the multiplexer: the encrypted stream made here, or one made elsewhere.

use std::time::Instant;

use bytes::Bytes;
use protomux::Protomux;
use secret_stream::{Config, SecretStream};

use super::{SecretHandshake, TransportOptions};
use crate::Error;

pub(super) enum Transport {
    Noise { stream: Box<SecretStream>, is_initiator: bool },
    Framed(SecretHandshake),
}

impl Transport {
    pub(super) fn new(options: TransportOptions, now: Instant) -> Result<Self, Error> {
        Ok(match options {
            TransportOptions::Framed(handshake) => Transport::Framed(handshake),
            TransportOptions::Noise(noise) => {
                let config = Config {
                    pattern: noise.pattern,
                    keep_alive: noise.keep_alive,
                    timeout: noise.timeout,
                    // JS peers send empty messages to keep alive, also when this side does not.
                    filter_empty_messages: true,
                    ..Config::new(noise.is_initiator, noise.key_pair)
                };
                let stream = Box::new(SecretStream::new(config, now)?);
                Transport::Noise { stream, is_initiator: noise.is_initiator }
            }
        })
    }

    pub(super) fn stream(&mut self) -> Result<&mut SecretStream, Error> {
        match self {
            Transport::Noise { stream, .. } => Ok(stream),
            Transport::Framed(_) => Err(Error::WrongInput { expected: "messages" }),
        }
    }

    pub(super) fn is_framed(&self) -> bool {
        matches!(self, Transport::Framed(_))
    }

    pub(super) fn is_connected(&self) -> bool {
        match self {
            Transport::Noise { stream, .. } => stream.is_connected(),
            Transport::Framed(_) => true,
        }
    }

    pub(super) fn handshake(&self) -> Option<SecretHandshake> {
        match self {
            Transport::Framed(handshake) => Some(*handshake),
            Transport::Noise { stream, is_initiator } => Some(SecretHandshake {
                is_initiator: *is_initiator,
                remote_public_key: stream.remote_public_key()?,
                handshake_hash: stream.handshake_hash()?,
            }),
        }
    }

    pub(super) fn pending(&self) -> usize {
        match self {
            Transport::Noise { stream, .. } => stream.pending_transmit(),
            Transport::Framed(_) => 0,
        }
    }

    pub(super) fn poll_transmit(&mut self, mux: &mut Protomux, burst: usize) -> Result<Option<Bytes>, Error> {
        match self {
            Transport::Framed(_) => Ok(mux.poll_transmit().map(protomux::Transmit::into_bytes)),
            Transport::Noise { stream, .. } => {
                while stream.is_connected() && stream.pending_transmit() < burst {
                    let Some(transmit) = mux.poll_transmit() else { break };
                    stream.send_parts(transmit.parts())?;
                }
                Ok(stream.poll_transmit())
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match self {
            Transport::Noise { stream, .. } => stream.next_deadline(),
            Transport::Framed(_) => None,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        match self {
            Transport::Noise { stream, .. } => Ok(stream.handle_timeout(now)?),
            Transport::Framed(_) => Ok(()),
        }
    }
}
