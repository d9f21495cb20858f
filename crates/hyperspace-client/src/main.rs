//! The command line client: `hyperspace-client`.

mod cli {
    pub(crate) mod blocks;
    pub(crate) mod info;
    pub(crate) mod options;
    pub(crate) mod progress;
    pub(crate) mod read;
    pub(crate) mod write;
}

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser;
use cli::{
    blocks::Cut,
    options::{Command, Options},
    read::Reading,
};
use hyperspace_client::{ClientError, HyperspaceClient, RemoteHypercore};
use hyperspace_common::text;

fn main() -> ExitCode {
    let options = Options::parse();
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(options));
    let result = run();
    // Standard input may still be read by a thread that nothing can interrupt: do not wait for it.
    let code = match result {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("hyperspace-client: {error:#}");
            exit_code(&error)
        }
    };
    std::process::exit(code)
}

async fn run(options: Options) -> Result<()> {
    let client = HyperspaceClient::connect(options.host.as_deref()).await?;
    let core = open(&client, &options).await?;
    match options.command {
        Command::Write { binary, chunk_size } => {
            if !core.writable() {
                anyhow::bail!("{} is not writable here: its secret key is in another daemon", core.key());
            }
            let mut out = io::stdout().lock();
            writeln!(out, "{}", core.key())?;
            out.flush()?;
            let cut = if binary { Cut::Chunks(usize::try_from(chunk_size)?) } else { Cut::Lines };
            cli::write::write(&core, cut).await?;
        }
        Command::Read { from, count, live, binary } => {
            cli::read::read(&core, Reading { from, count, live, binary }).await?;
        }
        Command::Info => cli::info::info(&core).await?,
    }
    client.close();
    Ok(())
}

async fn open(client: &HyperspaceClient, options: &Options) -> Result<RemoteHypercore, ClientError> {
    let store = client.corestore();
    match (&options.core.key, &options.core.name) {
        (Some(key), _) => store.get(key).await,
        (None, Some(name)) => store.get_by_name(name).await,
        (None, None) => store.create().await,
    }
}

fn exit_code(error: &anyhow::Error) -> i32 {
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Connect { .. } | ClientError::Endpoint(_)) => 3,
        Some(ClientError::Rpc(error)) if error.message == text::BLOCK_NOT_AVAILABLE => 4,
        _ => 1,
    }
}
