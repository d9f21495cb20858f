//! What npm `hyperdht` 6.34 makes of known keys.

use secret_stream::KeyPair;
use zeroize::Zeroizing;

use super::noise::PeerHandshake;
use super::seal::SealedNotes;
use super::{digest, namespace};
use crate::messages::{Command, Firewall};

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).unwrap()).collect()
}

#[test]
fn labels() {
    let handshake = hex("14d6d4b49214ab1033ed204976caa258bae9e1e8543b9ad1fd996a910b0c4e3a");
    let holepunch = hex("f1191cd5e67b10b54a507033280ed1ff0e12278268d5679c8f93d417210d168b");
    assert_eq!(namespace(Command::PeerHandshake as u8)[..], handshake);
    assert_eq!(namespace(Command::PeerHolepunch as u8)[..], holepunch);
}

#[test]
fn a_first_message() {
    let message = hex(
        "a389b85d175e8114dacca19257b7884c37a0a839642d2507a7cad4c10f6cc2e62d83a0f95772aaeb74748e65e193bf75b745f5c6897b20840eca1d9b7c558ad0758b5a97a0d12562eaa9517d2bd1805978de9b69bfae5b48cd3a986121f57ff6edf2f9513f4f1999673493f29419c64d",
    );
    let mut server = PeerHandshake::server(&KeyPair::from_seed(&[2; 32])).unwrap();
    let payload = server.receive(&message).unwrap();
    assert_eq!(server.remote_public_key(), Some(KeyPair::from_seed(&[1; 32]).public));
    assert_eq!(payload.firewall, Firewall::Open);
    assert_eq!(payload.addresses4, ["1.2.3.4:5".parse().unwrap()]);
    assert_eq!(payload.udx.unwrap().id, 7);
}

#[test]
fn a_sealed_note() {
    let sealed = hex(
        "0e06383e67ec86358a06a7ac0c496170a4d2880edf3b22afbf00ff3dbb9ff00a08dc47c3b1ce6ec6adcb8d55a8e9ea2ed4062a256a95e0f6b35d9f1b27be8db744981537449e4901be456d3c5b92cc6619aeae",
    );
    let note = SealedNotes::new(Zeroizing::new([3; 32])).open(&sealed).unwrap();
    assert!(note.punching && !note.connected);
    assert_eq!((note.round, note.firewall, note.token), (1, Firewall::Consistent, Some([9; 32])));
    assert_eq!(note.addresses.unwrap(), ["1.2.3.4:5".parse().unwrap()]);
}

#[test]
fn a_token() {
    // `token()` is the digest of the printed host, keyed with the side's own secret.
    let token = hex("ef0b3e4e1f120b1c3bb210c741793bc28a298468e0a218891b952e4881c5782c");
    assert_eq!(digest(&[5; 32], &[b"1.2.3.4"])[..], token);
}
