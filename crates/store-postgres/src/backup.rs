//! A base backup, streamed from the server straight into a snapshot.
//!
//! The snapshot's tree is the data directory. A tablespace that lies elsewhere is the folder `pg_tblspc/OID` in
//! it, and the facts say where it lay. The manifest is the file `backup_manifest`, as `pg_basebackup` leaves it.
//! Large files of relations are page maps, so that a later snapshot stores only the pages that changed.

use crate::archive::{Part, Parts};
use crate::cluster::Cluster;
use crate::error::{PostgresStoreError, Result};
use crate::facts::{SnapshotFacts, Tablespace};
use crate::tree::Folder;
use lifeboat_base::clock::{Clock, Timestamp};
use lifeboat_postgres_wal::Lsn;
use lifeboat_repository::tree::{Content, Entry, EntryKind, FileTime, Metadata, display_bytes};
use lifeboat_repository::{Descend, RepositoryError, SnapshotWriter};
use lifeboat_store::progress::Progress;
use lifeboat_wire_postgres::{BaseBackupOptions, Connection, ManifestChecksums};
use std::collections::HashMap;
use std::io::{self, Read};

/// Files of relations from this size on are kept as page maps. Smaller ones are cheaper as chunks, which are
/// shared among databases.
const PAGE_MAP_FROM_BYTES: u64 = 256 << 10;
/// Where tablespaces lie in a data directory.
const TABLESPACES: &str = "pg_tblspc";
/// What the manifest is called.
const MANIFEST: &str = "backup_manifest";

/// How to take a base backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupOptions {
    /// What the server calls the backup in `backup_label`.
    pub label: String,
    /// Begin at once, by a checkpoint that writes as fast as it can, and not with the next regular one.
    pub fast_checkpoint: bool,
    /// At most so many KiB a second, by the server's own throttle.
    pub max_rate_kib: Option<u32>,
}

/// What only a session for SQL can tell, where one may be had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The message that was written into the WAL.
    pub marker: Option<String>,
    /// The role that the cluster was made with.
    pub superuser: Option<String>,
}

/// A base backup that has been read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenBackup {
    /// What a restore must know.
    pub facts: SnapshotFacts,
    /// The data directory's own metadata, to finish the snapshot with.
    pub root: Metadata,
    /// The instant that the snapshot shows: everything committed before it is in it.
    pub taken: Timestamp,
}

/// Reads a base backup into a snapshot that is being written. The caller makes sure of the WAL: the snapshot may
/// be published once the log is durable from [`SnapshotFacts::first_needed`] to [`SnapshotFacts::stop`].
///
/// `begun` is called with the position that redo begins at, once the server has made its checkpoint and sends: what is
/// written into the WAL then is in the part that every restore replays.
///
/// # Errors
/// Where the server or the repository fails: then nothing is published.
pub fn stream_backup(
    connection: Connection,
    cluster: &Cluster,
    options: &BackupOptions,
    writer: &mut SnapshotWriter,
    begun: &mut dyn FnMut(Lsn) -> Asked,
    progress: &Progress,
) -> Result<TakenBackup> {
    let base = base_maps(writer)?;
    let backup = connection.base_backup(&BaseBackupOptions {
        label: options.label.clone(),
        fast_checkpoint: options.fast_checkpoint,
        max_rate_kib: options.max_rate_kib,
        // Links are told by the facts; a map would be one of the manifest's files, and wrong after a restore.
        tablespace_map: false,
        // As `pg_basebackup` has it. SHA-256 would keep one of the server's cores busy, and what we keep is named
        // by its own hashes.
        checksums: ManifestChecksums::Crc32c,
        ..BaseBackupOptions::default()
    })?;
    let (start, timeline) = backup.start();
    let tablespaces: Vec<Tablespace> = backup
        .tablespaces()
        .iter()
        .filter_map(|space| Some(Tablespace { oid: space.oid?, location: space.location.clone()? }))
        .collect();
    let Asked { marker, superuser } = begun(start);
    let mut taking = Taking {
        parts: Parts::new(backup),
        writer,
        tree: Folder::default(),
        base,
        block_bytes: cluster.block_bytes,
        tablespaces,
        progress,
        root: None,
    };
    taking.all()?;
    let Taking { parts, writer, tree, tablespaces, root, .. } = taking;
    let (end, _) = parts.finish()?;
    let taken = Clock::System.now();
    if end.timeline != timeline {
        return Err(PostgresStoreError::PromotedMeanwhile { from: timeline, to: end.timeline });
    }
    let root = root.unwrap_or_else(|| Metadata { mode: 0o700, ..Metadata::default() });
    tree.write(writer, &root)?;
    let facts = SnapshotFacts {
        system: cluster.system,
        timeline,
        start,
        stop: end.end,
        server_version: cluster.server_version,
        block_bytes: cluster.block_bytes,
        segment: cluster.segment,
        checksums: cluster.checksums,
        tablespaces,
        marker,
        superuser,
    };
    facts.write(writer);
    writer.set_taken(taken);
    Ok(TakenBackup { facts, root, taken })
}

