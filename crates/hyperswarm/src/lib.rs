//! Finds and connects the peers that share a topic.

#![forbid(unsafe_code)]
