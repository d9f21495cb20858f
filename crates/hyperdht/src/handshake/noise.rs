//! The handshake with a server whose public key is known: Noise IK with payloads (npm `hyperdht` 6.34,
//! `lib/noise-wrap.js`).

use bytes::Bytes;
use secret_stream::KeyPair;
use secret_stream::noise::{Handshake, HandshakeResult, NoiseError, Pattern};
use zeroize::Zeroizing;

use super::{digest, namespace};
use crate::messages::{Command, Message, NoisePayload};

/// One side of the handshake.
#[derive(Debug)]
pub(crate) struct PeerHandshake {
    noise: Handshake,
}

/// What is left of the handshake.
#[derive(Debug)]
pub(crate) struct Finished {
    /// Keys for the encrypted stream.
    pub(crate) result: HandshakeResult,
    /// Key of the notes about hole punching.
    pub(crate) holepunch_key: Zeroizing<[u8; 32]>,
}

/// Why a message of the handshake is no good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error(transparent)]
    Noise(#[from] NoiseError),
    #[error("payload of the handshake: {0}")]
    Payload(#[from] compact_codec::DecodeError),
}

impl PeerHandshake {
    /// A client's side towards the server with `remote_public_key`.
    pub(crate) fn client(key_pair: &KeyPair, remote_public_key: [u8; 32]) -> Result<Self, NoiseError> {
        Self::start(true, key_pair, Some(remote_public_key))
    }

    /// A server's side.
    pub(crate) fn server(key_pair: &KeyPair) -> Result<Self, NoiseError> {
        Self::start(false, key_pair, None)
    }

    fn start(
        initiator: bool,
        key_pair: &KeyPair,
        remote_public_key: Option<[u8; 32]>,
    ) -> Result<Self, NoiseError> {
        let prologue = namespace(Command::PeerHandshake as u8);
        let noise = Handshake::new(initiator, key_pair, Pattern::IK { remote_public_key }, &prologue)?;
        Ok(Self { noise })
    }

    /// The next message, with `payload` inside.
    pub(crate) fn send(&mut self, payload: &NoisePayload) -> Result<Bytes, NoiseError> {
        self.noise.write(&payload.encode()).map(Bytes::from)
    }

    /// The payload of the remote's message.
    pub(crate) fn receive(&mut self, message: &[u8]) -> Result<NoisePayload, HandshakeError> {
        let payload = self.noise.read(message)?;
        Ok(NoisePayload::decode(Bytes::from(payload))?)
    }

    /// Who calls: known to a server once the first message was received.
    pub(crate) fn remote_public_key(&self) -> Option<[u8; 32]> {
        self.noise.remote_public_key()
    }

    /// The keys, once both messages are through.
    pub(crate) fn finish(self) -> Result<Finished, NoiseError> {
        let result = self.noise.finish()?;
        let label = namespace(Command::PeerHolepunch as u8);
        let holepunch_key = Zeroizing::new(digest(&result.hash, &[&label]));
        Ok(Finished { result, holepunch_key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_end_with_the_same_keys() {
        let (alice, bob) = (KeyPair::generate(), KeyPair::generate());
        let mut client = PeerHandshake::client(&alice, bob.public).unwrap();
        let mut server = PeerHandshake::server(&bob).unwrap();
        let hello =
            NoisePayload { addresses4: vec!["1.2.3.4:5".parse().unwrap()], ..NoisePayload::default() };
        let first = client.send(&hello).unwrap();
        assert_eq!(server.receive(&first).unwrap(), hello);
        assert_eq!(server.remote_public_key(), Some(alice.public));
        let second = server.send(&NoisePayload { error: 1, ..NoisePayload::default() }).unwrap();
        assert_eq!(client.receive(&second).unwrap().error, 1);
        let (client, server) = (client.finish().unwrap(), server.finish().unwrap());
        assert_eq!(client.holepunch_key, server.holepunch_key);
        assert_eq!(client.result.tx, server.result.rx);
        assert_eq!(client.result.hash, server.result.hash);
        assert_eq!(client.result.remote_public_key, bob.public);
        assert_eq!(server.result.remote_public_key, alice.public);
    }

    #[test]
    fn a_client_without_the_right_key_gets_nowhere() {
        let (alice, bob, carol) = (KeyPair::generate(), KeyPair::generate(), KeyPair::generate());
        let mut client = PeerHandshake::client(&alice, carol.public).unwrap();
        let mut server = PeerHandshake::server(&bob).unwrap();
        let first = client.send(&NoisePayload::default()).unwrap();
        assert!(server.receive(&first).is_err());
        for garbage in [&b""[..], &[0; 31], &[7; 96], &[9; 4000]] {
            assert!(PeerHandshake::server(&bob).unwrap().receive(garbage).is_err());
        }
    }
}
