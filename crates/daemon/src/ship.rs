//! The controller's records, shipped to the repository: each record is a position of a log of the host's own, so that
//! a controller comes back on an empty machine from the repository or a copy alone.
//!
//! The log's dataset is `lifeboat-controller-HOST`. It carries no secret: the plan names secrets by reference. From time
//! to time a snapshot of all records is published beside it, since copies carry logs along with snapshots.

use crate::house::House;
use crate::means::Trouble;
use crate::record::{Record, Sequence};
use crate::state::State;
use lifeboat_base::clock::Stopwatch;
use lifeboat_recovery::Scratch;
use lifeboat_recovery::restore::{RestoreOptions, restore};
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::tree::{Entry, EntryKind, Metadata};
use lifeboat_repository::{
    LOG_POSITION_FACT, Lineage, LogCatalogue, LogExtent, LogPayload, LogReader, LogWriter, Published, Reader,
    Repository, SnapshotSource, SnapshotWriter,
};
use lifeboat_store::progress::Progress;
use serde_json::json;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What such a dataset's name begins with.
pub const CONTROLLER: &str = "lifeboat-controller-";
/// What the store of such a dataset is called.
pub const STORE: &str = "controller";
const PAYLOAD: &str = "controller-records";
const FILE: &[u8] = b"records.jsonl";
/// Records wait at most so long to be shipped.
const SHIP_EVERY: Duration = Duration::from_secs(1);
/// A snapshot of all records so often, and once at the start.
const SNAPSHOT_EVERY: Duration = Duration::from_hours(1);
/// So many records go into one object.
const AT_ONCE: u32 = 1000;

/// The dataset of a host's controller.
///
/// # Errors
/// Where the host's name does not make a dataset's name.
pub fn dataset_of(host: &str) -> Result<DatasetName, Trouble> {
    let plain: String = host
        .to_ascii_lowercase()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' })
        .collect();
    DatasetName::new(&format!("{CONTROLLER}{plain}"))
        .map_err(|error| Trouble::new(error.to_string(), "Give the host a shorter name with --host."))
}

fn lineage() -> Result<Lineage, Trouble> {
    Lineage::new("records").map_err(|error| Trouble::of(&error))
}

/// Ships until it is told to stop, and then what is left.
pub(crate) fn keep(house: &House, stop: &AtomicBool) {
    let (mut snapshot_due, mut failing) = (None::<Stopwatch>, false);
    let mut log = None;
    loop {
        let is_last = stop.load(Ordering::Relaxed);
        let shipped = ship(house, &mut log).and_then(|_| {
            if snapshot_due.is_none_or(|watch| watch.elapsed() >= SNAPSHOT_EVERY) {
                snapshot(house)?;
                snapshot_due = Some(Stopwatch::start());
            }
            Ok(())
        });
        if let Err(trouble) = &shipped
            && !failing
        {
            house.say("controller", "not-shipped", json!({ "error": trouble.message, "hint": trouble.hint }));
        }
        failing = shipped.is_err();
        if failing {
            // Where it ends is looked up again.
            log = None;
        }
        if is_last {
            return;
        }
        crate::stream::sleep(SHIP_EVERY, stop);
    }
}

fn open_log(house: &House) -> Result<LogWriter, Trouble> {
    let repository = house.repository()?;
    let signer = repository.writer().map_err(|error| Trouble::of(&error))?;
    let dataset = dataset_of(&house.means.host())?;
    LogWriter::open(&repository, &signer, &dataset, &lineage()?).map_err(|error| Trouble::of(&error))
}

/// Ships what has not been yet; gives up to where everything is durable there.
fn ship(house: &House, log: &mut Option<LogWriter>) -> Result<Sequence, Trouble> {
    let writer = match log {
        Some(writer) => writer,
        None => log.insert(open_log(house)?),
    };
    // Positions begin with 0 and records with 1: a position is how many records lie before it.
    let mut shipped = writer.end().unwrap_or(0);
    loop {
        let records = house.state.records(shipped, AT_ONCE).map_err(|error| Trouble::of(&error))?;
        let (Some((_, first)), Some((_, last))) = (records.first(), records.last()) else {
            return Ok(shipped);
        };
        let end = shipped + records.len() as u64;
        let extent = LogExtent { start: shipped, end, first: first.at, last: last.at };
        let units = records.iter().map(|(_, record)| record.to_bytes()).collect::<Result<Vec<_>, _>>();
        let units =
            units.map_err(|error| Trouble::new(error.to_string(), "This is a defect: please report it."))?;
        writer.append(extent, PAYLOAD, &LogPayload::Units(units)).map_err(|error| Trouble::of(&error))?;
        shipped = end;
    }
}

