//! Where runs are kept on a machine: a folder each, with the pinned document, a journal file a generation, captured
//! output, and an inbox for what people ask of whoever executes the run.
//!
//! Who has the newest journal file locked executes the run. Who takes over from somebody that cannot be asked creates
//! the file of the next generation, once, and only then reads what the other wrote: from that instant the other finds
//! the new file after each append and stops before it acts. What it appended late is void, and kept to be seen.
//!
//! What is fetched of a mirror stands before the empty file of a generation to come: until whoever fetched it took the
//! run over, it is a takeover that was begun and not finished, and nobody resumes it. Where this machine had gone on
//! in another way than the mirror has it, what it recorded is kept aside in files called `parted-…`.
//!
//! It deliberately does not know what may be taken over, and when.

use crate::event::{Event, Record};
use crate::ids::{Generation, RunId};
use crate::journal::{BEGINNING, FileMedium, JournalError, Line, Medium, read};
use lifeboat_base::Hint;
use lifeboat_base::clock::Stopwatch;
use lifeboat_base::crashsafe::{self, CrashsafeError, Creation};
use lifeboat_evidence::{Digest, canonical};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DOCUMENT: &str = "runbook.md";
const OUTPUT: &str = "output";
const INBOX: &str = "inbox";
/// So many generations may follow at once in a mirror: a claim that a crash tore leaves out its number.
const MAX_GENERATIONS_AT_ONCE: u32 = 100;
/// A lock that is let go within so long was held by nobody who executes the run.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LOCK_AGAIN: Duration = Duration::from_millis(10);

/// A folder of a run that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file could not be made.
    #[error(transparent)]
    Crashsafe(#[from] CrashsafeError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There is no such run.
    #[error("there is no run {run} in {}", within.display())]
    Absent {
        /// The run.
        run: RunId,
        /// Where it was looked for.
        within: PathBuf,
    },
    /// Somebody executes it.
    #[error("another process executes run {0}")]
    Busy(RunId),
    /// A takeover was begun and not finished.
    #[error("a takeover of run {0} was begun and not finished")]
    HalfTaken(RunId),
    /// Somebody else was faster.
    #[error("somebody else took run {0} over at the same time")]
    Lost(RunId),
}

impl Hint for FolderError {
    fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Journal(error) => return error.hint(),
            Self::Crashsafe(_) => "Check that the state directory can be written by this user and has room.",
            Self::Absent { .. } => {
                "`lifeboat runbook list` shows the runs of this machine and of the mirror."
            }
            Self::Busy(_) => {
                "Approve, pause or abort it from here; if that process hangs, stop it and resume, or take the run over with a statement that it is stopped."
            }
            Self::HalfTaken(_) => "Take the run over.",
            Self::Lost(_) => "`lifeboat runbook show` says who has it now.",
        };
        Some(hint.to_owned())
    }
}

/// The runs of a machine.
#[derive(Clone, Debug)]
pub struct Runs {
    folder: PathBuf,
}

impl Runs {
    /// The runs within a state directory.
    pub fn within(state: &Path) -> Self {
        Self { folder: state.join("runs") }
    }

    /// The runs that are there, oldest first.
    ///
    /// # Errors
    /// Where the folder cannot be listed; one that is not there holds none.
    pub fn list(&self) -> Result<Vec<RunId>, FolderError> {
        let listing = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            listing => listing.map_err(|e| JournalError::io("list", &self.folder, e))?,
        };
        let names = listing.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let mut runs: Vec<RunId> = names.filter_map(|name| name.parse().ok()).collect();
        runs.sort();
        Ok(runs)
    }

    /// A run that is there.
    ///
    /// # Errors
    /// [`FolderError::Absent`].
    pub fn open(&self, run: &RunId) -> Result<RunFolder, FolderError> {
        let path = self.folder.join(run.as_str());
        if path.join(DOCUMENT).is_file() {
            return Ok(RunFolder { run: run.clone(), path });
        }
        Err(FolderError::Absent { run: run.clone(), within: self.folder.clone() })
    }

    /// Makes the folder of a run, with its document. One that is there is left as it is.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn create(&self, run: &RunId, document: &[u8]) -> Result<RunFolder, FolderError> {
        let folder = RunFolder { run: run.clone(), path: self.folder.join(run.as_str()) };
        for part in [OUTPUT, INBOX] {
            crashsafe::create_dir_all(&folder.path.join(part))?;
        }
        crashsafe::create(&folder.journal(Generation::FIRST), b"")?;
        crashsafe::create(&folder.path.join(DOCUMENT), document)?;
        Ok(folder)
    }
}

