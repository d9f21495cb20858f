//! What is below the multiplexer: the encrypted stream made here, or one made elsewhere.

use std::time::Instant;

use bytes::Bytes;
use protomux::Protomux;
use secret_stream::{Config, KeyPair, SecretStream};

use super::{SecretHandshake, TransportOptions};
use crate::Error;

pub(super) enum Transport {
    Encrypted { stream: Box<SecretStream>, is_initiator: bool },
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
                Transport::Encrypted { stream, is_initiator: noise.is_initiator }
            }
            TransportOptions::Handshaken(options) => {
                let is_initiator = options.is_initiator;
                let config = Config {
                    keep_alive: options.keep_alive,
                    timeout: options.timeout,
                    filter_empty_messages: true,
                    // The handshake is over: who this side is was said in it.
                    ..Config::new(is_initiator, KeyPair::from_seed(&[0; 32]))
                };
                let stream = Box::new(SecretStream::with_handshake(&config, options.handshake, now)?);
                Transport::Encrypted { stream, is_initiator }
            }
        })
    }

    pub(super) fn stream(&mut self) -> Result<&mut SecretStream, Error> {
        match self {
            Transport::Encrypted { stream, .. } => Ok(stream),
            Transport::Framed(_) => Err(Error::WrongInput { expected: "messages" }),
        }
    }

    pub(super) fn is_framed(&self) -> bool {
        matches!(self, Transport::Framed(_))
    }

    pub(super) fn is_connected(&self) -> bool {
        match self {
            Transport::Encrypted { stream, .. } => stream.is_connected(),
            Transport::Framed(_) => true,
        }
    }

    pub(super) fn handshake(&self) -> Option<SecretHandshake> {
        match self {
            Transport::Framed(handshake) => Some(*handshake),
            Transport::Encrypted { stream, is_initiator } => Some(SecretHandshake {
                is_initiator: *is_initiator,
                remote_public_key: stream.remote_public_key()?,
                handshake_hash: stream.handshake_hash()?,
            }),
        }
    }

    pub(super) fn pending(&self) -> usize {
        match self {
            Transport::Encrypted { stream, .. } => stream.pending_transmit(),
            Transport::Framed(_) => 0,
        }
    }

    pub(super) fn poll_transmit(&mut self, mux: &mut Protomux, burst: usize) -> Result<Option<Bytes>, Error> {
        match self {
            Transport::Framed(_) => Ok(mux.poll_transmit().map(protomux::Transmit::into_bytes)),
            Transport::Encrypted { stream, .. } => {
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
            Transport::Encrypted { stream, .. } => stream.next_deadline(),
            Transport::Framed(_) => None,
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) -> Result<(), Error> {
        match self {
            Transport::Encrypted { stream, .. } => Ok(stream.handle_timeout(now)?),
            Transport::Framed(_) => Ok(()),
        }
    }
}
