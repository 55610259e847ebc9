//! Where in the text of a plan a key stands.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The keys of a plan with their places.
#[derive(Debug)]
pub struct Lines<'a> {
    /// Where lines end: a plan may be long, and be asked for each of its keys.
    ends: Vec<usize>,
    root: Option<Spanned<DeTable<'a>>>,
}

impl<'a> Lines<'a> {
    /// Reads the places; a text that is no TOML has none.
    pub fn of(text: &'a str) -> Self {
        let ends = text.match_indices('\n').map(|(at, _)| at).collect();
        Self { ends, root: DeTable::parse(text).ok() }
    }

    /// The line, from 1, of a key such as `datasets.users.rpo` or `copies.0.url`; of the nearest key around it
    /// that is there. A name with dots in it stands in quotation marks.
    pub fn line_of(&self, path: &str) -> Option<usize> {
        let mut place = None;
        let mut table = self.root.as_ref()?.get_ref();
        let mut parts = split(path).into_iter();
        while let Some(part) = parts.next() {
            let Some((key, mut value)) = table.get_key_value(part.as_str()) else { break };
            place = Some(key.span().start);
            while let DeValue::Array(items) = value.get_ref() {
                let Some(item) = parts.next().and_then(|n| items.get(n.parse::<usize>().ok()?)) else {
                    return place.map(|at| self.line(at));
                };
                place = Some(item.span().start);
                value = item;
            }
            let DeValue::Table(inner) = value.get_ref() else { break };
            table = inner;
        }
        place.map(|at| self.line(at))
    }

    /// The line of a byte, from 1.
    pub(crate) fn line(&self, at: usize) -> usize {
        self.ends.partition_point(|end| *end < at) + 1
    }

    /// The key that stands at a byte of the text, as a path.
    pub fn key_at(&self, at: usize) -> Option<String> {
        let mut path = Vec::new();
        if let Some(root) = &self.root {
            descend(root.get_ref(), at, &mut path);
        }
        (!path.is_empty()).then(|| path.join("."))
    }
}

/// The parts of a path; dots within quotation marks divide nothing.
fn split(path: &str) -> Vec<String> {
    let (mut parts, mut part, mut is_quoted) = (Vec::new(), String::new(), false);
    for c in path.chars() {
        match c {
            '"' => is_quoted = !is_quoted,
            '.' if !is_quoted => parts.push(std::mem::take(&mut part)),
            _ => part.push(c),
        }
    }
    parts.push(part);
    parts
}

/// A name as a part of a path.
pub fn part(name: &str) -> String {
    let is_bare = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_');
    if is_bare { name.to_owned() } else { format!("\"{name}\"") }
}

fn descend(table: &DeTable<'_>, at: usize, path: &mut Vec<String>) {
    let covers = |span: std::ops::Range<usize>| span.start <= at && at < span.end.max(span.start + 1);
    for (key, value) in table.iter() {
        if covers(key.span()) {
            return path.push(part(key.get_ref()));
        }
        if let Some(found) = within(value, at) {
            path.push(part(key.get_ref()));
            return path.extend(found);
        }
    }
}

/// The path below a value, where the byte is within it. The span of a table with a header of its own is the
/// header; what is below may stand anywhere behind it.
fn within(value: &Spanned<DeValue<'_>>, at: usize) -> Option<Vec<String>> {
    let mut below = Vec::new();
    match value.get_ref() {
        DeValue::Table(table) => descend(table, at, &mut below),
        DeValue::Array(items) => {
            let found = items.iter().enumerate().find_map(|(n, item)| Some((n, within(item, at)?)));
            if let Some((n, found)) = found {
                below.push(n.to_string());
                below.extend(found);
            }
        }
        _ => {}
    }
    (!below.is_empty() || value.span().contains(&at)).then_some(below)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
[datasets.users]
store = \"a\"
retain = { daily = 7 }

[[copies]]
url = \"b\"

[[copies]]
url = \"c\"

[services.\"web.api\"]
needs = [\"users\"]
";

    #[test]
    fn keys_have_lines() {
        let lines = Lines::of(TEXT);
        for (path, line) in [
            ("datasets.users", 1),
            ("datasets.users.store", 2),
            ("datasets.users.retain.daily", 3),
            ("datasets.users.rpo", 1),
            ("copies.1.url", 9),
            ("services.\"web.api\".needs", 12),
        ] {
            assert_eq!(lines.line_of(path), Some(line), "{path}");
        }
        assert_eq!(lines.line_of("nothing"), None);
        assert_eq!(Lines::of("= 3").line_of("x"), None);
    }

    #[test]
    fn places_have_keys() {
        let lines = Lines::of(TEXT);
        for (text, key) in [
            ("\"a\"", "datasets.users.store"),
            ("7", "datasets.users.retain.daily"),
            ("\"c\"", "copies.1.url"),
            ("[\"users\"]", "services.\"web.api\".needs"),
        ] {
            let at = TEXT.find(text).unwrap();
            assert_eq!(lines.key_at(at).as_deref(), Some(key), "{text}");
        }
    }
}
