//! When something is due: every so long, by a calendar, or when what it is about has changed.

use crate::span::Span;
use crate::text::{schema_as, text_or_table};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use serde::Deserialize;
use std::str::FromStr;

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawSchedule")]
pub struct Schedule {
    /// When it is due.
    pub when: When,
    /// Put off by up to so long, by chance, so that not everything begins at once.
    pub jitter: Span,
}

/// When something is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum When {
    /// So long after it was last begun.
    Every(Span),
    /// By a calendar.
    Calendar(Calendar),
}

/// A pattern of five fields as cron(8) has it, in a time zone.
#[derive(Clone, Debug)]
pub struct Calendar {
    text: String,
    /// Boxed: it is large, and most schedules have none.
    pattern: Box<croner::Cron>,
    zone: TimeZone,
}

impl PartialEq for Calendar {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.zone_name()) == (&other.text, other.zone_name())
    }
}

impl Eq for Calendar {}

impl Calendar {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with the pattern, or that there is no such time zone.
    pub fn new(pattern: &str, zone: Option<&str>) -> Result<Self, String> {
        let parsed = croner::Cron::from_str(pattern)
            .map_err(|error| format!("{pattern:?} is no calendar pattern (five fields of cron): {error}"))?;
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name)
                .map_err(|_| format!("there is no time zone {name:?}: name it as \"Europe/Berlin\""))?,
        };
        Ok(Self { text: pattern.to_owned(), pattern: Box::new(parsed), zone })
    }

    /// The pattern as written.
    pub fn pattern(&self) -> &str {
        &self.text
    }

    /// The time zone's name.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("UTC")
    }

    /// The first time that the pattern names after an instant; none where there is none within its reach.
    pub fn after(&self, instant: Timestamp) -> Option<Timestamp> {
        let from: Zoned = instant.to_zoned(self.zone.clone());
        self.pattern.find_next_occurrence(&from, false).ok().map(|next| next.timestamp())
    }
}

/// How many times of a calendar are looked at for its longest gap: more than a year of hours.
const GAPS_LOOKED_AT: usize = 10_000;

impl Schedule {
    /// Every so long, without jitter.
    pub const fn every(span: Span) -> Self {
        Self { when: When::Every(span), jitter: Span::from_secs(0) }
    }

    /// When it is due after it was last begun, without the jitter.
    pub fn due_after(&self, begun: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Every(span) => {
                begun.checked_add(jiff::SignedDuration::try_from(span.duration()).ok()?).ok()
            }
            When::Calendar(calendar) => calendar.after(begun),
        }
    }

    /// The longest time between two occurrences, jitter included. Of a calendar: the longest within a leap
    /// year from 2028 (shifts of daylight saving included), as far as its first ten thousand times reach; the
    /// longest there is where it never comes twice.
    pub fn longest_gap(&self) -> Span {
        let gap = match &self.when {
            When::Every(span) => *span,
            When::Calendar(calendar) => longest_gap(calendar),
        };
        gap.plus(self.jitter)
    }

    /// As it is said: `1h`, or `0 2 * * * (Europe/Berlin)`.
    pub fn describe(&self) -> String {
        match &self.when {
            When::Every(span) => format!("every {span}"),
            When::Calendar(calendar) => format!("at {} ({})", calendar.pattern(), calendar.zone_name()),
        }
    }
}

fn longest_gap(calendar: &Calendar) -> Span {
    /// 2028-01-01T00:00:00Z, the first of a leap year, so that the gap is the same whenever it is asked.
    const FROM: i64 = 1_830_297_600;
    let Ok(mut last) = Timestamp::from_second(FROM) else { return Span::default() };
    let Ok(end) = Timestamp::from_second(FROM + 370 * 24 * 60 * 60) else { return Span::default() };
    let mut longest = Span::default();
    let mut found = 0;
    for turn in 0..GAPS_LOOKED_AT {
        let Some(next) = calendar.after(last) else { break };
        if turn > 0 {
            longest = longest.max(Span::new(next.duration_since(last).unsigned_abs()));
            found += 1;
        }
        last = next;
        if last > end {
            break;
        }
    }
    if found == 0 { Span::new(std::time::Duration::MAX) } else { longest }
}