/// The page maps of the snapshot that this one builds on, by path.
fn base_maps(writer: &SnapshotWriter) -> Result<HashMap<Vec<u8>, Content>, RepositoryError> {
    let mut maps = HashMap::new();
    writer.walk_base(&mut |directory: &[u8], entry: &Entry| {
        if matches!(entry.content, Content::Pages { .. }) {
            maps.insert([directory, &entry.name].join(&b'/'), entry.content.clone());
        }
        Ok::<_, RepositoryError>(Descend::Yes)
    })?;
    Ok(maps)
}

/// A base backup being read.
struct Taking<'t> {
    parts: Parts,
    writer: &'t mut SnapshotWriter,
    tree: Folder,
    base: HashMap<Vec<u8>, Content>,
    block_bytes: u32,
    tablespaces: Vec<Tablespace>,
    progress: &'t Progress,
    root: Option<Metadata>,
}

impl Taking<'_> {
    fn all(&mut self) -> Result<()> {
        while let Some(part) = self.parts.next_part()? {
            let done = match part {
                Part::Archive { location } => {
                    self.below(location.as_deref()).and_then(|below| self.archive(&below))
                }
                Part::Manifest => self.manifest(),
            };
            // What the server said explains more than that reading its stream failed.
            if let Some(failure) = self.parts.take_failure() {
                return Err(failure.into());
            }
            done?;
        }
        Ok(())
    }

    /// The folder of the tree that an archive's paths are relative to.
    fn below(&self, location: Option<&str>) -> Result<String> {
        let Some(location) = location else { return Ok(String::new()) };
        let known = self.tablespaces.iter().find(|space| space.location == location);
        let known = known.ok_or_else(|| PostgresStoreError::Stream {
            what: format!("an archive of a tablespace at {location}, which was not announced"),
            source: None,
        })?;
        Ok(format!("{TABLESPACES}/{}", known.oid))
    }

    fn archive(&mut self, below: &str) -> Result<()> {
        let mut archive = tar::Archive::new(&mut self.parts);
        let torn =
            |error| PostgresStoreError::Stream { what: "a damaged archive".to_owned(), source: Some(error) };
        for entry in archive.entries().map_err(torn)? {
            let mut file = entry.map_err(torn)?;
            let metadata = metadata(file.header()).map_err(torn)?;
            let name = file.path_bytes().into_owned();
            let path = path_in_tree(below, &name);
            let unfit = |_| PostgresStoreError::Stream {
                what: format!("the impossible path {}", display_bytes(&path)),
                source: None,
            };
            match file.header().entry_type() {
                tar::EntryType::Directory => self.tree.add_folder(&path, metadata).map_err(unfit)?,
                tar::EntryType::Regular => {
                    if self.root.is_none() {
                        self.root = Some(root_metadata(&metadata));
                    }
                    let size = file.size();
                    let mut counted = Counted { inner: &mut file, progress: self.progress };
                    let sink =
                        ContentSink { writer: self.writer, base: &self.base, block_bytes: self.block_bytes };
                    let content = sink.store(&path, size, &mut counted)?;
                    let entry = Entry { size, metadata, content, ..Entry::new(Vec::new(), EntryKind::File) };
                    self.tree.add(&path, entry).map_err(unfit)?;
                }
                // The folder of a tablespace comes in an archive of its own.
                tar::EntryType::Symlink if path.starts_with(TABLESPACES.as_bytes()) => {}
                other => {
                    return Err(PostgresStoreError::Stream {
                        what: format!("{} of kind {other:?}", display_bytes(&path)),
                        source: None,
                    });
                }
            }
        }
        Ok(())
    }

    fn manifest(&mut self) -> Result<()> {
        let stored = self.writer.content(MANIFEST.as_bytes(), Vec::new(), &mut self.parts)?;
        let mut entry = Entry::new(Vec::new(), EntryKind::File);
        (entry.size, entry.content) = (stored.bytes, stored.content);
        let root = self.root.clone().unwrap_or_default();
        entry.metadata = Metadata { mode: 0o600, links: 1, ..root };
        // Only a path out of the tree is unfit, and this one is a name.
        let _ = self.tree.add(MANIFEST.as_bytes(), entry);
        Ok(())
    }
}

