//! Targets for patterns that an operator types, matched against paths that a file system gave.

use lifeboat_store::exclude::{Include, Patterns};
use lifeboat_store::glob::{NameGlob, PathGlob};

/// A target: its corpus, and the function that says whether it takes an input.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target of this module.
pub const TARGETS: &[Target] = &[("patterns", patterns)];

/// Lines of patterns, an empty line, then a path that they are asked about, and every directory above it.
pub fn patterns(bytes: &[u8]) -> bool {
    let at = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (texts, path) = (&bytes[..at], bytes.get(at + 2..).unwrap_or_default());
    let lines: Vec<&[u8]> = texts.split(|byte| *byte == b'\n').collect();
    for line in &lines {
        if let Ok(glob) = NameGlob::parse(line) {
            glob.matches(path);
        }
        if let Ok(glob) = PathGlob::parse(line)
            && glob.matches(path)
        {
            every_directory_above(path, |above| {
                assert!(glob.may_match_below(above), "{line:?} matches {path:?}, not below {above:?}");
            });
        }
    }
    let Ok(patterns) = Patterns::parse(lines) else { return false };
    // What is taken of a directory is taken of a file too, unless a pattern is for directories only.
    patterns.verdict(path, false);
    let include = Include::new(patterns);
    include.selects(path, true, include.selects_root());
    include.may_select_below(path);
    true
}

/// The directories above a path as walks meet them: no empty component, the root left out.
fn every_directory_above(path: &[u8], mut visit: impl FnMut(&[u8])) {
    if path.split(|byte| *byte == b'/').any(<[u8]>::is_empty) {
        return;
    }
    for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
        visit(&path[..at]);
    }
}
