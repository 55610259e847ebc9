//! Metadata of one path: taken from a file system, and given back to another.
//!
//! What is taken: kind, permission bits, owner, times to the nanosecond, inode, device, links, device
//! numbers, and every extended attribute that this process may see, POSIX ACLs and file capabilities among
//! them. What is given back is the same without inode and change time, which no one can set. What the file
//! system or the kernel refuses is told as a [`Refusal`] and stops nothing.

use crate::directory::{Directory, Name};
use lifeboat_repository::tree::{Entry, EntryKind, FileTime, Metadata, Xattr, display_bytes};
use rustix::fs::{
    self, AtFlags, CWD, FileType, Gid, Mode, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The kernel's own limit, for a list of names and for a value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_BYTES_MAX: usize = 64 * 1024;
const PERMISSION_BITS: u32 = 0o7777;
/// Bits that lend somebody the owner's or group's power.
const LENDING_BITS: u32 = 0o6000;
const ACL_ACCESS: &[u8] = b"system.posix_acl_access";
const ACL_DEFAULT: &[u8] = b"system.posix_acl_default";

/// What kind of entry `st_mode` says; `None` for what no snapshot knows.
pub fn kind_of(stat: &Stat) -> Option<EntryKind> {
    Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => EntryKind::File,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::Fifo => EntryKind::Fifo,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Socket => EntryKind::Socket,
        FileType::Unknown => return None,
    })
}

/// An entry with everything that `stat` says: no xattrs and no content. `None` for an unknown kind.
pub fn entry_of(name: &[u8], stat: &Stat) -> Option<Entry> {
    let kind = kind_of(stat)?;
    let mut entry = Entry::new(name, kind);
    if kind == EntryKind::File {
        entry.size = size_of(stat);
    }
    entry.metadata = metadata_of(stat);
    Some(entry)
}

/// The size that `stat` says, in bytes.
pub fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

/// Everything that `stat` says; no xattrs.
pub fn metadata_of(stat: &Stat) -> Metadata {
    let is_device = matches!(kind_of(stat), Some(EntryKind::CharDevice | EntryKind::BlockDevice));
    Metadata {
        mode: stat.st_mode & PERMISSION_BITS,
        uid: stat.st_uid,
        gid: stat.st_gid,
        modified: file_time(stat.st_mtime, stat.st_mtime_nsec),
        changed: file_time(stat.st_ctime, stat.st_ctime_nsec),
        inode: stat.st_ino,
        device: stat.st_dev,
        links: widen(stat.st_nlink),
        device_number: if is_device { stat.st_rdev } else { 0 },
        xattrs: Vec::new(),
    }
}

/// 32 bits on some architectures and 64 on others.
fn widen(number: impl Into<u64>) -> u64 {
    number.into()
}

fn file_time(secs: i64, nanos: impl TryInto<u32>) -> FileTime {
    FileTime { secs, nanos: nanos.try_into().unwrap_or(0) }
}

/// Reads extended attributes, with one pair of buffers for all.
pub struct XattrReader {
    names: Box<[u8]>,
    value: Box<[u8]>,
}

impl Default for XattrReader {
    fn default() -> Self {
        Self { names: vec![0; XATTR_BYTES_MAX].into(), value: vec![0; XATTR_BYTES_MAX].into() }
    }
}

impl fmt::Debug for XattrReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("XattrReader")
    }
}

impl XattrReader {
    /// The attributes of an open file or directory, in ascending order of their names.
    ///
    /// # Errors
    /// What the operating system says; a file system without attributes has none.
    pub fn of_open(&mut self, file: impl AsFd) -> io::Result<Vec<Xattr>> {
        let file = file.as_fd();
        self.read(|names| fs::flistxattr(file, names), |name, value| fs::fgetxattr(file, name, value))
    }

    /// The attributes of a name in a directory, without opening it: also of symbolic links, pipes and
    /// devices. Needs `/proc`, since the kernel before 6.13 asks for a path.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn of_name(&mut self, directory: &Directory, name: Name<'_>) -> io::Result<Vec<Xattr>> {
        let path = proc_path(directory.as_fd(), Some(name));
        self.read(|names| fs::llistxattr(&path, names), |name, value| fs::lgetxattr(&path, name, value))
    }

    fn read(
        &mut self,
        list: impl FnOnce(&mut [u8]) -> rustix::io::Result<usize>,
        get: impl Fn(&[u8], &mut [u8]) -> rustix::io::Result<usize>,
    ) -> io::Result<Vec<Xattr>> {
        let length = match list(&mut self.names) {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            Ok(length) => length,
            Err(error) => return Err(error.into()),
        };
        let mut xattrs = Vec::new();
        for name in self.names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            match get(name, &mut self.value) {
                Ok(length) => {
                    xattrs.push(Xattr { name: name.to_vec(), value: self.value[..length].to_vec() });
                }
                // Removed since it was listed, or listed by a layer that cannot tell its value.
                Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        xattrs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(xattrs)
    }
}

