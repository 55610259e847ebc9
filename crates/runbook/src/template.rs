//! Where a text refers to passed values: `${name}` in requests and words, `:'name'` and `:"name"` in SQL. Finds the
//! places and fills them in; deliberately knows neither steps nor where a value is from.

use std::ops::Range;

/// A place where a value goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The bytes that stand for it.
    pub place: Range<usize>,
    /// Its name.
    pub name: String,
    /// How it stands there.
    pub form: Form,
}

/// How a value stands in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is: `${name}`.
    Plain,
    /// As an SQL literal: `:'name'`.
    Literal,
    /// As an SQL identifier: `:"name"`.
    Identifier,
}

/// How a database reads a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// A backslash may escape, where `standard_conforming_strings` is off.
    Postgres,
    /// A backslash is a backslash.
    Sqlite,
}

impl Form {
    /// A value in this form. A literal for PostgreSQL is one whatever its settings: a backslash makes it an escape
    /// string, as psql does it.
    fn write(self, value: &str, dialect: Dialect) -> String {
        match (self, dialect) {
            (Self::Plain, _) => value.to_owned(),
            (Self::Identifier, _) => format!("\"{}\"", value.replace('"', "\"\"")),
            (Self::Literal, Dialect::Postgres) if value.contains('\\') => {
                format!(" E'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
            }
            (Self::Literal, _) => format!("'{}'", value.replace('\'', "''")),
        }
    }
}

/// The places of `${name}` in a text. There is no other expansion, and none within a value.
pub fn references(text: &str) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(open) = text[from..].find("${").map(|at| from + at) {
        let Some(close) = text[open..].find('}').map(|at| open + at) else { break };
        let name = text[open + 2..close].to_owned();
        found.push(Reference { place: open..close + 1, name, form: Form::Plain });
        from = close + 1;
    }
    found
}

/// Whether a `${` in it has no end.
pub(crate) fn is_open(text: &str) -> bool {
    text.rfind("${").is_some_and(|open| !text[open..].contains('}'))
}

/// The places of `:'name'` and `:"name"` in SQL, outside of literals, quoted identifiers, dollar quotes and comments.
pub fn sql_references(script: &str) -> Vec<Reference> {
    let mut found = Vec::new();
    for token in Sql::of(script) {
        let Token::Reference(place) = token else { continue };
        let form = if script[place.start + 1..].starts_with('\'') { Form::Literal } else { Form::Identifier };
        let name = script[place.start + 2..place.end - 1].to_owned();
        found.push(Reference { place, name, form });
    }
    found
}

/// The text with every `${name}` replaced by its value, once: what a value contains refers to nothing.
///
/// # Errors
/// With the name that has no value.
pub fn fill(text: &str, value: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    filled(text, &references(text), Dialect::Sqlite, value)
}

/// The SQL with every reference replaced by its value, once.
///
/// # Errors
/// As [`fill`].
pub fn fill_sql(
    script: &str,
    dialect: Dialect,
    value: impl Fn(&str) -> Option<String>,
) -> Result<String, String> {
    filled(script, &sql_references(script), dialect, value)
}

fn filled(
    text: &str,
    references: &[Reference],
    dialect: Dialect,
    value: impl Fn(&str) -> Option<String>,
) -> Result<String, String> {
    let (mut filled, mut from) = (String::new(), 0);
    for reference in references {
        let value = value(&reference.name).ok_or_else(|| reference.name.clone())?;
        filled.push_str(text.get(from..reference.place.start).unwrap_or_default());
        filled.push_str(&reference.form.write(&value, dialect));
        from = reference.place.end;
    }
    filled.push_str(text.get(from..).unwrap_or_default());
    Ok(filled)
}

/// SQL without what is quoted and what is a comment, each a space in the place of it.
pub(crate) fn bare_sql(script: &str) -> String {
    let mut bare = String::new();
    for token in Sql::of(script) {
        match token {
            Token::Bare(c) => bare.push(c),
            Token::Quoted | Token::Reference(_) => bare.push(' '),
        }
    }
    bare
}

#[derive(Debug)]
enum Token {
    Bare(char),
    Quoted,
    Reference(Range<usize>),
}

