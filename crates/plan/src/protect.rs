//! How a dataset is protected: continuously, by schedule, or when it changes.

use crate::amount::Size;
use crate::schedule::{Schedule, When, when};
use crate::span::Span;
use crate::text::{schema_as, text_or_table};
use serde::{Deserialize, Serialize};

/// How a dataset is protected.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "RawProtect")]
pub struct ProtectPlan {
    /// What decides how much may be lost.
    pub mode: Mode,
    /// When a snapshot is due: of a continuous one, a new base for its log.
    pub snapshots: Option<Schedule>,
    /// How long a snapshot takes, where that is stated and not yet measured.
    pub takes: Option<Span>,
    /// How long it takes from there to the repository, where that is stated.
    pub ships: Option<Span>,
    /// Where log must be durable before it is acknowledged to the server.
    pub ack: Ack,
    /// The folder of spools, on another host than the server.
    pub spool: Option<String>,
    /// How much a spool may take, with a unit.
    pub spool_limit: Option<Size>,
    /// Whether commits wait until they are durable here.
    pub synchronous: bool,
    /// How long a commit may wait before synchronous mode is suspended.
    pub max_wait: Option<Span>,
}

/// What decides how much may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The log is followed.
    Continuous,
    /// Snapshots by schedule.
    Scheduled,
    /// A snapshot whenever the dataset has changed; looked at so often.
    OnChange {
        /// Between two looks.
        look_every: Span,
    },
}

/// Between two looks at what is protected on change, unless told otherwise.
const LOOK_EVERY: Span = Span::from_secs(30);

/// Where log must be durable before it is acknowledged to the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// In the repository.
    #[default]
    Repository,
    /// In the spool of the host that follows.
    Spool,
}

impl ProtectPlan {
    /// Continuous, with everything else as it is unless told otherwise.
    pub const fn continuous() -> Self {
        Self {
            mode: Mode::Continuous,
            snapshots: None,
            takes: None,
            ships: None,
            ack: Ack::Repository,
            spool: None,
            spool_limit: None,
            synchronous: false,
            max_wait: None,
        }
    }
}

impl Default for ProtectPlan {
    fn default() -> Self {
        Self::continuous()
    }
}

/// As it is written.
#[derive(schemars::JsonSchema)]
#[schemars(untagged)]
pub(crate) enum RawProtect {
    /// One word.
    Word(Word),
    /// With everything.
    Table(RawTable),
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Word {
    /// The log is followed.
    Continuous,
    /// A snapshot whenever the dataset has changed.
    OnChange,
}

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTable {
    /// Continuous or on-change; by schedule, if left out beside every or cron.
    mode: Option<Word>,
    /// A snapshot every so long.
    every: Option<Span>,
    /// Or by a calendar: the five fields of cron.
    cron: Option<String>,
    /// The time zone of the calendar; UTC unless named.
    timezone: Option<String>,
    /// Put off by up to so long, by chance.
    #[serde(default)]
    jitter: Span,
    /// Between two looks, on change.
    look_every: Option<Span>,
    /// How long a snapshot takes, where that is stated and not yet measured.
    takes: Option<Span>,
    /// How long it takes from there to the repository, where that is stated.
    ships: Option<Span>,
    /// Where log must be durable before it is acknowledged to the server.
    ack: Option<Ack>,
    /// The folder of spools, on another host than the server.
    spool: Option<String>,
    /// How much a spool may take, with a unit.
    spool_limit: Option<Size>,
    /// Whether commits wait until they are durable here.
    synchronous: Option<bool>,
    /// How long a commit may wait before synchronous mode is suspended.
    max_wait: Option<Span>,
}

impl RawTable {
    fn mode(&self) -> Result<Mode, String> {
        let is_scheduled = self.every.is_some() || self.cron.is_some();
        match (self.mode, is_scheduled) {
            (Some(Word::OnChange), true) => {
                Err("mode = \"on-change\" beside every or cron: give one".to_owned())
            }
            (Some(Word::OnChange), false) => {
                Ok(Mode::OnChange { look_every: self.look_every.unwrap_or(LOOK_EVERY) })
            }
            (None, true) => Ok(Mode::Scheduled),
            // The keys of a log say what is meant.
            (Some(Word::Continuous), _) | (None, false) => Ok(Mode::Continuous),
        }
    }

    /// A key that says nothing in this mode would be a promise that nobody keeps.
    fn refuse_what_is_not_meant(&self, mode: Mode) -> Result<(), String> {
        let of_a_log = [
            ("ack", self.ack.is_some()),
            ("spool", self.spool.is_some()),
            ("spool_limit", self.spool_limit.is_some()),
            ("synchronous", self.synchronous.is_some()),
            ("max_wait", self.max_wait.is_some()),
        ];
        let stray = of_a_log.iter().find(|(_, given)| *given).filter(|_| mode != Mode::Continuous);
        if let Some((key, _)) = stray {
            return Err(format!("{key} goes with mode = \"continuous\": nothing else has a log"));
        }
        if self.look_every.is_some() && !matches!(mode, Mode::OnChange { .. }) {
            return Err("look_every goes with mode = \"on-change\"".to_owned());
        }
        if self.max_wait.is_some() && self.synchronous != Some(true) {
            return Err("max_wait goes with synchronous = true".to_owned());
        }
        Ok(())
    }
}

impl TryFrom<RawProtect> for ProtectPlan {
    type Error = String;

    fn try_from(raw: RawProtect) -> Result<Self, String> {
        let raw = match raw {
            RawProtect::Word(Word::Continuous) => return Ok(Self::continuous()),
            RawProtect::Word(Word::OnChange) => {
                return Ok(Self { mode: Mode::OnChange { look_every: LOOK_EVERY }, ..Self::continuous() });
            }
            RawProtect::Table(raw) => raw,
        };
        let mode = raw.mode()?;
        raw.refuse_what_is_not_meant(mode)?;
        let due: Option<When> = when(raw.every, raw.cron.as_deref(), raw.timezone.as_deref())?;
        Ok(Self {
            mode,
            snapshots: due.map(|when| Schedule { when, jitter: raw.jitter }),
            takes: raw.takes,
            ships: raw.ships,
            ack: raw.ack.unwrap_or_default(),
            spool: raw.spool,
            spool_limit: raw.spool_limit,
            synchronous: raw.synchronous.unwrap_or(false),
            max_wait: raw.max_wait,
        })
    }
}

text_or_table!(RawProtect, Word, Table, "\"continuous\", \"on-change\", or a table");
schema_as!(ProtectPlan, RawProtect);
