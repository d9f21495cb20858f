//! `completions` and `man`: what shells and readers of manuals want to know.

use std::{io, path::Path};

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use super::options::Options;

/// Prints a shell's completion script.
pub(crate) fn completions(shell: Shell) {
    clap_complete::generate(shell, &mut Options::command(), "hyperspace-client", &mut io::stdout());
}

/// Prints the manual page, or writes one for each command into a folder.
pub(crate) fn man(folder: Option<&Path>) -> Result<()> {
    let command = Options::command();
    match folder {
        Some(folder) => clap_mangen::generate_to(command, folder)
            .with_context(|| format!("cannot write manual pages into {}", folder.display())),
        None => Ok(clap_mangen::Man::new(command).render(&mut io::stdout())?),
    }
}
