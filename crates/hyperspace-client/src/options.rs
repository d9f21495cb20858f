//! How to connect.

use std::{env, time::Duration};

use hyperspace_common::{AccessToken, Endpoint, TOKEN_VARIABLE};

use crate::error::ClientError;

/// How to connect to a daemon; see [`HyperspaceClient::connect_with`](crate::HyperspaceClient::connect_with).
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// What is done when the connection is lost; `None`: everything ends.
    pub reconnect: Option<Reconnect>,
    /// The access token that is shown over TCP and WebSocket, where the daemon may want one. The connection is not
    /// encrypted: to another machine, go through a tunnel.
    pub token: Option<AccessToken>,
}

impl ConnectOptions {
    /// Connects again when the connection is lost, with pauses of 50 ms to 5 s, for as long as it takes.
    pub fn reconnecting() -> Self {
        Self { reconnect: Some(Reconnect::default()), token: None }
    }

    /// What the environment says for this daemon: over TCP and WebSocket, the token that the variable `HYPERSPACE_TOKEN` has.
    /// On a UNIX socket none is shown, and what the variable has does not matter.
    pub fn for_endpoint(endpoint: &Endpoint) -> Result<Self, ClientError> {
        match endpoint {
            Endpoint::Socket(_) => Ok(Self::default()),
            Endpoint::Tcp(_) | Endpoint::WebSocket(_) => Self::default().token_from_environment(),
        }
    }

    /// Shows the token that the variable `HYPERSPACE_TOKEN` has, if there is one.
    pub fn token_from_environment(mut self) -> Result<Self, ClientError> {
        if let Some(token) = env::var(TOKEN_VARIABLE).ok().filter(|token| !token.is_empty()) {
            self.token = Some(token.parse().map_err(|error| ClientError::Token {
                place: format!("the variable {TOKEN_VARIABLE}"),
                error,
            })?);
        }
        Ok(self)
    }
}

/// How a connection that is lost is made again.
///
/// Sessions, watches, extensions and the calls that only read go on as if nothing had happened, apart from the time
/// that it takes. Appends and other changes that were under way fail, as nobody can know whether the daemon did
/// them; locks are lost, which [`RemoteLock::is_lost`](crate::RemoteLock::is_lost) and
/// [`ConnectionEvent::Lost`](crate::ConnectionEvent::Lost) tell; snapshots end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// The first pause between attempts; each is twice the one before.
    pub first_pause: Duration,
    /// The longest pause between attempts.
    pub longest_pause: Duration,
    /// How long it is tried; `None`: for ever.
    pub give_up_after: Option<Duration>,
}

impl Default for Reconnect {
    fn default() -> Self {
        Self {
            first_pause: Duration::from_millis(50),
            longest_pause: Duration::from_secs(5),
            give_up_after: None,
        }
    }
}

/// What happens to a client's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionEvent {
    /// It was lost, and with it every lock that was held.
    Lost {
        /// Why.
        reason: String,
        /// The cores whose locks were held.
        locks: Vec<hypercore::Key>,
    },
    /// It was made again, and everything is as it was.
    Restored,
    /// It has ended for good.
    Ended {
        /// Why.
        reason: String,
    },
}
