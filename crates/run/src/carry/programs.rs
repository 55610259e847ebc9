//! Looking at a script without running it: whether bash can read it, and whether the programs that it names are here.
//!
//! A shell's meaning is only known by running it, so this finds the plain cases: the first word of each command,
//! where it is written out. What is computed is passed over, and nothing here says that a script will work.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Words that begin no program: reserved, or built into bash (`compgen -k`, `compgen -b`).
const OWN_WORDS: &[&str] = &[
    "!",
    "(",
    ")",
    ".",
    ":",
    "[",
    "[[",
    "]]",
    "alias",
    "bg",
    "bind",
    "break",
    "builtin",
    "caller",
    "case",
    "cd",
    "command",
    "compgen",
    "complete",
    "compopt",
    "continue",
    "coproc",
    "declare",
    "dirs",
    "disown",
    "do",
    "done",
    "echo",
    "elif",
    "else",
    "enable",
    "esac",
    "eval",
    "exec",
    "exit",
    "export",
    "false",
    "fc",
    "fg",
    "fi",
    "for",
    "function",
    "getopts",
    "hash",
    "help",
    "history",
    "if",
    "in",
    "jobs",
    "kill",
    "let",
    "local",
    "logout",
    "mapfile",
    "popd",
    "printf",
    "pushd",
    "pwd",
    "read",
    "readarray",
    "readonly",
    "return",
    "select",
    "set",
    "shift",
    "shopt",
    "source",
    "suspend",
    "test",
    "then",
    "time",
    "times",
    "trap",
    "true",
    "type",
    "typeset",
    "ulimit",
    "umask",
    "unalias",
    "unset",
    "until",
    "wait",
    "while",
    "{",
    "}",
];
/// Own words after which another command begins.
const LEADING: &[&str] =
    &["!", "(", "{", "if", "then", "else", "elif", "while", "until", "do", "time", "exec", "command"];

/// What stands in the way of a script here.
pub(super) fn look(script: &str) -> Vec<String> {
    let mut found = Vec::new();
    if let Err(why) = reads(script) {
        found.push(why);
    }
    let functions = functions(script);
    for program in programs(script) {
        if !functions.contains(program.as_str()) && !is_here(&program) {
            found.push(format!("there is no program {program} here"));
        }
    }
    found
}

/// Whether bash can read it (`bash -n`).
fn reads(script: &str) -> Result<(), String> {
    let mut bash = Command::new("bash");
    bash.arg("-n").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = bash.spawn().map_err(|error| format!("there is no bash here: {error}"))?;
    if let Some(mut input) = child.stdin.take() {
        // Where it stops reading early, it says why.
        let _ = input.write_all(script.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| format!("bash cannot be asked: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("bash cannot read it: {}", said.lines().next().unwrap_or("it does not say why")))
}

fn functions(script: &str) -> BTreeSet<&str> {
    let lines = script.lines().map(str::trim);
    lines
        .filter_map(|line| match line.strip_prefix("function ") {
            Some(rest) => rest.split(|c: char| c.is_whitespace() || c == '(').next(),
            None => line.split_once("()").map(|(name, _)| name.trim()),
        })
        .collect()
}

/// The first words of the commands that are written out.
fn programs(script: &str) -> BTreeSet<String> {
    let mut programs = BTreeSet::new();
    let mut here_document: Option<String> = None;
    let joined = script.replace("\\\n", " ");
    for line in joined.lines() {
        if let Some(end) = &here_document {
            if line.trim() == end {
                here_document = None;
            }
            continue;
        }
        here_document = here_end(line);
        for command in commands(line) {
            programs.extend(first_word(&command));
        }
    }
    programs
}

/// The word that ends a here-document that begins in this line.
fn here_end(line: &str) -> Option<String> {
    let (_, after) = line.split_once("<<")?;
    let word = after.trim_start_matches(['-', '<']).trim_start();
    let word = word.split(|c: char| c.is_whitespace() || c == ';').next()?.trim_matches(['\'', '"']);
    let is_here_string = after.starts_with('<');
    (!word.is_empty() && !is_here_string).then(|| word.to_owned())
}

/// A line's commands, cut at what separates them outside of quotes; comments end it.
fn commands(line: &str) -> Vec<String> {
    let mut commands = vec![String::new()];
    let mut quote: Option<char> = None;
    let mut before = ' ';
    for c in line.chars() {
        let last = commands.len() - 1;
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '#') if before.is_whitespace() => return commands,
            (None, ';' | '|' | '&') if before != '>' => {
                commands.push(String::new());
                before = ' ';
                continue;
            }
            _ => {}
        }
        commands[last].push(c);
        before = c;
    }
    commands
}

fn first_word(command: &str) -> Option<String> {
    let mut words =
        command.split_whitespace().skip_while(|word| LEADING.contains(word) || is_assignment(word));
    let word = words.next()?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    let is_program =
        word.chars().all(is_plain) && !OWN_WORDS.contains(&word) && !command.trim_end().ends_with(')');
    is_program.then(|| word.to_owned())
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    })
}

/// Whether a program is on the path, or where it says it is.
fn is_here(program: &str) -> bool {
    let runs = |path: &Path| {
        path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if program.contains('/') {
        return runs(Path::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| runs(&folder.join(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(script: &str) -> Vec<String> {
        programs(script).into_iter().collect()
    }

    #[test]
    fn the_first_words_of_commands_are_programs() {
        let script = "set -e\nPGPASSWORD=x psql -c 'select 1; drop' | grep -q t && pg_ctl stop # not: rm\n\
                      if ! curl -fsS \"$URL\"; then\n  echo no >&2\nfi\n$TOOL go\ncat <<EOF\nnonsense here\nEOF\ngzip -d";
        assert_eq!(named(script), ["cat", "curl", "grep", "gzip", "pg_ctl", "psql"]);
    }

    #[test]
    fn what_is_not_here_is_named_and_what_is_defined_is_not() {
        let script = "stop() {\n  true\n}\nstop\nlifeboat-no-such-program --now\nls /";
        assert_eq!(look(script), ["there is no program lifeboat-no-such-program here"]);
        let found = look("if true; then\n");
        assert!(found[0].starts_with("bash cannot read it:"), "{found:?}");
    }
}
