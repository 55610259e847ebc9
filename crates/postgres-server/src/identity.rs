//! Whom servers run as. It deliberately knows nothing of PostgreSQL but that it refuses to run as root.

use crate::ServerError;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Whom servers run as where we are root, in this order.
const CANDIDATES: [&str; 2] = ["postgres", "nobody"];

/// Whom a server and its tools run as: ourselves, or, where we are root, another user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    other: Option<User>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct User {
    name: String,
    uid: u32,
    gid: u32,
    home: PathBuf,
}

impl Identity {
    /// Whoever we are.
    pub const fn ourselves() -> Self {
        Self { other: None }
    }

    /// Ourselves, unless we are root: then `postgres`, or else `nobody`.
    ///
    /// # Errors
    /// [`ServerError::NoIdentity`] where we are root and can be neither.
    pub fn suitable() -> Result<Self, ServerError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::ourselves());
        }
        Self::first_usable(&CANDIDATES)
    }

    fn first_usable(names: &[&str]) -> Result<Self, ServerError> {
        let mut reasons = Vec::new();
        for name in names {
            match User::named(name) {
                None => reasons.push(format!("there is no user {name}")),
                Some(user) => match user.can_be_used() {
                    Ok(()) => return Ok(Self { other: Some(user) }),
                    Err(error) => reasons.push(format!("{name}: {error}")),
                },
            }
        }
        Err(ServerError::NoIdentity { reason: reasons.join("; ") })
    }

    /// The user's name for messages.
    pub fn name(&self) -> &str {
        self.other.as_ref().map_or("the user that runs Lifeboat", |user| &user.name)
    }

    /// Whether servers run as somebody else than we.
    pub const fn is_other(&self) -> bool {
        self.other.is_some()
    }

    /// Makes a path and all below it belong to this user, where that is not us. Links are not followed.
    ///
    /// # Errors
    /// The first thing that could not be given away; its path is in the message.
    pub fn own(&self, path: &Path) -> io::Result<()> {
        match &self.other {
            None => Ok(()),
            Some(user) => own_tree(path, user),
        }
    }

    /// Lets a command run as this user.
    pub(crate) fn apply(&self, command: &mut Command) {
        if let Some(user) = &self.other {
            // Setting the user also drops our supplementary groups.
            command.uid(user.uid).gid(user.gid).env("HOME", &user.home);
            command.env("USER", &user.name).env("LOGNAME", &user.name);
        }
    }

    /// The first folder on the way to a path that this user cannot enter, by its mode. For an explanation only:
    /// access lists are not looked at.
    pub(crate) fn obstacle(&self, path: &Path) -> Option<PathBuf> {
        let user = self.other.as_ref()?;
        let mut folders: Vec<&Path> = path.ancestors().collect();
        folders.reverse();
        let closed =
            |folder: &&&Path| folder.metadata().is_ok_and(|stat| stat.is_dir() && !user.may_enter(&stat));
        folders.iter().find(closed).map(|folder| folder.to_path_buf())
    }
}

impl User {
    fn named(name: &str) -> Option<Self> {
        let from_file = fs::read("/etc/passwd").ok().and_then(|text| Self::in_passwd(&text, name));
        from_file.or_else(|| {
            // Users that are kept elsewhere (LDAP and the like).
            let answer = Command::new("getent").args(["passwd", name]).stdin(Stdio::null()).output().ok()?;
            Self::in_passwd(&answer.stdout, name)
        })
    }

    fn in_passwd(text: &[u8], name: &str) -> Option<Self> {
        text.split(|byte| *byte == b'\n').find_map(|line| Self::in_line(line, name))
    }

    /// `name:password:uid:gid:description:home:shell`
    fn in_line(line: &[u8], name: &str) -> Option<Self> {
        let fields: Vec<&[u8]> = line.split(|byte| *byte == b':').collect();
        let number = |at: usize| std::str::from_utf8(fields.get(at)?).ok()?.parse().ok();
        if *fields.first()? != name.as_bytes() {
            return None;
        }
        let (uid, gid) = (number(2)?, number(3)?);
        let home = PathBuf::from(OsString::from_vec(fields.get(5)?.to_vec()));
        (uid != 0).then(|| Self { name: name.to_owned(), uid, gid, home })
    }

    /// Tries it: in a name space of users, or without the capability, root cannot become anybody.
    fn can_be_used(&self) -> io::Result<()> {
        let mut command = Command::new("true");
        command.uid(self.uid).gid(self.gid).current_dir("/").stdin(Stdio::null());
        match command.status() {
            Err(error) if is_refusal_of_identity(&error) => Err(error),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    fn may_enter(&self, folder: &Metadata) -> bool {
        let bit = match (folder.uid() == self.uid, folder.gid() == self.gid) {
            (true, _) => 0o100,
            (false, true) => 0o010,
            (false, false) => 0o001,
        };
        folder.mode() & bit != 0
    }
}

/// What `setuid` answers where it is refused; a program that may not be executed gives another error.
fn is_refusal_of_identity(error: &io::Error) -> bool {
    let refusals = [rustix::io::Errno::PERM, rustix::io::Errno::INVAL];
    refusals.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Contents first: nobody can then put anything into a folder that is still being walked.
fn own_tree(path: &Path, user: &User) -> io::Result<()> {
    let at = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if path.symlink_metadata().map_err(at)?.is_dir() {
        for entry in fs::read_dir(path).map_err(at)? {
            own_tree(&entry.map_err(at)?.path(), user)?;
        }
    }
    lchown(path, Some(user.uid), Some(user.gid)).map_err(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # a comment\nshort:x:7\npostgres2:x:1:1::/:\n\
        postgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n";

    #[test]
    fn a_user_is_read_from_the_list_of_users() {
        let user = User::in_passwd(PASSWD, "postgres").unwrap();
        assert_eq!((user.uid, user.gid), (101, 104));
        assert_eq!(user.home, Path::new("/var/lib/postgresql"));
        assert_eq!(User::in_passwd(PASSWD, "short"), None);
        assert_eq!(User::in_passwd(PASSWD, "nobody"), None);
        assert_eq!(User::in_passwd(PASSWD, "root"), None, "a server never runs as root");
    }

    #[test]
    fn where_nobody_can_be_used_each_is_named() {
        let error = Identity::first_usable(&["lifeboat-no-such-user", "root"]).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("there is no user lifeboat-no-such-user; there is no user root"), "{text}");
    }

    #[test]
    fn only_folders_that_a_user_cannot_enter_are_in_his_way() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let (outer, inner) = (place.path().join("outer"), place.path().join("outer/inner"));
        fs::create_dir_all(&inner).unwrap();
        for folder in [place.path(), &outer, &inner] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o711)).unwrap();
        }
        let stranger = User { name: "stranger".into(), uid: 4_000_001, gid: 4_000_001, home: "/".into() };
        let stranger = Identity { other: Some(stranger) };
        assert_eq!(stranger.obstacle(&inner), None);
        fs::set_permissions(&outer, fs::Permissions::from_mode(0o770)).unwrap();
        assert_eq!(stranger.obstacle(&inner.join("file")), Some(outer));
        assert_eq!(Identity::ourselves().obstacle(&inner), None);
    }
}
