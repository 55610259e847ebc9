//! Backups that another tool made, taken into the repository as what they are.
//!
//! What pg_dump wrote (an archive in any of its forms, or SQL, packed by gzip or zstd) becomes a snapshot of the
//! store `pg_dump`: its files byte for byte as they were, so that checksums and signatures that somebody keeps of
//! them still hold. A packed stream changes everywhere when one row changes, so that dumps of many days share
//! little; [`ImportOptions::unpack`] keeps the content instead, which shares nearly everything, and gives back the
//! file without its packing. What cannot be restored is refused before anything is kept: each dump is read to its
//! end first.
//!
//! A folder `backup_YYYYMMDD_HHMMSS` is imported as what it holds, thing by thing, as of the time in its name.
//!
//! It deliberately knows no server: whether a dump can really be restored is for [`prove_dump`] to say.

mod dump;
mod error;
mod names;
mod prove;
mod time;
mod tools;

pub use dump::{Dump, DumpFormat, DumpHead, DumpTime, Packing};
pub use error::ImportError;
pub use prove::{DumpProof, DumpQuestions, prove_dump};
pub use time::{Of, Taken};
pub use tools::Checked;

use crate::error::{RecoveryError, Result};
use crate::protect::{
    CountedReader, ProtectOptions, ProtectReport, Taken as Snapshot, file_metadata, folder_of, index_notes,
    protect_as_of, source,
};
use crate::target::Target;
use jiff::tz::TimeZone;
use lifeboat_base::clock::{Clock, Stopwatch, Timestamp};
use lifeboat_postgres_server::Installation;
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::tree::{Entry, EntryKind, Metadata};
use lifeboat_repository::{Published, Repository, SnapshotWriter};
use lifeboat_store::exclude::{Exclude, Patterns};
use lifeboat_store::progress::Progress;
use lifeboat_store_files::{FilesDriver, FilesOptions};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the store of a dump is called in a snapshot.
pub const STORE: &str = "pg_dump";

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// The database that it is of, where the dump does not say.
    pub database: Option<String>,
    /// The instant that it shows; `None`: as the dump, its name or its file say.
    pub taken: Option<Timestamp>,
    /// The time zone of local times; `None`: this machine's.
    pub zone: Option<TimeZone>,
    /// Keep what is packed by gzip or zstd without its packing.
    pub unpack: bool,
    /// Whose pg_restore reads an archive through; `None`: the oldest found here that is new enough.
    pub installation: Option<Installation>,
}

/// Something that was imported.
#[derive(Debug)]
pub struct Imported {
    /// As which dataset.
    pub dataset: DatasetName,
    /// What it came from.
    pub path: PathBuf,
    /// The snapshot, whose facts say what it is.
    pub report: ProtectReport,
    /// The instant that it shows, and who says so.
    pub taken: Taken,
}

/// Imports what another tool made.
///
/// # Errors
/// Where it is nothing that can be imported, or damaged, or not whole, or of no certain instant: then nothing is
/// published. Of a folder, what was published before stays.
pub fn import(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
    path: &Path,
    options: &ImportOptions,
    progress: &Progress,
) -> Result<Vec<Imported>> {
    let path = std::path::absolute(path).map_err(RecoveryError::io("resolve", path))?;
    let import = Import { repository, options, progress };
    if let Some(dump) = Dump::recognise(&path)? {
        return Ok(vec![import.dump(dataset, &dump, None)?]);
    }
    if path.is_dir() && time::in_folder_name(&path).is_some() {
        return import.folder(dataset, &path);
    }
    Err(ImportError::NotABackup(path).into())
}

struct Import<'i> {
    repository: &'i Arc<Repository>,
    options: &'i ImportOptions,
    progress: &'i Progress,
}

