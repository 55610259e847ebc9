//! Targets: what a person names to be protected.

use crate::error::{RecoveryError, Result};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// How a SQLite database starts.
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What kind of store a target is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// A folder.
    Files,
    /// A SQLite database.
    Sqlite,
}

/// Something to be protected, with an absolute path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// What it is.
    pub kind: TargetKind,
    /// Where it is.
    pub path: PathBuf,
}

impl Target {
    /// Looks at what a person named. An empty file counts as a database that is about to be made if its name
    /// says so.
    ///
    /// # Errors
    /// Where there is nothing, or nothing that can be protected by name.
    pub fn detect(path: &Path) -> Result<Self> {
        let path = std::path::absolute(path).map_err(RecoveryError::io("resolve", path))?;
        let metadata = std::fs::metadata(&path).map_err(RecoveryError::io("look at", &path))?;
        if metadata.is_dir() {
            return Ok(Self { kind: TargetKind::Files, path });
        }
        if metadata.is_file() && looks_like_sqlite(&path)? {
            return Ok(Self { kind: TargetKind::Sqlite, path });
        }
        Err(RecoveryError::UnknownTarget(path))
    }

    /// A dataset's name for it, where none was given: its last component, made to fit.
    pub fn default_name(&self) -> String {
        let name =
            self.path.file_stem().map(|n| n.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let fitting: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
            .take(100)
            .collect();
        let trimmed = fitting.trim_start_matches(['.', '_', '-']);
        if trimmed.is_empty() { "data".to_owned() } else { trimmed.to_owned() }
    }
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
        assert_eq!(of("app", b"SQLite format 3\0...").unwrap().kind, TargetKind::Sqlite);
        assert_eq!(of("new.db", b"").unwrap().kind, TargetKind::Sqlite);
        assert!(matches!(of("notes.txt", b"hello"), Err(RecoveryError::UnknownTarget(_))));
        assert_eq!(Target::detect(directory.path()).unwrap().kind, TargetKind::Files);
        assert!(matches!(Target::detect(&directory.path().join("missing")), Err(RecoveryError::Io { .. })));
    }

    #[test]
    fn names_are_made_to_fit() {
        let name = |path: &str| Target { kind: TargetKind::Files, path: PathBuf::from(path) }.default_name();
        assert_eq!(name("/srv/App Data.d"), "app-data");
        assert_eq!(name("/srv/.nomic"), "nomic");
        assert_eq!(name("/"), "data");
    }
}
