//! The options of the command.

use std::{fs, path::PathBuf};

use anyhow::Context;
use clap::{
    ArgAction, Args, CommandFactory, Parser, Subcommand, builder::NonEmptyStringValueParser, error::ErrorKind,
};
use clap_complete::Shell;
use hypercore::Key;
use hyperspace_client::{ClientError, ConnectOptions};
use hyperspace_common::{AccessToken, Endpoint};

use super::output::Format;

/// Writes to, reads from and looks at Hypercores of a Hyperspace daemon.
#[derive(Debug, Parser)]
#[command(
    name = "hyperspace-client",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no daemon answers, 4 no peer has the core or the \
                  block, 5 the daemon wants an access token."
)]
pub(crate) struct Options {
    /// The daemon: its socket's name or path, tcp://HOST:PORT or ws://HOST:PORT [default: $HYPERSPACE_SOCKET, else
    /// hyperspace]
    #[arg(short = 'h', long, value_name = "NAME", global = true)]
    pub(crate) host: Option<String>,

    /// The file with the access token that the daemon wants over TCP and WebSocket; the first token in it is shown
    /// [default: the token in $HYPERSPACE_TOKEN]
    #[arg(long, value_name = "FILE", global = true)]
    pub(crate) token_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) core: CoreChoice,

    /// Print JSON, an object a line
    #[arg(long, global = true)]
    json: bool,

    /// Print keys in z-base-32 instead of hexadecimal
    #[arg(long, global = true)]
    z32: bool,

    #[command(subcommand)]
    pub(crate) command: Command,

    /// Print help
    #[arg(long, action = ArgAction::Help, global = true)]
    help: Option<bool>,

    /// Print version
    #[arg(long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// Which core.
#[derive(Debug, Args)]
pub(crate) struct CoreChoice {
    /// The core with this name; it is made if there is none
    // The RPC takes an empty name for none at all.
    #[arg(short, long, value_name = "NAME", global = true, conflicts_with = "key",
          value_parser = NonEmptyStringValueParser::new())]
    pub(crate) name: Option<String>,

    /// The core with this key, in hexadecimal or z-base-32
    #[arg(short, long, value_name = "KEY", global = true)]
    pub(crate) key: Option<Key>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a core, with the name that -n gives or without one, and print its key
    Create,
    /// Print the core's key, then append what standard input gives: a line a block
    Write {
        /// Append raw data in chunks instead of lines
        #[arg(long)]
        binary: bool,

        /// Size of the chunks of raw data, in bytes
        #[arg(long, value_name = "BYTES", default_value_t = 65_536, requires = "binary",
              value_parser = clap::value_parser!(u32).range(1..=8_388_608))]
        chunk_size: u32,
    },
    /// Print blocks, each as a line
    Read {
        /// The first block
        #[arg(default_value_t = 0)]
        from: u64,

        /// Print this many blocks at most
        #[arg(long, value_name = "COUNT")]
        count: Option<u64>,

        /// Go on with what is appended later
        #[arg(long)]
        live: bool,

        /// Print blocks as they are, without line ends
        #[arg(long, conflicts_with = "json")]
        binary: bool,
    },
    /// Print the last blocks, then what is appended later
    Tail {
        /// How many of the blocks that are there already
        #[arg(short, long, value_name = "COUNT", default_value_t = 10)]
        count: u64,

        /// Print blocks as they are, without line ends
        #[arg(long, conflicts_with = "json")]
        binary: bool,
    },
    /// Print what is known of the core
    Info,
    /// Have the daemon fetch blocks from peers, and wait until all are there
    Download {
        /// The first block
        #[arg(default_value_t = 0)]
        from: u64,

        /// The block after the last; blocks that nobody has yet are waited for [default: the core's end]
        to: Option<u64>,
    },
    /// Have the daemon announce the core to the network, from now on and whenever it is started again
    Seed,
    /// Have the daemon announce the core no more, and forget that it did
    Unseed,
    /// List the cores that the daemon has stored
    Ls,
    /// List the daemon's peers, or those that have the core open
    Peers,
    /// What the daemon does in the network
    Network {
        #[command(subcommand)]
        command: NetworkCommand,
    },
    /// Print what the daemon is and does
    Status,
    /// End the daemon
    Stop,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man {
        /// Write a page for each command into this folder instead
        folder: Option<PathBuf>,
    },
}

