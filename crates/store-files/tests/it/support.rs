//! A repository in memory, and a lister of trees that shares no code with what it checks.

use lifeboat_base::Secret;
use lifeboat_base::clock::{Clock, ManualClock, Timestamp};
use lifeboat_objects::memory::MemoryStore;
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{
    ChunkerParameters, Environment, InitOptions, Lock, Published, Reader, Repository, SnapshotSource,
    SnapshotWriter,
};
use lifeboat_store::Directory;
use lifeboat_store::exclude::{Include, Patterns};
use lifeboat_store::materialise::{self, MaterialiseError, Options, Report, WINDOW_BYTES, materialise};
use lifeboat_store::progress::Progress;
use lifeboat_store::tree::SnapshotTree;
use lifeboat_store_files::{FilesDriver, FilesError, FilesOptions, SnapshotReport};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A repository in memory.
pub(crate) struct House {
    pub clock: ManualClock,
    pub repository: Arc<Repository>,
    _state: tempfile::TempDir,
}

impl House {
    /// Whose clock stands far in the future, so that no file looks as if it had just changed.
    pub(crate) fn new() -> Self {
        Self::at(Timestamp::from_secs(4_000_000_000))
    }

    pub(crate) fn at(now: Timestamp) -> Self {
        let clock = ManualClock::at(now);
        let state = tempfile::tempdir().unwrap();
        let environment = Environment {
            state: Some(state.path().to_owned()),
            writer_key: None,
            host: "test-host".to_owned(),
            clock: Clock::Manual(clock.clone()),
        };
        let options = InitOptions {
            chunker: ChunkerParameters { min_bytes: 512, average_bytes: 2048, max_bytes: 8192 },
            block_bytes: 64 << 10,
            pack_bytes: 256 << 10,
            ..InitOptions::default()
        };
        // A command slot: opening it costs no Argon2, which these tests are not about.
        let locks = [(Lock::Command(Secret::new(vec![7; 32])), "test".to_owned())];
        let store = Arc::new(MemoryStore::with_clock(Clock::Manual(clock.clone())));
        let repository = Repository::init(store, &locks, &options, environment).unwrap();
        Self { clock, repository: Arc::new(repository), _state: state }
    }

    pub(crate) fn writer(&self) -> SnapshotWriter {
        let source = SnapshotSource {
            dataset: DatasetName::new("tree").unwrap(),
            store: lifeboat_store_files::STORE.to_owned(),
            source: "/tree".to_owned(),
            lineage: None,
            program: "test".to_owned(),
        };
        SnapshotWriter::begin(&self.repository, source).unwrap()
    }

    pub(crate) fn try_backup(
        &self,
        root: &Path,
        options: FilesOptions,
    ) -> Result<(SnapshotReport, Published), FilesError> {
        self.clock.advance(Duration::from_secs(3600));
        let mut writer = self.writer();
        let report = FilesDriver::new(root, options).snapshot(&mut writer, &Progress::default())?;
        let published = writer.finish(report.root.clone())?;
        Ok((report, published))
    }

    pub(crate) fn backup(&self, root: &Path) -> (SnapshotReport, Published) {
        self.try_backup(root, FilesOptions::default()).unwrap()
    }

    pub(crate) fn try_restore(
        &self,
        published: &Published,
        into: &Path,
        patterns: &[&str],
    ) -> Result<Report, MaterialiseError> {
        let reader = Reader::new(&self.repository).unwrap();
        let tree = SnapshotTree { reader: &reader, snapshot: &published.snapshot, threads: 2 };
        let include = Include::new(Patterns::parse(patterns).unwrap());
        let options =
            Options { include: &include, window_bytes: WINDOW_BYTES, progress: &Progress::default() };
        materialise(&tree, Directory::open_root(into).unwrap(), options)
    }

