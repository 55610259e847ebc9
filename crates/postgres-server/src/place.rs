//! Folders for servers: private to the user that a server runs as, removed when we let go of them, and swept by
//! the next one where we were killed. It deliberately knows nothing of what is kept there.

use crate::{Identity, ServerError};
use lifeboat_base::scratch::Scratch;
use std::fs::{self, DirBuilder, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// `sun_path` of Linux has 108 bytes with its final zero.
pub(crate) const MAX_SOCKET_PATH_BYTES: usize = 107;
/// What the scratch folder adds to its place: its own name, and the one of the inner folder.
const NAME_BYTES: usize = "/lifeboat-0123456789abcdef/pg".len();
/// Where sockets go if the temporary folder's path is too long, or closed to the server's user.
const SHORT_PLACES: [&str; 3] = ["/tmp", "/var/tmp", "/dev/shm"];

/// A folder that belongs to a server's user and that nobody else (but root) may read.
///
/// It lies in a scratch folder that stays ours, so that whoever runs next can sweep it after we were killed.
#[derive(Debug)]
pub struct ServerPlace {
    path: PathBuf,
    _scratch: Scratch,
}

impl ServerPlace {
    /// A new, empty folder within a place.
    ///
    /// # Errors
    /// Where it cannot be made or given away.
    pub fn new(within: &Path, identity: &Identity) -> Result<Self, ServerError> {
        let scratch = Scratch::new(within)?;
        if identity.is_other() {
            // To pass through, not to list.
            fs::set_permissions(scratch.path(), Permissions::from_mode(0o711))
                .map_err(ServerError::io("open to the server's user", scratch.path()))?;
        }
        let path = scratch.path().join("pg");
        DirBuilder::new().mode(0o700).create(&path).map_err(ServerError::io("create", &path))?;
        identity.own(&path).map_err(ServerError::io("give to the server's user", &path))?;
        Ok(Self { path, _scratch: scratch })
    }

    /// A new folder whose path is short enough for a socket, in the temporary folder if that will do.
    ///
    /// # Errors
    /// As [`ServerPlace::new`], of the last place that was tried.
    pub fn for_sockets(identity: &Identity) -> Result<Self, ServerError> {
        let temporary = std::env::temp_dir();
        let places = std::iter::once(temporary.as_path()).chain(SHORT_PLACES.iter().map(Path::new));
        let fits = |place: &&Path| is_short(place) && identity.obstacle(place).is_none();
        let mut tried = None;
        for place in places.filter(fits) {
            match Self::new(place, identity) {
                Ok(made) => return Ok(made),
                Err(error) => tried = Some(error),
            }
        }
        Err(tried.unwrap_or_else(|| too_long(&temporary)))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn is_short(place: &Path) -> bool {
    place.as_os_str().len() + NAME_BYTES + socket_name(u16::MAX).len() < MAX_SOCKET_PATH_BYTES
}

fn socket_name(port: u16) -> String {
    format!(".s.PGSQL.{port}")
}

fn too_long(directory: &Path) -> ServerError {
    let bytes = directory.as_os_str().as_bytes().len() + NAME_BYTES + 1 + socket_name(u16::MAX).len();
    ServerError::SocketPathTooLong { directory: directory.to_owned(), bytes }
}

/// Whether a server can have its socket in a directory.
pub(crate) fn check_socket_path(directory: &Path, port: u16) -> Result<(), ServerError> {
    let bytes = directory.join(socket_name(port)).as_os_str().len();
    match bytes <= MAX_SOCKET_PATH_BYTES {
        true => Ok(()),
        false => Err(ServerError::SocketPathTooLong { directory: directory.to_owned(), bytes }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_private_and_goes_with_its_owner() {
        let within = tempfile::tempdir().unwrap();
        let place = ServerPlace::new(within.path(), &Identity::ourselves()).unwrap();
        let path = place.path().to_owned();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(path.as_os_str().len(), within.path().as_os_str().len() + NAME_BYTES);
        drop(place);
        assert!(!path.exists());
    }

    #[test]
    fn a_path_that_the_system_cannot_bind_is_refused_beforehand() {
        let longest =
            PathBuf::from(format!("/{}", "x".repeat(MAX_SOCKET_PATH_BYTES - 1 - "/.s.PGSQL.5432".len())));
        check_socket_path(&longest, 5432).unwrap();
        let error = check_socket_path(&longest, 15432).unwrap_err().to_string();
        assert!(error.contains("108 bytes, and 107 is the most"), "{error}");
        let place = ServerPlace::for_sockets(&Identity::ourselves()).unwrap();
        check_socket_path(place.path(), u16::MAX).unwrap();
    }
}
