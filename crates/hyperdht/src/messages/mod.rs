//! What HyperDHT nodes say to one another: the values of requests and replies, byte for byte as npm `hyperdht` 6.34
//! encodes them (`lib/messages.js`).
//!
//! | command | value of the request | value of the reply |
//! |---|---|---|
//! | [`PeerHandshake`](Command::PeerHandshake) | [`Handshake`] | [`Handshake`] |
//! | [`PeerHolepunch`](Command::PeerHolepunch) | [`Holepunch`] | [`Holepunch`] |
//! | [`FindPeer`](Command::FindPeer) | none | [`Peer`] |
//! | [`Lookup`](Command::Lookup) | none | [`LookupReply`] |
//! | [`Announce`](Command::Announce), [`Unannounce`](Command::Unannounce) | [`Announce`] | none |
//! | [`MutablePut`](Command::MutablePut) | [`MutablePut`] | none |
//! | [`MutableGet`](Command::MutableGet) | the least wanted sequence number, see [`encode_seq`] | [`MutableRecord`] |
//! | [`ImmutablePut`](Command::ImmutablePut) | the bytes | none |
//! | [`ImmutableGet`](Command::ImmutableGet) | none | the bytes |
//! | [`Plugin`](Command::Plugin) | [`PluginRequest`] | as the plugin likes |
//!
//! [`NoisePayload`] and [`HolepunchPayload`] travel encrypted inside [`Handshake`] and [`Holepunch`].
//!
//! Decoders never read, or reserve memory for, more than is there. Bytes behind a message and unknown flags are
//! ignored, as JS ignores them. Addresses are IPv4 where the encoding has room for nothing else.
//!
//! ```
//! use hyperdht::messages::{Message, Peer};
//!
//! let peer = Peer { public_key: [7; 32], relay_addresses: vec!["127.0.0.1:4000".parse()?] };
//! let bytes = peer.encode();
//! assert_eq!(bytes.len(), 32 + 1 + 6);
//! assert_eq!(Peer::decode(bytes)?, peer);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod announce;
mod command;
mod handshake;
mod holepunch;
#[cfg(test)]
mod known_answers;
mod mutable;
mod noise_payload;
mod plugin;
#[cfg(test)]
pub(crate) mod strategies;

use bytes::Bytes;
use compact_codec::{DecodeError, Reader, Writer};

pub use address::{ipv4, socket_addrs};
pub use announce::{Announce, LookupReply, Peer};
pub use command::{Command, Firewall, error};
pub use handshake::{Handshake, RelayMode};
pub use holepunch::{Holepunch, HolepunchPayload};
pub use mutable::{MutablePut, MutableRecord, decode_seq, encode_seq};
pub use noise_payload::{
    HolepunchInfo, NOISE_PAYLOAD_VERSION, NoisePayload, RelayInfo, RelayThroughInfo, SecretStreamInfo,
    UdxInfo,
};
pub use plugin::PluginRequest;

/// Something with an encoding.
pub trait Message: Sized {
    /// Puts the encoding behind what was written.
    fn write(&self, writer: &mut Writer);

    /// Takes one off the front of what is left to read.
    ///
    /// # Errors
    /// When the bytes end early or hold a value that has no meaning here.
    fn read(reader: &mut Reader) -> Result<Self, DecodeError>;

    /// The encoding.
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        self.write(&mut writer);
        writer.finish()
    }

    /// What `bytes` start with; bytes behind it are ignored, as JS ignores them.
    ///
    /// # Errors
    /// When the bytes end early or hold a value that has no meaning here.
    fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        Self::read(&mut Reader::new(bytes))
    }
}

/// Writes what is there.
fn write_some<T>(writer: &mut Writer, value: Option<&T>, write: impl FnOnce(&mut Writer, &T)) {
    if let Some(value) = value {
        write(writer, value);
    }
}

/// Reads what a flag says is there.
fn read_if<T>(
    present: bool,
    reader: &mut Reader,
    read: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
) -> Result<Option<T>, DecodeError> {
    if present { read(reader).map(Some) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round_trips<M: Message + PartialEq + std::fmt::Debug>(message: &M) {
        let bytes = message.encode();
        assert_eq!(&M::decode(bytes.clone()).unwrap(), message);
        let mut longer = bytes.to_vec();
        longer.extend_from_slice(&[0xff; 3]);
        assert!(M::decode(Bytes::from(longer)).is_ok());
        for end in 0..bytes.len() {
            // Cut short it may still be a message (a count of none, an optional field), but never a panic.
            let _ = M::decode(bytes.slice(..end));
        }
    }

    /// What decodes from garbage survives being encoded and decoded again.
    fn survives<M: Message + PartialEq + std::fmt::Debug>(bytes: &Bytes) {
        if let Ok(message) = M::decode(bytes.clone()) {
            assert_eq!(M::decode(message.encode()).unwrap(), message);
        }
    }

    proptest! {
        #[test]
        fn handshakes(message in strategies::handshake()) { round_trips(&message); }

        #[test]
        fn noise_payloads(message in strategies::noise_payload()) { round_trips(&message); }

        #[test]
        fn holepunches(message in strategies::holepunch()) { round_trips(&message); }

        #[test]
        fn holepunch_payloads(message in strategies::holepunch_payload()) { round_trips(&message); }

        #[test]
        fn peers(message in strategies::peer()) { round_trips(&message); }

        #[test]
        fn announces(message in strategies::announce()) { round_trips(&message); }

        #[test]
        fn mutable_puts(message in strategies::mutable_put()) {
            round_trips(&message);
            round_trips(&message.record);
        }

        #[test]
        fn plugin_requests(message in strategies::plugin_request()) { round_trips(&message); }

        #[test]
        fn lookup_replies(
            peers in proptest::collection::vec(strategies::peer(), 0..5),
            bump in 0u64..1 << 53,
        ) {
            // A bump that is cut off counts as none (replies of older nodes), so there is no more to ask here.
            let reply = LookupReply { peers, bump };
            prop_assert_eq!(LookupReply::decode(reply.encode()).unwrap(), reply);
        }

        #[test]
        fn garbage_never_panics(input in proptest::collection::vec(any::<u8>(), 0..300)) {
            let input = Bytes::from(input);
            survives::<Handshake>(&input);
            survives::<NoisePayload>(&input);
            survives::<Holepunch>(&input);
            survives::<HolepunchPayload>(&input);
            survives::<Peer>(&input);
            survives::<Announce>(&input);
            survives::<LookupReply>(&input);
            survives::<MutablePut>(&input);
            survives::<MutableRecord>(&input);
            survives::<PluginRequest>(&input);
            let _ = decode_seq(input);
        }
    }

    #[test]
    fn counts_that_do_not_fit_reserve_nothing() {
        let mut writer = Writer::new();
        writer.raw(&[1; 32]);
        writer.uint(1 << 52);
        assert!(matches!(Peer::decode(writer.finish()), Err(DecodeError::UnexpectedEnd { .. })));
    }
}
