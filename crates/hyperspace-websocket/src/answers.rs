//! Requests that get no WebSocket, and what they hear instead: a status of HTTP, a sentence, and the end of the
//! connection.

use tokio_tungstenite::tungstenite::{Error as WsError, error::ProtocolError, http::StatusCode};

/// How a request is answered that gets no WebSocket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// One sentence.
    pub(crate) text: String,
}

impl Answer {
    /// To whom it may concern: a page of another origin.
    pub(crate) fn forbidden(origin: &str) -> Self {
        let text = format!(
            "Pages of {origin} may not connect to this daemon. To let them, start it with --ws-origin {origin}"
        );
        Self { status: StatusCode::FORBIDDEN, text }
    }

    /// To a request without an end.
    pub(crate) fn too_large(most: usize) -> Self {
        let text =
            format!("The request is too large: its head may have {most} bytes, and come in few pieces.");
        Self { status: StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, text }
    }

    /// To what came after the request, before there was an answer.
    pub(crate) fn too_early() -> Self {
        Self::bad("Something follows the handshake before it was answered.")
    }

    /// To a request that is no handshake, with what is wrong about it.
    pub(crate) fn to(error: &WsError) -> Self {
        let WsError::Protocol(error) = error else {
            return Self::bad(&format!("This is no handshake of a WebSocket: {error}."));
        };
        match error {
            // HTTP, and none that asks for a WebSocket.
            ProtocolError::WrongHttpMethod
            | ProtocolError::WrongHttpVersion
            | ProtocolError::MissingConnectionUpgradeHeader
            | ProtocolError::MissingUpgradeWebSocketHeader => Self {
                status: StatusCode::UPGRADE_REQUIRED,
                text: "This port of a Hyperspace daemon speaks WebSocket and nothing else.".into(),
            },
            ProtocolError::MissingSecWebSocketVersionHeader => Self {
                status: StatusCode::UPGRADE_REQUIRED,
                text: "This daemon speaks version 13 of WebSocket and no other.".into(),
            },
            error => Self::bad(&format!("This is no handshake of a WebSocket: {error}.")),
        }
    }

    fn bad(text: &str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, text: text.into() }
    }

    /// As it is written; without the sentence for whoever asks for the head alone.
    pub(crate) fn encode(&self, head_only: bool) -> Vec<u8> {
        let Self { status, text } = self;
        // What a 426 has to say (RFC 9110, 15.5.22; RFC 6455, 4.4).
        let more = match *status {
            StatusCode::UPGRADE_REQUIRED => {
                "Connection: close, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            }
            _ => "Connection: close\r\n",
        };
        let body = if head_only { "" } else { text };
        format!(
            "HTTP/1.1 {status}\r\n{more}Content-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}{}",
            text.len() + 1,
            if head_only { "" } else { "\n" },
        )
        .into_bytes()
    }
}
