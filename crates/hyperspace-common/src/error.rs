//! Error payloads, and the texts that programs compare.

use crate::messages::RpcError;

/// Texts of errors that are part of the protocol: programs written for the Node server compare them.
///
/// From npm `hypercore` 9.12.0 and npm `hyperspace` 3.19.0.
pub mod text {
    /// A get that no peer can satisfy.
    pub const BLOCK_NOT_AVAILABLE: &str = "Block not available from peers";
    /// A get with `wait: false` for a block that is not here.
    pub const BLOCK_NOT_DOWNLOADED: &str = "Block not downloaded";
    /// An update that no peer can satisfy.
    pub const NO_UPDATE_AVAILABLE: &str = "No update available from peers";
    /// A seek that no peer can satisfy.
    pub const SEEK_NOT_AVAILABLE: &str = "Seek not available from peers";
    /// A seek with `wait: false` whose answer is not here.
    pub const UNABLE_TO_SEEK: &str = "Unable to seek to this offset";
    /// A seek with `wait: false` beyond the core's end.
    pub const OUT_OF_BOUNDS: &str = "Out of bounds";
    /// A get that was cancelled.
    pub const REQUEST_CANCELLED: &str = "Request cancelled";
    /// A download that was cancelled.
    pub const DOWNLOAD_CANCELLED: &str = "Download was cancelled";
    /// An append to a core of somebody else.
    pub const NOT_WRITABLE: &str = "This feed is not writable. Did you create it?";
    /// An append of a block that is too large.
    pub const BLOCK_TOO_LARGE: &str = "Individual blocks has be less than 8MB";
    /// An open with an id that is in use.
    pub const SESSION_IN_USE: &str = "Session already in use.";
    /// Work on a core that was closed.
    pub const FEED_CLOSED: &str = "Feed is closed";
    /// The release of a lock that nobody holds.
    pub const NOT_LOCKED: &str = "Core is not locked";
    /// The release of a lock that another client holds.
    pub const LOCKED_BY_ANOTHER: &str = "Core is not locked by you";
    /// A topic that is not 32 bytes long.
    pub const INVALID_DISCOVERY_KEY: &str = "Invalid discovery key.";
}

/// Codes of errors, for programs.
pub mod code {
    /// A download was cancelled. From npm `hypercore` 9.12.0, `undownload`.
    pub const CANCELLED: &str = "ECANCELED";
    /// The number that goes with [`CANCELLED`].
    pub const CANCELLED_NUMBER: i32 = -11;
    /// The method exists, but this server does not offer it.
    pub const NOT_SUPPORTED: &str = "ENOTSUP";
    /// A bound of the server was reached.
    pub const LIMIT: &str = "ELIMIT";
    /// The request is not valid.
    pub const INVALID: &str = "EINVAL";
    /// What was asked for does not exist.
    pub const NOT_FOUND: &str = "ENOENT";
    /// The client may not do that: it has shown no access token, or a wrong one.
    pub const ACCESS: &str = "EACCES";
    /// The server failed, not the request.
    pub const IO: &str = "EIO";
}

/// Making error payloads.
pub trait RpcErrorExt {
    /// An error that is a sentence.
    fn sentence(message: impl Into<String>) -> Self;
    /// An error with a word for programs.
    fn coded(code: &str, message: impl Into<String>) -> Self;
    /// What a cancelled download is answered with.
    fn download_cancelled() -> Self;
}

impl RpcErrorExt for RpcError {
    fn sentence(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: None, errno: None, details: None }
    }

    fn coded(code: &str, message: impl Into<String>) -> Self {
        Self { code: Some(code.into()), ..Self::sentence(message) }
    }

    fn download_cancelled() -> Self {
        // Two's complement in 32 bits: what npm `protocol-buffers-encodings` writes and reads for int32.
        let errno = code::CANCELLED_NUMBER.cast_unsigned();
        Self { errno: Some(errno), ..Self::coded(code::CANCELLED, text::DOWNLOAD_CANCELLED) }
    }
}
