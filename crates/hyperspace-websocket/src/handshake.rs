//! The handshake: an HTTP request, and its answer.

use std::io;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        Error as WsError,
        handshake::{
            machine::TryParse,
            server::{Request, Response, create_response, write_response},
        },
        http::{
            HeaderMap, HeaderValue,
            header::{ORIGIN, SEC_WEBSOCKET_PROTOCOL},
        },
        protocol::Role,
    },
};

use crate::{
    Origins, WsStream,
    answers::Answer,
    gate::Gate,
    stream::{config, part},
};

/// The subprotocol; clients need not name one.
pub const SUBPROTOCOL: &str = "hrpc";

/// The longest head of a request, with whatever a browser puts into it.
const MAX_HEAD: usize = 64 << 10;
/// The most pieces that it may come in: it is looked at with each.
const MAX_PIECES: usize = 512;
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

/// Takes the WebSocket that a client asks for, if its page may have one. Any other request is answered with a status of
/// HTTP and a sentence. Until [`WsStream::admitted`] is called, no more than a few kilobytes are read. How long it takes
/// is for the caller to bound.
pub async fn accept<S>(stream: S, origins: &Origins) -> Result<WsStream<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut stream = Gate::shut(stream);
    let mut head = Vec::new();
    match answer_to(&mut stream, &mut head, origins).await? {
        Ok(response) => {
            let mut bytes = Vec::new();
            write_response(&mut bytes, &response)?;
            stream.write_all(&bytes).await.map_err(HandshakeError::Io)?;
            stream.flush().await.map_err(HandshakeError::Io)?;
            let socket = WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await;
            Ok(WsStream::new(socket, Role::Server))
        }
        Err((answer, error)) => {
            // That it cannot be told changes nothing.
            if stream.write_all(&answer.encode(head.starts_with(b"HEAD "))).await.is_ok() {
                part(&mut stream.inner).await;
            }
            Err(error)
        }
    }
}

type Refused = (Answer, HandshakeError);

/// Reads a request, and says how it is to be answered.
async fn answer_to<S>(
    stream: &mut Gate<S>,
    head: &mut Vec<u8>,
    origins: &Origins,
) -> Result<Result<Response, Refused>, HandshakeError>
where
    S: AsyncRead + Unpin,
{
    let wrong = |answer: Answer| {
        let error = HandshakeError::Protocol(answer.text.clone());
        Ok(Err((answer, error)))
    };
    for _ in 0..MAX_PIECES {
        let read = stream.take((MAX_HEAD + 1 - head.len()) as u64).read_buf(head).await;
        if read.map_err(HandshakeError::Io)? == 0 {
            return Err(HandshakeError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        if head.len() > MAX_HEAD {
            break;
        }
        let (length, request) = match Request::try_parse(head) {
            Ok(None) => continue,
            Ok(Some(request)) => request,
            Err(error) => return wrong(Answer::to(&error)),
        };
        let mut response = match create_response(&request) {
            Ok(response) => response,
            Err(error) => return wrong(Answer::to(&error)),
        };
        if length < head.len() {
            return wrong(Answer::too_early());
        }
        if let Err(origin) = origin_of(request.headers(), origins) {
            return Ok(Err((Answer::forbidden(&origin), HandshakeError::Origin { origin })));
        }
        if offers_ours(request.headers()) {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        }
        return Ok(Ok(response));
    }
    wrong(Answer::too_large(MAX_HEAD))
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
        let mut answer = String::new();
        let hear = async {
            near.read_to_string(&mut answer).await.unwrap();
            drop(near);
        };
        let (accepted, ()) = tokio::join!(async { accept(far, &origins).await.map(drop) }, hear);
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
    async fn what_is_no_handshake_hears_why() {
        let endless = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(90_000));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(1000));
        let old = request("").replace("Version: 13", "Version: 8");
        let keyless = request("").replace("dGhlIHNhbXBsZSBub25jZQ==", "short");
        let early = request("") + "\u{1}";
        for (wrong, status) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426),
            ("GET / HTTP/1.0\r\n\r\n", 426),
            ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", 426),
            ("OPTIONS / HTTP/1.1\r\n\r\n", 426),
            (&old, 426),
            (&keyless, 400),
            (&early, 400),
            ("\0\x01\x02\r\n\r\n", 400),
            (&many, 400),
            (&endless, 431),
        ] {
            let (answer, accepted) = hears(wrong).await;
            let name = &wrong[..wrong.len().min(20)];
            assert!(matches!(accepted, Err(HandshakeError::Protocol(_))), "{name}: {accepted:?}");
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name}: {answer}");
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("Connection: close"), "{name}: {answer}");
            assert!(head.contains(&format!("Content-Length: {}", body.len())), "{name}: {answer}");
            assert!(body.ends_with(".\n"), "{name}: {answer}");
            assert_eq!(head.contains("Upgrade: websocket"), status == 426, "{name}: {answer}");
        }
        let (answer, _) = hears("HEAD / HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 426 ") && answer.ends_with("\r\n\r\n"), "{answer}");
    }

    #[tokio::test]
    async fn a_request_may_come_in_pieces_but_not_in_crumbs() {
        let origins = Origins::default();
        let hears = async |request: String| {
            let (mut near, far) = tokio::io::duplex(1);
            let mut answer = Vec::new();
            let say = async {
                for byte in request.bytes() {
                    near.write_all(&[byte]).await.unwrap();
                }
                near.read_to_end(&mut answer).await.unwrap();
                drop(near);
            };
            let (accepted, ()) = tokio::join!(async { accept(far, &origins).await.map(drop) }, say);
            (String::from_utf8_lossy(&answer[..12]).into_owned(), accepted.is_ok())
        };
        assert_eq!(hears(request("")).await, ("HTTP/1.1 101".into(), true));
        let crumbs = request(&format!("X: {}\r\n", "x".repeat(MAX_PIECES - request("").len() - 5)));
        assert_eq!(crumbs.len(), MAX_PIECES);
        assert_eq!(hears(crumbs.clone()).await, ("HTTP/1.1 101".into(), true));
        assert_eq!(hears(crumbs.replacen("X:", "X: ", 1)).await, ("HTTP/1.1 431".into(), false));
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