/// A path that the kernel resolves from an open file, for calls that know no `…at` form. The name behind
/// it is one component, so nothing else is followed.
fn proc_path(file: BorrowedFd<'_>, name: Option<Name<'_>>) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", file.as_raw_fd()).into_bytes();
    if let Some(name) = name {
        path.push(b'/');
        path.extend_from_slice(name.as_bytes());
    }
    path
}

/// A part of the metadata that could not be given back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aspect {
    /// Owner or group.
    Owner,
    /// Permission bits, or the setuid and setgid bits that must not outlive the owner.
    Mode,
    /// An access control list.
    Acl,
    /// Another extended attribute, by its name.
    Xattr(Vec<u8>),
    /// The time of modification.
    Times,
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Owner => f.write_str("owner"),
            Self::Mode => f.write_str("mode"),
            Self::Acl => f.write_str("ACL"),
            Self::Xattr(name) => write!(f, "attribute {}", display_bytes(name)),
            Self::Times => f.write_str("time"),
        }
    }
}

impl Aspect {
    /// What was being done to a path when this was refused.
    pub fn operation(&self) -> String {
        format!("set {self} of")
    }
}

/// What could not be given back, and why.
#[derive(Debug)]
pub struct Refusal {
    /// What.
    pub aspect: Aspect,
    /// Why.
    pub source: io::Error,
}

/// What this process is and what a new file of its own gets by itself, so that nothing is asked of the
/// kernel that is so already.
#[derive(Clone, Copy, Debug)]
pub struct Creator {
    owner: Option<(u32, u32)>,
    umask: Option<u32>,
}

impl Creator {
    /// A creator of files below `root`.
    ///
    /// # Errors
    /// Where `root` cannot be questioned.
    pub fn below(root: &Directory) -> io::Result<Self> {
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        // A directory may hand its own group down (setgid, or a mount option): only where that is ours as
        // well is the group of a new file known.
        let handed_down = root.stat_self()?.st_gid;
        Ok(Self { owner: (handed_down == gid).then_some((uid, gid)), umask: umask() })
    }

    /// A creator of whom nothing is known, so that everything is set.
    pub fn unknown() -> Self {
        Self { owner: None, umask: None }
    }

    /// With which permission bits to create a file that shall end as `metadata` says: never with more than
    /// those, and never with setuid or setgid before it has its owner.
    pub fn initial_mode(self, metadata: &Metadata) -> Mode {
        let bits = if self.gives_owner(metadata) { metadata.mode & 0o777 } else { metadata.mode & 0o700 };
        Mode::from_raw_mode(bits)
    }

    /// The same creator, of files that were created with other permission bits.
    #[must_use]
    pub fn without_mode(self) -> Self {
        Self { umask: None, ..self }
    }

    fn gives_owner(self, metadata: &Metadata) -> bool {
        self.owner == Some((metadata.uid, metadata.gid))
    }

    fn gives_mode(self, metadata: &Metadata) -> bool {
        let created = self.umask.map(|umask| self.initial_mode(metadata).as_raw_mode() & !umask);
        created == Some(metadata.mode)
    }
}

/// The umask, asked without changing it for the other threads.
fn umask() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"))?;
    u32::from_str_radix(line.trim(), 8).ok()
}

/// Gives an open file its metadata: owner first, since that clears setuid and capabilities, times last,
/// since all else moves them. A new file of `creator`, with [`Creator::initial_mode`], is asked for less.
pub fn apply_to_file(file: impl AsFd, metadata: &Metadata, creator: Creator, refused: &mut Vec<Refusal>) {
    let file = file.as_fd();
    let owned = creator.gives_owner(metadata)
        || note(refused, Aspect::Owner, give_owner(metadata, |uid, gid| fs::fchown(file, uid, gid)));
    if !(owned && creator.gives_mode(metadata)) {
        give_mode(metadata, owned, refused, |mode| fs::fchmod(file, mode));
    }
    give_xattrs(metadata, refused, |name, value| fs::fsetxattr(file, name, value, XattrFlags::empty()));
    note(refused, Aspect::Times, fs::futimens(file, &times(metadata)));
}

