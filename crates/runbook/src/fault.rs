//! What is wrong with a document: all of it at once, each with its line and what to write instead.

use lifeboat_base::Hint;
use lifeboat_plan::nearest;
use std::fmt;

/// One thing that is wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Fault {
    /// The line, from 1.
    pub line: u32,
    /// What is wrong there.
    pub what: String,
    /// What to write instead.
    pub hint: Option<String>,
}

impl Hint for Fault {
    fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

/// Everything that is wrong with a document, in the order of its lines; at least one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// Of a document that could not be read, where no rule said why.
    pub(crate) fn unsaid() -> Self {
        Self(vec![Fault { line: 1, what: "the document cannot be read as a runbook".to_owned(), hint: None }])
    }

    /// Each of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Fault> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Faults {
    type Item = &'a Fault;
    type IntoIter = std::slice::Iter<'a, Fault>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            let between = if n == 0 { "" } else { "; " };
            write!(f, "{between}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

impl Hint for Faults {
    fn hint(&self) -> Option<String> {
        self.0.iter().find_map(|fault| fault.hint.clone())
    }
}

/// So many faults are said; whoever has more begins with these.
const MAX_FAULTS: usize = 1_000;
/// For so many unknown names the nearest known one is looked for, which takes a look at each of those.
const MAX_PROPOSALS: usize = 20;
/// A longer word is no mistyped one.
const LONGEST_WORD: usize = 100;
/// So much is said of one fault, which may quote the document.
const LONGEST: usize = 500;

/// Where faults are gathered while a document is read.
#[derive(Debug, Default)]
pub(crate) struct Found {
    faults: Vec<Fault>,
    proposals: usize,
}

impl Found {
    fn push(&mut self, line: u32, what: String, hint: Option<String>) {
        match self.faults.len() {
            MAX_FAULTS.. => {}
            full if full + 1 == MAX_FAULTS => {
                let what = "there are more faults, which are not said before these are gone".to_owned();
                self.faults.push(Fault { line: u32::MAX, what, hint: None });
            }
            _ => self.faults.push(Fault {
                line,
                what: cut(&what, LONGEST),
                hint: hint.map(|hint| cut(&hint, LONGEST)),
            }),
        }
    }

    pub(crate) fn fault(&mut self, line: u32, what: impl Into<String>) {
        self.push(line, what.into(), None);
    }

    pub(crate) fn hinted(&mut self, line: u32, what: impl Into<String>, hint: impl Into<String>) {
        self.push(line, what.into(), Some(hint.into()));
    }

    /// Something is named that is not there: the nearest of what is, is proposed.
    pub(crate) fn unknown<'a>(
        &mut self,
        line: u32,
        what: impl Into<String>,
        unknown: &str,
        known: impl Iterator<Item = &'a str>,
    ) {
        let hint = self.proposal(unknown, known);
        self.push(line, what.into(), hint);
    }

    /// The same, with a hint for where nothing is near.
    pub(crate) fn unknown_or<'a>(
        &mut self,
        line: u32,
        what: impl Into<String>,
        unknown: &str,
        known: impl Iterator<Item = &'a str>,
        otherwise: String,
    ) {
        let hint = self.proposal(unknown, known).unwrap_or(otherwise);
        self.push(line, what.into(), Some(hint));
    }

    fn proposal<'a>(&mut self, unknown: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
        if self.proposals == MAX_PROPOSALS || unknown.len() > LONGEST_WORD {
            return None;
        }
        self.proposals += 1;
        nearest(unknown, known).map(|nearest| format!("Did you mean `{nearest}`?"))
    }

    pub(crate) fn take<T>(&mut self, line: u32, read: Result<T, String>) -> Option<T> {
        read.map_err(|what| self.fault(line, what)).ok()
    }

    /// The faults in the order of their lines, if there are any.
    pub(crate) fn into_faults(self) -> Option<Faults> {
        let mut faults = self.faults;
        faults.sort();
        faults.dedup();
        let last = faults.iter().rev().find(|fault| fault.line != u32::MAX).map_or(1, |fault| fault.line);
        faults.iter_mut().filter(|fault| fault.line == u32::MAX).for_each(|fault| fault.line = last);
        (!faults.is_empty()).then_some(Faults(faults))
    }
}

/// A text of at most so many letters.
pub(crate) fn cut(text: &str, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", text[..end].trim_end()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_said_in_order_and_once() {
        let mut found = Found::default();
        found.fault(7, "late");
        found.unknown(3, "nothing is called `fense`", "fense", ["verify", "fence"].into_iter());
        found.fault(7, "late");
        let faults = found.into_faults().unwrap();
        assert_eq!(faults.to_string(), "line 3: nothing is called `fense`; line 7: late");
        assert_eq!(faults.hint().as_deref(), Some("Did you mean `fence`?"));
        assert_eq!(Found::default().into_faults(), None);
    }

    #[test]
    fn there_is_an_end_to_what_is_said() {
        let mut found = Found::default();
        for line in 1..=2_000 {
            found.unknown(line, "x".repeat(2_000), "needs", ["need"].into_iter());
        }
        let faults = found.into_faults().unwrap();
        let last = faults.iter().last().unwrap();
        assert_eq!((faults.iter().count(), last.line), (MAX_FAULTS, 999));
        assert!(last.what.contains("more faults") && faults.iter().all(|fault| fault.what.len() < 600));
        assert_eq!(faults.iter().filter(|fault| fault.hint.is_some()).count(), MAX_PROPOSALS);
    }
}
