//! `completions` and `man`: what shells and readers of manuals want to know.

use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;
use clap_complete::Shell;

use super::{options::Options, output::page};

const NAME: &str = "hyperspace-client";

/// Prints a shell's completion script.
pub(crate) fn completions(shell: Shell) -> Result<()> {
    // It panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Options::command(), NAME, &mut script);
    if shell == Shell::Bash {
        // `clap_complete` 4.6 sets one name and asks for another where the program's has a hyphen (clap-rs/clap#6421), so
        // that nothing is completed behind a command.
        let wrong = NAME.replace('-', "__subcmd__");
        script = String::from_utf8(script)?.replace(&wrong, &NAME.replace('-', "__")).into_bytes();
    }
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
