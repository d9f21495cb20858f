//! Blind relaying: two peers that cannot reach each other meet at a third, which forwards their (encrypted) packets.