/// As it is written.
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
pub(crate) enum RawSchedule {
    /// A length of time, for `{ every = … }`.
    Text(Span),
    /// With everything.
    Table(RawTable),
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTable {
    /// Every so long.
    every: Option<Span>,
    /// Or by a calendar: the five fields of cron.
    cron: Option<String>,
    /// The time zone of the calendar; UTC unless named.
    timezone: Option<String>,
    /// Put off by up to so long, by chance.
    #[serde(default)]
    jitter: Span,
}

impl TryFrom<RawSchedule> for Schedule {
    type Error = String;

    fn try_from(raw: RawSchedule) -> Result<Self, String> {
        match raw {
            RawSchedule::Text(span) => Ok(Self { when: every(span)?, jitter: Span::default() }),
            RawSchedule::Table(raw) => {
                let when = when(raw.every, raw.cron.as_deref(), raw.timezone.as_deref())?;
                Ok(Self { when: when.ok_or("when it is due is missing: every or cron")?, jitter: raw.jitter })
            }
        }
    }
}

text_or_table!(RawSchedule, Text, Table, "a length of time, or a table with every or cron");
schema_as!(Schedule, RawSchedule);

fn every(span: Span) -> Result<When, String> {
    if span < Span::from_secs(1) {
        Err("every less than 1s is never done".to_owned())
    } else {
        Ok(When::Every(span))
    }
}

/// From the keys `every`, `cron` and `timezone`, of which the first two exclude each other.
pub(crate) fn when(
    span: Option<Span>,
    cron: Option<&str>,
    timezone: Option<&str>,
) -> Result<Option<When>, String> {
    match (span, cron) {
        (Some(_), Some(_)) => Err("every beside cron: give one".to_owned()),
        (None, None) if timezone.is_some() => Err("timezone without cron".to_owned()),
        (None, None) => Ok(None),
        (Some(_), None) if timezone.is_some() => Err("timezone goes with cron, not with every".to_owned()),
        (Some(span), None) => every(span).map(Some),
        (None, Some(cron)) => Calendar::new(cron, timezone).map(|calendar| Some(When::Calendar(calendar))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn calendar(pattern: &str, zone: Option<&str>) -> Schedule {
        let calendar = Calendar::new(pattern, zone).unwrap();
        Schedule { when: When::Calendar(calendar), jitter: Span::default() }
    }

    #[test]
    fn a_calendar_follows_its_time_zone_through_daylight_saving() {
        let berlin = calendar("30 1 * * *", Some("Europe/Berlin"));
        // Summer time ends on 2026-10-25, and begins on 2026-03-29.
        assert_eq!(berlin.due_after(at("2026-10-24T00:00:00Z")), Some(at("2026-10-24T23:30:00Z")));
        assert_eq!(berlin.due_after(at("2026-10-25T12:00:00Z")), Some(at("2026-10-26T00:30:00Z")));
        assert_eq!(berlin.longest_gap(), Span::from_secs(25 * 60 * 60));
        assert_eq!(calendar("30 1 * * *", None).longest_gap(), Span::from_secs(24 * 60 * 60));
    }

    #[test]
    fn the_longest_gap_is_the_longest_not_the_usual() {
        let working_hours = calendar("0 9-17 * * MON-FRI", None);
        assert_eq!(working_hours.longest_gap(), Span::from_secs((64) * 60 * 60));
        let monthly = calendar("0 3 1 * *", None);
        assert_eq!(monthly.longest_gap(), Span::from_secs(31 * 24 * 60 * 60));
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        assert!(Calendar::new("0 25 * * *", None).unwrap_err().contains("0 25 * * *"));
        assert!(Calendar::new("0 2 * * *", Some("Mars/Olympus")).unwrap_err().contains("Mars/Olympus"));
        assert!(when(Some(Span::from_secs(1)), Some("* * * * *"), None).is_err());
        assert!(when(None, None, Some("UTC")).is_err());
        assert!(when(Some(Span::default()), None, None).is_err());
    }
}
