//! Where clients connect: a UNIX socket that is ours alone, and TCP addresses.

use std::{
    fs, io,
    net::{IpAddr, SocketAddr},
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
};

use thiserror::Error;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tracing::warn;

/// Why the server cannot listen.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Another daemon answers on the socket.
    #[error(
        "a daemon is already listening on {}; stop it, or give this one another name with --host", path.display()
    )]
    Live {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket has the socket's name.
    #[error("{} exists and is not a socket; remove it, or choose another name with --host", path.display())]
    NotASocket {
        /// The file.
        path: PathBuf,
    },
    /// The socket cannot be made.
    #[error("cannot listen on {}: {error}{}", path.display(), remedy(error))]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The address is not on this machine's loopback interface, and no access token is wanted.
    #[error(
        "refusing to offer the RPC on {address} without an access token: whoever reaches it could read and write \
         every core; add --token-file FILE (it is made when there is none), or use a loopback address such as \
         127.0.0.1:PORT, and a tunnel from other machines"
    )]
    NotLoopback {
        /// The address.
        address: SocketAddr,
    },
    /// There is no token for clients over WebSocket.
    #[error(
        "refusing to offer the RPC over WebSocket without an access token: every page in a browser on this machine \
         reaches it; add --token-file FILE (it is made when there is none)"
    )]
    NoToken,
    /// The address is none.
    #[error("`{address}` is not an address to listen on: {reason}; give HOST:PORT, such as 127.0.0.1:9000")]
    Address {
        /// What was given.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The system does not give the address.
    #[error("cannot listen on {address}: {error}")]
    Tcp {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
}

/// A UNIX socket that only its owner may use. It is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct SocketListener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode: what is removed at the end must still be what was made.
    identity: (u64, u64),
}

/// What helps when the folder is the trouble.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::NotFound => {
            "; sockets are made in the folder for temporary files: set TMPDIR to one that this user may write to"
        }
        _ => "",
    }
}

impl SocketListener {
    /// Takes the socket's name: a stale socket is replaced, a live one never.
    pub(crate) async fn bind(path: &Path) -> Result<Self, ListenError> {
        let fail = |error| ListenError::Socket { path: path.into(), error };
        Self::clear_the_way(path).await?;
        // Bound under a name of its own inside a folder that only we can enter, restricted there, and then moved:
        // nobody can connect before the mode is right, and a name that was taken meanwhile is not overwritten.
        let folder = private_folder(path).map_err(fail)?;
        let inner = folder.join("s");
        let made = Self::bind_and_move(&inner, path);
        let _ = fs::remove_file(&inner);
        let _ = fs::remove_dir(&folder);
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(ListenError::Live { path: path.into() })
            }
            made => made.map_err(fail),
        }
    }

    /// The next client.
    pub(crate) async fn accept(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }

    fn bind_and_move(inner: &Path, path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(inner)?;
        fs::set_permissions(inner, fs::Permissions::from_mode(0o600))?;
        // A link, unlike a rename, fails when the name exists.
        fs::hard_link(inner, path)?;
        let meta = fs::symlink_metadata(path)?;
        Ok(Self { listener, path: path.into(), identity: (meta.dev(), meta.ino()) })
    }

    /// Removes a socket that nobody listens on.
    async fn clear_the_way(path: &Path) -> Result<(), ListenError> {
        let fail = |error| ListenError::Socket { path: path.into(), error };
        let before = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(fail(error)),
        };
        if !before.file_type().is_socket() {
            return Err(ListenError::NotASocket { path: path.into() });
        }
        match UnixStream::connect(path).await {
            Ok(_) => return Err(ListenError::Live { path: path.into() }),
            // Nobody listens: the process that made it is gone.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            // A full backlog means that somebody is alive, and so on: leave it alone.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(ListenError::Live { path: path.into() });
            }
            Err(error) => return Err(fail(error)),
        }
        match fs::symlink_metadata(path) {
            // Still the one that was tried: another daemon may have put its own there meanwhile.
            Ok(now) if (now.dev(), now.ino()) == (before.dev(), before.ino()) => {
                fs::remove_file(path).map_err(fail)
            }
            _ => Ok(()),
        }
    }
}

