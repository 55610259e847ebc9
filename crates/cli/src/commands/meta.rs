//! Completions and manual pages.

use crate::args::Cli;
use crate::failure::{Failure, Outcome};
use crate::output::write_stdout;
use clap::CommandFactory;
use std::path::Path;

pub(crate) fn completions(shell: clap_complete::Shell) -> Result<Outcome, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "lifeboat", &mut script);
    write_stdout(&script).map(|()| Outcome::Done)
}

pub(crate) fn man(into: &Path) -> Result<Outcome, Failure> {
    let failed =
        |error: std::io::Error| Failure::failed(format!("write manual pages to {}: {error}", into.display()));
    std::fs::create_dir_all(into).map_err(failed)?;
    clap_mangen::generate_to(Cli::command(), into).map_err(failed)?;
    Ok(Outcome::Done)
}
