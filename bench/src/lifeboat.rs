//! Lifeboat's program as a machine that works on one repository would call it, and what it answers.

use crate::error::BenchError;
use serde_json::Value;
use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// Every repository here is thrown away: its secret is none.
pub(crate) const PASSPHRASE: &str = "x";

/// The program with all that it needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Lifeboat {
    /// The program.
    pub(crate) program: PathBuf,
    /// Where it is started, so that it finds no plan by chance.
    pub(crate) folder: PathBuf,
    /// The repository.
    pub(crate) repository: PathBuf,
    /// The state directory: two of them are two writers.
    pub(crate) state: PathBuf,
    /// A private key that opens the repository faster than the passphrase, where there is one.
    pub(crate) key_file: Option<PathBuf>,
}

impl Lifeboat {
    /// A command of it.
    pub(crate) fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.folder)
            .env("LIFEBOAT_REPOSITORY", &self.repository)
            .env("LIFEBOAT_STATE", &self.state)
            .env("LIFEBOAT_PASSPHRASE", PASSPHRASE)
            .env_remove("LIFEBOAT_PLAN")
            .stdin(Stdio::null());
        match &self.key_file {
            Some(file) => command.env("LIFEBOAT_KEY", format!("file:{}", file.display())),
            None => command.env_remove("LIFEBOAT_KEY"),
        };
        command.args(args);
        command
    }

    /// Runs a command to its end with `--json` and gives the document that it prints.
    ///
    /// # Errors
    /// Where it cannot be started, does not end with 0, or prints no JSON.
    pub(crate) fn json<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
    ) -> Result<Value, BenchError> {
        let mut command = self.command(args);
        command.arg("--json");
        let started = |source| BenchError::Start { program: self.program.display().to_string(), source };
        let output = command.output().map_err(started)?;
        if !output.status.success() {
            return Err(failed(&command, &output.status.to_string(), &output.stderr));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}

/// How a command failed, with the last of what it said.
pub(crate) fn failed(command: &Command, status: &str, said: &[u8]) -> BenchError {
    let words = command.get_args().map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    let said = String::from_utf8_lossy(said).trim().replace('\n', " / ");
    BenchError::Failed { command: format!("lifeboat {words}"), status: status.to_owned(), said }
}
