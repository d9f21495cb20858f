//! Kademlia DHT: announce, look up, connect by public key, punch holes, relay, store records.

#![forbid(unsafe_code)]
