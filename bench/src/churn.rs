//! `lifeboat-bench churn`: what many generations of small changes, with forgetting and pruning on the way,
//! cost a repository, beside a fresh one that holds the same snapshots.
//!
//! The newest snapshots are all that retention keeps, so that the fresh repository is fed with the last
//! generations while they exist: the very same trees, inodes and times included. Restoring them and backing
//! up the copies would give every file another inode and burden the fresh repository with it.
//!
//! What a restore reads is the kernel's count of the bytes that its process asked for with `read` and its
//! like (`rchar` in `/proc/PID/io`, taken when the process has ended and before it is reaped). That counts
//! everything that it reads, the repository above all; a few hundred kilobytes are shared libraries, settings
//! and the system's own files, on both sides.

use crate::data;
use crate::draw::Draw;
use crate::error::BenchError;
use crate::lifeboat::{Lifeboat, failed};
use crate::tree;
use lifeboat_base::clock::{Clock, Stopwatch};
use lifeboat_base::crashsafe;
use rusqlite::Connection;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How much more a full restore may read than from the fresh repository, and how much larger the repository
/// may be.
const READS_AT_MOST: f64 = 1.5;
const SIZE_AT_MOST: f64 = 1.3;
/// A row fills most of a page and never overflows it, so that a changed row is a changed page.
const ROW_BYTES: usize = 3500;
const PAGE_BYTES: u64 = 4096;

/// What `churn` was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Churn {
    /// How many generations.
    pub(crate) generations: u32,
    /// How many of the newest snapshots retention keeps.
    pub(crate) keep: u32,
    /// The tree; it is copied, never changed. None: the one that `files` builds.
    pub(crate) tree: Option<PathBuf>,
    /// The size of the database in MiB.
    pub(crate) database_mib: u32,
    /// The work folder.
    pub(crate) dir: PathBuf,
    /// Lifeboat's program.
    pub(crate) lifeboat: PathBuf,
}

/// Runs both and prints a table. 0 where both bounds hold on both, else 3.
///
/// # Errors
/// Where a command fails, or a restore is not what was backed up.
pub(crate) fn run(options: &Churn) -> Result<u8, BenchError> {
    crashsafe::create_dir_all(&options.dir)?;
    let dir = fs::canonicalize(&options.dir).map_err(|e| BenchError::io("find", &options.dir, e))?;
    let began = Clock::System.now();
    let results = [of_tree(options, &dir)?, of_database(options, &dir)?];
    let table = table(options, &began.to_string(), &results);
    crashsafe::replace(&dir.join("churn.md"), table.as_bytes())?;
    crate::print(&table)?;
    Ok(if results.iter().all(Outcome::is_met) { 0 } else { 3 })
}

fn of_tree(options: &Churn, dir: &Path) -> Result<Outcome, BenchError> {
    let original = match &options.tree {
        Some(tree) => tree.clone(),
        None => {
            data::build(dir)?;
            data::tree_path(dir)
        }
    };
    let place = Place::prepare(options, dir, "tree")?;
    shell(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&original).arg(&place.source))?;
    let (source, undo) = (place.source.clone(), place.root.join("undo"));
    place.churn(options, &mut |generation| {
        let folder = format!("new-{generation}");
        data::change_into(&source, &undo, u64::from(generation), &folder)?;
        data::remove_all(&undo)
    })
}

fn of_database(options: &Churn, dir: &Path) -> Result<Outcome, BenchError> {
    let place = Place::prepare(options, dir, "database")?;
    crashsafe::create_dir_all(&place.source)?;
    let path = place.database();
    let rows = u64::from(options.database_mib) * (1 << 20) / PAGE_BYTES;
    make_database(&path, rows).map_err(|e| sqlite(&path, e))?;
    place.churn(options, &mut |generation| {
        change_rows(&path, rows, u64::from(generation)).map_err(|e| sqlite(&path, e))
    })
}

fn sqlite(path: &Path, source: rusqlite::Error) -> BenchError {
    BenchError::io("change the database", path, std::io::Error::other(source))
}

fn make_database(path: &Path, rows: u64) -> rusqlite::Result<()> {
    let mut connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA synchronous = OFF; CREATE TABLE data (id INTEGER PRIMARY KEY, body BLOB NOT NULL)",
    )?;
    let transaction = connection.transaction()?;
    let mut draw = Draw::new(0, "rows");
    for id in 0..rows {
        transaction.execute("INSERT INTO data VALUES (?1, ?2)", (id.cast_signed(), body(&mut draw)))?;
    }
    transaction.commit()
}

/// Changes one row in a hundred: as many pages.
fn change_rows(path: &Path, rows: u64, seed: u64) -> rusqlite::Result<()> {
    let mut connection = Connection::open(path)?;
    let transaction = connection.transaction()?;
    let mut draw = Draw::new(seed, "changed rows");
    for _ in 0..rows / 100 {
        let id = (draw.number() % rows.max(1)).cast_signed();
        transaction.execute("UPDATE data SET body = ?2 WHERE id = ?1", (id, body(&mut draw)))?;
    }
    transaction.commit()
}