/// Walks SQL as PostgreSQL's lexer does, as far as quoting goes.
struct Sql<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Sql<'t> {
    const fn of(text: &'t str) -> Self {
        Self { text, at: 0 }
    }

    /// The length of what is quoted or a comment at the beginning of a text, where something is.
    fn quoted(&self, rest: &str) -> Option<usize> {
        if rest.starts_with("--") {
            return Some(rest.find('\n').unwrap_or(rest.len()));
        }
        if rest.starts_with("/*") {
            return Some(comment(rest));
        }
        if rest.starts_with('\'') {
            let before = &self.text[..self.at];
            return Some(until(rest, '\'', is_escape_string(before)));
        }
        if rest.starts_with('"') {
            return Some(until(rest, '"', false));
        }
        let is_behind_word = self.text[..self.at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if is_behind_word { None } else { dollar(rest) }
    }

    fn reference(&self, rest: &str) -> Option<usize> {
        let mut chars = rest.strip_prefix(':')?.chars();
        let quote = chars.next().filter(|c| matches!(c, '\'' | '"'))?;
        let name = &rest[2..];
        let end = name.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-')))?;
        // `::"name"` is a cast, `a[1:'2']` nothing that psql would know either.
        let is_cast = self.text[..self.at].ends_with(':');
        (end > 0 && name[end..].starts_with(quote) && !is_cast).then_some(end + 3)
    }
}

impl Iterator for Sql<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        let rest = &self.text[self.at..];
        let first = rest.chars().next()?;
        let start = self.at;
        if let Some(length) = self.reference(rest) {
            self.at += length;
            return Some(Token::Reference(start..self.at));
        }
        if let Some(length) = self.quoted(rest) {
            self.at += length.max(1);
            return Some(Token::Quoted);
        }
        self.at += first.len_utf8();
        Some(Token::Bare(first))
    }
}

/// Whether a quotation mark here begins a string with backslash escapes: `E'…'`.
fn is_escape_string(before: &str) -> bool {
    let Some(word) = before.strip_suffix(['e', 'E']) else { return false };
    !word.ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

/// To behind the closing mark; a doubled one closes nothing.
fn until(text: &str, mark: char, has_escapes: bool) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if has_escapes && c == '\\' {
            chars.next();
        } else if c == mark && chars.next_if(|(_, next)| *next == mark).is_none() {
            return at + mark.len_utf8();
        }
    }
    text.len()
}

/// To behind a comment, in which comments may lie.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest.starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// To behind `$tag$ … $tag$`.
fn dollar(text: &str) -> Option<usize> {
    let inner = text.strip_prefix('$')?;
    let end = inner.find(|c: char| !(c.is_alphanumeric() || c == '_'))?;
    let is_tag = inner[end..].starts_with('$') && !inner.starts_with(|c: char| c.is_ascii_digit());
    let tag = &text[..end + 2];
    is_tag.then(|| text[tag.len()..].find(tag).map_or(text.len(), |at| at + 2 * tag.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(name: &str) -> Option<String> {
        match name {
            "a" => Some("O'Neil ${b}".to_owned()),
            "b" => Some(r#"x\"y"#.to_owned()),
            _ => None,
        }
    }

    #[test]
    fn values_are_filled_in_once() {
        let text = "${a}/${b}$a ${";
        assert_eq!(fill(text, values).unwrap(), "O'Neil ${b}/x\\\"y$a ${");
        assert_eq!(fill("${c}", values).unwrap_err(), "c");
    }

    #[test]
    fn sql_has_literals_and_identifiers() {
        let text = r#"select :'a', :"b", :'b' from t where x = ':''a'' :"a"' and y::"a" > 1"#;
        let behind = r#" from t where x = ':''a'' :"a"' and y::"a" > 1"#;
        let postgres = format!(r#"select 'O''Neil ${{b}}', "x\""y",  E'x\\"y'{behind}"#);
        assert_eq!(fill_sql(text, Dialect::Postgres, values).unwrap(), postgres);
        let sqlite = format!(r#"select 'O''Neil ${{b}}', "x\""y", 'x\"y'{behind}"#);
        assert_eq!(fill_sql(text, Dialect::Sqlite, values).unwrap(), sqlite);
    }

    #[test]
    fn what_is_quoted_refers_to_nothing() {
        for text in [
            "-- :'a'",
            "/* /* :'a' */ :'a' */ select 1",
            "$$ :'a' $$",
            "$x$ $$ :'a' $x$",
            r"E'\' :''a'' '",
            "\" :'a' \"",
            "select 'open :'",
            "/* open :'a'",
            "a::'b'",
            ":'",
            ":''",
        ] {
            assert_eq!(sql_references(text), [], "{text}");
        }
        assert_eq!(sql_references("select a$1 :'a' $b, '' :'b'").len(), 2);
    }
}
