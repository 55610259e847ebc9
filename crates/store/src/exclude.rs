//! Which parts of a tree are meant: the patterns of `--exclude` and `--include`.
//!
//! A pattern is a glob ([`crate::glob`]). With `/` in front it holds from the root of the tree, else at any
//! depth; with `/` at the end for directories only; with `!` in front it takes back what an earlier one
//! said. The last pattern that matches decides, and what it says of a directory holds for all below, until
//! a pattern speaks of something there. An excluded directory is not even looked into, so nothing below it
//! can be taken back.

use crate::directory::{Directory, Name};
use crate::glob::{GlobError, PathGlob};
use lifeboat_base::Hint;
use lifeboat_repository::tree::display_bytes;
use rustix::fs::FileType;
use std::io;

/// The file that marks a directory as a cache (<https://bford.info/cachedir/>).
pub const CACHE_TAG_NAME: &[u8] = b"CACHEDIR.TAG";
/// How that file begins.
const CACHE_TAG_SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// A pattern that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read pattern `{}`", display_bytes(pattern))]
pub struct PatternError {
    /// The pattern.
    pub pattern: Vec<u8>,
    /// What is wrong with it.
    #[source]
    pub source: GlobError,
}

impl Hint for PatternError {
    fn hint(&self) -> Option<String> {
        Some("Patterns know `*`, `?`, `[a-z]` and `**`; put a backslash before a character that is meant as it is.".to_owned())
    }
}

#[derive(Clone, Debug)]
struct Pattern {
    glob: PathGlob,
    directories_only: bool,
    negated: bool,
}

impl Pattern {
    fn parse(text: &[u8]) -> Result<Self, PatternError> {
        let (negated, rest) = text.strip_prefix(b"!").map_or((false, text), |rest| (true, rest));
        let (directories_only, rest) = rest.strip_suffix(b"/").map_or((false, rest), |rest| (true, rest));
        let glob = PathGlob::parse(rest).map_err(|source| PatternError { pattern: text.to_vec(), source })?;
        Ok(Self { glob, directories_only, negated })
    }

    fn matches(&self, path: &[u8], is_directory: bool) -> bool {
        (is_directory || !self.directories_only) && self.glob.matches(path)
    }
}

/// An ordered list of patterns.
#[derive(Clone, Debug, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
}

impl Patterns {
    /// Reads patterns in the order in which they were given.
    ///
    /// # Errors
    /// The first that cannot be read.
    pub fn parse<T: AsRef<[u8]>>(texts: impl IntoIterator<Item = T>) -> Result<Self, PatternError> {
        let patterns =
            texts.into_iter().map(|text| Pattern::parse(text.as_ref())).collect::<Result<_, _>>()?;
        Ok(Self { patterns })
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// What the patterns say of a path themselves: matched, taken back, or nothing.
    pub fn verdict(&self, path: &[u8], is_directory: bool) -> Option<bool> {
        self.patterns
            .iter()
            .rev()
            .find(|pattern| pattern.matches(path, is_directory))
            .map(|pattern| !pattern.negated)
    }
}

/// What a snapshot leaves out.
#[derive(Clone, Debug, Default)]
pub struct Exclude {
    /// What the operator named.
    pub patterns: Patterns,
    /// Leave out what lies in directories that are tagged as caches; directory and tag stay.
    pub caches: bool,
    /// Stay on the file system of the root; where another is mounted, an empty directory is recorded.
    pub one_file_system: bool,
}

impl Exclude {
    /// Whether a path is left out, with all below it.
    pub fn leaves_out(&self, path: &[u8], is_directory: bool) -> bool {
        self.patterns.verdict(path, is_directory) == Some(true)
    }
}

/// What a restore brings back: all, or what `--include` names, with the directories that lead there.
#[derive(Clone, Debug, Default)]
pub struct Include {
    patterns: Patterns,
}

impl Include {
    /// Brings back what the patterns say; without a pattern everything. Where the first one begins with
    /// `!`, everything but what is taken away.
    pub fn new(patterns: Patterns) -> Self {
        Self { patterns }
    }

    /// Whether the root is selected, and so everything that no pattern speaks of.
    pub fn selects_root(&self) -> bool {
        self.patterns.patterns.first().is_none_or(|first| first.negated)
    }

