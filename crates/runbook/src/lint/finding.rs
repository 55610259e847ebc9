//! What a rule says of a runbook: which rule, how much it weighs, where, and what to do about it.

use crate::step::{Step, StepId};
use lifeboat_plan::lint::Weight;
use serde::{Serialize, Serializer};
use std::fmt;

/// One thing that the lint found in a runbook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The rule.
    pub rule: Rule,
    /// How much it weighs.
    pub weight: Weight,
    /// The line of the document, from 1.
    pub line: u32,
    /// The step, where it is about one.
    pub step: Option<StepId>,
    /// What is wrong, in one sentence.
    pub what: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Finding {
    /// A hazard of one step, whose name begins the sentence.
    pub(super) fn of(rule: Rule, step: &Step, what: impl fmt::Display, hint: impl Into<String>) -> Self {
        Self {
            rule,
            weight: Weight::Hazard,
            line: step.line,
            step: Some(step.id.clone()),
            what: format!("`{}` {what}", step.id),
            hint: Some(hint.into()),
        }
    }

    /// A finding about the document.
    pub(super) fn at(
        rule: Rule,
        weight: Weight,
        line: u32,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self { rule, weight, line, step: None, what: what.into(), hint: Some(hint.into()) }
    }
}

lifeboat_plan::lint_rules! {
    /// The rules for runbooks, each with its name; `docs/lint.md` has their reasons.

    /// It may not be repeated, and nothing says how it is undone or why it cannot be.
    UndoMissing = "undo-missing",
    /// It destroys, and nobody agrees to it.
    Unapproved = "unapproved",
    /// It destroys, and nothing was looked at before.
    Unchecked = "unchecked",
    /// It promotes, and nothing before it fences the old side.
    Unfenced = "unfenced",
    /// A check whose answer is thrown away.
    CheckSwallowed = "check-swallowed",
    /// A check that says yes whatever is the matter.
    CheckCannotFail = "check-cannot-fail",
    /// A live SQLite file copied as a file.
    SqliteCopy = "sqlite-copy",
    /// A pattern where `sqlite3` takes one file.
    SqliteGlob = "sqlite-glob",
    /// A command, option or file that does not exist as it is written.
    NoSuchCommand = "no-such-command",
    /// A secret in the text.
    SecretWritten = "secret-written",
    /// The review is overdue.
    ReviewOverdue = "review-overdue",
    /// The steps may take longer than the RTO.
    RunSum = "run-sum",
    /// An item is ticked before anybody began.
    Ticked = "ticked",
    /// An input that no step takes.
    InputUnused = "input-unused",
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
