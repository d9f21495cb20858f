//! Reaching a daemon, and being let in.

use std::{fmt, io, time::Duration};

use hyperspace_common::{
    AccessToken, Decoder, Endpoint, KEEPALIVE_AFTER, KEEPALIVE_EVERY, KEEPALIVE_QUESTIONS, Kind, Method,
    Outbox, RpcError, code, decode, messages::PresentRequest,
};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};

use crate::{connection::Halves, error::ClientError};

/// How long a daemon may take for a WebSocket's handshake and for a look at the token.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a UNIX socket takes before the daemon has read it: large blocks that arrive together are hashed side by side. The
/// system's limit holds where it is lower; twice its default is what everybody may have.
const UNREAD: usize = 512 << 10;
/// The largest answer to a token: a sentence.
const MAX_ANSWER: usize = 4096;
/// The call that shows the token. Its number is free again before there are others.
const PRESENT: u64 = 1;

/// Connects. A token is shown over TCP and WebSocket, and only there: a UNIX socket's mode says who may use it.
pub(crate) async fn dial(endpoint: &Endpoint, token: Option<&AccessToken>) -> Result<Halves, ClientError> {
    let refused = |error: &dyn fmt::Display| ClientError::Connect {
        endpoint: endpoint.to_string(),
        reason: error.to_string(),
    };
    let come_in = async {
        match endpoint {
            Endpoint::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| refused(&error))?;
                SockRef::from(&stream).set_send_buffer_size(UNREAD).map_err(|error| refused(&error))?;
                let (reader, writer) = stream.into_split();
                Ok(Halves { reader: Box::new(reader), writer: Box::new(writer) })
            }
            Endpoint::Tcp(address) => {
                let mut stream = reach(address).await.map_err(|error| refused(&error))?;
                present(&mut stream, endpoint, token).await?;
                let (reader, writer) = stream.into_split();
                Ok(Halves { reader: Box::new(reader), writer: Box::new(writer) })
            }
            Endpoint::WebSocket(url) => {
                let stream = reach(authority(url)).await.map_err(|error| refused(&error))?;
                let websocket = hyperspace_websocket::connect(stream, url).await;
                let mut websocket = websocket.map_err(|error| refused(&error))?;
                present(&mut websocket, endpoint, token).await?;
                let (reader, writer) = tokio::io::split(websocket);
                Ok(Halves { reader: Box::new(reader), writer: Box::new(writer) })
            }
        }
    };
    match tokio::time::timeout(PATIENCE, come_in).await {
        Ok(halves) => halves,
        Err(_) => Err(refused(&format_args!("no answer came within {} s", PATIENCE.as_secs()))),
    }
}

/// Connects over TCP. A client that waits for events would not notice by itself that the daemon's machine is gone.
async fn reach(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_EVERY);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive.with_retries(KEEPALIVE_QUESTIONS))?;
    Ok(stream)
}

