//! The handshake: an HTTP request, and its answer.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::{
    accept_hdr_async_with_config, client_async_with_config,
    tungstenite::{
        Error as WsError,
        handshake::server::{ErrorResponse, Request, Response},
        http::{
            HeaderMap, HeaderValue, StatusCode,
            header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, ORIGIN, SEC_WEBSOCKET_PROTOCOL},
        },
        protocol::Role,
    },
};

use crate::{Origins, WsStream, gate::Gate, stream::config};

/// The subprotocol; clients need not name one.
pub const SUBPROTOCOL: &str = "hrpc";

/// How much of an origin is repeated in answers and logs.
const MAX_SHOWN: usize = 200;

/// Why there is no WebSocket.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// A page of this origin may not connect.
    #[error("a page of {origin} may not connect")]
    Origin {
        /// Whose page it is.
        origin: String,
    },
    /// The server answered with something else than a WebSocket.
    #[error("the answer is {status}: {text}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        text: String,
    },
    /// It is not the handshake of a WebSocket.
    #[error("{0}")]
    Protocol(String),
    /// The connection broke.
    #[error(transparent)]
    Io(io::Error),
}

impl From<WsError> for HandshakeError {
    fn from(error: WsError) -> Self {
        match error {
            WsError::Io(error) => Self::Io(error),
            WsError::Http(response) => {
                let text = response.body().as_deref().unwrap_or_default();
                let text = String::from_utf8_lossy(&text[..text.len().min(2 * MAX_SHOWN)]).trim().to_owned();
                Self::Refused { status: response.status().as_u16(), text }
            }
            error => Self::Protocol(error.to_string()),
        }
    }
}

/// Takes the WebSocket that a client asks for, if its page may have one. Until [`WsStream::admitted`] is called, no
/// more than a few kilobytes are read. How long it takes is for the caller to bound.
pub async fn accept<S>(stream: S, origins: &Origins) -> Result<WsStream<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut refused = None;
    // The callback's type is the library's.
    #[allow(clippy::result_large_err)]
    let look = |request: &Request, mut response: Response| match origin_of(request.headers(), origins) {
        Ok(()) => {
            if offers_ours(request.headers()) {
                let ours = HeaderValue::from_static(SUBPROTOCOL);
                response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, ours);
            }
            Ok(response)
        }
        Err(origin) => {
            let answer = forbidden(&origin);
            refused = Some(origin);
            Err(answer)
        }
    };
    match accept_hdr_async_with_config(Gate::shut(stream), look, Some(config())).await {
        Ok(socket) => Ok(WsStream::new(socket, Role::Server)),
        Err(error) => Err(match refused {
            Some(origin) => HandshakeError::Origin { origin },
            None => error.into(),
        }),
    }
}

/// Asks for a WebSocket over a stream to the host that `url` names, `ws://HOST:PORT/PATH`.
pub async fn connect<S>(stream: S, url: &str) -> Result<WsStream<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (socket, _) = client_async_with_config(url, Gate::open(stream), Some(config())).await?;
    Ok(WsStream::new(socket, Role::Client))
}

/// The origin that may not connect.
fn origin_of(headers: &HeaderMap, origins: &Origins) -> Result<(), String> {
    for origin in headers.get_all(ORIGIN) {
        match origin.to_str() {
            Ok(origin) if origins.allow(origin) => {}
            other => return Err(other.unwrap_or("an unreadable origin").chars().take(MAX_SHOWN).collect()),
        }
    }
    Ok(())
}

fn offers_ours(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    offers.flat_map(|value| value.split(',')).any(|offer| offer.trim() == SUBPROTOCOL)
}

fn forbidden(origin: &str) -> ErrorResponse {
    let text = format!(
        "Pages of {origin} may not connect to this daemon. To let them, start it with --ws-origin {origin}\n"
    );
    let mut response = ErrorResponse::new(None);
    *response.status_mut() = StatusCode::FORBIDDEN;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(text.len()));
    *response.body_mut() = Some(text);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    /// What a client hears that sends this, and what the server makes of it.
    async fn hears(request: &str) -> (String, Result<(), HandshakeError>) {
        let (mut near, far) = tokio::io::duplex(100_000);
        near.write_all(request.as_bytes()).await.unwrap();
        let origins = Origins::new(["https://named.example"]).unwrap();
        let accepted = accept(far, &origins).await.map(drop);
        let mut answer = String::new();
        near.read_to_string(&mut answer).await.unwrap();
        (answer, accepted)
    }

    fn request(more: &str) -> String {
        format!(
            "GET /rpc HTTP/1.1\r\nHost: 127.0.0.1:9\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        )
    }

    #[tokio::test]
    async fn pages_come_in_by_their_origin() {
        for good in ["", "Origin: http://localhost:8000\r\n", "Origin: https://named.example\r\n"] {
            let (answer, accepted) = hears(&request(good)).await;
            assert!(accepted.is_ok() && answer.starts_with("HTTP/1.1 101"), "{good}: {answer}");
        }
        for bad in [
            "Origin: https://evil.example\r\n",
            "Origin: null\r\n",
            "Origin: http://localhost\r\nOrigin: https://evil.example\r\n",
            "Origin: http://localhost\u{fc}\r\n",
        ] {
            let (answer, accepted) = hears(&request(bad)).await;
            assert!(matches!(accepted, Err(HandshakeError::Origin { .. })), "{bad}: {accepted:?}");
            assert!(answer.starts_with("HTTP/1.1 403") && answer.contains("--ws-origin"), "{bad}: {answer}");
        }
    }

    #[tokio::test]
    async fn the_subprotocol_is_ours_or_none() {
        let (answer, _) = hears(&request("Sec-WebSocket-Protocol: other, hrpc\r\n")).await;
        assert!(answer.to_ascii_lowercase().contains("sec-websocket-protocol: hrpc"), "{answer}");
        let (answer, _) = hears(&request("Sec-WebSocket-Protocol: other\r\n")).await;
        assert!(!answer.to_ascii_lowercase().contains("sec-websocket-protocol"), "{answer}");
    }

    #[tokio::test]
    async fn what_is_no_handshake_is_refused() {
        let endless = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(90_000));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000));
        for wrong in [
            "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
            "POST / HTTP/1.1\r\n\r\n",
            "\0\x01\x02\r\n\r\n",
            &endless,
            &many,
        ] {
            let (_, accepted) = hears(wrong).await;
            assert!(accepted.is_err(), "{}", &wrong[..20]);
        }
    }

    #[tokio::test]
    async fn a_client_is_told_why_it_is_refused() {
        let (near, far) = tokio::io::duplex(10_000);
        let mut asked = "ws://127.0.0.1:1/".into_client_request().unwrap();
        asked.headers_mut().insert(ORIGIN, HeaderValue::from_static("https://evil.example"));
        let origins = Origins::default();
        let (client, _) = tokio::join!(client_async_with_config(asked, near, None), accept(far, &origins));
        let error = HandshakeError::from(client.unwrap_err());
        assert!(matches!(error, HandshakeError::Refused { status: 403, .. }), "{error}");
    }
}
