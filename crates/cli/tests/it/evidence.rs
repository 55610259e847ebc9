//! Receipts of commands: left whatever came of it, listed, verified, exported.

use crate::place::{Place, Ran};
use crate::transcript::Transcript;
use serde_json::Value;

/// Action and outcome of every receipt, oldest first.
fn receipts(place: &Place) -> Vec<(String, String)> {
    let listed = place.json(&["evidence", "list", "--limit", "1000"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let receipts = listed["receipts"].as_array().unwrap();
    receipts.iter().map(|r| (text(&r["receipt"]["action"]), text(&r["receipt"]["outcome"]))).collect()
}

fn last(place: &Place) -> Value {
    let listed = place.json(&["evidence", "list", "--limit", "1"]);
    listed["receipts"][0]["receipt"].clone()
}

fn pair(action: &str, outcome: &str) -> (String, String) {
    (action.to_owned(), outcome.to_owned())
}

#[test]
fn receipts_are_listed_verified_and_exported() {
    let place = Place::with_snapshot();
    place.ok(&["prove", "tree"]);
    let mut seen = Transcript::new(&place);
    seen.both(&["evidence", "list", "--dataset", "tree"])
        .run(&["evidence", "list", "--kind", "proof", "--limit", "1"]);
    seen.run(&["evidence", "list", "--kind", "teleport"]).run(&["evidence", "list", "--since", "nonsense"]);
    seen.both(&["evidence", "verify"]);
    seen.run(&["evidence", "export", "--format", "json", "--out", "evidence.json"]);
    seen.run(&["evidence", "export", "--format", "html", "--out", "evidence.html", "--json"]);
    seen.run(&["evidence", "export", "--format", "html", "--out", "evidence.html"]);
    place.write("keys.json", place.ok(&["repo", "writers", "list", "--json"]));
    seen.run(&["evidence", "verify", "evidence.json"]).run(&[
        "evidence",
        "verify",
        "evidence.json",
        "--keys",
        "keys.json",
    ]);
    seen.run(&["evidence", "verify", "tree/a.txt"]).run(&[
        "evidence",
        "verify",
        "evidence.json",
        "--keys",
        "tree/a.txt",
    ]);
    seen.compare("evidence.txt");
    let html = std::fs::read_to_string(place.path("evidence.html")).unwrap();
    assert!(
        html.starts_with("<!DOCTYPE html>") && html.contains("not recorded") && !html.contains("<script")
    );
}

#[test]
fn every_command_that_does_something_leaves_a_receipt() {
    let place = Place::with_snapshot();
    let before = receipts(&place);
    let id = place.backup();
    place.ok(&["prove", "tree"]);
    place.ok(&["restore", "tree", "--to", "latest", "--into", "out"]);
    place.ok(&["dump", "tree", "a.txt"]);
    place.ok(&["hold", "add", "tree", &id, "--reason", "audit"]);
    let holds = place.json(&["hold", "list"]);
    place.ok(&["hold", "release", holds["holds"][0]["hold"].as_str().unwrap()]);
    place.ok(&["prune", "--at-least", "1", "--dry-run"]);
    place.ok(&["forget", "tree", &id]);
    place.ok(&["prune", "--at-least", "1"]);
    place.ok(&["key", "add", "--command", "echo 1234567890123456"]);
    place.ok(&["repo", "writers", "enrol", "--public-key", &"ab".repeat(32)]);
    for quiet in [&["points"][..], &["ls", "tree"], &["check"], &["key", "list"], &["evidence", "verify"]] {
        place.ok(quiet);
    }
    let expected = [
        "backup",
        "proof",
        "restore",
        "key-use",
        "hold",
        "hold",
        "forget",
        "prune",
        "key-change",
        "writer-change",
    ];
    let after = receipts(&place);
    let left: Vec<_> = after[before.len()..].to_vec();
    assert_eq!(left, expected.map(|action| pair(action, "done")));
}

#[test]
fn what_failed_leaves_a_receipt_with_its_reason_and_what_was_asked_for_wrongly_none() {
    let place = Place::with_snapshot();
    let before = receipts(&place).len();
    place.write("out/there", "already");
    place.run(&["restore", "tree", "--to", "latest", "--into", "out"]).expect(1);
    let receipt = last(&place);
    assert_eq!((&receipt["action"], &receipt["outcome"]), (&"restore".into(), &"failed".into()));
    assert!(receipt["reasons"][0].as_str().unwrap().contains("out"), "{receipt}");
    place.run(&["restore", "nothing", "--to", "latest", "--into", "out"]).expect(2);
    place.run(&["backup", "no-such-folder"]).expect(2);
    assert_eq!(receipts(&place).len(), before + 1);
}

#[test]
fn what_a_repository_that_is_away_cannot_take_waits_and_goes_with_the_next_command() {
    let place = Place::with_snapshot();
    let before = receipts(&place).len();
    std::fs::create_dir(place.path("away")).unwrap();
    let away =
        std::process::Command::new("mv").args(["repo", "away/repo"]).current_dir(place.root()).status();
    assert!(away.unwrap().success());
    let failed = place.run(&["backup", "tree"]).expect(1);
    assert!(!failed.stdout.contains("receipt"), "{failed}");
    let back =
        std::process::Command::new("mv").args(["away/repo", "repo"]).current_dir(place.root()).status();
    assert!(back.unwrap().success());
    place.ok(&["backup", "tree"]);
    let after = receipts(&place);
    let left: Vec<_> = after[before..].to_vec();
    assert_eq!(left, [pair("backup", "failed"), pair("backup", "done")]);
}

#[test]
fn what_was_killed_is_said_to_be_interrupted() {
    let place = Place::with_snapshot();
    let before = receipts(&place).len();
    place.write("tree/new", "new");
    let mut killed = place.command(&["backup", "tree"]);
    killed.env("LIFEBOAT_FAILPOINTS", "writer::before-publication=kill");
    assert_eq!(Ran::of(&mut killed).signal, Some(9));
    place.ok(&["backup", "tree"]);
    let after = receipts(&place);
    assert_eq!(after[before..], [pair("backup", "interrupted"), pair("backup", "done")]);
}

#[test]
fn tampering_with_an_export_or_with_the_repository_is_found() {
    let place = Place::with_snapshot();
    place.ok(&["prove", "tree"]);
    place.ok(&["evidence", "export", "--format", "json", "--out", "evidence.json"]);
    let text = std::fs::read_to_string(place.path("evidence.json")).unwrap();
    place.write("forged.json", text.replacen("\"action\": \"proof\"", "\"action\": \"backup\"", 1));
    let ran = place.run(&["evidence", "verify", "forged.json"]).expect(1);
    assert!(ran.stdout.contains("changed: writer"), "{ran}");
    place.write("keys.json", "{\"keys\": []}");
    let ran = place.run(&["evidence", "verify", "evidence.json", "--keys", "keys.json"]).expect(4);
    assert!(ran.stdout.contains("inconclusive"), "{ran}");

    let objects = place.objects("receipts/");
    assert!(objects.len() >= 2, "{objects:?}");
    std::fs::remove_file(place.path("repo").join(&objects[0])).unwrap();
    let ran = place.run(&["evidence", "verify"]).expect(1);
    assert!(
        ran.stdout.contains("removed: writer") && ran.stdout.contains("receipts 1 to 1 are missing"),
        "{ran}"
    );
    // The end, which this machine remembers.
    std::fs::remove_file(place.path("repo").join(&objects[objects.len() - 1])).unwrap();
    let ran = place.run(&["evidence", "verify"]).expect(1);
    assert!(ran.stdout.contains("seen by this machine, which remembers it"), "{ran}");
}

#[test]
fn a_copy_has_the_receipts_and_they_verify_there() {
    let place = Place::with_snapshot();
    let mut init = place.command(&["repo", "init", "-r", "copy", "--copy-of", "repo", "--no-recovery-key"]);
    init.env("LIFEBOAT_KEY", "env:LIFEBOAT_PASSPHRASE")
        .env("LIFEBOAT_ORIGIN_PASSPHRASE", crate::place::PASSPHRASE);
    Ran::of(&mut init).expect(0);
    let there = receipts(&place).len();
    place.ok(&["copy", "--to", "copy", "--to-key", "env:LIFEBOAT_PASSPHRASE"]);
    let verified = place.json(&["evidence", "verify", "-r", "copy", "--key", "env:LIFEBOAT_PASSPHRASE"]);
    assert_eq!(verified["verdict"], "sound", "{verified}");
    // Those of the origin, and that of the copy's making; that of the copying itself came too late to go along.
    assert_eq!(verified["receipts"], there as u64 + 1, "{verified}");
}

#[test]
fn a_check_that_finds_damage_leaves_a_receipt_and_one_that_finds_none_leaves_nothing() {
    const PARTS: u32 = 3;
    let place = Place::with_snapshot();
    // What does not compress: the middle of its pack is content, and no listing.
    let content: Vec<[u8; 32]> = (0..10_000).map(|_| lifeboat_base::random::bytes()).collect();
    place.write("tree/big.bin", content.concat());
    place.ok(&["backup", "tree"]);
    let before = receipts(&place).len();
    place.ok(&["check", "--read-data"]);
    let size = |pack: &String| std::fs::metadata(place.path("repo").join(pack)).unwrap().len();
    let pack = place.objects("packs/").into_iter().max_by_key(size).unwrap();
    let path = place.path("repo").join(&pack);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    crate::place::write_file(&path, &bytes);
    place.ok(&["check"]);
    assert_eq!(receipts(&place).len(), before, "nothing was found");
    let parts = (1..=PARTS).map(|part| format!("{part}/{PARTS}"));
    let checked: Vec<Ran> = parts.map(|part| place.run(&["check", "--read-data", "--part", &part])).collect();
    let found: Vec<&Ran> = checked.iter().filter(|ran| ran.code == Some(1)).collect();
    let [found] = found[..] else { panic!("{checked:?}") };
    assert!(found.stdout.contains(&format!("damaged: {pack}")), "{found}");
    assert!(checked.iter().all(|ran| matches!(ran.code, Some(0 | 1))), "{checked:?}");
    let of_checks: Vec<_> = receipts(&place).into_iter().filter(|(action, _)| action == "check").collect();
    assert_eq!(of_checks, [pair("check", "failed")]);
    let receipt = last(&place);
    assert!(receipt["reasons"].to_string().contains(&pack), "{receipt}");
}
