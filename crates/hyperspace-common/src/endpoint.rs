//! Where a daemon listens: socket names and TCP addresses.
//!
//! From npm `@hyperspace/rpc` 1.15, `socket.js`: the socket is `<tmpdir>/<name>.sock`, the name comes from the
//! option `host`, else from the variable `HYPERSPACE_SOCKET`, else it is `hyperspace`.

use std::{env, fmt, path::PathBuf, str::FromStr};

use thiserror::Error;

/// The socket's name when nobody gives one.
pub const DEFAULT_SOCKET_NAME: &str = "hyperspace";
/// The environment variable that gives the socket's name.
pub const SOCKET_VARIABLE: &str = "HYPERSPACE_SOCKET";

/// The longest path that a UNIX socket can have: `sun_path` less the closing zero (108 on Linux, 104 on macOS).
const MAX_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Where a daemon listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// A UNIX socket.
    Socket(PathBuf),
    /// A TCP address, `HOST:PORT`.
    Tcp(String),
    /// A WebSocket, `ws://HOST:PORT` with or without a path.
    WebSocket(String),
}

impl Endpoint {
    /// The UNIX socket with this name, or with the name that the environment gives.
    pub fn socket(name: Option<&str>) -> Result<Self, EndpointError> {
        let variable = env::var(SOCKET_VARIABLE).ok();
        let name = name.filter(|n| !n.is_empty()).or(variable.as_deref().filter(|n| !n.is_empty()));
        Self::in_folder(temporary_folder(), name.unwrap_or(DEFAULT_SOCKET_NAME))
    }

    /// What a user wrote: `HOST:PORT` or `tcp://HOST:PORT` is a TCP address, `ws://HOST:PORT` a WebSocket, a path from
    /// the root or `unix:PATH` a socket, anything else a socket's name, nothing the default.
    pub fn from_option(text: Option<&str>) -> Result<Self, EndpointError> {
        let Some(text) = text else { return Self::socket(None) };
        let address = |rest: &str| Err(EndpointError::Address { scheme: scheme_of(text), rest: rest.into() });
        if let Some(rest) = text.strip_prefix("tcp://") {
            return if is_tcp(rest) { Ok(Self::Tcp(rest.into())) } else { address(rest) };
        }
        if let Some(rest) = text.strip_prefix("ws://") {
            let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
            return if is_tcp(host) && !rest.contains(char::is_whitespace) {
                Ok(Self::WebSocket(text.into()))
            } else {
                address(rest)
            };
        }
        if text.contains("://") && !text.starts_with("unix://") {
            return Err(EndpointError::Scheme { text: text.into() });
        }
        let path = text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:"));
        match path.or_else(|| text.starts_with('/').then_some(text)) {
            Some(path) => Self::path(path.into()),
            None if is_tcp(text) => Ok(Self::Tcp(text.into())),
            None => Self::socket(Some(text)),
        }
    }

    fn in_folder(folder: PathBuf, name: &str) -> Result<Self, EndpointError> {
        if name.contains(['/', '\0']) {
            return Err(EndpointError::Name { name: name.into() });
        }
        Self::path(folder.join(format!("{name}.sock")))
    }

    fn path(path: PathBuf) -> Result<Self, EndpointError> {
        let length = path.as_os_str().len();
        if length > MAX_SOCKET_PATH {
            return Err(EndpointError::TooLong { path, length });
        }
        Ok(Self::Socket(path))
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_option(Some(text))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => path.display().fmt(f),
            Self::Tcp(address) | Self::WebSocket(address) => address.fmt(f),
        }
    }
}

/// Why there can be no such socket.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EndpointError {
    /// The name is not one.
    #[error(
        "`{name}` cannot name a socket: give a plain name without slashes, a path from the root, HOST:PORT for TCP, \
         or ws://HOST:PORT"
    )]
    Name {
        /// What was given.
        name: String,
    },
    /// There is no host and port where they should be.
    #[error("`{rest}` is not an address: give {scheme}HOST:PORT, such as {scheme}127.0.0.1:9000")]
    Address {
        /// What goes before the address.
        scheme: &'static str,
        /// What was given as the address.
        rest: String,
    },
    /// Daemons are not reached this way.
    #[error(
        "`{text}` is no way to a daemon: give a socket's name, tcp://HOST:PORT or ws://HOST:PORT; encryption is left to \
         a tunnel (ssh -L, a VPN) or to a proxy beside the daemon"
    )]
    Scheme {
        /// What was given.
        text: String,
    },
    /// The system has no room for so long a path.
    #[error("the socket's path {} has {length} bytes, and the system takes {MAX_SOCKET_PATH}: choose a shorter name or set TMPDIR", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
}

fn is_tcp(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

fn scheme_of(text: &str) -> &'static str {
    if text.starts_with("ws://") { "ws://" } else { "tcp://" }
}

/// What Node's `os.tmpdir()` returns: the Node client must find the same folder.
fn temporary_folder() -> PathBuf {
    let from = |name| env::var_os(name).filter(|value| !value.is_empty());
    from("TMPDIR").or_else(|| from("TMP")).or_else(|| from("TEMP")).unwrap_or_else(|| "/tmp".into()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        assert_eq!("127.0.0.1:9000".parse(), Ok(Endpoint::Tcp("127.0.0.1:9000".into())));
        assert_eq!("[::1]:9000".parse(), Ok(Endpoint::Tcp("[::1]:9000".into())));
        let Endpoint::Socket(path) = "demo:x".parse().unwrap() else { panic!("a name") };
        assert_eq!(path.file_name().unwrap(), "demo:x.sock");
        assert!(matches!("a/b".parse::<Endpoint>(), Err(EndpointError::Name { .. })));
        assert!(
            matches!("x".repeat(200).parse::<Endpoint>(), Err(EndpointError::TooLong { length, .. }) if length > 200)
        );
    }

    #[test]
    fn addresses_have_schemes() {
        assert_eq!("tcp://localhost:9000".parse(), Ok(Endpoint::Tcp("localhost:9000".into())));
        for url in ["ws://127.0.0.1:9001", "ws://[::1]:9001/", "ws://host:1/rpc?x"] {
            assert_eq!(url.parse(), Ok(Endpoint::WebSocket(url.into())));
            assert_eq!(url.parse::<Endpoint>().unwrap().to_string(), url);
        }
        for path in ["/run/hs.sock", "unix:/run/hs.sock", "unix:///run/hs.sock"] {
            assert_eq!(path.parse(), Ok(Endpoint::Socket("/run/hs.sock".into())));
        }
        for wrong in ["tcp://nothing", "ws://", "ws:///x", "ws://host", "ws://host:99999", "ws://a b:1"] {
            let error = wrong.parse::<Endpoint>().unwrap_err();
            assert!(matches!(error, EndpointError::Address { .. }), "{wrong}");
            assert!(error.to_string().contains("127.0.0.1:9000"), "{error}");
        }
        let error = "wss://host:1".parse::<Endpoint>().unwrap_err().to_string();
        assert!(error.contains("tunnel"), "{error}");
    }

    #[test]
    fn a_socket_is_a_file_in_the_folder() {
        assert_eq!(
            Endpoint::in_folder("/tmp/".into(), "hyperspace").unwrap().to_string(),
            "/tmp/hyperspace.sock"
        );
    }
}
