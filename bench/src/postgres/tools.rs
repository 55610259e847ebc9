//! The tools that are compared, as commands: Lifeboat, pg_basebackup, pgBackRest.

use super::server::{Programs, Running, SUPERUSER, append};
use crate::error::BenchError;
use crate::lifeboat::PASSPHRASE;
use crate::measure;
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the database is called in repositories.
pub(super) const NAME: &str = "bench";

/// Lifeboat's program with one repository and one state directory.
#[derive(Clone, Debug)]
pub(super) struct Lifeboat {
    program: PathBuf,
    place: PathBuf,
}

impl Lifeboat {
    /// A copy of the program where the server's user can run it.
    ///
    /// # Errors
    /// Where it cannot be copied.
    pub(super) fn copy(program: &Path, dir: &Path) -> Result<PathBuf, BenchError> {
        let own = dir.join("lifeboat");
        fs::copy(program, &own).map_err(|error| BenchError::io("copy", program, error))?;
        fs::set_permissions(&own, Permissions::from_mode(0o755))
            .map_err(|error| BenchError::io("set the mode of", &own, error))?;
        Ok(own)
    }

    /// A new repository in a new folder.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(super) fn init(
        programs: &Programs,
        program: &Path,
        place: &Path,
        log: &Path,
    ) -> Result<Self, BenchError> {
        let own = Self { program: program.to_owned(), place: programs.folder(place)? };
        measure::run(&mut own.command(programs, ["repo", "init", "--no-recovery-key"]), log)?;
        Ok(own)
    }

    /// Where it keeps what it stores.
    pub(super) fn repository(&self) -> PathBuf {
        self.place.join("repository")
    }

    /// A command of it, run as the server's user.
    pub(super) fn command<A: AsRef<OsStr>>(
        &self,
        programs: &Programs,
        args: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = programs.command(&self.program.to_string_lossy());
        command
            .env("LIFEBOAT_REPOSITORY", self.repository())
            .env("LIFEBOAT_STATE", self.place.join("state"))
            .env("LIFEBOAT_PASSPHRASE", PASSPHRASE)
            .env_remove("LIFEBOAT_PLAN")
            .env_remove("LIFEBOAT_KEY")
            .args(args);
        command
    }

    /// A snapshot of a server.
    pub(super) fn backup(&self, programs: &Programs, running: &Running) -> Command {
        self.command(programs, ["backup", &running.url, "--name", NAME, "--quiet"])
    }

    /// A restore into a folder that does not exist.
    pub(super) fn restore(&self, programs: &Programs, to: &str, into: &Path) -> Command {
        let mut command = self.command(programs, ["restore", NAME, "--to", to, "--quiet", "--into"]);
        command.arg(into);
        command
    }
}

/// A plain base backup into a folder.
pub(super) fn pg_basebackup(programs: &Programs, running: &Running, wal: &str, into: &Path) -> Command {
    let mut command = programs.client("pg_basebackup", running);
    command.args(["-Fp", "-c", "fast", "-X", wal, "-D"]).arg(into);
    command
}

/// pgBackRest with one repository.
#[derive(Clone, Debug)]
pub(super) struct PgBackRest {
    program: PathBuf,
    config: PathBuf,
    place: PathBuf,
}

impl PgBackRest {
    /// Where the program lies, on the `PATH`.
    pub(super) fn program() -> Option<PathBuf> {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).map(|folder| folder.join("pgbackrest")).find(|program| program.is_file())
    }

    /// What it says that it is.
    pub(super) fn version(program: &Path) -> Option<String> {
        let output = Command::new(program).arg("version").output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// A new repository for a server.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(super) fn init(
        programs: &Programs,
        program: &Path,
        running: &Running,
        place: &Path,
        log: &Path,
    ) -> Result<Self, BenchError> {
        let own = Self {
            program: program.to_owned(),
            config: place.join("pgbackrest.conf"),
            place: programs.folder(place)?,
        };
        append(&own.config, &own.settings(running))?;
        programs.own(place)?;
        measure::run(&mut own.command(programs, ["stanza-create"]), log)?;
        Ok(own)
    }

    fn settings(&self, running: &Running) -> Vec<String> {
        let at = |name: &str| self.place.join(name).display().to_string();
        vec![
            "[global]".to_owned(),
            format!("repo1-path={}", at("repository")),
            format!("spool-path={}", at("spool")),
            format!("lock-path={}", at("lock")),
            format!("log-path={}", at("log")),
            "repo1-cipher-type=aes-256-cbc".to_owned(),
            format!("repo1-cipher-pass={PASSPHRASE}"),
            "repo1-retention-full=9".to_owned(),
            "compress-type=zst".to_owned(),
            "compress-level=3".to_owned(),
            "process-max=2".to_owned(),
            "archive-async=y".to_owned(),
            "start-fast=y".to_owned(),
            "log-level-console=warn".to_owned(),
            "log-level-file=off".to_owned(),
            format!("[{NAME}]"),
            format!("pg1-path={}", running.data().display()),
            format!("pg1-socket-path={}", running.socket_folder().display()),
            format!("pg1-port={}", running.port()),
            format!("pg1-user={SUPERUSER}"),
        ]
    }

    fn command<A: AsRef<OsStr>>(&self, programs: &Programs, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = programs.command(&self.program.to_string_lossy());
        command.arg(format!("--config={}", self.config.display())).arg(format!("--stanza={NAME}")).args(args);
        command
    }

    /// What the server's archiver is told to run.
    pub(super) fn archive_command(&self) -> String {
        format!(
            "{} --config={} --stanza={NAME} archive-push %p",
            self.program.display(),
            self.config.display()
        )
    }

    /// Where it keeps what it stores.
    pub(super) fn repository(&self) -> PathBuf {
        self.place.join("repository")
    }

    /// A backup: `full` or `incr`.
    pub(super) fn backup(&self, programs: &Programs, kind: &str) -> Command {
        self.command(programs, ["backup", &format!("--type={kind}")])
    }

    /// A restore into an empty folder.
    pub(super) fn restore(&self, programs: &Programs, into: &Path) -> Command {
        self.command(programs, ["restore", &format!("--pg1-path={}", into.display())])
    }
}
