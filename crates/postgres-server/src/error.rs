//! Why there is no server, and what to do about it. It deliberately knows nothing of how servers are run.

use crate::{ServerState, StopMode};
use lifeboat_base::Hint;
use lifeboat_base::crashsafe::CrashsafeError;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// Why a server could not be found, started, waited for or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No installation of a major version.
    #[error("PostgreSQL {major} is not installed here ({others})")]
    NoInstallation {
        /// The version that was looked for.
        major: u32,
        /// What was found instead, in words.
        others: String,
    },
    /// A directory without a `postgres` that works.
    #[error("{} holds no PostgreSQL that works: {reason}", bin.display())]
    NotAnInstallation {
        /// The directory.
        bin: PathBuf,
        /// What was wrong with it.
        reason: String,
    },
    /// We are root, and there is nobody else to run a server as.
    #[error("PostgreSQL does not run as root, and no other user can be used: {reason}")]
    NoIdentity {
        /// What was tried.
        reason: String,
    },
    /// A program could not be started at all.
    #[error("start {} as {user}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Whom it should run as.
        user: String,
        /// A folder on the way to it that this user cannot enter.
        obstacle: Option<PathBuf>,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A unix socket's path has a greatest length.
    #[error("the path of a socket in {} would have {bytes} bytes, and {} is the most", directory.display(), crate::place::MAX_SOCKET_PATH_BYTES)]
    SocketPathTooLong {
        /// Where the socket should lie.
        directory: PathBuf,
        /// How long its path would be.
        bytes: usize,
    },
    /// The operating system refused something.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was being done, in the present tense.
        operation: &'static str,
        /// What it was done to.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A private folder could not be made.
    #[error("make a folder for a server")]
    Place(#[from] CrashsafeError),
    /// The server ended by itself before it was ready.
    #[error("the server on {} ended ({status}): {reason}", data.display())]
    Ended {
        /// Its directory.
        data: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it said last that explains it.
        reason: String,
        /// The end of its log.
        log: String,
        /// A folder on the way to its directory that its user cannot enter.
        obstacle: Option<PathBuf>,
    },
    /// The server was not ready in time. It still runs.
    #[error("the server on {} is still {state} after {waited:?}: {reason}", data.display())]
    NotReady {
        /// Its directory.
        data: PathBuf,
        /// What it was doing.
        state: ServerState,
        /// How long it was waited for.
        waited: Duration,
        /// What it said last.
        reason: String,
        /// The end of its log.
        log: String,
    },
    /// The server did not stop in time, and was then killed.
    #[error("the server on {} did not stop within {waited:?} ({mode}) and was killed", data.display())]
    DidNotStop {
        /// Its directory.
        data: PathBuf,
        /// How it was told to stop.
        mode: StopMode,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The server stopped, but not as one does that has put everything away.
    #[error("the server on {} stopped with an error ({status}): {reason}", data.display())]
    StoppedBadly {
        /// Its directory.
        data: PathBuf,
        /// How it ended.
        status: ExitStatus,
        /// What it said last that explains it.
        reason: String,
        /// The end of its log.
        log: String,
    },
}

impl ServerError {
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { operation, path: path.to_owned(), source }
    }

    /// The end of the server's log, where one was started.
    pub fn log(&self) -> Option<&str> {
        match self {
            Self::Ended { log, .. } | Self::NotReady { log, .. } | Self::StoppedBadly { log, .. } => {
                Some(log)
            }
            _ => None,
        }
    }
}

impl Hint for ServerError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::NoInstallation { major, .. } => Some(format!(
                "Install PostgreSQL {major} (Debian: postgresql-{major}), or name the directory of its programs in {}.",
                crate::SEARCH_VARIABLE
            )),
            Self::NotAnInstallation { .. } => {
                Some("Name a directory that holds `postgres` and the programs beside it.".to_owned())
            }
            Self::NoIdentity { .. } => {
                Some("Make a user `postgres`, or run Lifeboat as a user who is not root.".to_owned())
            }
            Self::Start { obstacle: Some(folder), user, .. } => Some(cannot_enter(folder, user)),
            Self::Ended { obstacle: Some(folder), .. } => Some(cannot_enter(folder, "the server's user")),
            Self::Ended { reason, .. } => Some(hint_for(reason)),
            Self::SocketPathTooLong { .. } => {
                Some("Choose a shorter path for the socket, such as a folder in /tmp.".to_owned())
            }
            Self::NotReady { state: ServerState::Recovering, .. } => {
                Some("The server was still replaying its log: allow more time.".to_owned())
            }
            Self::NotReady { .. } => Some("Allow more time, or read the server's log.".to_owned()),
            Self::DidNotStop { .. } => {
                Some("Its directory is as after a crash: the next start recovers it.".to_owned())
            }
            Self::StoppedBadly { .. } => Some("Read the server's log.".to_owned()),
            Self::Start { .. } | Self::Io { .. } | Self::Place(_) => None,
        }
    }
}

fn cannot_enter(folder: &Path, user: &str) -> String {
    let folder = folder.display();
    format!("Let {user} enter {folder} (chmod o+x {folder}), or choose a place that everybody can enter.")
}

/// What a server's last words call for.
fn hint_for(reason: &str) -> String {
    let advice = [
        ("Address already in use", "Another server uses this port: stop it, or choose another port."),
        ("could not create any", "Another server uses this port: stop it, or choose another port."),
        ("lock file", "Another server uses this directory or this socket: stop it, or choose another place."),
        ("incompatible with server", "Start the directory with the major version that made it."),
        ("contains errors", "Give the server a file of settings that this installation knows (config_file)."),
        ("invalid permissions", "The directory must be accessible to its owner only: chmod 700."),
        ("wrong ownership", "The directory must belong to the user that the server runs as."),
        (
            "could not map anonymous shared memory",
            "The machine has less memory than the server's settings ask for.",
        ),
    ];
    let found = advice.iter().find(|(words, _)| reason.contains(words));
    found.map_or("Read the server's log.", |(_, advice)| advice).to_owned()
}
