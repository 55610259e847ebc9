//! `lifeboat wal`: what PostgreSQL servers call, and what is done without them.

use crate::args::WalCommand;
use crate::commands::{push, spool};
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use lifeboat_recovery::postgres::ahead::{Fetched, fetch, fetch_ahead};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

pub(crate) fn run(context: &Context, command: &WalCommand) -> Result<Outcome, Failure> {
    match command {
        WalCommand::Push { file, dataset } => push::run(context, file, dataset),
        WalCommand::Fetch { folder, file, destination } => fetch_one(context, folder, file, destination),
        WalCommand::Drain { dataset, spool } => spool::run_drain(context, dataset, spool),
        WalCommand::FetchAhead { folder } => {
            let repository = context.open()?;
            fetch_ahead(&repository, folder, lifeboat_recovery::threads())?;
            Ok(Outcome::Done)
        }
    }
}

/// The server takes 1 for a file that is nowhere, and goes on without it. Where one is there and cannot be had it
/// must not: it stops at anything above 125.
const STOP_THE_SERVER: u8 = 255;

fn fetch_one(context: &Context, folder: &Path, file: &str, destination: &Path) -> Result<Outcome, Failure> {
    let start = |output: File| start_fetching_ahead(context, folder, output);
    match fetch(folder, file, destination, &start) {
        Ok(Fetched::There) => Ok(Outcome::Done),
        // Nothing is said: a server asks for many that there are not.
        Ok(Fetched::NotOnTheWay) => Ok(Outcome::Failed),
        Err(error) => Err(Failure { code: STOP_THE_SERVER, ..Failure::from(error) }),
    }
}

/// In a group of its own: the server ends what it started together with its command.
fn start_fetching_ahead(context: &Context, folder: &Path, output: File) -> io::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .args(arguments(context, folder))
        .args(["wal", "fetch-ahead"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0);
    command.spawn().map(drop)
}

/// What both processes are told. The server's user has a state of its own: it only reads.
fn arguments(context: &Context, folder: &Path) -> Vec<OsString> {
    let mut arguments = context.global_arguments();
    arguments.extend(["--state-dir".into(), folder.join("state").into()]);
    arguments
}

/// The `restore_command` of a restored cluster. The server runs it by a shell, which must take every word as it is.
pub(crate) fn restore_command(context: &Context, folder: &Path) -> Result<String, Failure> {
    let program =
        std::env::current_exe().map_err(|error| Failure::failed(format!("find this program: {error}")))?;
    let mut words: Vec<OsString> = vec![program.into()];
    words.extend(arguments(context, folder));
    words.extend(["wal", "fetch"].map(OsString::from));
    words.push(folder.into());
    let mut command = String::new();
    for word in words {
        command.push_str(&shell_word(&word)?);
        command.push(' ');
    }
    Ok(command + "%f %p")
}

/// A word in quotes. The server replaces what follows a per cent sign.
fn shell_word(word: &OsStr) -> Result<String, Failure> {
    let text = word.to_str().filter(|text| !text.contains(['\n', '\r'])).ok_or_else(|| {
        Failure::usage(
            format!("{} cannot stand in a server's settings", word.display()),
            "Use paths that are UTF-8 and have no line breaks, or leave --fetch-log away.",
        )
    })?;
    Ok(format!("'{}'", text.replace('\'', r"'\''").replace('%', "%%")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_by_a_shell_as_they_are() {
        let word = |text: &str| shell_word(text.as_ref()).map_err(|failure| failure.message);
        assert_eq!(word("/srv/it's 100%").unwrap(), r"'/srv/it'\''s 100%%'");
        assert!(word("a\nb").is_err());
    }
}