impl Import<'_> {
    fn zone(&self) -> TimeZone {
        self.options.zone.clone().unwrap_or_else(TimeZone::system)
    }

    /// `folder` is the folder of backups that it lies in, whose name says of when it is.
    fn dump(&self, dataset: &DatasetName, dump: &Dump, folder: Option<&Path>) -> Result<Imported> {
        let watch = Stopwatch::start();
        let taken = time::of_dump(dump, folder, self.options.taken, &self.zone())?;
        let before = stamp(&dump.path)?;
        let checked = tools::check(dump, self.options.installation.as_ref())?;
        let what = source(dataset, STORE, &dump.path.display().to_string());
        let mut writer = SnapshotWriter::begin(self.repository, what)?;
        let mut notes = index_notes(&writer);
        let root = match dump.format {
            DumpFormat::Directory => self.store_directory(&mut writer, &dump.path)?,
            _ => self.store_file(&mut writer, dump)?,
        };
        if stamp(&dump.path)? != before {
            return Err(ImportError::Changed(dump.path.clone()).into());
        }
        self.remember(&mut writer, dump, &checked, &taken);
        writer.set_taken(taken.at);
        let published = writer.finish(root)?;
        if let Checked::HeadOnly { needed } = checked {
            notes.push(format!(
                "only the head of the archive was read: there is no pg_restore of version {needed} or newer here that could read all of it"
            ));
        }
        let report = Snapshot::whole(published, notes).after(watch.elapsed());
        Ok(Imported { dataset: dataset.clone(), path: dump.path.clone(), report, taken })
    }

    /// What a restore and a person want to know of it.
    fn remember(&self, writer: &mut SnapshotWriter, dump: &Dump, checked: &Checked, taken: &Taken) {
        let unpacked = self.options.unpack && dump.packing != Packing::None;
        let packing = if unpacked { Packing::None } else { dump.packing };
        let head = &dump.head;
        let begun = head.begun.map(|begun| begun.local.to_string());
        let database = self.options.database.clone().or_else(|| head.database.clone());
        for (name, value) in [
            ("format", Some(dump.format.word().to_owned())),
            ("packing", Some(packing.word().to_owned())),
            ("unpacked-from", unpacked.then(|| dump.packing.word().to_owned())),
            ("archive-version", head.archive_version.clone()),
            ("compression", head.compression.clone()),
            ("database", database),
            ("server-version", head.server_version.clone()),
            ("dump-version", head.dump_version.clone()),
            ("dump-local-time", begun),
            ("taken-from", Some(taken.from.word().to_owned())),
            ("taken-zone", taken.zone.clone()),
            ("checked", Some(checked.to_string())),
        ] {
            if let Some(value) = value {
                writer.set_fact(name, value);
            }
        }
    }

    fn store_file(&self, writer: &mut SnapshotWriter, dump: &Dump) -> Result<Metadata> {
        let path = &dump.path;
        let mut entry = Entry::new(self.stored_name(dump), EntryKind::File);
        entry.metadata = file_metadata(path)?;
        let mut content: Box<dyn Read + Send> = match self.options.unpack {
            true => dump.unpacked()?,
            false => Box::new(File::open(path).map_err(RecoveryError::io("open", path))?),
        };
        let mut counted = CountedReader { stream: &mut *content, progress: self.progress };
        let stored = writer.content(&entry.name, Vec::new(), &mut counted)?;
        (entry.size, entry.content) = (stored.bytes, stored.content);
        let folder = folder_of(&entry.metadata);
        writer.add(entry)?;
        Ok(folder)
    }

    /// A file that is kept without its packing loses the name of that.
    fn stored_name(&self, dump: &Dump) -> Vec<u8> {
        let name = dump.path.file_name().unwrap_or(STORE.as_ref()).as_bytes();
        let endings: &[&[u8]] = match dump.packing {
            Packing::Gzip if self.options.unpack => &[b".gz", b".gzip"],
            Packing::Zstd if self.options.unpack => &[b".zst", b".zstd"],
            _ => &[],
        };
        let bare = endings.iter().find_map(|ending| name.strip_suffix(*ending));
        bare.filter(|bare| !bare.is_empty()).unwrap_or(name).to_vec()
    }

    fn store_directory(&self, writer: &mut SnapshotWriter, path: &Path) -> Result<Metadata> {
        let report = FilesDriver::new(path, FilesOptions::default()).snapshot(writer, self.progress)?;
        if !report.torn.is_empty() {
            return Err(ImportError::Changed(path.to_owned()).into());
        }
        match report.left_out.count {
            0 => Ok(report.root),
            count => Err(ImportError::Incomplete { path: path.to_owned(), count }.into()),
        }
    }

    /// Imports a folder thing by thing. What is nothing of its own is kept together, as files.
    fn folder(&self, dataset: &DatasetName, path: &Path) -> Result<Vec<Imported>> {
        let taken = time::of_folder(path, self.options.taken, &self.zone())?;
        let (things, rest) = things_in(path)?;
        if things.is_empty() && rest == 0 {
            return Err(ImportError::Empty(path.to_owned()).into());
        }
        let alone = things.len() == 1 && rest == 0;
        let names = names_of(dataset, &things, alone)?;
        let mut imported = Vec::new();
        for (thing, name) in things.iter().zip(&names) {
            imported.push(match &thing.what {
                What::Dump(dump) => self.dump(name, dump, Some(path))?,
                What::Database => {
                    let target = Target::Sqlite(thing.path.clone());
                    self.as_of(name, &thing.path, &target, Exclude::default(), &taken)?
                }
            });
        }
        if rest > 0 {
            let target = Target::Files(path.to_owned());
            imported.push(self.as_of(dataset, path, &target, without(&things)?, &taken)?);
        }
        Ok(imported)
    }

    fn as_of(
        &self,
        dataset: &DatasetName,
        path: &Path,
        target: &Target,
        exclude: Exclude,
        taken: &Taken,
    ) -> Result<Imported> {
        let options = ProtectOptions { exclude, ..ProtectOptions::default() };
        let report = protect_as_of(self.repository, dataset, target, &options, taken.at, self.progress)?;
        Ok(Imported { dataset: dataset.clone(), path: path.to_owned(), report, taken: taken.clone() })
    }
}

