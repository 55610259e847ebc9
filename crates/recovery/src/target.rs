//! Targets: what a person names to be protected.

use crate::error::{RecoveryError, Result};
use lifeboat_wire_postgres::{ConnectOptions, PostgresError};
use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How a SQLite database starts.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Something to be protected. Paths are absolute.
#[derive(Clone, Debug)]
pub enum Target {
    /// A folder.
    Files(PathBuf),
    /// A SQLite database.
    Sqlite(PathBuf),
    /// A PostgreSQL cluster, by one of its databases.
    Postgres(Box<ConnectOptions>),
}

impl Target {
    /// What a person named: a URL of a server, or a path.
    ///
    /// # Errors
    /// As [`Target::detect`], or where the URL cannot be read.
    pub fn named(name: &OsStr) -> Result<Self> {
        match name.to_str().filter(|name| is_postgres(name)) {
            Some(url) => Self::postgres(url),
            None => Self::detect(Path::new(name)),
        }
    }

    /// A PostgreSQL server, by its URL; what the URL leaves open the environment says, as libpq has it.
    ///
    /// # Errors
    /// Where the URL cannot be read.
    pub fn postgres(url: &str) -> Result<Self> {
        let mut options =
            ConnectOptions::parse(url, &|name| std::env::var(name).ok()).map_err(PostgresError::from)?;
        if options.application_name().is_empty() {
            options.set_application_name("lifeboat");
        }
        Ok(Self::Postgres(Box::new(options)))
    }

    /// Looks at what a person named. An empty file counts as a database that is about to be made if its name
    /// says so.
    ///
    /// # Errors
    /// Where there is nothing, or nothing that can be protected by name.
    pub fn detect(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).map_err(RecoveryError::io("resolve", path))?;
        let metadata = std::fs::metadata(&path).map_err(RecoveryError::io("look at", &path))?;
        if metadata.is_dir() {
            return Ok(Self::Files(path));
        }
        if metadata.is_file() && looks_like_sqlite(&path)? {
            return Ok(Self::Sqlite(path));
        }
        Err(RecoveryError::UnknownTarget(path))
    }

    /// A dataset's name for it, where none was given: its last component, made to fit.
    pub fn default_name(&self) -> String {
        let name = match self {
            Self::Files(path) | Self::Sqlite(path) => path.file_stem().map(OsStr::to_string_lossy),
            Self::Postgres(options) => Some(options.database().into()),
        };
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let fitting: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
            .take(100)
            .collect();
        let trimmed = fitting.trim_start_matches(['.', '_', '-']);
        if trimmed.is_empty() { "data".to_owned() } else { trimmed.to_owned() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Files(path) | Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(options) => f.write_str(&options.display_target()),
        }
    }
}

/// Whether a name is the URL of a PostgreSQL server.
pub fn is_postgres(name: &str) -> bool {
    ["postgres://", "postgresql://"].iter().any(|scheme| name.starts_with(scheme))
}

/// A plain handle is opened and closed here: no SQLite connection of this process is open on the file.
fn looks_like_sqlite(path: &Path) -> Result<bool> {
    let mut file = File::open(path).map_err(RecoveryError::io("open", path))?;
    let mut start = [0; 16];
    let mut filled = 0;
    while filled < start.len() {
        match file.read(&mut start[filled..]).map_err(RecoveryError::io("read", path))? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    let named_like_one = path
        .extension()
        .is_some_and(|e| ["db", "sqlite", "sqlite3"].iter().any(|x| e.eq_ignore_ascii_case(x)));
    Ok(start == *SQLITE_MAGIC || (filled == 0 && named_like_one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_told_by_what_they_are() {
        let directory = tempfile::tempdir().unwrap();
        let of = |name: &str, content: &[u8]| {
            let path = directory.path().join(name);
            lifeboat_base::crashsafe::replace(&path, content).unwrap();
            Target::detect(&path)
        };
        assert!(matches!(of("app", b"SQLite format 3\0..."), Ok(Target::Sqlite(_))));
        assert!(matches!(of("new.db", b""), Ok(Target::Sqlite(_))));
        assert!(matches!(of("notes.txt", b"hello"), Err(RecoveryError::UnknownTarget(_))));
        assert!(matches!(Target::detect(directory.path()), Ok(Target::Files(_))));
        assert!(matches!(Target::detect(&directory.path().join("missing")), Err(RecoveryError::Io { .. })));
    }

    #[test]
    fn names_are_made_to_fit() {
        let name = |path: &str| Target::Files(PathBuf::from(path)).default_name();
        assert_eq!(name("/srv/App Data.d"), "app-data");
        assert_eq!(name("/srv/.nomic"), "nomic");
        assert_eq!(name("/"), "data");
        let server = Target::named("postgresql://me@db-1/Users".as_ref()).unwrap();
        assert_eq!(server.default_name(), "users");
    }
}
