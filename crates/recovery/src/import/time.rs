//! Of when a backup is: as somebody says, as the dump says, as its name says, or as its file does, in this order.
//!
//! Dumps and names say local time. It is read in one time zone, which is stated with the result, and a time that
//! came twice or never is refused.

use super::dump::{Dump, DumpTime};
use super::error::ImportError;
use super::{file_time, now};
use crate::error::Result;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use lifeboat_base::clock::Timestamp;
use std::path::Path;

/// Who says of when a backup is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A person.
    Given,
    /// The dump itself.
    Dump,
    /// Its name, or that of its folder.
    Name,
    /// The file system.
    File,
}

impl Of {
    /// As it is written in a snapshot.
    pub fn word(self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Dump => "dump",
            Self::Name => "name",
            Self::File => "file",
        }
    }
}

/// The instant that a backup shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// The instant.
    pub at: Timestamp,
    /// Who says so.
    pub from: Of,
    /// The time zone that a local time was read in.
    pub zone: Option<String>,
}

/// Of when a dump is.
pub(super) fn of_dump(
    dump: &Dump,
    folder: Option<&Path>,
    given: Option<Timestamp>,
    zone: &TimeZone,
) -> Result<Taken> {
    if let Some(taken) = given {
        return not_in_future(taken, Of::Given, None);
    }
    if let Some(begun) = dump.head.begun {
        return begun_at(begun, zone);
    }
    let named = folder.and_then(in_folder_name).or_else(|| in_name(dump.path.file_name()?.to_str()?));
    match named {
        Some(local) => of_name(local, zone),
        None => not_in_future(file_time(&dump.path)?, Of::File, None),
    }
}

/// Of when a folder of backups is.
pub(super) fn of_folder(folder: &Path, given: Option<Timestamp>, zone: &TimeZone) -> Result<Taken> {
    match (given, in_folder_name(folder)) {
        (Some(taken), _) => not_in_future(taken, Of::Given, None),
        (None, Some(local)) => of_name(local, zone),
        (None, None) => not_in_future(file_time(folder)?, Of::File, None),
    }
}

/// The time in a name like `backup_20260113_100000`, which is all of the name.
pub(super) fn in_folder_name(folder: &Path) -> Option<DateTime> {
    let digits = folder.file_name()?.to_str()?.strip_prefix("backup_")?;
    at_start(digits).filter(|_| digits.len() == LENGTH)
}

/// `YYYYMMDD_HHMMSS`.
const LENGTH: usize = 15;

/// The first time in a name like `aragora-20260224_120000.sql.gz`.
fn in_name(name: &str) -> Option<DateTime> {
    let is_digit = |at: usize| name.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
    let starts = (0..name.len()).filter(|at| name.is_char_boundary(*at));
    let alone = starts.filter(|at| (*at == 0 || !is_digit(at - 1)) && !is_digit(at + LENGTH));
    alone.filter_map(|at| at_start(&name[at..])).next()
}

fn at_start(text: &str) -> Option<DateTime> {
    let text = text.get(..LENGTH)?;
    let (day, time) = (text.get(..8)?, text.get(9..)?);
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !matches!(text.as_bytes()[8], b'_' | b'-' | b'T') || !digits(day) || !digits(time) {
        return None;
    }
    let part = |text: &str, from: usize| text.get(from..from + 2)?.parse::<i8>().ok();
    let year = day.get(..4)?.parse().ok()?;
    let (hour, minute, second) = (part(time, 0)?, part(time, 2)?, part(time, 4)?);
    DateTime::new(year, part(day, 4)?, part(day, 6)?, hour, minute, second, 0).ok()
}

fn begun_at(begun: DumpTime, zone: &TimeZone) -> Result<Taken> {
    if begun.is_utc {
        return local(begun.local, None, &TimeZone::UTC, Of::Dump);
    }
    local(begun.local, begun.is_summer, zone, Of::Dump)
}

fn of_name(named: DateTime, zone: &TimeZone) -> Result<Taken> {
    local(named, None, zone, Of::Name)
}

/// A local time as an instant. Of an hour that came twice, summer time is the first.
fn local(local: DateTime, is_summer: Option<bool>, zone: &TimeZone, from: Of) -> Result<Taken> {
    let name = zone.iana_name().map_or_else(|| "of this machine".to_owned(), str::to_owned);
    let refused = || ImportError::AmbiguousTime { text: local.to_string(), zone: name.clone() };
    let resolved = zone.to_ambiguous_zoned(local);
    let zoned = match (resolved.offset(), is_summer) {
        (AmbiguousOffset::Unambiguous { .. }, _) => resolved.compatible(),
        (AmbiguousOffset::Fold { .. }, Some(true)) => resolved.earlier(),
        (AmbiguousOffset::Fold { .. }, Some(false)) => resolved.later(),
        _ => return Err(refused().into()),
    };
    let at = Timestamp::from_jiff(zoned.map_err(|_| refused())?.timestamp());
    not_in_future(at, from, Some(name))
}

/// A snapshot of the future would be the latest one until then.
fn not_in_future(at: Timestamp, from: Of, zone: Option<String>) -> Result<Taken> {
    if at > now() {
        return Err(ImportError::Future { taken: at.to_string() }.into());
    }
    Ok(Taken { at, from, zone })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    fn taken(text: &str, is_summer: Option<bool>) -> String {
        let begun = DumpTime { local: text.parse().unwrap(), is_summer, is_utc: false };
        begun_at(begun, &berlin()).map_or_else(|error| error.to_string(), |taken| taken.at.to_string())
    }

    #[test]
    fn names_say_of_when_a_backup_is() {
        let time = |name: &str| in_name(name).map(|time| time.to_string());
        assert_eq!(time("aragora-20260224_120000.sql.gz").as_deref(), Some("2026-02-24T12:00:00"));
        assert_eq!(time("pre-migration-20260224-120000.dump").as_deref(), Some("2026-02-24T12:00:00"));
        for other in
            ["aragora_20260113.dump", "x20261399_120000", "120260224_120000", "20260224_1200000", "ö"]
        {
            assert_eq!(time(other), None, "{other}");
        }
        assert!(in_folder_name(Path::new("/x/backup_20260113_100000")).is_some());
        assert!(in_folder_name(Path::new("/x/backup_20260113_100000.old")).is_none());
    }

    #[test]
    fn an_hour_that_came_twice_is_told_by_summer_time_or_refused() {
        assert_eq!(taken("2025-10-26T02:30:00", Some(true)), "2025-10-26T00:30:00Z");
        assert_eq!(taken("2025-10-26T02:30:00", Some(false)), "2025-10-26T01:30:00Z");
        assert!(taken("2025-10-26T02:30:00", None).contains("Europe/Berlin is no certain instant"));
        assert!(taken("2025-03-30T02:30:00", Some(true)).contains("no certain instant"));
        assert_eq!(taken("2025-07-01T12:00:00", None), "2025-07-01T10:00:00Z");
        assert!(taken("2199-07-01T12:00:00", None).contains("future"));
    }

    proptest! {
        #[test]
        fn no_name_makes_it_panic(name in ".{0,40}") {
            let _ = in_name(&name);
            let _ = in_folder_name(Path::new(&name));
        }
    }
}