/// The folder of a run.
#[derive(Clone, Debug)]
pub struct RunFolder {
    run: RunId,
    path: PathBuf,
}

/// What a run's journal files hold together.
#[derive(Clone, Debug, Default)]
pub struct Story {
    /// The records that count.
    pub records: Vec<(Record, Line)>,
    /// Records of executors that had been taken over from: nothing may have been done on the strength of them.
    pub void: Vec<Record>,
    /// The newest generation that has a file.
    pub newest: Generation,
    /// So many bytes of the newest file are whole lines.
    whole_bytes: usize,
    /// So many after them are what a crash left.
    pub torn_bytes: usize,
    lacks_newline: bool,
}

impl Story {
    /// The chain value of the last record that counts.
    pub fn chain(&self) -> Digest {
        self.records.last().map_or(BEGINNING, |(_, line)| line.chain)
    }

    /// The number of the last record that counts.
    pub fn number(&self) -> u64 {
        self.records.last().map_or(0, |(record, _)| record.number)
    }

    /// Who wrote it.
    pub fn generation(&self) -> Generation {
        self.records.last().map_or(Generation::FIRST, |(record, _)| record.generation)
    }
}

impl RunFolder {
    /// The run.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where captured output lies.
    pub fn output(&self) -> PathBuf {
        self.path.join(OUTPUT)
    }

    pub(crate) fn inbox(&self) -> PathBuf {
        self.path.join(INBOX)
    }

