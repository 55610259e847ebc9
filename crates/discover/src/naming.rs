//! Names for a plan out of names from elsewhere.

use std::collections::BTreeSet;

/// The longest name that is made: room for an ending within what a dataset's name may have.
const LONGEST: usize = 60;

/// A name of lower-case letters, digits, `-` and `_`, which begins with a letter or a digit.
pub(crate) fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().map(|c| c.to_ascii_lowercase()) {
        match c {
            'a'..='z' | '0'..='9' | '_' => slug.push(c),
            _ if slug.ends_with('-') => {}
            _ => slug.push('-'),
        }
    }
    let slug: String = slug.trim_matches(['-', '_']).chars().take(LONGEST).collect();
    if slug.is_empty() { "unnamed".to_owned() } else { slug }
}

/// Names that are taken: each is given once.
#[derive(Debug, Default)]
pub(crate) struct Names(BTreeSet<String>);

impl Names {
    /// The first of these that is free, else the last of them with a number.
    pub(crate) fn take(&mut self, wanted: &[String]) -> String {
        let free = wanted.iter().find(|name| !self.0.contains(*name)).cloned();
        let name = free.unwrap_or_else(|| self.numbered(wanted.last().map_or("unnamed", String::as_str)));
        self.0.insert(name.clone());
        name
    }

    fn numbered(&self, name: &str) -> String {
        let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
        numbered.into_iter().find(|name| !self.0.contains(name)).unwrap_or_else(|| name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_plain() {
        for (text, name) in [
            ("aragora_users", "aragora_users"),
            ("Web API", "web-api"),
            (".nomic", "nomic"),
            ("Grüße", "gr-e"),
            ("---", "unnamed"),
            ("", "unnamed"),
        ] {
            assert_eq!(slug(text), name, "{text}");
        }
        assert_eq!(slug(&"x".repeat(500)).len(), LONGEST);
    }

    #[test]
    fn a_name_is_given_once() {
        let mut names = Names::default();
        let wanted = ["app".to_owned(), "app-postgres".to_owned()];
        let given: Vec<String> = (0..4).map(|_| names.take(&wanted)).collect();
        assert_eq!(given, ["app", "app-postgres", "app-postgres-2", "app-postgres-3"]);
    }
}
