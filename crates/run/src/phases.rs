//! The recovery time in its parts. They add up: each instant between the beginning and the end belongs to one.

use lifeboat_base::clock::Timestamp;
use lifeboat_runbook::Phase;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::time::Duration;

/// What an instant is spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Doing {
    /// Nothing that counts: not begun, or over.
    #[default]
    Nothing,
    /// A part of the recovery. Where steps of several parts run at once, it is the last of these parts.
    Phase(Phase),
}

/// How long the recovery took, in its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PhaseTimes {
    parts: BTreeMap<Phase, Duration>,
    doing: Doing,
}

impl PhaseTimes {
    /// How long a part took.
    pub fn of(&self, phase: Phase) -> Duration {
        self.parts.get(&phase).copied().unwrap_or_default()
    }

    /// How long it took in all.
    pub fn total(&self) -> Duration {
        self.parts.values().sum()
    }

    /// What happened before the run counts as detecting.
    pub(crate) fn begin(&mut self, since: Option<Timestamp>, begun: Timestamp) {
        if let Some(since) = since {
            self.parts.insert(Phase::Detect, begun.since(since));
        }
    }

    pub(crate) fn pass(&mut self, now: Timestamp, before: Timestamp) {
        if let Doing::Phase(phase) = self.doing {
            *self.parts.entry(phase).or_default() += now.since(before);
        }
    }

    pub(crate) fn now(&mut self, doing: Doing) {
        self.doing = doing;
    }
}

/// Milliseconds by the part's name.
impl Serialize for PhaseTimes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let millis = |length: &Duration| u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
        serializer.collect_map(self.parts.iter().map(|(phase, length)| (phase, millis(length))))
    }
}
