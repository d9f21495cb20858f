//! What can go wrong between a program and its daemon.

use std::io;

use hyperspace_common::{AccessTokenError, EndpointError, RpcError};
use thiserror::Error;

/// Why a daemon cannot be used, or did not do what it was asked.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// There can be no daemon of this name.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// Nobody answers there.
    #[error(
        "no daemon answers on {endpoint} ({reason}); start one with `hyperspace-server`, or name another with -h"
    )]
    Connect {
        /// Where it was looked for.
        endpoint: String,
        /// What the system said.
        reason: String,
    },
    /// The daemon does not let this client in.
    #[error(
        "the daemon on {endpoint} lets nobody in without an access token: {reason}; set HYPERSPACE_TOKEN or \
         --token-file to one from the daemon's token file"
    )]
    Access {
        /// Where the daemon is.
        endpoint: String,
        /// What it said.
        reason: String,
    },
    /// What should be an access token is none.
    #[error("{place}: {error}")]
    Token {
        /// Where it was found.
        place: String,
        /// What is wrong with it.
        error: AccessTokenError,
    },
    /// The connection ended while an answer was due.
    #[error("the connection to the daemon is gone: {0}")]
    Disconnected(String),
    /// The daemon answered with an error.
    #[error("{}", .0.message)]
    Rpc(RpcError),
    /// The daemon answered with something that is not the answer.
    #[error("the daemon's answer cannot be understood: {0}")]
    Protocol(String),
    /// The session was closed.
    #[error("the session is closed")]
    Closed,
}

impl ClientError {
    pub(crate) fn io(error: &io::Error) -> Self {
        Self::Disconnected(error.to_string())
    }

    /// The text of the daemon's error, if it is one.
    pub fn rpc_message(&self) -> Option<&str> {
        match self {
            Self::Rpc(error) => Some(&error.message),
            _ => None,
        }
    }
}
