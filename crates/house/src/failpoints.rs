//! The names of failpoints, as the code reaches them: a crash test kills by name, so a name that two places
//! share hides the second one, and a name outside the pattern is never found.

use crate::sources::Source;
use std::collections::BTreeMap;

/// A place that reaches a failpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// The failpoint's name.
    pub name: String,
    /// `path:line`.
    pub place: String,
    /// The package folder that the place is in.
    pub owner: String,
}

/// A name that stands for one moment of several ways to it, by decision, with how many places share it.
pub struct Shared {
    /// The failpoint's name.
    pub name: &'static str,
    /// How many places reach it.
    pub places: usize,
    /// Why they may.
    pub reason: &'static str,
}

/// Every literal failpoint that a Rust file reaches outside its tests.
pub fn reached(source: &Source, owner: &str) -> Vec<Reached> {
    let code = source.text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut found = Vec::new();
    for (start, call) in code.match_indices("reach(") {
        let line_number = code[..start].matches('\n').count() + 1;
        let line_start = code[..start].rfind('\n').map_or(0, |at| at + 1);
        let in_comment = code[line_start..start].trim_start().starts_with("//");
        let within_a_word = code[..start].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        if let Some(name) = literal(&code[start + call.len()..]).filter(|_| !in_comment && !within_a_word) {
            let place = format!("{}:{line_number}", source.path.display());
            found.push(Reached { name: name.to_owned(), place, owner: owner.to_owned() });
        }
    }
    found
}

fn literal(arguments: &str) -> Option<&str> {
    arguments.trim_start().strip_prefix('"')?.split('"').next()
}

/// Whether a name is `word::kebab-words`; the word may be a crate's, and so have hyphens as well.
pub fn is_well_formed(name: &str) -> bool {
    let kebab = |text: &str| {
        text.starts_with(|c: char| c.is_ascii_lowercase())
            && !text.ends_with('-')
            && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    name.split_once("::").is_some_and(|(word, moment)| kebab(word) && kebab(moment))
}

/// What is wrong with these failpoints taken together.
pub fn blemishes(all: &[Reached], shared: &[Shared]) -> Vec<String> {
    let mut found = Vec::new();
    let mut by_name: BTreeMap<&str, Vec<&Reached>> = BTreeMap::new();
    let mut owner_of: BTreeMap<&str, &Reached> = BTreeMap::new();
    for each in all {
        by_name.entry(&each.name).or_default().push(each);
        if !is_well_formed(&each.name) {
            found.push(format!("{}: `{}` is not of the form `word::kebab-words`", each.place, each.name));
        }
        let prefix = each.name.split("::").next().unwrap_or_default();
        let first = owner_of.entry(prefix).or_insert(each);
        if first.owner != each.owner {
            found.push(format!("{}: the prefix `{prefix}` is already used at {}", each.place, first.place));
        }
    }
    for (name, places) in &by_name {
        let allowed = shared.iter().find(|each| each.name == *name).map_or(1, |each| each.places);
        if places.len() != allowed {
            let list: Vec<&str> = places.iter().map(|each| each.place.as_str()).collect();
            found.push(format!(
                "`{name}` is reached at {} places, not {allowed}: {}",
                list.len(),
                list.join(", ")
            ));
        }
    }
    let stale = shared.iter().filter(|each| !by_name.contains_key(each.name));
    found.extend(stale.map(|each| format!("`{}` is listed as shared and reached nowhere", each.name)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::Kind;

    fn at(name: &str, place: &str, owner: &str) -> Reached {
        Reached { name: name.into(), place: place.into(), owner: owner.into() }
    }

    #[test]
    fn calls_are_found_also_when_wrapped_and_tests_are_not() {
        let text = "failpoint::reach(\"a::one\")?;\nx(reach(\n    \"a::two\",\n));\n// reach(\"a::no\")\n\
                    preach(\"a::no\"); reach(name);\n#[cfg(test)]\nmod tests { fn t() { reach(\"a::no\") } }\n";
        let source = Source { path: "f.rs".into(), kind: Kind::Code, text: text.into() };
        let found = reached(&source, "a");
        assert_eq!(found, [at("a::one", "f.rs:1", "a"), at("a::two", "f.rs:2", "a")]);
    }

    #[test]
    fn names_are_a_word_and_kebab_words() {
        for good in ["base::moment", "store-sqlite::page-map-put", "wire2::x1"] {
            assert!(is_well_formed(good), "{good}");
        }
        for bad in [
            "moment",
            "base::",
            "::x",
            "base::Moment",
            "base::a_b",
            "a_b::x",
            "base::a-",
            "a::b::c",
            "a b::c",
        ] {
            assert!(!is_well_formed(bad), "{bad}");
        }
    }

    #[test]
    fn a_name_belongs_to_one_place_and_a_prefix_to_one_crate() {
        let all = [at("a::x", "1", "a"), at("a::x", "2", "a"), at("a::y", "3", "b")];
        let found = blemishes(&all, &[]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].starts_with("3: the prefix `a`") && found[1].ends_with("1, 2"), "{found:?}");
        let shared = [Shared { name: "a::x", places: 2, reason: "the same moment" }];
        assert!(blemishes(&all[..2], &shared).is_empty());
        assert_eq!(blemishes(&[], &shared), ["`a::x` is listed as shared and reached nowhere"]);
    }
}
