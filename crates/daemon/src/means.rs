//! What the daemon is given by whoever starts it: how to open repositories, where stores and secrets are, what this
//! machine is. The daemon itself reads no secret and no environment.

use lifeboat_base::{Hint, Secret, report};
use lifeboat_plan::{CopyPlan, SecretRef};
use lifeboat_repository::Repository;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// Something that did not work, as it is told to people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What did not, with its causes.
    pub message: String,
    /// What to check or run.
    pub hint: Option<String>,
}

impl Trouble {
    /// From a text.
    pub fn new(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { message: message.into(), hint: Some(hint.into()) }
    }

    /// From an error that knows a hint.
    pub fn of(error: &(impl Hint + 'static)) -> Self {
        Self { message: report(error), hint: error.hint() }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Trouble {}

impl Hint for Trouble {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// What whoever starts the daemon gives it.
pub trait Means: Send + Sync {
    /// Opens the repository.
    ///
    /// # Errors
    /// Where it is away, or its secret does not open it.
    fn repository(&self) -> Result<Arc<Repository>, Trouble>;

    /// Opens a copy.
    ///
    /// # Errors
    /// As [`Means::repository`].
    fn copy(&self, copy: &CopyPlan) -> Result<Arc<Repository>, Trouble>;

    /// Where a dataset's store is: a path, or a URL that may have a secret in it.
    ///
    /// # Errors
    /// Where it is named by reference and not there.
    fn store(&self, store: &str) -> Result<OsString, Trouble>;

    /// Reads a secret.
    ///
    /// # Errors
    /// Where it is not there.
    fn secret(&self, reference: &SecretRef) -> Result<Secret, Trouble>;

    /// The command of a watchdog's process, for synchronous mode.
    ///
    /// # Errors
    /// Where this program cannot be found.
    fn watchdog(&self) -> Result<Arc<dyn Fn() -> Command + Send + Sync>, Trouble>;

    /// Folders that no snapshot takes along: the repository itself, the state.
    fn own_folders(&self) -> Vec<PathBuf>;

    /// Where this machine keeps its state.
    fn state_folder(&self) -> PathBuf;

    /// This host's name, as plans name it.
    fn host(&self) -> String;
}
