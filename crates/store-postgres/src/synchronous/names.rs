//! `synchronous_standby_names`, read and written by PostgreSQL's own grammar.
//!
//! ```text
//! list     = members | number "(" members ")" | "FIRST" number "(" members ")" | "ANY" number "(" members ")"
//! members  = member { "," member }
//! member   = identifier | digits | "*" | '"' anything, with "" for a quote '"'
//! ```
//! Names are compared without regard to case, quoted or not, and `*` is everybody, quoted or not: that is what the
//! server does. It deliberately knows no server.

use lifeboat_base::Hint;
use std::fmt;

/// What the server takes at most for a number of standbys.
const MOST_STANDBYS: u32 = i32::MAX as u32;

/// Whom commits wait for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SynchronousNames {
    method: Method,
    members: Vec<String>,
}

/// How many of the members are waited for, and which.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Method {
    /// The first that is connected; no number is written.
    #[default]
    Plain,
    /// The first so many; `FIRST` is not written.
    Number(u32),
    /// The first so many that are connected, in the order of the list.
    First(u32),
    /// Any so many.
    Any(u32),
}

/// A value that the server does not take either.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("synchronous_standby_names has {what} at character {at}: {text}")]
pub struct NamesError {
    /// The value.
    pub text: String,
    /// Counted from 1, in bytes.
    pub at: usize,
    /// What is wrong.
    pub what: &'static str,
}

/// Why a name cannot be put into a list, or taken out of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The list names everybody, so that nobody can be taken out of it.
    #[error("synchronous_standby_names is {names}, which names every standby")]
    Wildcard {
        /// The list.
        names: String,
    },
    /// With a quorum, others may acknowledge in our place.
    #[error("synchronous_standby_names is {names}, and no list says \"these, and {name} always\"")]
    Quorum {
        /// The list.
        names: String,
        /// Whom to put in.
        name: String,
    },
}

impl Hint for EditError {
    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Wildcard { .. } => {
                "Name the standbys one by one in place of \"*\", then begin again: with \"*\" a stalled Lifeboat could not be taken out.".to_owned()
            }
            Self::Quorum { name, .. } => format!(
                "Put {} into the list yourself (commits then may be acknowledged by others in its place), or use FIRST in place of ANY.",
                Quoted(name)
            ),
        })
    }
}

impl SynchronousNames {
    /// Reads a value of the setting.
    ///
    /// # Errors
    /// Where the server would not take it.
    pub fn parse(text: &str) -> Result<Self, NamesError> {
        let mut reader = Reader { text, at: 0 };
        if text.is_empty() {
            return Ok(Self::default());
        }
        let method = reader.method()?;
        let members = reader.members()?;
        if method != Method::Plain {
            reader.expect(&Token::Close)?;
        }
        match reader.next()? {
            None => Ok(Self { method, members }),
            Some(_) => Err(reader.wrong("something behind its end")),
        }
    }

    /// Whether nobody is waited for.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether a standby of this name is meant, by name.
    pub fn lists(&self, name: &str) -> bool {
        self.members.iter().any(|member| member.eq_ignore_ascii_case(name))
    }

    /// Whether every standby is meant.
    pub fn has_wildcard(&self) -> bool {
        self.members.iter().any(|member| member == "*")
    }

    /// Whether no commit is acknowledged without this standby, whoever else is there.
    pub fn always_awaits(&self, name: &str) -> bool {
        let Some(rank) = self.members.iter().position(|member| member.eq_ignore_ascii_case(name)) else {
            return false;
        };
        match self.method {
            Method::Any(number) => number as usize >= self.members.len(),
            _ => rank < self.number() as usize,
        }
    }

    /// The same without one name. Never are more waited for than remain; the last one leaves nobody.
    ///
    /// # Errors
    /// Where the list names everybody.
    pub fn without(&self, name: &str) -> Result<Self, EditError> {
        self.refuse_wildcard()?;
        let members: Vec<String> =
            self.members.iter().filter(|member| !member.eq_ignore_ascii_case(name)).cloned().collect();
        if members.is_empty() {
            return Ok(Self::default());
        }
        let most = u32::try_from(members.len()).unwrap_or(MOST_STANDBYS);
        Ok(Self { method: self.method.with_number(self.number().min(most)), members })
    }

