//! Values as people write them: sizes, lengths of time, positions.

use super::repository::Part;
use lifeboat_postgres_wal::Lsn;
use lifeboat_repository::Share;
use lifeboat_repository::ids::WriterId;
use std::path::PathBuf;

pub(super) fn fingerprint(text: &str) -> Result<WriterId, String> {
    let digits = text.trim().to_ascii_lowercase();
    WriterId::from_hex(&digits).ok_or_else(|| "a root fingerprint has 32 hexadecimal digits".to_owned())
}

/// Reads `16400=/srv/fast`.
pub(super) fn tablespace(text: &str) -> Result<(String, PathBuf), String> {
    let (named, place) = text.split_once('=').ok_or("write the tablespace and its place: 16400=/srv/fast")?;
    if named.is_empty() || place.is_empty() {
        return Err("write the tablespace and its place: 16400=/srv/fast".to_owned());
    }
    Ok((named.to_owned(), place.into()))
}

pub(super) fn position(text: &str) -> Result<Lsn, String> {
    text.strip_prefix("lsn:").unwrap_or(text).parse().map_err(|error| format!("{error}"))
}

/// Reads `3/30`.
pub(super) fn part(text: &str) -> Result<Part, String> {
    let numbers = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    let (number, of) = numbers.ok_or("write which part, and of how many: 3/30")?;
    let share = Share::part(number, of).ok_or("parts are counted from 1: 1/30 to 30/30")?;
    Ok(Part { number, of, share })
}

/// Reads `90s`, `15m`, `24h`, `7d`, `500ms`.
pub(super) fn duration(text: &str) -> Result<std::time::Duration, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 =
        number.parse().map_err(|_| "write a number and a unit: 90s, 15m, 24h, 7d".to_owned())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("the unit is one of ms, s, m, h, d".to_owned()),
    };
    number
        .checked_mul(millis)
        .map(std::time::Duration::from_millis)
        .ok_or_else(|| "that is too long".to_owned())
}

/// A size with its unit, as a person writes it.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let number: u64 =
        number.parse().map_err(|_| "write a number and a unit: 512MiB, 16GiB, 1TiB".to_owned())?;
    let bytes = match unit {
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err("the unit is one of MiB, GiB, TiB, MB, GB, TB".to_owned()),
    };
    number.checked_mul(bytes).ok_or_else(|| "that is too much".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_it_is_printed() {
        let printed = "00ff00ff00ff00ff00ff00ff00ff00ff";
        assert_eq!(fingerprint(&format!(" {}\n", printed.to_uppercase())).unwrap().to_string(), printed);
        for bad in ["", "00ff", "zz"] {
            assert!(fingerprint(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(size("16GiB"), Ok(16 << 30));
        assert_eq!(size("5MB"), Ok(5_000_000));
        for bad in ["", "MiB", "5", "5K", "-5MB", "99999999TiB"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_are_read() {
        assert_eq!(duration("90s"), Ok(std::time::Duration::from_secs(90)));
        assert_eq!(duration("7d"), Ok(std::time::Duration::from_hours(168)));
        for bad in ["", "s", "5", "5x", "-5s", "99999999999999999999d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