    /// Restores everything into a new directory, which must work without a remark.
    pub(crate) fn restore(&self, published: &Published) -> tempfile::TempDir {
        let into = tempfile::tempdir().unwrap();
        let report = self.try_restore(published, into.path(), &[]).unwrap();
        assert!(report.left_out.is_empty() && report.refused.is_empty(), "{report:?}");
        into
    }

    /// Snapshot and back.
    pub(crate) fn round_trip(&self, root: &Path) -> tempfile::TempDir {
        let (report, published) = self.backup(root);
        assert!(report.left_out.is_empty() && report.torn.is_empty(), "{report:?}");
        self.restore(&published)
    }
}

/// Everything of a path that a restore must bring back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub mode: u32,
    pub owner: (u32, u32),
    pub modified: (i64, i64),
    pub content: Vec<u8>,
    pub device: u64,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first path of the same file.
    pub same_as: Vec<u8>,
    /// For files, whether nearly nothing of them is allocated.
    pub mostly_holes: bool,
}

/// A tree by path, the root as the empty one.
pub(crate) type Tree = BTreeMap<Vec<u8>, Seen>;

pub(crate) fn look(root: &Path) -> Tree {
    let (mut tree, mut inodes) = (Tree::new(), BTreeMap::new());
    look_at(root, Vec::new(), &mut tree, &mut inodes);
    tree
}

fn look_at(path: &Path, relative: Vec<u8>, tree: &mut Tree, inodes: &mut BTreeMap<u64, Vec<u8>>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    let kind = metadata.file_type();
    let content = if kind.is_file() {
        fs::read(path).unwrap()
    } else if kind.is_symlink() {
        fs::read_link(path).unwrap().as_os_str().as_bytes().to_vec()
    } else {
        Vec::new()
    };
    let is_device = kind.is_char_device() || kind.is_block_device();
    let same_as = inodes.entry(metadata.ino()).or_insert_with(|| relative.clone()).clone();
    let seen = Seen {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        content,
        device: if is_device { metadata.rdev() } else { 0 },
        xattrs: xattrs(path),
        same_as,
        mostly_holes: kind.is_file() && metadata.blocks() * 512 < metadata.size() / 2,
    };
    tree.insert(relative.clone(), seen);
    if kind.is_dir() {
        let mut names: Vec<_> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            let below = if relative.is_empty() {
                name.as_bytes().to_vec()
            } else {
                [&relative[..], name.as_bytes()].join(&b'/')
            };
            look_at(&path.join(&name), below, tree, inodes);
        }
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let (mut names, mut value) = (vec![0; 65536], vec![0; 65536]);
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let names = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty());
    names
        .map(|name| {
            let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect()
}

/// Compares trees path by path, so that a failure names the path.
pub(crate) fn assert_same(left: &Tree, right: &Tree) {
    let paths =
        |tree: &Tree| tree.keys().map(|path| String::from_utf8_lossy(path).into_owned()).collect::<Vec<_>>();
    assert_eq!(paths(left), paths(right));
    for (path, seen) in left {
        assert_eq!(seen, &right[path], "{}", String::from_utf8_lossy(path));
    }
}

pub(crate) fn write(path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
    use std::io::Write;
    fs::File::create(path).unwrap().write_all(bytes.as_ref()).unwrap();
}

pub(crate) fn name(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(bytes))
}

#[expect(clippy::print_stderr, reason = "a skipped test must be seen")]
pub(crate) fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED, needs root: {test}");
    }
    root
}

/// Runs one test of this binary as a user who may do nothing, with a directory for it.
pub(crate) fn as_nobody(test: &str, directory: &Path) {
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    // The build directory need not be open to everybody.
    let program = directory.join("tests-of-nobody");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let output = std::process::Command::new(&program)
        .args(["--exact", test, "--ignored", "--nocapture"])
        .env("LIFEBOAT_TEST_DIRECTORY", directory)
        .env("TMPDIR", "/tmp")
        .current_dir("/")
        .uid(NOBODY)
        .gid(NOBODY)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(crate) use materialise::Report as RestoreReport;
