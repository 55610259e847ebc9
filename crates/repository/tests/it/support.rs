//! A repository in memory with a small tree in it, and the means to look at it again.

use lifeboat_base::Secret;
use lifeboat_base::clock::{Clock, ManualClock, Timestamp};
use lifeboat_objects::memory::MemoryStore;
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::tree::{Entry, EntryKind, Metadata};
use lifeboat_repository::{
    ChunkerParameters, Descend, Environment, InitOptions, Lock, Published, Reader, Repository,
    RepositoryError, Request, SnapshotSource, SnapshotWriter, Unlock,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Files by path: what a snapshot is made of and what it must give back.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) struct House {
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) clock: ManualClock,
    pub(crate) state: tempfile::TempDir,
    pub(crate) repository: Arc<Repository>,
}

pub(crate) fn passphrase() -> Secret {
    Secret::new(b"correct horse".to_vec())
}

pub(crate) fn small_options() -> InitOptions {
    InitOptions {
        lease: Duration::from_secs(60),
        grace: Duration::ZERO,
        chunker: ChunkerParameters { min_bytes: 512, average_bytes: 2048, max_bytes: 8192 },
        block_bytes: 16 << 10,
        pack_bytes: 64 << 10,
        compression_level: 3,
    }
}

pub(crate) fn environment(state: &Path, clock: &ManualClock) -> Environment {
    Environment {
        state: Some(state.to_owned()),
        writer_key: None,
        host: "test-host".to_owned(),
        clock: Clock::Manual(clock.clone()),
    }
}

impl House {
    pub(crate) fn new() -> Self {
        let clock = ManualClock::at(Timestamp::from_secs(1_800_000_000));
        let store = Arc::new(MemoryStore::with_clock(Clock::Manual(clock.clone())));
        let state = tempfile::tempdir().unwrap();
        // A command slot: opening it costs no Argon2, which these tests are not about.
        let lock = Lock::Command(Secret::new(vec![7; 32]));
        let environment = environment(state.path(), &clock);
        let repository =
            Repository::init(store.clone(), &[(lock, "test".to_owned())], &small_options(), environment)
                .unwrap();
        Self { store, clock, state, repository: Arc::new(repository) }
    }

    pub(crate) fn unlock() -> Unlock {
        Unlock::Command(Secret::new(vec![7; 32]))
    }

    /// Opens the repository again, as another machine of this name would: its own state, its own writer.
    pub(crate) fn open_elsewhere(&self, state: &Path) -> Result<Arc<Repository>, RepositoryError> {
        Repository::open(self.store.clone(), &Self::unlock(), environment(state, &self.clock)).map(Arc::new)
    }

    pub(crate) fn backup(&self, files: &Files) -> Published {
        self.clock.advance(Duration::from_secs(60));
        backup(&self.repository, "data", files).unwrap()
    }
}

pub(crate) fn dataset(name: &str) -> DatasetName {
    DatasetName::new(name).unwrap()
}

pub(crate) fn source(name: &str) -> SnapshotSource {
    SnapshotSource {
        dataset: dataset(name),
        store: "files".to_owned(),
        source: "/data".to_owned(),
        lineage: None,
        program: "test".to_owned(),
    }
}

pub(crate) fn backup(
    repository: &Arc<Repository>,
    name: &str,
    files: &Files,
) -> Result<Published, RepositoryError> {
    let mut writer = SnapshotWriter::begin(repository, source(name))?;
    write_files(&mut writer, files)?;
    writer.finish(Metadata::default())
}

/// Writes files with one level of directories: `dir/name` or `name`.
pub(crate) fn write_files(writer: &mut SnapshotWriter, files: &Files) -> Result<(), RepositoryError> {
    let mut top: BTreeMap<&str, Vec<(&str, &[u8])>> = BTreeMap::new();
    for (path, content) in files {
        match path.split_once('/') {
            Some((directory, name)) => top.entry(directory).or_default().push((name, content)),
            None => top.entry(path).or_default().push(("", content)),
        }
    }
    for (name, entries) in top {
        if entries[0].0.is_empty() {
            write_file(writer, name, entries[0].1)?;
            continue;
        }
        writer.enter(name.as_bytes());
        for (file, content) in entries {
            write_file(writer, file, content)?;
        }
        writer.leave(Entry::new(name, EntryKind::Directory))?;
    }
    Ok(())
}

fn write_file(writer: &mut SnapshotWriter, name: &str, content: &[u8]) -> Result<(), RepositoryError> {
    let mut entry = Entry::new(name, EntryKind::File);
    let base = writer.base_entry(name.as_bytes());
    let stored = if name.ends_with(".db") {
        writer.pages(512, base.as_ref().map(|entry| &entry.content), &mut &*content)?
    } else {
        writer.content(name.as_bytes(), Vec::new(), &mut &*content)?
    };
    entry.size = stored.bytes;
    entry.content = stored.content;
    writer.add(entry)
}

/// Everything that a snapshot holds.
pub(crate) fn restore(repository: &Arc<Repository>, published: &Published) -> Result<Files, RepositoryError> {
    let reader = Reader::new(repository)?;
    let mut sizes = Vec::new();
    let mut requests = Vec::new();
    reader.walk(&published.snapshot, &mut |directory, entry| {
        if entry.kind == EntryKind::File {
            let directory = String::from_utf8(directory.to_vec()).unwrap();
            let name = String::from_utf8(entry.name.clone()).unwrap();
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let file = sizes.len() as u64;
            sizes.push((path, entry.size));
            reader.pieces(entry, &mut |piece| {
                requests.push(Request {
                    source: piece.source,
                    length: piece.length,
                    token: file << 40 | piece.offset,
                });
                Ok::<_, RepositoryError>(())
            })?;
        }
        Ok::<_, RepositoryError>(Descend::Yes)
    })?;
    let files: Vec<Mutex<Vec<u8>>> =
        sizes.iter().map(|(_, size)| Mutex::new(vec![0; *size as usize])).collect();
    reader.fetch(requests, 2, &|token, bytes| {
        let (file, offset) = ((token >> 40) as usize, (token & ((1 << 40) - 1)) as usize);
        files[file].lock().unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    })?;
    Ok(sizes
        .into_iter()
        .map(|(path, _)| path)
        .zip(files.into_iter().map(|f| f.into_inner().unwrap()))
        .collect())
}

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..bytes)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

pub(crate) fn sample(seed: u64) -> Files {
    let mut files = Files::new();
    files.insert("empty".to_owned(), Vec::new());
    files.insert("big.bin".to_owned(), noise(seed, 200_000));
    files.insert("zeros".to_owned(), vec![0; 50_000]);
    for n in 0..40 {
        files.insert(format!("dir/{n:03}.txt"), format!("file {n} of {seed} ").repeat(n * 7).into_bytes());
    }
    let mut pages = noise(seed + 1, 512 * 1500);
    pages[512 * 3..512 * 9].fill(0);
    files.insert("app.db".to_owned(), pages);
    files
}
