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

/// Where faults are gathered while a document is read.
#[derive(Debug, Default)]
pub(crate) struct Found(Vec<Fault>);

impl Found {
    pub(crate) fn fault(&mut self, line: u32, what: impl Into<String>) {
        self.0.push(Fault { line, what: what.into(), hint: None });
    }

    pub(crate) fn hinted(&mut self, line: u32, what: impl Into<String>, hint: impl Into<String>) {
        self.0.push(Fault { line, what: what.into(), hint: Some(hint.into()) });
    }

    /// Something is named that is not there: the nearest of what is, is proposed.
    pub(crate) fn unknown<'a>(
        &mut self,
        line: u32,
        what: impl Into<String>,
        unknown: &str,
        known: impl Iterator<Item = &'a str>,
    ) {
        let hint = nearest(unknown, known).map(|nearest| format!("Did you mean `{nearest}`?"));
        self.0.push(Fault { line, what: what.into(), hint });
    }

    pub(crate) fn take<T>(&mut self, line: u32, read: Result<T, String>) -> Option<T> {
        read.map_err(|what| self.fault(line, what)).ok()
    }

    /// The faults in the order of their lines, if there are any.
    pub(crate) fn into_faults(mut self) -> Option<Faults> {
        self.0.sort();
        self.0.dedup();
        (!self.0.is_empty()).then_some(Faults(self.0))
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
}
