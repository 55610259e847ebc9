//! Which PostgreSQL programs there are. The binary itself is asked for its version: the name of a directory proves
//! nothing. It deliberately knows nothing of clusters.

use crate::{Identity, ServerError};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The environment variable with directories of programs, colon-separated, that are looked at first.
pub const SEARCH_VARIABLE: &str = "LIFEBOAT_POSTGRES_BIN";

/// One installation of PostgreSQL: a directory of programs that work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// The directory of the programs, without links in its path.
    pub bin: PathBuf,
    /// The major version: 15, 18.
    pub major: u32,
    /// The version in full: `15.18`, `19beta1`.
    pub version: String,
    /// What the loader has to be told, where the programs do not find their libraries by themselves.
    libraries: Option<OsString>,
}

impl Installation {
    /// The first installation of a major version: in the directories of `LIFEBOAT_POSTGRES_BIN`, in
    /// `/usr/lib/postgresql/*/bin`, in `/usr/pgsql-*/bin`, where `pg_config` says, or on the `PATH`.
    ///
    /// # Errors
    /// [`ServerError::NoInstallation`], which names those that there are.
    pub fn find(major: u32) -> Result<Self, ServerError> {
        let mut others = Vec::new();
        for bin in candidates() {
            match Self::at(&bin) {
                Ok(found) if found.major == major => return Ok(found),
                Ok(other) => others.push(format!("{} in {}", other.version, other.bin.display())),
                Err(error) => others.push(lifeboat_base::report(&error)),
            }
        }
        let others = if others.is_empty() { "nor is any other".to_owned() } else { others.join("; ") };
        Err(ServerError::NoInstallation { major, others })
    }

    /// Every installation that works, in the order in which [`Installation::find`] looks at them.
    pub fn all() -> Vec<Self> {
        candidates().iter().filter_map(|bin| Self::at(bin).ok()).collect()
    }

    /// The installation whose programs lie in a directory.
    ///
    /// # Errors
    /// [`ServerError::NotAnInstallation`] where `postgres` is missing, cannot be run by the user that servers run
    /// as, or does not say which version it is.
    pub fn at(bin: &Path) -> Result<Self, ServerError> {
        let refused = |reason| ServerError::NotAnInstallation { bin: bin.to_owned(), reason };
        let bin = bin.canonicalize().map_err(|error| refused(error.to_string()))?;
        let mut reason = String::new();
        for libraries in libraries_beside(&bin) {
            let asked = Self { bin: bin.clone(), major: 0, version: String::new(), libraries };
            match asked.ask() {
                Ok((major, version)) => return Ok(Self { major, version, ..asked }),
                Err(said) if reason.is_empty() => reason = said,
                Err(_) => {}
            }
        }
        Err(refused(reason))
    }

    /// The path of one of its programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// A command for one of its programs, run as somebody: in `/` (so paths must be absolute), with messages in
    /// English, without our input and without the `PG…` variables of our own environment.
    pub fn command(&self, name: &str, identity: &Identity) -> Command {
        let mut command = Command::new(self.program(name));
        let is_for_clients = |name: &OsStr| name.as_encoded_bytes().starts_with(b"PG");
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_for_clients(name)) {
            command.env_remove(name);
        }
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        command.env_remove("LANGUAGE").env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
        identity.apply(&mut command);
        command
    }

    /// What `postgres --version` says, or why it does not.
    fn ask(&self) -> Result<(u32, String), String> {
        // Whoever will run it is asked, since root can enter folders that he cannot.
        let identity = Identity::suitable().unwrap_or(Identity::ourselves());
        let answer = self.command("postgres", &identity).arg("--version").output();
        let answer = answer.map_err(|error| match identity.obstacle(&self.bin) {
            Some(folder) => format!("{} cannot enter {}", identity.name(), folder.display()),
            None => format!("postgres: {error}"),
        })?;
        version_in(&answer).ok_or_else(|| complaint(&answer))
    }
}

fn complaint(answer: &Output) -> String {
    let said = String::from_utf8_lossy(if answer.status.success() { &answer.stdout } else { &answer.stderr });
    format!("postgres --version ({}) says {:?}", answer.status, said.trim())
}

fn version_in(answer: &Output) -> Option<(u32, String)> {
    answer.status.success().then(|| parse_version(&String::from_utf8_lossy(&answer.stdout)))?
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`
fn parse_version(text: &str) -> Option<(u32, String)> {
    let version = text.split_once("(PostgreSQL) ")?.1.split_whitespace().next()?;
    let end = version.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(version.len());
    Some((version.get(..end)?.parse().ok()?, version.to_owned()))
}

/// What the loader may have to be told about an installation that was moved, in the order of trying: the `*.libs`
/// that Python packages put beside the whole (always, since `postgres` itself does not need them, but `psql` does),
/// and besides `lib` beside `bin`.
fn libraries_beside(bin: &Path) -> Vec<Option<OsString>> {
    let Some(root) = bin.parent() else { return vec![None] };
    let mut there =
        root.parent().map(|above| entries(above, |name| name.ends_with(".libs"))).unwrap_or_default();
    let joined = |paths: &[PathBuf]| std::env::join_paths(paths).ok().filter(|joined| !joined.is_empty());
    let packed = joined(&there);
    there.extend(["lib", "lib64"].map(|name| root.join(name)).into_iter().filter(|path| path.is_dir()));
    vec![packed, joined(&there)]
}

/// Each directory that may hold programs, once, in order of preference.
fn candidates() -> Vec<PathBuf> {
    let named = std::env::var_os(SEARCH_VARIABLE).unwrap_or_default();
    let named = std::env::split_paths(&named).filter(|path| !path.as_os_str().is_empty()).collect::<Vec<_>>();
    let packaged = debian_directories().into_iter().chain(
        entries(Path::new("/usr"), |n| n.starts_with("pgsql-")).into_iter().map(|root| root.join("bin")),
    );
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&on_path).collect::<Vec<_>>();
    let guessed = packaged.chain(configured()).chain(on_path).filter(|bin| bin.join("postgres").is_file());
    let mut seen = BTreeSet::new();
    // A directory that was named is kept also where it holds nothing: its error is worth telling.
    named
        .into_iter()
        .chain(guessed)
        .filter(|bin| seen.insert(bin.canonicalize().unwrap_or_else(|_| bin.clone())))
        .collect()
}

/// `/usr/lib/postgresql/*/bin`, the newest first.
pub(crate) fn debian_directories() -> Vec<PathBuf> {
    let mut versions = entries(Path::new("/usr/lib/postgresql"), |_| true);
    versions.sort_by_key(|path| {
        std::cmp::Reverse(path.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()))
    });
    versions.into_iter().map(|version| version.join("bin")).collect()
}

fn configured() -> Option<PathBuf> {
    let answer = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    Some(PathBuf::from(text.trim())).filter(|path| path.is_absolute())
}

/// What lies in a directory under such names, in order.
pub(crate) fn entries(directory: &Path, is_wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(listing) = fs::read_dir(directory) else { return Vec::new() };
    let wanted = listing.flatten().filter(|entry| entry.file_name().to_str().is_some_and(&is_wanted));
    let mut paths: Vec<PathBuf> = wanted.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_binary_says_them() {
        let debian = parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n");
        assert_eq!(debian, Some((15, "15.18".to_owned())));
        assert_eq!(parse_version("postgres (PostgreSQL) 19beta1"), Some((19, "19beta1".to_owned())));
        for bad in ["", "postgres (PostgreSQL) ", "postgres (PostgreSQL) devel", "postgres 15.1"] {
            assert_eq!(parse_version(bad), None, "{bad}");
        }
    }
}
