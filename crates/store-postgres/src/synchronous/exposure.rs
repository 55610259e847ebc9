//! What a watchdog leaves on disk: when commits did not wait for us, and how the list of names is put back.
//!
//! An interval of exposure is on record before our name is taken out, and closed only after the server has said that
//! it waits for us again: what is recorded is never shorter than what was. The list is on record before it is changed,
//! so that whoever comes after a crash knows what it was. It deliberately knows no server.
//!
//! Failpoints: `synchronous::exposure-recorded` (the interval has begun on disk, our name is still in the list),
//! `synchronous::placement-recorded` (both lists are on disk, the server has the old one).

use super::machine::ExposureReason;
use lifeboat_base::clock::Timestamp;
use lifeboat_base::crashsafe::{self, CrashsafeError};
use lifeboat_base::{Hint, failpoint, hex, random};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// How the files of intervals begin; the nanoseconds of their begin follow.
const PREFIX: &str = "exposure-";
const SUFFIX: &str = ".json";
const PLACEMENT: &str = "placement.json";
const GENERATION: &str = "generation";
const ACTING: &str = "acting.lock";

/// A time in which commits were acknowledged without us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposureInterval {
    /// When it began, or a little before.
    pub from: Timestamp,
    /// When it ended, or a little after; `None` as long as it lasts, or as nobody has looked.
    pub to: Option<Timestamp>,
    /// Why.
    pub reason: ExposureReason,
    /// Our name in `synchronous_standby_names`.
    pub standby: String,
}

/// A record that could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] CrashsafeError),
    /// It could not be read.
    #[error("{operation} {}", path.display())]
    Read {
        /// What was being done, in the present tense.
        operation: &'static str,
        /// To what.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// It is there and makes no sense.
    #[error("{} is no record of a watchdog", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// Another watchdog has taken over.
    #[error("another watchdog has taken over {}", directory.display())]
    TakenOver {
        /// The place that both use.
        directory: PathBuf,
    },
}

impl Hint for RecordError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Write(error) if error.kind() == io::ErrorKind::StorageFull => {
                Some("Free space there: until then the interval of exposure is not on record.".to_owned())
            }
            Self::Unreadable { path, .. } => {
                Some(format!("Move {} aside; what it recorded is lost, the rest is not.", path.display()))
            }
            _ => None,
        }
    }
}

/// The intervals on record in a watchdog's directory, oldest first. A directory that does not exist has none.
///
/// # Errors
/// Where it cannot be listed, or a record cannot be read.
pub fn exposure_intervals(directory: &Path) -> Result<Vec<ExposureInterval>, RecordError> {
    let mut names = interval_names(directory)?;
    names.sort_unstable();
    names.iter().map(|name| read_interval(&directory.join(name))).collect()
}

fn interval_names(directory: &Path) -> Result<Vec<String>, RecordError> {
    let wrong = |source| RecordError::Read { operation: "list", path: directory.to_owned(), source };
    let listing = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(wrong)?,
    };
    let mut names = Vec::new();
    for entry in listing {
        let name = entry.map_err(wrong)?.file_name().into_string().unwrap_or_default();
        if name.starts_with(PREFIX) && name.ends_with(SUFFIX) {
            names.push(name);
        }
    }
    Ok(names)
}

fn read_interval(path: &Path) -> Result<ExposureInterval, RecordError> {
    let written: Written = read_json(path)?;
    Ok(ExposureInterval {
        from: Timestamp::from_nanos(written.from_nanos),
        to: written.to_nanos.map(Timestamp::from_nanos),
        reason: written.reason,
        standby: written.standby,
    })
}

/// An interval as it is written. The texts are for people.
#[derive(Serialize, Deserialize)]
struct Written {
    from: String,
    to: Option<String>,
    from_nanos: i64,
    to_nanos: Option<i64>,
    reason: ExposureReason,
    standby: String,
}

/// The list with our name and without, and how the server came to each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placement {
    pub(crate) with: Listed,
    pub(crate) without: Listed,
}

