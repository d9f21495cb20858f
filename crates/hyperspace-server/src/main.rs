//! The daemon: `hyperspace-server`.

mod cli;
mod relay_key;

use std::{
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Parser;
use corestore::Corestore;
use hypercore::Key;
use hyperdht::{
    DhtOptions, HyperDht,
    relay::{RelayLimits, RelayService},
};
use hyperspace_server::{
    NetworkOptions, Origins, Server, ServerOptions, raise_descriptor_limit, reread_tokens, tokens_from_file,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let options = cli::Options::parse();
    start_logging(options.verbose);
    // Before the store is opened: it looks at how many files it may have open, as the server does.
    if let Err(error) = raise_descriptor_limit() {
        tracing::warn!(%error, "the number of files and connections that may be open stays as it is");
    }
    let run = || tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(options));
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hyperspace-server: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: cli::Options) -> Result<()> {
    // Before clients can connect, so that a signal that comes early is not lost.
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let signalled = async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };
    // Without tokens a daemon ends when its terminal does, like any program.
    let hangup = options.token_file.is_some().then(|| signal(SignalKind::hangup()));
    let hangup = hangup.transpose().context("cannot handle SIGHUP")?;
    if options.dht {
        return run_dht_node(&options, signalled).await;
    }
    let socket = options.socket()?;
    let tokens = options.token_file.as_deref().map(tokens_from_file).transpose()?.unwrap_or_default();
    let ws_origins = Origins::new(&options.ws_origin)?;
    let store = open_store(&options)?;
    let network = (!options.offline).then(|| NetworkOptions {
        address: options.address,
        port: options.port,
        bootstrap: (!options.bootstrap.is_empty()).then_some(options.bootstrap),
        announce: !options.no_announce,
        relays: options.relay.into_iter().map(Into::into).collect(),
    });
    let server = Server::start(ServerOptions {
        store: Some(store),
        socket: Some(socket.clone()),
        client_threads: hyperspace_server::suitable_client_threads(),
        rpc_listen: options.rpc_listen,
        ws_listen: options.ws_listen,
        ws_origins,
        tokens,
        peer_listen: options.peer_listen,
        connect: options.connect,
        network,
        ..ServerOptions::default()
    })
    .await?;
    announce(&format!("Listening on {}", socket.display()));
    if let Some(address) = server.rpc_address() {
        announce(&format!("Listening on {address}"));
    }
    if let Some(address) = server.ws_address() {
        announce(&format!("Listening on ws://{address}"));
    }
    if let Some(file) = &options.token_file {
        announce(&format!("Clients over TCP and WebSocket need a token from {}", file.display()));
    }
    if let Some(address) = server.peer_address() {
        announce(&format!("Listening for peers on {address}"));
    }
    if let Some(address) = server.dht_address() {
        announce(&format!("Listening for the DHT on {address}"));
    }
    tokio::select! {
        () = server.stopped() => {}
        () = signalled => {}
        () = keep_tokens(&server, options.token_file.as_deref(), hangup) => {}
    }
    tracing::info!("shutting down");
    server.stop().await;
    Ok(())
}

/// Reads the tokens again whenever somebody sends a SIGHUP. Those that there are stay until there are others.
async fn keep_tokens(server: &Server, file: Option<&Path>, hangup: Option<Signal>) {
    let (Some(file), Some(mut hangup)) = (file, hangup) else { return std::future::pending().await };
    while hangup.recv().await.is_some() {
        let read = reread_tokens(file).map_err(anyhow::Error::from);
        match read.and_then(|tokens| Ok(server.set_tokens(&tokens)?)) {
            Ok(()) => announce(&format!("Clients need a token from {} as it is now", file.display())),
            Err(error) => tracing::error!("the access tokens stay as they are: {error:#}"),
        }
    }
    std::future::pending().await
}

/// A node of the DHT and nothing else.
async fn run_dht_node(options: &cli::Options, signalled: impl Future<Output = ()>) -> Result<()> {
    let relay_key = options.serve_relay.as_deref().map(relay_key::load).transpose()?;
    let node = match (options.address, &options.bootstrap[..]) {
        (Some(address), []) => HyperDht::bootstrapper(address).await?,
        (None, []) => anyhow::bail!(
            "a DHT node without --bootstrap starts a network of its own: say with --address where others reach it"
        ),
        (_, bootstrap) => {
            let network = NetworkOptions {
                address: options.address,
                bootstrap: Some(bootstrap.to_vec()),
                ..NetworkOptions::default()
            };
            HyperDht::new(DhtOptions { ephemeral: Some(false), ..network.dht() }).await?
        }
    };
    announce(&format!("Listening on {}", node.local_address()));
    let mut _relay = None;
    if let Some(key_pair) = relay_key {
        let key = Key::from(key_pair.public);
        _relay = Some(RelayService::listen(&node, key_pair, RelayLimits::default()).await?);
        announce(&format!("Relaying as {key}"));
    }
    signalled.await;
    tracing::info!("shutting down");
    node.close().await;
    Ok(())
}

/// The store that the options mean.
fn open_store(options: &cli::Options) -> Result<Corestore> {
    if options.memory_only {
        return Ok(Corestore::memory());
    }
    let folder = match &options.storage {
        Some(folder) => folder.clone(),
        None => {
            let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
            home.context("there is no home folder; say with --storage where to store")?
                .join(".hyperspace/storage")
        }
    };
    open_folder(&folder, options)
}

#[cfg(feature = "rocksdb")]
fn open_folder(folder: &Path, options: &cli::Options) -> Result<Corestore> {
    Ok(Corestore::open_with(folder, folder_options(options))?)
}

#[cfg(feature = "rocksdb")]
fn folder_options(options: &cli::Options) -> hypercore::storage::FolderOptions {
    use hypercore::storage::{FolderOptions, FsyncPolicy};
    let fsync = match options.fsync {
        cli::Fsync::Always => FsyncPolicy::EveryCommit,
        cli::Fsync::Never => FsyncPolicy::Never,
        cli::Fsync::Millis(millis) => FsyncPolicy::Interval(std::time::Duration::from_millis(millis)),
    };
    FolderOptions { fsync, ..FolderOptions::default() }
}

#[cfg(not(feature = "rocksdb"))]
fn open_folder(_folder: &Path, _options: &cli::Options) -> Result<Corestore> {
    anyhow::bail!("this build has no storage on disk (the feature `rocksdb` is off); use --memory-only")
}

/// A line on standard output, at once: programs wait for it. Nobody may be reading any more.
fn announce(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn start_logging(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "hyperspace_server=info,corestore=info,warn",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("HYPERSPACE_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
}

#[cfg(all(test, feature = "rocksdb"))]
mod tests {
    use std::time::Duration;

    use hypercore::storage::FsyncPolicy;

    use super::*;

    #[test]
    fn the_store_is_opened_as_the_options_say() {
        for (given, policy) in [
            (&["--fsync", "always"][..], FsyncPolicy::EveryCommit),
            (&["--fsync", "never"], FsyncPolicy::Never),
            (&["--fsync", "250"], FsyncPolicy::Interval(Duration::from_millis(250))),
            (&[], FsyncPolicy::Interval(Duration::from_secs(1))),
        ] {
            let options = cli::Options::parse_from(["hyperspace-server"].iter().chain(given));
            assert_eq!(folder_options(&options).fsync, policy, "{given:?}");
        }
    }
}
