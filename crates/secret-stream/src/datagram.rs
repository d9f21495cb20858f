//! Messages beside the stream, for transports that also carry datagrams: each is sealed on its own, so they may
//! be lost or overtake each other (npm `@hyperswarm/secret-stream` 6.9, `send` and `_onmessage`).
//!
//! ```text
//! datagram         counter: 8 bytes, little endian | secretbox of the text (16 bytes of authentication first)
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use dryoc::classic::crypto_secretbox::{crypto_secretbox_easy, crypto_secretbox_open_easy};
use zeroize::Zeroizing;

use crate::namespace;

const COUNTER: usize = 8;
const AUTHENTICATION: usize = 16;

pub(crate) struct Datagrams {
    seal: Zeroizing<[u8; 32]>,
    open: Zeroizing<[u8; 32]>,
    /// Starts anywhere; the key is done with when it comes round to where it started.
    counter: u64,
    first: u64,
}

impl Datagrams {
    pub(crate) fn new(handshake_hash: &[u8; 64], is_initiator: bool) -> Self {
        let mut first = [0; COUNTER];
        dryoc::rng::copy_randombytes(&mut first);
        let first = u64::from_le_bytes(first);
        Self {
            seal: namespace::datagram_key(handshake_hash, is_initiator),
            open: namespace::datagram_key(handshake_hash, !is_initiator),
            counter: first,
            first,
        }
    }

    /// `None` when the counter is used up.
    pub(crate) fn seal(&mut self, text: &[u8]) -> Option<Bytes> {
        self.counter = self.counter.wrapping_add(1);
        if self.counter == self.first {
            // Stay here: the next call must fail as well.
            self.counter = self.counter.wrapping_sub(1);
            return None;
        }
        let mut sealed = BytesMut::zeroed(text.len().checked_add(COUNTER + AUTHENTICATION)?);
        let (head, body) = sealed.split_first_chunk_mut::<COUNTER>()?;
        *head = self.counter.to_le_bytes();
        crypto_secretbox_easy(body, text, &nonce(*head), &self.seal).ok()?;
        Some(sealed.freeze())
    }

    /// `None` for what did not come from the remote as it is.
    pub(crate) fn open(&self, datagram: &[u8]) -> Option<Bytes> {
        let (head, body) = datagram.split_first_chunk::<COUNTER>()?;
        let mut text = BytesMut::zeroed(body.len().checked_sub(AUTHENTICATION)?);
        crypto_secretbox_open_easy(&mut text, body, &nonce(*head), &self.open).ok()?;
        Some(text.freeze())
    }
}

fn nonce(counter: [u8; COUNTER]) -> [u8; 24] {
    let mut nonce = [0; 24];
    (&mut nonce[..]).put_slice(&counter);
    nonce
}