/// Gives an open directory its metadata.
pub fn apply_to_directory(directory: &Directory, metadata: &Metadata, refused: &mut Vec<Refusal>) {
    apply_to_file(directory, metadata, Creator::unknown(), refused);
}

/// Gives a symbolic link, pipe, device or socket its metadata, by its name and without opening it.
pub fn apply_to_name(
    directory: &Directory,
    name: Name<'_>,
    kind: EntryKind,
    metadata: &Metadata,
    refused: &mut Vec<Refusal>,
) {
    let bytes = name.as_bytes();
    let no_follow = AtFlags::SYMLINK_NOFOLLOW;
    let owned = note(
        refused,
        Aspect::Owner,
        give_owner(metadata, |uid, gid| fs::chownat(directory, bytes, uid, gid, no_follow)),
    );
    if kind != EntryKind::Symlink {
        give_mode(metadata, owned, refused, |mode| chmod_unopened(directory, name, mode));
    }
    if !metadata.xattrs.is_empty() {
        let path = proc_path(directory.as_fd(), Some(name));
        give_xattrs(metadata, refused, |name, value| fs::lsetxattr(&path, name, value, XattrFlags::empty()));
    }
    note(refused, Aspect::Times, fs::utimensat(directory, bytes, &times(metadata), no_follow));
}