    /// The same with one name more, which every commit waits for, besides those it waited for before.
    ///
    /// # Errors
    /// Where no list says that.
    pub fn with(&self, name: &str) -> Result<Self, EditError> {
        self.refuse_wildcard()?;
        let mut members = vec![name.to_owned()];
        members.extend(self.members.iter().filter(|member| !member.eq_ignore_ascii_case(name)).cloned());
        let others = members.len() - 1;
        let number = match self.method {
            _ if others == 0 => 0,
            Method::Any(number) if (number as usize) < others => {
                return Err(EditError::Quorum { names: self.to_string(), name: name.to_owned() });
            }
            _ => self.number(),
        };
        Ok(Self { method: Method::First(number.saturating_add(1).min(MOST_STANDBYS)), members })
    }

    fn refuse_wildcard(&self) -> Result<(), EditError> {
        match self.has_wildcard() {
            true => Err(EditError::Wildcard { names: self.to_string() }),
            false => Ok(()),
        }
    }

    fn number(&self) -> u32 {
        match self.method {
            Method::Plain => 1,
            Method::Number(number) | Method::First(number) | Method::Any(number) => number,
        }
    }
}

impl Method {
    fn with_number(self, number: u32) -> Self {
        match self {
            Self::Plain => Self::Plain,
            Self::Number(_) => Self::Number(number),
            Self::First(_) => Self::First(number),
            Self::Any(_) => Self::Any(number),
        }
    }
}

impl fmt::Display for SynchronousNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.method {
            Method::Plain => {}
            Method::Number(number) => write!(f, "{number} (")?,
            Method::First(number) => write!(f, "FIRST {number} (")?,
            Method::Any(number) => write!(f, "ANY {number} (")?,
        }
        for (index, member) in self.members.iter().enumerate() {
            f.write_str(if index > 0 { ", " } else { "" })?;
            Quoted(member).fmt(f)?;
        }
        f.write_str(if self.method == Method::Plain { "" } else { ")" })
    }
}

/// A name as the list has it: in quotes where it would not be read as one otherwise.
struct Quoted<'n>(&'n str);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keyword = ["any", "first"].iter().any(|word| word.eq_ignore_ascii_case(self.0));
        let plain = self.0.starts_with(begins_name) && self.0.chars().all(continues_name) && !keyword;
        let number = !self.0.is_empty() && self.0.bytes().all(|byte| byte.is_ascii_digit());
        match plain || number || self.0 == "*" {
            true => f.write_str(self.0),
            false => write!(f, "\"{}\"", self.0.replace('"', "\"\"")),
        }
    }
}

fn begins_name(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_' || !character.is_ascii()
}

fn continues_name(character: char) -> bool {
    begins_name(character) || character.is_ascii_digit() || character == '$'
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    Number(String),
    Any,
    First,
    Comma,
    Open,
    Close,
}