/// One value of `synchronous_standby_names`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Listed {
    /// The value.
    pub(crate) names: String,
    /// Whether it is what the server has without `ALTER SYSTEM`: then it is put back by taking that back.
    pub(crate) by_reset: bool,
}

/// The directory of one watchdog.
#[derive(Debug)]
pub(crate) struct Records {
    directory: PathBuf,
    standby: String,
    generation: String,
    /// Held while the list is changed, so that of two watchdogs the newer one has the last word.
    acting: File,
    open: Option<ExposureInterval>,
}

impl Records {
    /// Takes a directory over: whoever used it before does nothing any more.
    pub(crate) fn take_over(directory: &Path, standby: &str) -> Result<Self, RecordError> {
        crashsafe::create_dir_all(directory)?;
        let path = directory.join(ACTING);
        let read =
            |operation| move |source| RecordError::Read { operation, path: directory.join(ACTING), source };
        let acting = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let acting = acting.map_err(read("open"))?;
        let generation = hex::encode(&random::bytes::<16>());
        acting.lock().map_err(read("lock"))?;
        crashsafe::replace(&directory.join(GENERATION), generation.as_bytes())?;
        let open = exposure_intervals(directory)?.into_iter().rev().find(|interval| interval.to.is_none());
        acting.unlock().map_err(read("unlock"))?;
        Ok(Self { directory: directory.to_owned(), standby: standby.to_owned(), generation, acting, open })
    }

    /// Does something to the list while no other watchdog can.
    ///
    /// # Errors
    /// Where another one has taken over, so that nothing was done.
    pub(crate) fn acting<T, E: From<RecordError>>(
        &mut self,
        act: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        // Without locks on this file system, two may act at once: each step can be done twice.
        let locked = self.acting.lock().is_ok();
        let done = match self.is_taken_over() {
            true => Err(RecordError::TakenOver { directory: self.directory.clone() }.into()),
            false => act(self),
        };
        if locked {
            let _ = self.acting.unlock();
        }
        done
    }

    /// A file that cannot be read says nothing: then we go on.
    pub(crate) fn is_taken_over(&self) -> bool {
        let now = fs::read(self.directory.join(GENERATION));
        now.is_ok_and(|now| now != self.generation.as_bytes())
    }

    /// Sees that an interval is on record from now on, unless one is already.
    pub(crate) fn exposed(&mut self, from: Timestamp, reason: ExposureReason) -> Result<(), RecordError> {
        if self.open.is_some() {
            return Ok(());
        }
        let interval = ExposureInterval { from, to: None, reason, standby: self.standby.clone() };
        self.write(&interval)?;
        self.open = Some(interval);
        failpoint::reach("synchronous::exposure-recorded").map_err(|source| self.failed(source))
    }

    /// Sees that no interval is open.
    pub(crate) fn covered(&mut self, to: Timestamp) -> Result<(), RecordError> {
        let Some(mut interval) = self.open.take() else { return Ok(()) };
        interval.to = Some(to.max(interval.from));
        let written = self.write(&interval);
        if written.is_err() {
            interval.to = None;
            self.open = Some(interval);
        }
        written
    }

    fn write(&self, interval: &ExposureInterval) -> Result<(), RecordError> {
        let name = format!("{PREFIX}{:020}{SUFFIX}", interval.from.as_nanos());
        let written = Written {
            from: interval.from.to_string(),
            to: interval.to.map(|to| to.to_string()),
            from_nanos: interval.from.as_nanos(),
            to_nanos: interval.to.map(Timestamp::as_nanos),
            reason: interval.reason,
            standby: interval.standby.clone(),
        };
        self.write_json(&name, &written)
    }

    /// What was put in or taken out last.
    pub(crate) fn placement(&self) -> Result<Option<Placement>, RecordError> {
        let path = self.directory.join(PLACEMENT);
        match path.exists() {
            true => read_json(&path).map(Some),
            false => Ok(None),
        }
    }

