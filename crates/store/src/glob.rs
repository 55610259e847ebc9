//! Globs over names and paths that need not be UTF-8.
//!
//! `*` stands for any number of characters, `?` for one, `[abc]`, `[a-z]` and `[!a-z]` for one of a class;
//! none of them for `/`. A component `**` stands for any number of components, at the end for at least one.
//! A backslash takes the next character as it is. A byte that is not UTF-8 is a character of its own.
//!
//! This module knows nothing of files; [`crate::exclude`] says what a match means.

/// A glob that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GlobError {
    /// Nothing to match.
    #[error("it is empty")]
    Empty,
    /// A class without an end.
    #[error("a `[` without its `]`")]
    OpenClass,
    /// A range that holds nothing.
    #[error("a range in `[…]` runs backwards")]
    BackwardRange,
    /// A backslash before nothing.
    #[error("a backslash at the end")]
    TrailingBackslash,
    /// `.` or `..` as a component: no path of a tree has them.
    #[error("`.` and `..` are in no path below the root")]
    DotComponent,
}

/// A character, or a byte that is not part of one (above all characters).
type Unit = u32;
const NOT_UTF8: Unit = 0x11_0000;

fn next_unit(text: &[u8]) -> Option<(Unit, &[u8])> {
    let first = *text.first()?;
    if first.is_ascii() {
        return Some((Unit::from(first), &text[1..]));
    }
    let head = &text[..text.len().min(4)];
    match head.utf8_chunks().next().and_then(|chunk| chunk.valid().chars().next()) {
        Some(character) => Some((Unit::from(character), &text[character.len_utf8()..])),
        None => Some((NOT_UTF8 + Unit::from(first), &text[1..])),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Unit(Unit),
    Any,
    Class { negated: bool, ranges: Vec<(Unit, Unit)> },
    Star,
}

impl Token {
    fn accepts(&self, unit: Unit) -> bool {
        match self {
            Self::Unit(own) => *own == unit,
            Self::Any => true,
            Self::Class { negated, ranges } => {
                ranges.iter().any(|(low, high)| (*low..=*high).contains(&unit)) != *negated
            }
            Self::Star => false,
        }
    }
}

/// A glob for one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameGlob(NameForm);

#[derive(Clone, Debug, PartialEq, Eq)]
enum NameForm {
    Literal(Vec<u8>),
    Tokens(Vec<Token>),
}

impl NameGlob {
    /// Reads a glob without `/`.
    ///
    /// # Errors
    /// Where it is empty or ends in the middle.
    pub fn parse(text: &[u8]) -> Result<Self, GlobError> {
        if text.is_empty() {
            return Err(GlobError::Empty);
        }
        if !text.iter().any(|byte| b"*?[\\".contains(byte)) {
            return Ok(Self(NameForm::Literal(text.to_vec())));
        }
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some((unit, after)) = next_unit(rest) {
            rest = after;
            let token = match u8::try_from(unit) {
                Ok(b'*') => Token::Star,
                Ok(b'?') => Token::Any,
                Ok(b'[') => parse_class(&mut rest)?,
                Ok(b'\\') => Token::Unit(take_escaped(&mut rest)?),
                _ => Token::Unit(unit),
            };
            if token != Token::Star || tokens.last() != Some(&Token::Star) {
                tokens.push(token);
            }
        }
        Ok(Self(NameForm::Tokens(tokens)))
    }

    /// Whether the glob stands for all of `name`.
    pub fn matches(&self, name: &[u8]) -> bool {
        match &self.0 {
            NameForm::Literal(literal) => literal == name,
            NameForm::Tokens(tokens) => tokens_match(tokens, name),
        }
    }
}

fn take_escaped(rest: &mut &[u8]) -> Result<Unit, GlobError> {
    let (unit, after) = next_unit(rest).ok_or(GlobError::TrailingBackslash)?;
    *rest = after;
    Ok(unit)
}

/// Reads what follows a `[`.
fn parse_class(rest: &mut &[u8]) -> Result<Token, GlobError> {
    let negated = matches!(rest.first(), Some(b'!' | b'^'));
    if negated {
        *rest = &rest[1..];
    }
    let mut ranges = Vec::new();
    loop {
        // A `]` right at the start belongs to the class.
        if rest.first() == Some(&b']') && !ranges.is_empty() {
            *rest = &rest[1..];
            return Ok(Token::Class { negated, ranges });
        }
        let low = take_class_unit(rest)?;
        let high = match rest {
            [b'-', after, ..] if *after != b']' => {
                *rest = &rest[1..];
                take_class_unit(rest)?
            }
            _ => low,
        };
        if high < low {
            return Err(GlobError::BackwardRange);
        }
        ranges.push((low, high));
    }
}

fn take_class_unit(rest: &mut &[u8]) -> Result<Unit, GlobError> {
    let (unit, after) = next_unit(rest).ok_or(GlobError::OpenClass)?;
    *rest = after;
    if unit == Unit::from(b'\\') { take_escaped(rest) } else { Ok(unit) }
}

/// Linear but for stars: on a mismatch only the last star has to take one more, since what an earlier one
/// could take instead, the last one can as well.
fn tokens_match(tokens: &[Token], name: &[u8]) -> bool {
    let (mut at, mut rest) = (0, name);
    let mut last_star: Option<(usize, &[u8])> = None;
    loop {
        match tokens.get(at) {
            Some(Token::Star) => {
                at += 1;
                last_star = Some((at, rest));
                continue;
            }
            Some(token) => {
                if let Some((unit, after)) = next_unit(rest)
                    && token.accepts(unit)
                {
                    (at, rest) = (at + 1, after);
                    continue;
                }
            }
            None if rest.is_empty() => return true,
            None => {}
        }
        let Some((behind_star, from)) = last_star else { return false };
        let Some((_, after)) = next_unit(from) else { return false };
        last_star = Some((behind_star, after));
        (at, rest) = (behind_star, after);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Component {
    Name(NameGlob),
    /// `**`.
    Components,
}

/// A glob for a path, from the root of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathGlob {
    components: Vec<Component>,
}

impl PathGlob {
    /// Reads a glob. With a `/` in front it holds from the root, else at any depth.
    ///
    /// # Errors
    /// Where a component is empty or ends in the middle.
    pub fn parse(text: &[u8]) -> Result<Self, GlobError> {
        let mut components = Vec::new();
        let from_root = text.strip_prefix(b"/");
        if from_root.is_none() {
            components.push(Component::Components);
        }
        for part in from_root.unwrap_or(text).split(|byte| *byte == b'/') {
            components.push(match part {
                b"**" => Component::Components,
                b"." | b".." => return Err(GlobError::DotComponent),
                part => Component::Name(NameGlob::parse(part)?),
            });
        }
        if components.last() == Some(&Component::Components) {
            // What is below a directory is not the directory itself.
            components.push(Component::Name(NameGlob(NameForm::Tokens(vec![Token::Star]))));
        }
        components.dedup_by(|b, a| *a == Component::Components && *b == Component::Components);
        Ok(Self { components })
    }

    /// Whether the glob stands for all of `path`: components with `/` between, none in front.
    pub fn matches(&self, path: &[u8]) -> bool {
        if path.is_empty() {
            return false;
        }
        if let [Component::Components, Component::Name(name)] = &self.components[..] {
            return name.matches(last_component(path));
        }
        let path: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
        components_match(&self.components, &path)
    }

    /// Whether something below the directory `path` may match. Says yes where it would have to look closer.
    pub fn may_match_below(&self, path: &[u8]) -> bool {
        if path.is_empty() {
            return true;
        }
        let mut components = self.components.iter();
        for part in path.split(|byte| *byte == b'/') {
            match components.next() {
                Some(Component::Components) => return true,
                Some(Component::Name(name)) if name.matches(part) => {}
                _ => return false,
            }
        }
        components.next().is_some()
    }
}

fn last_component(path: &[u8]) -> &[u8] {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or(path)
}

/// As [`tokens_match`], a level higher.
fn components_match(components: &[Component], path: &[&[u8]]) -> bool {
    let (mut at, mut rest) = (0, path);
    let mut last_star: Option<(usize, &[&[u8]])> = None;
    loop {
        match (components.get(at), rest) {
            (Some(Component::Components), _) => {
                at += 1;
                last_star = Some((at, rest));
                continue;
            }
            (Some(Component::Name(name)), [first, after @ ..]) if name.matches(first) => {
                (at, rest) = (at + 1, after);
                continue;
            }
            (None, []) => return true,
            _ => {}
        }
        let Some((behind_star, [_, after @ ..])) = last_star else { return false };
        last_star = Some((behind_star, after));
        (at, rest) = (behind_star, after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name_matches(glob: &str, name: &[u8]) -> bool {
        NameGlob::parse(glob.as_bytes()).unwrap().matches(name)
    }

    #[test]
    fn names() {
        for (glob, yes, no) in [
            ("*.o", &["a.o", ".o", "ö.o"][..], &["a.oo", "o", "a.O"][..]),
            ("a?c", &["abc", "aöc"], &["ac", "abbc"]),
            ("[a-cx]", &["a", "c", "x"], &["d", "", "ab", "-"]),
            ("[!a-c]", &["d", "é"], &["a", ""]),
            ("[^a]", &["b"], &["a"]),
            ("[]x]", &["]", "x"], &["", "a"]),
            ("[a-]", &["a", "-"], &["b"]),
            ("[à-ü]", &["é"], &["a"]),
            (r"\*", &["*"], &["a"]),
            (r"[\]]", &["]"], &["\\"]),
            ("a**b", &["ab", "axb"], &["a", "b"]),
            ("*a*b*", &["ab", "xaxbx", "aab"], &["ba", "a"]),
            ("plain", &["plain"], &["plain2", "Plain"]),
        ] {
            yes.iter().for_each(|name| assert!(name_matches(glob, name.as_bytes()), "{glob} {name}"));
            no.iter().for_each(|name| assert!(!name_matches(glob, name.as_bytes()), "{glob} {name}"));
        }
        assert!(name_matches("a?b", b"a\xffb"));
        assert!(name_matches("*", b"\xff\xfe"));
        assert!(!name_matches("??", "é".as_bytes()), "a character of two bytes is one character");
    }

    #[test]
    fn what_cannot_be_read() {
        for (glob, error) in [
            ("", GlobError::Empty),
            ("/", GlobError::Empty),
            ("a//b", GlobError::Empty),
            ("[a", GlobError::OpenClass),
            ("[", GlobError::OpenClass),
            ("[]", GlobError::OpenClass),
            ("[z-a]", GlobError::BackwardRange),
            ("a\\", GlobError::TrailingBackslash),
            ("[\\", GlobError::TrailingBackslash),
            ("../a", GlobError::DotComponent),
        ] {
            assert_eq!(PathGlob::parse(glob.as_bytes()), Err(error), "{glob:?}");
        }
    }

    #[test]
    fn paths() {
        for (glob, yes, no) in [
            ("*.o", &["a.o", "x/y/a.o"][..], &["a.o/b", ""][..]),
            ("/a", &["a"], &["x/a", "a/b"]),
            ("a/b", &["a/b", "x/a/b"], &["a/x/b", "a"]),
            ("/a/**/b", &["a/b", "a/x/b", "a/x/y/b"], &["a", "x/a/b"]),
            ("/a/**", &["a/b", "a/b/c"], &["a", "b"]),
            ("**", &["a", "a/b"], &[""]),
            ("**/a/**/**", &["a/x", "y/a/x/z"], &["a", "x"]),
            ("/*/a", &["x/a"], &["a", "x/y/a"]),
        ] {
            let parsed = PathGlob::parse(glob.as_bytes()).unwrap();
            yes.iter().for_each(|path| assert!(parsed.matches(path.as_bytes()), "{glob} {path}"));
            no.iter().for_each(|path| assert!(!parsed.matches(path.as_bytes()), "{glob} {path}"));
        }
    }

    #[test]
    fn a_glob_of_many_stars_ends_soon() {
        let glob = NameGlob::parse("*a".repeat(60).as_bytes()).unwrap();
        assert!(!glob.matches("a".repeat(59).as_bytes()));
        assert!(!glob.matches(&[b"a".repeat(250).as_slice(), b"b"].concat()));
    }

    /// The definition, word by word, and exponentially slow.
    fn naive(tokens: &[Token], units: &[Unit]) -> bool {
        match (tokens, units) {
            ([], []) => true,
            ([Token::Star, more @ ..], _) => (0..=units.len()).any(|taken| naive(more, &units[taken..])),
            ([token, more @ ..], [unit, rest @ ..]) => token.accepts(*unit) && naive(more, rest),
            _ => false,
        }
    }

    fn naive_path(components: &[Component], path: &[&[u8]]) -> bool {
        match (components, path) {
            ([], []) => true,
            ([Component::Components, more @ ..], _) => {
                (0..=path.len()).any(|taken| naive_path(more, &path[taken..]))
            }
            ([Component::Name(name), more @ ..], [first, rest @ ..]) => {
                name.matches(first) && naive_path(more, rest)
            }
            _ => false,
        }
    }

    fn units(text: &[u8]) -> Vec<Unit> {
        let whole = text.utf8_chunks().flat_map(|chunk| {
            let invalid = chunk.invalid().iter().map(|byte| NOT_UTF8 + Unit::from(*byte));
            chunk.valid().chars().map(Unit::from).chain(invalid).collect::<Vec<_>>()
        });
        whole.collect()
    }

    fn some_name() -> impl Strategy<Value = Vec<u8>> {
        let parts = prop::sample::select(vec![
            &b"a"[..],
            b"b",
            b"-",
            b"]",
            b"\\",
            b"*",
            "é".as_bytes(),
            "€".as_bytes(),
            b"\xff",
            b"\xe2\x82",
            b"\xf0",
        ]);
        prop::collection::vec(parts, 0..8).prop_map(|parts| parts.concat())
    }

    fn some_glob() -> impl Strategy<Value = Vec<u8>> {
        let parts = prop::sample::select(vec![
            &b"*"[..],
            b"*",
            b"?",
            b"a",
            b"b",
            b"[ab]",
            b"[!a]",
            b"[*-b]",
            b"\\*",
            "é".as_bytes(),
            "[à-ü]".as_bytes(),
            b"\xff",
            b"[",
            b"]",
        ]);
        prop::collection::vec(parts, 1..8).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn units_are_characters_or_stray_bytes(name in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut found = Vec::new();
            let mut rest = &name[..];
            while let Some((unit, after)) = next_unit(rest) {
                found.push(unit);
                rest = after;
            }
            prop_assert_eq!(found, units(&name));
        }

        #[test]
        fn as_the_naive_matcher_says(glob in some_glob(), name in some_name()) {
            if let Ok(NameGlob(NameForm::Tokens(tokens))) = NameGlob::parse(&glob) {
                prop_assert_eq!(tokens_match(&tokens, &name), naive(&tokens, &units(&name)));
            }
        }

        #[test]
        fn paths_as_the_naive_matcher_says(
            rooted in any::<bool>(),
            glob in prop::collection::vec(prop::sample::select(vec!["**", "*", "a", "b", "?", "a*"]), 1..6),
            path in prop::collection::vec(prop::sample::select(vec!["a", "b", "ab"]), 1..7),
        ) {
            let text = format!("{}{}", if rooted { "/" } else { "" }, glob.join("/"));
            let parsed = PathGlob::parse(text.as_bytes()).unwrap();
            let parts: Vec<&[u8]> = path.iter().map(|part| part.as_bytes()).collect();
            let path = path.join("/");
            let matched = parsed.matches(path.as_bytes());
            prop_assert_eq!(matched, naive_path(&parsed.components, &parts));
            if matched {
                for above in path.match_indices('/').map(|(end, _)| &path[..end]) {
                    prop_assert!(parsed.may_match_below(above.as_bytes()));
                }
            }
        }

        #[test]
        fn nothing_panics(glob in prop::collection::vec(any::<u8>(), 0..20), path in prop::collection::vec(any::<u8>(), 0..20)) {
            if let Ok(glob) = PathGlob::parse(&glob) {
                glob.matches(&path);
                glob.may_match_below(&path);
            }
        }
    }
}
