//! YAML of somebody else, read within bounds: what is too long, too deep or multiplies itself is refused.
//!
//! What is wrong with a file is said by line and never in the parser's words, which may repeat a secret.

use crate::found::PassedOver;
use crate::read;
use crate::sighting::Sightings;
use crate::walk::{Tree, name_of};
use serde_json::Value;
use std::path::Path;

/// How long a file may be.
const MAX_BYTES: u64 = 1024 * 1024;
/// How many files are read.
const MAX_FILES: usize = 200;
/// How many nodes a file may have: a megabyte of honest YAML has fewer.
const MAX_NODES: usize = 100_000;
/// How deep they may lie. Kubernetes' own objects stay below half of it.
const MAX_DEPTH: usize = 48;
/// How many nodes aliases may add by repeating others.
const MAX_REPEATED: usize = 20_000;
/// Folders that hold manifests.
const MANIFESTS: &[&str] = &["deploy", "deployment", "k8s", "kube", "kubernetes", "manifests"];

/// A document of a file.
#[derive(Debug)]
pub(crate) struct Document {
    /// The file, below the folder.
    pub(crate) file: String,
    pub(crate) kind: Kind,
    pub(crate) value: Value,
}

/// What a file is, by its name and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Compose,
    Manifest,
}

/// Reads every compose file and every file among manifests.
pub(crate) fn look(root: &Path, tree: &Tree, seen: &mut Sightings) -> Vec<Document> {
    let mut documents = Vec::new();
    let mut read = 0;
    for (file, kind) in tree.files.iter().filter_map(|path| Some((path, kind_of(path)?))) {
        let passed = |why: String, is_missed| PassedOver { path: file.clone(), why, is_missed };
        if is_for_tests(name_of(file)) {
            seen.passed_over.push(passed("by its name it is for tests".to_owned(), false));
            continue;
        }
        read += 1;
        if read > MAX_FILES {
            seen.passed_over.push(passed(format!("only the first {MAX_FILES} YAML files were read"), true));
            break;
        }
        match documents_of(&root.join(file)) {
            Ok(values) => {
                documents.extend(values.into_iter().map(|value| Document {
                    file: file.clone(),
                    kind,
                    value,
                }));
            }
            Err(why) => seen.passed_over.push(passed(why, true)),
        }
    }
    documents
}

fn kind_of(path: &str) -> Option<Kind> {
    let name = name_of(path);
    if !name.ends_with(".yml") && !name.ends_with(".yaml") {
        return None;
    }
    if name.starts_with("docker-compose") || name.starts_with("compose") {
        return Some(Kind::Compose);
    }
    path.split('/').any(|part| MANIFESTS.contains(&part)).then_some(Kind::Manifest)
}

fn is_for_tests(name: &str) -> bool {
    name.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| matches!(word, "test" | "tests" | "testing"))
}

fn documents_of(path: &Path) -> Result<Vec<Value>, String> {
    let text = read::text(path, MAX_BYTES)?;
    if text.contains("{{") {
        return Err(
            "it is a template: render it, for example with `helm template`, and look again".to_owned()
        );
    }
    parse(&text)
}

/// Reads the documents of a text.
pub(crate) fn parse(text: &str) -> Result<Vec<Value>, String> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: MAX_NODES,
            max_events: 4 * MAX_NODES,
            max_depth: MAX_DEPTH,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_REPEATED,
            max_replay_stack_depth: 16,
        },
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(String::new(), |place| format!(", line {}", place.line()));
        format!("it is no YAML that can be read within bounds{line}")
    })
}

/// A scalar as text.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// The scalar at a path of keys, such as `/spec/serviceName`.
pub(crate) fn text_at(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(text)
}

/// The number at a path of keys, also where it is written as text.
pub(crate) fn number_at(value: &Value, pointer: &str) -> Option<u64> {
    text_at(value, pointer)?.parse().ok()
}

/// The keys and values of a mapping; of anything else none.
pub(crate) fn entries(value: Option<&Value>) -> impl Iterator<Item = (&str, &Value)> {
    let map = value.and_then(Value::as_object);
    map.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
}

/// The items of a list; of anything else none.
pub(crate) fn items(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_documents_are_read() {
        let read = parse("a: 1\n---\nb: [x, 'y']\n---\n# nothing\n---\nc: {d: ~}\n").unwrap();
        assert_eq!(read.len(), 3, "{read:?}");
        assert_eq!(text_at(&read[0], "/a").as_deref(), Some("1"));
        assert_eq!(items(read[1].get("b")).count(), 2);
    }

    #[test]
    fn merge_keys_are_resolved() {
        let read = parse("x: &x {image: postgres}\nservices:\n  db:\n    <<: *x\n    ports: [1]\n").unwrap();
        assert_eq!(text_at(&read[0], "/services/db/image").as_deref(), Some("postgres"));
    }

    #[test]
    fn what_multiplies_itself_is_refused() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let items = vec![format!("*a{}", n - 1); 9].join(", ");
            bomb.push_str(&format!("a{n}: &a{n} [{items}]\n"));
        }
        assert!(parse(&bomb).unwrap_err().contains("within bounds"));
    }

    #[test]
    fn what_is_too_deep_or_too_much_is_refused() {
        assert!(parse(&"[".repeat(100_000)).is_err());
        assert!(parse(&format!("{}{}", "[".repeat(60), "]".repeat(60))).is_err());
        assert!(parse(&format!("[{}]", "x,".repeat(MAX_NODES + 1))).is_err());
        assert!(parse(&"- ".repeat(10_000)).is_err());
    }

    #[test]
    fn an_error_repeats_nothing_of_the_file() {
        let error = parse("password: \"hunter2\nother: [\n").unwrap_err();
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn files_are_known_by_name_and_place() {
        assert_eq!(kind_of("docker-compose.production.yml"), Some(Kind::Compose));
        assert_eq!(kind_of("deploy/compose.yaml"), Some(Kind::Compose));
        assert_eq!(kind_of("a/k8s/base/app.yaml"), Some(Kind::Manifest));
        assert_eq!((kind_of("ci.yml"), kind_of("k8s/readme.md")), (None, None));
        assert!(is_for_tests("docker-compose.recovery-test.yml") && !is_for_tests("latest.yml"));
    }
}
