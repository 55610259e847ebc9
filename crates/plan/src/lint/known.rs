//! What has been measured of datasets, as far as somebody measured it.

use super::sum::Source;
use crate::amount::{Rate, Size};
use crate::span::Span;
use std::collections::BTreeMap;

/// What has been measured; empty unless somebody measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Of each dataset, by its name in the plan.
    pub datasets: BTreeMap<String, KnownDataset>,
}

/// What has been measured of one dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownDataset {
    /// How long a snapshot takes.
    pub snapshot: Option<Measured>,
    /// How long it takes from there to the repository; of a followed dataset, how far the log is behind.
    pub ships: Option<Measured>,
    /// How long getting it back takes.
    pub restore: Option<Measured>,
    /// How old the last proof is.
    pub proof_age: Option<Span>,
}

/// A length of time that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Measured {
    /// Nine of ten took no longer.
    pub p90: Span,
    /// How many were measured.
    pub count: usize,
}

impl Measured {
    /// From a rate that nine of ten reached, and how much there is.
    pub fn at_rate(slow: Rate, size: Size, count: usize) -> Self {
        Self { p90: slow.time_for(size), count }
    }

    pub(super) const fn with_source(self) -> (Span, Source) {
        (self.p90, Source::Measured { count: self.count })
    }
}
