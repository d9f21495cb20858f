//! The options of the command.

use clap::{ArgAction, Args, Parser, Subcommand};
use hypercore::Key;

/// Writes to, reads from and looks at Hypercores of a Hyperspace daemon.
#[derive(Debug, Parser)]
#[command(
    name = "hyperspace-client",
    version,
    disable_help_flag = true,
    disable_version_flag = true,
    disable_help_subcommand = true,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no daemon answers, 4 no peer has the block."
)]
pub(crate) struct Options {
    /// The daemon: its socket's name, or HOST:PORT [default: $HYPERSPACE_SOCKET, else hyperspace]
    #[arg(short = 'h', long, value_name = "NAME", global = true)]
    pub(crate) host: Option<String>,

    #[command(flatten)]
    pub(crate) core: CoreChoice,

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
#[group(required = true, multiple = false)]
pub(crate) struct CoreChoice {
    /// The core with this name; it is made if there is none
    #[arg(short, long, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// The core with this key, in hexadecimal or z-base-32
    #[arg(short, long, value_name = "KEY")]
    pub(crate) key: Option<Key>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
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
        #[arg(long)]
        binary: bool,
    },
    /// Print what is known of the core
    Info,
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
    fn h_is_the_host_and_one_core_is_chosen() {
        let parse = |line: &str| Options::try_parse_from(line.split(' '));
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
}