/// Takes the ACL away that a directory hands down to what is created in it.
///
/// # Errors
/// Where it has one and it cannot be taken away.
pub fn stop_handing_down(directory: &Directory) -> io::Result<()> {
    match fs::fremovexattr(directory, ACL_DEFAULT) {
        Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// `fchmodat` follows links; a handle that cannot read or write the thing does not.
fn chmod_unopened(directory: &Directory, name: Name<'_>, mode: Mode) -> rustix::io::Result<()> {
    let reference =
        directory.open_reference(name).map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?;
    fs::chmodat(CWD, proc_path(reference.as_fd(), None), mode, AtFlags::empty())
}

/// Both at once, or at least the group, which whoever is a member may give.
fn give_owner(
    metadata: &Metadata,
    chown: impl Fn(Option<Uid>, Option<Gid>) -> rustix::io::Result<()>,
) -> rustix::io::Result<()> {
    // All ones is "leave it" to the kernel and no owner.
    if metadata.uid == u32::MAX || metadata.gid == u32::MAX {
        return Err(Errno::INVAL);
    }
    let (uid, gid) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
    chown(Some(uid), Some(gid)).inspect_err(|_| {
        let _ = chown(None, Some(gid));
    })
}

/// Without the owner, a setuid or setgid bit would lend somebody else's power: it is dropped and told.
fn give_mode(
    metadata: &Metadata,
    owned: bool,
    refused: &mut Vec<Refusal>,
    chmod: impl FnOnce(Mode) -> rustix::io::Result<()>,
) {
    let lent = if owned { 0 } else { metadata.mode & LENDING_BITS };
    note(refused, Aspect::Mode, chmod(Mode::from_raw_mode(metadata.mode & PERMISSION_BITS & !lent)));
    if lent != 0 {
        let why = "setuid and setgid were dropped, since the owner could not be set";
        refused.push(Refusal {
            aspect: Aspect::Mode,
            source: io::Error::new(io::ErrorKind::PermissionDenied, why),
        });
    }
}

fn give_xattrs(
    metadata: &Metadata,
    refused: &mut Vec<Refusal>,
    set: impl Fn(&[u8], &[u8]) -> rustix::io::Result<()>,
) {
    for xattr in &metadata.xattrs {
        let aspect = match xattr.name.as_slice() {
            ACL_ACCESS | ACL_DEFAULT => Aspect::Acl,
            name => Aspect::Xattr(name.to_vec()),
        };
        note(refused, aspect, set(&xattr.name, &xattr.value));
    }
}

/// The time of modification; the time of access stays what it is.
fn times(metadata: &Metadata) -> Timestamps {
    let modified = metadata.modified;
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        // A forged entry may hold any number here; above this the kernel would take it for a command.
        last_modification: Timespec {
            tv_sec: modified.secs,
            tv_nsec: i64::from(modified.nanos.min(999_999_999)),
        },
    }
}

fn note(refused: &mut Vec<Refusal>, aspect: Aspect, result: rustix::io::Result<()>) -> bool {
    if let Err(error) = result {
        refused.push(Refusal { aspect, source: error.into() });
    }
    result.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::is_root;
    use rustix::fs::Dev;
    use std::fs::File;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    fn name(text: &str) -> Name<'_> {
        Name::new(text.as_bytes()).unwrap()
    }

    fn open(path: &Path) -> Directory {
        Directory::open_root(path).unwrap()
    }

    fn xattr(name: &str, value: &[u8]) -> Xattr {
        Xattr { name: name.into(), value: value.to_vec() }
    }

    fn time(secs: i64, nanos: u32) -> FileTime {
        FileTime { secs, nanos }
    }

    /// `u::rw-,u:1000:r--,g::r--,m::rw-,o::---`, as the kernel lays it out: version 2, then tag, bits, id.
    fn acl() -> Vec<u8> {
        let entries: [(u16, u16, u32); 5] =
            [(1, 6, u32::MAX), (2, 4, 1000), (4, 4, u32::MAX), (0x10, 6, u32::MAX), (0x20, 0, u32::MAX)];
        let mut bytes = 2u32.to_le_bytes().to_vec();
        for (tag, bits, id) in entries {
            bytes.extend([tag.to_le_bytes(), bits.to_le_bytes()].concat());
            bytes.extend(id.to_le_bytes());
        }
        bytes
    }

    /// What is worth comparing: no inode, no change time.
    fn restorable(metadata: &Metadata) -> Metadata {
        Metadata { changed: FileTime::default(), inode: 0, device: 0, links: 0, ..metadata.clone() }
    }

    fn captured(directory: &Directory, text: &str) -> Metadata {
        let mut metadata = metadata_of(&directory.stat(name(text)).unwrap());
        metadata.xattrs = XattrReader::default().of_name(directory, name(text)).unwrap();
        metadata
    }

    #[test]
    fn a_file_gets_everything_back() {
        let place = tempfile::tempdir().unwrap();
        let root = open(place.path());
        let creator = Creator::below(&root).unwrap();
        for (n, mode) in [0o644, 0o600, 0o4755, 0o2070, 0o1777, 0o000, 0o222].into_iter().enumerate() {
            for secs in [-1_000_000_000, -1, 0, 4_000_000_000] {
                let stat = root.stat_self().unwrap();
                let metadata = Metadata {
                    mode,
                    uid: stat.st_uid,
                    gid: stat.st_gid,
                    modified: time(secs, 123_456_789 + n as u32),
                    xattrs: vec![xattr("user.a", b""), xattr("user.b\u{e9}", &[0, 255, 7])],
                    ..Metadata::default()
                };
                let text = format!("{n}{secs}");
                let file = root.create_file(name(&text), creator.initial_mode(&metadata)).unwrap();
                let mut refused = Vec::new();
                apply_to_file(&file, &metadata, creator, &mut refused);
                assert!(refused.is_empty(), "{refused:?}");
                assert_eq!(restorable(&captured(&root, &text)), metadata);
                assert_eq!(XattrReader::default().of_open(&file).unwrap(), metadata.xattrs);
            }
        }
    }

    #[test]
    fn owners_capabilities_and_acls() {
        if !is_root("owners_capabilities_and_acls") {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let root = open(place.path());
        // cap_net_raw+ep, as `setcap` writes it.
        let capability = [1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let metadata = Metadata {
            mode: 0o4760,
            uid: 12345,
            gid: 54321,
            modified: time(1, 1),
            xattrs: vec![
                xattr("security.capability", &capability),
                xattr("system.posix_acl_access", &acl()),
                xattr("trusted.x", b"y"),
            ],
            ..Metadata::default()
        };
        let mut refused = Vec::new();
        let creator = Creator::below(&root).unwrap();
        let file = root.create_file(name("file"), creator.initial_mode(&metadata)).unwrap();
        apply_to_file(&file, &metadata, creator, &mut refused);
        assert!(refused.is_empty(), "{refused:?}");
        assert_eq!(restorable(&captured(&root, "file")), Metadata { mode: 0o4660, ..metadata.clone() });

        root.create_child(name("directory")).unwrap();
        let directory = root.open_child(name("directory")).unwrap();
        let metadata = Metadata {
            mode: 0o3660,
            xattrs: vec![xattr("system.posix_acl_access", &acl()), xattr("system.posix_acl_default", &acl())],
            ..metadata
        };
        apply_to_directory(&directory, &metadata, &mut refused);
        assert!(refused.is_empty(), "{refused:?}");
        assert_eq!(restorable(&captured(&root, "directory")), metadata);
        stop_handing_down(&directory).unwrap();
        stop_handing_down(&directory).unwrap();
        assert_eq!(captured(&root, "directory").xattrs.len(), 1);
    }

    #[test]
    fn what_is_no_file_gets_everything_back_unopened() {
        if !is_root("what_is_no_file_gets_everything_back_unopened") {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let root = open(place.path());
        let device: Dev = fs::makedev(240, 70_000);
        root.create_node(name("fifo"), FileType::Fifo, 0).unwrap();
        root.create_node(name("socket"), FileType::Socket, 0).unwrap();
        root.create_node(name("char"), FileType::CharacterDevice, device).unwrap();
        root.create_node(name("block"), FileType::BlockDevice, device).unwrap();
        root.create_symlink(name("link"), b"/nonexistent/target").unwrap();
        for text in ["fifo", "socket", "char", "block", "link"] {
            let before = entry_of(text.as_bytes(), &root.stat(name(text)).unwrap()).unwrap();
            let metadata = Metadata {
                mode: if text == "link" { 0o777 } else { 0o2641 },
                uid: 7,
                gid: 8,
                modified: time(-5, 999_999_999),
                device_number: before.metadata.device_number,
                xattrs: vec![xattr("trusted.t", text.as_bytes())],
                ..Metadata::default()
            };
            let mut refused = Vec::new();
            apply_to_name(&root, name(text), before.kind, &metadata, &mut refused);
            assert!(refused.is_empty(), "{text} {refused:?}");
            assert_eq!(restorable(&captured(&root, text)), metadata, "{text}");
        }
        assert_eq!(captured(&root, "char").device_number, device);
        assert_eq!(captured(&root, "fifo").device_number, 0);
    }

    #[test]
    fn a_link_put_in_the_way_is_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let victim = place.path().join("victim");
        File::create(&victim).unwrap();
        symlink(&victim, place.path().join("pipe")).unwrap();
        let root = open(place.path());
        let before = captured(&root, "victim");
        let stat = root.stat_self().unwrap();
        let metadata = Metadata {
            mode: 0o777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            modified: time(1, 1),
            ..Metadata::default()
        };
        let mut refused = Vec::new();
        apply_to_name(&root, name("pipe"), EntryKind::Fifo, &metadata, &mut refused);
        assert_eq!(refused.iter().map(|r| &r.aspect).collect::<Vec<_>>(), [&Aspect::Mode]);
        assert_eq!(captured(&root, "victim"), before);
    }

    #[test]
    fn a_refusal_names_what_was_refused() {
        let place = tempfile::tempdir().unwrap();
        let root = open(place.path());
        let file = root.create_file(name("file"), Mode::RUSR).unwrap();
        let stat = root.stat_self().unwrap();
        let metadata = Metadata {
            mode: 0o6755,
            uid: u32::MAX,
            gid: stat.st_gid,
            modified: time(1, u32::MAX),
            xattrs: vec![xattr("nonsense", b""), xattr("system.posix_acl_access", b"bad")],
            ..Metadata::default()
        };
        let mut refused = Vec::new();
        apply_to_file(&file, &metadata, Creator::unknown(), &mut refused);
        let told: Vec<String> = refused.iter().map(|refusal| refusal.aspect.to_string()).collect();
        assert_eq!(told, ["owner", "mode", "attribute nonsense", "ACL"]);
        let got = captured(&root, "file");
        assert_eq!((got.mode, got.modified), (0o755, time(1, 999_999_999)));
    }

    #[test]
    fn a_file_is_never_created_with_more_than_it_shall_have() {
        let place = tempfile::tempdir().unwrap();
        let known = Creator { owner: Some((1, 2)), umask: Some(0o022) };
        let metadata = |mode, uid| Metadata { mode, uid, gid: 2, ..Metadata::default() };
        assert_eq!(known.initial_mode(&metadata(0o644, 1)).as_raw_mode(), 0o644);
        assert!(known.gives_mode(&metadata(0o644, 1)));
        assert_eq!(known.initial_mode(&metadata(0o6755, 1)).as_raw_mode(), 0o755);
        assert!(!known.gives_mode(&metadata(0o6755, 1)) && !known.gives_mode(&metadata(0o666, 1)));
        assert_eq!(known.initial_mode(&metadata(0o644, 3)).as_raw_mode(), 0o600);
        assert!(!Creator::unknown().gives_mode(&metadata(0o600, 1)));
        assert!(Creator::below(&open(place.path())).unwrap().umask.is_some());
    }
}
