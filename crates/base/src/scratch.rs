//! Scratch folders: places of our own for copies that nobody needs afterwards.
//!
//! A folder goes when its owner lets go of it. An owner that was killed cannot: so every folder holds a file that
//! its owner keeps locked, the lock ends with the process, and whoever makes a new folder in the same place
//! removes those whose lock is free. It deliberately knows nothing of what is kept there.

use crate::crashsafe::CrashsafeError;
use crate::{failpoint, hex, random};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// How the names of scratch folders start; 16 hexadecimal digits follow.
const PREFIX: &str = "lifeboat-";
/// The file that is locked for as long as the folder is in use.
const IN_USE: &str = ".in-use";
/// What that file is called before it is locked.
const UNLOCKED: &str = ".unlocked";
/// How often another folder is made, after one was swept away while it was made.
const MAX_ATTEMPTS: u32 = 5;

/// A folder that nobody else may read, removed with all that is in it when this is dropped.
#[derive(Debug)]
pub struct Scratch {
    path: PathBuf,
    /// Locked; `None` once the folder is to stay.
    in_use: Option<File>,
}

impl Scratch {
    /// A new folder within a place. What killed processes of the same user left there is removed first.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn new(within: &Path) -> Result<Self, CrashsafeError> {
        sweep(within);
        Self::without_sweeping(within)
    }

    /// A new folder within a place, at once.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn without_sweeping(within: &Path) -> Result<Self, CrashsafeError> {
        let mut attempt = 1;
        loop {
            let path = within.join(format!("{PREFIX}{}", hex::encode(&random::bytes::<8>())));
            match make(&path) {
                Ok(in_use) => return Ok(Self { path, in_use: Some(in_use) }),
                Err(source) if was_swept(&source) && attempt < MAX_ATTEMPTS => attempt += 1,
                Err(source) => {
                    return Err(CrashsafeError { operation: "create scratch folder", path, source });
                }
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the folder when this is dropped, and for ever.
    pub fn keep(&mut self) {
        if self.in_use.take().is_some() {
            let _ = fs::remove_file(self.path.join(IN_USE));
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if self.in_use.is_some() {
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes the folder and locks it, or leaves nothing of it.
fn make(folder: &Path) -> io::Result<File> {
    DirBuilder::new().mode(0o700).create(folder)?;
    lock(folder).inspect_err(|_| {
        let _ = fs::remove_dir_all(folder);
    })
}

/// Locks a new folder. Whoever sweeps between two of these steps takes it for abandoned: then one of the next
/// fails, see [`was_swept`].
#[expect(clippy::disallowed_methods, reason = "nothing here has to survive anything")]
fn lock(folder: &Path) -> io::Result<File> {
    failpoint::reach("scratch::made")?;
    let unlocked = folder.join(UNLOCKED);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unlocked)?;
    failpoint::reach("scratch::unlocked")?;
    match file.try_lock() {
        // A file system without locks: whoever sweeps cannot lock it either, and leaves it.
        Ok(()) | Err(TryLockError::Error(_)) => {}
        Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
    }
    fs::rename(&unlocked, folder.join(IN_USE))?;
    Ok(file)
}

/// Whether making a folder failed since somebody swept it away, or was about to, so that another one may do.
/// Where the place itself is missing, the next attempts fail in the same way.
fn was_swept(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::WouldBlock | io::ErrorKind::AlreadyExists)
}

/// Removes the folders of this user whose owner is gone. What cannot be looked at or removed stays.
pub fn sweep(within: &Path) {
    let Ok(listing) = fs::read_dir(within) else { return };
    for entry in listing.flatten() {
        let folder = entry.path();
        if !is_scratch_name(entry.file_name().as_encoded_bytes()) || !is_ours(&folder) {
            continue;
        }
        let _ = match is_free(&folder.join(IN_USE)) || is_free(&folder.join(UNLOCKED)) {
            true => fs::remove_dir_all(&folder),
            // Its owner was killed right after he had made it; one that holds anything else is not removed.
            false => fs::remove_dir(&folder),
        };
    }
}

fn is_scratch_name(name: &[u8]) -> bool {
    name.strip_prefix(PREFIX.as_bytes())
        .is_some_and(|digits| digits.len() == 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

fn is_ours(folder: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    folder.symlink_metadata().is_ok_and(|stat| stat.is_dir() && stat.uid() == user)
}

/// Whether a file is there and nobody has it locked.
fn is_free(file: &Path) -> bool {
    let no_links = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let opened = OpenOptions::new().write(true).custom_flags(no_links).open(file);
    opened.is_ok_and(|file| file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(within: &Path) -> usize {
        fs::read_dir(within).unwrap().count()
    }

    #[test]
    fn a_folder_goes_with_its_owner_and_what_others_use_stays() {
        let place = tempfile::tempdir().unwrap();
        let first = Scratch::new(place.path()).unwrap();
        fs::create_dir(first.path().join("restored")).unwrap();
        let second = Scratch::new(place.path()).unwrap();
        assert!(first.path().join("restored").is_dir());
        drop((first, second));
        assert_eq!(names(place.path()), 0);
    }

    #[test]
    fn what_a_killed_owner_left_goes_with_the_next_folder() {
        let place = tempfile::tempdir().unwrap();
        let mut killed = Scratch::new(place.path()).unwrap();
        let path = killed.path().to_owned();
        fs::create_dir(path.join("restored")).unwrap();
        // As after SIGKILL: the lock is gone, the file is not.
        killed.in_use = None;
        drop(killed);
        assert!(path.join(IN_USE).exists());
        let next = Scratch::new(place.path()).unwrap();
        assert!(!path.exists());
        assert_eq!(names(place.path()), 1);
        drop(next);
    }

    #[test]
    fn what_an_owner_left_that_was_killed_while_he_made_it_goes() {
        let place = tempfile::tempdir().unwrap();
        let half_made = place.path().join("lifeboat-0123456789abcdef");
        fs::create_dir(&half_made).unwrap();
        fs::create_dir(place.path().join("lifeboat-1123456789abcdef")).unwrap();
        File::create(half_made.join(UNLOCKED)).unwrap();
        sweep(place.path());
        assert_eq!(names(place.path()), 0);
    }

    #[test]
    fn what_is_kept_stays_for_ever() {
        let place = tempfile::tempdir().unwrap();
        let mut kept = Scratch::new(place.path()).unwrap();
        kept.keep();
        let path = kept.path().to_owned();
        fs::create_dir(path.join("restored")).unwrap();
        drop(kept);
        drop(Scratch::new(place.path()).unwrap());
        assert_eq!(names(&path), 1, "and nothing of ours is in it");
    }

    #[test]
    fn what_only_looks_like_ours_stays() {
        let place = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::create_dir_all(place.path().join("lifeboat-0123456789abcdef/somebody's")).unwrap();
        fs::create_dir(place.path().join("lifeboat-plans")).unwrap();
        File::create(elsewhere.path().join(IN_USE)).unwrap();
        let link = place.path().join("lifeboat-fedcba9876543210");
        std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
        drop(Scratch::new(place.path()).unwrap());
        assert_eq!((names(place.path()), names(elsewhere.path())), (3, 1));
    }
}