/// Half of it compresses.
fn body(draw: &mut Draw) -> Vec<u8> {
    let mut bytes = vec![0; ROW_BYTES];
    draw.fill(&mut bytes);
    bytes[ROW_BYTES / 2..].iter_mut().for_each(|byte| *byte = b'a' + *byte % 8);
    bytes
}

/// Where one of the two is churned.
struct Place {
    what: &'static str,
    root: PathBuf,
    source: PathBuf,
    churned: Lifeboat,
    fresh: Lifeboat,
}

impl Place {
    fn prepare(options: &Churn, dir: &Path, what: &'static str) -> Result<Self, BenchError> {
        let root = dir.join(format!("churn-{what}"));
        data::remove_all(&root)?;
        crashsafe::create_dir_all(&root)?;
        let lifeboat = |which: &str| Lifeboat {
            program: options.lifeboat.clone(),
            folder: root.clone(),
            repository: root.join(which),
            state: root.join(format!("{which}-state")),
            key_file: None,
        };
        let place = Self {
            what,
            source: root.join("source"),
            churned: lifeboat("churned"),
            fresh: lifeboat("fresh"),
            root: root.clone(),
        };
        for each in [&place.churned, &place.fresh] {
            each.json(["repo", "init", "--no-recovery-key"])?;
        }
        Ok(place)
    }

    fn database(&self) -> PathBuf {
        self.source.join("app.db")
    }

    /// What is backed up: the folder, or the database in it.
    fn target(&self) -> PathBuf {
        if self.what == "database" { self.database() } else { self.source.clone() }
    }

    fn churn(
        &self,
        options: &Churn,
        change: &mut dyn FnMut(u32) -> Result<(), BenchError>,
    ) -> Result<Outcome, BenchError> {
        let watch = Stopwatch::start();
        let (mut deleted_packs, mut deleted_bytes, keep) = (0, 0, options.keep.to_string());
        for generation in 1..=options.generations {
            change(generation)?;
            self.back_up(&self.churned)?;
            let pruned = self.churned.json(["prune", "--at-least", &keep])?;
            deleted_packs += pruned["deleted_packs"].as_u64().unwrap_or(0);
            deleted_bytes += pruned["deleted_bytes"].as_u64().unwrap_or(0);
            if generation + options.keep > options.generations {
                self.back_up(&self.fresh)?;
            }
            let size = tree::size_bytes(&self.churned.repository)?;
            let seconds = watch.elapsed().as_secs_f64();
            progress(&format!(
                "{} generation {generation}: {:.1} MB, {seconds:.0} s",
                self.what,
                megabytes(size)
            ));
        }
        let outcome = Outcome {
            what: self.what,
            source_bytes: tree::size_bytes(&self.source)?,
            snapshots: self.same_snapshots()?,
            deleted_packs,
            deleted_bytes,
            stored: Pair::of(self, |lifeboat| tree::size_bytes(&lifeboat.repository))?,
            read: Pair::of(self, |lifeboat| self.restore(lifeboat))?,
        };
        data::remove_all(&self.root)?;
        Ok(outcome)
    }

    fn back_up(&self, lifeboat: &Lifeboat) -> Result<(), BenchError> {
        let target = self.target();
        let args = ["backup".as_ref(), target.as_os_str(), "--name".as_ref(), self.what.as_ref()];
        lifeboat.json(args).map(|_| ())
    }

    /// How many snapshots both repositories hold.
    fn same_snapshots(&self) -> Result<usize, BenchError> {
        let count = |lifeboat: &Lifeboat| {
            lifeboat.json(["points"]).map(|points| points["points"].as_array().map_or(0, Vec::len))
        };
        let (churned, fresh) = (count(&self.churned)?, count(&self.fresh)?);
        if churned == fresh {
            return Ok(churned);
        }
        Err(BenchError::Differ {
            left: self.churned.repository.clone(),
            right: self.fresh.repository.clone(),
            what: format!("{churned} snapshots and {fresh}"),
        })
    }

    /// Restores the newest snapshot, compares it with the source, and answers how many bytes were read.
    fn restore(&self, lifeboat: &Lifeboat) -> Result<u64, BenchError> {
        let into = self.root.join("restored");
        let args = ["restore", self.what, "--to", "latest", "--into"];
        let mut command = lifeboat.command(args);
        let read = bytes_read(command.arg(&into))?;
        tree::compare(&self.source, &into)?;
        data::remove_all(&into)?;
        Ok(read)
    }
}

