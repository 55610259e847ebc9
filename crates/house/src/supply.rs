//! What is built into Lifeboat, held to `deny.toml`: which crates are banned, where crates may come from,
//! and under which licences.
//!
//! `cargo deny` knows more (advisories, duplicates) and runs where it is installed; this much is held
//! everywhere. What is built is read from `cargo tree`, since the lock file also names optional crates that
//! no feature of ours turns on.

use serde::Deserialize;
use std::path::Path;
use std::process::Command;

/// The source that the lock file names for a crate from crates.io.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// The part of `deny.toml` that is read here.
#[derive(Debug, Deserialize)]
pub struct Policy {
    /// The crates that must not be there.
    pub bans: Bans,
    /// What a crate may be licensed under.
    pub licenses: Licenses,
}

/// The crates that must not be there.
#[derive(Debug, Deserialize)]
pub struct Bans {
    /// Each with its reason.
    pub deny: Vec<Ban>,
}

/// One ban.
#[derive(Debug, Deserialize)]
pub struct Ban {
    /// The crate, as `deny.toml` names it.
    #[serde(rename = "crate")]
    pub name: String,
    /// Why not, and what instead.
    pub reason: Option<String>,
    /// The crates that may use it directly all the same.
    #[serde(default)]
    pub wrappers: Vec<String>,
}

/// What a crate may be licensed under.
#[derive(Debug, Deserialize)]
pub struct Licenses {
    /// SPDX identifiers.
    pub allow: Vec<String>,
}

/// The part of the lock file that is read here.
#[derive(Debug, Deserialize)]
pub struct Lock {
    /// Every crate, ours included.
    pub package: Vec<Locked>,
}

/// One crate of the lock file.
#[derive(Debug, Deserialize)]
pub struct Locked {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Where it came from; none for ours.
    pub source: Option<String>,
}

/// One line of the tree: a crate that is built, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// Its name.
    pub name: String,
    /// Who uses it directly; none for a package of the workspace.
    pub user: Option<String>,
    /// Its licence, an SPDX expression; empty where it states none.
    pub license: String,
}

/// Why the tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Cargo could not be started.
    #[error("start cargo tree")]
    Start(#[from] std::io::Error),
    /// Cargo refused.
    #[error("cargo tree failed: {0}")]
    Refused(String),
    /// A line was not as documented.
    #[error("a line of cargo tree that is not understood: {0}")]
    Line(String),
}

/// Asks Cargo what the workspace at `root` builds on this machine, tests included, without the network.
///
/// # Errors
/// Where Cargo cannot be run or answers with something else.
pub fn built(root: &Path) -> Result<Vec<Built>, TreeError> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["tree", "--workspace", "--edges", "normal,build,dev", "--locked"])
        .args(["--prefix", "depth", "--format", "{p}|{l}", "--charset", "ascii"])
        .current_dir(root)
        .output()?;
    if !output.status.success() {
        return Err(TreeError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
    }
    parse_tree(&String::from_utf8_lossy(&output.stdout))
}

fn parse_tree(text: &str) -> Result<Vec<Built>, TreeError> {
    let mut path: Vec<String> = Vec::new();
    let mut found = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        let (depth, name, license) = parse_line(line).ok_or_else(|| TreeError::Line(line.to_owned()))?;
        path.truncate(depth);
        found.push(Built { name: name.clone(), user: path.last().cloned(), license });
        path.push(name);
    }
    Ok(found)
}

/// `2serde v1.0.229 (proc-macro)|MIT OR Apache-2.0 (*)`: depth, name, licence.
fn parse_line(line: &str) -> Option<(usize, String, String)> {
    let digits = line.find(|c: char| !c.is_ascii_digit())?;
    let (package, license) = line[digits..].split_once('|')?;
    let name = package.split(' ').next().filter(|name| !name.is_empty())?;
    let license = license.trim_end_matches("(*)").trim();
    Some((line[..digits].parse().ok()?, name.to_owned(), license.to_owned()))
}

/// What goes against the policy, each once, sorted.
pub fn blemishes(policy: &Policy, lock: &Lock, built: &[Built]) -> Vec<String> {
    let strangers = lock.package.iter().filter_map(|each| {
        let from = each.source.as_deref().filter(|from| *from != CRATES_IO)?;
        Some(format!("{} {} comes from {from}", each.name, each.version))
    });
    let silent = policy.bans.deny.iter().filter(|ban| ban.reason.as_deref().is_none_or(str::is_empty));
    let mut found: Vec<String> = strangers
        .chain(silent.map(|ban| format!("the ban of `{}` in deny.toml gives no reason", ban.name)))
        .chain(built.iter().filter_map(|each| banned(policy, each)))
        .chain(built.iter().filter_map(|each| unlicensed(policy, each)))
        .collect();
    found.sort();
    found.dedup();
    found
}

