//! The error of an operation on one path of a tree.

use lifeboat_base::Hint;
use lifeboat_repository::tree::display_bytes;
use std::borrow::Cow;
use std::io;

/// An operation on one path that failed.
#[derive(Debug, thiserror::Error)]
#[error("{operation} {}", display_path(path))]
pub struct PathError {
    /// What was being done, in the present tense.
    pub operation: Cow<'static, str>,
    /// The path: below the root of the tree without a leading slash, or as the operator gave it.
    pub path: Vec<u8>,
    /// What the operating system said.
    #[source]
    pub source: io::Error,
}

impl PathError {
    /// An error about one path.
    pub fn new(
        operation: impl Into<Cow<'static, str>>,
        path: impl Into<Vec<u8>>,
        source: impl Into<io::Error>,
    ) -> Self {
        Self { operation: operation.into(), path: path.into(), source: source.into() }
    }

    /// The kind of the operating system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.source.kind()
    }
}

impl Hint for PathError {
    fn hint(&self) -> Option<String> {
        let hint = match self.source.kind() {
            io::ErrorKind::PermissionDenied => "Run the command as root, or as the owner of these files.",
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "Free or add space there, then run the command again."
            }
            io::ErrorKind::ReadOnlyFilesystem => "Name a place that is writable, or mount it read-write.",
            io::ErrorKind::NotADirectory => "Name a directory.",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// What went wrong with single paths while the rest went on: how often, and the first of them in full.
#[derive(Debug, Default)]
pub struct Problems {
    /// How many there were.
    pub count: u64,
    /// The first [`PROBLEMS_KEPT`] of them.
    pub first: Vec<PathError>,
}

/// How many problems are kept in full: more than anybody reads, little enough for any memory.
pub const PROBLEMS_KEPT: usize = 1000;

impl Problems {
    /// Counts a problem, and keeps it while there is room.
    pub fn add(&mut self, problem: PathError) {
        self.count += 1;
        if self.first.len() < PROBLEMS_KEPT {
            self.first.push(problem);
        }
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// A path of a tree for people; the root itself is `.`.
pub fn display_path(path: &[u8]) -> String {
    if path.is_empty() { ".".to_owned() } else { display_bytes(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_path_and_the_cause_once() {
        let error = PathError::new("open", *b"a/\xff", rustix::io::Errno::ACCESS);
        assert_eq!(lifeboat_base::report(&error), "open a/\\xff: Permission denied (os error 13)");
        assert!(error.hint().unwrap().contains("root"));
        assert_eq!(PathError::new("list", *b"", rustix::io::Errno::IO).to_string(), "list .");
    }
}
