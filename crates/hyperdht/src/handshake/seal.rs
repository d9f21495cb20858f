//! Notes about hole punching that the nodes between cannot read (npm `hyperdht` 6.34, `lib/secure-payload.js`).
//!
//! A note is `nonce: 24 bytes | XSalsa20-Poly1305 box`, keyed with a secret of the handshake.

use std::net::IpAddr;

use bytes::Bytes;
use dryoc::classic::crypto_secretbox::{Key, Nonce, crypto_secretbox_easy, crypto_secretbox_open_easy};
use zeroize::Zeroizing;

use super::digest;
use crate::messages::{HolepunchPayload, Message};

const NONCE: usize = 24;
const TAG: usize = 16;
/// A note of today's peers has less than 300 bytes; longer ones are not opened.
const MAX_NOTE: usize = 2048;

/// Seals and opens the notes of one handshake, and makes its tokens.
#[derive(Debug, Clone)]
pub(crate) struct SealedNotes {
    shared: Zeroizing<[u8; 32]>,
    local: Zeroizing<[u8; 32]>,
}

impl SealedNotes {
    pub(crate) fn new(shared: Zeroizing<[u8; 32]>) -> Self {
        let mut local = Zeroizing::new([0; 32]);
        dryoc::rng::copy_randombytes(local.as_mut());
        Self { shared, local }
    }

    pub(crate) fn seal(&self, note: &HolepunchPayload) -> Bytes {
        let mut nonce: Nonce = [0; NONCE];
        dryoc::rng::copy_randombytes(&mut nonce);
        self.seal_with(note, &nonce)
    }

    fn seal_with(&self, note: &HolepunchPayload, nonce: &Nonce) -> Bytes {
        let text = note.encode();
        let mut sealed = vec![0; NONCE + TAG + text.len()];
        let (head, body) = sealed.split_at_mut(NONCE);
        head.copy_from_slice(nonce);
        // Fails only for a length mismatch, which the lines above rule out.
        if crypto_secretbox_easy(body, &text, nonce, self.key()).is_err() {
            return Bytes::new();
        }
        Bytes::from(sealed)
    }

    /// `None` for anything that the remote did not seal.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<HolepunchPayload> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE>()?;
        // An empty note is none, as in JS.
        if body.len() <= TAG || sealed.len() > MAX_NOTE {
            return None;
        }
        let mut text = vec![0; body.len() - TAG];
        crypto_secretbox_open_easy(&mut text, body, nonce, self.key()).ok()?;
        HolepunchPayload::decode(Bytes::from(text)).ok()
    }

    /// Proof, when it comes back, that its owner receives what is sent to `host`.
    pub(crate) fn token(&self, host: IpAddr) -> [u8; 32] {
        digest(self.local.as_ref(), &[host.to_string().as_bytes()])
    }

    fn key(&self) -> &Key {
        &self.shared
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pair() -> (SealedNotes, SealedNotes) {
        (SealedNotes::new(Zeroizing::new([3; 32])), SealedNotes::new(Zeroizing::new([3; 32])))
    }

    #[test]
    fn notes_come_back_whole_or_not_at_all() {
        let (a, b) = pair();
        let note = HolepunchPayload { round: 7, token: Some([1; 32]), ..HolepunchPayload::default() };
        let sealed = a.seal(&note);
        assert_eq!(b.open(&sealed), Some(note));
        for index in 0..sealed.len() {
            let mut bad = sealed.to_vec();
            bad[index] ^= 1;
            assert_eq!(b.open(&bad), None);
            assert_eq!(b.open(&sealed[..index]), None);
        }
        assert_eq!(SealedNotes::new(Zeroizing::new([4; 32])).open(&sealed), None);
    }

    #[test]
    fn tokens_are_of_one_side_and_one_host() {
        let (a, b) = pair();
        let (here, there) = ("1.2.3.4".parse().unwrap(), "1.2.3.5".parse().unwrap());
        assert_eq!(a.token(here), a.token(here));
        assert_ne!(a.token(here), a.token(there));
        assert_ne!(a.token(here), b.token(here));
    }

    proptest! {
        #[test]
        fn garbage_is_nothing(sealed in proptest::collection::vec(any::<u8>(), 0..3000)) {
            prop_assert_eq!(pair().0.open(&sealed), None);
        }
    }
}
