//! Points in time as people write them, and the snapshots that they mean.

use crate::failure::Failure;
use crate::output::Output;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use lifeboat_base::clock::Timestamp;
use lifeboat_repository::ids::DatasetName;
use lifeboat_repository::{Published, Repository};

/// Finds the snapshot that `latest`, a time, or the first digits of an identity mean. A time means the newest
/// snapshot that is not younger; it is echoed in UTC.
pub(crate) fn find_point(
    repository: &Repository,
    dataset: &DatasetName,
    which: &str,
    output: Output,
) -> Result<Published, Failure> {
    let time = instant(which, output)?;
    if time.is_none() && which != "latest" {
        return Ok(repository.find_snapshot(Some(dataset), which)?);
    }
    let mut unreadable = Vec::new();
    let mut snapshots = repository.snapshots(Some(dataset), &mut unreadable)?;
    for unreadable in &unreadable {
        output.warn(&format!(
            "{} cannot be read and was passed over: {}",
            unreadable.object,
            lifeboat_base::report(&unreadable.error)
        ));
    }
    let oldest = snapshots.first().map(|p| p.snapshot.taken);
    if let Some(time) = time {
        snapshots.retain(|p| p.snapshot.taken <= time);
    }
    match (snapshots.pop(), unreadable.pop()) {
        (Some(found), _) => Ok(found),
        // It may be the one that was meant.
        (None, Some(unreadable)) => Err(unreadable.error.into()),
        (None, None) => Err(none_then(dataset, time, oldest)),
    }
}

/// The instant that a text means, echoed in UTC; `None` where it is no time at all.
pub(crate) fn instant(text: &str, output: Output) -> Result<Option<Timestamp>, Failure> {
    let time = parse(text, &TimeZone::system())?;
    if let Some(time) = time.filter(|time| time.to_string() != text) {
        output.note(&format!("{text} is {time} in UTC"));
    }
    Ok(time)
}

fn none_then(dataset: &DatasetName, time: Option<Timestamp>, oldest: Option<Timestamp>) -> Failure {
    match (oldest, time) {
        (Some(oldest), Some(time)) => Failure::usage(
            format!("{dataset} has no snapshot at or before {time}"),
            format!("The oldest snapshot of {dataset} is of {oldest}."),
        ),
        _ => no_snapshot(dataset),
    }
}

/// A dataset that the repository knows nothing of.
pub(crate) fn no_snapshot(dataset: &DatasetName) -> Failure {
    Failure::usage(
        format!("the repository has no snapshot of dataset {dataset}"),
        "`lifeboat points` lists the datasets that have snapshots.",
    )
}

/// Reads a time: RFC 3339, or without an offset local time. `None` where it is no time at all.
fn parse(text: &str, zone: &TimeZone) -> Result<Option<Timestamp>, Failure> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) || !text.contains('-') {
        return Ok(None);
    }
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return representable(text, instant).map(Some);
    }
    let hint = "Write RFC 3339, such as 2026-11-22T03:00:00Z, or with an offset: 2026-11-22T04:00:00+01:00.";
    let local: DateTime = text.parse().map_err(|_| Failure::usage(format!("{text} is no time"), hint))?;
    let resolved = zone.to_ambiguous_zoned(local);
    if resolved.is_ambiguous() {
        return Err(Failure::usage(format!("{text} is ambiguous here: clocks were changed"), hint));
    }
    let zoned = resolved.compatible().map_err(|error| Failure::usage(format!("{text}: {error}"), hint))?;
    representable(text, zoned.timestamp()).map(Some)
}

fn representable(text: &str, instant: jiff::Timestamp) -> Result<Timestamp, Failure> {
    let time = Timestamp::from_jiff(instant);
    if time.to_jiff() != instant {
        let hint = "Write a time between the years 1678 and 2261.";
        return Err(Failure::usage(format!("{text} is too far away"), hint));
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> String {
        parse(text, &TimeZone::get("Europe/Berlin").expect("the zone is known"))
            .map(|t| t.map_or("none".to_owned(), |t| t.to_string()))
            .unwrap_or_else(|f| f.message)
    }

    #[test]
    fn times_are_read_and_ambiguous_ones_refused() {
        assert_eq!(utc("2026-11-22T03:00:00Z"), "2026-11-22T03:00:00Z");
        assert_eq!(utc("2026-11-22T03:00:00+01:00"), "2026-11-22T02:00:00Z");
        assert_eq!(utc("2026-11-22 03:00"), "2026-11-22T02:00:00Z");
        assert_eq!(utc("2026-10-25T02:30:00"), "2026-10-25T02:30:00 is ambiguous here: clocks were changed");
        assert_eq!(utc("2026-03-29T02:30:00"), "2026-03-29T02:30:00 is ambiguous here: clocks were changed");
        assert_eq!(utc("1234abcd"), "none");
        assert_eq!(utc("2026-99-99"), "2026-99-99 is no time");
        assert_eq!(utc("2999-01-01T00:00:00Z"), "2999-01-01T00:00:00Z is too far away");
    }
}
