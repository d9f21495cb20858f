//! `completions` and `man`: what shells and readers of manuals want to know.

use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use super::{options::Options, output::page};

/// Prints a shell's completion script.
pub(crate) fn completions(shell: Shell) -> Result<()> {
    // It panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Options::command(), "hyperspace-client", &mut script);
    page(&script)
}

/// Prints the manual page, or writes one for each command into a folder.
pub(crate) fn man(folder: Option<&Path>) -> Result<()> {
    let command = Options::command();
    match folder {
        Some(folder) => clap_mangen::generate_to(command, folder)
            .with_context(|| format!("cannot write manual pages into {}", folder.display())),
        None => {
            let mut manual = Vec::new();
            clap_mangen::Man::new(command).render(&mut manual)?;
            page(&manual)
        }
    }
}