    /// Keeps both lists, before the server gets one of them.
    pub(crate) fn keep_placement(&self, placement: &Placement) -> Result<(), RecordError> {
        self.write_json(PLACEMENT, placement)?;
        failpoint::reach("synchronous::placement-recorded").map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> RecordError {
        RecordError::Read { operation: "record in", path: self.directory.clone(), source }
    }

    fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), RecordError> {
        let path = self.directory.join(name);
        let text = serde_json::to_vec(value)
            .map_err(|source| RecordError::Unreadable { path: path.clone(), source })?;
        Ok(crashsafe::replace(&path, &text)?)
    }
}

fn read_json<T: for<'d> Deserialize<'d>>(path: &Path) -> Result<T, RecordError> {
    let bytes = fs::read(path).map_err(|source| RecordError::Read {
        operation: "read",
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_slice(&bytes).map_err(|source| RecordError::Unreadable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExposureReason::{Stalled, Starting};

    const NAME: &str = "lifeboat";

    #[test]
    fn an_interval_lasts_over_restarts_until_somebody_closes_it() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("not/there/yet");
        assert_eq!(exposure_intervals(&directory).unwrap(), []);
        let mut first = Records::take_over(&directory, NAME).unwrap();
        first.exposed(Timestamp::from_secs(10), Stalled).unwrap();
        first.exposed(Timestamp::from_secs(11), Starting).unwrap();
        let open = exposure_intervals(&directory).unwrap();
        assert_eq!(open.len(), 1, "one at a time");
        assert_eq!((open[0].from, open[0].to, open[0].reason), (Timestamp::from_secs(10), None, Stalled));
        let mut second = Records::take_over(&directory, NAME).unwrap();
        second.exposed(Timestamp::from_secs(12), Starting).unwrap();
        second.covered(Timestamp::from_secs(20)).unwrap();
        second.covered(Timestamp::from_secs(21)).unwrap();
        second.exposed(Timestamp::from_secs(30), Starting).unwrap();
        let all = exposure_intervals(&directory).unwrap();
        assert_eq!(all.iter().map(|i| i.to).collect::<Vec<_>>(), [Some(Timestamp::from_secs(20)), None]);
        assert_eq!(all[1].standby, NAME);
    }

    #[test]
    fn the_newer_watchdog_has_the_last_word() {
        let place = tempfile::tempdir().unwrap();
        let mut first = Records::take_over(place.path(), NAME).unwrap();
        assert!(first.acting(|_| Ok::<_, RecordError>(())).is_ok());
        let mut second = Records::take_over(place.path(), NAME).unwrap();
        let refused = first.acting(|_| -> Result<(), RecordError> { panic!("it acts") });
        assert!(matches!(refused, Err(RecordError::TakenOver { .. })));
        assert!(second.acting(|_| Ok::<_, RecordError>(())).is_ok());
        assert!(first.is_taken_over() && !second.is_taken_over());
    }

    #[test]
    fn a_damaged_record_is_an_error_and_no_other_file_is_a_record() {
        let place = tempfile::tempdir().unwrap();
        crashsafe::replace(&place.path().join("notes.txt"), b"x").unwrap();
        crashsafe::replace(&place.path().join(".tmp-0000"), b"x").unwrap();
        assert_eq!(exposure_intervals(place.path()).unwrap(), []);
        crashsafe::replace(&place.path().join("exposure-5.json"), b"{}").unwrap();
        assert!(matches!(exposure_intervals(place.path()), Err(RecordError::Unreadable { .. })));
    }

    #[test]
    fn a_placement_is_read_back() {
        let place = tempfile::tempdir().unwrap();
        let records = Records::take_over(place.path(), NAME).unwrap();
        assert_eq!(records.placement().unwrap(), None);
        let listed = |names: &str, by_reset| Listed { names: names.to_owned(), by_reset };
        let placement = Placement { with: listed("FIRST 1 (x)", false), without: listed("", true) };
        records.keep_placement(&placement).unwrap();
        assert_eq!(records.placement().unwrap(), Some(placement));
    }
}