#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Print the daemon's address and peers, and which cores it announces and looks up
    Status,
}

impl CoreChoice {
    /// Whether there is one.
    pub(crate) fn is_some(&self) -> bool {
        self.name.is_some() || self.key.is_some()
    }
}

impl Options {
    /// How to connect.
    pub(crate) fn connect_options(&self, endpoint: &Endpoint) -> anyhow::Result<ConnectOptions> {
        let Some(path) = &self.token_file else {
            return Ok(ConnectOptions::for_endpoint(endpoint)?);
        };
        let place = format!("the token file {}", path.display());
        let text = fs::read_to_string(path).with_context(|| format!("{place} cannot be read"))?;
        let tokens = AccessToken::list(&text).map_err(|error| ClientError::Token { place, error })?;
        Ok(ConnectOptions { token: tokens.into_iter().next(), ..ConnectOptions::default() })
    }

    /// How results are printed.
    pub(crate) fn format(&self) -> Format {
        Format { json: self.json, z32: self.z32 }
    }

    /// Refuses what the parser cannot know to be wrong.
    pub(crate) fn check(self) -> Result<Self, clap::Error> {
        let wrong = |kind, what: &str| Err(Self::command().error(kind, what));
        let chosen = self.core.is_some();
        match &self.command {
            Command::Write { .. }
            | Command::Read { .. }
            | Command::Tail { .. }
            | Command::Info
            | Command::Download { .. }
            | Command::Seed
            | Command::Unseed
                if !chosen =>
            {
                let what = "say which core is meant: with -n NAME or -k KEY";
                return wrong(ErrorKind::MissingRequiredArgument, what);
            }
            Command::Download { from, to: Some(to) } if to < from => {
                return wrong(ErrorKind::ValueValidation, "the block after the last is before the first");
            }
            Command::Create if self.core.key.is_some() => {
                let what = "a core is made with a name or without, not with a key";
                return wrong(ErrorKind::ArgumentConflict, what);
            }
            Command::Ls
            | Command::Status
            | Command::Stop
            | Command::Completions { .. }
            | Command::Man { .. }
                if chosen =>
            {
                return wrong(ErrorKind::ArgumentConflict, "this command is not about one core");
            }
            _ => {}
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn h_is_the_host_and_one_core_is_chosen() {
        let parse = |line: &str| Options::try_parse_from(line.split(' ')).and_then(Options::check);
        let options = parse("x -h demo -n log write").unwrap();
        assert_eq!((options.host.as_deref(), options.core.name.as_deref()), (Some("demo"), Some("log")));
        let key = "a".repeat(64);
        assert!(parse(&format!("x -k {key} read 7 --live")).is_ok());
        assert!(parse(&format!("x -k {key} -n log read")).is_err());
        assert!(parse("x read").is_err());
        let error = parse("x -k nonsense read").unwrap_err().to_string();
        assert!(error.contains("nonsense"), "{error}");
        assert!(parse("x -n log write --chunk-size 10").is_err());
        assert!(parse("x -n log write --binary --chunk-size 9000000").is_err());
    }

    #[test]
    fn the_core_may_come_last_and_is_not_given_in_vain() {
        let parse = |line: &str| Options::try_parse_from(line.split(' ')).and_then(Options::check);
        assert!(parse("x tail -n log --count 3 --json --z32").unwrap().format().z32);
        assert!(parse("x create").is_ok() && parse("x create -n log").is_ok());
        assert!(parse(&format!("x create -k {}", "a".repeat(64))).is_err());
        assert!(parse("x ls").is_ok() && parse("x ls -n log").is_err());
        assert!(parse("x peers").is_ok() && parse("x peers -n log").is_ok());
        assert!(parse("x read -n log --binary --json").is_err());
        assert!(parse("x seed").is_err() && parse("x seed -n log --json").is_ok());
        assert!(parse("x unseed").is_err() && parse("x network").is_err());
        assert!(parse("x network status").is_ok() && parse("x network status -n log").is_ok());
    }
}