/// Reads one token after the other.
#[derive(Clone)]
struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn wrong(&self, what: &'static str) -> NamesError {
        NamesError { text: self.text.to_owned(), at: self.at + 1, what }
    }

    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    /// What stands before the members.
    fn method(&mut self) -> Result<Method, NamesError> {
        let begin = self.clone();
        let make = match self.next()? {
            Some(Token::Any) => Method::Any,
            Some(Token::First) => Method::First,
            Some(Token::Number(_)) if self.clone().next()? == Some(Token::Open) => {
                *self = begin.clone();
                Method::Number
            }
            _ => {
                *self = begin;
                return Ok(Method::Plain);
            }
        };
        let number = match self.next()? {
            Some(Token::Number(digits)) => digits.parse().ok(),
            _ => None,
        };
        let number = number.filter(|number| (1..=MOST_STANDBYS).contains(number));
        let number = number.ok_or_else(|| self.wrong("no number of standbys"))?;
        self.expect(&Token::Open)?;
        Ok(make(number))
    }

    fn members(&mut self) -> Result<Vec<String>, NamesError> {
        let mut members = Vec::new();
        loop {
            match self.next()? {
                Some(Token::Name(name) | Token::Number(name)) => members.push(name),
                _ => return Err(self.wrong("no name")),
            }
            let before = self.at;
            if self.next()? != Some(Token::Comma) {
                self.at = before;
                return Ok(members);
            }
        }
    }

    fn expect(&mut self, token: &Token) -> Result<(), NamesError> {
        match self.next()? {
            Some(found) if found == *token => Ok(()),
            _ => Err(self.wrong("no parenthesis where one is due")),
        }
    }

    fn next(&mut self) -> Result<Option<Token>, NamesError> {
        let space = |c: char| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}' | '\u{b}');
        self.at = self.text.len() - self.rest().trim_start_matches(space).len();
        let Some(first) = self.rest().chars().next() else { return Ok(None) };
        let token = match first {
            '"' => return self.quoted().map(Some),
            c if c.is_ascii_digit() => Token::Number(self.run(|c| c.is_ascii_digit())),
            c if begins_name(c) => {
                let word = self.run(continues_name);
                match word.to_ascii_lowercase().as_str() {
                    "any" => Token::Any,
                    "first" => Token::First,
                    _ => Token::Name(word),
                }
            }
            '*' => self.one(Token::Name("*".to_owned())),
            ',' => self.one(Token::Comma),
            '(' => self.one(Token::Open),
            ')' => self.one(Token::Close),
            _ => return Err(self.wrong("a character that belongs into quotes")),
        };
        Ok(Some(token))
    }

    fn one(&mut self, token: Token) -> Token {
        self.at += 1;
        token
    }

    fn run(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let rest = self.rest();
        let end = rest.find(|c| !belongs(c)).unwrap_or(rest.len());
        self.at += end;
        rest[..end].to_owned()
    }

    fn quoted(&mut self) -> Result<Token, NamesError> {
        let mut name = String::new();
        let mut characters = self.rest().char_indices().skip(1).peekable();
        while let Some((index, character)) = characters.next() {
            if character != '"' {
                name.push(character);
            } else if characters.next_if(|(_, next)| *next == '"').is_some() {
                name.push('"');
            } else {
                self.at += index + 1;
                return Ok(Token::Name(name));
            }
        }
        Err(self.wrong("a quote without its end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(text: &str) -> SynchronousNames {
        SynchronousNames::parse(text).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn every_form_is_read_and_written() {
        for (text, written) in [
            ("", ""),
            ("a", "a"),
            ("a,B , \"c d\"", "a, B, \"c d\""),
            ("2(a,b)", "2 (a, b)"),
            ("first 2 (a, b,c)", "FIRST 2 (a, b, c)"),
            ("aNy 1\t(\"Any\", \"say \"\"x\"\"\", *)", "ANY 1 (\"Any\", \"say \"\"x\"\"\", *)"),
            ("2, 3", "2, 3"),
            ("1", "1"),
            ("\"\"", "\"\""),
            ("größe, _x$1", "größe, _x$1"),
            ("FIRST 007 (anyone, firsts)", "FIRST 7 (anyone, firsts)"),
        ] {
            assert_eq!(names(text).to_string(), written, "{text}");
        }
    }

    #[test]
    fn what_the_server_refuses_is_refused() {
        for text in [
            " ",
            "a b",
            "a,",
            ",a",
            "2 ()",
            "FIRST (a)",
            "FIRST 0 (a)",
            "ANY 1 a",
            "(a)",
            "a-b",
            "\"a",
            "any",
            "1 (a",
            "1 (a))",
            "FIRST 99999999999 (a)",
            "a;b",
            "-1 (a)",
            "first, a",
        ] {
            assert!(SynchronousNames::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_the_one_name_goes_and_never_are_more_waited_for_than_remain() {
        for (before, after) in [
            ("lifeboat", ""),
            ("FIRST 1 (LifeBoat)", ""),
            ("a, \"LIFEBOAT\", b", "a, b"),
            ("FIRST 2 (a, lifeboat)", "FIRST 1 (a)"),
            ("FIRST 2 (lifeboat, a, b)", "FIRST 2 (a, b)"),
            ("ANY 3 (a, lifeboat, b)", "ANY 2 (a, b)"),
            ("2 (lifeboat, lifeboat, x)", "1 (x)"),
            ("FIRST 1 (lifeboats, lifeboat2)", "FIRST 1 (lifeboats, lifeboat2)"),
        ] {
            assert_eq!(names(before).without("lifeboat").unwrap().to_string(), after, "{before}");
        }
        for text in ["*", "FIRST 1 (lifeboat, \"*\")"] {
            assert!(matches!(names(text).without("lifeboat"), Err(EditError::Wildcard { .. })), "{text}");
            assert!(matches!(names(text).with("lifeboat"), Err(EditError::Wildcard { .. })), "{text}");
        }
    }

    #[test]
    fn what_is_added_is_always_waited_for_besides_the_others() {
        for (before, after) in [
            ("", "FIRST 1 (lifeboat)"),
            ("a", "FIRST 2 (lifeboat, a)"),
            ("a, b", "FIRST 2 (lifeboat, a, b)"),
            ("3 (a, b, c)", "FIRST 4 (lifeboat, a, b, c)"),
            ("ANY 2 (a, b)", "FIRST 3 (lifeboat, a, b)"),
        ] {
            let with = names(before).with("lifeboat").unwrap();
            assert_eq!(with.to_string(), after, "{before}");
            assert!(with.always_awaits("LIFEBOAT"));
        }
        assert!(matches!(names("ANY 1 (a, b)").with("lifeboat"), Err(EditError::Quorum { .. })));
    }

    #[test]
    fn whether_others_may_stand_in_is_known() {
        for (text, always) in [
            ("lifeboat, a", true),
            ("a, lifeboat", false),
            ("FIRST 2 (a, lifeboat)", true),
            ("ANY 1 (a, lifeboat)", false),
            ("ANY 2 (a, lifeboat)", true),
            ("a", false),
        ] {
            assert_eq!(names(text).always_awaits("lifeboat"), always, "{text}");
        }
    }

    fn any_names() -> impl Strategy<Value = SynchronousNames> {
        let method = prop_oneof![
            Just(Method::Plain),
            (1u32..5).prop_map(Method::Number),
            (1u32..5).prop_map(Method::First),
            (1u32..5).prop_map(Method::Any)
        ];
        let member =
            prop_oneof!["[a-zA-Z_][a-zA-Z0-9_$]{0,5}", "[0-9]{1,3}", "[ -~äß]{0,6}", "(?i)any|first"];
        (method, prop::collection::vec(member, 1..5))
            .prop_map(|(method, members)| SynchronousNames { method, members })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(list in any_names()) {
            prop_assert_eq!(names(&list.to_string()), list);
        }

        #[test]
        fn taken_out_it_is_gone_and_everybody_else_is_there_in_order(list in any_names(), at in 0usize..5) {
            let mut list = list;
            list.members.retain(|member| member != "*" && !member.eq_ignore_ascii_case("lifeboat"));
            let others = list.members.clone();
            list.members.insert(at.min(list.members.len()), "Lifeboat".to_owned());
            let without = list.without("lifeboat").unwrap();
            prop_assert!(!without.lists("lifeboat"));
            prop_assert_eq!(&without.members, &others);
            prop_assert!(without.is_empty() || without.number() as usize <= others.len());
        }

        #[test]
        fn added_and_taken_out_again_the_same_are_waited_for(list in any_names()) {
            let mut list = list;
            list.members.retain(|member| member != "*" && !member.eq_ignore_ascii_case("lifeboat"));
            let Ok(with) = list.with("lifeboat") else { return Ok(()) };
            prop_assert!(with.always_awaits("lifeboat"));
            prop_assert_eq!(with.without("lifeboat").unwrap().members, list.members);
        }

        #[test]
        fn no_text_makes_it_panic(text in ".{0,40}") {
            if let Ok(list) = SynchronousNames::parse(&text) {
                prop_assert_eq!(names(&list.to_string()), list);
            }
        }
    }
}
