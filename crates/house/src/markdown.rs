//! The links of a Markdown file that lead to other files of the project.

use crate::sources::Source;
use std::path::{Path, PathBuf};

/// A link that leads nowhere: `path:line: target`.
pub fn dead_links(source: &Source, root: &Path) -> Vec<String> {
    let folder = source.path.parent().unwrap_or(root);
    links(&source.text)
        .into_iter()
        .filter_map(|(line, target)| Some((line, file_of(&target, folder, root)?, target)))
        .filter(|(_, file, _)| !file.exists())
        .map(|(line, _, target)| {
            format!("{}:{line}: the link to `{target}` leads nowhere", source.path.display())
        })
        .collect()
}

/// The file that a link names, or `None` where it leads out of the project or stays on the page.
fn file_of(target: &str, folder: &Path, root: &Path) -> Option<PathBuf> {
    let path = target.split(['#', '?']).next().filter(|path| !path.is_empty())?;
    let elsewhere = path.contains("://") || path.starts_with("mailto:");
    match path.strip_prefix('/') {
        _ if elsewhere => None,
        Some(from_root) => Some(root.join(from_root)),
        None => Some(folder.join(path)),
    }
}

/// Every `[text](target)` outside of code, with its line.
pub fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut fence: Option<String> = None;
    for (index, line) in text.lines().enumerate() {
        let ticks = fence_of(line);
        match (&fence, ticks) {
            (None, Some(opening)) => fence = Some(opening),
            (Some(open), Some(closing)) if closing.starts_with(open.as_str()) => fence = None,
            (Some(_), _) => {}
            (None, None) => found.extend(targets(line).into_iter().map(|target| (index + 1, target))),
        }
    }
    found
}

fn fence_of(line: &str) -> Option<String> {
    let line = line.trim_start();
    let mark = line.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let run: String = line.chars().take_while(|c| *c == mark).collect();
    // An inline `code` span that opens a line is no fence: those need three, and no tick after them.
    (run.len() >= 3 && !line[run.len()..].contains(mark)).then_some(run)
}

fn targets(line: &str) -> Vec<String> {
    let prose: Vec<&str> = line.split('`').step_by(2).collect();
    // A backtick stands where code was, so that `[`code`](target)` still is a link.
    let prose = prose.join("`");
    let after_brackets = prose.match_indices("](").map(|(at, _)| &prose[at + 2..]);
    let inside = after_brackets.filter_map(|rest| rest.split_once(')').map(|(inside, _)| inside));
    inside
        .filter_map(|inside| inside.split_whitespace().next())
        .map(|t| t.trim_matches(['<', '>']).to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_found_and_code_is_not() {
        let text =
            "See [a](docs/a.md#x) and [`b`](<b.md> \"title\").\n```sh\n[c](c.md)\n```\n`[d](d.md)` [e](#e)\n";
        let found: Vec<_> = links(text);
        assert_eq!(found, [(1, "docs/a.md#x".into()), (1, "b.md".into()), (5, "#e".into())]);
    }

    #[test]
    fn a_longer_fence_may_hold_a_shorter_one() {
        let text = "````markdown\n```bash\n[a](a.md)\n```\n[b](b.md)\n````\n[c](c.md)\n";
        assert_eq!(links(text), [(7, "c.md".into())]);
    }

    #[test]
    fn only_files_of_the_project_are_looked_for() {
        let (folder, root) = (Path::new("/r/docs"), Path::new("/r"));
        assert_eq!(file_of("a.md#part", folder, root), Some("/r/docs/a.md".into()));
        assert_eq!(file_of("/README.md", folder, root), Some("/r/README.md".into()));
        for elsewhere in ["https://example.org/a.md", "mailto:a@example.org", "#part"] {
            assert_eq!(file_of(elsewhere, folder, root), None, "{elsewhere}");
        }
    }
}
