//! The history of a timeline: which timelines it came from, and where it left each of them.

use crate::position::{Lsn, TimelineId};

/// A place at which one timeline was left for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The timeline that was left.
    pub timeline: TimelineId,
    /// The first position that is not of it any more.
    pub at: Lsn,
}

/// A timeline and its ancestors, as a `.history` file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineHistory {
    timeline: TimelineId,
    switches: Vec<Switch>,
}

/// A `.history` file that cannot be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HistoryError {
    /// A line that does not say a timeline and a position.
    #[error("line {line} of the history of timeline {timeline} says no timeline and position: {text:?}")]
    Line {
        /// Whose history.
        timeline: TimelineId,
        /// Which line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// Timelines or positions that do not ascend.
    #[error("line {line} of the history of timeline {timeline} does not lie behind the one before")]
    Order {
        /// Whose history.
        timeline: TimelineId,
        /// Which line, from 1.
        line: usize,
    },
}

impl TimelineHistory {
    /// The history of a timeline that came from no other one.
    pub const fn first(timeline: TimelineId) -> Self {
        Self { timeline, switches: Vec::new() }
    }

    /// Reads a `.history` file: a line an ancestor, with its number, where it was left, and a reason for people.
    ///
    /// # Errors
    /// See [`HistoryError`]. What PostgreSQL itself would refuse is refused.
    pub fn parse(timeline: TimelineId, content: &[u8]) -> Result<Self, HistoryError> {
        let mut switches: Vec<Switch> = Vec::new();
        for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
            let text = String::from_utf8_lossy(line);
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let mut fields = text.split_ascii_whitespace();
            let (Some(Ok(left)), Some(Ok(at))) =
                (fields.next().map(str::parse::<TimelineId>), fields.next().map(str::parse::<Lsn>))
            else {
                return Err(HistoryError::Line { timeline, line: index + 1, text: text.to_owned() });
            };
            let ascends = switches.last().is_none_or(|last| last.timeline < left && last.at <= at);
            if !ascends || left >= timeline {
                return Err(HistoryError::Order { timeline, line: index + 1 });
            }
            switches.push(Switch { timeline: left, at });
        }
        Ok(Self { timeline, switches })
    }

    /// Whose history it is.
    pub const fn timeline(&self) -> TimelineId {
        self.timeline
    }

    /// Its ancestors, the first one first, with the place where each was left.
    pub fn switches(&self) -> &[Switch] {
        &self.switches
    }

    /// The timeline that a position belongs to, seen from this one. A switch position is the first of the
    /// next timeline.
    pub fn timeline_at(&self, position: Lsn) -> TimelineId {
        let ancestor = self.switches.iter().find(|switch| position < switch.at);
        ancestor.map_or(self.timeline, |switch| switch.timeline)
    }

    /// Where a timeline ends for those who come to this one; `None` where it does not end or is no ancestor.
    pub fn end_of(&self, timeline: TimelineId) -> Option<Lsn> {
        self.switches.iter().find(|switch| switch.timeline == timeline).map(|switch| switch.at)
    }

    /// Whether a timeline is this one or one of its ancestors.
    pub fn includes(&self, timeline: TimelineId) -> bool {
        self.timeline == timeline || self.end_of(timeline).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const THREE: &[u8] = b"1\t0/3000060\tno recovery target specified\n\n# a remark\n2\t0/40001C8\tbefore 2026-11-22 10:00:00+00\n";

    #[test]
    fn a_position_belongs_to_the_timeline_that_had_not_left_it() {
        let history = TimelineHistory::parse(TimelineId(3), THREE).unwrap();
        assert_eq!(history.timeline_at(Lsn(0x300_005F)), TimelineId(1));
        assert_eq!(history.timeline_at(Lsn(0x300_0060)), TimelineId(2));
        assert_eq!(history.timeline_at(Lsn(0x400_01C8)), TimelineId(3));
        assert_eq!(history.end_of(TimelineId(2)), Some(Lsn(0x400_01C8)));
        assert_eq!(history.end_of(TimelineId(3)), None);
        assert!(history.includes(TimelineId(1)) && !history.includes(TimelineId(4)));
    }

    #[test]
    fn what_postgresql_would_refuse_is_refused() {
        let parse = |content: &str| TimelineHistory::parse(TimelineId(3), content.as_bytes());
        assert!(matches!(parse("one 0/1 x"), Err(HistoryError::Line { line: 1, .. })));
        assert!(matches!(parse("1"), Err(HistoryError::Line { .. })));
        assert!(matches!(parse("2 0/1\n1 0/2"), Err(HistoryError::Order { line: 2, .. })));
        assert!(matches!(parse("1 0/2\n2 0/1"), Err(HistoryError::Order { .. })));
        assert!(matches!(parse("3 0/2"), Err(HistoryError::Order { .. })));
        assert_eq!(parse(""), Ok(TimelineHistory::first(TimelineId(3))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(content in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = TimelineHistory::parse(TimelineId(9), &content);
        }
    }
}