    /// The pinned document.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn document(&self) -> Result<Vec<u8>, FolderError> {
        let path = self.path.join(DOCUMENT);
        Ok(fs::read(&path).map_err(|e| JournalError::io("read", &path, e))?)
    }

    fn journal(&self, generation: Generation) -> PathBuf {
        self.path.join(format!("journal-{:04}.jsonl", generation.0))
    }

    fn newest(&self) -> Result<Generation, FolderError> {
        let mut newest = Generation::FIRST;
        loop {
            let next = self.journal(newest.next());
            match next.try_exists() {
                Ok(true) => newest = newest.next(),
                Ok(false) => return Ok(newest),
                Err(error) => return Err(JournalError::io("look for", &next, error).into()),
            }
        }
    }

    /// Reads the journal, locked or not.
    ///
    /// # Errors
    /// Where a file cannot be read or is damaged.
    pub fn story(&self) -> Result<Story, FolderError> {
        let mut story = Story { newest: self.newest()?, ..Story::default() };
        for generation in 1..=story.newest.0 {
            self.read_generation(Generation(generation), &mut story)?;
        }
        Ok(story)
    }

    fn read_generation(&self, generation: Generation, story: &mut Story) -> Result<(), FolderError> {
        let path = self.journal(generation);
        let bytes = fs::read(&path).map_err(|e| JournalError::io("read", &path, e))?;
        if let Some(after) = taken_after(&bytes) {
            let kept = story.records.iter().position(|(_, line)| line.chain == after);
            let kept = kept.map(|place| place + 1).ok_or_else(|| JournalError::Damaged {
                path: path.clone(),
                line: 1,
                what: "it goes on after a record that is not there".to_owned(),
            })?;
            story.void.extend(story.records.drain(kept..).map(|(record, _)| record));
        }
        let reading = read(&bytes, story.chain(), &path)?;
        story.records.extend(reading.records);
        story.whole_bytes = reading.whole_bytes;
        story.torn_bytes = reading.torn_bytes;
        story.lacks_newline = reading.lacks_newline;
        Ok(())
    }

    /// Locks the newest journal file, cuts what a crash left of an append, and reads all.
    ///
    /// # Errors
    /// [`FolderError::Busy`] where another process has it, [`FolderError::HalfTaken`] where nobody does.
    pub(crate) fn lock(&self) -> Result<(FileMedium, Story), FolderError> {
        let newest = self.newest()?;
        let mut medium = self.lock_patiently(newest)?;
        let story = self.story()?;
        if story.newest != newest {
            return Err(FolderError::Busy(self.run.clone()));
        }
        if story.generation() != newest && story.number() > 0 {
            return Err(FolderError::HalfTaken(self.run.clone()));
        }
        if story.torn_bytes > 0 {
            medium.cut(story.whole_bytes)?;
        }
        if story.lacks_newline {
            medium.append(b"\n")?;
            medium.sync()?;
        }
        Ok((medium, story))
    }

    /// A process that a killed executor was about to start shares its lock until it finds that its parent is gone.
    fn lock_patiently(&self, generation: Generation) -> Result<FileMedium, FolderError> {
        let watch = Stopwatch::start();
        loop {
            match self.lock_generation(generation) {
                Err(FolderError::Busy(_)) if watch.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(LOCK_AGAIN);
                }
                locked => return locked,
            }
        }
    }

    fn lock_generation(&self, generation: Generation) -> Result<FileMedium, FolderError> {
        let locked = FileMedium::lock(&self.journal(generation), &self.journal(generation.next()))?;
        locked.ok_or_else(|| FolderError::Busy(self.run.clone()))
    }

    /// Claims the next generation: from now on nobody of an older one begins anything.
    ///
    /// # Errors
    /// [`FolderError::Lost`] where somebody else was faster.
    pub(crate) fn claim(&self) -> Result<(Generation, FileMedium), FolderError> {
        let newest = self.newest()?;
        let is_unused = fs::metadata(self.journal(newest)).is_ok_and(|file| file.len() == 0);
        if is_unused && newest > Generation::FIRST {
            // Somebody claimed it and was killed before the record of the takeover.
            let locked = self.lock_generation(newest).map_err(|_| FolderError::Lost(self.run.clone()))?;
            return Ok((newest, locked));
        }
        let next = newest.next();
        match crashsafe::create(&self.journal(next), b"")? {
            Creation::Created => {}
            Creation::Existed => return Err(FolderError::Lost(self.run.clone())),
        }
        let locked = self.lock_generation(next).map_err(|_| FolderError::Lost(self.run.clone()))?;
        Ok((next, locked))
    }

    /// Puts a line of the mirror where it belongs.
    pub(crate) fn adopt(&self, generation: Generation, line: &Line) -> Result<(), FolderError> {
        let newest = self.newest()?;
        if generation.0 > newest.0.saturating_add(MAX_GENERATIONS_AT_ONCE) {
            let what = format!("generation {generation} cannot follow {newest}");
            let (path, line) = (self.journal(newest.next()), 1);
            return Err(JournalError::Damaged { path, line, what }.into());
        }
        for between in newest.0 + 1..=generation.0 {
            crashsafe::create(&self.journal(Generation(between)), b"")?;
        }
        let mut medium = self.lock_generation(generation)?;
        if generation >= newest {
            crashsafe::create(&self.journal(generation.next()), b"")?;
        }
        medium.append(&line.bytes)?;
        Ok(medium.sync()?)
    }

    /// Makes room for what the mirror has after a record, from a generation on: whatever else stands there is kept
    /// aside and cut. The newest first, so that no file ever goes on after a record that is not there.
    ///
    /// # Errors
    /// [`FolderError::Busy`] where somebody executes what is to be cut.
    pub(crate) fn part(&self, from: Generation, after: u64) -> Result<(), FolderError> {
        let story = self.story()?;
        for generation in (from.0..=story.newest.0).rev().map(Generation) {
            let common = story.records.iter().filter(|(record, _)| {
                generation == from && record.generation == from && record.number <= after
            });
            self.keep(generation, common.map(|(_, line)| line.bytes.len()).sum())?;
        }
        Ok(())
    }

    /// Keeps so many bytes of a file; what stands behind them lies in a file of its own then.
    fn keep(&self, generation: Generation, whole_bytes: usize) -> Result<(), FolderError> {
        let mut medium = self.lock_generation(generation)?;
        let there = medium.contents()?;
        if there.len() > whole_bytes {
            self.set_aside(generation, &there)?;
            medium.cut(whole_bytes)?;
        }
        // The last line is whole but for its newline.
        if there.len() < whole_bytes {
            medium.append(b"\n")?;
            medium.sync()?;
        }
        Ok(())
    }

    fn set_aside(&self, generation: Generation, bytes: &[u8]) -> Result<(), FolderError> {
        for copy in 1_u32.. {
            let path = self.path.join(format!("parted-{:04}-{copy}.jsonl", generation.0));
            if crashsafe::create(&path, bytes)? == Creation::Created {
                break;
            }
        }
        Ok(())
    }
}

/// After which record a file goes on, where its first line says that.
fn taken_after(bytes: &[u8]) -> Option<Digest> {
    let first = bytes.split(|byte| *byte == b'\n').next()?;
    let json = first.get(..first.len().checked_sub(65)?)?;
    let record: Record = serde_json::from_value(canonical::parse(json).ok()?).ok()?;
    match record.event {
        Event::TakenOver(taken) => Some(taken.after),
        _ => None,
    }
}