struct ContentSink<'s> {
    writer: &'s mut SnapshotWriter,
    base: &'s HashMap<Vec<u8>, Content>,
    block_bytes: u32,
}

impl ContentSink<'_> {
    fn store(self, path: &[u8], size: u64, read: &mut dyn Read) -> Result<Content, RepositoryError> {
        let whole_pages = size.is_multiple_of(u64::from(self.block_bytes));
        let stored = if size >= PAGE_MAP_FROM_BYTES && whole_pages && is_relation(path) {
            self.writer.pages(self.block_bytes, self.base.get(path), read)?
        } else {
            self.writer.content(path, Vec::new(), read)?
        };
        Ok(stored.content)
    }
}

/// Whether a path is that of a relation: its file is called by a number, and lies where relations lie.
fn is_relation(path: &[u8]) -> bool {
    let mut components = path.split(|byte| *byte == b'/');
    let place: &[u8] = components.next().unwrap_or_default();
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let placed = matches!(place, b"base" | b"global" | b"pg_tblspc");
    placed && name.first().is_some_and(u8::is_ascii_digit)
}

/// Where in the tree a member of an archive lies. A path that begins at the root would be nobody's relation.
fn path_in_tree(below: &str, name: &[u8]) -> Vec<u8> {
    let name = name.strip_suffix(b"/").unwrap_or(name);
    let name = name.strip_prefix(b"./").unwrap_or(name);
    if below.is_empty() { name.to_vec() } else { [below.as_bytes(), name].join(&b'/') }
}

fn metadata(header: &tar::Header) -> io::Result<Metadata> {
    Ok(Metadata {
        mode: header.mode()? & 0o7777,
        uid: u32::try_from(header.uid()?).map_err(io::Error::other)?,
        gid: u32::try_from(header.gid()?).map_err(io::Error::other)?,
        modified: FileTime { secs: i64::try_from(header.mtime()?).map_err(io::Error::other)?, nanos: 0 },
        links: 1,
        ..Metadata::default()
    })
}

/// The data directory belongs to whom its files belong. Group access to files is group access to it.
fn root_metadata(file: &Metadata) -> Metadata {
    let mode = if file.mode & 0o040 == 0 { 0o700 } else { 0o750 };
    Metadata { mode, ..file.clone() }
}

struct Counted<'r> {
    inner: &'r mut dyn Read,
    progress: &'r Progress,
}

impl Read for Counted<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(into)?;
        self.progress.count_bytes(bytes as u64);
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_the_data_directory_is_named_from_there() {
        assert!(is_relation(&path_in_tree("", b"base/5/1259")));
        assert!(is_relation(&path_in_tree("", b"./base/5/1259")));
        assert_eq!(path_in_tree("", b"pg_tblspc/16400"), b"pg_tblspc/16400");
        assert_eq!(path_in_tree("pg_tblspc/16400", b"PG_15/5/"), b"pg_tblspc/16400/PG_15/5");
    }

    #[test]
    fn relations_are_told_by_their_place_and_name() {
        for path in [
            "base/5/1259",
            "base/5/1259_fsm",
            "base/5/1259.1",
            "global/1262",
            "pg_tblspc/16400/PG_15_202209061/5/16401",
        ] {
            assert!(is_relation(path.as_bytes()), "{path}");
        }
        for path in [
            "base/5/pg_filenode.map",
            "base/5/PG_VERSION",
            "global/pg_control",
            "pg_xact/0000",
            "backup_label",
            "",
        ] {
            assert!(!is_relation(path.as_bytes()), "{path}");
        }
    }
}
