//! Lifeboat's own commands, with a small program in the place of this one: it prints its words as a document.

use crate::orders::{captured, order, output, plain, secret};
use lifeboat_carriers::Lifeboat;
use lifeboat_run::event::Ended;
use lifeboat_run::{Carried, Carry, Order, Stop};
use lifeboat_runbook::Action;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Prints its words, and ends with the exit code that follows `exit`.
const PROGRAM: &str = r#"#!/usr/bin/env bash
code=0
words=""
for word in "$@"; do
    case $word in exit-*) code=${word#exit-} ;; esac
    words+="${words:+,}\"${word//\"/\\\"}\""
done
echo "{\"words\": [$words], \"snapshot\": {\"id\": \"abc\", \"files\": 3}}"
exit "$code"
"#;

fn lifeboat(folder: &Path) -> Lifeboat {
    let program = folder.join("it's a program");
    lifeboat_base::crashsafe::create(&program, PROGRAM.as_bytes()).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    Lifeboat::new(program, vec!["--plan".to_owned(), "my plan.toml".to_owned()])
}

fn words(words: &[&str]) -> Action {
    Action::Lifeboat { words: words.iter().map(|word| (*word).to_owned()).collect() }
}

fn carry(folder: &Path, order: &Order) -> Carried {
    lifeboat(folder).carry(order, &Stop::default())
}

#[test]
fn every_word_arrives_as_it_stands_and_outputs_are_taken_by_their_pointers() {
    let folder = tempfile::tempdir().unwrap();
    let mut order = order(folder.path(), words(&["restore", "${dataset}", "--into", "it's $HOME/`x`"]));
    order.values = plain(&[("dataset", "a; rm -rf /")]);
    order.outputs = vec![
        output("id", Some("/snapshot/id")),
        output("files", Some("/snapshot/files")),
        output("words", None),
    ];
    let carried = carry(folder.path(), &order);
    assert_eq!(carried.ended, Ended::Done, "{}", captured(&order));
    assert_eq!((&*carried.outputs["id"], &*carried.outputs["files"]), ("abc", "3"));
    let arrived: Vec<String> = serde_json::from_str(&carried.outputs["words"]).unwrap();
    let expected = ["--plan", "my plan.toml", "restore", "a; rm -rf /", "--into", "it's $HOME/`x`", "--json"];
    assert_eq!(arrived, expected);
}

#[test]
fn exit_codes_say_what_they_say() {
    let folder = tempfile::tempdir().unwrap();
    for (code, asks, is_right) in [
        ("exit-0", false, (|ended| matches!(ended, Ended::Done)) as fn(&Ended) -> bool),
        ("exit-1", false, |ended| matches!(ended, Ended::Failed { .. })),
        ("exit-3", false, |ended| matches!(ended, Ended::Failed { .. })),
        ("exit-0", true, |ended| matches!(ended, Ended::Done)),
        ("exit-1", true, |ended| matches!(ended, Ended::Failed { .. })),
        ("exit-3", true, |ended| matches!(ended, Ended::Failed { .. })),
        ("exit-4", true, |ended| matches!(ended, Ended::Unknown { .. })),
        ("exit-2", true, |ended| matches!(ended, Ended::Unknown { .. })),
    ] {
        let mut order = order(folder.path(), words(&["prove", code]));
        order.asks = asks;
        let ended = carry(folder.path(), &order).ended;
        assert!(is_right(&ended), "{code}, a question: {asks}: {ended:?}");
    }
}

#[test]
fn what_cannot_be_is_said_and_nothing_is_begun() {
    let folder = tempfile::tempdir().unwrap();
    let mut with_secret = order(folder.path(), words(&["restore", "--key", "${key}"]));
    with_secret.values.insert("key".to_owned(), secret("env:KEY", "hunter2"));
    let carried = carry(folder.path(), &with_secret);
    let Ended::NotBegun { why } = carried.ended else { panic!("{:?}", carried.ended) };
    assert!(why.contains("key is a secret") && !why.contains("hunter2"), "{why}");
    let mut absent = order(folder.path(), words(&["points"]));
    absent.outputs = vec![output("gone", Some("/not/there"))];
    assert!(
        matches!(carry(folder.path(), &absent).ended, Ended::Failed { why } if why.contains("/not/there"))
    );
    let nowhere = Lifeboat::new(folder.path().join("nothing"), Vec::new());
    assert_eq!(nowhere.look(&order(folder.path(), words(&["points"]))).len(), 1);
}