impl Drop for SocketListener {
    fn drop(&mut self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A fresh folder beside the socket that only we can enter.
fn private_folder(socket: &Path) -> io::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt;
    let parent = socket.parent().unwrap_or(Path::new("/"));
    for attempt in 0..100u32 {
        // Short, since a socket's path must be.
        let folder = parent.join(format!(".hs{:x}-{attempt:x}", process::id()));
        match fs::DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| folder),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "no free name for a temporary folder"))
}

/// Listens for RPC clients on a TCP address: of the loopback interface, unless they are asked for a token.
pub(crate) async fn listen_for_clients(address: &str, guarded: bool) -> Result<TcpListener, ListenError> {
    let addresses = resolve(address).await?;
    if let Some(&address) = addresses.iter().find(|a| !is_loopback(a.ip())) {
        if !guarded {
            return Err(ListenError::NotLoopback { address });
        }
        warn!(%address, "other machines can connect, and nothing is encrypted on the way; a tunnel is safer");
    }
    listen(address, &addresses).await
}

/// Listens for peers on any TCP address: they have to pass a Noise handshake and to know a core's key.
pub(crate) async fn listen_anywhere(address: &str) -> Result<TcpListener, ListenError> {
    let addresses = resolve(address).await?;
    listen(address, &addresses).await
}

async fn listen(text: &str, addresses: &[SocketAddr]) -> Result<TcpListener, ListenError> {
    let mut failed = ListenError::Address { address: text.into(), reason: "the name has no address".into() };
    for &address in addresses {
        match TcpListener::bind(address).await {
            Ok(listener) => return Ok(listener),
            Err(error) => failed = ListenError::Tcp { address, error },
        }
    }
    Err(failed)
}

async fn resolve(address: &str) -> Result<Vec<SocketAddr>, ListenError> {
    match tokio::net::lookup_host(address).await {
        Ok(addresses) => Ok(addresses.collect()),
        Err(error) => Err(ListenError::Address { address: address.into(), reason: error.to_string() }),
    }
}

fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_the_owner_may_connect() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let listener = SocketListener::bind(&path).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (client, server) = tokio::join!(UnixStream::connect(&path), listener.accept());
        client.unwrap();
        server.unwrap();
        drop(listener);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is left behind");
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        // A listener of the standard library leaves its file behind, as a killed daemon does.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = SocketListener::bind(&path).await.unwrap();
        let error = SocketListener::bind(&path).await.unwrap_err();
        assert!(matches!(error, ListenError::Live { .. }), "{error}");
        UnixStream::connect(&path).await.unwrap();
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_file_that_is_no_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        fs::write(&path, "precious").unwrap();
        assert!(matches!(SocketListener::bind(&path).await, Err(ListenError::NotASocket { .. })));
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn a_socket_that_took_the_name_over_is_not_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.sock");
        let first = SocketListener::bind(&path).await.unwrap();
        fs::remove_file(&path).unwrap();
        let second = SocketListener::bind(&path).await.unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn without_a_token_the_rpc_stays_on_this_machine() {
        assert!(listen_for_clients("127.0.0.1:0", false).await.is_ok());
        for elsewhere in ["0.0.0.0:0", "[::]:0"] {
            let error = listen_for_clients(elsewhere, false).await.unwrap_err();
            assert!(matches!(error, ListenError::NotLoopback { .. }));
            assert!(error.to_string().contains("loopback") && error.to_string().contains("--token-file"));
        }
        // With a token it is only a question of whether this machine has the address.
        let error = listen_for_clients("192.0.2.1:0", true).await.unwrap_err();
        assert!(matches!(error, ListenError::Tcp { .. }), "{error}");
        assert!(matches!(listen_for_clients("nonsense", true).await, Err(ListenError::Address { .. })));
    }
}
