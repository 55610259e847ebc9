//! The front matter as a tree in which every node knows its line, so that all that is wrong with it can be said at
//! once. Knows no key.
//!
//! What is wrong is never said in the parser's words, which may repeat a secret.

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;
use std::fmt;

/// How many nodes a front matter may have.
const MAX_NODES: usize = 10_000;
/// How deep they may lie: an input's choices lie four deep.
const MAX_DEPTH: usize = 16;

/// A node with its line within the front matter, from 1.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) value: Value,
    /// Where it stands: the byte, and how many characters.
    at: (u64, u64),
}

/// What a node holds; every scalar is text as it was written, so that a version 1.10 stays one.
#[derive(Debug)]
pub(crate) enum Value {
    Nothing,
    Text(String),
    /// A number or a truth value, before [`parse`] looks up how it was written.
    Plain,
    List(Vec<Node>),
    /// Keys with their lines, in order.
    Table(Vec<(u32, String, Node)>),
}

impl Value {
    /// What it is, for a message.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Text(_) | Self::Plain => "one value",
            Self::List(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

/// Reads one document.
///
/// # Errors
/// With the line, where there is one, and in our own words.
pub(crate) fn parse(text: &str) -> Result<Node, (u32, String)> {
    if text.trim().is_empty() {
        return Ok(Node { line: 1, value: Value::Nothing, at: (0, 0) });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_depth: MAX_DEPTH,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 0,
            max_replay_stack_depth: 1,
        },
        with_snippet: false,
    };
    let mut root = serde_saphyr::from_str_with_options::<Node>(text, options).map_err(|error| {
        // YAML begins a line at a lone carriage return as well, so that it may count more of them than there are.
        let last = u32::try_from(text.lines().count()).unwrap_or(u32::MAX);
        let line = error.location().map_or(1, |place| line_of(place.line()).min(last));
        (line, "the front matter is no YAML that can be read; a key may stand there twice".to_owned())
    })?;
    as_written(&mut root, text);
    Ok(root)
}

/// Gives numbers and truth values the text that they were written as.
fn as_written(node: &mut Node, text: &str) {
    match &mut node.value {
        Value::Plain => {
            let start = usize::try_from(node.at.0).ok();
            let length = usize::try_from(node.at.1).unwrap_or(usize::MAX);
            let rest = start.and_then(|start| text.get(start..)).unwrap_or_default();
            node.value = Value::Text(rest.chars().take(length).collect::<String>().trim().to_owned());
        }
        Value::List(items) => items.iter_mut().for_each(|item| as_written(item, text)),
        Value::Table(entries) => entries.iter_mut().for_each(|(_, _, value)| as_written(value, text)),
        Value::Nothing | Value::Text(_) => {}
    }
}

fn line_of(line: u64) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX).max(1)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let place = spanned.referenced;
        let at = (place.span().byte_offset().unwrap_or(u64::MAX), place.span().len());
        Ok(Self { line: line_of(place.line()), value: spanned.value, at })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Any)
    }
}

struct Any;

impl<'de> Visitor<'de> for Any {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value, a list or a table")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Nothing)
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Plain)
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Plain)
    }

    fn visit_u64<E: de::Error>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Plain)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Plain)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut table = Vec::new();
        while let Some(key) = entries.next_key::<Spanned<String>>()? {
            table.push((line_of(key.referenced.line()), key.value, entries.next_value()?));
        }
        Ok(Value::Table(table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_know_their_lines() {
        let Value::Table(table) = parse("a: 1.10\nb:\n  - x\n  - {c: true}\n").unwrap().value else {
            panic!()
        };
        let (line, key, node) = &table[1];
        let Value::List(items) = &node.value else { panic!() };
        assert_eq!((*line, key.as_str(), items[0].line, items[1].line), (2, "b", 3, 4));
        let Value::Text(one) = &table[0].2.value else { panic!() };
        assert_eq!(one, "1.10");
        let Value::Table(inner) = &items[1].value else { panic!() };
        assert!(matches!(&inner[0].2.value, Value::Text(truth) if truth == "true"));
    }

    #[test]
    fn a_lone_carriage_return_makes_no_line_that_is_not_there() {
        let (line, _) = parse("a: 1\r\r\r\r\rb: [\n").unwrap_err();
        assert_eq!(line, 1);
    }

    #[test]
    fn what_cannot_be_read_says_its_line_and_repeats_nothing() {
        for text in ["a: hunter2\nb: [\n", "a: hunter2\na: 2\n", "a: &x [1]\nb: *x\n", &"[".repeat(100)] {
            let (line, what) = parse(text).unwrap_err();
            assert!(line >= 1 && !what.contains("hunter2"), "{line} {what}");
        }
    }
}
