//! The files of the project that people write, and what no line of them may hold.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The longest code file, in lines: beyond it a module hides two.
pub const MAX_LINES: usize = 900;

/// Folders that hold no sources of ours: built, downloaded or found by a fuzzer.
const SKIPPED_FOLDERS: &[&str] = &["target", ".git", "corpus", "artifacts", "fixtures", "__pycache__"];

/// Endings of what people write. A file without an ending counts where it is a script.
const CODE: &[&str] = &["rs", "py", "sh"];
const TEXT: &[&str] = &["md", "toml", "yml", "yaml"];

/// What no line may hold, written in two halves so that this file does not hold it either.
const FORBIDDEN: &[(&str, &str)] = &[("todo", "!("), ("unimplemented", "!("), ("/wo", "rk/")];

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Code: Rust, Python, shell.
    Code,
    /// Prose and configuration.
    Text,
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its path, under the root that was walked.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// What is in it.
    pub text: String,
}

impl Source {
    /// Whether the path ends with this extension.
    pub fn has_extension(&self, extension: &str) -> bool {
        self.path.extension().is_some_and(|own| own == extension)
    }
}

/// Every code and text file under `root`, in order of the paths.
///
/// # Errors
/// With the path, where a folder or a file cannot be read or is not UTF-8.
pub fn walk(root: &Path) -> io::Result<Vec<Source>> {
    let mut found = Vec::new();
    walk_into(root, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk_into(folder: &Path, found: &mut Vec<Source>) -> io::Result<()> {
    for entry in fs::read_dir(folder).map_err(|error| at(folder, error))? {
        let entry = entry.map_err(|error| at(folder, error))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(|error| at(folder, error))?);
        if kind.is_dir() && !SKIPPED_FOLDERS.iter().any(|skipped| entry.file_name() == *skipped) {
            walk_into(&path, found)?;
        } else if kind.is_file()
            && let Some(source) = read(&path).map_err(|error| at(&path, error))?
        {
            found.push(source);
        }
    }
    Ok(())
}

fn read(path: &Path) -> io::Result<Option<Source>> {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let kind = match extension {
        Some(ending) if CODE.contains(&ending) => Kind::Code,
        Some(ending) if TEXT.contains(&ending) => Kind::Text,
        Some(_) => return Ok(None),
        None => {
            let bytes = fs::read(path)?;
            return Ok(script(path, bytes));
        }
    };
    Ok(Some(Source { path: path.to_owned(), kind, text: fs::read_to_string(path)? }))
}

fn script(path: &Path, bytes: Vec<u8>) -> Option<Source> {
    let text = String::from_utf8(bytes).ok().filter(|text| text.starts_with("#!"))?;
    Some(Source { path: path.to_owned(), kind: Kind::Code, text })
}

/// What is wrong with one file: `path:line: what`.
pub fn blemishes(source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    let path = source.path.display();
    for (index, line) in source.text.lines().enumerate() {
        let line_number = index + 1;
        if line.contains('\t') {
            found.push(format!("{path}:{line_number}: a TAB; write spaces, or \\t inside a string"));
        }
        for (head, tail) in FORBIDDEN {
            if line.contains(&format!("{head}{tail}")) {
                found.push(format!("{path}:{line_number}: `{head}{tail}` does not belong into the project"));
            }
        }
    }
    let lines = source.text.lines().count();
    if source.kind == Kind::Code && lines > MAX_LINES {
        found.push(format!("{path}: {lines} lines; split it, the most is {MAX_LINES}"));
    }
    found
}

/// The text of the `//!` block that opens a Rust file, its lines joined by single spaces.
pub fn opening_words(text: &str) -> String {
    let lines = text.lines().take_while(|line| line.starts_with("//!"));
    let words = lines.flat_map(|line| line.trim_start_matches("//!").split_whitespace());
    words.collect::<Vec<_>>().join(" ")
}

/// Whether these words say, in one sentence, what their crate deliberately does not know (or knows not of).
pub fn says_what_it_does_not_know(words: &str) -> bool {
    words
        .split(". ")
        .any(|sentence| sentence.split_once("deliberately").is_some_and(|(_, rest)| rest.contains("know")))
}

fn at(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source { path: "x.rs".into(), kind: Kind::Code, text: text.to_owned() }
    }

    #[test]
    fn each_blemish_is_found_with_its_line() {
        let text = format!("fn f() {{\n\t{}{})\n}}\n// see {}{}x\n", "todo", "!(", "/wo", "rk/");
        let found = blemishes(&source(&text));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("x.rs:2: a TAB") && found[1].starts_with("x.rs:2:"), "{found:?}");
        assert!(found[2].starts_with("x.rs:4:"), "{found:?}");
    }

    #[test]
    fn only_code_has_a_longest_length() {
        let mut long = source(&"x\n".repeat(MAX_LINES + 1));
        assert_eq!(
            blemishes(&long),
            [format!("x.rs: {} lines; split it, the most is {MAX_LINES}", MAX_LINES + 1)]
        );
        assert!(blemishes(&source(&"x\n".repeat(MAX_LINES))).is_empty());
        long.kind = Kind::Text;
        assert!(blemishes(&long).is_empty());
    }

    #[test]
    fn the_opening_words_may_be_wrapped_and_end_with_the_block() {
        let text = "//! It deliberately\n//! knows  nothing.\n\nuse x;\n//! later\n";
        assert_eq!(opening_words(text), "It deliberately knows nothing.");
        assert_eq!(opening_words("use x;\n//! late"), "");
    }

    #[test]
    fn what_a_crate_does_not_know_is_said_in_one_sentence() {
        for good in [
            "It deliberately knows no x.",
            "It deliberately does not know x.",
            "It deliberately opens no file, knows no x.",
        ] {
            assert!(says_what_it_does_not_know(good), "{good}");
        }
        for bad in ["It knows x.", "It is deliberately small. It knows x.", "It knows x, deliberately."] {
            assert!(!says_what_it_does_not_know(bad), "{bad}");
        }
    }
}