/// Runs a command to its end and answers how many bytes it read.
fn bytes_read(command: &mut Command) -> Result<u64, BenchError> {
    let program = command.get_program().to_string_lossy().into_owned();
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = command.spawn().map_err(|source| BenchError::Start { program, source })?;
    let waiting = |e: std::io::Error| BenchError::io("wait for", "a process", e);
    // Ended and not reaped: its count is complete and still there.
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    loop {
        match waitid(WaitId::Pid(Pid::from_child(&child)), options) {
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(waiting(error.into())),
            Ok(_) => break,
        }
    }
    let path = PathBuf::from(format!("/proc/{}/io", child.id()));
    let counts = fs::read_to_string(&path).map_err(|e| BenchError::io("read", &path, e));
    let status = child.wait().map_err(waiting)?;
    if !status.success() {
        return Err(failed(command, &status.to_string(), b""));
    }
    let counted = counts?.lines().find_map(|line| line.strip_prefix("rchar: ")?.trim().parse().ok());
    counted.ok_or(BenchError::Damaged { path, what: "counts nothing" })
}

fn shell(command: &mut Command) -> Result<(), BenchError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|source| BenchError::Start { program, source })?;
    if status.success() { Ok(()) } else { Err(failed(command, &status.to_string(), b"")) }
}

/// The same of both repositories.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Pair {
    churned: u64,
    fresh: u64,
}

impl Pair {
    fn of(place: &Place, measure: impl Fn(&Lifeboat) -> Result<u64, BenchError>) -> Result<Self, BenchError> {
        Ok(Self { churned: measure(&place.churned)?, fresh: measure(&place.fresh)? })
    }

    fn ratio(self) -> f64 {
        self.churned as f64 / (self.fresh.max(1)) as f64
    }
}

/// What came of one of the two.
#[derive(Clone, Debug)]
struct Outcome {
    what: &'static str,
    source_bytes: u64,
    snapshots: usize,
    deleted_packs: u64,
    deleted_bytes: u64,
    stored: Pair,
    read: Pair,
}

impl Outcome {
    fn is_met(&self) -> bool {
        self.stored.ratio() <= SIZE_AT_MOST && self.read.ratio() <= READS_AT_MOST
    }
}

fn table(options: &Churn, began: &str, results: &[Outcome]) -> String {
    let mut text = String::new();
    // Writing into a String cannot fail.
    let _ = writeln!(
        text,
        "Churn, begun {began}: {} generations, about 1 % changed in each, the newest {} kept, pruned after each.\n",
        options.generations, options.keep
    );
    for each in results {
        let _ = writeln!(
            text,
            "- {}: {:.1} MB at the end, {} snapshots; prune deleted {} packs, {:.1} MB",
            each.what,
            megabytes(each.source_bytes),
            each.snapshots,
            each.deleted_packs,
            megabytes(each.deleted_bytes)
        );
    }
    let _ = writeln!(text, "\n| | churned MB | fresh MB | ratio | at most | |\n|---|---|---|---|---|---|");
    for each in results {
        let size = format!("{}: size of the repository", each.what);
        let read = format!("{}: read by a full restore", each.what);
        for (what, pair, at_most) in [(size, each.stored, SIZE_AT_MOST), (read, each.read, READS_AT_MOST)] {
            let verdict = if pair.ratio() <= at_most { "met" } else { "**missed**" };
            let (churned, fresh) = (megabytes(pair.churned), megabytes(pair.fresh));
            let ratio = pair.ratio();
            let _ =
                writeln!(text, "| {what} | {churned:.1} | {fresh:.1} | {ratio:.3} | {at_most} | {verdict} |");
        }
    }
    text
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn progress(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_that_a_process_reads_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        crashsafe::create(&path, &vec![7; 3 << 20]).unwrap();
        let once = bytes_read(Command::new("cat").arg(&path)).unwrap();
        assert!(((3 << 20)..(4 << 20)).contains(&once), "{once}");
        let twice = bytes_read(Command::new("cat").arg(&path).arg(&path)).unwrap();
        assert_eq!(twice - once, 3 << 20);
        bytes_read(&mut Command::new("false")).unwrap_err();
    }

    #[test]
    fn about_one_page_in_a_hundred_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.db");
        make_database(&path, 2000).unwrap();
        let before = fs::read(&path).unwrap();
        change_rows(&path, 2000, 1).unwrap();
        let after = fs::read(&path).unwrap();
        assert_eq!(before.len(), after.len());
        let page = PAGE_BYTES as usize;
        let changed = before.chunks(page).zip(after.chunks(page)).filter(|(a, b)| a != b).count();
        // The first page holds a counter of changes; a row may be drawn twice.
        assert!((18..=21).contains(&changed), "{changed}");
    }

    #[test]
    fn a_ratio_beyond_its_bound_is_missed() {
        let mut outcome = Outcome {
            what: "tree",
            source_bytes: 1,
            snapshots: 5,
            deleted_packs: 1,
            deleted_bytes: 1,
            stored: Pair { churned: 13, fresh: 10 },
            read: Pair { churned: 15, fresh: 10 },
        };
        assert!(outcome.is_met());
        outcome.read.churned = 16;
        assert!(!outcome.is_met());
        let options = Churn {
            generations: 50,
            keep: 5,
            tree: None,
            database_mib: 200,
            dir: "d".into(),
            lifeboat: "l".into(),
        };
        assert!(table(&options, "now", &[outcome]).contains("| 1.600 | 1.5 | **missed** |"));
    }
}
