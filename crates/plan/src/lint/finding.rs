//! What a rule says: which rule, how much it weighs, where, with which sum.

use super::sum::{Sum, Term};
use serde::{Serialize, Serializer};
use std::fmt;

/// How much a finding weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// It cannot be met, or two statements exclude each other.
    Contradiction,
    /// It will hurt.
    Hazard,
    /// It cannot be computed.
    Unknown,
}

/// One thing that the lint found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// How much it weighs.
    pub weight: Weight,
    /// The key that it is about, as a path: `datasets.users.rpo`.
    pub key: String,
    /// What is wrong, in one sentence, with the sum.
    pub what: String,
    /// What was added up, where something was.
    pub sum: Vec<Term>,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Finding {
    pub(super) fn new(rule: Rule, weight: Weight, key: impl Into<String>, what: impl Into<String>) -> Self {
        Self { rule, weight, key: key.into(), what: what.into(), sum: Vec::new(), hint: None }
    }

    pub(super) fn contradiction(rule: Rule, key: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(rule, Weight::Contradiction, key, what)
    }

    pub(super) fn hazard(rule: Rule, key: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(rule, Weight::Hazard, key, what)
    }

    pub(super) fn unknown(rule: Rule, key: impl Into<String>, what: impl Into<String>) -> Self {
        Self::new(rule, Weight::Unknown, key, what)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn sum(mut self, sum: Sum) -> Self {
        self.sum = sum.into_terms();
        self
    }
}

/// Makes the enum of the rules that a lint has, each with its name: an item, a documentation comment and a name a rule.
#[macro_export]
macro_rules! lint_rules {
    (#[doc = $all:literal] $($(#[doc = $doc:literal])+ $rule:ident = $name:literal,)+) => {
        #[doc = $all]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[doc = $doc])+ $rule,)+
        }

        impl Rule {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$rule),+];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$rule => $name,)+
                }
            }
        }
    };
}

lint_rules! {
    /// The rules, each with its name; `docs/lint.md` has their reasons and their arithmetic.

    /// Exposure when the host is lost, against the RPO.
    RpoHost = "rpo-host",
    /// Exposure when the repository is lost with it, against the RPO.
    RpoRepository = "rpo-repository",
    /// Exposure when the region is lost, against the RPO.
    RpoRegion = "rpo-region",
    /// A region may be lost, and nothing outside of it holds a dataset.
    CopyRegion = "copy-region",
    /// Nothing says how much of a dataset may be lost.
    RpoMissing = "rpo-missing",
    /// Nothing makes recovery points of a dataset.
    NothingProtects = "nothing-protects",
    /// Nothing says what is kept of a dataset.
    NothingRetains = "nothing-retains",
    /// Nothing proves a dataset.
    NothingProves = "nothing-proves",
    /// Continuous, and the store has no log.
    NoLog = "no-log",
    /// This release has no driver for it.
    NoDriver = "no-driver",
    /// No repository is named.
    NoRepository = "no-repository",
    /// A stale snapshot is reported too late, or a fresh one as stale.
    StaleAfter = "stale-after",
    /// A proof may be older than it may be.
    ProofAge = "proof-age",
    /// It takes longer than the time until it is due again.
    Overlap = "overlap",
    /// Detection, decision, restores and steps, against the RTO.
    RtoSum = "rto-sum",
    /// Nothing says how fast a service must be back.
    RtoMissing = "rto-missing",
    /// A tier or service may take longer than what it is part of.
    RtoOrder = "rto-order",
    /// A service needs what may take longer than it.
    NeedsLowerTier = "needs-lower-tier",
    /// Detection, decision and steps of a failover, against what it may take.
    FailoverSum = "failover-sum",
    /// One recovery spends more than a month's budget.
    AvailabilityBudget = "availability-budget",
    /// The mean time to recovery that is promised, against what a recovery takes.
    Mttr = "mttr",
    /// Detection that is promised, against what the probe can do.
    Detection = "detection",
    /// The probe asks whether the process lives.
    ProbeLiveness = "probe-liveness",
    /// A window without a log, or with too few snapshots.
    Window = "window",
    /// Retention by periods in which there is no snapshot.
    RetainUnfilled = "retain-unfilled",
    /// The fewest that are kept, against the rules and against reason.
    AtLeast = "at-least",
    /// A key dies before what it protects.
    KeyLife = "key-life",
    /// A key is kept in what it protects.
    KeyCycle = "key-cycle",
    /// A key is kept nowhere.
    KeyNotKept = "key-not-kept",
    /// The repository's key lies in what it opens.
    RepositoryKey = "repository-key",
    /// One key opens the repository and its copy.
    CopyKey = "copy-key",
    /// A copy is where another one is.
    CopyPlace = "copy-place",
    /// The repository is on the host of the data.
    RepositoryHost = "repository-host",
    /// The repository and everything in it are in one region.
    RepositoryRegion = "repository-region",
    /// Services need each other.
    NeedsCycle = "needs-cycle",
    /// A name that nothing has.
    UnknownName = "unknown-name",
    /// One thing with two names, or one name for two things.
    NamedTwice = "named-twice",
    /// One thing promised with two values.
    PromisedTwice = "promised-twice",
    /// Severities and levels, and nothing between them.
    TwoScales = "two-scales",
    /// What is worse is answered later.
    ResponseOrder = "response-order",
    /// The first is told after somebody must be at it.
    EscalationLate = "escalation-late",
    /// Nobody is reached there.
    ContactAddress = "contact-address",
    /// What comes first is due last.
    ReviewOrder = "review-order",
    /// One port for two services.
    PortTwice = "port-twice",
    /// A lock lives in what it guards.
    LockPlace = "lock-place",
    /// The spool is on the primary's host.
    SpoolHost = "spool-host",
    /// How long a commit may wait.
    SynchronousWait = "synchronous-wait",
    /// Proofs may not take what they need.
    ScratchLimit = "scratch-limit",
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
