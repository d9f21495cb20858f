//! The options of the command.

use std::{net::SocketAddr, path::PathBuf};

use clap::{ArgAction, Parser};
use hypercore::Key;
use hyperspace_common::{Endpoint, EndpointError};
use thiserror::Error;

/// Stores Hypercores, serves them to programs on this machine, and replicates them with peers.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "hyperspace-server",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    after_help = "The daemon stays in the foreground and ends on SIGINT or SIGTERM. \
                  It prints `Listening on SOCKET` when clients can connect, and with --dht \
                  `Listening on IP:PORT` when it answers other nodes.\n\n\
                  Topics that clients want are announced and looked up in the swarm. -a is where the daemon's own \
                  node of the DHT is bound, -p where its connections come from; both are UDP. A network of one's \
                  own, on one machine:\n  \
                  hyperspace-server --dht -a 127.0.0.1:3401\n  \
                  hyperspace-server -s /tmp/hs1 -h hs1 -a 127.0.0.1:3402 -b 127.0.0.1:3401 -p 7001\n  \
                  hyperspace-server -s /tmp/hs2 -h hs2 -a 127.0.0.1:3403 -b 127.0.0.1:3401 -p 7002"
)]
pub(crate) struct Options {
    /// Folder of the store [default: ~/.hyperspace/storage]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) storage: Option<PathBuf>,

    /// Name of the socket that clients connect to: <tmpdir>/NAME.sock [default: $HYPERSPACE_SOCKET, else hyperspace]
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(crate) host: Option<String>,

    /// Let clients connect over TCP, too; on a loopback address, unless there is a --token-file
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) rpc_listen: Option<String>,

    /// Let clients connect over WebSocket, too: pages in a browser, for instance. Needs a --token-file
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) ws_listen: Option<String>,

    /// Let pages of this origin connect over WebSocket, apart from those of this machine; may be given several times
    #[arg(long, value_name = "SCHEME://HOST[:PORT]", requires = "ws_listen")]
    pub(crate) ws_origin: Vec<String>,

    /// Whoever connects over TCP or WebSocket has to show a token from this file, one a line. If there is no such
    /// file, it is made, with a random token. On SIGHUP, it is read again
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Let peers connect here over TCP; each connection is encrypted
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) peer_listen: Option<String>,

    /// Connect to this peer over TCP, again and again when it is lost; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) connect: Vec<String>,

    /// UDP address of this node in the DHT [default: port 49737 of all interfaces, or any port when that is taken]
    #[arg(short, long, value_name = "IP:PORT")]
    pub(crate) address: Option<SocketAddr>,

    /// UDP port that connections with peers go out from, on the IP of --address; another when it is taken
    /// [default: any]
    #[arg(short, long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub(crate) port: u16,

    /// DHT node to enter the network through, as host:port or ip@host:port; may be given several times [default: the
    /// public network's; with --dht: none, which starts a network of its own]
    #[arg(short, long, value_name = "HOST:PORT")]
    pub(crate) bootstrap: Vec<String>,

    /// Be a node of the DHT and nothing else: no store, no socket
    #[arg(long, conflicts_with_all = ["storage", "host", "rpc_listen", "ws_listen", "token_file", "peer_listen", "connect", "memory_only", "offline", "no_announce", "port", "relay"])]
    pub(crate) dht: bool,

    /// With --dht: be a blind relay as well, which joins peers that find no direct way to each other. Prints the public
    /// key that they name it by; the key pair is kept in FILE, which is made when it is missing
    #[arg(long, value_name = "FILE", requires = "dht")]
    pub(crate) serve_relay: Option<PathBuf>,

    /// Public key of a blind relay, through which connections with peers go where no direct way is found; may be given
    /// several times
    #[arg(long, value_name = "KEY")]
    pub(crate) relay: Vec<Key>,

    /// Look for others where clients want that, but do not let others find this daemon
    #[arg(long)]
    pub(crate) no_announce: bool,

    /// Stay out of the swarm; peers by address (--peer-listen, --connect) still work
    #[arg(long, conflicts_with_all = ["address", "port", "bootstrap", "no_announce", "relay"])]
    pub(crate) offline: bool,

    /// Store nothing on disk: everything is gone when the daemon ends
    #[arg(long, conflicts_with = "storage")]
    pub(crate) memory_only: bool,

    /// When what was written is forced to disk, so that it survives loss of power: `always`, `never`, or every so
    /// many milliseconds. A killed daemon loses nothing in any case
    #[arg(long, value_name = "POLICY", default_value = "1000", value_parser = parse_fsync)]
    pub(crate) fsync: Fsync,

    /// Say more on standard error; twice for everything
    #[arg(short, long, action = ArgAction::Count)]
    pub(crate) verbose: u8,

    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,

    /// Print version
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,
}

impl Options {
    /// The socket that clients connect to.
    pub(crate) fn socket(&self) -> Result<PathBuf, SocketError> {
        match Endpoint::socket(self.host.as_deref()) {
            Ok(Endpoint::Socket(path)) => Ok(path),
            Ok(other) => Err(SocketError::Name { name: other.to_string() }),
            // What clients may give is more than this.
            Err(EndpointError::Name { name }) => Err(SocketError::Name { name }),
            Err(error) => Err(error.into()),
        }
    }
}

/// Why there is no socket.
#[derive(Debug, Error)]
pub(crate) enum SocketError {
    #[error(
        "`{name}` cannot name the socket: --host (or HYPERSPACE_SOCKET) is a plain name without slashes; the socket \
         lies in the folder that TMPDIR names"
    )]
    Name { name: String },
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
}

/// When what was written is forced to disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fsync {
    /// Before an append is acknowledged.
    Always,
    /// When the system pleases.
    Never,
    /// Every so many milliseconds.
    Millis(u64),
}

fn parse_fsync(text: &str) -> Result<Fsync, String> {
    match text {
        "always" => Ok(Fsync::Always),
        "never" => Ok(Fsync::Never),
        millis => match millis.parse() {
            Ok(millis) if millis > 0 => Ok(Fsync::Millis(millis)),
            _ => Err("give `always`, `never`, or a number of milliseconds".into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_options_are_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn options_that_exclude_each_other_are_refused() {
        for wrong in [
            &["x", "--dht", "-s", "/a"][..],
            &["x", "--dht", "--offline"],
            &["x", "--offline", "-b", "127.0.0.1:1"],
            &["x", "--offline", "--no-announce"],
            &["x", "--ws-origin", "https://a.example"],
            &["x", "--dht", "--token-file", "/a"],
            &["x", "--serve-relay", "/key"],
            &["x", "--relay", "not a key"],
        ] {
            assert!(Options::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
        let tour = ["x", "-s", "/a", "-h", "a", "-a", "127.0.0.1:3402", "-b", "127.0.0.1:3401", "-p", "7001"];
        let options = Options::parse_from(tour);
        assert_eq!((options.port, options.bootstrap.len(), options.dht), (7001, 1, false));
        assert_eq!(options.address.unwrap().port(), 3402);
    }

    #[test]
    fn h_is_the_host() {
        let options = Options::parse_from([
            "x",
            "-h",
            "demo",
            "-s",
            "/a",
            "--connect",
            "a:1",
            "--connect",
            "b:2",
            "-vv",
        ]);
        assert_eq!((options.host.as_deref(), options.connect.len(), options.verbose), (Some("demo"), 2, 2));
        assert_eq!(options.fsync, Fsync::Millis(1000));
        assert!(Options::try_parse_from(["x", "--memory-only", "-s", "/a"]).is_err());
        assert!(Options::try_parse_from(["x", "--fsync", "0"]).is_err());
    }
}
