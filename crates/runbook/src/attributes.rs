//! What stands in braces behind a block's language or at the end of a checklist item: names with values, which
//! attributes there are, and which of them a kind of step may have. Knows no graph.

use crate::fault::Found;

/// What kind of step an attribute is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bearer {
    /// A block that does something.
    Action,
    /// A block that only looks.
    Check,
    /// A checklist item.
    Person,
}

impl Bearer {
    const fn name(self) -> &'static str {
        match self {
            Self::Action => "a block that does something",
            Self::Check => "a check",
            Self::Person => "a person's step",
        }
    }
}

use Bearer::{Action, Check, Person};

/// Every attribute, and who may have it.
pub(crate) const KNOWN: &[(&str, &[Bearer])] = &[
    ("step", &[Action, Check, Person]),
    ("title", &[Action, Check, Person]),
    ("needs", &[Action, Check, Person]),
    ("phase", &[Action, Check, Person]),
    ("timeout", &[Action, Check, Person]),
    ("retries", &[Action, Check]),
    ("retry_every", &[Action, Check]),
    ("repeat", &[Action, Check]),
    ("probe", &[Action]),
    ("undo", &[Action, Person]),
    ("why", &[Action, Person]),
    ("approve", &[Action]),
    ("facts", &[Action]),
    ("bounds", &[Action]),
    ("expires", &[Action]),
    ("pass", &[Action, Check]),
    ("outputs", &[Action, Check]),
    ("expect", &[Action, Check]),
    ("on", &[Action, Check]),
    ("by", &[Check, Person]),
];

/// There are not so many that differ.
const MAX_ATTRIBUTES: usize = 50;

/// One attribute as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// The attributes of one step, with the line that they stand in.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attributes {
    pub(crate) line: u32,
    list: Vec<Attribute>,
}

impl Attributes {
    pub(crate) const fn none(line: u32) -> Self {
        Self { line, list: Vec::new() }
    }

    /// Reads what stands between the braces, which `text` begins with.
    ///
    /// # Errors
    /// With what is wrong with the way that it is written.
    pub(crate) fn parse(text: &str, line: u32) -> Result<(Self, &str), String> {
        let mut rest = text.strip_prefix('{').ok_or("attributes begin with `{`")?;
        let mut list = Vec::new();
        loop {
            rest = rest.trim_start();
            if let Some(behind) = rest.strip_prefix('}') {
                return Ok((Self { line, list }, behind));
            }
            if list.len() == MAX_ATTRIBUTES {
                return Err(format!("there are more than {MAX_ATTRIBUTES} attributes"));
            }
            let (attribute, behind) = attribute(rest)?;
            list.push(attribute);
            rest = behind;
        }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.list.iter().find(|own| own.key == key).map(|own| own.value.as_str())
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Whether any of them is one of ours, beyond a title, which others have as well.
    pub(crate) fn are_ours(&self) -> bool {
        self.list.iter().any(|own| own.key != "title" && KNOWN.iter().any(|(known, _)| *known == own.key))
    }

    /// Says which of them are unknown, there twice, or nothing that this kind of step has.
    pub(crate) fn hold_against(&self, bearer: Bearer, found: &mut Found) {
        for (n, Attribute { key, .. }) in self.list.iter().enumerate() {
            if self.list[..n].iter().any(|before| before.key == *key) {
                found.fault(self.line, format!("`{key}` stands there twice"));
            }
            match KNOWN.iter().find(|(known, _)| known == key) {
                None => {
                    let known =
                        KNOWN.iter().filter(|(_, who)| who.contains(&bearer)).map(|(known, _)| *known);
                    found.unknown(self.line, format!("there is no attribute `{key}`"), key, known);
                }
                Some((_, who)) if !who.contains(&bearer) => {
                    found.fault(self.line, format!("{} has no `{key}`", bearer.name()));
                }
                Some(_) => {}
            }
        }
    }
}

const UNCLOSED: &str = "the attributes have no `}` at their end";

/// `key=value` at the beginning of a text, and what is behind it.
fn attribute(text: &str) -> Result<(Attribute, &str), String> {
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, '=' | '}' | '"')).unwrap_or(text.len());
    let (key, rest) = text.split_at(end);
    if rest.is_empty() {
        return Err(UNCLOSED.to_owned());
    }
    let is_name =
        !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let Some(rest) = rest.strip_prefix('=').filter(|_| is_name) else {
        return Err(format!("{:?} is no attribute: write name=value", first_word(text)));
    };
    let (value, rest) =
        if let Some(quoted) = rest.strip_prefix('"') { until_quote(quoted, key)? } else { bare(rest) };
    if rest.is_empty() {
        return Err(UNCLOSED.to_owned());
    }
    if !rest.starts_with(|c: char| c.is_whitespace() || c == '}') {
        return Err(format!("behind the value of `{key}` comes a space or `}}`; quote a value that has one"));
    }
    Ok((Attribute { key: key.to_owned(), value }, rest))
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| c.is_whitespace() || c == '}').next().unwrap_or(text)
}

