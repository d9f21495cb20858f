//! The names of cores: keys, and the discovery keys that strangers may know.

use std::fmt;
use std::str::FromStr;

use crate::crypto;

const Z32: &[u8; 32] = b"ybndrfg8ejkmcpqxot1uwisza345h769";

/// Why a text is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseKeyError {
    /// It is neither 64 nor 52 characters long.
    #[error("a key is 64 hexadecimal or 52 z-base-32 characters, this has {length} characters")]
    Length {
        /// Characters found.
        length: usize,
    },
    /// A character does not belong to the alphabet.
    #[error("{character:?} at position {position} is not a {alphabet} character")]
    Character {
        /// The character.
        character: char,
        /// Its place, counted from 0.
        position: usize,
        /// The alphabet that its length stands for.
        alphabet: &'static str,
    },
    /// The last character of a z-base-32 text carries bits that do not fit into 32 bytes.
    #[error("the last character is not one that ends a z-base-32 key; was it cut or mistyped?")]
    Trailing,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// The 32 bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The 32 bytes.
            pub fn to_bytes(self) -> [u8; 32] {
                self.0
            }

            /// 64 hexadecimal characters.
            pub fn to_hex(&self) -> String {
                encode_hex(&self.0)
            }

            /// 52 z-base-32 characters, as `hypercore-id-encoding` writes keys.
            pub fn to_z32(&self) -> String {
                encode_z32(&self.0)
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl From<$name> for [u8; 32] {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = std::array::TryFromSliceError;

            fn try_from(bytes: &[u8]) -> Result<Self, Self::Error> {
                bytes.try_into().map(Self)
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.to_hex())
            }
        }

        impl FromStr for $name {
            type Err = ParseKeyError;

            /// Accepts what `hypercore-id-encoding` accepts: 64 hexadecimal characters, 52 z-base-32 characters,
            /// and either behind `hypercore://`, `hyper://` or `pear://`.
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text).map(Self)
            }
        }
    };
}

name! {
    /// The key of a core: the hash of its manifest, or (compat form) the public key of its only signer. Whoever
    /// knows it can read the core.
    Key
}

name! {
    /// The discovery key of a core: it finds peers of the core without revealing the key.
    DiscoveryKey
}

impl Key {
    /// The discovery key of this key.
    pub fn discovery_key(&self) -> DiscoveryKey {
        DiscoveryKey(crypto::discovery_key(&self.0))
    }
}

fn encode_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn encode_z32(bytes: &[u8; 32]) -> String {
    let mut out = String::with_capacity(52);
    let mut bits = 0u32;
    let mut count = 0;
    let mut push = |quintet: u32| out.push(char::from(Z32[(quintet & 31) as usize]));
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            push(bits >> count);
        }
        bits &= (1 << count) - 1;
    }
    if count > 0 {
        push(bits << (5 - count));
    }
    out
}

fn parse(text: &str) -> Result<[u8; 32], ParseKeyError> {
    let text = text.trim();
    let mut id = text;
    for scheme in ["hypercore://", "hyper://", "pear://"] {
        if let Some(rest) = text.strip_prefix(scheme) {
            id = rest.split('/').next().unwrap_or(rest);
        }
    }
    match id.chars().count() {
        64 => parse_hex(id),
        52 => parse_z32(id),
        length => Err(ParseKeyError::Length { length }),
    }
}

fn parse_hex(id: &str) -> Result<[u8; 32], ParseKeyError> {
    let mut out = [0u8; 32];
    for (position, character) in id.chars().enumerate() {
        let wrong = ParseKeyError::Character { character, position, alphabet: "hexadecimal" };
        let nibble = character.to_digit(16).ok_or(wrong)? as u8;
        if let Some(byte) = out.get_mut(position / 2) {
            *byte = (*byte << 4) | nibble;
        }
    }
    Ok(out)
}

fn parse_z32(id: &str) -> Result<[u8; 32], ParseKeyError> {
    let mut out = [0u8; 32];
    let mut bytes = out.iter_mut();
    let mut bits = 0u32;
    let mut count = 0;
    for (position, character) in id.chars().enumerate() {
        let quintet = Z32.iter().position(|z| char::from(*z) == character);
        let wrong = ParseKeyError::Character { character, position, alphabet: "z-base-32" };
        bits = (bits << 5) | quintet.ok_or(wrong)? as u32;
        count += 5;
        if count >= 8 {
            count -= 8;
            if let Some(byte) = bytes.next() {
                *byte = (bits >> count) as u8;
            }
            bits &= (1 << count) - 1;
        }
    }
    if bits != 0 {
        return Err(ParseKeyError::Trailing);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_read_from_every_form_that_is_in_use() {
        let key = Key::from([0xab; 32]);
        for text in [
            key.to_hex(),
            key.to_hex().to_uppercase(),
            key.to_z32(),
            format!("hypercore://{key}"),
            format!("pear://{}/some/path", key.to_z32()),
            format!("  {key}\n"),
        ] {
            assert_eq!(text.parse(), Ok(key), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_gets_a_sentence_that_helps() {
        let of = |text: &str| text.parse::<Key>().unwrap_err();
        assert_eq!(of("abc"), ParseKeyError::Length { length: 3 });
        assert_eq!(of(""), ParseKeyError::Length { length: 0 });
        let alphabet = "hexadecimal";
        assert_eq!(of(&"g".repeat(64)), ParseKeyError::Character { character: 'g', position: 0, alphabet });
        let alphabet = "z-base-32";
        let typo = format!("{}l{}", "y".repeat(20), "y".repeat(31));
        assert_eq!(of(&typo), ParseKeyError::Character { character: 'l', position: 20, alphabet });
        assert_eq!(of(&format!("{}b", "y".repeat(51))), ParseKeyError::Trailing);
        assert_eq!(
            of(&"\u{e4}".repeat(52)).to_string(),
            "'\u{e4}' at position 0 is not a z-base-32 character"
        );
    }

    proptest! {
        #[test]
        fn names_round_trip(bytes in any::<[u8; 32]>()) {
            let key = Key::from(bytes);
            prop_assert_eq!(key.to_z32().parse(), Ok(key));
            prop_assert_eq!(key.to_hex().parse(), Ok(key));
            prop_assert_eq!(key.to_string(), key.to_hex());
        }

        #[test]
        fn any_text_is_a_key_or_an_error(text in "\\PC{0,70}") {
            let _ = text.parse::<Key>();
        }
    }
}
