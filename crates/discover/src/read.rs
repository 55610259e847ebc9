//! Files of somebody else, read within bounds: regular ones, no links, and never more than was asked for.

use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Reads a whole text.
///
/// # Errors
/// In words, where it is no regular file, longer than `limit`, no UTF-8, or cannot be read.
pub(crate) fn text(path: &Path, limit: u64) -> Result<String, String> {
    let file = open(path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit {
        return Err(format!("it is longer than {} KiB", limit / 1024));
    }
    String::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned())
}

/// Reads how a file begins; nothing where it is shorter or cannot be read.
pub(crate) fn beginning<const N: usize>(path: &Path) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    open(path).ok()?.read_exact(&mut bytes).ok()?;
    Some(bytes)
}

/// A pipe must not keep us waiting, and a link must not lead elsewhere.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no regular file")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_regular_files_within_the_bound_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        lifeboat_base::crashsafe::replace(&path, b"12345").unwrap();
        assert_eq!(text(&path, 5).unwrap(), "12345");
        assert!(text(&path, 4).unwrap_err().contains("longer"));
        assert_eq!(beginning::<3>(&path), Some(*b"123"));
        assert_eq!(beginning::<6>(&path), None);
        assert!(text(folder.path(), 5).is_err());
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(text(&link, 5).is_err());
        lifeboat_base::crashsafe::replace(&path, &[0xff]).unwrap();
        assert!(text(&path, 5).unwrap_err().contains("UTF-8"));
    }

    #[test]
    fn a_pipe_keeps_nobody_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(text(&path, 5).is_err());
    }
}