/// Something in a folder of backups that is something of its own.
struct Thing {
    path: PathBuf,
    what: What,
}

enum What {
    Dump(Box<Dump>),
    Database,
}

/// What lies in a folder, by name, and how much else.
fn things_in(folder: &Path) -> Result<(Vec<Thing>, usize)> {
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(RecoveryError::io("list", folder))? {
        paths.push(entry.map_err(RecoveryError::io("list", folder))?.path());
    }
    paths.sort();
    let (mut things, mut rest) = (Vec::new(), 0);
    for path in paths {
        let is_link = path.symlink_metadata().is_ok_and(|stat| stat.is_symlink());
        let dump = if is_link { None } else { Dump::recognise(&path)? };
        let what = match dump {
            Some(dump) => Some(What::Dump(Box::new(dump))),
            None if !is_link && matches!(Target::detect(&path), Ok(Target::Sqlite(_))) => {
                Some(What::Database)
            }
            None => None,
        };
        match what {
            Some(what) => things.push(Thing { path, what }),
            None => rest += 1,
        }
    }
    Ok((things, rest))
}

/// What each thing is called: as the dataset where it is alone, else with its own name behind.
fn names_of(dataset: &DatasetName, things: &[Thing], alone: bool) -> Result<Vec<DatasetName>> {
    let (mut names, mut seen) = (Vec::new(), BTreeSet::new());
    for thing in things {
        let name = match alone {
            true => dataset.clone(),
            false => DatasetName::new(&format!("{dataset}-{}", bare_name(&thing.path)))?,
        };
        if !seen.insert(name.clone()) {
            return Err(ImportError::SameName { dataset: name, path: thing.path.clone() }.into());
        }
        names.push(name);
    }
    Ok(names)
}

/// A file's name up to its first dot, made to fit into the name of a dataset.
fn bare_name(path: &Path) -> String {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let bare = name.trim_start_matches('.').split('.').next().unwrap_or_default();
    let fit = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' };
    bare.chars().map(fit).take(60).collect()
}

/// Everything but these, which lie at the root.
fn without(things: &[Thing]) -> Result<Exclude> {
    let literal = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.chars().fold(String::from("/"), |quoted, c| match c {
            '*' | '?' | '[' | ']' | '\\' | '!' => quoted + "\\" + c.encode_utf8(&mut [0; 4]),
            c => quoted + c.encode_utf8(&mut [0; 4]),
        })
    };
    let patterns: Vec<String> = things.iter().map(|thing| literal(&thing.path)).collect();
    Ok(Exclude { patterns: Patterns::parse(&patterns)?, ..Exclude::default() })
}

/// What tells that a file was written to.
fn stamp(path: &Path) -> Result<(u64, i64, i64, u64)> {
    let stat = std::fs::metadata(path).map_err(RecoveryError::io("look at", path))?;
    Ok((stat.len(), stat.mtime(), stat.mtime_nsec(), stat.ino()))
}

impl std::fmt::Display for Checked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Through(what) => write!(f, "read through by {what}"),
            Self::HeadOnly { .. } => f.write_str("head only"),
        }
    }
}

/// A file's own time, for what says nothing else.
fn file_time(path: &Path) -> Result<Timestamp> {
    let stat = std::fs::metadata(path).map_err(RecoveryError::io("look at", path))?;
    let nanos = u64::try_from(stat.mtime_nsec()).unwrap_or(0);
    Ok(Timestamp::from_secs(stat.mtime()).plus(std::time::Duration::from_nanos(nanos)))
}

fn now() -> Timestamp {
    Clock::System.now()
}

/// Whether a snapshot is one of a dump.
pub(crate) fn is_dump(published: &Published) -> bool {
    published.snapshot.store == STORE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_of_a_folder_are_told_apart_by_their_names() {
        let dataset = DatasetName::new("aragora").unwrap();
        let thing = |name: &str| Thing { path: PathBuf::from(name), what: What::Database };
        let of = |names: &[&str], alone| {
            let things: Vec<Thing> = names.iter().map(|name| thing(name)).collect();
            names_of(&dataset, &things, alone).map(|names| names.iter().map(ToString::to_string).collect())
        };
        let names: Vec<String> = of(&["/b/aragora_users.db", "/b/Debates.v1.db"], false).unwrap();
        assert_eq!(names, ["aragora-aragora_users", "aragora-debates"]);
        let alone: Vec<String> = of(&["/b/x.db"], true).unwrap();
        assert_eq!(alone, ["aragora"]);
        let same: Result<Vec<String>> = of(&["/b/x.db", "/b/x.sql"], false);
        assert!(matches!(same, Err(RecoveryError::Import(ImportError::SameName { .. }))));
    }
}
