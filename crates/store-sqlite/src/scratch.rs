//! A private copy of a database, made while its lock is held: nothing else is done under it.

use crate::SnapshotError;
use lifeboat_base::failpoint;
use std::fs::File;
use std::path::{Path, PathBuf};

/// How much is copied between two looks at the clock.
const COPY_BYTES: usize = 8 << 20;

/// A folder of our own for one snapshot.
#[derive(Debug)]
pub(crate) struct Scratch {
    folder: lifeboat_base::scratch::Scratch,
}

impl Scratch {
    pub(crate) fn new(within: &Path) -> Result<Self, SnapshotError> {
        let folder = lifeboat_base::scratch::Scratch::without_sweeping(within)
            .map_err(|error| SnapshotError::io("create a scratch folder in", within)(error.source))?;
        Ok(Self { folder })
    }

    /// Where the copy of the database lies.
    pub(crate) fn database(&self) -> PathBuf {
        self.folder.path().join("database")
    }

    /// Makes `name` share the blocks of `from`, at once and whatever its size; `false` where the file system
    /// cannot.
    pub(crate) fn reflink(&self, from: &File, name: &Path) -> Result<bool, SnapshotError> {
        let to = File::create(name).map_err(SnapshotError::io("create", name))?;
        Ok(rustix::fs::ioctl_ficlone(&to, from).is_ok())
    }

    /// Copies `from`, asking before each piece whether there is `time` left; `false` once there is none.
    pub(crate) fn copy(
        &self,
        from: &File,
        name: &Path,
        time: impl Fn() -> bool,
    ) -> Result<bool, SnapshotError> {
        let fail = || SnapshotError::io("copy to", name);
        let to = File::create(name).map_err(fail())?;
        let (mut read_at, mut written_at) = (0, 0);
        loop {
            if !time() {
                return Ok(false);
            }
            failpoint::reach("store-sqlite::copying").map_err(fail())?;
            match rustix::fs::copy_file_range(
                from,
                Some(&mut read_at),
                &to,
                Some(&mut written_at),
                COPY_BYTES,
            ) {
                Ok(0) => return Ok(true),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::XDEV | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => {
                    return copy_through_memory(from, &to, read_at, &time).map_err(fail());
                }
                Err(error) => return Err(fail()(error.into())),
            }
        }
    }
}

/// For kernels and file systems that do not copy by themselves.
fn copy_through_memory(
    from: &File,
    to: &File,
    mut offset: u64,
    time: &impl Fn() -> bool,
) -> std::io::Result<bool> {
    use lifeboat_wire_sqlite::ReadAt;
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; COPY_BYTES];
    while time() {
        let read = ReadAt::read_at(from, offset, &mut buffer)?;
        to.write_all_at(&buffer[..read], offset)?;
        offset += read as u64;
        if read < buffer.len() {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_copying_copy_and_end_when_told() {
        let within = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(within.path()).unwrap();
        let bytes: Vec<u8> = (0..20_000_003u32).map(|i| (i % 251) as u8).collect();
        let source = within.path().join("source");
        lifeboat_base::crashsafe::create(&source, &bytes).unwrap();
        let source = File::open(source).unwrap();
        let copy = scratch.database();
        assert!(scratch.copy(&source, &copy, || true).unwrap());
        assert!(std::fs::read(&copy).unwrap() == bytes);
        assert!(!scratch.copy(&source, &copy, || false).unwrap());
        let to = File::create(&copy).unwrap();
        assert!(copy_through_memory(&source, &to, 0, &|| true).unwrap());
        assert!(std::fs::read(&copy).unwrap() == bytes);
        assert!(!copy_through_memory(&source, &to, 0, &|| false).unwrap());
    }
}
