//! The daemon: `hyperspace-server`.

mod cli;

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Parser;
use hyperspace_common::Endpoint;
use hyperspace_server::{Server, ServerOptions};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let options = cli::Options::parse();
    start_logging(options.verbose);
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
    let Endpoint::Socket(socket) = Endpoint::socket(options.host.as_deref())? else {
        anyhow::bail!("a socket's name is needed");
    };
    // Before clients can connect, so that a signal that comes early is not lost.
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let server = Server::start(ServerOptions {
        socket: Some(socket.clone()),
        rpc_listen: options.rpc_listen.clone(),
        ..ServerOptions::default()
    })
    .await?;
    announce(&format!("Listening on {}", socket.display()));
    if let Some(address) = server.rpc_address() {
        announce(&format!("Listening on {address}"));
    }
    tokio::select! {
        () = server.stopped() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tracing::info!("shutting down");
    server.stop().await;
    Ok(())
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