fn banned(policy: &Policy, built: &Built) -> Option<String> {
    let ban = policy.bans.deny.iter().find(|ban| ban.name == built.name)?;
    let user = built.user.as_deref().unwrap_or("the workspace");
    let reason = ban.reason.as_deref().unwrap_or("no reason given");
    (!ban.wrappers.iter().any(|wrapper| wrapper == user))
        .then(|| format!("{user} uses {}, which is banned: {reason}", built.name))
}

fn unlicensed(policy: &Policy, built: &Built) -> Option<String> {
    (!is_allowed(&built.license, &policy.licenses.allow))
        .then(|| format!("{}: the licence `{}` is not allowed by deny.toml", built.name, built.license))
}

/// Whether an SPDX expression can be met with what is allowed. `A/B`, of old manifests, means `A OR B`.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    any_of(&mut rest, allowed) == Some(true) && rest.is_empty()
}

/// `None` where the expression cannot be read: that is never allowed.
fn any_of(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut verdict = all_of(words, allowed)?;
    while take(words, "OR") {
        verdict |= all_of(words, allowed)?;
    }
    Some(verdict)
}

fn all_of(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    let mut verdict = one(words, allowed)?;
    while take(words, "AND") {
        verdict &= one(words, allowed)?;
    }
    Some(verdict)
}

fn one(words: &mut &[&str], allowed: &[String]) -> Option<bool> {
    if take(words, "(") {
        let verdict = any_of(words, allowed)?;
        return take(words, ")").then_some(verdict);
    }
    let (license, rest) = words.split_first()?;
    *words = rest;
    // An exception only ever permits more.
    if take(words, "WITH") {
        *words = words.get(1..)?;
    }
    Some(allowed.iter().any(|each| each == license))
}

fn take(words: &mut &[&str], word: &str) -> bool {
    match words.split_first() {
        Some((first, rest)) if *first == word => {
            *words = rest;
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: &str = "[licenses]\nallow = [\"MIT\"]\n\
        [[bans.deny]]\ncrate = \"ring\"\nreason = \"one crypto library\"\nwrappers = [\"old\"]\n";

    fn judge(policy: &str, lock: &str, tree: &str) -> Vec<String> {
        blemishes(
            &toml::from_str(policy).unwrap(),
            &toml::from_str(lock).unwrap(),
            &parse_tree(tree).unwrap(),
        )
    }

    #[test]
    fn a_banned_crate_is_named_with_its_user_unless_that_one_may() {
        let tree = "0ours v0.1.0 (/r)|MIT\n1new v1.0.0|MIT\n2ring v1.0.0|MIT\n1old v1.0.0|MIT\n\
                    2ring v1.0.0|MIT (*)\n\n0other v0.1.0 (/o)|MIT\n1ring v1.0.0|MIT (*)\n";
        let found = judge(POLICY, "package = []\n", tree);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], "new uses ring, which is banned: one crypto library");
        assert!(found[1].starts_with("other uses ring"), "{found:?}");
    }

    #[test]
    fn crates_come_from_one_place_and_under_known_licences() {
        let lock = "[[package]]\nname = \"ours\"\nversion = \"1\"\n\
                    [[package]]\nname = \"x\"\nversion = \"2\"\nsource = \"git+https://example.org/x\"\n";
        let found = judge(POLICY, lock, "0ours v1 (/r)|MIT\n1x v2|\n1y v1|GPL-3.0\n");
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found[0], "x 2 comes from git+https://example.org/x");
        assert!(
            found[1].starts_with("x: the licence ``") && found[2].starts_with("y: the licence `GPL"),
            "{found:?}"
        );
    }

    #[test]
    fn a_ban_says_why() {
        let found = judge("[licenses]\nallow=[]\n[[bans.deny]]\ncrate = \"a\"\n", "package = []\n", "");
        assert_eq!(found, ["the ban of `a` in deny.toml gives no reason"]);
    }

    #[test]
    fn licence_expressions() {
        let allowed = ["MIT", "ISC", "Apache-2.0"].map(str::to_owned);
        for good in
            ["MIT", "GPL-2.0 OR MIT", "MIT/Unlicense", "ISC AND (GPL-2.0 OR MIT)", "Apache-2.0 WITH x OR Y"]
        {
            assert!(is_allowed(good, &allowed), "{good}");
        }
        for bad in [
            "",
            "GPL-2.0",
            "MIT AND GPL-2.0",
            "MIT OR",
            "(MIT",
            "MIT ISC",
            "MIT)",
            "MIT WITH",
            "GPL-2.0 OR X AND MIT",
        ] {
            assert!(!is_allowed(bad, &allowed), "{bad}");
        }
    }
}