/// Shows the token, and waits until it was looked at. Nothing is read past the answer.
async fn present<IO>(io: &mut IO, endpoint: &Endpoint, token: Option<&AccessToken>) -> Result<(), ClientError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let Some(token) = token else { return Ok(()) };
    let denied = |reason: String| ClientError::Access { endpoint: endpoint.to_string(), reason };
    let broken = |error: io::Error| ClientError::Connect {
        endpoint: endpoint.to_string(),
        reason: match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                "it closed the connection before it had looked at the token".into()
            }
            _ => error.to_string(),
        },
    };
    let mut outbox = Outbox::new();
    outbox.request(Method::AccessPresent, PRESENT, &PresentRequest { token: token.secret().into() });
    io.write_all(&outbox.take()).await.map_err(broken)?;
    io.flush().await.map_err(broken)?;

    let protocol = |what: &dyn fmt::Display| ClientError::Protocol(what.to_string());
    let decoder = Decoder::new(MAX_ANSWER);
    let mut buffer = Vec::new();
    loop {
        while let more @ 1.. = decoder.wanted(&buffer).map_err(|error| protocol(&error))? {
            if buffer.len() > 2 * MAX_ANSWER {
                return Err(protocol(&"many bytes and no frame"));
            }
            let at = buffer.len();
            buffer.resize(at + more, 0);
            io.read_exact(&mut buffer[at..]).await.map_err(broken)?;
        }
        let frame = decoder.next(&buffer).map_err(|error| protocol(&error))?;
        let Some(frame) = frame else { return Err(protocol(&"a frame without an end")) };
        match (frame.header.kind, frame.header.id) {
            (Kind::Response, PRESENT) => return Ok(()),
            (Kind::Error, PRESENT) => {
                let error: RpcError = decode(&buffer[frame.payload]).map_err(|error| protocol(&error))?;
                return Err(match error.code.as_deref() {
                    Some(code::ACCESS) => denied(error.message),
                    _ => ClientError::Rpc(error),
                });
            }
            // Where no token is wanted, events may come before the answer. Nobody waits for them yet.
            (Kind::Request, 0) => buffer.clear(),
            _ => return Err(protocol(&"an answer to a call that was not made")),
        }
    }
}

/// Host and port of `ws://HOST:PORT/PATH`.
fn authority(url: &str) -> &str {
    let rest = url.strip_prefix("ws://").unwrap_or(url);
    rest.split(['/', '?', '#']).next().unwrap_or(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_what_a_url_begins_with() {
        for url in
            ["ws://[::1]:80", "ws://[::1]:80/", "ws://[::1]:80/a/b?c", "ws://[::1]:80?c", "ws://[::1]:80#d"]
        {
            assert_eq!(authority(url), "[::1]:80");
        }
    }

    #[tokio::test]
    async fn a_daemon_whose_machine_is_gone_is_noticed() {
        let daemon = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = reach(&daemon.local_addr().unwrap().to_string()).await.unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.keepalive().unwrap() && stream.nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_AFTER);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_EVERY);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_QUESTIONS);
    }

    #[tokio::test]
    async fn an_answer_is_waited_for_and_nothing_is_read_past_it() {
        let endpoint = Endpoint::Tcp("127.0.0.1:1".into());
        let token: AccessToken = "x".repeat(40).parse().unwrap();
        let answers = |error: Option<RpcError>| {
            let mut outbox = Outbox::new();
            outbox.event(Method::CorestoreOnFeed, &());
            let call = hyperspace_common::Header::request(Method::AccessPresent, PRESENT);
            match error {
                Some(error) => outbox.error(call, &error),
                None => outbox.response(call, &()),
            }
            [&outbox.take()[..], b"more"].concat()
        };
        let meet = async |bytes: Vec<u8>| {
            let (mut near, mut far) = tokio::io::duplex(65_536);
            far.write_all(&bytes).await.unwrap();
            far.shutdown().await.unwrap();
            let met = present(&mut near, &endpoint, Some(&token)).await;
            let mut rest = Vec::new();
            near.read_to_end(&mut rest).await.unwrap();
            (met, rest)
        };
        let (met, rest) = meet(answers(None)).await;
        assert!(met.is_ok() && rest == b"more");
        let error =
            RpcError { message: "no".into(), code: Some(code::ACCESS.into()), errno: None, details: None };
        let (met, _) = meet(answers(Some(error))).await;
        let error = met.unwrap_err();
        assert!(
            matches!(error, ClientError::Access { .. }) && error.to_string().contains("127.0.0.1:1"),
            "{error}"
        );
        assert!(matches!(meet(vec![5, 0x49]).await.0, Err(ClientError::Connect { .. })));
        assert!(matches!(meet(vec![0xff; 20]).await.0, Err(ClientError::Protocol(_))));
        assert!(matches!(meet(vec![0; 20_000]).await.0, Err(ClientError::Protocol(_))));
    }
}
