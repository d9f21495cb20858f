//! Entries for fuzz targets into what is not public. Not for use.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use secret_stream::KeyPair;
use zeroize::Zeroizing;

use crate::handshake::{PeerHandshake, SealedNotes};
use crate::messages::Message;
use crate::relay::fuzz_pairings;
use crate::router::{self, Route, Step};
use crate::server::fuzz_table;

/// What a stranger sends about handshakes and hole punching, on every part that looks at it.
pub fn connect(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else { return };
    let value = Bytes::copy_from_slice(rest);
    let from = SocketAddr::from(([5, 5, 5, 5], 5));
    match kind % 5 {
        0 => {
            let announced = Route::Announced(SocketAddr::from(([6, 6, 6, 6], 6)));
            for route in [Route::Here, Route::Unknown, announced] {
                check(&value, &router::handshake(Some(value.clone()), from, route));
                check(&value, &router::holepunch(Some(value.clone()), from, route));
            }
        }
        1 => {
            let server = PeerHandshake::server(&KeyPair::from_seed(&[1; 32]));
            let _ = server.map(|mut server| server.receive(&value).is_ok());
        }
        2 => {
            let notes = SealedNotes::new(Zeroizing::new([2; 32]));
            if let Some(note) = notes.open(&value) {
                assert!(notes.open(&notes.seal(&note)).is_some());
                let _ = note.encode();
            }
        }
        3 => fuzz_table(rest, Instant::now(), Duration::from_millis(700)),
        _ => fuzz_pairings(rest, Instant::now()),
    }
}

/// No message grows by more than two addresses on its way.
fn check(value: &Bytes, step: &Step) {
    if let Step::Forward { value: out, .. } | Step::Answer { value: out, .. } = step {
        assert!(out.len() <= value.len() + 12);
    }
}
