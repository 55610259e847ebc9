//! Where something is in the log, and what the files of the log are called.

use std::fmt;
use std::str::FromStr;

/// A position in the log: bytes since the cluster was made. Written `16/B374D848`, as PostgreSQL does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

/// A branch of a cluster's log; each promotion begins the next one. The first is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimelineId(pub u32);

/// What tells one cluster from another: made by `initdb`, and kept by every copy of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemId(pub u64);

/// A text that is no position, timeline, system identifier or name of a segment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}")]
pub struct ParsePositionError {
    /// What it should be.
    pub what: &'static str,
    /// The text.
    pub text: String,
}

impl ParsePositionError {
    fn new(what: &'static str, text: &str) -> Self {
        Self { what, text: text.to_owned() }
    }
}

impl Lsn {
    /// No position: what PostgreSQL calls `InvalidXLogRecPtr`.
    pub const ZERO: Self = Self(0);

    /// The position so many bytes later; the greatest one there is where it would lie behind that.
    #[must_use]
    pub const fn after(self, bytes: u64) -> Self {
        Self(self.0.saturating_add(bytes))
    }

    /// How many bytes lie between an earlier position and this one; 0 where it is not earlier.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

impl FromStr for Lsn {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let (high, low) = text.split_once('/')?;
            Some(u64::from(hex_u32(high)?) << 32 | u64::from(hex_u32(low)?))
        };
        parse().map(Self).ok_or_else(|| ParsePositionError::new("position in a log (like 16/B374D848)", text))
    }
}

/// One to eight hexadecimal digits and nothing else: `from_str_radix` alone would take a sign.
fn hex_u32(text: &str) -> Option<u32> {
    let digits = (1..=8).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.then(|| u32::from_str_radix(text, 16).ok())?
}

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for TimelineId {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().ok().filter(|number| *number > 0);
        number.map(Self).ok_or_else(|| ParsePositionError::new("timeline", text))
    }
}

impl TimelineId {
    /// What the file with this timeline's history is called: `00000002.history`. The first has none.
    pub fn history_file_name(self) -> String {
        format!("{:08X}.history", self.0)
    }
}

impl fmt::Display for SystemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl FromStr for SystemId {
    type Err = ParsePositionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| ParsePositionError::new("system identifier", text))
    }
}

/// How many bytes a segment of the log has: a power of two from 1 MiB to 1 GiB, fixed by `initdb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// What `initdb` chooses where nobody says otherwise: 16 MiB.
    pub const DEFAULT: Self = Self(16 << 20);

    /// A size; `None` where PostgreSQL knows none such.
    pub const fn new(bytes: u64) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= 1 << 20 && bytes <= 1 << 30 {
            Some(Self(bytes as u32))
        } else {
            None
        }
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        self.0 as u64
    }

    /// Where the segment that a position lies in begins.
    pub const fn start_of(self, position: Lsn) -> Lsn {
        Lsn(position.0 & !(self.bytes() - 1))
    }

    /// Where the first segment begins that does not begin before a position.
    pub const fn start_from(self, position: Lsn) -> Lsn {
        self.start_of(Lsn(position.0.saturating_add(self.bytes() - 1)))
    }
}

/// A segment of one timeline's log: what a file in `pg_wal` holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The timeline.
    pub timeline: TimelineId,
    /// Where it begins.
    pub start: Lsn,
}

impl SegmentName {
    /// The segment that a position of a timeline lies in.
    pub const fn of(timeline: TimelineId, position: Lsn, size: SegmentSize) -> Self {
        Self { timeline, start: size.start_of(position) }
    }

    /// The name of its file: 24 hexadecimal digits.
    pub fn file_name(self, size: SegmentSize) -> String {
        let number = self.start.0 / size.bytes();
        let per_file_id = (1 << 32) / size.bytes();
        format!("{:08X}{:08X}{:08X}", self.timeline.0, number / per_file_id, number % per_file_id)
    }

    /// Reads the name of a file.
    ///
    /// # Errors
    /// Where it is none that a segment of this size has.
    pub fn parse(text: &str, size: SegmentSize) -> Result<Self, ParsePositionError> {
        let parse = || {
            let part = |from: usize| hex_u32(text.get(from..from + 8)?);
            let per_file_id = (1u64 << 32) / size.bytes();
            let (timeline, file_id, number) = (part(0)?, u64::from(part(8)?), u64::from(part(16)?));
            if text.len() != 24 || timeline == 0 || number >= per_file_id {
                return None;
            }
            let start = Lsn((file_id * per_file_id + number) * size.bytes());
            Some(Self { timeline: TimelineId(timeline), start })
        };
        parse().ok_or_else(|| ParsePositionError::new("name of a segment of the log", text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn positions_are_written_as_postgresql_writes_them() {
        assert_eq!(Lsn(0x16_B374_D848).to_string(), "16/B374D848");
        assert_eq!("0/0".parse(), Ok(Lsn::ZERO));
        assert_eq!("16/b374d848".parse(), Ok(Lsn(0x16_B374_D848)));
        for bad in ["", "/", "1/", "/1", "1", "+1/2", "1/ 2", "123456789/0", "0/123456789", "1/2/3", "1/g"] {
            assert!(bad.parse::<Lsn>().is_err(), "{bad}");
        }
    }

    #[test]
    fn segments_are_named_as_postgresql_names_them() {
        // select pg_walfile_name('0/16B3748'), with segments of 16 MiB, 1 MiB and 64 MiB.
        let name = |position, mib: u64| {
            let size = SegmentSize::new(mib << 20).unwrap();
            SegmentName::of(TimelineId(1), Lsn(position), size).file_name(size)
        };
        assert_eq!(name(0x16B_3748, 16), "000000010000000000000001");
        assert_eq!(name(0x16B_3748, 1), "000000010000000000000016");
        assert_eq!(name(0x1_FF00_0000, 16), "0000000100000001000000FF");
        assert_eq!(name(0x1_FF00_0000, 64), "00000001000000010000003F");
        assert_eq!(TimelineId(26).history_file_name(), "0000001A.history");
    }

    #[test]
    fn sizes_that_no_build_has_are_refused() {
        for bad in [0, 1, 512 << 10, (16 << 20) + 1, 2 << 30, 3 << 20] {
            assert_eq!(SegmentSize::new(bad), None, "{bad}");
        }
        assert!("0".parse::<TimelineId>().is_err());
    }

    proptest! {
        #[test]
        fn names_are_read_back(timeline in 1u32.., position in any::<u64>(), power in 20u32..=30) {
            let size = SegmentSize::new(1 << power).unwrap();
            let name = SegmentName::of(TimelineId(timeline), Lsn(position), size);
            prop_assert_eq!(SegmentName::parse(&name.file_name(size), size), Ok(name));
            prop_assert_eq!(Lsn(position).to_string().parse(), Ok(Lsn(position)));
        }

        #[test]
        fn no_text_makes_them_panic(text in ".{0,30}") {
            let _ = SegmentName::parse(&text, SegmentSize::DEFAULT);
            let _ = text.parse::<Lsn>();
        }
    }
}