/// A value up to a space, a quotation mark or the closing brace; the brace of a `${name}` in it closes nothing.
fn bare(text: &str) -> (String, &str) {
    let mut is_reference = false;
    for (at, c) in text.char_indices() {
        match c {
            '{' if text[..at].ends_with('$') => is_reference = true,
            '}' if is_reference => is_reference = false,
            '}' | '"' => return (text[..at].to_owned(), &text[at..]),
            _ if c.is_whitespace() => return (text[..at].to_owned(), &text[at..]),
            _ => {}
        }
    }
    (text.to_owned(), "")
}

/// A value up to its closing quotation mark; `\"` and `\\` stand for `"` and `\`.
fn until_quote<'t>(text: &'t str, key: &str) -> Result<(String, &'t str), String> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                Some((_, other)) => value.extend(['\\', other]),
                None => break,
            },
            _ => value.push(c),
        }
    }
    Err(format!("the value of `{key}` has no closing quotation mark"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let (attributes, rest) = Attributes::parse(text, 1).unwrap();
        assert_eq!(rest, "");
        attributes.list.into_iter().map(|own| (own.key, own.value)).collect()
    }

    #[test]
    fn values_are_bare_or_quoted() {
        let read = pairs(r#"{step=promote needs=a,b approve="2 of \"ops\"" on=${db} x=${a}-${b}}"#);
        let read: Vec<(&str, &str)> =
            read.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let approve = ("approve", r#"2 of "ops""#);
        assert_eq!(
            read,
            [("step", "promote"), ("needs", "a,b"), approve, ("on", "${db}"), ("x", "${a}-${b}")]
        );
        assert_eq!(pairs("{}"), []);
        assert_eq!(pairs("{ pass=host=find.host }"), [("pass".to_owned(), "host=find.host".to_owned())]);
    }

    #[test]
    fn what_is_written_wrong_is_said() {
        for (text, part) in [
            ("{step", "no `}`"),
            ("{step=a", "no `}`"),
            ("{step}", "name=value"),
            ("{.class}", "name=value"),
            ("{=a}", "name=value"),
            ("{a=\"b}", "closing quotation mark"),
            ("{a=\"b\"c}", "a space or `}`"),
            ("{a=b\"c\"}", "a space or `}`"),
        ] {
            let error = Attributes::parse(text, 1).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn each_is_held_against_what_there_is() {
        let mut found = Found::default();
        let (attributes, _) = Attributes::parse("{step=a neds=b undo=c undo=d}", 4).unwrap();
        attributes.hold_against(Check, &mut found);
        let faults = found.into_faults().unwrap();
        let said: Vec<String> = faults.iter().map(|fault| fault.what.clone()).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(faults.iter().any(|fault| fault.hint.as_deref() == Some("Did you mean `needs`?")));
    }

    /// The page has a row for each, with who may have it, and no other.
    #[test]
    fn every_attribute_is_explained_and_no_other() {
        let page = include_str!("../../../docs/runbook.md");
        let section = page.split("\n## Attributes\n").nth(1).unwrap().split("\n## ").next().unwrap();
        let rows = section.lines().filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|').map(str::trim);
            Some((cells.next()?.trim_end_matches('`'), cells.next()?.to_owned()))
        });
        let word = |bearer: &Bearer| match bearer {
            Action => "block",
            Check => "check",
            Person => "person",
        };
        let known =
            KNOWN.iter().map(|(key, who)| (*key, who.iter().map(word).collect::<Vec<_>>().join(", ")));
        assert_eq!(rows.collect::<Vec<_>>(), known.collect::<Vec<_>>());
    }
}
