//! Errors as clients see them: some texts are compared by programs, so they are fixed.

use hypercore::{Error, storage::StorageError};
use hyperspace_common::{Method, RpcError, RpcErrorExt, code, text};

/// The error that a client gets for what a core said.
pub(crate) fn core_error(error: &Error) -> RpcError {
    match error {
        Error::NotWritable(_) => RpcError::sentence(text::NOT_WRITABLE),
        Error::BlockTooLarge { .. } => RpcError::sentence(text::BLOCK_TOO_LARGE),
        Error::NotAvailable(_) => RpcError::sentence(text::BLOCK_NOT_AVAILABLE),
        Error::Closed => RpcError::sentence(text::FEED_CLOSED),
        Error::Cancelled => RpcError::sentence(text::REQUEST_CANCELLED),
        Error::NotFound(_) => RpcError::coded(code::NOT_FOUND, error.to_string()),
        // Nothing is wrong with the disk, but with what was asked for.
        Error::Storage(StorageError::Unstorable { .. }) => RpcError::coded(code::INVALID, error.to_string()),
        Error::Storage(_) => RpcError::coded(code::IO, error.to_string()),
        Error::TooManyRequests(_) => RpcError::coded(code::LIMIT, error.to_string()),
        _ => RpcError::coded(code::INVALID, error.to_string()),
    }
}

/// No session has this number.
pub(crate) fn invalid_session(id: u64) -> RpcError {
    RpcError::sentence(format!("Invalid hypercore: {id}"))
}

/// A resource's number is in use.
pub(crate) fn resource_in_use(id: u64) -> RpcError {
    RpcError::sentence(format!("Resource already exists: {id}"))
}

/// No resource has this number.
pub(crate) fn invalid_resource(id: u64) -> RpcError {
    RpcError::sentence(format!("Invalid resource: {id}"))
}

/// No method has these numbers.
pub(crate) fn unknown_method(service: u64, method: u64) -> RpcError {
    RpcError::sentence(format!("Unknown method ({method}) on service ({service})"))
}

/// The method is one that servers send.
pub(crate) fn is_event(method: Method) -> RpcError {
    RpcError::coded(code::INVALID, format!("{method} is an event: the server sends it, clients do not"))
}

/// The payload is not the method's message.
pub(crate) fn malformed(method: Method, error: &hyperspace_common::DecodeError) -> RpcError {
    RpcError::coded(code::INVALID, format!("{method}: {error}"))
}

/// A bound was reached.
pub(crate) fn limit(what: impl Into<String>) -> RpcError {
    RpcError::coded(code::LIMIT, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_stored_is_no_fault_of_the_disk() {
        let too_long = StorageError::Unstorable { record: "name", reason: "it is too long".into() };
        assert_eq!(core_error(&too_long.into()).code.as_deref(), Some(code::INVALID));
        assert_eq!(core_error(&StorageError::Closed.into()).code.as_deref(), Some(code::IO));
    }
}
