//! Completions and manual pages.

use crate::args::Cli;
use crate::failure::{Failure, Outcome};
use crate::output::write_stdout;
use clap::CommandFactory;
use std::path::Path;

pub(crate) fn completions(shell: clap_complete::Shell) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut visible(), "lifeboat", &mut script);
    write_stdout(&script).map(|()| Outcome::Done)
}

/// The command line without what is hidden: completions would offer that too.
fn visible() -> clap::Command {
    let whole = Cli::command();
    let shown: Vec<_> = whole.get_subcommands().filter(|command| !command.is_hide_set()).cloned().collect();
    clap::Command::new("lifeboat").args(whole.get_arguments().cloned()).subcommands(shown)
}

pub(crate) fn man(into: &Path) -> Result<Outcome, Failure> {
    let failed = |error: std::io::Error| Failure {
        code: 1,
        message: format!("write manual pages to {}: {error}", into.display()),
        hint: Some("Name a folder that can be written to, or one that does not exist yet.".to_owned()),
    };
    std::fs::create_dir_all(into).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), into).map_err(failed)?;
    Ok(Outcome::Done)
}
