//! The command line client: `hyperspace-client`.

mod cli {
    pub(crate) mod blocks;
    pub(crate) mod daemon;
    pub(crate) mod download;
    pub(crate) mod info;
    pub(crate) mod network;
    pub(crate) mod options;
    pub(crate) mod output;
    pub(crate) mod pages;
    pub(crate) mod progress;
    pub(crate) mod read;
    pub(crate) mod write;
}

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use cli::{
    blocks::Cut,
    download::{NobodyHasIt, Range},
    options::{Command, CoreChoice, NetworkCommand, Options},
    output::line,
    read::Reading,
};
use hyperspace_client::{ClientError, HyperspaceClient, RemoteHypercore};
use hyperspace_common::{Endpoint, code, text};
use serde_json::json;

const HOW_TO_SHOW_A_TOKEN: &str = "; set HYPERSPACE_TOKEN or --token-file to one from there";

fn main() -> ExitCode {
    let options = Options::parse().check().unwrap_or_else(|error| error.exit());
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(options));
    let result = run();
    // Standard input may still be read by a thread that nothing can interrupt: do not wait for it.
    let code = match result {
        Err(error) if is_broken_pipe(&error) => 0,
        Ok(()) => 0,
        Err(error) => {
            let advice = if wants_token(&error) { HOW_TO_SHOW_A_TOKEN } else { "" };
            eprintln!("hyperspace-client: {error:#}{advice}");
            exit_code(&error)
        }
    };
    std::process::exit(code)
}

async fn run(options: Options) -> Result<()> {
    match options.command {
        Command::Completions { shell } => cli::pages::completions(shell)?,
        Command::Man { folder } => cli::pages::man(folder.as_deref())?,
        _ => {
            let endpoint = Endpoint::from_option(options.host.as_deref()).map_err(ClientError::from)?;
            let client =
                HyperspaceClient::connect_with(&endpoint, options.connect_options(&endpoint)?).await?;
            with_daemon(&client, options).await?;
            client.close();
        }
    }
    Ok(())
}

async fn with_daemon(client: &HyperspaceClient, options: Options) -> Result<()> {
    let (format, choice) = (options.format(), &options.core);
    match options.command {
        Command::Create => {
            let core = open(client, choice).await?;
            let key = format.key(core.key().as_bytes());
            if format.json { line(json!({ "key": key, "length": core.length() })) } else { line(key) }
        }
        Command::Write { binary, chunk_size } => {
            let core = open(client, choice).await?;
            if !core.writable() {
                bail!("{} is not writable here: its secret key is in another daemon", core.key());
            }
            let key = format.key(core.key().as_bytes());
            if !format.json {
                match line(&key) {
                    // Nobody wants the key; the input is to be appended all the same.
                    Err(error) if is_broken_pipe(&error) => {}
                    printed => printed?,
                }
            }
            let cut = if binary { Cut::Chunks(usize::try_from(chunk_size)?) } else { Cut::Lines };
            let written = cli::write::write(&core, cut).await?;
            if format.json {
                let (blocks, bytes) = (written.blocks, written.bytes);
                line(json!({ "key": key, "blocks": blocks, "bytes": bytes, "length": core.length() }))?;
            }
            Ok(())
        }
        Command::Read { from, count, live, binary } => {
            let core = open(client, choice).await?;
            let reading = Reading { from, count, live, binary, json: format.json };
            cli::read::read(&core, reading).await
        }
        Command::Tail { count, binary } => {
            let core = open(client, choice).await?;
            cli::read::tail(&core, count, binary, format.json).await
        }
        Command::Info => cli::info::info(&open(client, choice).await?, format).await,
        Command::Download { from, to } => {
            let core = open(client, choice).await?;
            cli::download::download(&core, Range { from, to }, format).await
        }
        Command::Seed => {
            let core = open(client, choice).await?;
            cli::network::seed(client, &core, choice.name.as_deref(), format).await
        }
        Command::Unseed => cli::network::unseed(client, choice, format).await,
        Command::Network { command: NetworkCommand::Status } => {
            cli::network::status(client, choice, format).await
        }
        Command::Ls => cli::daemon::ls(client, format).await,
        Command::Peers if choice.is_some() => {
            let core = open(client, choice).await?;
            cli::daemon::peers(core.peers().iter().map(|peer| &**peer), format)
        }
        Command::Peers => cli::daemon::peers(&client.network().peers().await?, format),
        Command::Status => cli::daemon::status(client, format).await,
        Command::Stop => {
            client.stop().await?;
            if format.json { line(json!({ "stopped": true })) } else { Ok(()) }
        }
        Command::Completions { .. } | Command::Man { .. } => Ok(()),
    }
}

async fn open(client: &HyperspaceClient, choice: &CoreChoice) -> Result<RemoteHypercore, ClientError> {
    let store = client.corestore();
    match (&choice.key, &choice.name) {
        (Some(key), _) => store.get(key).await,
        (None, Some(name)) => store.get_by_name(name).await,
        (None, None) => store.create().await,
    }
}

/// Whoever read what is printed has enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// No token was shown where one is wanted. The daemon says so in the words of the RPC.
fn wants_token(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<ClientError>();
    matches!(error, Some(ClientError::Rpc(error)) if error.code.as_deref() == Some(code::ACCESS))
}

fn exit_code(error: &anyhow::Error) -> i32 {
    if error.is::<NobodyHasIt>() {
        return 4;
    }
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Endpoint(_)) => 2,
        Some(ClientError::Connect { .. }) => 3,
        Some(ClientError::Access { .. } | ClientError::Token { .. }) => 5,
        _ if wants_token(error) => 5,
        Some(ClientError::Rpc(error)) if error.message == text::BLOCK_NOT_AVAILABLE => 4,
        _ => 1,
    }
}