    /// Whether a path is selected, where the directory above it was or was not.
    pub fn selects(&self, path: &[u8], is_directory: bool, above: bool) -> bool {
        self.patterns.verdict(path, is_directory).unwrap_or(above)
    }

    /// Whether anything below a directory that is not selected itself may be.
    pub fn may_select_below(&self, path: &[u8]) -> bool {
        self.patterns.patterns.iter().any(|pattern| !pattern.negated && pattern.glob.may_match_below(path))
    }
}

/// Whether a directory is tagged as a cache: the tag is a file, and begins as it must.
///
/// # Errors
/// Where the tag cannot be read.
pub fn is_tagged_cache(directory: &Directory) -> io::Result<bool> {
    let tag = Name::new(CACHE_TAG_NAME)?;
    match directory.stat(tag) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {}
        Ok(_) => return Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    }
    let file = directory.open_file(tag, false)?;
    let mut start = [0; CACHE_TAG_SIGNATURE.len()];
    let read = rustix::io::pread(&file, &mut start, 0)?;
    Ok(&start[..read] == CACHE_TAG_SIGNATURE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn exclude(patterns: &[&str]) -> Exclude {
        Exclude { patterns: Patterns::parse(patterns).unwrap(), ..Exclude::default() }
    }

    #[test]
    fn the_last_pattern_decides() {
        let rules = exclude(&["*.log", "!keep.log", "/tmp/", "/etc/secret*"]);
        for (path, directory, out) in [
            ("a.log", false, true),
            ("x/y/a.log", false, true),
            ("x/keep.log", false, false),
            ("tmp", true, true),
            ("tmp", false, false),
            ("x/tmp", true, false),
            ("etc/secret.key", false, true),
            ("etc/passwd", false, false),
        ] {
            assert_eq!(rules.leaves_out(path.as_bytes(), directory), out, "{path}");
        }
    }

    #[test]
    fn includes_select_what_they_name_and_what_lies_below() {
        let include = Include::new(Patterns::parse(["/etc", "!*.bak", "*.conf"]).unwrap());
        assert!(!include.selects_root());
        assert!(include.selects(b"etc", true, false));
        assert!(include.selects(b"etc/passwd", false, true));
        assert!(!include.selects(b"etc/passwd.bak", false, true));
        assert!(include.selects(b"var/x.conf", false, false));
        assert!(!include.selects(b"var", true, false));
        assert!(include.may_select_below(b"var"), "because of *.conf");
    }

    #[test]
    fn a_restore_of_one_path_looks_into_nothing_else() {
        let include = Include::new(Patterns::parse(["/home/me/*.txt"]).unwrap());
        assert!(include.may_select_below(b"") && include.may_select_below(b"home/me"));
        assert!(!include.may_select_below(b"home/you"));
        assert!(!include.may_select_below(b"home/me/x.txt"));
    }

    #[test]
    fn all_and_all_but() {
        assert!(Include::default().selects_root());
        let include = Include::new(Patterns::parse(["!*.bak"]).unwrap());
        assert!(include.selects_root() && include.selects(b"a", false, true));
        assert!(!include.selects(b"a.bak", false, true));
    }

    #[test]
    fn a_bad_pattern_is_named() {
        let error = Patterns::parse(["ok", "![x/"]).unwrap_err();
        assert_eq!(lifeboat_base::report(&error), "read pattern `![x/`: a `[` without its `]`");
        assert!(Patterns::parse(["!"]).is_err());
    }

    #[test]
    fn a_cache_is_known_by_the_signature_in_its_tag() {
        let directory = tempfile::tempdir().unwrap();
        let root = Directory::open_root(directory.path()).unwrap();
        assert!(!is_tagged_cache(&root).unwrap());
        let path = directory.path().join("CACHEDIR.TAG");
        let mut tag = std::fs::File::create(&path).unwrap();
        tag.write_all(b"Signature: something else").unwrap();
        assert!(!is_tagged_cache(&root).unwrap());
        let mut tag = std::fs::File::create(&path).unwrap();
        tag.write_all(b"Signature: 8a477f597d28d172789f06886806bc55\n# made by a test\n").unwrap();
        assert!(is_tagged_cache(&root).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert!(!is_tagged_cache(&root).unwrap());
        std::fs::remove_dir(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(!is_tagged_cache(&root).unwrap());
    }
}
