//! The options of the command.

use std::path::PathBuf;

use clap::{ArgAction, Parser};

/// Stores Hypercores, serves them to programs on this machine, and replicates them with peers.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "hyperspace-server",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    after_help = "The daemon stays in the foreground and ends on SIGINT or SIGTERM. \
                  It prints `Listening on SOCKET` when clients can connect."
)]
pub(crate) struct Options {
    /// Folder of the store [default: ~/.hyperspace/storage]
    #[arg(short, long, value_name = "DIR")]
    pub(crate) storage: Option<PathBuf>,

    /// Name of the socket that clients connect to: <tmpdir>/NAME.sock [default: $HYPERSPACE_SOCKET, else hyperspace]
    #[arg(short = 'h', long, value_name = "NAME")]
    pub(crate) host: Option<String>,

    /// Let clients connect over TCP, too, on a loopback address
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) rpc_listen: Option<String>,

    /// Let peers connect here over TCP; each connection is encrypted
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) peer_listen: Option<String>,

    /// Connect to this peer over TCP, again and again when it is lost; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) connect: Vec<String>,

    /// UDP port of the swarm (accepted, not used yet)
    #[arg(short, long, value_name = "PORT")]
    pub(crate) port: Option<u16>,

    /// UDP address of the swarm (accepted, not used yet)
    #[arg(short, long, value_name = "IP:PORT")]
    pub(crate) address: Option<std::net::SocketAddr>,

    /// DHT node to start from; may be given several times (accepted, not used yet)
    #[arg(short, long, value_name = "HOST:PORT")]
    pub(crate) bootstrap: Vec<String>,

    /// Do not join the swarm; peers by address still work
    #[arg(long)]
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
