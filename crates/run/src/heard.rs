//! Which requests of its mirror a run has heard, and how many more it hears. Derived from its records, so that a
//! restart or a takeover neither forgets nor answers twice.

use crate::event::Heard;
use crate::ids::RequestId;
use std::collections::{BTreeMap, BTreeSet};

/// A run hears so many requests through its mirror. Each answer is a record of the journal, which nobody who can write
/// to the mirror shall fill.
pub(crate) const MAX_HEARD: usize = 1000;
/// So many of one who leaves them, or of all whom the mirror cannot vouch for: who leaves more keeps nobody else from
/// being heard.
pub(crate) const MAX_HEARD_OF_ONE: usize = 250;

/// What was heard.
#[derive(Clone, Debug, Default)]
pub struct HeardSoFar {
    ids: BTreeSet<RequestId>,
    of: BTreeMap<Option<String>, usize>,
}

impl HeardSoFar {
    /// Whether a request was answered.
    pub fn has(&self, id: &RequestId) -> bool {
        self.ids.contains(id)
    }

    pub(crate) fn ids(&self) -> &BTreeSet<RequestId> {
        &self.ids
    }

    pub(crate) fn take_in(&mut self, heard: &Heard) {
        self.ids.insert(heard.id);
        *self.of.entry(heard.from.clone()).or_default() += 1;
    }

    /// Whether no more is heard of anybody.
    pub(crate) fn is_full(&self) -> bool {
        self.ids.len() >= MAX_HEARD
    }

    /// Whether no more is heard of one.
    pub(crate) fn is_full_of(&self, from: Option<&String>) -> bool {
        self.is_full() || self.of.get(&from.cloned()).is_some_and(|count| *count >= MAX_HEARD_OF_ONE)
    }
}
