//! From front matter as it is written to [`Front`]: every key known, every value of its type, all faults at once.

use crate::fault::Found;
use crate::front::{Contact, Front, Input, InputKind, Objectives, VALUE_NAME, is_value_name};
use crate::yaml::{self, Node, Value};
use std::collections::BTreeMap;
use std::str::FromStr;

const KEYS: &[&str] = &[
    "inputs",
    "severity",
    "objectives",
    "owner",
    "version",
    "review_every",
    "reviewed",
    "contacts",
    "services",
    "datasets",
];
const OBJECTIVES: &[&str] = &["rto", "rpo"];
const CONTACT: &[&str] = &["role", "reach"];
const INPUT: &[&str] = &["type", "default", "choices", "description"];

/// Reads front matter; its first line is `first` of the document.
pub(crate) fn read(text: &str, first: u32, found: &mut Found) -> Front {
    match yaml::parse(text) {
        Ok(root) => Reader { first, found }.front(&root),
        Err((line, what)) => {
            found.fault(first.saturating_add(line - 1), what);
            Front::default()
        }
    }
}

struct Reader<'a> {
    first: u32,
    found: &'a mut Found,
}

impl Reader<'_> {
    fn front(&mut self, root: &Node) -> Front {
        let mut front = Front::default();
        for (line, key, node) in self.table(root, "the front matter", KEYS) {
            match key {
                "inputs" => {
                    front.inputs = self.named(node, key, Self::input);
                }
                "severity" => front.severity = self.text(node, key),
                "objectives" => front.objectives = self.objectives(node),
                "owner" => front.owner = self.text(node, key),
                "version" => front.version = self.text(node, key),
                "review_every" => front.review_every = self.parsed(node, key),
                "reviewed" => front.reviewed = self.date(node),
                "contacts" => front.contacts = self.named(node, key, |own, _, node| Some(own.contact(node))),
                "services" => front.services = self.texts(node, key),
                "datasets" => front.datasets = self.texts(node, key),
                _ => self.found.fault(line, format!("`{key}` is known and not read")),
            }
        }
        front
    }

    fn line(&self, node: &Node) -> u32 {
        self.at(node.line)
    }

    fn at(&self, line: u32) -> u32 {
        self.first.saturating_add(line - 1)
    }

    /// The entries of a table that have known keys; of nothing, none.
    fn table<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> Vec<(u32, &'n str, &'n Node)> {
        let mut entries = Vec::new();
        for (line, key, value) in self.entries(node, what) {
            if known.contains(&key) {
                entries.push((line, key, value));
            } else {
                let said = format!("{what} has no key `{key}`");
                if key.contains(' ') {
                    self.found.hinted(
                        line,
                        said,
                        "Within `{…}` a text with a comma stands in quotation marks.",
                    );
                    continue;
                }
                self.found.unknown(line, said, key, known.iter().copied());
            }
        }
        entries
    }

    fn entries<'n>(&mut self, node: &'n Node, what: &str) -> Vec<(u32, &'n str, &'n Node)> {
        match &node.value {
            Value::Table(entries) => {
                entries.iter().map(|(line, key, value)| (self.at(*line), key.as_str(), value)).collect()
            }
            Value::Nothing => Vec::new(),
            other => {
                let line = self.line(node);
                self.found.fault(line, format!("{what} is a table of keys and values, not {}", other.kind()));
                Vec::new()
            }
        }
    }

    fn named<T>(
        &mut self,
        node: &Node,
        what: &str,
        read: impl Fn(&mut Self, &str, &Node) -> Option<T>,
    ) -> BTreeMap<String, T> {
        let mut all = BTreeMap::new();
        for (_, name, value) in self.entries(node, what) {
            if let Some(read) = read(self, name, value) {
                all.insert(name.to_owned(), read);
            }
        }
        all
    }

    fn text(&mut self, node: &Node, key: &str) -> Option<String> {
        match &node.value {
            Value::Text(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            Value::Text(_) | Value::Nothing => {
                let line = self.line(node);
                self.found.fault(line, format!("`{key}` says nothing"));
                None
            }
            other => {
                let line = self.line(node);
                self.found.fault(line, format!("`{key}` is one value, not {}", other.kind()));
                None
            }
        }
    }

    /// One text or a list of them.
    fn texts(&mut self, node: &Node, key: &str) -> Vec<String> {
        match &node.value {
            Value::List(items) => items.iter().filter_map(|item| self.text(item, key)).collect(),
            _ => self.text(node, key).into_iter().collect(),
        }
    }

    fn parsed<T: FromStr<Err = String>>(&mut self, node: &Node, key: &str) -> Option<T> {
        let text = self.text(node, key)?;
        self.found.take(self.first.saturating_add(node.line - 1), text.parse())
    }

    fn date(&mut self, node: &Node) -> Option<jiff::civil::Date> {
        let text = self.text(node, "reviewed")?;
        let date = text.parse().map_err(|_| format!("{text:?} is no day: write it as 2026-11-22"));
        let line = self.line(node);
        self.found.take(line, date)
    }

    fn objectives(&mut self, node: &Node) -> Objectives {
        let mut objectives = Objectives::default();
        for (_, key, value) in self.table(node, "objectives", OBJECTIVES) {
            let span = self.parsed(value, key);
            *(if key == "rto" { &mut objectives.rto } else { &mut objectives.rpo }) = span;
        }
        objectives
    }

    fn contact(&mut self, node: &Node) -> Contact {
        let mut contact = Contact::default();
        for (_, key, value) in self.table(node, "a contact", CONTACT) {
            if key == "role" {
                contact.role = self.text(value, key);
            } else {
                contact.reach = self.texts(value, key);
            }
        }
        contact
    }

    fn input(&mut self, name: &str, node: &Node) -> Option<Input> {
        let line = self.line(node);
        if !is_value_name(name) {
            self.found.fault(line, format!("{name:?} is no name of an input: {VALUE_NAME}"));
        }
        let mut input =
            Input { kind: InputKind::Text, default: None, choices: Vec::new(), description: None };
        for (_, key, value) in self.table(node, "an input", INPUT) {
            match key {
                "type" => input.kind = self.kind(value)?,
                "default" => input.default = self.default(value),
                "choices" => input.choices = self.texts(value, key),
                _ => input.description = self.text(value, key),
            }
        }
        self.consistent(name, line, &input);
        Some(input)
    }

    /// A default may be empty, where the type allows that.
    fn default(&mut self, node: &Node) -> Option<String> {
        match &node.value {
            Value::Text(text) => Some(text.clone()),
            _ => self.text(node, "default"),
        }
    }

    fn kind(&mut self, node: &Node) -> Option<InputKind> {
        let text = self.text(node, "type")?;
        let kind = InputKind::NAMES.iter().find(|(name, _)| *name == text);
        if kind.is_none() {
            let line = self.line(node);
            let known = InputKind::NAMES.iter().map(|(name, _)| *name);
            self.found.unknown(line, format!("{text:?} is no type of an input"), &text, known);
        }
        kind.map(|(_, kind)| *kind)
    }

    fn consistent(&mut self, name: &str, line: u32, input: &Input) {
        let is_choice = input.kind == InputKind::Choice;
        if is_choice && input.choices.is_empty() {
            self.found.fault(line, format!("input `{name}` is a choice, and `choices` names none"));
        } else if !is_choice && !input.choices.is_empty() {
            let what = format!("input `{name}` has choices, and is none");
            self.found.hinted(line, what, "Write `type: choice`, or leave `choices` out.");
        } else if let Some(Err(wrong)) = input.default.as_deref().map(|default| input.accepts(default)) {
            self.found.fault(line, format!("the default of input `{name}`: {wrong}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(page: &str, from: &str, to: &str) -> Vec<String> {
        let part = page.split(from).nth(1).unwrap().split(to).next().unwrap();
        part.lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn every_key_is_explained_and_no_other() {
        let page = include_str!("../../../docs/runbook.md");
        assert_eq!(keys(page, "\n## Front matter\n", "\nAn input:\n"), KEYS);
        assert_eq!(keys(page, "\nAn input:\n", "\n## "), INPUT);
        for (name, _) in InputKind::NAMES {
            assert!(page.contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn lines_are_those_of_the_document() {
        let mut found = Found::default();
        read("owner: a\n\nobjectives:\n  rto: 1h\n  rpu: 5s\n", 2, &mut found);
        let faults = found.into_faults().unwrap();
        assert_eq!(faults.to_string(), "line 6: objectives has no key `rpu`");
    }
}
