//! secret-stream.
