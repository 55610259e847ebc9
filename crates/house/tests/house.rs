//! This workspace, held to the rules of the house. Each test names every breach, not the first one.

use lifeboat_house::failpoints::{self, Reached, Shared};
use lifeboat_house::sources::{self, Source};
use lifeboat_house::workspace::{Package, Workspace};
use lifeboat_house::{floors, markdown, supply};
use std::fs;
use std::path::Path;

/// Failpoints that several places share by decision.
const SHARED: &[Shared] = &[Shared {
    name: "crashsafe::named",
    places: 2,
    reason: "`create` links and `replace` renames: for who opens the directory after a crash, one moment",
}];

fn workspace() -> Workspace {
    Workspace::around(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("Cargo describes this workspace")
}

fn all_sources(workspace: &Workspace) -> Vec<Source> {
    let found = sources::walk(&workspace.root).expect("the sources can be read");
    assert!(found.len() > 20, "the walk found the sources: {}", found.len());
    found
}

fn text_of(workspace: &Workspace, path: &str) -> String {
    fs::read_to_string(workspace.root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
fn none(breaches: &[String]) {
    assert!(breaches.is_empty(), "\n{}\n", breaches.join("\n"));
}

#[test]
fn dependencies_only_go_down() {
    let packages = workspace().packages;
    assert!(packages.iter().any(|package| !package.uses.is_empty()), "Cargo named the dependencies");
    none(&floors::breaches(&packages).iter().map(ToString::to_string).collect::<Vec<_>>());
}

#[test]
fn every_crate_says_what_it_deliberately_does_not_know() {
    let silent = |package: &&Package| {
        let text = fs::read_to_string(&package.entry).unwrap();
        !sources::says_what_it_does_not_know(&sources::opening_words(&text))
    };
    let workspace = workspace();
    let silent = workspace.packages.iter().filter(silent);
    none(
        &silent
            .map(|p| format!("{}: say what it deliberately does not know", p.entry.display()))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn every_crate_is_on_the_map() {
    let workspace = workspace();
    let map = text_of(&workspace, "ARCHITECTURE.md");
    let missing = workspace.packages.iter().filter(|package| !is_on(&map, package));
    none(
        &missing
            .map(|package| format!("ARCHITECTURE.md does not mention {}", package.name))
            .collect::<Vec<_>>(),
    );
}

/// A crate is mentioned by its package name or its folder's, in backticks, or by its folder's path.
fn is_on(map: &str, package: &Package) -> bool {
    let folder = package.root.file_name().unwrap_or_default().to_string_lossy();
    [format!("`{}`", package.name), format!("`{folder}`"), format!("crates/{folder}")]
        .iter()
        .any(|mention| map.contains(mention.as_str()))
}

#[test]
fn a_failpoint_is_one_moment_of_one_crate() {
    let workspace = workspace();
    let all: Vec<Reached> =
        all_sources(&workspace).iter().flat_map(|source| reached(&workspace, source)).collect();
    assert!(all.iter().any(|each| each.name == "crashsafe::synced"), "the scan found the ground floor's");
    assert!(SHARED.iter().all(|shared| !shared.reason.is_empty()));
    none(&failpoints::blemishes(&all, SHARED));
}

/// The failpoints of a file of a package's own code: not of its tests, nor of this crate, which quotes them.
fn reached(workspace: &Workspace, source: &Source) -> Vec<Reached> {
    let owner = workspace.packages.iter().find(|package| source.path.starts_with(package.root.join("src")));
    match owner {
        Some(package) if source.has_extension("rs") && package.name != "lifeboat-house" => {
            failpoints::reached(source, &package.name)
        }
        _ => Vec::new(),
    }
}

#[test]
fn no_file_is_endless_unfinished_or_tied_to_one_machine() {
    let sources = all_sources(&workspace());
    none(&sources.iter().flat_map(sources::blemishes).collect::<Vec<_>>());
}

#[test]
fn the_documents_that_users_depend_on_exist() {
    let workspace = workspace();
    for path in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/format.md", "docs/glossary.md"] {
        assert!(text_of(&workspace, path).lines().any(|line| line.starts_with("# ")), "{path} has a title");
    }
}

#[test]
fn links_between_documents_lead_somewhere() {
    let workspace = workspace();
    let documents: Vec<Source> =
        all_sources(&workspace).into_iter().filter(|source| source.has_extension("md")).collect();
    assert!(!documents.is_empty());
    none(
        &documents
            .iter()
            .flat_map(|document| markdown::dead_links(document, &workspace.root))
            .collect::<Vec<_>>(),
    );
}

#[test]
fn the_dependencies_keep_to_the_policy() {
    let workspace = workspace();
    let policy = toml::from_str(&text_of(&workspace, "deny.toml")).unwrap();
    let lock = toml::from_str(&text_of(&workspace, "Cargo.lock")).unwrap();
    let built = supply::built(&workspace.root).unwrap();
    assert!(built.iter().any(|each| each.name == "blake3"), "Cargo named what is built");
    none(&supply::blemishes(&policy, &lock, &built));
}
