//! The numbers that everything hangs on (npm `hyperdht` 6.34 `lib/constants.js`).

/// The commands of HyperDHT requests, beside those of dht-rpc itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Command {
    /// The Noise handshake with a server, through its relays or straight.
    PeerHandshake = 0,
    /// Messages of two peers that punch holes, through a relay.
    PeerHolepunch = 1,
    /// Where the server with a hashed public key can be reached.
    FindPeer = 2,
    /// Who announces a topic.
    Lookup = 3,
    /// Announces a topic, or a server's public key.
    Announce = 4,
    /// Takes an announcement back.
    Unannounce = 5,
    /// Stores a signed value under a public key.
    MutablePut = 6,
    /// Asks for the value under a public key.
    MutableGet = 7,
    /// Stores bytes under their hash.
    ImmutablePut = 8,
    /// Asks for the bytes with a hash.
    ImmutableGet = 9,
    /// A request to a plugin.
    Plugin = 10,
}

impl Command {
    /// The command with this number, none when it is not known.
    pub fn from_wire(number: u64) -> Option<Self> {
        Some(match number {
            0 => Command::PeerHandshake,
            1 => Command::PeerHolepunch,
            2 => Command::FindPeer,
            3 => Command::Lookup,
            4 => Command::Announce,
            5 => Command::Unannounce,
            6 => Command::MutablePut,
            7 => Command::MutableGet,
            8 => Command::ImmutablePut,
            9 => Command::ImmutableGet,
            10 => Command::Plugin,
            _ => return None,
        })
    }

    /// The number on the wire.
    pub fn to_wire(self) -> u64 {
        u64::from(self as u8)
    }
}

/// Error codes in replies and payloads.
pub mod error {
    /// All is well.
    pub const NONE: u64 = 0;
    /// The other side does not want to connect.
    pub const ABORTED: u64 = 1;
    /// The other side speaks another version.
    pub const VERSION_MISMATCH: u64 = 2;
    /// The other side is busy punching; try again.
    pub const TRY_LATER: u64 = 3;
    /// A mutable record with this sequence number and another value is stored.
    pub const SEQ_REUSED: u64 = 16;
    /// A mutable record with a higher sequence number is stored.
    pub const SEQ_TOO_LOW: u64 = 17;
}

/// What is known of the NAT or firewall in front of a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(u8)]
pub enum Firewall {
    /// Not known yet.
    #[default]
    Unknown = 0,
    /// Anybody gets through.
    Open = 1,
    /// The same outer port towards everybody.
    Consistent = 2,
    /// Another outer port towards each other peer.
    Random = 3,
}

impl Firewall {
    /// Numbers that are not known count as random, as the comparisons in JS take them (`>= RANDOM`).
    pub fn from_wire(number: u64) -> Self {
        match number {
            0 => Firewall::Unknown,
            1 => Firewall::Open,
            2 => Firewall::Consistent,
            _ => Firewall::Random,
        }
    }

    /// The number on the wire.
    pub fn to_wire(self) -> u64 {
        u64::from(self as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_and_their_numbers() {
        for number in 0..=10 {
            assert_eq!(Command::from_wire(number).unwrap().to_wire(), number);
        }
        assert_eq!(Command::from_wire(11), None);
    }
}
