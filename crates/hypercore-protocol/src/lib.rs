//! Channels for Hypercore keys over an encrypted stream, and the Hypercore wire messages.