/// Publishes all records as a snapshot, from which the log goes on.
fn snapshot(house: &House) -> Result<Published, Trouble> {
    let repository = house.repository()?;
    let dataset = dataset_of(&house.means.host())?;
    let end = house.state.end().map_err(|error| Trouble::of(&error))?;
    let source = SnapshotSource {
        dataset,
        store: STORE.to_owned(),
        source: house.means.host(),
        lineage: Some(lineage()?.as_str().to_owned()),
        program: concat!("lifeboat ", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    let published = (|| {
        let mut writer = SnapshotWriter::begin(&repository, source)?;
        let mut lines = Lines { state: &house.state, behind: 0, end, buffer: Vec::new(), at: 0 };
        let stored = writer.content(FILE, Vec::new(), &mut lines)?;
        let mut entry = Entry::new(FILE, EntryKind::File);
        entry.metadata = Metadata { mode: 0o600, ..Metadata::default() };
        entry.size = stored.bytes;
        entry.content = stored.content;
        writer.add(entry)?;
        writer.set_fact(LOG_POSITION_FACT, end);
        writer.finish(Metadata { mode: 0o700, ..Metadata::default() })
    })();
    published.map_err(|error: lifeboat_repository::RepositoryError| Trouble::of(&error))
}

/// All records up to one, a line each.
struct Lines<'s> {
    state: &'s State,
    behind: Sequence,
    end: Sequence,
    buffer: Vec<u8>,
    at: usize,
}

impl Read for Lines<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
            let records = self.state.records(self.behind, AT_ONCE).map_err(std::io::Error::other)?;
            for (sequence, record) in records.into_iter().take_while(|(sequence, _)| *sequence <= self.end) {
                self.buffer.extend(record.to_bytes()?);
                self.buffer.push(b'\n');
                self.behind = sequence;
            }
        }
        let bytes = into.len().min(self.buffer.len() - self.at);
        into[..bytes].copy_from_slice(&self.buffer[self.at..self.at + bytes]);
        self.at += bytes;
        Ok(bytes)
    }
}

/// The records of a host's controller, as a repository or a copy has them: those of its newest snapshot, and what
/// the log adds.
///
/// # Errors
/// Where there are none, or they cannot be read whole.
pub fn records_of(
    repository: &Arc<Repository>,
    dataset: &DatasetName,
) -> Result<Vec<(Sequence, Record)>, Trouble> {
    let published = repository.find_snapshot(Some(dataset), "latest").map_err(|error| Trouble::of(&error))?;
    let text = whole_file(repository, &published)?;
    let mut records = Vec::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        records.push((records.len() as u64 + 1, parse(line)?));
    }
    let from = records.len() as u64;
    let catalogue = LogCatalogue::read(repository, dataset).map_err(|error| Trouble::of(&error))?;
    let lineage = lineage()?;
    let logs = catalogue.lineages();
    let ours = logs.iter().find(|log| log.lineage == lineage).and_then(|log| log.stretches.last());
    let end = ours.map_or(from, |stretch| stretch.end.max(from));
    let mut reader = LogReader::over(catalogue, &lineage, from..end);
    for piece in reader.by_ref() {
        let piece = piece.map_err(|error| Trouble::of(&error))?;
        let LogPayload::Units(units) = piece.payload else { continue };
        for unit in units {
            records.push((records.len() as u64 + 1, parse(&unit)?));
        }
    }
    Ok(records)
}

fn parse(line: &[u8]) -> Result<Record, Trouble> {
    Record::from_bytes(line).map_err(|error| {
        Trouble::new(
            format!("a controller's record cannot be read: {error}"),
            "Use the release of Lifeboat that wrote it, or a newer one.",
        )
    })
}

fn whole_file(repository: &Arc<Repository>, published: &Published) -> Result<Vec<u8>, Trouble> {
    let reader = Reader::new(repository).map_err(|error| Trouble::of(&error))?;
    let scratch = Scratch::new(&std::env::temp_dir()).map_err(|error| {
        Trouble::new(lifeboat_base::report(&error), "Check the folder for temporary files.")
    })?;
    let into = scratch.path().join("records");
    let restored = restore(&reader, published, &into, &RestoreOptions::default(), &Progress::default())
        .map_err(|error| Trouble::of(&error))?;
    if restored.report.left_out.count > 0 {
        return Err(Trouble::new(
            format!("the controller's records of {} are damaged", published.snapshot.taken),
            "Run `lifeboat check`; recover from a copy, or from an older snapshot that is whole.",
        ));
    }
    let path = into.join(OsStr::from_bytes(FILE));
    std::fs::read(&path).map_err(|error| {
        Trouble::new(format!("read {}: {error}", path.display()), "Check the folder for temporary files.")
    })
}
